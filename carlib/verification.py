"""Are these two photos the same model? Similarity, a threshold, and how far both can be trusted.

Two photos are compared by the cosine of their embeddings. The threshold and the probability of
"same" are fitted on val pairs and kept as a `Decision`; test pairs are scored by it as it is.
Similarities are (pairs,) in −1…1, `same` (pairs,) bool, every score lies in 0…1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, auc, precision_recall_fscore_support, roc_curve

from carlib.embeddings import Embeddings, scaled
from carlib.errors import RunError
from carlib.metrics import interval
from carlib.pairs import pair_positions

FARS = (1e-1, 1e-2, 1e-3)  # false accept rates at which true accepts are told
RESAMPLES = 200  # draws of classes behind every interval


def similarities(embeddings: Embeddings, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Cosine (pairs,) of every pair, and the classes (pairs, 2) of its photos.

    `pairs` has columns `a`, `b` (paths) and `same`. Raises `DataError` naming photos that have no
    embedding, and `RunError` where `same` and the photos' classes disagree.
    """
    rows = pair_positions(pairs, embeddings.paths, "the embeddings")
    labels = embeddings.labels[rows]
    wrong = np.flatnonzero((labels[:, 0] == labels[:, 1]) != pairs["same"].to_numpy())
    if len(wrong):
        pair = pairs.iloc[wrong[0]]
        raise RunError(f"{pair['a']} and {pair['b']}: the list and the photos' classes disagree")
    one, other = (scaled(embeddings.vectors[rows[:, side]]) for side in (0, 1))
    return (one * other).sum(1), labels


# --- deciding -----------------------------------------------------------------------------------


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
    """Accuracy, precision, recall and F1 of decisions (pairs,) bool."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        same, accepted, average="binary", sample_weight=weight, zero_division=0
    )
    accuracy = accuracy_score(same, accepted, sample_weight=weight)
    values = {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}
    return {name: float(value) for name, value in values.items()}


def verification_scores(
    similarity: np.ndarray,
    same: np.ndarray,
    classes: np.ndarray,
    decision: Decision,
    seed: int = 0,
) -> dict[str, object]:
    """All scores of a list of pairs under a frozen decision, with 95 % intervals.

    Classes (pairs, 2) are drawn anew, not pairs: those of one class share their luck. A pair of two
    classes counts as often as both are drawn together, one of a single class as often as it is.
    """
    _check(similarity, same)
    found = _all_scores(similarity, same, np.ones(len(same)), decision)
    generator = np.random.default_rng(seed)
    known, codes = np.unique(classes, return_inverse=True)
    codes = codes.reshape(classes.shape)
    draws = []
    while len(draws) < RESAMPLES:
        times = np.bincount(generator.integers(0, len(known), len(known)), minlength=len(known))
        one, other = times[codes[:, 0]], times[codes[:, 1]]
        weight = np.where(same, one, one * other).astype(float)
        if (weight * same).any() and (weight * ~same).any():
            draws.append(_all_scores(similarity, same, weight, decision))
    metrics: dict[str, object] = {}
    for name, value in found.items():
        metrics[name] = value
        metrics[f"{name}_interval"] = interval(np.array([draw[name] for draw in draws]))
    return metrics | {"threshold": decision.threshold}


def _all_scores(similarity, same, weight, decision: Decision) -> dict[str, float]:
    curve = curve_scores(roc(similarity, same, weight))
    return curve | threshold_scores(similarity >= decision.threshold, same, weight)


def by_viewpoints(
    similarity: np.ndarray, pairs: pd.DataFrame, table: pd.DataFrame, decision: Decision
) -> pd.DataFrame:
    """Accuracy by the sides from which the two photos were taken; columns are a pair's two sides.

    `table` has the photos' rows of a catalog. Pairs of which a side is unknown are left out.
    """
    sides = table.set_index("path")["viewpoint"]
    a, b = (pairs[side].map(sides) for side in ("a", "b"))
    known = (a.notna() & b.notna()).to_numpy()
    named = [" + ".join(sorted(pair)) for pair in zip(a[known], b[known], strict=True)]
    right = (similarity[known] >= decision.threshold) == pairs["same"].to_numpy()[known]
    rows = pd.DataFrame({"viewpoints": named, "accuracy": right})
    return (
        rows.groupby("viewpoints")["accuracy"]
        .agg(["mean", "size"])
        .rename(columns={"mean": "accuracy", "size": "pairs"})
    )


def hardest(similarity: np.ndarray, pairs: pd.DataFrame, top: int = 6) -> dict[str, pd.DataFrame]:
    """Pairs that mislead most: "false accepts", two models most alike, and "false rejects"."""
    table = pairs.assign(similarity=similarity)
    strangers = table[~table["same"]].sort_values("similarity", ascending=False, kind="stable")
    twins = table[table["same"]].sort_values("similarity", kind="stable")
    return {"false accepts": strangers.head(top), "false rejects": twins.head(top)}


def _check(similarity: np.ndarray, same: np.ndarray) -> None:
    if similarity.shape != same.shape or not len(same):
        raise RunError(f"{similarity.shape} similarities do not fit {same.shape} answers")
    if same.all() or not same.any():
        raise RunError("pairs of both kinds are needed: the same model, and two models")
    if not np.isfinite(similarity).all():
        raise RunError("similarities hold values that are not finite")
