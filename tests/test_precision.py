"""Half precision on a CPU: taken where it is faster and teaches the same, and tried only once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
import torch
from toys import toy_recipe

from carlib.evaluation.evaluate import logits_of
from carlib.evaluation.metrics import quick_metrics
from carlib.experiment.checkpoint import Checkpoint
from carlib.files import load_tensors
from carlib.runtime import half_precision
from carlib.training import loop, parts, precision
from carlib.training.loop import train


@pytest.fixture
def long(monkeypatch) -> Callable[[float], list[str]]:
    """Have trainings count as long, and bf16 seem so many times as fast; gives what was asked."""

    def set_speed(speed: float) -> list[str]:
        def turns(calls, rounds, warm_up):
            for call in calls.values():
                call()
            return {name: [{"no": 1.0, "bf16": 1 / speed}[name]] * rounds for name in calls}

        def watched(device, name):
            learned_in.append(name)
            return half_precision(device, name)

        learned_in: list[str] = []
        monkeypatch.setattr(precision, "LONG", 0.0)
        monkeypatch.setattr(precision, "taking_turns", turns)
        monkeypatch.setattr(parts, "half_precision", watched)
        return learned_in

    return set_speed


def run_of(recipe, toys, folder):
    return train(recipe, toys, folder, progress=False, workers=0)


def test_a_short_training_computes_in_full_and_nothing_is_timed(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "probe", None)
    run = run_of(toy_recipe(epochs=1), toys, tmp_path / "run")
    assert run.summary["precision"] == {"choice": "no"}


@pytest.mark.parametrize("speed, choice", [(2.0, "bf16"), (1.05, "no"), (0.3, "no")])
def test_a_long_training_takes_the_faster_one(toys, tmp_path, long, speed, choice):
    learned_in = long(speed)
    run = run_of(toy_recipe(epochs=1), toys, tmp_path / "run")
    told = run.summary["precision"]
    assert told["choice"] == choice and set(learned_in[-10:]) == {choice}  # ten steps
    assert told["photos_per_second"] == {"no": 8.0, "bf16": pytest.approx(8 * speed)}
    assert told["steps"] == {"no": precision.ROUNDS, "bf16": precision.ROUNDS if speed > 0.5 else 1}
    assert 0 < told["loss_difference"] < precision.LOSS_DIFFERENCE
    assert precision.GRADIENT_COSINE < told["gradient_cosine"] <= 1.001 and told["processor"]


@pytest.mark.parametrize("changes", [
    {"precision": "no"}, {"precision": "bf16"},
    {"model": "resnet18", "plan": "head", "augment": "none", "size": 32, "store_size": 32},
])  # fmt: skip
def test_nothing_is_timed_where_there_is_no_choice(toys, tmp_path, monkeypatch, long, changes):
    long(2.0)
    monkeypatch.setattr(precision, "probe", None)
    run = run_of(toy_recipe(epochs=1, **changes), toys, tmp_path / "run")
    assert run.summary["precision"] == {"choice": changes.get("precision", "no")}


@pytest.mark.parametrize("changes", [
    {"model": "cnn_advanced", "size": 24, "accumulate": 2},
    {"embedding": 8, "loss": "proxy_anchor", "sampler": "per_class", "batch_size": 16},
])  # fmt: skip
def test_a_probe_leaves_the_training_as_it_was(toys, tmp_path, long, changes):
    """Kept in full by a probe, it ends in the weights of one that was told to."""
    long(1.0)
    recipe = toy_recipe(epochs=1, ema=0.9, **changes)
    probed = run_of(recipe, toys, tmp_path / "probed")
    told = run_of(recipe.but(precision="no"), toys, tmp_path / "told")
    assert "photos_per_second" in probed.summary["precision"]
    weights, expected = load_tensors(probed.last)[0], load_tensors(told.last)[0]
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("other_taps", [0.0, float("nan")])
def test_wrong_answers_are_not_taken_however_fast(toys, tmp_path, monkeypatch, long, other_taps):
    """As reported of PyTorch: a convolution in bf16 that counts one of its taps alone."""
    long(2.0)
    conv2d = torch.nn.functional.conv2d

    def first_tap(x, weight, *options):
        wrong = torch.full_like(weight, other_taps)
        wrong[..., 0, 0] = weight[..., 0, 0]
        return conv2d(x, wrong, *options)

    @contextlib.contextmanager
    def broken(device, name):
        with monkeypatch.context() as patch:
            if name == "bf16":
                patch.setattr(torch.nn.functional, "conv2d", first_tap)
            yield

    monkeypatch.setattr(parts, "half_precision", broken)
    told = run_of(toy_recipe(epochs=1), toys, tmp_path / "run").summary["precision"]
    assert told["choice"] == "no" and (told["gradient_cosine"] or 0) < precision.GRADIENT_COSINE
    json.dumps(told, allow_nan=False)  # as records are written


def test_a_training_that_goes_on_does_so_as_it_began(toys, tmp_path, monkeypatch, long):
    learned_in, recipe = long(2.0), toy_recipe(epochs=3, ema=0.9)
    whole = run_of(recipe, toys, tmp_path / "whole")
    keep = loop.keep

    def kept_then_killed(*arguments):
        keep(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "keep", kept_then_killed)
        with pytest.raises(KeyboardInterrupt):
            run_of(recipe, toys, tmp_path / "killed")
    learned_in.clear()
    monkeypatch.setattr(precision, "probe", None)
    resumed = run_of(recipe, toys, tmp_path / "killed")
    assert set(learned_in) == {"bf16"} and resumed.summary["precision"]["choice"] == "bf16"
    weights, expected = load_tensors(resumed.last)[0], load_tensors(whole.last)[0]
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_cpu_answers_in_full_also_while_it_learns_in_half(toys, tmp_path, ema):
    run = run_of(toy_recipe(precision="bf16", ema=ema, epochs=2), toys, tmp_path / "run")
    logits, labels, _ = logits_of(Checkpoint.load(run.kept), toys, "val", progress=False)
    expected = {f"val_{k}": v for k, v in quick_metrics(logits, labels, 0.0).items()}
    assert run.summary["kept"] == pytest.approx(expected, rel=1e-6)
