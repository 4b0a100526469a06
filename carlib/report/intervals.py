"""What the seeds of a row say together: intervals of means over seeds, and differences of two rows.

Both come from what records hold: the logits of every photo, or what each class scored. Where a
record holds neither there is no interval, rather than that of another thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from carlib.evaluation.significance import mean_over_seeds, paired_difference
from carlib.experiment.outputs import read_outputs
from carlib.experiment.record import Record
from carlib.experiment.tables import label_of
from carlib.paths import outputs_of

UNITS = ("photos", "classes")  # what is drawn anew, the first that all records hold


@dataclass(frozen=True)
class Scores:
    """What several seeds scored on each photo or class."""

    unit: str  # "photos" or "classes"
    names: tuple[str, ...]  # which they are, (units,)
    sums: np.ndarray  # (seeds, units)
    counts: np.ndarray  # (units,) photos of each


def scores_of(seeds: Sequence[Record], score: str, unit: str) -> Scores | None:
    """The seeds' `score` by photo or class; None where one does not hold it, or has others."""
    every = [_one(record, score, unit) for record in seeds]
    if any(one is None for one in every):
        return None
    first = every[0]
    if any(one.names != first.names or (one.counts != first.counts).any() for one in every):
        return None
    return replace(first, sums=np.concatenate([one.sums for one in every]))


def _one(record: Record, score: str, unit: str) -> Scores | None:
    if score != "accuracy":
        return None
    if unit == "photos":
        return _by_photo(record)
    rows = [row for row in record.per_class or () if row["photos"] and "recall" in row]
    counts = np.array([row["photos"] for row in rows])
    right = np.rint([row["recall"] * row["photos"] for row in rows])
    names = tuple(row["class"] for row in rows)
    return Scores(unit, names, right[None], counts) if rows else None


def _by_photo(record: Record) -> Scores | None:
    """Is each photo right? From the logits that a record keeps."""
    if not record.outputs or record.kind != "evaluation":
        return None
    outputs = read_outputs(record)
    right = outputs.tensors["logits"].argmax(1) == outputs.labels
    return Scores("photos", tuple(outputs.table["stem"]), right[None] * 1.0, np.ones(len(right)))


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
    for unit in UNITS:
        if scores := scores_of(seeds, score, unit):
            return mean_over_seeds(scores.sums, scores.counts)[1], unit
    return None, None


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
    told = {
        "one": label_of(one[0]),
        "other": label_of(other[0]),
        "score": score,
        "difference": float(means[0] - means[1]),
        "interval": None,
        "unit": None,
        "why": "",
    }
    views = {tuple(record.scoring.get("views", ())) for record in (*one, *other)}
    if len(views) > 1:
        return told | {"why": "they were scored by different views"}
    for unit in UNITS:
        pair = [scores_of(seeds, score, unit) for seeds in (one, other)]
        if (
            all(pair)
            and pair[0].names == pair[1].names
            and (pair[0].counts == pair[1].counts).all()
        ):
            value, between = paired_difference(pair[0].sums, pair[1].sums, pair[0].counts)
            return told | {"difference": value, "interval": between, "unit": unit}
    return told | {"why": "their records hold no scores by photo or class"}
