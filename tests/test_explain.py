"""Heat maps: every network has a layer for them, they lie where they belong, and their measures
tell a true map from a false one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toys import toy_recipe

from carlib import plots
from carlib.data.drawn import open_showroom
from carlib.data.framing import Framing
from carlib.data.masks import known_masks
from carlib.errors import RunError
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.network import make_network
from carlib.experiment.recipe import Recipe
from carlib.explain import faithfulness, measures
from carlib.explain.maps import METHODS, heat_maps, similarity_maps, target_layer
from carlib.explain.scored_images import KINDS, see
from carlib.models.backbones import BACKBONES
from carlib.models.networks import MODELS, Classifier
from carlib.report import rows as tables
from carlib.showroom import PARTS
from carlib.training.loop import load_or_train


@pytest.fixture(scope="module")
def trained(tmp_path_factory, toy_root):
    """A small network that knows the toys, and its catalog."""
    from toys import toy_catalog

    catalog = toy_catalog(toy_root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARLIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        recipe = toy_recipe(model="cnn4", size=32, store_size=36, epochs=6)
        return load_or_train(recipe, catalog, progress=False)[0], catalog


def corner(photos: int = 2, side: int = 32) -> torch.Tensor:
    """Dark photos with a bright square in the corner at the top right."""
    made = torch.full((photos, 3, side, side), 0.1)
    made[:, :, : side // 4, -side // 4 :] = 1.0
    return made


class CornerNetwork(Classifier):
    """Answers by the brightness that it sees, so its maps must lie where it is bright."""

    def __init__(self) -> None:
        body = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4),
                             nn.AdaptiveAvgPool2d(1), nn.Flatten())  # fmt: skip
        super().__init__(body, 1, 2, 0.0)
        with torch.no_grad():
            body[0].weight.fill_(1 / 27)
            body[0].bias.fill_(-0.7)
            self.head.weight.copy_(torch.tensor([[150.0], [-150.0]]))
            self.head.bias.copy_(torch.tensor([0.0, 2.0]))


def checkpoint_of(network: Classifier, **changes: object) -> Checkpoint:
    recipe = toy_recipe(size=32, **changes)
    return Checkpoint(network, recipe, ("bright", "dark"), (0.0,) * 3, (1.0,) * 3, "hash")


# --- layers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MODELS, *BACKBONES])
def test_every_network_of_the_project_has_a_layer_for_maps(name: str) -> None:
    side = {"vit_small_dinov2": 56, "inception_v3": 107}.get(name, 64)
    network = make_network(Recipe(model=name), 5)
    found = target_layer(network, side)
    maps = []
    hook = found.module.register_forward_hook(lambda *args: maps.append(args[2]))
    with torch.no_grad():
        network.eval()(torch.rand(2, 3, side, side))
    hook.remove()
    shown = found.reshape(maps[0]) if found.reshape else maps[0]
    assert shown.ndim == 4 and len(shown) == 2 and shown.shape[2] == shown.shape[3] > 1


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vit_small_dinov2", "cnn3"])
def test_maps_of_frozen_networks_say_something(name: str) -> None:
    torch.manual_seed(1)  # with some others a network of random weights speaks against a class
    grey = name == "cnn3"
    network = make_network(Recipe(model=name, grayscale=grey), 3).requires_grad_(False)
    recipe = toy_recipe(model="cnn3", grayscale=grey)
    scorer = Scorer.of(Checkpoint(network, recipe, ("a", "b", "c"), (0.5,) * 3, (0.5,) * 3, "h"))
    found = heat_maps(scorer, torch.rand(2, 3, 56, 56), [0, 2])
    assert found.shape == (2, 56, 56) and found.min() >= 0 and 0.99 < found.max() <= 1
    assert not np.allclose(found[0], found[1])


def test_a_layer_can_be_named_and_one_that_is_none_is_refused() -> None:
    network = make_network(Recipe(model="resnet18"), 3)
    assert target_layer(network, 64).name == "body.layer4"
    assert target_layer(network, 64, name="body.layer2").module is network.body.layer2
    with pytest.raises(RunError, match=r"no map can be taken at layer 'layer9'; .*body\.layer4"):
        target_layer(network, 64, name="layer9")
    with pytest.raises(RunError, match=r"at layer 'body\.global_pool'"):
        target_layer(network, 64, name="body.global_pool")
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4)), 4, 2, 0.0)
    with pytest.raises(RunError, match="no layer's output is a map"):
        target_layer(flat, 8)


# --- maps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_what_decides(method: str) -> None:
    scorer = Scorer.of(checkpoint_of(CornerNetwork()))
    found = heat_maps(scorer, corner(), [0, 0], method)
    assert found.shape == (2, 32, 32) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    assert found[0, :8, 24:].mean() > 0.5 > 0.2 > found[0, 16:, :16].mean()


def test_a_batch_gives_the_maps_of_one_at_a_time(trained) -> None:
    checkpoint, catalog = trained
    scorer, seen = Scorer.of(checkpoint), see(checkpoint, catalog)
    together = heat_maps(scorer, seen.photos, seen.answers, batch_size=7)
    alone = heat_maps(scorer, seen.photos, seen.answers, batch_size=1)
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_half_precision_gives_the_same_maps_and_is_left_alone(trained) -> None:
    checkpoint, catalog = trained
    seen = see(checkpoint, catalog, count=3)
    whole = heat_maps(Scorer.of(checkpoint), seen.photos, seen.answers)
    fields = {name: getattr(checkpoint, name) for name in ("recipe", "class_names", "mean", "std")}
    narrow = make_network(checkpoint.recipe, len(checkpoint.class_names))
    narrow.load_state_dict(checkpoint.model.state_dict())
    narrow = Checkpoint(narrow.half(), hash="h", **fields)
    np.testing.assert_allclose(
        heat_maps(Scorer.of(narrow), seen.photos, seen.answers), whole, atol=0.05
    )
    assert next(narrow.model.parameters()).dtype == torch.float16


def test_what_cannot_be_explained_is_refused(trained) -> None:
    scorer = Scorer.of(trained[0])
    with pytest.raises(RunError, match=r"unknown method 'Magic'; known: Grad-CAM, Grad-CAM\+\+"):
        heat_maps(scorer, corner(), [0, 0], "Magic")
    with pytest.raises(RunError, match="a class each"):
        heat_maps(scorer, corner(), [0])
    with pytest.raises(IndexError):
        heat_maps(scorer, corner(), [0, 99])


def test_similarity_lies_where_two_photos_agree() -> None:
    scorer = Scorer.of(checkpoint_of(CornerNetwork()))
    found = similarity_maps(scorer, corner(1), corner(1))
    assert found.shape == (1, 32, 32)


# --- where maps lie -----------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
@pytest.mark.parametrize("crop", ["whole", "box"])
@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (64, 64)])
def test_a_bright_corner_of_the_photo_is_found_again(fit, crop, shape) -> None:
    """Frame a photo with a bright patch, take the framed brightness as the map, carry it back."""
    height, width = shape
    photo = np.zeros((height, width, 3), np.uint8)
    box = (10.0, 8.0, width - 6.0, height - 4.0)
    top, left = 12, width - 30  # of a patch inside the box
    photo[top : top + 16, left : left + 20] = 255
    framing = Framing(64, crop, 0.05, fit)
    heat = framing.apply(photo, box)[..., 0] / 255.0
    heat[:3], heat[-3:] = 0, 0  # the padding's grey is no heat
    heat = np.where(heat > 0.7, heat, 0)
    back = framing.undo(heat, width, height, box)
    assert back.shape == (height, width) and back.dtype == np.float32
    rows, columns = np.nonzero(back > 0.5)
    assert abs(rows.mean() - (top + 7.5)) < 2 and abs(columns.mean() - (left + 9.5)) < 2
    assert back[photo[..., 0] > 0].sum() > 0.75 * back.sum()


def test_nothing_outside_the_crop_is_marked() -> None:
    back = Framing(32, "box", 0.0).undo(np.ones((16, 16)), 100, 80, (20, 10, 60, 50))
    assert back[10:50, 20:60].min() == 1 and back.sum() == 40 * 40


def test_masks_are_framed_as_photos_are() -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[:, 40:] = 7
    for fit in ("squash", "letterbox"):
        framed = Framing(32, fit=fit).apply_to_mask(mask)
        assert framed.shape == (32, 32) and set(np.unique(framed)) == {0, 7}
        assert (framed[12:20, 16:] == 7).all() and not framed[:, :16].any()


def test_a_photo_one_pixel_wide_can_be_marked() -> None:
    for fit in ("squash", "letterbox"):
        framing = Framing(32, fit=fit)
        assert framing.apply(np.zeros((50, 1, 3), np.uint8)).shape == (32, 32, 3)
        assert framing.undo(np.ones((32, 32)), 1, 50).shape == (50, 1)


# --- photos to look at --------------------------------------------------------------------------


def test_photos_are_chosen_by_how_they_were_answered(trained) -> None:
    checkpoint, catalog = trained
    seen = see(checkpoint, catalog)
    assert len(seen) == catalog.split_sizes["val"] and seen.photos.max() <= 1
    np.testing.assert_allclose(seen.probabilities.sum(1), 1, atol=1e-5)
    right, wrong, unsure = (seen.choose(kind, 5, seed=1) for kind in KINDS)
    assert (right.answers == right.labels).all() and (wrong.answers != wrong.labels).all()
    assert len(unsure) == 5 and unsure.confidence.max() <= np.sort(seen.confidence)[4]
    again = seen.choose("right", 5, seed=1)
    assert list(again.rows) == list(right.rows)
    assert np.isnan(seen.box(0)).all()
    with pytest.raises(RunError, match="known: right, wrong, unsure"):
        seen.choose("pretty", 5)


def test_maps_are_drawn_over_photos(trained) -> None:
    checkpoint, catalog = trained
    seen = see(checkpoint, catalog, count=3)
    maps = heat_maps(Scorer.of(checkpoint), seen.photos, seen.answers)
    pixels = [(photo.permute(1, 2, 0) * 255).byte().numpy() for photo in seen.photos]
    figure = plots.heat_grid(pixels, maps, ["a", "b", "c"], [True, False, True])
    assert sum(len(ax.images) for ax in figure.axes) == 3
    marked, plain = (
        plots.overlay(pixels[0], np.ones((32, 32))),
        plots.overlay(pixels[0], 0 * maps[0]),
    )
    assert np.ptp(plain.astype(int), axis=2).mean() < np.ptp(marked.astype(int), axis=2).mean()
    assert len(plots.heat_rows(pixels, {"Grad-CAM": maps, "again": maps}).axes) == 9


# --- is a map true? -----------------------------------------------------------------------------


def true_and_false() -> dict[str, np.ndarray]:
    """Maps of `corner` photos that mark what decides, and what does not."""
    true = np.zeros((2, 32, 32), np.float32)
    true[:, :8, 24:] = 1
    true += np.linspace(0, 1e-3, 32, dtype=np.float32)  # no ties, so that the order is ours
    return {"true": true, "false": true[:, ::-1, ::-1].copy()}


@pytest.mark.parametrize("measure", measures.MEASURES)
def test_a_true_map_beats_a_false_one(measure: str) -> None:
    scorer = Scorer.of(checkpoint_of(CornerNetwork()))
    scores = {
        name: measures.MEASURES[measure](scorer, corner(), heat, [0, 0])
        for name, heat in true_and_false().items()
    }
    assert scores["true"].shape == (2,)
    better = scores["true"].mean() - scores["false"].mean()
    if measure == "increase":  # nothing is likelier than the photo itself here
        assert better >= 0
    else:
        assert better < -0.02 if measure in ("deletion", "average_drop") else better > 0.02


def test_tables_have_a_row_per_map_and_intervals_around_the_means() -> None:
    scorer = Scorer.of(checkpoint_of(CornerNetwork()))
    maps = true_and_false() | {"edges": measures.baseline_maps(corner(), "edges")}
    values = measures.measured(scorer, corner(), maps, [0, 0], ("insertion", "deletion"))
    rows = measures.faithfulness(values, maps)
    assert [row["map"] for row in rows] == ["true", "false", "edges"]
    for row in rows:
        low, high = row["insertion_interval"]
        assert low <= row["insertion"] <= high


def test_a_map_is_held_against_the_best_that_knows_nothing() -> None:
    def scores(insertion: float, drop: float) -> dict[str, np.ndarray]:
        return {"insertion": np.array([insertion, insertion]), "average_drop": np.full(2, drop)}

    values = {"ours": scores(0.7, 0.1), "noise": scores(0.2, 0.6), "center": scores(0.5, 0.8)}
    rows = measures.ahead_of(["noise", "center"], values)
    assert [(row["measure"], row["map"], row["than"]) for row in rows] == [
        ("insertion", "ours", "center"), ("average_drop", "ours", "noise"),
    ]  # fmt: skip
    assert [row["difference"] for row in rows] == pytest.approx([0.2, 0.5])  # lower drops better
    assert set(measures.HIGHER) == set(measures.MEASURES)


@pytest.mark.parametrize("name", measures.BASELINES)
def test_maps_that_know_nothing(name: str) -> None:
    found = measures.baseline_maps(corner(), name)
    assert found.shape == (2, 32, 32) and found.min() == 0 and found.max() == 1
    np.testing.assert_array_equal(found, measures.baseline_maps(corner(), name))
    if name == "edges":
        assert found[0, 4:12, 20:28].mean() > 3 * found[0, 20:, :12].mean()
    with pytest.raises(RunError, match="unknown baseline 'luck'"):
        measures.baseline_maps(corner(), "luck")


def test_energy_and_pointing_by_hand() -> None:
    maps = np.zeros((2, 4, 4), np.float32)
    maps[:, 0, 0], maps[0, 3, 3] = 1, 3
    masks = np.zeros((2, 4, 4), bool)
    masks[:, :2, :2] = True
    np.testing.assert_allclose(measures.energy_inside(maps, masks), [0.25, 1])
    np.testing.assert_allclose(measures.times_area(maps, masks), [1, 4])
    np.testing.assert_array_equal(measures.points_inside(maps, masks), [0, 1])
    assert np.isnan(measures.times_area(maps, ~masks & masks)).all()


def test_random_layers_change_the_map_of_a_trained_network(trained) -> None:
    checkpoint, catalog = trained
    seen = see(checkpoint, catalog)
    before = {k: v.clone() for k, v in checkpoint.model.state_dict().items()}
    scorer = Scorer.of(checkpoint)
    maps = heat_maps(scorer, seen.photos, seen.answers)
    correlations, names = [], []
    for name, network in faithfulness.randomized(checkpoint.model):
        scorer.network = network.eval()
        others = heat_maps(scorer, seen.photos, seen.answers)
        correlations.append(measures.rank_correlation(maps, others).mean())
        names.append(name)
    assert names[0] == "head" and names[-1].startswith("body") and len(names) >= 5
    assert abs(correlations[-1]) < 0.6
    assert all(torch.equal(v, before[k]) for k, v in checkpoint.model.state_dict().items())
    np.testing.assert_allclose(measures.rank_correlation(maps, maps), 1, atol=1e-6)
    np.testing.assert_allclose(measures.rank_correlation(maps, -maps), -1, atol=1e-6)
    assert (measures.rank_correlation(maps, np.ones_like(maps)) == 0).all()


def test_hiding_what_decides_costs_and_hiding_the_rest_does_not() -> None:
    scorer = Scorer.of(checkpoint_of(CornerNetwork()))
    photos, labels = corner(4), np.zeros(4, int)
    bright = np.zeros((4, 32, 32), bool)
    bright[:, :8, 24:] = True
    dark = np.zeros((4, 32, 32), bool)
    dark[:, 20:, :8] = True
    none = np.zeros((4, 32, 32), bool)
    rows = measures.needs(scorer, photos, labels, {"corner": bright, "rest": dark, "none": none})
    assert [row["hidden"] for row in rows] == ["corner", "rest"]  # what no photo shows is no row
    assert [(row["cost"], row["whole"]) for row in rows] == [(1.0, 1.0), (0.0, 1.0)]
    covered = measures.hidden(photos, bright)
    assert covered[:, :, :8, 24:].std() < 1e-6 and torch.equal(covered[:, :, 8:], photos[:, :, 8:])


# --- drawn cars: the truth is known -------------------------------------------------------------


@pytest.fixture(scope="module")
def two_years(tmp_path_factory):
    """A network, before any training, and one car in both of its years."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARLIB_CACHE", str(tmp_path_factory.mktemp("years")))
        catalog = open_showroom(photos_per_class=10, size=64, only=(4, 5))
        recipe = toy_recipe(name="two", model="simple_resnet_half", size=64, store_size=64,
                            crop="box", margin=0.1)  # fmt: skip
        yield Checkpoint.begin(recipe, catalog), catalog


def test_a_record_of_maps_has_every_method_and_baseline(two_years, monkeypatch) -> None:
    checkpoint, catalog = two_years
    methods, asked = ("Grad-CAM", "Layer-CAM"), ("insertion", "deletion", "road")
    monkeypatch.setattr(measures, "ROAD_SHARES", [50])
    seen = see(checkpoint, catalog, "val", 3)
    masks = known_masks(catalog, seen.rows, seen.framing)
    record = faithfulness.score_maps(checkpoint, catalog, seen, *masks, methods, asked)
    rows = record.extra["rows"]
    assert [row["map"] for row in rows] == [*methods, faithfulness.RANDOM, *measures.BASELINES]
    for row in rows:
        for name in (*asked, "times_changed_part_area", "times_car_area"):
            low, high = row[f"{name}_interval"]
            assert low <= row[name] <= high
    by_name = {row["map"]: row for row in rows}
    assert by_name["center"]["times_car_area"] > 1  # cars are in the middle
    assert {"background", "car", "changed parts", "grille"} <= {
        row["hidden"] for row in record.extra["needs"]
    }
    assert record.extra["sanity"][-1]["random_from"].startswith("body")
    assert (
        record.name.startswith("maps-two-untrained-showroom-seed0-") and record.data["photos"] == 3
    )
    assert tables.map_rows([record])[0]["network"] == "two"
    assert len(record.extra["examples"]) == 3
    for example in record.extra["examples"]:
        assert set(example["maps"]) == {"Grad-CAM", faithfulness.RANDOM}


def test_a_library_that_draws_bars_is_kept_quiet(two_years, capfd) -> None:
    seen = see(*two_years, "train", 2)
    heat_maps(Scorer.of(two_years[0]), seen.photos, seen.answers, "Score-CAM")
    assert capfd.readouterr().err == ""


def test_examples_hold_enough_to_draw_the_maps_again(two_years) -> None:
    seen = see(*two_years, "train", 6)
    corner = np.zeros((6, 64, 64), np.float32)
    corner[:, :16, 48:] = 1.0
    found = faithfulness.examples(seen, {"corner": corner})
    assert [one["path"] for one in found] == seen.table["path"].iloc[[0, 2, 3, 5]].tolist()
    for one in found:
        lines = one["maps"]["corner"]
        assert lines[:3] == ["000000000999"] * 3 and set("".join(lines[3:])) == {"0"}


def test_maps_of_a_named_layer_are_kept_apart(two_years) -> None:
    checkpoint, catalog = two_years
    names = [name for name, _ in checkpoint.model.body.named_children()]
    layer, seen = f"body.{names[-3]}", see(checkpoint, catalog, "val", 2)
    record = faithfulness.score_maps(
        checkpoint, catalog, seen, methods=("Grad-CAM",), measures=("deletion",), layer=layer
    )
    assert record.extra["layer"] == layer and record.scoring["layer"] == layer
    assert (record.scoring["photos"], record.scoring["seed"]) == (2, 0)
    assert record.extra["needs"] == record.extra["examples"] == [] and not record.extra["area"]


def test_one_class_against_another(two_years) -> None:
    checkpoint, catalog = two_years
    seen, scorer = see(checkpoint, catalog, "val", 2), Scorer.of(checkpoint)
    alone = heat_maps(scorer, seen.photos, [0, 0])
    against = heat_maps(scorer, seen.photos, [0, 0], against=[1, 1])
    assert alone.shape == against.shape and not np.allclose(alone, against)


def test_methods_and_measures_that_are_not_known_are_refused(two_years) -> None:
    seen = see(*two_years, "val", 2)
    with pytest.raises(RunError, match="unknown method 'Grad-Cam'; known: Grad-CAM"):
        faithfulness.score_maps(*two_years, seen, methods=("Layer-CAM", "Grad-Cam"))
    with pytest.raises(RunError, match="unknown measure 'roads'; known: insertion"):
        faithfulness.score_maps(*two_years, seen, measures=("roads",))


def test_photos_picked_by_hand_make_no_record(two_years) -> None:
    picked = see(*two_years, "val", 2).select([0])
    with pytest.raises(RunError, match="picked by hand"):
        faithfulness.score_maps(*two_years, picked)


def test_masks_say_where_the_car_and_its_parts_are(two_years) -> None:
    checkpoint, catalog = two_years
    seen = see(checkpoint, catalog, "val", 2)
    whole = Framing(40)  # not cut to the car, so its box says something
    inside, hidden = known_masks(catalog, seen.rows, whole)
    assert set(inside) == {"box", "car", "changed_part"}
    assert all(mask.shape == (2, 40, 40) and mask.dtype == bool for mask in inside.values())
    assert (inside["car"] <= inside["box"]).mean() > 0.99
    assert (inside["changed_part"] <= inside["car"]).all() and inside["changed_part"].any()
    np.testing.assert_array_equal(hidden["background"], ~inside["car"])
    parts = [name for name in hidden if name not in ("background", "car", "changed parts")]
    assert parts == list(PARTS[1:]) and sum(hidden[name] for name in parts).max() == 1


def test_no_masks_where_nothing_is_known(trained) -> None:
    assert known_masks(trained[1], range(3), Framing(32)) == ({}, {})
