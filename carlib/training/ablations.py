"""Questions that take several trainings: what imbalance does, or a leak, or an unknown car.

Each study trains recipes that differ in one thing and gives a record of kind "study", whose rows
are what the tables and figures of notebooks 1 and 3 and of the report show.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from statistics import mean, stdev

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from carlib.data.catalog import Catalog
from carlib.errors import RunError
from carlib.evaluation.evaluate import evaluate, features_of, logits_of, ready, scored_data
from carlib.evaluation.rejection import energy, max_softmax, nearest_similarity, rejection
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record
from carlib.training.loaders import make_loader
from carlib.training.loop import load_or_train

FACTORS = (1.0, 10.0, 50.0)
ANSWERS_TO_IMBALANCE = {  # all else equal: smoothing, learning rate, epochs, photos
    "cross-entropy": {},
    "focal": {"loss": "focal"},
    "balanced sampler": {"sampler": "balanced"},
    "class-balanced": {"loss": "class_balanced"},
    "logit-adjusted": {"loss": "logit_adjusted"},
}
SCORES = ("accuracy", "balanced_accuracy", "head_accuracy", "medium_accuracy", "tail_accuracy")


def imbalance_study(
    catalog: Catalog,
    base: Recipe,
    factors: Sequence[float] = FACTORS,
    seeds: Sequence[int] = (0, 1, 2),
    say: Callable[[str], None] = print,
) -> Record:
    """Objectives and samplers on long tails of the training photos, val as it is.

    A seed decides the tail (which classes are rare) and the training alike. Rows of the record:
    one per factor and objective, means and standard deviations over the seeds; with fewer than
    three classes head, medium and tail are not all there.
    """
    base.must_classify()
    rows = []
    for factor, (name, changes) in itertools.product(factors, ANSWERS_TO_IMBALANCE.items()):
        metrics = []
        for seed in seeds:
            label = f"{base.name}-{factor:g}-{name.replace(' ', '_')}"
            recipe = base.but(name=label, imbalance=factor, seed=seed, **changes)
            checkpoint, run = load_or_train(recipe, catalog, progress=False, say=_quietly)
            metrics.append(evaluate(checkpoint, catalog, "val", run).metrics)
        row = {"factor": factor, "objective": name, "seeds": len(seeds)}
        for score in (s for s in SCORES if all(s in of_seed for of_seed in metrics)):
            row |= _over_seeds(score, [of_seed[score] for of_seed in metrics])
        rows.append(row)
        say(f"factor {factor:g}, {name}: balanced accuracy {row['balanced_accuracy']:.3f}")
    asked = {"seeds": list(seeds), "factors": list(factors)}
    return _record("imbalance", catalog, base, {}, {"rows": rows, "seeds": list(seeds)}, asked)


def unknown_study(
    catalog: Catalog, base: Recipe, held_out: int = 20, progress: bool = True
) -> Record:
    """Train without the last `held_out` classes, then tell their photos from those of known ones.

    Known photos are val's; unknown ones are all photos of the held-out classes that are not in
    test. Neither was trained on. The gallery of the nearest-feature score is train.
    """
    base.must_classify()
    if not 0 < held_out < catalog.num_classes - 1:
        raise RunError(
            f"{catalog.name}: cannot hold out {held_out} of {catalog.num_classes} classes; "
            f"two or more must remain"
        )
    known = catalog.select_classes(range(catalog.num_classes - held_out))
    label = f"{base.name}-without-{held_out}"
    checkpoint, _ = load_or_train(base.but(name=label), known, progress=progress)
    sides = {"known": (known, "val"), "unknown": (_strangers(catalog, known, held_out), "unknown")}
    gallery = features_of(checkpoint, known, "train", progress)[0]
    logits, near = {}, {}
    for side, where in sides.items():
        logits[side] = logits_of(checkpoint, *where, progress)[0]
        near[side] = nearest_similarity(features_of(checkpoint, *where, progress)[0], gallery)
    scores = {
        "max softmax": {side: max_softmax(values) for side, values in logits.items()},
        "energy": {side: energy(values) for side, values in logits.items()},
        "nearest feature": near,
    }
    rows = [{"score": name} | rejection(**sides) for name, sides in scores.items()]
    photos = {side: len(values) for side, values in logits.items()}
    extra = {"rows": rows, "held_out": list(catalog.class_names[-held_out:]), "photos": photos}
    metrics = {f"auroc_{row['score'].replace(' ', '_')}": row["auroc"] for row in rows}
    return _record("unknown", catalog, base, metrics, extra, {"held_out": held_out})


def _strangers(catalog: Catalog, known: Catalog, held_out: int) -> Catalog:
    """All photos of the last classes but those of test, as photos without a label."""
    table = catalog.table
    there = (catalog.labels >= known.num_classes) & (table["split"] != "test").to_numpy(bool)
    strangers = table[there].assign(label=pd.NA, split="unknown")
    name = f"{catalog.name}-unknown-{held_out}"
    return replace(catalog, table=strangers, class_names=known.class_names, name=name)


def leak_study(
    catalog: Catalog,
    base: Recipe,
    copies: int = 4,
    augment: str = "study3",
    seeds: Sequence[int] = (0, 1, 2),
    progress: bool = True,
) -> Record:
    """What it is worth to augment photos first and to divide them afterwards, as S3 did.

    Every photo of train and val is copied as a preset of augmentation draws it. Then the photos are
    divided and the copies follow, or the copies are divided; as many are held out either way. A
    linear layer on the frozen body's features, and the nearest neighbor, learn from one side and
    name the other. A seed decides the division. Rows of the record: one per way to divide and to
    learn, means and standard deviations over the seeds.
    """
    used = catalog.table[catalog.table["split"].isin(("train", "val"))]
    whole = replace(catalog, table=used.assign(split="train"))
    values, places = _copied_features(whole, base.but(augment=augment), copies, progress)
    labels = np.repeat(whole.labels[places], copies)
    accuracies: dict[tuple[str, str], list[float]] = {}
    known: dict[str, list[float]] = {}
    for seed in seeds:
        for divided, out in _divisions(whole, places, copies, seed).items():
            learned = (~out).reshape(-1, copies).any(1)
            known.setdefault(divided, []).append(float(np.repeat(learned, copies)[out].mean()))
            for learner, answer in LEARNERS.items():
                right = answer(values[~out], labels[~out], values[out]) == labels[out]
                accuracies.setdefault((divided, learner), []).append(float(right.mean()))
    rows = [
        {"divided": divided, "learner": learner, **_over_seeds("accuracy", scores),
         "known": mean(known[divided])}
        for (divided, learner), scores in accuracies.items()
    ]  # fmt: skip
    gains = {
        f"{learner.replace(' ', '_')}_gain": mean(accuracies["copies", learner])
        - mean(accuracies["photos", learner])
        for learner in LEARNERS
    }
    asked = {"seeds": list(seeds), "copies": copies, "augment": augment}
    extra = {"rows": rows, **asked, "photos": len(places)}
    return _record("leak", catalog, base, gains, extra, asked)


def _divisions(whole: Catalog, places: np.ndarray, copies: int, seed: int) -> dict[str, np.ndarray]:
    """Which copies (photos * copies,) are held out where photos are divided, and where copies are.

    `places` are the photos' rows of the catalog; as many copies are held out either way.
    """
    val = (whole.stratified_split(seed=seed).table["split"] == "val").to_numpy(bool)[places]
    photos = np.repeat(val, copies)
    return {"photos": photos, "copies": np.random.default_rng(seed).permutation(photos)}


@torch.no_grad()
def _copied_features(
    catalog: Catalog, recipe: Recipe, copies: int, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Features (photos * copies, dims) of augmented copies, photo by photo, and catalog rows."""
    checkpoint = Checkpoint.begin(recipe, catalog)
    scorer, store, positions = ready(checkpoint, catalog, "train", progress)
    loader = make_loader(store, positions, recipe, scorer.device)
    batches = np.array_split(positions, max(1, len(positions) // 128))
    passes = []
    with tqdm(total=copies * len(positions), unit="photo", disable=not progress) as bar:
        for copy in range(copies):
            parts = []
            for photos in loader.epoch(copy, batches):
                parts.append(scorer.features(photos).float().cpu())
                bar.update(len(photos))
            passes.append(torch.cat(parts))
    return torch.stack(passes, 1).flatten(0, 1).numpy(), store.rows[positions]


def _linear(values: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """What a linear layer answers that learned from (photos, dims) and their labels."""
    layer = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=100))
    return layer.fit(values, labels).predict(asked)


def _nearest(values: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The label of the most similar row."""
    return KNeighborsClassifier(1, metric="cosine").fit(values, labels).predict(asked)


LEARNERS = {"linear layer": _linear, "nearest neighbor": _nearest}


def _over_seeds(score: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation of a score, as columns of a row."""
    return {score: mean(values), f"{score}_sd": stdev(values) if len(values) > 1 else 0.0}


def _quietly(line: str) -> None:
    """What a study of dozens of trainings does with each one's announcement."""


def _record(
    question: str,
    catalog: Catalog,
    base: Recipe,
    metrics: dict[str, float],
    extra: dict,
    asked: dict,
) -> Record:
    return Record(
        kind="study",
        topic=question,
        scoring=asked,
        data=scored_data(catalog, "val", catalog.split_sizes["val"]),
        metrics=metrics,
        recipe=asdict(base),
        extra=extra,
        command=command_line(),
    )
