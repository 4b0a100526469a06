"""What each mistake of a protocol would have won us: recomputed from the committed outputs.

The notebooks make the same mistakes in view, each in a few lines. Here they stand in one table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

import numpy as np
import pandas as pd
import torch

from carlib.evaluation.metrics import interval, ranks_of
from carlib.evaluation.mistakes import Gain, chosen_on_scored, gained
from carlib.experiment.outputs import Outputs, read_outputs
from carlib.experiment.record import Record
from carlib.experiment.resampling import pair_draws
from carlib.experiment.tables import keeping_outputs, label_of
from carlib.report.halves import hits_by_halves
from carlib.report.rows import Row
from carlib.retrieval import knn, ranking
from carlib.retrieval.deciding import Decision
from carlib.retrieval.embeddings import Embeddings
from carlib.retrieval.ranking import kept_points
from carlib.retrieval.verification import compared_pairs

SPLITS = 10  # of which the luckiest is reported
THRESHOLDS = 100


def mistake_rows(records: Sequence[Record]) -> list[Row]:
    """A row per mistake that the kept outputs allow to make, most won first.

    Each is made with the best network that it can be made with. `reported` and `honest` are the
    same `score` of the same answers to the same photos; `won` lies between them, with its paired
    95 % `interval`.
    """
    rows = []
    for (kind, topic, metric), mistakes in MISTAKES.items():
        networks = _kept(records, kind, topic, metric)
        for name, (score, make) in mistakes.items():
            gains = ((record, make(outputs)) for record, outputs in networks)
            record, gain = next(((record, gain) for record, gain in gains if gain), (None, None))
            if gain:
                rows.append({
                    "mistake": name, "score": score, "network": label_of(record),
                    "record": record.name, "reported": gain.reported, "honest": gain.honest,
                    "won": gain.gain, "interval": list(gain.interval),
                })  # fmt: skip
    return sorted(rows, key=lambda row: -row["won"])


def _kept(
    records: Sequence[Record], kind: str, topic: str, metric: str
) -> list[tuple[Record, list[Outputs]]]:
    """The outputs that records of a kind keep, seed by seed, with the first seed's record: the best
    network first.
    """
    found = keeping_outputs(records, kind, topic).values()
    best = sorted(found, key=lambda seeds: -mean(record.metrics[metric] for record in seeds))
    return [(seeds[0], [read_outputs(record) for record in seeds]) for seeds in best]


# --- naming ---------------------------------------------------------------------------------------


def _hits(outputs: Outputs, logits: np.ndarray | None = None) -> np.ndarray:
    """Which photos are answered rightly; of the last axis but one where there are more."""
    logits = outputs.tensors["logits"] if logits is None else logits
    return ranks_of(torch.from_numpy(logits), outputs.labels) < 1


def luckiest_split(seeds: Sequence[Outputs]) -> Gain:
    """The best of SPLITS random fifths of val in the place of all of it."""
    right = _hits(seeds[0])
    fifth = max(1, len(right) // 5)
    draws = np.random.default_rng(0).random((1000, SPLITS, len(right))).argpartition(fifth)
    best = right[draws[..., :fifth]].mean(2).max(1)
    low, high = interval(best - right.mean())
    return Gain(float(best.mean()), float(right.mean()), (low, high))


def best_seed(seeds: Sequence[Outputs]) -> Gain | None:
    """The seed that the scored photos like best in the place of the mean; nothing of one seed."""
    hits = np.stack([_hits(one) for one in seeds])
    return gained(hits[hits.mean(1).argmax()], hits.mean(0)) if len(seeds) > 1 else None


def best_views(seeds: Sequence[Outputs]) -> Gain | None:
    """One view or its mean with the mirror image, whichever scores better."""
    mirrored = seeds[0].tensors.get("with_mirror")
    if mirrored is None:
        return None
    return chosen_on_scored([_hits(seeds[0]), mirrored == seeds[0].labels])


def best_epoch(seeds: Sequence[Outputs]) -> Gain | None:
    """The epoch at which the scored photos did best, as if they were to choose it."""
    epochs = seeds[0].tensors.get("epochs")
    return None if epochs is None else chosen_on_scored(_hits(seeds[0], epochs))


def mean_of_epochs(seeds: Sequence[Outputs]) -> Gain | None:
    """Scores that are added up over all epochs and never set back, in the place of the last's."""
    epochs = seeds[0].tensors.get("epochs")
    if epochs is None:
        return None
    hits = _hits(seeds[0], epochs)
    return gained(hits.mean(0), hits[-1])


# --- comparing ------------------------------------------------------------------------------------


def _by_class(labels: np.ndarray, *ways: np.ndarray) -> list[np.ndarray]:
    """What the photos of each class score together, and how many they are."""
    return [*(np.bincount(labels, way) for way in ways), np.bincount(labels)]


def best_k(seeds: Sequence[Outputs]) -> Gain | None:
    """k and weights of the neighbors' votes, chosen on val in the place of train."""
    if seeds[0].gallery is None:
        return None
    queries, gallery = kept_points(seeds[0]), kept_points(seeds[0], "gallery")
    classes = 1 + int(max(queries.labels.max(), gallery.labels.max()))
    most = min(knn.NEIGHBORS[-1], len(gallery) - 1)

    def right(found: tuple[np.ndarray, np.ndarray], truth: np.ndarray) -> np.ndarray:
        distances, labels = found[0], gallery.labels[found[1]]
        votes = (knn.votes(distances[:, :k], labels[:, :k], classes, weights)
                 for weights in knn.WEIGHTS for k in knn.NEIGHBORS)  # fmt: skip
        return np.array([shares.argmax(1) == truth for shares in votes])

    on_val = right(knn.neighbors(gallery.vectors, queries.vectors, most), queries.labels)
    on_train = right(knn.other_neighbors(gallery, most), gallery.labels)  # each asks the others
    chosen = (on_val[way.mean(1).argmax()] for way in (on_val, on_train))
    return gained(*_by_class(queries.labels, *chosen))


def copies_on_both_sides(seeds: Sequence[Outputs], share: float = 0.1) -> Gain:
    """A share of the photos has a copy among those that are searched."""
    points = kept_points(seeds[0])
    copied = np.random.default_rng(0).random(len(points)) < share
    rows = np.concatenate([np.arange(len(points)), np.flatnonzero(copied)])
    _, near = knn.other_neighbors(points.select(rows), 1)
    reported = points.labels[rows[near[: len(points), 0]]] == points.labels
    return gained(*_by_class(points.labels, reported, _found(points)))


def _found(points: Embeddings) -> np.ndarray:
    """For which photos the nearest other one is of their class (photos,) 0 or 1."""
    return ranking.query_scores(points)["recall_at_1"].fillna(0).to_numpy()


def classes_after_looking(seeds: Sequence[Outputs], share: float = 0.2) -> Gain | None:
    """The share of the classes that is found best, on the photos by which it was chosen.

    These are one half of them; honest are the same classes on the other half.
    """
    points = kept_points(seeds[0])
    looked = np.random.default_rng(0).random(len(points)) < 0.5
    table = pd.DataFrame({"label": points.labels, "looked": looked, "hit": _found(points)})
    halves = table.pivot_table(values="hit", index="label", columns="looked").dropna()
    if halves.shape[1] < 2 or halves.empty:
        return None
    best = halves.sort_values(True, kind="stable").tail(max(1, int(share * len(halves))))
    return gained(best[True], best[False])


def axes_of_the_scored(seeds: Sequence[Outputs]) -> Gain | None:
    """Axes that were fitted on the classes that are scored, with their labels.

    Honest are those of the other half of the classes. Nothing for points that have axes already.
    """
    if seeds[0].about["points"]:
        return None
    points = kept_points(seeds[0])
    ways = [hits_by_halves(points, "within", on_itself) for on_itself in (True, False)]
    return gained(*_by_class(points.labels, *ways))


def threshold_of_the_scored(level: str) -> Callable[[Sequence[Outputs]], Gain | None]:
    """The best of THRESHOLDS on the scored pairs, in the place of one fitted on other classes."""

    def make(seeds: Sequence[Outputs]) -> Gain | None:
        if not {level, "fitting"} <= set(seeds[0].tensors):
            return None
        decision = Decision.fit(*compared_pairs(seeds[0], "fitting")[:2])
        similarity, same, classes = compared_pairs(seeds[0], level)
        tried = np.linspace(similarity.min(), similarity.max(), THRESHOLDS)[:, None]
        right = (similarity >= tried) == same
        honest = (similarity >= decision.threshold) == same
        reported = right[right.mean(1).argmax()]
        weights = pair_draws(classes, same)
        won = weights @ (reported.astype(float) - honest) / np.maximum(weights.sum(1), 1)
        low, high = interval(won)
        return Gain(float(reported.mean()), float(honest.mean()), (low, high))

    return make


# By what is asked of a network, and the metric by which the best one is found: how each mistake is
# called, of which score, and how it is made.
MISTAKES = {
    ("evaluation", "", "accuracy"): {
        "one lucky split: the best of ten fifths": ("accuracy", luckiest_split),
        "the best of several seeds": ("accuracy", best_seed),
        "one view or two, whichever scores better": ("accuracy", best_views),
        "scored photographs choose the epoch": ("accuracy", best_epoch),
        "metrics added up over the epochs": ("accuracy", mean_of_epochs),
    },
    ("retrieval", "same", "recall_at_1"): {
        "k chosen on the scored photographs": ("accuracy", best_k),
    },
    ("retrieval", "unseen", "recall_at_1"): {
        "a tenth of the photographs have a copy": ("Recall@1", copies_on_both_sides),
        "a fifth of the classes, chosen after looking": ("Recall@1", classes_after_looking),
        "axes fitted on the scored classes": ("Recall@1", axes_of_the_scored),
    },
    ("verification", "", "hard_auc"): {
        f"the threshold searched on the scored pairs ({level})":
            ("accuracy", threshold_of_the_scored(level))
        for level in ("medium", "hard")
    },
}  # fmt: skip
