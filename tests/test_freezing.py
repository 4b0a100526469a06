"""Freezing plans: read as written, and what is frozen really stays as it was."""

from __future__ import annotations

import pytest
import torch
from toys import toy_recipe

from carlib.errors import RecipeError
from carlib.experiment.recipe import Recipe
from carlib.experiment.registry import quick
from carlib.files import load_tensors
from carlib.models.backbones import build_backbone
from carlib.models.freezing import Phase, parse_plan, phase_at, rescaled, set_trainable
from carlib.models.networks import build_model
from carlib.training.loop import train
from carlib.training.optimizer import parameter_groups

TWO = "head:2:1 all:3:0.1"


def test_a_plan_is_read_as_written() -> None:
    phases = parse_plan(TWO, 5)
    assert phases == (Phase("head", 2, 1.0), Phase("all", 3, 0.1))
    assert [phase_at(phases, epoch).part for epoch in range(6)] == ["head"] * 2 + ["all"] * 4
    assert parse_plan("", 7) == (Phase("all", 7, 1.0),)
    assert parse_plan("head", 7) == (Phase("head", 7, 1.0),)


@pytest.mark.parametrize(
    "plan, message",
    [
        ("head:2", "'head:2' is no phase; write part:epochs:factor"),
        ("head:two:1", "'head:two:1' is no phase"),
        (TWO, r"phases of 2 \+ 3 epochs in a recipe of 4 epochs"),
        ("head:0:1 all:4:1", r"phases of 0 \+ 4 epochs"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_named(plan: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(model="resnet18", plan=plan, epochs=4)


def test_a_quick_plan_keeps_its_shares() -> None:
    assert rescaled("head:10:1 all:20:0.1", 12) == "head:4:1 all:8:0.1"
    assert rescaled("head:1:1 a:1:1 all:28:0.1", 12) == "head:1:1 a:1:1 all:10:0.1"
    assert rescaled("head", 12) == "head"
    assert rescaled("a:5:1 b:5:1 c:5:1 head:1:1", 6) == "a:1:1 b:2:1 c:2:1 head:1:1"
    with pytest.raises(RecipeError, match="2 phases need as many epochs"):
        rescaled("head:10:1 all:20:0.1", 1)
    long = Recipe(model="resnet18", plan="head:10:1 all:20:0.1", epochs=30)
    assert quick(long).plan == "head:4:1 all:8:0.1"


def learning(model: torch.nn.Module) -> set[str]:
    """Top modules of a ResNet that have something to learn."""
    return {name.split(".")[1] for name, p in model.named_parameters()
            if p.requires_grad and name.startswith("body.")}  # fmt: skip


def test_a_part_learns_with_everything_above_it() -> None:
    model = build_backbone("resnet18", 5)
    set_trainable(model, "head")
    assert learning(model) == set() and model.head.weight.requires_grad
    assert not any(module.training for module in model.body.modules()) and model.head.training
    set_trainable(model, "layer3")
    assert learning(model) == {"layer3", "layer4"}
    assert model.body.layer4[0].bn1.training and not model.body.layer2[0].bn1.training
    set_trainable(model, "layer4.1")
    assert learning(model) == {"layer4"} and not model.body.layer4[0].conv1.weight.requires_grad
    set_trainable(model, "all")
    assert all(p.requires_grad for p in model.parameters()) and model.body.bn1.training


def test_a_part_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(RecipeError, match=r"no part 'block9'; its parts are: conv1, .*layer4"):
        set_trainable(build_backbone("resnet18", 5), "block9")
    with pytest.raises(RecipeError, match="Linear has no body"):
        set_trainable(torch.nn.Linear(1, 1), "head")


def test_frozen_weights_and_their_statistics_stay(toys) -> None:
    recipe = toy_recipe(model="resnet18", plan="head:2:1 layer4:1:0.1", epochs=3, ema=0.0)
    torch.manual_seed(0)
    run = train(recipe, toys, progress=False, workers=0)
    kept, _ = load_tensors(run.last)
    torch.manual_seed(0)
    frozen = train(recipe.but(plan="head"), toys, progress=False, workers=0)
    other, _ = load_tensors(frozen.last)
    for name, value in kept.items():
        moved = name.startswith(("body.layer4", "head"))
        assert torch.equal(value, other[name]) != moved, name
    assert frozen.history()[-1]["lr"] > 9 * run.history()[-1]["lr"]


def test_learning_rates_of_body_and_blocks() -> None:
    model = build_backbone("efficientnet_lite0", 5)
    recipe = Recipe(model="efficientnet_lite0", body_lr=0.1, layer_decay=0.5, weight_decay=0.05)
    groups = parameter_groups(recipe, model)
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(
        p.numel() for p in model.parameters()
    )
    scale = {id(p): g["lr_scale"] for g in groups for p in g["params"]}
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert scale[id(model.head.weight)] == 1.0
    assert (
        scale[id(model.body.conv_stem.weight)] < scale[id(model.body.blocks[3][0].conv_pw.weight)]
    )
    assert max(v for i, v in scale.items() if i not in map(id, model.head.parameters())) == 0.1
    assert {decay[id(p)] for p in model.parameters() if p.ndim == 1} == {0.0}
    plain = parameter_groups(Recipe(model="cnn3"), build_model("cnn3", 5))
    assert [g["lr_scale"] for g in plain] == [1.0, 1.0]
