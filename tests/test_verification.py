"""Decisions on pairs: against scikit-learn, against small cases done by hand, and frozen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import write_compcars
from sklearn.metrics import f1_score, roc_auc_score, roc_curve
from toys import toy_recipe
from typer.testing import CliRunner

from carlib import plots
from carlib.cli import app
from carlib.data.catalog import Catalog
from carlib.data.opening import open_catalog
from carlib.data.pairs import LEVELS, make_lists, make_pairs
from carlib.data.readers import compcars
from carlib.data.sources import FolderSource
from carlib.errors import DataError, RunError
from carlib.evaluation.evaluate import evaluate
from carlib.evaluation.metrics import FEWER_RESAMPLES, interval
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import load_records
from carlib.experiment.resampling import pair_draws
from carlib.retrieval.deciding import Decision, curve_scores, roc, verification_scores
from carlib.retrieval.embeddings import Embeddings, scaled
from carlib.retrieval.verification import (
    VerificationProtocol,
    by_viewpoints,
    hardest,
    has_protocol,
    score_verification,
    similarities,
)
from carlib.training.loop import load_or_train


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


# --- the record of a network ---


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """The drawn cars as CompCars, lists included."""
    return write_compcars(tmp_path_factory.mktemp("compcars") / "tree", size=40)


def siamese(**changes: object) -> Recipe:
    """Study S0's method on the smallest network: enough to go the whole way."""
    plain = dict(
        name="siamese_toy", embedding=16, loss="contrastive", sampler="pairs", epochs=2,
        augment="none", size=32, store_size=32, crop="box", margin=0.1,
    )  # fmt: skip
    return toy_recipe(**(plain | changes))


def test_official_lists_go_the_whole_way(drawn, tmp_path) -> None:
    catalog = open_catalog(f"{drawn}#verification").with_val()
    learned, fitted, scored = (set(catalog.select(s).labels) for s in ("train", "val", "test"))
    assert not learned & fitted and not learned & scored and not fitted & scored
    checkpoint, run = load_or_train(siamese(), catalog, progress=False)
    record = score_verification(checkpoint, catalog, run, progress=False)
    assert record.extra["lists"] == "official" and record.data["split"] == "test"
    assert record.extra["pairs"] == {lv: len(compcars.read_pairs(drawn, lv)) for lv in LEVELS}
    for level in LEVELS:
        low, high = record.metrics[f"{level}_auc_interval"]
        assert 0 <= low <= record.metrics[f"{level}_auc"] <= high <= 1
        counted = record.extra[level]["same"] + record.extra[level]["other"]
        assert sum(counted) == record.extra["pairs"][level]
        assert record.extra[level]["tar"] == sorted(record.extra[level]["tar"])
    assert {row["viewpoints"] for row in record.extra["easy"]["viewpoints"]} <= {
        f"{side} + {side}" for side in compcars.VIEWPOINTS
    }
    ledger = (tmp_path / "results" / "test_ledger.jsonl").read_text(encoding="utf-8")
    assert checkpoint.hash in ledger  # the lists are of test photos
    record.write()


@pytest.mark.parametrize("target", ["", "#make"])
def test_models_and_makes_are_classified_from_the_official_lists(drawn, target) -> None:
    catalog = open_catalog(f"{drawn}{target}").with_val()
    recipe = toy_recipe(epochs=1, crop="box", margin=0.1)
    checkpoint, run = load_or_train(recipe, catalog, progress=False)
    record = evaluate(checkpoint, catalog, "val", run)
    assert record.data["photos"] == catalog.split_sizes["val"]
    assert len(record.per_class) == catalog.num_classes == (8 if target else 24)


def test_a_listed_photo_that_is_absent_is_counted_and_its_pairs_left_out(drawn, tmp_path) -> None:
    tree = shutil.copytree(drawn, tmp_path / "tree")
    pairs = compcars.read_pairs(tree, "hard")
    absent = pairs["a"][0]
    (tree / absent).unlink()
    catalog = open_catalog(f"{tree}#verification")
    checkpoint = Checkpoint.begin(siamese(), catalog)
    extra = score_verification(checkpoint, catalog, progress=False).extra
    left = ((pairs["a"] != absent) & (pairs["b"] != absent)).sum()
    assert extra["pairs"]["hard"] == left < len(pairs)
    assert extra["pairs_left_out"] >= len(pairs) - left


def test_a_photo_that_cannot_be_read_is_in_no_pair(drawn, tmp_path) -> None:
    tree = shutil.copytree(drawn, tmp_path / "tree")
    whole = open_catalog(tree).with_val()
    absent = whole.unseen_classes(12).table["path"][0]
    (tree / absent).unlink()
    checkpoint = Checkpoint.begin(siamese(), whole.select_classes(range(12)))
    trial = VerificationProtocol.of(checkpoint, whole, progress=False)
    paired = pd.concat([trial.fitting, *trial.scored.values()])
    assert absent not in set(paired["a"]) | set(paired["b"])


def test_classes_that_were_not_learned_fit_and_are_scored_apart() -> None:
    catalog = open_catalog("showroom").with_val().select_classes(range(0, 48, 2))
    checkpoint = Checkpoint.begin(siamese(), catalog.select_classes(range(12)))
    trial = VerificationProtocol.of(checkpoint, catalog, progress=False)
    name = catalog.table.set_index("path")["class_name"]
    sides = [
        set(pd.concat([pairs["a"], pairs["b"]]).map(name))
        for pairs in (trial.fitting, pd.concat(trial.scored.values()))
    ]
    assert not sides[0] & sides[1] and len(sides[0]) == len(sides[1]) == 6
    assert not (sides[0] | sides[1]) & set(checkpoint.class_names)
    assert set(trial.scored) == set(LEVELS)


def test_a_network_that_learned_every_class_has_no_trial(toys) -> None:
    checkpoint = Checkpoint.begin(toy_recipe(), toys)
    assert not has_protocol(checkpoint, toys)
    with pytest.raises(RunError, match="has learned its classes"):
        VerificationProtocol.of(checkpoint, toys)


def test_the_command_scores_a_recipe_before_any_training(drawn, tmp_path) -> None:
    arguments = ["compare", "siamese_scratch", "--data", f"{drawn}#verification"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "AUC, hard" in done.output
    kinds = {record.kind for record in load_records(tmp_path / "results")}
    assert kinds == {"retrieval", "verification"}


def test_pairs_are_drawn_side_by_side(drawn) -> None:
    catalog = open_catalog(f"{drawn}#verification")
    pairs = make_pairs(catalog.select("test"), "hard", count=4).assign(similarity=0.5)
    figure = plots.pair_rows(catalog, pairs, columns=2)
    assert sum(bool(ax.images) for ax in figure.axes) == 2 * len(pairs)
    similarity, same, _ = problem()
    assert plots.similarity_histograms({"easy": (similarity, same)}, threshold=0.2).axes
    assert plots.roc_curves({"toy": roc(similarity, same)}).axes


def test_every_list_draws_anew_which_classes_meet() -> None:
    """Of twenty classes 190 pairs can meet; lists in the order of the labels would have ten."""
    table = pd.DataFrame(
        {"path": [f"{n:03}.jpg" for n in range(160)], "label": np.arange(160) // 8}
    )
    names = tuple(f"class {label}" for label in range(20))
    catalog = Catalog.from_rows(table, names, "many", FolderSource("."))
    lists = make_lists(catalog, "medium", 10)
    labels = dict(zip(table["path"], table["label"], strict=True))
    others = lists[~lists["same"]]
    met = {frozenset((labels[a], labels[b])) for a, b in zip(others["a"], others["b"], strict=True)}
    assert len(met) > 80 and all(len(pair) == 2 for pair in met)


def test_classes_are_drawn_in_one_way() -> None:
    """What a mistake wins and what a list scores are told with the same draws of classes."""
    draw = np.random.default_rng(3)
    classes = draw.integers(0, 9, (400, 2))
    classes[::2, 1] = classes[::2, 0]
    same = classes[:, 0] == classes[:, 1]
    similarity = draw.normal(size=400) + same
    decision = Decision(0.5, 1.0, 0.0, 400)
    told = verification_scores(similarity, same, classes, decision)["accuracy_interval"]
    weights = pair_draws(classes, same, FEWER_RESAMPLES)
    right = (similarity >= decision.threshold) == same
    assert interval(weights @ right / weights.sum(1)) == pytest.approx(told)
