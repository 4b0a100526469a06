"""Recipes: data in, data out, and an error that names the field."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carlib.data.transforms import PRESETS, cpu_pipeline, preset
from carlib.errors import RecipeError
from carlib.experiment.network import make_network
from carlib.experiment.recipe import OR_ZERO, RANGES, Recipe, recipe_from_dict, recipe_from_json
from carlib.experiment.registry import RECIPES, get_recipe, quick
from carlib.models.backbones import BACKBONES
from carlib.models.freezing import parse_plan
from carlib.models.networks import MODELS, count_parameters
from carlib.training.optimizer import learning_rate, lr_factor, make_optimizer, momentum_at


@pytest.mark.parametrize("name", RECIPES)
def test_json_gives_the_recipe_back(name):
    recipe = get_recipe(name)
    assert recipe.name == name and recipe.note
    assert recipe_from_json(recipe.to_json()) == recipe
    assert list(json.loads(recipe.to_json())) == [f.name for f in dataclasses.fields(Recipe)]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_built(name):
    side = 80 if get_recipe(name).model == "inception_v3" else 32  # five halvings need their pixels
    recipe = quick(get_recipe(name), epochs=3, size=side)
    model = make_network(recipe, 5).eval()
    with torch.no_grad():
        found = model(torch.rand(2, 1 if recipe.grayscale else 3, side, side))
    assert found.shape == (2, recipe.embedding or 5)
    assert make_optimizer(recipe, model).param_groups[0]["lr"] == recipe.lr
    photo = torch.zeros(40, 40, 3, dtype=torch.uint8).numpy()
    assert cpu_pipeline(preset(recipe.augment), 32)([photo], 0).shape == (1, 32, 32, 3)


def test_every_number_has_a_range():
    numbers = {f.name for f in dataclasses.fields(Recipe) if type(f.default) in (int, float)}
    assert numbers == set(RANGES)


@pytest.mark.parametrize("field", RANGES)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_a_number_outside_its_range_is_named_and_others_are_taken(field: str, data):
    """Recipes that say nothing else which would forbid the number: a backbone, no plan."""
    low, high = RANGES[field]
    if isinstance(getattr(Recipe(), field), int):
        value = data.draw(st.integers() | st.integers(int(low) - 2, int(low) + 2))
    else:
        value = data.draw(st.floats() | st.floats(low - 1, low + 1))
    base = Recipe(model="efficientnet_lite0", loss="contrastive", embedding=8, dev=0.1)
    base = base if field == "embedding" and value else base.but(embedding=0, loss="focal")
    if low <= value <= high or (field in OR_ZERO and value == 0):
        assert getattr(base.but(**{field: value}), field) == value
    else:
        with pytest.raises(RecipeError, match=f"{field} is .*must lie between"):
            base.but(**{field: value})


@pytest.mark.parametrize("name", RECIPES)
def test_quick_keeps_the_method_and_cuts_the_cost(name):
    recipe, short = get_recipe(name), quick(get_recipe(name))
    least = BACKBONES[recipe.model].smallest if recipe.model in BACKBONES else 0
    assert short.epochs <= 12 and short.kept_size <= max(64, least) * 9 // 8
    assert short.scored_size == short.size <= max(64, least) and short.name != recipe.name
    for field in ("model", "loss", "augment", "mixup", "cutmix", "optimizer", "lr", "grayscale"):
        assert getattr(short, field) == getattr(recipe, field)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"epoch": 3}, "unknown recipe field 'epoch'; did you mean 'epochs'"),
        ({"qqq": 3}, "unknown recipe field 'qqq'; fields are name"),
        ({"epochs": "3"}, "'epochs' is '3'; it must be of type int"),
        ({"epochs": 3.5}, "'epochs' is 3.5; it must be of type int"),
        ({"epochs": True}, "'epochs' is True; it must be of type int"),
        ({"lr": None}, "'lr' is None; it must be of type float"),
        ({"grayscale": 1}, "'grayscale' is 1; it must be of type bool"),
        ({"weights": "pretrained"}, "weights is 'pretrained', which needs a backbone; simple_resn"),
        ({"head": "mlp"}, "head is 'mlp', which needs a backbone"),
        ({"statistics": "model"}, "statistics is 'model', which needs a backbone"),
        ({"model": "resnet18", "head": "huge"}, "head is 'huge'; known: linear"),
        ({"model": "vgg"}, "model is 'vgg'; known: .*simple_resnet.*resnet50"),
        ({"augment": "wild"}, "unknown augmentation 'wild'"),
        ({"loss": "mse"}, "loss is 'mse'"),
        ({"monitor": "top3"}, "monitor is 'top3'; known: accuracy"),
        ({"crop": "car"}, "crop is 'car'; known: whole, box"),
        ({"fit": "pad"}, "fit is 'pad'; known: squash, letterbox"),
        ({"epochs": 0}, "epochs is 0; it must lie between 1 and 100,000"),
        ({"size": 4}, "size is 4; it must lie between 8 and 4,096"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(RecipeError, match=message):
        recipe_from_dict(values)


def test_unknown_recipe_suggests_near_names():
    with pytest.raises(RecipeError, match="'scratch-cpu'; known: scratch_cpu"):
        get_recipe("scratch-cpu")
    with pytest.raises(RecipeError, match=r"unknown recipe 'zzz'; known: .*resnet_large_focal"):
        get_recipe("zzz")


@pytest.mark.parametrize("text", ["", "{", "[1]", '"cnn3"'])
def test_text_that_is_no_recipe_is_refused(text):
    with pytest.raises(RecipeError, match="not a recipe"):
        recipe_from_json(text)


def test_whole_numbers_serve_as_floats():
    assert recipe_from_dict({"lr": 1}) == recipe_from_dict({"lr": 1.0})
    assert recipe_from_dict({"lr": 1}).hash == recipe_from_dict({"lr": 1.0}).hash


def test_losses_and_networks_that_compare_belong_together():
    assert get_recipe("lite0_arcface").embedding == 512
    for wrong, said in (
        ({"loss": "triplet"}, "known: cross_entropy"),
        ({"embedding": 64}, "loss is 'cross_entropy'; known: contrastive"),
        ({"embedding": 64, "loss": "triplet", "mixup": 0.2}, "mix classes"),
        ({"embedding": 64, "loss": "triplet", "monitor": "loss"}, "known: accuracy, map_at_r"),
        ({"embedding": -1}, "embedding is -1"),
        ({"embedding": 8, "loss": "triplet", "sampler": "pairs"}, "two photos at a time"),
        ({"pair_margin": 3.0}, "pair_margin is 3.0"),
    ):
        with pytest.raises(RecipeError, match=said):
            Recipe().but(**wrong)


def test_hash_follows_what_decides_the_result():
    plain = Recipe()
    assert plain.but(name="x", note="y").hash == plain.hash
    changed = {plain.but(seed=1).hash, plain.but(lr=2e-3).hash, plain.but(epochs=31).hash}
    assert len(changed | {plain.hash}) == 4


def test_the_studies_recipes_are_what_the_studies_did():
    s1 = get_recipe("s1")
    assert (s1.mixup, s1.mix_probability, s1.sampler, s1.smoothing) == (0.4, 0.5, "balanced", 0.05)
    assert (s1.optimizer, s1.lr, s1.schedule, s1.epochs) == ("adamw", 1e-3, "one_cycle", 70)
    assert (s1.monitor, s1.patience, s1.min_change) == ("loss", 5, 1e-3)
    assert {get_recipe(n).model for n in ("cnn3", "cnn4", "cnn_advanced")} <= set(MODELS)
    assert get_recipe("cnn_advanced").size == 160 and get_recipe("cnn_advanced").grayscale
    assert get_recipe("resnet_focal").but(loss="cross_entropy", smoothing=0.1).hash == (
        get_recipe("resnet_ce").hash
    )
    assert {r.augment for r in RECIPES.values()} <= set(PRESETS)


def test_photos_grow_in_steps_and_never_beyond_the_size():
    growing = Recipe(size=96, start_size=64, epochs=10, grow_until=0.5)
    sizes = [growing.size_at(epoch) for epoch in range(10)]
    assert sizes == [64, 64, 64, 80, 80, 96, 96, 96, 96, 96]
    assert {Recipe(size=96).size_at(epoch) for epoch in range(10)} == {96}
    small = Recipe(size=30, start_size=10, epochs=10)
    assert [small.size_at(e) for e in range(10)] == sorted(small.size_at(e) for e in range(10))
    assert small.size_at(0) == 10 and small.size_at(9) == 30


def factors(steps: int = 100, **changes: object) -> list[float]:
    recipe = Recipe().but(**changes)
    return [lr_factor(recipe, step / (steps - 1)) for step in range(steps)]


def test_one_cycle_rises_from_a_25th_to_the_peak_and_ends_at_nothing():
    curve = factors(schedule="one_cycle", warmup=0.3)
    assert curve[0] == pytest.approx(0.04) and max(curve) == pytest.approx(1, abs=1e-3)
    assert curve[-1] == pytest.approx(1e-4)
    peak = curve.index(max(curve))
    assert peak in (29, 30)
    assert curve[: peak + 1] == sorted(curve[: peak + 1])
    assert curve[peak:] == sorted(curve[peak:], reverse=True)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
def test_no_schedule_leaves_the_range(schedule, warmup):
    curve = factors(schedule=schedule, warmup=warmup)
    assert all(0 < factor <= 1 for factor in curve)


def test_steps_drop_at_the_epochs_they_name():
    recipe = Recipe(schedule="step", epochs=20, step_epochs=7, step_factor=0.1, lr=1.0)
    phases = parse_plan("", 20)
    by_epoch = [learning_rate(recipe, phases, epoch, 1) for epoch in range(20)]
    assert by_epoch == pytest.approx([1.0] * 7 + [0.1] * 7 + [0.01] * 6)


def test_steps_are_counted_anew_in_every_phase():
    recipe = Recipe(schedule="step", epochs=20, step_epochs=7, step_factor=0.1, lr=1.0)
    phases = parse_plan("head:9:1 all:11:0.5", 20)
    by_epoch = [learning_rate(recipe, phases, epoch, 1) for epoch in range(20)]
    assert by_epoch == pytest.approx([1.0] * 7 + [0.1] * 2 + [0.5] * 7 + [0.05] * 4)


def test_momentum_is_cycled_as_torch_does():
    recipe, steps = Recipe(warmup=0.3, epochs=1, cycle_momentum=True), 101
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps, pct_start=0.3)
    for step in range(steps):
        theirs = optimizer.param_groups[0]["betas"][0]
        assert momentum_at(recipe, step / (steps - 1)) == pytest.approx(theirs, abs=4e-3)
        optimizer.step()
        if step < steps - 1:
            cycle.step()


@pytest.mark.parametrize("changes", [{"keep": "best"}, {"patience": 3}, {"schedule": "plateau"}])
def test_what_chooses_needs_photos_kept_back(changes):
    with pytest.raises(RecipeError, match=r"chooses by photos that are kept back; set dev"):
        Recipe(**changes)
    assert Recipe(dev=0.1, **changes).dev == 0.1


def test_a_recipe_of_an_earlier_version_is_read():
    text = (
        get_recipe("lite0_cpu").to_json().replace('"eval_every"', '"flip_eval": true, "eval_every"')
    )
    assert recipe_from_json(text) == get_recipe("lite0_cpu")


def test_weight_decay_spares_biases_and_norms():
    model = make_network(Recipe(model="cnn4"), 5)
    decayed, spared = make_optimizer(Recipe(weight_decay=0.1), model).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in spared["params"])


@pytest.mark.parametrize(
    ("name", "count"),
    [("siamese_resnet18", 11_440_192), ("siamese_resnet50", 28_761_664),
     ("siamese_efficientnet", 4_663_420)],
)  # fmt: skip
def test_siamese_networks_have_the_parameters_of_study_s0(name, count):
    with torch.device("meta"):
        assert count_parameters(make_network(get_recipe(name), 431)) == count
