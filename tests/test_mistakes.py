"""What mistakes win, on scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from carlib.errors import RunError
from carlib.evaluation.mistakes import chosen_on_scored, gained


def test_a_gain_is_paired() -> None:
    generator = np.random.default_rng(0)
    honest = (generator.random(400) < 0.6).astype(float)
    reported = honest.copy()
    reported[np.flatnonzero(honest == 0)[:40]] = 1
    found = gained(reported, honest)
    assert found.gain == pytest.approx(0.1) and found.honest == pytest.approx(honest.mean())
    low, high = found.interval  # of a share of .1 in 400, not of two accuracies
    assert 0.06 < low < 0.1 < high < 0.14
    by_class = gained(reported.reshape(80, 5).sum(1), honest.reshape(80, 5).sum(1), np.full(80, 5))
    assert by_class.gain == pytest.approx(found.gain)


def test_choosing_among_equals_wins_and_is_undone() -> None:
    """Thirty options that are all right on half of the photos: only luck tells them apart."""
    gains, honest = [], []
    for seed in range(20):
        hits = np.random.default_rng(seed).random((30, 200)) < 0.5
        found = chosen_on_scored(hits)
        gains.append(found.gain)
        honest.append(found.honest)
        assert found.reported == pytest.approx(hits.mean(1).max())
    assert np.mean(gains) > 0.05  # the largest of thirty, two standard deviations of .035
    assert abs(np.mean(honest) - 0.5) < 0.02


def test_a_choice_that_is_clear_wins_nothing() -> None:
    hits = np.zeros((3, 50))
    hits[1] = np.arange(50) % 10 > 0
    found = chosen_on_scored(hits)
    assert found.gain == 0 and found.interval == (0, 0) and found.honest == 0.9


def test_copies_stay_together() -> None:
    """Of each photo four copies: apart they would let an option be chosen on what is scored."""
    hits = np.random.default_rng(3).random((40, 60)) < 0.5
    once, copied = chosen_on_scored(hits), np.repeat(hits, 4, axis=1)
    together = chosen_on_scored(copied, np.repeat(np.arange(60), 4))
    assert together.honest == pytest.approx(once.honest)
    assert together.interval == pytest.approx(once.interval)
    assert chosen_on_scored(copied).honest > together.honest + 0.03


@pytest.mark.parametrize("hits, groups", [
    (np.zeros(5), None), (np.zeros((0, 5)), None), (np.zeros((2, 1)), None),
    (np.zeros((2, 5)), np.zeros(4)),
])  # fmt: skip
def test_what_does_not_fit_is_said(hits, groups) -> None:
    with pytest.raises(RunError):
        chosen_on_scored(hits, groups)
