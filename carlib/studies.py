"""Questions that take more than one training: what imbalance does, what an unknown car looks like.

Each study trains recipes that differ in one thing and gives a record of kind "study", whose rows
are what the tables and figures of notebook 3 and of the report show.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import mean, stdev

import pandas as pd

from carlib.catalog import Catalog
from carlib.embeddings import embed
from carlib.errors import RunError
from carlib.evaluation import evaluate, logits_of, scored_data
from carlib.recipes import Recipe
from carlib.records import Record, command_line
from carlib.training import load_or_train
from carlib.trust import energy, max_softmax, nearest_similarity, rejection

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
    one per factor and objective, means and standard deviations over the seeds.
    """
    rows = []
    for factor, (name, changes) in itertools.product(factors, ANSWERS_TO_IMBALANCE.items()):
        found = []
        for seed in seeds:
            label = f"{base.name}-{factor:g}-{name.replace(' ', '_')}"
            chosen = base.but(name=label, imbalance=factor, seed=seed, **changes)
            checkpoint, run = load_or_train(chosen, catalog, progress=False, say=_quietly)
            found.append(evaluate(checkpoint, catalog, "val", run).metrics)
        row = {"factor": factor, "objective": name, "seeds": len(seeds)}
        for score in SCORES:
            values = [metrics[score] for metrics in found]
            row[score] = mean(values)
            row[f"{score}_sd"] = stdev(values) if len(values) > 1 else 0.0
        rows.append(row)
        say(f"factor {factor:g}, {name}: balanced accuracy {row['balanced_accuracy']:.3f}")
    return _record("imbalance", catalog, base, {}, {"rows": rows, "seeds": list(seeds)})


def unknown_study(
    catalog: Catalog, base: Recipe, held_out: int = 20, progress: bool = True
) -> Record:
    """Train without the last `held_out` classes, then tell their photos from those of known ones.

    Known photos are val's; unknown ones are all photos of the held-out classes that are not in
    test. Neither was trained on. The gallery of the nearest-feature score is train.
    """
    if not 0 < held_out < catalog.num_classes - 1:
        raise RunError(
            f"{catalog.name}: cannot hold out {held_out} of {catalog.num_classes} classes; "
            f"two or more must remain"
        )
    known = catalog.select_classes(range(catalog.num_classes - held_out))
    label = f"{base.name}-without-{held_out}"
    checkpoint, _ = load_or_train(base.but(name=label), known, progress=progress)
    sides = {"known": (known, "val"), "unknown": (_strangers(catalog, known, held_out), "unknown")}
    gallery = embed(checkpoint, known, "train", progress=progress).vectors
    logits, near = {}, {}
    for side, where in sides.items():
        logits[side] = logits_of(checkpoint, *where, progress)[0]
        own = embed(checkpoint, *where, progress=progress).vectors
        near[side] = nearest_similarity(own, gallery)
    scores = {
        "max softmax": {side: max_softmax(values) for side, values in logits.items()},
        "energy": {side: energy(values) for side, values in logits.items()},
        "nearest feature": near,
    }
    rows = [{"score": name} | rejection(**sides) for name, sides in scores.items()]
    photos = {side: len(values) for side, values in logits.items()}
    extra = {"rows": rows, "held_out": list(catalog.class_names[-held_out:]), "photos": photos}
    metrics = {f"auroc_{row['score'].replace(' ', '_')}": row["auroc"] for row in rows}
    return _record("unknown", catalog, base, metrics, extra)


def _strangers(catalog: Catalog, known: Catalog, held_out: int) -> Catalog:
    """All photos of the last classes but those of test, as photos without a label."""
    table = catalog.table
    there = (catalog.labels >= known.num_classes) & (table["split"] != "test").to_numpy(bool)
    strangers = table[there].assign(label=pd.NA, split="unknown")
    return Catalog(strangers, known.class_names, f"{catalog.name}-unknown-{held_out}",
                   catalog.source)  # fmt: skip


def _quietly(line: str) -> None:
    """What a study of dozens of trainings does with each one's announcement."""


def _record(
    name: str, catalog: Catalog, base: Recipe, metrics: dict[str, float], extra: dict
) -> Record:
    return Record(
        kind="study",
        name=f"{name}-{catalog.name}-{base.name}",
        data=scored_data(catalog, "val", catalog.split_sizes["val"]),
        metrics=metrics,
        recipe=asdict(base),
        extra=extra,
        command=command_line(),
    )
