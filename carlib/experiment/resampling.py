"""Scores of classes drawn anew, from what a record says of each class.

Photos of one class share their luck, so intervals of compared photos draw classes and not photos.
A record's rows per class suffice for that: means of several seeds can be drawn together, and two
networks on the same classes, without their outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from carlib.errors import RunError


def class_draws(count: int, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each of `count` classes is drawn, with replacement; (draws, count) int64."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, count, (draws, count))
    return np.stack([np.bincount(row, minlength=count) for row in drawn])


def pair_draws(classes: np.ndarray, same: np.ndarray, draws: int = 1000) -> np.ndarray:
    """How often each pair counts (draws, pairs) where classes are drawn anew: one of a single class
    as often as it is, one of two as often as both are drawn together.

    `classes` (pairs, 2) are those of its photos, `same` (pairs,) bool.
    """
    among, codes = np.unique(classes, return_inverse=True)
    codes = codes.reshape(classes.shape)
    one, other = np.moveaxis(class_draws(len(among), draws)[:, codes], 2, 0)
    return np.where(same, one, one * other)


def redrawn(rows: Sequence[Mapping[str, object]], score: str, times: np.ndarray) -> np.ndarray:
    """A score (draws,) of a record's rows per class, each counted `times` (draws, classes).

    Of a share of photos, such as "recall_at_1", exactly. Of an area under pairs, such as
    "hard_auc", to first order: a pair of two classes counts as often as both are drawn together,
    which is taken as the sum of what either adds.
    """
    if times.shape[1:] != (len(rows),):
        raise RunError(f"{len(rows)} classes cannot be drawn {times.shape} times")
    if not all(score in row for row in rows):
        raise RunError(f"the rows per class have no {score}; score the network again")
    if not score.endswith("_auc"):
        return _mean(rows, times, score, "photos")
    name = score.removesuffix("auc")
    own = _mean(rows, times, score, f"{name}pairs")
    other = _mean(rows, times, f"{name}other_auc", f"{name}other_pairs")
    once = np.ones((1, len(rows)))
    return own + 2 * (other - _mean(rows, once, f"{name}other_auc", f"{name}other_pairs"))


def _mean(rows: Sequence[Mapping], times: np.ndarray, score: str, weight: str) -> np.ndarray:
    """Mean of a score over all that a class has of `weight`, classes counted `times`."""
    weights = times * np.array([row[weight] for row in rows], float)
    values = np.array([row[score] for row in rows], float)
    return weights @ values / np.maximum(weights.sum(1), 1e-12)
