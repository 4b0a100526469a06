"""Heat maps against a known truth: measures on pairs made by hand, and on drawn cars."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from toys import toy_recipe
from typer.testing import CliRunner

from carlib.cli import app
from carlib.data.drawn import open_showroom
from carlib.errors import RunError
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.record import load_records
from carlib.explain import truth
from carlib.explain.counterfactual import SLOW, explain_truth, map_makers, truth_of
from carlib.explain.faithfulness import BLIND, RANDOM
from carlib.explain.maps import METHODS
from carlib.explain.pixel_maps import PIXEL_METHODS, pixel_maps
from carlib.explain.questions import CLASS_NAMES, STEPS, Questions
from carlib.training.loop import load_or_train

SIDE = 32


class ColorNetwork(nn.Module):
    """Class 0 is red, class 1 blue, class 2 neither; answers by how much of each there is."""

    def __init__(self) -> None:
        super().__init__()
        self.colors = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            weights = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [0, 0, 0]])
            self.colors.weight.copy_(weights[..., None, None])
            self.colors.bias.copy_(torch.tensor([0.0, 0.0, 0.01]))

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.colors(photos).relu().mean((2, 3)) * 100


def pair() -> tuple[torch.Tensor, np.ndarray]:
    """A photo with a red square and one with a blue in its place; and where that is."""
    photos = torch.full((2, 3, SIDE, SIDE), 0.4)
    photos[0, 0, 4:12, 20:28], photos[1, 2, 4:12, 20:28] = 1.0, 1.0
    mask = np.zeros((1, SIDE, SIDE), bool)
    mask[:, 4:12, 20:28] = True
    return photos, mask


@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_maps_of_pixels_follow_what_decides(method: str) -> None:
    photos, mask = pair()
    maps = pixel_maps(ColorNetwork(), photos, np.array([[0, 1], [0, 1]]), method)
    assert maps.shape == (2, 2, SIDE, SIDE) and maps.min() >= 0 and maps.max() <= 1
    shares = truth.cause_shares(maps[None], mask)
    assert shares[0, 0, 0] > 0.7 and shares[0, 1, 1] > 0.7 and shares[0, 0, 1] < 0.1
    assert truth.contrastivity(shares) == truth.movement(shares) == 1
    assert truth.correctness(shares, mask) > 10


def test_a_map_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RunError, match="unknown method 'Magic'; known: Gradient, "):
        pixel_maps(ColorNetwork(), pair()[0], np.zeros((2, 1)), "Magic")


def test_a_map_that_does_not_care_for_the_class_is_half_contrastive() -> None:
    maps = np.random.default_rng(0).random((20, 2, 1, SIDE, SIDE)).repeat(2, 2)
    masks = np.repeat(pair()[1], 20, 0)
    shares = truth.cause_shares(maps, masks)
    assert set(truth.contrastivity(shares)) == set(truth.movement(shares)) == {0.5}
    assert abs(truth.correctness(shares, masks).mean() - 1) < 0.1


def test_a_map_that_speaks_for_the_wrong_class_is_not_contrastive() -> None:
    shares = np.array([[[0.1, 0.6], [0.6, 0.1]], [[0.6, 0.1], [0.6, 0.1]]])
    np.testing.assert_array_equal(truth.contrastivity(shares), [0, 0.5])
    np.testing.assert_array_equal(truth.movement(shares), [0, 0.5])


def parts() -> np.ndarray:
    """Four parts, the last of which is not to be seen: a photo's quarters."""
    masks = np.zeros((1, 4, SIDE, SIDE), bool)
    masks[0, 0, :16, :16] = masks[0, 1, :16, 16:] = masks[0, 2, 16:, :16] = True
    return masks


def test_single_deletion_is_the_rank_correlation_of_what_is_marked_with_what_counts() -> None:
    maps = np.zeros((1, SIDE, SIDE))
    maps[0, :16, :16], maps[0, :16, 16:], maps[0, 16:, 16:] = 3, 2, 5
    shares = truth.part_shares(maps, parts())
    np.testing.assert_allclose(shares[0], [0.3, 0.2, 0, np.nan])
    drops = np.array([[2.0, 1.0, -1.0, 99.0]])
    np.testing.assert_allclose(truth.single_deletion(shares, drops), 1)
    np.testing.assert_allclose(truth.single_deletion(shares, -drops), -1)
    flat = np.where(np.isnan(shares), np.nan, 0.1)
    assert truth.single_deletion(flat, drops) == 0
    assert np.isnan(truth.single_deletion(shares, 0 * drops)).all()
    assert np.isnan(truth.single_deletion(np.where(shares > 0.2, shares, np.nan), drops)).all()


def needs_first(photo: int, removed: frozenset[int]) -> int:
    """The answer of a network that needs part 0 and cares for no other."""
    return int(0 in removed)


def test_the_checks_ask_what_is_left_and_what_is_taken() -> None:
    shares = np.array([[0.3, 0.2, 0.0, np.nan], [0.0, 0.2, 0.3, np.nan]])
    preserved, deleted = truth.part_checks(shares, 0.1, needs_first)
    np.testing.assert_array_equal(preserved, [1, 0])
    np.testing.assert_array_equal(deleted, [1, 0])
    nothing, all_stays = truth.part_checks(shares, 0.9, needs_first)
    assert not nothing.any() and not all_stays.any()
    asked = truth.removals(shares[:1], [0.25])  # of what is to be seen
    assert asked == {(0, frozenset()), (0, frozenset({1, 2})), (0, frozenset({0}))}


def test_the_threshold_is_the_one_that_train_pairs_like_best() -> None:
    shares = np.array([[0.25, 0.18, 0.0, np.nan]])
    needs_both = lambda photo, gone: int(bool({0, 1} & gone))  # noqa: E731
    assert truth.best_threshold(shares, needs_first) == 0.01  # of those that tie
    assert truth.best_threshold(shares, needs_both, (0.2, 0.1, 0.3)) == 0.1


def test_only_what_may_change_distracts() -> None:
    maps, changed = np.ones((2, SIDE, SIDE)), np.zeros((2, SIDE, SIDE), bool)
    changed[:, :8] = True
    found = truth.undistracted(maps, changed, np.array([True, False]))
    assert found[0] == 0.75 and np.isnan(found[1])


def test_means_leave_out_what_could_not_be_asked() -> None:
    row = truth.mean_of("m", np.array([0.0, 1.0, np.nan, 1.0]))
    assert row["m"] == pytest.approx(2 / 3)
    assert row["m_interval"][0] < row["m"] < row["m_interval"][1]
    assert truth.mean_of("m", np.array([np.nan])) == {}
    steps = {"1": np.array([True, False]), "2": np.array([False, True])}
    rows = truth.ladder({"m": np.array([0.0, 1.0])}, steps)
    assert [(row["step"], row["pairs"], row["m"]) for row in rows] == [("1", 1, 0), ("2", 1, 1)]


def test_agreement_finds_the_measure_that_ranks_as_the_true_one_does() -> None:
    generator, rows = np.random.default_rng(0), []
    for network in range(6):
        for quality in range(10):
            noise = generator.normal(0, 1)
            good = -quality + noise / 2 + network
            rows.append({"network": network, "true": quality, "good": good, "luck": noise})
    frame = pd.DataFrame(rows).assign(flat=1.0)
    found = truth.agreement(frame, {"luck": 1, "flat": 1, "good": -1}, ["true"])
    assert found["measure"].iloc[0] == "good" and found["correlation"].iloc[0] > 0.9
    by_name = found.set_index("measure")
    assert by_name.loc["flat", "correlation"] == 0 and (found["networks"] == 6).all()
    low, high = by_name.loc["luck", "correlation_interval"]
    assert low < 0 < high
    assert by_name.loc["good", "correlation_interval"][0] > high


# --- the table ----------------------------------------------------------------------------------


def questions(count: int = 6) -> Questions:
    """Squares of two colors on grey, beside a green one that says nothing, on changing ground."""
    photos, mask = pair()
    photos[:, 1, 20:28, 4:12] = 1.0
    photos[:, 1, 20:28, 20:28] = 0.9
    parts = np.zeros((count, 4, SIDE, SIDE), bool)
    parts[:, 0], parts[:, 1, 20:28, 4:12], parts[:, 2, 20:28, 20:28] = mask, True, True
    both = photos.repeat(count, 1, 1, 1, 1)
    both[1::2] = both[1::2].flip(1)
    scenes = both[:, 0].clone()
    scenes[:, :, 13:19] = 0.3
    exchanged = (scenes != both[:, 0]).any(1).numpy()

    def without(number: int, gone: frozenset[int]) -> torch.Tensor:
        photo = both[number, 0].clone()
        for part in gone:
            photo[:, torch.from_numpy(parts[number, part])] = 0.4
        return photo

    labels = np.arange(count) % 2
    return Questions(
        both, np.stack([labels, 1 - labels], 1), mask.repeat(count, 0), labels + 1,
        ("square", "left", "right", "sticker"), parts, without, parts.any(1), scenes, exchanged,
    )  # fmt: skip


def test_the_table_tells_true_maps_from_blind_ones() -> None:
    network = ColorNetwork()
    asked, tuning = questions(), questions(4)
    found = explain_truth(network, network.colors, asked, tuning)
    table = found.table().set_index("map")
    assert list(table.index) == [
        *(name for name in METHODS if name != SLOW),
        *PIXEL_METHODS,
        *BLIND,
    ]
    assert (table[["accuracy", "flips", "moved", "steady"]] == 1).all(axis=None)
    for name in ("Grad-CAM", *PIXEL_METHODS):
        row = table.loc[name]
        assert row["contrastivity"] == row["movement"] == 1 and row["undistracted"] > 0.95, name
        assert row["correctness"] > 8 and row["points_in_cause"] == 1
        assert row["preservation"] == row["deletion_check"] == 1
        assert row["single_deletion"] > 0.8
    for name in ("center", "edges"):
        assert table.loc[name, "contrastivity"] == 0.5
    for row in table.to_dict("records"):
        low, high = row["correctness_interval"]
        assert low <= row["correctness"] <= high
    steps = pd.DataFrame(found.ladder()).query("map == 'Grad-CAM'").set_index("step")
    assert list(steps.index[:2]) == ["1 changed", "2 changed"]
    assert steps.loc["4% to 7%", "pairs"] == 6 and steps["pairs"].sum() == 12
    assert steps.loc["2 changed", "flips"] == 1 and np.isnan(steps.loc["over 10%", "flips"])


def test_a_climb_has_pairs_of_every_step_and_no_more_than_it_needs() -> None:
    climbed = Questions.climb(2, 48)
    steps = {name: which.sum() for name, which in climbed.ladder_steps().items()}
    assert set(steps) == {"1 changed", "2 changed", "3 changed", *STEPS}
    assert min(steps.values()) >= 2 and len(climbed) <= 2 * len(steps)
    first = Questions.climb(1, 48, class_names=CLASS_NAMES[:2])
    assert set(first.classes.ravel()) == {0, 1} and len(first) <= 6
    np.testing.assert_array_equal(first.photos, Questions.climb(
        1, 48, class_names=CLASS_NAMES[:2]).photos)  # fmt: skip


def test_both_photos_of_a_pair_are_shown_to_the_same_random_network() -> None:
    network = ColorNetwork()
    make = map_makers(network, None)[RANDOM]
    maps = make(torch.rand(1, 3, SIDE, SIDE).repeat(4, 1, 1, 1), np.zeros((4, 1), int))
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[2], maps[3])


def test_a_network_without_a_layer_has_maps_of_pixels_and_other_things_are_refused() -> None:
    found = explain_truth(ColorNetwork(), None, questions(2), questions(2), ["Gradient"])
    assert list(found.maps) == ["Gradient", *BLIND]
    with pytest.raises(RunError, match="unknown method 'Grad-CAM'; known: Gradient, "):
        explain_truth(ColorNetwork(), None, questions(2), questions(2), ["Grad-CAM"])
    with pytest.raises(RunError, match="no drawn car has both of its years among: cat, dog"):
        Questions.draw(2, class_names=("cat", "dog"))
    few = questions(2)
    few.classes[:] += 14
    with pytest.raises(RunError, match="knows 3 classes; the drawn cars are of 16"):
        explain_truth(ColorNetwork(), None, few, questions(2))


# --- drawn cars ---------------------------------------------------------------------------------


def test_drawn_questions_differ_in_what_they_say() -> None:
    names = CLASS_NAMES[::-1]
    drawn = Questions.draw(4, 64, seed=1, sticker=True, class_names=names)
    photos = drawn.photos.numpy()
    differs = (photos[:, 0] != photos[:, 1]).any(1)
    assert differs.any((1, 2)).all() and not (differs & ~drawn.causes).any()
    assert [names[number] for number in drawn.classes[:, 0]] == list(CLASS_NAMES[:4])
    assert (drawn.classes.sum(1) % 4 == 1).all()  # the other year of the same model
    elsewhere = (drawn.scenes.numpy() != photos[:, 0]).any(1)
    assert elsewhere.any((1, 2)).all() and not (elsewhere & ~drawn.exchanged).any()
    assert (drawn.parts.any(1) <= drawn.car).all()
    grille = drawn.names.index("grille")
    lacking = (drawn.without(0, frozenset([grille])).numpy() != photos[0, 0]).any(0)
    assert lacking.any() and not (lacking & ~drawn.parts[0, grille]).mean() > 0.01
    assert drawn.parts[:, drawn.names.index("sticker")].any((1, 2)).all()
    again = Questions.draw(2, 64, seed=1, sticker=True, class_names=names)
    np.testing.assert_array_equal(again.photos, drawn.photos[:2])


def test_classes_of_which_one_year_is_unknown_are_left_out() -> None:
    drawn = Questions.draw(3, 48, class_names=("cat", *CLASS_NAMES[3:6]))
    assert drawn.classes.tolist() == [[2, 3], [3, 2], [2, 3]]


def test_a_catalog_that_has_counterfactuals_gets_the_table_too() -> None:
    drawn = open_showroom(photos_per_class=3, size=48, facelifts=True)
    recipe = toy_recipe(model="simple_resnet_quarter", size=48, store_size=48, epochs=1)
    run = load_or_train(recipe, drawn.with_val(), progress=False)[1]
    asked = ["--maps", "2", "--method", "Grad-CAM", "--measure", "deletion", "--json"]
    done = CliRunner().invoke(app, ["evaluate", str(run.folder), "--data", str(drawn.root), *asked])
    assert done.exit_code == 0, done.output
    (record,) = load_records(kind="maps")
    rows = record.extra["truth"]
    assert [row["map"] for row in rows] == ["Grad-CAM", *BLIND]
    assert {"accuracy", "correctness", "preservation", "threshold"} <= rows[0].keys()
    with pytest.raises(RunError, match="sees photos cut to the car"):
        cut = Checkpoint.begin(recipe.but(crop="box"), drawn)
        truth_of(cut, questions(2), questions(2))
