"""Intervals of means over seeds and of differences: against SciPy, and against chance simulated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from carlib.errors import RunError
from carlib.evaluation.significance import paired_difference


def mean_over_seeds(sums, counts=None, seed: int = 0) -> tuple[float, list[float]]:
    """The mean of several seeds, and its interval: a difference to what is never right."""
    return paired_difference(sums, np.zeros((1, np.shape(sums)[1])), counts, seed)


def answers(generator, seeds: int, photos: np.ndarray, spread: float = 0.03) -> np.ndarray:
    """Right or wrong (seeds, photos), by how easy each photo is and how lucky each seed."""
    lucky = generator.normal(0, spread, (seeds, 1))
    return (generator.random((seeds, len(photos))) < photos + lucky).astype(float)


def test_one_seed_has_the_interval_of_its_photos() -> None:
    right = np.random.default_rng(0).random((1, 400)) < 0.7
    mean, (low, high) = mean_over_seeds(right)
    theirs = bootstrap((right[0],), np.mean, method="percentile", n_resamples=4000, rng=1)
    assert mean == right.mean()
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.006)


def test_the_interval_holds_the_mean_that_other_seeds_and_photos_would_have() -> None:
    """Nineteen times in twenty or more; one seed's interval misses far more often."""
    generator = np.random.default_rng(2)
    held, held_by_one, same = 0, 0, 0
    for trial in range(120):
        easy = generator.beta(2, 1, 250)  # mean 2/3
        ours, theirs = (answers(generator, 3, easy, spread=0.06) for _ in "ab")
        low, high = mean_over_seeds(ours, seed=trial)[1]
        held += low <= 2 / 3 <= high
        low, high = mean_over_seeds(ours[:1], seed=trial)[1]
        held_by_one += low <= 2 / 3 <= high
        low, high = paired_difference(ours, theirs, seed=trial)[1]
        same += low <= 0 <= high
    assert held >= 0.92 * 120 and same >= 0.92 * 120
    assert held_by_one < 0.85 * 120


def test_a_difference_is_paired() -> None:
    """Both sides meet the same photos, so what makes photos hard cancels out."""
    generator = np.random.default_rng(3)
    easy = (generator.random(500) < 0.6).astype(float)  # nearly all that decides
    one, other = easy[None], easy[None].copy()
    flipped = generator.choice(np.flatnonzero(easy), 25, replace=False)
    other[0, flipped] = 0
    value, (low, high) = paired_difference(one, other)
    assert value == pytest.approx(0.05) and 0.03 < low < 0.05 < high < 0.07
    assert paired_difference(other, one)[0] == pytest.approx(-value)
    assert paired_difference(one, one) == (0.0, [0.0, 0.0])
    widths = [np.diff(mean_over_seeds(way)[1])[0] for way in (one, other)]
    assert high - low < 0.6 * min(widths)


def test_classes_are_drawn_with_all_their_photos() -> None:
    """A class of many photos weighs more, one without photos nothing; luck of a class is shared."""
    counts = np.array([30, 10, 10, 0, 25, 25])
    sums = np.array([[27, 5, 1, 0, 20, 5]])
    mean, (low, high) = mean_over_seeds(sums, counts)
    photos = np.concatenate(
        [np.arange(n) < right for n, right in zip(counts, sums[0], strict=True)]
    )
    assert mean == pytest.approx(58 / 100)
    narrow = mean_over_seeds(photos[None].astype(float))[1]
    assert low < narrow[0] and narrow[1] < high
    assert mean_over_seeds(sums[:, [0, 1, 2, 4, 5]], counts[counts > 0])[1] == [low, high]


@pytest.mark.parametrize(
    ("one", "other", "counts"),
    [(np.ones((2, 3)), np.ones((2, 4)), None), (np.ones(3), np.ones((1, 3)), None),
     (np.ones((2, 3)), np.ones((2, 3)), np.ones(2)), (np.ones((0, 3)), np.ones((1, 3)), None)],
)  # fmt: skip
def test_scores_that_do_not_fit_are_refused(one, other, counts) -> None:
    with pytest.raises(RunError, match="of the same"):
        paired_difference(one, other, counts)
    with pytest.raises(RunError, match="no unit has a photo"):
        mean_over_seeds(np.ones((1, 2)), np.zeros(2))
