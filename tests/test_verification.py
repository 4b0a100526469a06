"""Decisions on pairs: against scikit-learn, against small cases done by hand, and frozen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score, roc_curve

from carlib.embeddings import Embeddings, scaled
from carlib.errors import DataError, RunError
from carlib.verification import (
    Decision,
    by_viewpoints,
    curve_scores,
    hardest,
    roc,
    similarities,
    verification_scores,
)


def problem(count: int = 400, seed: int = 0, decimals: int = 9):
    """Similarities, answers and classes of pairs that overlap a good deal."""
    generator = np.random.default_rng(seed)
    same = np.arange(count) % 2 == 0
    similarity = np.round(0.3 * generator.normal(size=count) + 0.3 * same, decimals)
    first = generator.integers(0, 20, count)
    second = np.where(same, first, (first + generator.integers(1, 20, count)) % 20)
    return similarity, same, np.stack([first, second], axis=1)


@pytest.mark.parametrize("decimals", [9, 1])  # with one, many pairs are equally similar
def test_curve_and_area_are_those_of_scikit_learn(decimals: int) -> None:
    similarity, same, _ = problem(decimals=decimals)
    table = roc(similarity, same)
    assert curve_scores(table)["auc"] == pytest.approx(roc_auc_score(same, similarity))
    far, tar, _ = roc_curve(same, similarity, drop_intermediate=False)
    np.testing.assert_allclose(table[["far", "tar"]], np.stack([far, tar], axis=1))
    weight = np.random.default_rng(1).integers(0, 4, len(same)).astype(float)
    weighted = curve_scores(roc(similarity, same, weight))["auc"]
    assert weighted == pytest.approx(roc_auc_score(same, similarity, sample_weight=weight))


def test_small_cases_done_by_hand() -> None:
    same = np.array([True, True, False, True, False, False])
    similarity = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    found = curve_scores(roc(similarity, same))
    assert found["auc"] == pytest.approx(8 / 9) and found["eer"] == pytest.approx(1 / 3)
    assert found["tar_at_0.1"] == pytest.approx(2 / 3)  # no stranger may pass
    perfect = curve_scores(roc(np.array([1.0, 0.0]), np.array([True, False])))
    assert perfect["auc"] == perfect["tar_at_0.001"] == 1 and perfect["eer"] == 0
    silent = curve_scores(roc(np.zeros(4), np.array([True, False] * 2)))
    assert silent["auc"] == silent["eer"] == 0.5 and silent["tar_at_0.1"] == 0


# --- deciding ---


def test_the_threshold_is_the_best_there_is_and_lies_between_two_pairs() -> None:
    similarity, same, _ = problem()
    decision = Decision.fit(similarity, same)

    def balanced(threshold: float) -> float:
        accepted = similarity >= threshold
        return (accepted[same].mean() + (~accepted[~same]).mean()) / 2

    assert balanced(decision.threshold) == pytest.approx(max(map(balanced, similarity)))
    assert decision.threshold not in set(similarity) and decision.pairs == 400


def test_a_dear_false_accept_raises_the_threshold() -> None:
    similarity, same, _ = problem()
    usual, strict = (Decision.fit(similarity, same, cost) for cost in (1.0, 20.0))
    assert strict.threshold > usual.threshold
    far = [(similarity[~same] >= d.threshold).mean() for d in (usual, strict)]
    assert far[1] < 0.05 < far[0]


def test_the_probability_is_calibrated() -> None:
    similarity, same, _ = problem(20_000)
    chance = Decision.fit(similarity, same).probability(similarity)
    assert (np.diff(chance[np.argsort(similarity)]) >= 0).all()
    for low in (0.1, 0.4, 0.7):
        rows = (chance >= low) & (chance < low + 0.2)
        assert same[rows].mean() == pytest.approx(chance[rows].mean(), abs=0.05)


def test_test_pairs_move_no_threshold() -> None:
    similarity, same, classes = problem()
    decision = Decision.fit(*problem(seed=1)[:2])
    found = verification_scores(similarity - 5, same, classes, decision)
    assert found["threshold"] == decision.threshold
    assert found["accuracy"] == 0.5 and found["recall"] == 0  # far away, and nothing adapts
    assert found["auc"] == pytest.approx(roc_auc_score(same, similarity))


def test_scores_are_scikit_learns_and_lie_in_their_intervals() -> None:
    similarity, same, classes = problem()
    decision = Decision.fit(*problem(seed=1)[:2])
    found = verification_scores(similarity, same, classes, decision)
    accepted = similarity >= decision.threshold
    assert found["f1"] == pytest.approx(f1_score(same, accepted))
    assert found["accuracy"] == pytest.approx((accepted == same).mean())
    for name in ("auc", "eer", "accuracy", "tar_at_0.1"):
        low, high = found[f"{name}_interval"]
        assert 0 <= low <= found[name] <= high <= 1 and low < high
    assert found["tar_at_0.001"] <= found["tar_at_0.01"] <= found["tar_at_0.1"]
    assert found == verification_scores(similarity, same, classes, decision)


def test_intervals_grow_when_classes_and_not_pairs_bear_the_luck() -> None:
    """Every pair ten times over tells nothing new, and the interval knows."""
    similarity, same, classes = problem(200)
    decision = Decision.fit(similarity, same)
    once = verification_scores(similarity, same, classes, decision)
    tenfold = [np.repeat(part, 10, axis=0) for part in (similarity, same, classes)]
    many = verification_scores(*tenfold, decision)
    width = [np.ptp(found["auc_interval"]) for found in (once, many)]
    assert width[1] > 0.9 * width[0]


# --- photos ---


def photos() -> tuple[Embeddings, pd.DataFrame]:
    table = pd.DataFrame(
        {
            "path": [f"{n}.jpg" for n in range(4)],
            "label": pd.array([0, 0, 1, 1], "Int64"),
            "viewpoint": pd.array(["front", "rear", "front", pd.NA], "string"),
        }
    )
    vectors = scaled(np.array([[1, 0], [1, 1], [0, 1], [0, 2]], np.float32))
    pairs = pd.DataFrame(
        {"a": ["0.jpg", "2.jpg", "0.jpg", "1.jpg"], "b": ["1.jpg", "3.jpg", "2.jpg", "2.jpg"],
         "same": [True, True, False, False]}
    )  # fmt: skip
    return Embeddings(vectors, table, "net"), pairs


def test_pairs_are_compared_by_cosine_and_their_answers_checked() -> None:
    embeddings, pairs = photos()
    similarity, classes = similarities(embeddings, pairs)
    np.testing.assert_allclose(similarity, [0.5**0.5, 1, 0, 0.5**0.5], atol=1e-6)
    assert classes.tolist() == [[0, 0], [1, 1], [0, 1], [0, 1]]
    with pytest.raises(RunError, match=r"0\.jpg and 2\.jpg: the list and the photos' classes"):
        similarities(embeddings, pairs.assign(same=True))
    with pytest.raises(DataError, match=r"9\.jpg"):
        similarities(embeddings, pairs.assign(a="9.jpg"))


def test_viewpoints_and_the_pairs_that_mislead() -> None:
    embeddings, pairs = photos()
    similarity, _ = similarities(embeddings, pairs)
    decision = Decision(0.5, 1.0, 0.0, 4)
    found = by_viewpoints(similarity, pairs, embeddings.table, decision)
    assert found.loc["front + rear"].tolist() == [0.5, 2]  # the fourth pair is a false accept
    assert found.loc["front + front"].tolist() == [1.0, 1]
    worst = hardest(similarity, pairs, top=1)
    assert worst["false accepts"]["a"].tolist() == ["1.jpg"]
    assert worst["false rejects"]["a"].tolist() == ["0.jpg"]


def test_lists_of_one_kind_and_broken_numbers_are_refused() -> None:
    similarity, same, _ = problem(10)
    with pytest.raises(RunError, match="pairs of both kinds"):
        Decision.fit(similarity, np.ones(10, bool))
    with pytest.raises(RunError, match="not finite"):
        Decision.fit(similarity * np.nan, same)
    with pytest.raises(RunError, match="do not fit"):
        Decision.fit(similarity[:5], same)
