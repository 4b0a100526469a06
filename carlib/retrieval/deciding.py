"""Deciding from a similarity that two photos are of one model, and how good such decisions are.

A threshold and the probability of "same" are fitted on some pairs and kept as a `Decision`; the
pairs that are scored meet it as it is. Similarities are (pairs,) in −1…1, `same` (pairs,) bool,
`classes` (pairs, 2), every score lies in 0…1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, auc, precision_recall_fscore_support, roc_curve

from carlib.errors import RunError
from carlib.evaluation.calibration import calibration_error
from carlib.evaluation.metrics import FEWER_RESAMPLES, interval

FARS = (1e-1, 1e-2, 1e-3)  # false accept rates at which true accepts are told
DRAWN_FARS = np.logspace(-3, 0, 61)  # where a record keeps the curve
BINS = np.linspace(-1, 1, 51)  # of similarity, in which a record counts pairs


@dataclass(frozen=True)
class Decision:
    """What is fitted on val pairs and then frozen."""

    threshold: float  # the same model from this similarity on
    slope: float  # of the log-odds of "same" over the similarity
    offset: float
    pairs: int  # that it was fitted on

    @classmethod
    def fit(
        cls, similarity: np.ndarray, same: np.ndarray, false_accept_cost: float = 1.0
    ) -> Decision:
        """The threshold with the least mean cost on these pairs, and a calibrated probability.

        A false reject costs 1, a false accept `false_accept_cost`; both kinds of pairs weigh the
        same, however many there are. The probability is Platt's (1999): logistic regression.
        """
        _check(similarity, same)
        table = roc(similarity, same)[1:]  # without the threshold that accepts nothing
        cost = (1 - table["tar"] + false_accept_cost * table["far"]).to_numpy()
        best, values = int(cost.argmin()), table["threshold"].to_numpy()
        below = values[min(best + 1, len(values) - 1)]
        model = LogisticRegression(C=100.0, class_weight="balanced")
        model.fit(similarity[:, None], same)
        return cls(
            float((values[best] + below) / 2),
            float(model.coef_[0, 0]), float(model.intercept_[0]), len(same),
        )  # fmt: skip

    def probability(self, similarity: np.ndarray) -> np.ndarray:
        """Chance (pairs,) that two photos show the same model, where both answers are as likely."""
        return 1 / (1 + np.exp(-(self.slope * similarity + self.offset)))


# --- scoring ------------------------------------------------------------------------------------


def roc(similarity: np.ndarray, same: np.ndarray, weight: np.ndarray | None = None) -> pd.DataFrame:
    """True and false accept rates for every threshold; columns `threshold`, `far`, `tar`.

    Begins at (0, 0). Pairs that are equally similar are accepted together.
    """
    far, tar, thresholds = roc_curve(
        same, similarity, sample_weight=weight, drop_intermediate=False
    )
    return pd.DataFrame({"threshold": thresholds, "far": far, "tar": tar})


def curve_scores(table: pd.DataFrame) -> dict[str, float]:
    """What does not depend on a threshold: AUC, EER, and TAR at the rates of FARS.

    `table` is `roc`'s. The equal error rate lies where the curve crosses far = 1 − tar.
    """
    far, tar = table["far"].to_numpy(), table["tar"].to_numpy()
    gap = far - (1 - tar)
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    share = 0.0 if after == before else -gap[before] / (gap[after] - gap[before])
    scores = {
        "auc": float(auc(far, tar)),
        "eer": float(far[before] + share * (far[after] - far[before])),
    }
    for rate in FARS:
        scores[f"tar_at_{rate:g}"] = float(tar[far <= rate].max())
    return scores


def threshold_scores(accepted: np.ndarray, same: np.ndarray, weight: np.ndarray) -> dict:
    """Accuracy, precision, recall, F1 and false accept rate of decisions (pairs,) bool."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        same, accepted, average="binary", sample_weight=weight, zero_division=0
    )
    accuracy = accuracy_score(same, accepted, sample_weight=weight)
    values = {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}
    values["far"] = np.average(accepted[~same], weights=weight[~same])
    return {name: float(value) for name, value in values.items()}


def verification_scores(
    similarity: np.ndarray,
    same: np.ndarray,
    classes: np.ndarray,
    decision: Decision,
) -> dict[str, object]:
    """All scores of a list of pairs under a frozen decision, with 95 % intervals.

    Classes (pairs, 2) are drawn anew, not pairs: those of one class share their luck. A pair of two
    classes counts as often as both are drawn together, one of a single class as often as it is.
    """
    _check(similarity, same)
    scores = _all_scores(similarity, same, np.ones(len(same)), decision)
    generator = np.random.default_rng(0)
    known, codes = np.unique(classes, return_inverse=True)
    codes = codes.reshape(classes.shape)
    draws = []
    while len(draws) < FEWER_RESAMPLES:
        times = np.bincount(generator.integers(0, len(known), len(known)), minlength=len(known))
        one, other = times[codes[:, 0]], times[codes[:, 1]]
        weight = np.where(same, one, one * other).astype(float)
        if (weight * same).any() and (weight * ~same).any():
            draws.append(_all_scores(similarity, same, weight, decision))
    metrics: dict[str, object] = {}
    for name, value in scores.items():
        metrics[name] = value
        metrics[f"{name}_interval"] = interval(np.array([draw[name] for draw in draws]))
    return metrics


def _all_scores(similarity, same, weight, decision: Decision) -> dict[str, float]:
    curve = curve_scores(roc(similarity, same, weight))
    return curve | threshold_scores(similarity >= decision.threshold, same, weight)


def level_scores(
    similarity: np.ndarray, same: np.ndarray, classes: np.ndarray, decision: Decision
) -> dict[str, object]:
    """`verification_scores` of a list, and the calibration error of the probability."""
    scores = verification_scores(similarity, same, classes, decision)
    chance = decision.probability(similarity)
    both = np.stack([1 - chance, chance], axis=1)
    return scores | {"ece": calibration_error(both, same.astype(int))}


def class_areas(
    similarity: np.ndarray, same: np.ndarray, classes: np.ndarray, labels: Sequence[int]
) -> list[dict[str, float]]:
    """What each class of `labels` adds to the area under the curve, one row each.

    `auc` is the mean share of strangers that the class's own pairs surpass, `pairs` how many these
    are; `other_auc` the mean share of own pairs that surpass a pair of it and another class, of
    which there are `other_pairs`. Means over `pairs` give the area of all;
    `carlib.experiment.resampling.redrawn` that of classes drawn anew.
    """
    above, below = similarity[same], similarity[~same]
    won, lost = _share_below(above, below), 1 - _share_below(below, above)
    rows = []
    for label in labels:
        own, other = classes[same, 0] == label, (classes[~same] == label).any(1)
        rows.append(
            {"auc": float(won[own].mean()) if own.any() else 0.0, "pairs": int(own.sum()),
             "other_auc": float(lost[other].mean()) if other.any() else 0.0,
             "other_pairs": int(other.sum())}
        )  # fmt: skip
    return rows


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of others that each value surpasses; one that is equal counts half."""
    others = np.sort(others)
    low, high = (np.searchsorted(others, values, side) for side in ("left", "right"))
    return (low + high) / 2 / len(others)


def drawn(similarity: np.ndarray, same: np.ndarray) -> dict[str, list[float]]:
    """What a chart needs: `tar` at the rates of DRAWN_FARS, pairs per bin of similarity in BINS."""
    table = roc(similarity, same)
    place = np.searchsorted(table["far"], DRAWN_FARS, side="right") - 1
    counts = {
        name: np.histogram(similarity[rows], BINS)[0].tolist()
        for name, rows in (("same", same), ("other", ~same))
    }
    return {"tar": table["tar"].to_numpy()[place].tolist()} | counts


def _check(similarity: np.ndarray, same: np.ndarray) -> None:
    if similarity.shape != same.shape or not len(same):
        raise RunError(f"{similarity.shape} similarities do not fit {same.shape} answers")
    if same.all() or not same.any():
        raise RunError("pairs of both kinds are needed: the same model, and two models")
    if not np.isfinite(similarity).all():
        raise RunError("similarities hold values that are not finite")
