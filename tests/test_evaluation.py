"""Metrics: against scikit-learn and torchmetrics, and on the cases that mislead."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
import torch
from toys import SHAPES, toy_recipe

from carlib.data.catalog import Catalog
from carlib.data.samplers import long_tail
from carlib.data.sources import FolderSource
from carlib.errors import DataError, RunError
from carlib.evaluation import metrics
from carlib.evaluation.evaluate import VIEWS, evaluate, evaluate_views, logits_of
from carlib.evaluation.metrics import (
    answers_of,
    attribute_hits,
    bootstrap,
    bootstrap_mean,
    confused_pairs,
    group_accuracy,
    per_class,
    quick_metrics,
    ranks_of,
    score,
)
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.outputs import class_table
from carlib.experiment.record import read_record
from carlib.paths import results_root
from carlib.training.loop import train

NAMES = (  # three makes, and two years of one model
    "Acura RL Sedan 2012",
    "Acura TL Sedan 2012",
    "BMW M3 Coupe 2012",
    "Audi S5 Coupe 2012",
    "Audi S5 Convertible 2012",
    "BMW M5 Sedan 2010",
)


def cars() -> Catalog:
    labels = np.arange(len(NAMES))
    rows = pd.DataFrame({"path": [f"{i}.jpg" for i in labels], "label": labels})
    return Catalog.from_rows(rows, NAMES, "cars", FolderSource("."))


def problem(count: int = 200, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Logits (count, 6) that are right about half of the time, and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(6, count, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05])
    logits = generator.normal(size=(count, 6)) + 1.5 * np.eye(6)[labels]
    return torch.from_numpy(logits).float(), labels


@pytest.mark.parametrize("count", [1, 7, 750, 5000])
def test_a_bootstrap_of_the_mean_draws_as_any_other(count) -> None:
    values = np.random.default_rng(count).random(count)
    (value, draws), found = (
        bootstrap(count, lambda at: values[at].mean(), 3),
        bootstrap_mean(values, 3),
    )
    assert found[0] == pytest.approx(value)
    np.testing.assert_allclose(found[1], draws, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_those_of_scikit_learn(seed):
    logits, labels = problem(seed=seed)
    answers, found = logits.argmax(1).numpy(), score(logits, labels, class_table(cars()))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, answers))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, answers))
    assert found["kappa"] == pytest.approx(sk.cohen_kappa_score(labels, answers))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, answers))
    assert found["hamming_loss"] == pytest.approx(1 - found["accuracy"])
    matrix = sk.confusion_matrix(labels, answers)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    assert found["macro_jaccard"] == pytest.approx((np.diag(matrix) / union).mean())
    for average in ("macro", "weighted"):
        theirs = sk.precision_recall_fscore_support(
            labels, answers, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), theirs, strict=False):
            assert found[f"{average}_{name}"] == pytest.approx(value)
    for k in (3, 5):
        theirs = sk.top_k_accuracy_score(labels, logits.numpy(), k=k)
        assert found[f"top{k}"] == pytest.approx(theirs)
    assert found["accuracy"] <= found["top3"] <= found["top5"]
    assert found["loss"] == pytest.approx(sk.log_loss(labels, logits.double().softmax(1).numpy()))


def test_confusion_matrix_is_scikit_learns():
    logits, labels = problem()
    answers = logits.argmax(1).numpy()
    theirs = sk.confusion_matrix(labels, answers, labels=range(7))
    assert (metrics.confusion(labels, answers, 7) == theirs).all()


def test_metrics_equal_those_of_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = problem()
    truth, found = torch.from_numpy(labels), quick_metrics(logits, labels)
    wanted = {"num_classes": 6, "average": "macro"}
    assert found["macro_f1"] == pytest.approx(
        float(metrics.multiclass_f1_score(logits, truth, **wanted))
    )
    assert found["macro_precision"] == pytest.approx(
        float(metrics.multiclass_precision(logits, truth, **wanted))
    )
    top3 = metrics.multiclass_accuracy(logits, truth, 6, top_k=3, average="micro")
    assert found["top3"] == pytest.approx(float(top3))


def test_quick_and_full_metrics_agree():
    logits, labels = problem()
    quick, full = quick_metrics(logits, labels), score(logits, labels, class_table(cars()))
    assert {k: pytest.approx(v, rel=1e-6) for k, v in quick.items()} == {k: full[k] for k in quick}


def test_intervals_hold_the_value_and_shrink_with_more_photos():
    small, large = (score(*problem(n), class_table(cars())) for n in (100, 1600))
    for found in (small, large):
        for name, (low, high) in ((k, v) for k, v in found.items() if k.endswith("_interval")):
            assert 0 <= low <= found[name.removesuffix("_interval")] <= high <= 1, name
    widths = [high - low for low, high in (f["accuracy_interval"] for f in (small, large))]
    assert 3 < widths[0] / widths[1] < 5.5  # √16 times fewer photos
    p = small["accuracy"]
    assert widths[0] == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 100), rel=0.15)


def test_scores_that_resampling_pulls_down_have_no_interval():
    """Of 4 photos per class half are right; most resamples then score lower, but not in recall."""
    labels = np.repeat(np.arange(40), 4)
    answers = np.where(np.arange(160) % 2, labels, np.arange(160) * 7 % 40)
    _, draws = metrics.bootstrap(
        160, lambda rows: metrics.macro_scores(metrics.confusion(labels[rows], answers[rows], 40))
    )
    value = metrics.macro_scores(metrics.confusion(labels, answers, 40))
    below = (draws < value).mean(axis=0)
    assert below[0] > 0.75 and below[2] > 0.75 and 0.3 < below[1] < 0.7  # precision, F1; recall
    found = score(*problem(), class_table(cars()))
    assert "macro_recall_interval" in found
    assert not {"macro_precision_interval", "macro_f1_interval"} & set(found)


def test_ties_and_what_is_no_number_count_against_the_network():
    logits = torch.tensor([[1.0, 1, 0], [2, 1, 0], [0, 0, 0], [float("nan")] * 3])
    assert ranks_of(logits, np.array([0, 0, 2, 0])).tolist() == [1, 0, 2, 2]
    tied = answers_of(logits, np.array([0, 0, 2, 0])).tolist()  # another one, where it is a tie
    assert tied[:3] == [1, 0, 0] and tied[3] != 0
    some = torch.tensor([[3.0, float("nan"), 0]])
    assert ranks_of(some, np.array([0])).tolist() == [1]
    broken = quick_metrics(torch.full((8, 4), float("nan")), np.arange(8) % 4)
    assert broken["accuracy"] == broken["top3"] == 0


def test_a_class_without_photos_is_left_out_of_the_means():
    logits = torch.eye(6)[[0, 0, 1, 5]] * 9
    found = quick_metrics(logits, np.array([0, 0, 1, 1]))
    assert found["macro_recall"] == pytest.approx(0.75)
    assert found["macro_precision"] == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@pytest.mark.filterwarnings("ignore:.*undefined")
def test_one_answer_for_everything_gives_numbers_all_the_same():
    found = score(torch.eye(6)[[0] * 4] * 9, np.array([0, 0, 0, 0]), class_table(cars()))
    json.dumps(found, allow_nan=False)
    assert found["accuracy"] == 1


def test_right_make_with_the_wrong_model_is_half_the_truth():
    truth, said = np.array([0, 0, 3, 2, 5]), np.array([0, 1, 4, 4, 2])
    hits = attribute_hits(truth, said, class_table(cars()))
    assert hits["make_accuracy"].tolist() == [True, True, True, False, True]
    assert hits["model_accuracy"].tolist() == [True, False, True, False, False]
    assert hits["body_accuracy"].tolist() == [True, True, False, False, False]
    assert hits["year_accuracy"].tolist() == [True, True, True, True, False]


def test_unknown_attributes_are_not_scored():
    rows = pd.DataFrame({"path": ["a", "b"], "label": [0, 1]})
    shapes = Catalog.from_rows(rows, ["red disc", "blue bar"], "x", FolderSource("."))
    assert attribute_hits(np.array([0, 1]), np.array([0, 0]), class_table(shapes)).keys() <= {
        "make_accuracy",
        "model_accuracy",
    }


def test_head_and_tail_follow_the_training_counts():
    counts = np.array([5, 100, 50, 1, 20, 2])  # head: 1, 2; medium: 4, 0; tail: 5, 3
    labels = np.array([1, 2, 1, 4, 0, 3, 5, 5])
    answers = np.array([1, 2, 0, 4, 1, 3, 0, 0])
    assert group_accuracy(labels, answers, counts) == {
        "head_accuracy": pytest.approx(2 / 3),
        "medium_accuracy": 0.5,
        "tail_accuracy": pytest.approx(1 / 3),
    }
    assert group_accuracy(labels[:3], answers[:3], counts).keys() == {"head_accuracy"}


def test_per_class_rows_add_up():
    logits, labels = problem()
    answers = logits.argmax(1).numpy()
    rows = per_class(labels, answers, NAMES)
    theirs = sk.precision_recall_fscore_support(labels, answers, labels=range(6), zero_division=0)
    for column, values in zip(("precision", "recall", "f1", "photos"), theirs, strict=True):
        assert [row[column] for row in rows] == pytest.approx(list(values))
    wrong = np.flatnonzero((labels == 0) & (answers != 0))
    most = np.bincount(answers[wrong], minlength=6)
    assert rows[0]["times"] == most.max() and rows[0]["confused_with"] == NAMES[most.argmax()]
    perfect = per_class(labels, labels, NAMES)
    assert all(row["confused_with"] is None and row["times"] == 0 for row in perfect)


def test_confused_pairs_count_both_directions():
    labels = np.array([0, 0, 0, 1, 1, 2, 3])
    answers = np.array([1, 1, 0, 0, 1, 5, 3])
    pairs = confused_pairs(labels, answers, cars())
    assert pairs.to_dict("records") == [
        {"a": NAMES[0], "b": NAMES[1], "a as b": 2, "b as a": 1, "photos": 5},
        {"a": NAMES[2], "b": NAMES[5], "a as b": 0 + 1, "b as a": 0, "photos": 1},
    ]
    assert confused_pairs(labels, labels, cars()).empty


# --- from checkpoint to record ------------------------------------------------------------------


@pytest.fixture
def trained(toys) -> tuple[Checkpoint, Catalog]:
    table = toys.table.copy()
    table.loc[table.index[::8], "split"] = "test"
    catalog = Catalog(table, toys.class_names, toys.name, toys.source)
    run = train(toy_recipe(epochs=1), catalog, progress=False, workers=0)
    return Checkpoint.load(run.kept), catalog


def test_a_record_holds_what_is_needed_to_repeat_it(trained):
    checkpoint, catalog = trained
    record = evaluate(checkpoint, catalog, "val")
    assert record.data["split_hash"] == catalog.split_hash("val")
    assert record.data["fingerprint"] == catalog.fingerprint
    assert record.checkpoint["hash"] == checkpoint.hash
    assert record.recipe["name"] == "toy" and record.command == command_line()
    assert {row["class"] for row in record.per_class} == set(SHAPES)
    assert {"head_accuracy", "tail_accuracy"} <= record.metrics.keys()
    again = read_record(record.write())
    assert again.metrics["accuracy"] == pytest.approx(record.metrics["accuracy"], rel=1e-5)


def test_only_the_test_split_is_noted_in_the_ledger(trained):
    checkpoint, catalog = trained
    ledger = results_root() / "test_ledger.jsonl"
    evaluate(checkpoint, catalog, "val")
    assert not ledger.exists()
    evaluate(checkpoint, catalog, "test")
    evaluate(checkpoint, catalog, "test")
    entries = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    assert len(entries) == 2 and entries[0]["checkpoint"] == checkpoint.hash
    assert entries[0]["split_hash"] == catalog.split_hash("test")


def test_a_split_that_cannot_be_scored_is_named(trained):
    checkpoint, catalog = trained
    with pytest.raises(DataError, match="no split 'unseen'; its splits are"):
        evaluate(checkpoint, catalog, "unseen")
    table = catalog.table.copy()
    table.loc[table["split"] == "test", ["label", "class_name"]] = pd.NA
    unlabelled = Catalog(table, catalog.class_names, catalog.name, catalog.source)
    with pytest.raises(RunError, match="'test' have no labels"):
        evaluate(checkpoint, unlabelled, "test")


def test_photos_that_cannot_be_read_are_not_scored_as_anything(trained, tmp_path, toy_root):
    checkpoint, catalog = trained
    rows = catalog.table[["path", "label", "split"]].copy()
    empty = Catalog.from_rows(rows, SHAPES, "moved", FolderSource(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no photo can be read"):
        evaluate(checkpoint, empty, "val")
    lost = rows["split"] == "val"
    rows.loc[lost, "path"] = [f"gone/{i}.png" for i in range(lost.sum())]
    partly = Catalog.from_rows(rows, SHAPES, "partly", FolderSource(toy_root))
    with pytest.raises(RunError, match=r"partly: no photo of split 'val' can be read"):
        evaluate(checkpoint, partly, "val")


def test_the_photo_as_it_is_is_what_is_scored(trained, toys):
    checkpoint, _ = trained
    plain = logits_of(checkpoint, toys, "val", progress=False)[0]
    views, _, _ = logits_of(checkpoint, toys, "val", progress=False, views=("plain", "mirror"))
    assert plain.shape == (16, 4) and not torch.equal(views[1], plain)
    assert torch.equal(views[0], plain)


def test_views_are_taken_before_normalizing_once(trained, toys):
    """A view of the photo in 0…1: the nearer one shows its middle, and nothing is scaled twice."""
    checkpoint, _ = trained
    seen = []

    class Looking(torch.nn.Module):
        def forward(self, photos):
            seen.append(photos)
            return torch.zeros(len(photos), 4)

    odd = dataclasses.replace(checkpoint, model=Looking(), mean=(0.5,) * 3, std=(0.5,) * 3)
    logits_of(odd, toys, "val", progress=False, views=tuple(VIEWS))
    plain, mirror, near, near_mirror = seen
    assert all(view.shape == plain.shape for view in seen)
    assert torch.equal(mirror, plain.flip(3)) and torch.equal(near_mirror, near.flip(3))
    assert plain.min() >= -1 and plain.max() <= 1 and plain.min() < -0.5 and plain.max() > 0.5
    middle = torch.nn.functional.interpolate(plain[..., 1:15, 1:15], (16, 16), mode="bilinear")
    assert torch.allclose(near, middle, atol=1e-5)


def test_what_views_gain_comes_with_an_interval(trained, toys):
    checkpoint, _ = trained
    record = evaluate_views(checkpoint, toys)
    alone = evaluate(checkpoint, toys).metrics["accuracy"]
    assert record.kind == "views" and len(record.scoring["views"]) == 4
    assert record.extra["accuracy_by_view"]["plain"] == alone
    assert record.metrics["gain"] == pytest.approx(record.metrics["accuracy"] - alone)
    low, high = record.metrics["gain_interval"]
    assert low <= record.metrics["gain"] <= high


def test_a_long_tail_is_scored_by_the_photos_that_were_trained_on(toys):
    recipe = toy_recipe(imbalance=10.0, epochs=1)
    run = train(recipe, toys, progress=False)
    assert run.summary["photos_seen"] < len(toys.select("train"))
    record = evaluate(Checkpoint.load(run.kept), toys, "val", run)
    labels = toys.select("train").labels
    counts = np.bincount(labels[long_tail(labels, 10.0, recipe.seed)])
    order = np.argsort(-counts, kind="stable")
    by_class = [row["recall"] for row in record.per_class]
    assert record.metrics["tail_accuracy"] == pytest.approx(by_class[order[-1]])
    assert counts.max() >= 5 * counts.min()
