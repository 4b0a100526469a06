"""A network over a split: logits once, and the record of all that they say."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from carlib.data.catalog import Catalog
from carlib.data.samplers import long_tail
from carlib.data.store import PhotoStore
from carlib.errors import RunError
from carlib.evaluation.calibration import trust_metrics
from carlib.evaluation.features import pooled_features, says_the_same
from carlib.evaluation.metrics import (
    answers_of,
    group_accuracy,
    per_class,
    quick_metrics,
    score,
)
from carlib.evaluation.scorer import VIEWS, Scorer
from carlib.evaluation.significance import mcnemar
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.outputs import LARGEST, Outputs, class_table, half, photo_table
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record, append_to_ledger
from carlib.experiment.run import Run

Found = TypeVar("Found")


def logits_of(
    checkpoint: Checkpoint,
    catalog: Catalog,
    split: str,
    progress: bool = True,
    views: Sequence[str] = (),
):
    """Logits, labels and the table rows of a split: (logits, labels, rows) in catalog order.

    With `views` (names in `VIEWS`) logits are (views, photos, classes), else (photos, classes) as
    the checkpoint's recipe scores. Labels are −1 where the catalog has none.
    """
    checkpoint.check_classes(catalog)
    scorer, store, positions = ready(checkpoint, catalog, split, progress)
    if views:
        logits = scorer.predict(store, positions, views)
    elif says_the_same(scorer.recipe, scorer.network):  # its features may lie ready
        features = pooled_features(scorer, store, positions, progress=False)
        with torch.no_grad(), scorer.as_trained():
            logits = scorer.network.classify(features.of(positions)).float().cpu()
    else:
        logits = scorer.predict(store, positions)
    return logits, store.labels[positions], store.rows[positions]


def features_of(
    checkpoint: Checkpoint, catalog: Catalog, split: str, progress: bool = True
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Pooled features (photos, dims) of a split, its photos' table rows and their digests."""
    scorer, store, positions = ready(checkpoint, catalog, split, progress)
    features = pooled_features(scorer, store, positions, progress=False)
    return features.of(positions).cpu(), store.rows[positions], store.digests[positions]


def ready(
    checkpoint: Checkpoint, catalog: Catalog, split: str, progress: bool
) -> tuple[Scorer, PhotoStore, np.ndarray]:
    """The network ready to be asked, the store of photos, and the positions of a split in it.

    Whoever looks at photos of split "test" comes through here, and is noted in the ledger. Raises
    `RunError` when no photo of the split can be read.
    """
    part = catalog.select(split)
    if split == "test":
        entry = {"checkpoint": checkpoint.hash, "recipe": checkpoint.recipe.name}
        append_to_ledger(entry | {"catalog": catalog.name, "split_hash": catalog.split_hash(split)})
    # The catalog with all splits is what training decoded: the store is then there already.
    store = PhotoStore.open(catalog, checkpoint.recipe.framing, progress)
    positions = store.positions(split)
    if not len(positions):
        first = next(iter(store.left_out.values()), "it is empty")
        raise RunError(f"{part.name}: no photo of split {split!r} can be read; first: {first}")
    return Scorer.of(checkpoint), store, positions


def of_photos_that_stay(function: Callable[..., Found]) -> Callable[..., Found]:
    """A way of scoring, `function(checkpoint, catalog, …)`, that refuses to say anything of photos
    that were replaced meanwhile: its record's fingerprint would be of others than were scored.
    """

    @functools.wraps(function)
    def scored(checkpoint: Checkpoint, catalog: Catalog, *more: Any, **named: Any) -> Found:
        before = catalog.fingerprint
        found = function(checkpoint, catalog, *more, **named)
        if catalog.fingerprint != before:
            raise RunError(
                f"{catalog.name}: photos changed while they were scored; score them again when "
                f"nothing writes to the folder"
            )
        return found

    return scored


@of_photos_that_stay
def evaluate(
    checkpoint: Checkpoint, catalog: Catalog, split: str = "val", run: Run | None = None
) -> Record:
    """Score a checkpoint on one split; the record is returned, not yet written.

    It is computed from logits in half precision, and keeps those of val where photos of the catalog
    may not be shown (drawn cars are made again in seconds) and the file is small enough. `run`,
    where the checkpoint came from one, adds its history, its training time and what it kept of its
    epochs. Asking for split "test" is noted in the ledger, whatever comes of it.
    """
    started = time.perf_counter()
    _may_be_scored(checkpoint, catalog, split)
    views, labels, rows = logits_of(checkpoint, catalog, split, views=("plain", "mirror"))
    logits = views[0]  # every row of a table is one view; what a second one gains stands beside it
    seconds = time.perf_counter() - started
    data = scored_data(catalog, split, len(labels))
    epochs = run.epoch_logits(catalog.photos_digest(rows)) if run and split == "val" else {}
    outputs = Outputs(
        {"logits": half(logits), "with_mirror": _answers(views.mean(0))} | epochs,
        photo_table(catalog.table.iloc[rows]),
        classes=_learned_classes(checkpoint.recipe, catalog),
        about=whose(checkpoint, data),
    )
    training = run.summary if run else {}
    found = computed(outputs)
    exact = quick_metrics(logits, labels)
    keep = split == "val" and not catalog.publishable
    kept = outputs.to_bytes() if keep else b""
    return Record(
        kind="evaluation",
        data=data,
        metrics=found["metrics"],
        scoring=scoring_of(checkpoint),
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        per_class=found["per_class"],
        history=run.history() if run else None,
        extra={"training": training, "rounding": lost(exact, quick_metrics(*_scores(outputs)))},
        timing={"train_seconds": training.get("seconds", 0.0), "evaluate_seconds": seconds},
        command=command_line(),
        outputs_file=kept if len(kept) <= LARGEST else b"",
    )


def computed(outputs: Outputs) -> dict[str, Any]:
    """Metrics and rows per class of an evaluation, from logits as they are kept."""
    logits, labels = _scores(outputs)
    answers, classes = answers_of(logits, labels), outputs.classes
    metrics = score(logits, labels, classes)
    if len(labels) > 1:  # a temperature is fitted on other photos than those it is judged by
        metrics |= trust_metrics(logits, labels)
    if classes["train"].notna().all():
        metrics |= group_accuracy(labels, answers, classes["train"].to_numpy(np.int64))
    if "with_mirror" in outputs.tensors:
        metrics |= mirror_metrics(labels, answers, outputs.tensors["with_mirror"])
    rows = per_class(labels, answers, classes["class_name"].tolist())
    return {"metrics": metrics, "per_class": rows}


def mirror_metrics(
    labels: np.ndarray, answers: np.ndarray, with_mirror: np.ndarray
) -> dict[str, object]:
    """What the mean with a photo's mirror image gains, with a 95 % interval by paired bootstrap.

    All are (photos,): labels, answers to the photo alone, and answers of the mean.
    """
    compared = mcnemar(labels, answers, with_mirror)
    return {
        "accuracy_with_mirror": float((with_mirror == labels).mean()),
        "mirror_gain": compared["difference"],
        "mirror_gain_interval": compared["difference_interval"],
    }


def lost(exact: Mapping[str, float], kept: Mapping[str, float]) -> dict[str, float]:
    """What keeping less than all digits and axes took from each score: the exact one minus it."""
    return {name: exact[name] - kept[name] for name in exact}


def _scores(outputs: Outputs) -> tuple[torch.Tensor, np.ndarray]:
    return torch.from_numpy(outputs.tensors["logits"]).float(), outputs.labels


def _answers(logits: torch.Tensor) -> np.ndarray:
    return logits.argmax(1).numpy().astype(np.int16)


def _learned_classes(recipe: Recipe, catalog: Catalog) -> pd.DataFrame:
    """The classes, and of how many train photos each was learned; missing where there are none."""
    table = class_table(catalog)
    if "train" not in catalog.split_sizes:
        return table.assign(train=pd.array([pd.NA] * len(table), "Int64"))
    trained = catalog.select("train").labels
    trained = trained[trained >= 0]
    if recipe.imbalance > 1:
        trained = trained[long_tail(trained, recipe.imbalance, recipe.seed)]
    counts = np.bincount(trained, minlength=catalog.num_classes)
    return table.assign(train=pd.array(counts, "Int64"))


@of_photos_that_stay
def evaluate_views(checkpoint: Checkpoint, catalog: Catalog, split: str = "val") -> Record:
    """What the mean over all `VIEWS` of a photo gains (test-time augmentation); not yet written.

    The record's `gain` in accuracy over the first view alone has a 95 % interval by paired
    bootstrap over the photos, and `p_value` is McNemar's.
    """
    started = time.perf_counter()
    _may_be_scored(checkpoint, catalog, split)
    logits, labels, _ = logits_of(checkpoint, catalog, split, views=tuple(VIEWS))
    seconds = time.perf_counter() - started
    answers = [one.argmax(1).numpy() for one in logits]
    mean = logits.mean(0).argmax(1).numpy()
    compared = mcnemar(labels, answers[0], mean)
    return Record(
        kind="views",
        data=scored_data(catalog, split, len(labels)),
        scoring=scoring_of(checkpoint) | {"views": list(VIEWS)},
        metrics={
            "accuracy": float((mean == labels).mean()),
            "gain": compared["difference"],
            "gain_interval": compared["difference_interval"],
            "p_value": compared["p_value"],
        },
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        extra={
            "accuracy_by_view": {
                view: float((predicted == labels).mean())
                for view, predicted in zip(VIEWS, answers, strict=True)
            }
        },
        timing={"evaluate_seconds": seconds},
        command=command_line(),
    )


def _may_be_scored(checkpoint: Checkpoint, catalog: Catalog, split: str) -> None:
    """Refuse what has no classes to be right about."""
    checkpoint.recipe.must_classify()
    if (catalog.select(split).labels < 0).any():
        raise RunError(
            f"{catalog.name}: photos of split {split!r} have no labels, so it cannot be scored"
        )


def scoring_of(checkpoint: Checkpoint) -> dict[str, object]:
    """How a checkpoint is asked, as a record says it: views, side in pixels, points compared by."""
    recipe = checkpoint.recipe
    return {"views": ["plain"], "size": recipe.scored_size, "points": checkpoint.points}


def whose(
    checkpoint: Checkpoint, data: Mapping[str, object], points: str = ""
) -> dict[str, object]:
    """Whose outputs these are, in words for people; `data` is what a record says of the photos."""
    recipe, keys = checkpoint.recipe, ("catalog", "split", "split_hash")
    told = {"recipe": recipe.name, "seed": recipe.seed, "checkpoint": checkpoint.hash}
    return told | {"points": points} | {key: data[key] for key in keys}


def scored_data(catalog: Catalog, split: str, photos: int) -> dict[str, object]:
    """What a record says of the photos that were scored."""
    return {
        "catalog": catalog.name,
        "dataset": catalog.extras.dataset,
        "fingerprint": catalog.fingerprint,
        "split": split,
        "split_hash": catalog.split_hash(split),
        "photos": photos,
        "classes": catalog.num_classes,
    }
