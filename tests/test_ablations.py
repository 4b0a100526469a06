"""Studies on toys: every combination is trained, and rows say what single runs say."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from toys import SHAPES, toy_recipe

from carlib.apps.export import deployment_record
from carlib.data.catalog import Catalog
from carlib.errors import RunError
from carlib.evaluation.evaluate import evaluate
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.record import read_record
from carlib.experiment.registry import RECIPES, get_recipe
from carlib.experiment.run import Run
from carlib.explain.scored_images import see
from carlib.paths import results_root
from carlib.retrieval.axes import WAYS, Way
from carlib.retrieval.trials import TRIALS, TRIED_WAYS, axes_study, trial_recipe, trials_study
from carlib.training.ablations import (
    ANSWERS_TO_IMBALANCE,
    LEARNERS,
    _copied_features,
    imbalance_study,
    leak_study,
    unknown_study,
)
from carlib.training.leads import LEADS, leads_study
from carlib.training.loop import train

FROZEN = dict(model="resnet18", plan="head", augment="none", size=32, store_size=32, lr=1e-2)


def test_imbalance_sets_objectives_side_by_side(toys):
    base = toy_recipe(**FROZEN, epochs=2)
    record = imbalance_study(toys, base, factors=(1, 8), seeds=(0, 1), say=lambda line: None)
    rows = record.extra["rows"]
    assert len(rows) == 2 * len(ANSWERS_TO_IMBALANCE)
    assert [row["factor"] for row in rows[:5]] == [1] * 5
    runs = [base.but(imbalance=8.0, loss="focal", seed=seed) for seed in (0, 1)]
    folders = [Run.of(one.but(name="toy-8-focal"), toys).folder for one in runs]
    scores = [evaluate(Checkpoint.load(f), toys).metrics for f in folders]
    (row,) = (r for r in rows if (r["factor"], r["objective"]) == (8, "focal"))
    balanced = [one["balanced_accuracy"] for one in scores]
    assert row["balanced_accuracy"] == pytest.approx(sum(balanced) / 2)
    assert row["balanced_accuracy_sd"] == pytest.approx(abs(balanced[0] - balanced[1]) / 2**0.5)
    read_record(record.write(results_root()))


def test_an_unknown_car_is_one_that_no_photo_of_was_trained_on(toys):
    record = unknown_study(toys, toy_recipe(epochs=8), held_out=1)
    assert record.extra["held_out"] == [SHAPES[-1]]
    assert record.extra["photos"] == {"known": 12, "unknown": 24}
    rows = {row["score"]: row for row in record.extra["rows"]}
    assert set(rows) == {"max softmax", "energy", "nearest feature"}
    for row in rows.values():
        low, high = row["auroc_interval"]
        assert 0 <= low <= row["auroc"] <= high <= 1 and 0 <= row["fpr95"] <= 1
    found = {name.replace(" ", "_"): row["auroc"] for name, row in rows.items()}
    assert record.metrics == {f"auroc_{name}": value for name, value in found.items()}
    assert max(found.values()) > 0.6
    read_record(record.write(results_root()))


@pytest.mark.parametrize("held_out", [0, 3, 4])
def test_two_classes_must_remain_known(toys, held_out):
    with pytest.raises(RunError, match=f"cannot hold out {held_out} of 4 classes"):
        unknown_study(toys, toy_recipe(), held_out)


def test_copies_of_a_photo_on_both_sides_flatter(toys):
    """Labels that mean nothing cannot be learned, but copies of learned photos are known again."""
    labels = np.random.default_rng(0).integers(4, size=len(toys))
    rows = toys.table[["path", "split"]].assign(label=labels)
    meaningless = Catalog.from_rows(rows, toys.class_names, "meaningless", toys.source)
    record = leak_study(
        meaningless, toy_recipe(**FROZEN), copies=3, augment="none", seeds=(0, 1), progress=False
    )
    found = {(row["divided"], row["learner"]): row for row in record.extra["rows"]}
    assert set(found) == {(d, one) for d in ("photos", "copies") for one in LEARNERS}
    for learner in LEARNERS:
        honest, leaky = found["photos", learner], found["copies", learner]
        assert honest["known"] == 0 and leaky["known"] > 0.9
        assert honest["accuracy"] + 0.2 < leaky["accuracy"]
        gain = record.metrics[f"{learner.replace(' ', '_')}_gain"]
        assert gain == pytest.approx(leaky["accuracy"] - honest["accuracy"])
    leaky = found["copies", "nearest neighbor"]
    assert leaky["accuracy"] >= leaky["known"]  # its sister is the same to the pixel
    assert record.extra["photos"] == len(toys)
    read_record(record.write(results_root()))


def test_copies_are_augmented_and_in_the_order_of_their_photos(toys):
    recipe = toy_recipe(**FROZEN).but(augment="standard")
    values, places = _copied_features(toys, recipe, 3, progress=False)
    plain, _ = _copied_features(toys, recipe.but(augment="none"), 3, progress=False)
    assert values.shape == plain.shape == (3 * len(places), 512)
    one = plain.reshape(len(places), 3, -1)
    np.testing.assert_allclose(one[:, 0], one[:, 2], rtol=1e-4, atol=1e-4)
    assert np.abs(one[0, 0] - one[1, 0]).max() > 1e-3
    copied = values.reshape(len(places), 3, -1)
    assert np.abs(copied[:, 0] - copied[:, 1]).max(1).min() > 1e-4


def test_a_network_that_compares_is_not_scored_as_one_that_names(toys):
    embedder = toy_recipe(embedding=8, loss="contrastive", sampler="per_class")
    network = Checkpoint.begin(embedder, toys)
    asked = (
        lambda: see(network, toys),  # what maps are scored on
        lambda: deployment_record(network, toys),
        lambda: unknown_study(toys, embedder, 1),
        lambda: imbalance_study(toys, embedder),
        lambda: leads_study(toys, embedder, {}),
        lambda: train(embedder, toys, keep_epochs=True),
    )
    for ask in asked:
        with pytest.raises(RunError, match="names no class; use: carlib compare"):
            ask()


# --- what was tried -------------------------------------------------------------------------------


def test_leads_are_judged_by_photos_kept_back(toys):
    base = toy_recipe(epochs=6, lr=4e-3, eval_every=6)
    leads = {"a rate that teaches nothing": {"lr": 1e-9}}
    record = leads_study(toys, base, leads, progress=False, say=lambda line: None)
    first, lead = record.extra["rows"]
    assert (record.topic, record.data["split"], record.data["photos"]) == ("leads", "train", 8)
    assert first["difference"] == 0 and first["difference_interval"] == [0, 0]
    assert lead["difference"] == lead["dev_accuracy"] - first["dev_accuracy"] < -0.3
    assert lead["difference_interval"][1] < 0 and lead["tflop"] == first["tflop"] > 0


def test_every_lead_changes_one_thing_of_a_recipe():
    base = get_recipe("lite0_cpu")
    methods = [base.variant(**changes).method for changes in LEADS.values()]
    assert base.method not in methods and len(set(methods)) == len(LEADS)


def test_trials_are_judged_by_classes_that_were_not_learned(toys, monkeypatch):
    short = {"epochs": 2, "eval_every": 2}
    for name in ("one", "other"):
        monkeypatch.setitem(RECIPES, name, toy_recipe(name=name, lr=4e-3, seed=len(name)))
    monkeypatch.setitem(TRIALS, "one", {"slow": {"lr": 1e-9}, "fast": {}})
    monkeypatch.setitem(TRIALS, "other", {"as it is": {}})
    quiet = {"short": short, "progress": False, "say": lambda line: None}
    record, other = (trials_study(toys, name, 2, 2, **quiet) for name in ("one", "other"))
    rows = record.extra["rows"]
    assert [row["trial"] for row in rows] == ["slow", "fast"]
    assert [row["trial"] for row in other.extra["rows"] if row["best"]] == ["as it is"]
    (best,) = (row["recall_at_1"] for row in rows if row["best"])
    assert best == max(row["recall_at_1"] for row in rows) == record.metrics["best_recall_at_1"]
    assert record.extra["judging_classes"] == list(SHAPES[2:]) and record.data["classes"] == 2
    assert record.write(results_root()) != other.write(results_root())
    with pytest.raises(RunError, match="has 4 classes, and trials want 3 to learn and 2 to judge"):
        trials_study(toys, "one", 3, 2)
    with pytest.raises(RunError, match="'fronts' has no trials; those that have: lite0_cpu, "):
        trials_study(toys, "fronts", 2, 2)


def test_axes_are_chosen_by_classes_that_no_result_is_told_of(toys):
    record = axes_study(toys, toy_recipe(), learned=2, judging=2)
    rows = {row["way"]: row for row in record.extra["rows"]}
    assert set(rows) == set(TRIED_WAYS)
    assert record.extra["judging_classes"] == list(SHAPES[2:])
    chosen = [Way(**{key: row[key] for key in asdict(Way())}) for row in rows.values()]
    assert {WAYS[name] for name in ("plain", "centered", "softened")} <= set(chosen)
    assert all(0 <= row["recall_at_1"] <= 1 and 0 <= row["auc"] <= 1 for row in rows.values())
    record.write(results_root())
    with pytest.raises(RunError, match="want 3 to learn and 2 to judge"):
        axes_study(toys, toy_recipe(), learned=3, judging=2)


@pytest.mark.parametrize("name", TRIALS)
def test_every_loss_has_as_many_trials(name):
    recipes = [trial_recipe(get_recipe(name), changes) for changes in TRIALS[name].values()]
    assert len({recipe.method for recipe in recipes}) == len(recipes) == 4
    assert {(recipe.epochs, recipe.size, recipe.dev) for recipe in recipes} == {(6, 128, 0.0)}
