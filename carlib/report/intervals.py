"""What the seeds of a row say together: intervals of means over seeds, and differences of two rows.

Both come from what records hold: the logits of every photo, or what each class scored. Where a
record holds neither there is no interval, rather than that of another thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from carlib.evaluation.metrics import FEWER_RESAMPLES, RESAMPLES, interval, ranks_of
from carlib.evaluation.significance import difference_interval, over_seeds, unit_draws
from carlib.experiment.outputs import read_outputs
from carlib.experiment.record import Record
from carlib.experiment.resampling import class_draws, redrawn
from carlib.experiment.tables import label_of
from carlib.paths import outputs_of
from carlib.retrieval.deciding import curve_scores, roc
from carlib.retrieval.verification import compared_pairs

RECALLS = {"accuracy": "recall"}  # scores that rows per class have under another name


@dataclass(frozen=True)
class Draws:
    """A score of several seeds with photos or classes drawn anew, the same ones for each."""

    unit: str  # "photos" or "classes"
    names: tuple[str, ...]  # which they are
    values: np.ndarray  # (seeds, resamples)


def by_photo(record: Record, score: str) -> Draws | None:
    """Draws of photos, from the logits that an evaluation keeps; None where it keeps none."""
    if not record.outputs or record.kind != "evaluation" or score != "accuracy":
        return None
    outputs = read_outputs(record)
    right = ranks_of(torch.from_numpy(outputs.tensors["logits"]), outputs.labels) < 1
    values = unit_draws(right[None].astype(float), np.ones(len(right)))
    return Draws("photos", tuple(outputs.table["stem"]), values)


def by_pair(record: Record, score: str) -> Draws | None:
    """Draws of classes, from the points and pairs that a verification keeps; None where it keeps
    none, or where a draw has no pairs of both kinds.
    """
    level, _, name = score.rpartition("_")
    if not record.outputs or record.kind != "verification" or name != "auc":
        return None
    similarity, same, classes = compared_pairs(read_outputs(record), level)
    known, codes = np.unique(classes, return_inverse=True)
    values = []
    for times in class_draws(len(known), FEWER_RESAMPLES):
        one, other = times[codes.reshape(classes.shape)].T
        weight = np.where(same, one, one * other).astype(float)
        if not (weight[same].any() and weight[~same].any()):
            return None
        values.append(curve_scores(roc(similarity, same, weight))["auc"])
    return Draws("classes", tuple(map(str, known)), np.array(values)[None])


def by_class(record: Record, score: str) -> Draws | None:
    """Draws of classes, from a record's rows per class; None where they do not have the score."""
    score = RECALLS.get(score, score)
    rows = [row for row in record.per_class or () if row["photos"]]
    if not rows or not all(score in row for row in rows):
        return None
    values = redrawn(rows, score, class_draws(len(rows), RESAMPLES))
    return Draws("classes", tuple(row["class"] for row in rows), values[None])


def drawn(*ways: Sequence[Record], score: str) -> list[Draws] | None:
    """Draws of one or more rows, each with its seeds, on the same photos, or else on the same
    classes; None where the records do not allow it.
    """
    for of in (by_photo, by_pair, by_class):
        told = [[of(record, score) for record in seeds] for seeds in ways]
        every = [one for seeds in told for one in seeds]
        if all(every) and len({one.names for one in every}) == 1:
            return [
                replace(seeds[0], values=np.concatenate([one.values for one in seeds]))
                for seeds in told
            ]
    return None


def with_outputs(records: Sequence[Record], folder: Path) -> list[Record]:
    """The records of a folder, each with the bytes of the outputs that it keeps, if any."""
    return [_attached(record, folder) if record.outputs else record for record in records]


def _attached(record: Record, folder: Path) -> Record:
    read_outputs(record, folder)  # says in words what is missing or cut
    path = outputs_of(folder) / f"{record.outputs}.safetensors"
    return replace(record, outputs_file=path.read_bytes())


def seed_interval(seeds: Sequence[Record], score: str) -> tuple[list[float] | None, str | None]:
    """The 95 % interval of a score's mean over seeds, and what was drawn anew for it beside seeds.

    Of one seed it is the record's own. Nothing where the records do not hold what it takes.
    """
    if len(seeds) == 1:
        return seeds[0].metrics.get(f"{score}_interval"), None
    found = drawn(seeds, score=score)
    return (interval(over_seeds(found[0].values)), found[0].unit) if found else (None, None)


def difference(
    one: Sequence[Record], other: Sequence[Record], score: str
) -> dict[str, object] | None:
    """One row's mean less the other's on the same photos or classes; every sentence that sets one
    way above another rests on this.

    `interval` (95 %, paired) is None where the records do not hold what it takes or were scored by
    other views, and `why` says so. None where a row is missing.
    """
    if not one or not other:
        return None
    means = [np.mean([record.metrics[score] for record in seeds]) for seeds in (one, other)]
    told = {"one": label_of(one[0]), "other": label_of(other[0]), "score": score,
            "record": one[0].name, "difference": float(means[0] - means[1]),
            "interval": None, "unit": None, "why": ""}  # fmt: skip
    if len({tuple(record.scoring.get("views", ())) for record in (*one, *other)}) > 1:
        return told | {"why": "they were scored by different views"}
    found = drawn(one, other, score=score)
    if found is None:
        return told | {"why": "the records keep no scores by photo or class"}
    between = difference_interval(*(draws.values for draws in found))
    return told | {"interval": between, "unit": found[0].unit}
