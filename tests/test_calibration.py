"""Trust: against hand-made examples, other libraries, and data whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import KFold

from carlib import plots
from carlib.errors import RunError
from carlib.evaluation import calibration
from carlib.evaluation import rejection as rejection_module
from carlib.evaluation.calibration import (
    accuracy_at,
    area_under_coverage,
    calibration_error,
    coverage_curve,
    cross_fitted,
    fit_temperature,
    probabilities,
    reliability,
    trust_metrics,
)
from carlib.evaluation.metrics import quick_metrics
from carlib.evaluation.rejection import energy, max_softmax, nearest_similarity, rejection
from carlib.evaluation.significance import mcnemar

# Four photos of two classes; the answers are 0, 0, 0, 1 and the last is wrong.
SURE = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
TRUTH = np.array([0, 0, 0, 0])


def calibrated(count: int = 20_000, classes: int = 5, seed: int = 0):
    """Logits (count, classes) and labels drawn from just the probabilities that they claim."""
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(2 * generator.normal(size=(count, classes))).float()
    shares = logits.double().softmax(1).numpy().cumsum(1)
    drawn = (shares < generator.random((count, 1))).sum(1)
    return logits, np.minimum(drawn, classes - 1)


# --- calibration --------------------------------------------------------------------------------


def test_probabilities_are_the_softmax_at_a_temperature():
    logits, _ = calibrated(10)
    assert np.allclose(probabilities(logits), logits.softmax(1).numpy(), atol=1e-6)
    assert np.allclose(probabilities(logits, 2.5), (logits / 2.5).softmax(1).numpy(), atol=1e-6)
    sure = probabilities(torch.tensor([[20.0, 0.0], [30.0, 0.0]]))[:, 0]
    assert sure[0] < sure[1] < 1  # in single precision both are one


def test_reliability_by_hand():
    table = reliability(SURE, TRUTH, bins=5)
    assert table.columns.tolist() == ["confidence", "accuracy", "photos", "low", "high"]
    # ]0.4, 0.6]: 0.6 right; ]0.6, 0.8]: 0.8 right and 0.7 wrong; ]0.8, 1]: 0.9 right
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.75, 0.9])
    assert table["accuracy"].tolist() == [1, 0.5, 1]
    assert table["photos"].tolist() == [1, 2, 1]
    assert table["low"].tolist() == pytest.approx([0.4, 0.6, 0.8])
    assert table["high"].tolist() == pytest.approx([0.6, 0.8, 1.0])


def test_calibration_error_by_hand():
    by_hand = (1 * 0.4 + 2 * 0.25 + 1 * 0.1) / 4
    assert calibration_error(SURE, TRUTH, bins=5) == pytest.approx(by_hand)
    assert calibration_error(SURE, TRUTH, bins=1) == pytest.approx(0.75 - 0.75)
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0
    assert calibration_error(np.eye(2), np.array([1, 0])) == 1


def test_calibration_error_equals_that_of_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = calibrated(500)
    theirs = metrics.multiclass_calibration_error(
        (3 * logits).softmax(1), torch.from_numpy(labels), 5, n_bins=15
    )
    found = calibration_error(probabilities(3 * logits), labels)
    assert found == pytest.approx(float(theirs), abs=1e-5)


def test_a_tie_is_no_right_answer_as_in_evaluation():
    even = np.full((3, 2), 0.5)
    assert reliability(even, np.array([0, 1, 0]))["accuracy"].tolist() == [0]


def test_calibrated_logits_have_no_error_and_temperature_one():
    logits, labels = calibrated()
    assert calibration_error(probabilities(logits), labels) < 0.015
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("factor", [0.25, 3.0, 10.0])
def test_a_factor_on_the_logits_is_found_and_undone(factor):
    logits, labels = calibrated()
    found = fit_temperature(factor * logits, labels)
    assert found == pytest.approx(factor, rel=0.03)
    before = calibration_error(probabilities(factor * logits), labels)
    after = calibration_error(probabilities(factor * logits, found), labels)
    assert before > 0.1 and after < 0.015


def test_the_temperature_is_the_likeliest():
    logits, labels = calibrated(400, seed=1)
    logits, truth = 2 * logits, torch.from_numpy(labels)
    grid = np.linspace(1, 4, 601)
    losses = [float(F.cross_entropy(logits.double() / t, truth)) for t in grid]
    assert fit_temperature(logits, labels) == pytest.approx(grid[np.argmin(losses)], rel=0.01)


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("size", [0.0, 1.0, 40.0])
def test_all_right_or_all_wrong_still_has_a_sensible_temperature(count, size):
    """The likelihood alone would have zero or infinity."""
    labels = np.arange(count) % 3
    logits = size * torch.eye(3)[labels]
    assert 0.02 < fit_temperature(logits, labels) <= 1.001
    low, high = calibration.TEMPERATURES
    assert 0.999 <= fit_temperature(logits, (labels + 1) % 3) <= high
    assert np.isfinite(probabilities(logits, low)).all()


def test_sure_and_all_right_is_left_as_it_is():
    labels = np.arange(50) % 3
    assert fit_temperature(40 * torch.eye(3)[labels], labels) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("folds", [2, 5])
def test_cross_fitting_never_uses_the_own_fold(folds):
    logits, labels = calibrated(203, seed=2)
    found, temperatures = cross_fitted(3 * logits, labels, seed=4, folds=folds)
    assert temperatures.shape == (folds,) and len(set(temperatures)) == folds
    seen = np.zeros(len(labels), int)
    parts = KFold(folds, shuffle=True, random_state=4).split(labels)
    for temperature, (others, own) in zip(temperatures, parts, strict=True):
        assert temperature == fit_temperature(3 * logits[others], labels[others])
        assert np.array_equal(found[own], probabilities(3 * logits[own], temperature))
        seen[own] += 1
    assert (seen == 1).all()


def test_changing_the_label_of_a_photo_does_not_change_its_probabilities():
    logits, labels = calibrated(40)
    before, _ = cross_fitted(logits, labels)
    changed = labels.copy()
    changed[7] = (changed[7] + 1) % 5
    after, _ = cross_fitted(logits, changed)
    assert np.array_equal(before[7], after[7])
    assert not np.array_equal(before, after)


def test_folds_follow_the_seed():
    logits, labels = calibrated(40)
    first, again, other = (cross_fitted(logits, labels, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


# --- coverage -----------------------------------------------------------------------------------


def test_coverage_by_hand():
    curve = coverage_curve(SURE, TRUTH)  # surest first: right, right, wrong, right
    assert curve["threshold"].tolist() == [0.9, 0.8, 0.7, 0.6]
    assert curve["coverage"].tolist() == [0.25, 0.5, 0.75, 1]
    assert curve["accuracy"].tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert accuracy_at(curve, 0.5) == 1
    assert accuracy_at(curve, 0.51) == pytest.approx(2 / 3)  # never fewer than asked for
    assert accuracy_at(curve, 0.001) == 1
    assert area_under_coverage(curve) == pytest.approx((1 + 1 + 2 / 3 + 3 / 4) / 4)


def test_equally_sure_photos_are_answered_together():
    tied = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.8, 0.2], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 1, 1])
    curve = coverage_curve(tied, truth)
    assert curve["coverage"].tolist() == pytest.approx([0.2, 0.8, 1])
    assert curve["accuracy"].tolist() == pytest.approx([1, 2 / 4, 3 / 5])
    # Nothing between can be had; and the order in which the photos lie changes nothing.
    assert accuracy_at(curve, 0.4) == 0.5
    turned = coverage_curve(tied[::-1].copy(), truth[::-1].copy())
    assert turned.equals(curve)
    assert area_under_coverage(curve) == pytest.approx(0.2 * 1 + 0.6 * 0.5 + 0.2 * 0.6)


def test_full_coverage_is_the_accuracy():
    logits, labels = calibrated(777)
    curve = coverage_curve(probabilities(logits), labels)
    assert accuracy_at(curve, 1.0) == pytest.approx(quick_metrics(logits, labels)["accuracy"])
    assert curve["coverage"].iloc[-1] == 1 and curve["coverage"].is_monotonic_increasing
    assert accuracy_at(curve, 0.5) > accuracy_at(curve, 1.0) + 0.1  # confidence tells something
    third = coverage_curve(probabilities(logits[:10]), labels[:10])
    assert accuracy_at(third, 0.1 + 0.2) == accuracy_at(third, 0.3)


def test_metrics_for_a_record():
    logits, labels = calibrated(2000)
    found = trust_metrics(3 * logits, labels)
    assert all(type(value) is float for value in found.values())
    json.dumps(found, allow_nan=False)
    assert found["ece"] == calibration_error(probabilities(3 * logits), labels)
    assert found["ece_calibrated"] < 0.05 < found["ece"]
    assert found["temperature"] == pytest.approx(3, rel=0.1)
    accuracy = quick_metrics(logits, labels)["accuracy"]
    assert found["accuracy_at_80"] - found["accuracy_at_80_gain"] == pytest.approx(accuracy)
    assert found["accuracy_at_80_gain"] > 0.05
    assert accuracy < found["area_under_coverage"] < 1
    calm, _ = cross_fitted(3 * logits, labels)
    assert found["accuracy_at_80"] == accuracy_at(coverage_curve(calm, labels), 0.8)


# --- rejection ----------------------------------------------------------------------------------


def test_scores_of_logits():
    logits, _ = calibrated(20)
    assert np.allclose(max_softmax(logits), logits.softmax(1).max(1).values)
    assert np.allclose(energy(logits), torch.logsumexp(logits, 1))
    # Adding to all logits is invisible to the softmax, not to the energy.
    assert np.allclose(max_softmax(logits + 3), max_softmax(logits), atol=1e-6)
    assert np.allclose(energy(logits + 3), energy(logits) + 3, atol=1e-5)


@pytest.mark.parametrize("cells", [1, 50, 10**6])
def test_nearest_similarity_is_the_largest_cosine(cells, monkeypatch):
    monkeypatch.setattr(rejection_module, "CELLS", cells)  # one row at a time, some, all
    generator = np.random.default_rng(0)
    features, gallery = generator.normal(size=(7, 4)), 9 * generator.normal(size=(20, 4))
    theirs = cosine_similarity(features, gallery).max(1)
    found = nearest_similarity(features, gallery)
    assert found.shape == (7,) and found == pytest.approx(theirs, abs=1e-5)
    assert np.array_equal(nearest_similarity(torch.from_numpy(features), gallery), found)


def test_nearest_similarity_knows_its_own_gallery():
    gallery = np.random.default_rng(0).normal(size=(5, 3))
    assert nearest_similarity(2 * gallery, gallery) == pytest.approx(1)
    assert nearest_similarity(np.zeros((1, 3)), gallery) == pytest.approx(0)


@pytest.mark.parametrize("decimals", [0, 1, 9])  # few decimals make many ties
def test_auroc_is_scikit_learns(decimals):
    generator = np.random.default_rng(decimals)
    known = generator.normal(1, 1, 80).round(decimals)
    unknown = generator.normal(0, 1, 50).round(decimals)
    theirs = roc_auc_score(np.repeat([1, 0], (80, 50)), np.concatenate([known, unknown]))
    assert rejection(known, unknown)["auroc"] == pytest.approx(theirs)


def test_fpr95_by_hand():
    known = np.arange(1, 21)  # 19 of 20 are accepted from 2 on
    assert rejection(known, np.array([0, 1, 1.9, 2, 30]))["fpr95"] == pytest.approx(2 / 5)
    tied = np.array([1, 1, 1] + [5] * 17)  # refusing one of the ones refuses all: too many
    assert rejection(tied, np.array([0, 1, 2, 9]))["fpr95"] == pytest.approx(3 / 4)
    assert rejection(np.array([3.0]), np.array([2, 3, 4]))["fpr95"] == pytest.approx(2 / 3)


def test_rejection_at_its_best_and_worst():
    low, high = np.arange(10), np.arange(10) + 10
    best, worst = rejection(high, low), rejection(low, high)
    assert best == {"auroc": 1, "auroc_interval": [1, 1], "fpr95": 0, "fpr95_interval": [0, 0]}
    assert (worst["auroc"], worst["fpr95"]) == (0, 1)
    same = rejection(np.ones(9), np.ones(4))
    assert (same["auroc"], same["fpr95"]) == (0.5, 1)


def test_intervals_of_rejection_hold_the_value_and_know_both_samples():
    generator = np.random.default_rng(0)
    known, unknown = generator.normal(1, 1, 400), generator.normal(0, 1, 400)
    found = rejection(known, unknown)
    assert found == rejection(known, unknown) != rejection(known, unknown, seed=1)
    for name in ("auroc", "fpr95"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high
    # Hanley and McNeil 1982 (doi:10.1148/radiology.143.1.7063747) for both samples at once.
    a, n = found["auroc"], 400
    extra = (n - 1) * (a / (2 - a) - a**2) + (n - 1) * (2 * a**2 / (1 + a) - a**2)
    deviation = np.sqrt((a * (1 - a) + extra) / n**2)
    low, high = found["auroc_interval"]
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.15)
    few = rejection(known, unknown[:20])["auroc_interval"]
    assert few[1] - few[0] > 2 * (high - low)


# --- two networks -------------------------------------------------------------------------------


def test_mcnemar_by_hand():
    # Of 20 photos both get 6 right and 4 wrong; a alone gets 1, b alone gets 9.
    labels = np.zeros(20, int)
    a = np.array([0] * 6 + [1] * 4 + [0] * 1 + [1] * 9)
    b = np.array([0] * 6 + [2] * 4 + [1] * 1 + [0] * 9)
    found = mcnemar(labels, a, b)
    assert (found["only_a_right"], found["only_b_right"]) == (1, 9)
    assert found["p_value"] == pytest.approx(2 * (1 + 10) / 2**10)
    assert found["p_value"] == pytest.approx(binomtest(1, 10).pvalue)
    assert found["difference"] == pytest.approx(8 / 20)
    low, high = found["difference_interval"]
    assert 0 < low < 0.4 < high < 1
    swapped = mcnemar(labels, b, a)
    assert swapped["p_value"] == found["p_value"]
    assert swapped["difference_interval"] == pytest.approx([-high, -low])
    json.dumps(found, allow_nan=False)


def test_mcnemar_of_equal_networks():
    labels, answers = np.arange(6), np.array([0, 1, 2, 0, 0, 0])
    assert mcnemar(labels, answers, answers) == {
        "only_a_right": 0,
        "only_b_right": 0,
        "p_value": 1.0,
        "difference": 0.0,
        "difference_interval": [0.0, 0.0],
    }
    # Other wrong answers are wrong all the same.
    assert mcnemar(labels, answers, np.array([0, 1, 2, 5, 5, 4]))["p_value"] == 1


def test_the_paired_interval_is_narrower_than_two_apart():
    """Networks that fail on the same photos differ more surely than their accuracies do."""
    generator = np.random.default_rng(0)
    labels, hard = np.zeros(1000, int), generator.random(1000) < 0.4
    a = hard.astype(int)
    b = (hard & (generator.random(1000) < 0.9)).astype(int)
    low, high = mcnemar(labels, a, b)["difference_interval"]
    apart = 2 * 1.96 * np.sqrt((0.4 * 0.6 + 0.36 * 0.64) / 1000)
    assert low > 0 and high - low < 0.6 * apart


# --- what cannot be judged ----------------------------------------------------------------------

LOGITS, LABELS = torch.zeros(3, 2), np.array([0, 1, 0])


@pytest.mark.parametrize("judge", [fit_temperature, cross_fitted, trust_metrics])
def test_logits_that_cannot_be_judged_are_named(judge):
    with pytest.raises(RunError, match="no photos"):
        judge(LOGITS[:0], LABELS[:0])
    with pytest.raises(RunError, match="3 photos but 2 labels"):
        judge(LOGITS, LABELS[:2])
    with pytest.raises(RunError, match="0…1; leave out unlabelled"):
        judge(LOGITS, np.array([0, -1, 1]))
    with pytest.raises(RunError, match="not finite"):
        judge(LOGITS * float("nan"), LABELS)
    with pytest.raises(RunError, match=r"\(photos, classes\), not of shape \(3,\)"):
        judge(LOGITS[:, 0], LABELS)


@pytest.mark.parametrize("judge", [reliability, calibration_error, coverage_curve])
def test_probabilities_that_cannot_be_judged_are_named(judge):
    with pytest.raises(RunError, match="no photos"):
        judge(SURE[:0], TRUTH[:0])
    with pytest.raises(RunError, match="4 photos but 3 labels"):
        judge(SURE, LABELS)
    for logits in (LOGITS.numpy(), np.array([[2.0, -1], [2, -1], [0, 1]])):
        with pytest.raises(RunError, match="no probabilities"):
            judge(logits, LABELS)


def test_other_bad_inputs_are_named():
    for temperature in (0, -1, float("nan"), float("inf")):
        with pytest.raises(RunError, match="temperature"):
            probabilities(LOGITS, temperature)
    for folds in (0, 1, 4):
        with pytest.raises(RunError, match=f"3 photos cannot be divided into {folds} folds"):
            cross_fitted(LOGITS, LABELS, folds=folds)
    with pytest.raises(RunError, match="at least one bin"):
        reliability(SURE, TRUTH, bins=0)
    for share in (0, 1.1, float("nan")):
        with pytest.raises(RunError, match="coverage"):
            accuracy_at(coverage_curve(SURE, TRUTH), share)
    with pytest.raises(RunError, match="equal dims"):
        nearest_similarity(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(RunError, match="gallery of no photos"):
        nearest_similarity(np.ones((2, 3)), np.ones((0, 3)))
    with pytest.raises(RunError, match="not finite"):
        nearest_similarity(np.ones((2, 3)), np.full((2, 3), np.nan))
    for bad in ([], [np.nan]):
        with pytest.raises(RunError, match="scores of unknown cars"):
            rejection(np.ones(3), np.array(bad))
        with pytest.raises(RunError, match="scores of known cars"):
            rejection(np.array(bad), np.ones(3))
    for answers in (np.array([], int), np.array([0, 1])):
        with pytest.raises(RunError, match="same photos"):
            mcnemar(answers, answers, LABELS)
    with pytest.raises(RunError, match="at least one"):
        mcnemar(*[np.array([], int)] * 3)


# --- pictures -----------------------------------------------------------------------------------


def names_of(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_reliability_diagram_draws_every_table():
    logits, labels = calibrated(300)
    tables = {
        name: reliability(probabilities(3 * logits, temperature), labels, bins=10)
        for name, temperature in (("raw", 1), ("after temperature", 3))
    }
    top, bottom = plots.reliability_diagram(tables).axes
    assert names_of(top) == list(tables)
    diagonal, *drawn = top.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    for line, table in zip(drawn, tables.values(), strict=True):
        assert np.array_equal(line.get_xdata(), table["confidence"])
        assert np.array_equal(line.get_ydata(), table["accuracy"])
    assert len({line.get_color() for line in drawn}) == len({ln.get_linestyle() for ln in drawn})
    bars = [np.array([bar.get_height() for bar in group]) for group in bottom.containers]
    assert [group.sum() for group in bars] == pytest.approx([1, 1])
    assert len(bars[0]) == len(tables["raw"])
    for group, table in zip(bottom.containers, tables.values(), strict=True):
        for bar, low, high in zip(group, table["low"], table["high"], strict=True):
            assert low <= bar.get_x() and bar.get_x() + bar.get_width() <= high


def test_coverage_draws_every_curve_to_its_end():
    logits, labels = calibrated(100)
    found = {f"network {n}": coverage_curve(probabilities(logits * n), labels) for n in range(1, 9)}
    (ax,) = plots.coverage(found).axes
    assert names_of(ax) == list(found)  # more curves than colors
    for line, curve in zip(ax.lines, found.values(), strict=True):
        assert np.array_equal(line.get_xdata(), curve["coverage"])
        assert np.array_equal(line.get_ydata(), curve["accuracy"])
    assert ax.get_xlim() == (0, 1) and ax.get_ylim()[1] == 1
