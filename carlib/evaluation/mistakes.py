"""What would a mistake have won? The score that it reports beside the honest one, on the same
photos, and the interval of the difference.

Most mistakes of a protocol are a choice that saw what it is scored on: the epoch, the threshold, k,
the seed. What such a choice wins is known as optimism (Efron 1983, JASA 78, 316; Cawley and Talbot
2010, JMLR 11, 2079).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from carlib.errors import RunError
from carlib.evaluation.significance import paired_difference

FOLDS = 10


@dataclass(frozen=True)
class Gain:
    """A score as a mistake reports it, the honest one, and the 95 % interval of what lies between
    them; all in 0…1.
    """

    reported: float
    honest: float
    interval: tuple[float, float]

    @property
    def gain(self) -> float:
        """Reported less honest."""
        return self.reported - self.honest


def gained(
    reported: np.ndarray, honest: np.ndarray, counts: np.ndarray | None = None, seed: int = 0
) -> Gain:
    """What the first way to score wins over the second on the same photos or pairs.

    `reported` and `honest` (units,): a unit is a photo, right (1) or wrong (0); or, as photos of
    one class share their luck, a class with the sum of what its photos scored, and then `counts`
    (units,) has how many these are. Raises `RunError` where the shapes do not fit.
    """
    reported, honest = (np.asarray(way, float)[None] for way in (reported, honest))
    difference, interval = paired_difference(reported, honest, counts, seed)
    score = float(honest.sum() / (honest.size if counts is None else np.sum(counts)))
    return Gain(score + difference, score, tuple(interval))


def chosen_on_scored(
    hits: np.ndarray, groups: np.ndarray | None = None, seed: int = 0, folds: int = FOLDS
) -> Gain:
    """What it wins to choose the best of several options on the photos that are then scored.

    `hits` (options, photos) says what each option (an epoch, a threshold, a seed, a k) scores on
    each photo. Honest is to score each tenth with what is best on the other nine. Photos with the
    same value of `groups` (photos,), such as copies or a class, stay in one tenth, and the interval
    draws groups. Of nearly equal options, such as seeds, this honest score is a little too low, as
    what does best on nine tenths tends to do worse on the last: hold the best against their mean.
    Of equal options the first is taken. Raises `RunError` where the shapes do not
    fit or there is nothing to choose from.
    """
    hits = np.asarray(hits, float)
    if hits.ndim != 2 or hits.shape[0] < 1 or hits.shape[1] < 2:
        raise RunError(f"hits must be (options, photos), of two photos or more; not {hits.shape}")
    groups = np.arange(hits.shape[1]) if groups is None else np.asarray(groups)
    if groups.shape != hits.shape[1:]:
        raise RunError(f"{hits.shape[1]} photos and {groups.shape} groups do not fit")
    _, group = np.unique(groups, return_inverse=True)
    number = group.max() + 1
    fold = np.random.default_rng(seed).permutation(number)[group] * min(folds, number) // number
    honest = np.empty(hits.shape[1])
    for part in np.unique(fold):
        here = fold == part
        honest[here] = hits[hits[:, ~here].mean(1).argmax()][here]
    sums = [np.bincount(group, way) for way in (hits[hits.mean(1).argmax()], honest)]
    return gained(*sums, np.bincount(group), seed)
