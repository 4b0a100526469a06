"""What axes bring on classes never seen, where networks kept their points: fitted on one half of
these classes, each half searched on the axes of the other.

The gallery is half as large as in the records, so scores are higher; ways compare with each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from carlib.evaluation.significance import paired_difference
from carlib.experiment.outputs import read_outputs
from carlib.experiment.record import Record
from carlib.experiment.tables import keeping_outputs
from carlib.report.rows import Row, with_baseline
from carlib.retrieval import ranking
from carlib.retrieval.axes import Axes
from carlib.retrieval.embeddings import Embeddings

COMPARED = ("plain", "within", "softened")  # ways of `carlib.retrieval.axes`


def hits_by_halves(points: Embeddings, way: str, on_itself: bool = False) -> np.ndarray:
    """For which photos the nearest other one of their half is of their class (photos,), 0 or 1: on
    axes of the other half or, as a mistake would have it, of this very one.
    """
    hits, even = np.empty(len(points)), points.labels % 2 == 0
    for half in (even, ~even):
        fitted = half if on_itself else ~half
        axes = Axes.fit(points.vectors[fitted], way, points.labels[fitted])
        scores = ranking.query_scores(axes.apply(points.select(half)))
        hits[half] = scores["recall_at_1"].fillna(0)
    return hits


def half_rows(records: Sequence[Record], rows: Sequence[Row]) -> list[Row]:
    """Recall@1 by way, with the `gain` of softened points over plain ones and its 95 % `interval`
    by classes: a row for the best network that learned cars, and one for the body that learned
    none, as far as they keep plain points; `rows` are those of retrieval.
    """
    kept = keeping_outputs(records, "retrieval", "unseen")
    plain = [row for row in rows if row["points"] == "" and row["recipe"] in kept]
    found = []
    for row in with_baseline(plain):
        outputs = read_outputs(kept[row["recipe"]][0])
        points = ranking.kept_points(outputs)
        hits = {way: hits_by_halves(points, way) for way in COMPARED}
        sums = {way: np.bincount(points.labels, hit) for way, hit in hits.items()}
        gain, interval = paired_difference(
            sums["softened"][None], sums["plain"][None], np.bincount(points.labels)
        )
        scores = {way: float(hit.mean()) for way, hit in hits.items()}
        found.append({"recipe": row["recipe"], "record": row["record"], "trained": row["trained"],
                      "scores": scores, "gain": gain, "interval": interval})  # fmt: skip
    return found
