"""What is chosen on which device, and the branch for CUDA walked from end to end without a GPU."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from pretended import GIB, pretend, pretended_gpu
from toys import toy_recipe

from carlib.data.store import PhotoStore
from carlib.errors import RecipeError
from carlib.evaluation.evaluate import logits_of
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import Checkpoint
from carlib.files import load_tensors
from carlib.notebook import setup
from carlib.runtime import precision_on, scoring_precision, the_device
from carlib.training import loop
from carlib.training.loaders import CpuLoader, GpuLoader, make_loader
from carlib.training.loop import train
from carlib.training.parts import make_accelerator

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def nothing_remembered():
    """accelerate looks for devices once in a process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


# --- device and precision -----------------------------------------------------------------------


@pytest.mark.parametrize("card, chosen", [
    ("P100", "no"), ("V100", "fp16"), ("T4", "fp16"), ("A100", "bf16"), ("L4", "bf16"),
])  # fmt: skip
def test_the_precision_is_what_the_card_computes_fast(monkeypatch, card, chosen):
    pretend(monkeypatch, card)
    assert torch.cuda.is_bf16_supported()  # emulated, where it is not there
    assert the_device() == GPU and precision_on(the_device()) == chosen
    assert scoring_precision(GPU, "auto") == chosen and scoring_precision(GPU, "no") == "no"
    assert precision_on(GPU, "bf16") == "bf16"  # as asked
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # as `accelerate launch --cpu` says
    assert the_device() == CPU


def test_a_cpu_computes_in_full_unless_asked():
    assert the_device() == CPU and precision_on(CPU) == "no"
    assert precision_on(CPU, "bf16") == "bf16" and scoring_precision(CPU, "bf16") == "no"
    assert scoring_precision(CPU, "fp16") == "no"  # trained on a GPU, asked here
    with pytest.raises(RecipeError, match="'fp16', which needs a GPU"):
        make_accelerator(toy_recipe(precision="fp16"))


def test_nobody_chooses_apples_gpu(monkeypatch, nothing_remembered):
    monkeypatch.setattr("accelerate.state.is_mps_available", lambda *_, **__: True)
    assert make_accelerator(toy_recipe()).device == CPU == the_device()


def test_a_notebook_says_the_device_that_learns(monkeypatch, toy_root, capsys):
    monkeypatch.setenv("CARLIB_DATA", str(toy_root))
    assert setup().device == "cpu"
    pretend(monkeypatch, "T4")
    assert setup().device == "cuda" and "device   T4" in capsys.readouterr().out


# --- loaders ------------------------------------------------------------------------------------


def loader_of(toys, recipe, workers: int = 0):
    """The loader on a pretended GPU, and the store it reads."""
    store = PhotoStore.open(toys, recipe.framing, progress=False)
    return make_loader(store, store.positions("train"), recipe, GPU, workers), store


def test_without_kornia_the_cpu_augments_and_it_is_said(monkeypatch, toys):
    monkeypatch.setattr("carlib.data.transforms.for_gpu", lambda wanted: False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pretended_gpu(monkeypatch, "T4"):
        with pytest.warns(UserWarning, match="pip install 'carlib") as said:
            loader, _ = loader_of(toys, toy_recipe())
        assert isinstance(loader, CpuLoader) and len(said) == 1


def test_without_kornia_plain_photos_stay_on_the_gpu(monkeypatch, toys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pretended_gpu(monkeypatch, "T4"), warnings.catch_warnings(action="error"):
        loader, store = loader_of(toys, toy_recipe(augment="none"))
        photos = next(loader.epoch(0, [store.positions("train")[:5]]))
        assert isinstance(loader, GpuLoader) and photos.shape == (5, 3, 16, 16)
        with pytest.raises(RecipeError, match=r"needs kornia; pip install 'carlib\[gpu\]'"):
            loader, store = loader_of(toys, toy_recipe(augment_on="gpu"))
            next(loader.epoch(0, [store.positions("train")[:5]]))


def test_a_training_without_kornia_begins(monkeypatch, toys, tmp_path):
    monkeypatch.setattr("carlib.training.loaders.for_gpu", lambda wanted: False)
    with pretended_gpu(monkeypatch, "T4"), pytest.warns(UserWarning, match="kornia"):
        assert train(toy_recipe(epochs=1), toys, tmp_path / "r", workers=0, progress=False).finished


@pytest.mark.parametrize("augment", ["none", "standard"])
def test_photos_that_do_not_fit_are_streamed_and_look_the_same(monkeypatch, toys, augment):
    pytest.importorskip("kornia")
    recipe, made = toy_recipe(augment=augment, augment_on="gpu"), {}
    for free in (12 * GIB, 6 * GIB):  # of 15, of which a network keeps 6
        with pretended_gpu(monkeypatch, "T4", free):
            loader, store = loader_of(toys, recipe)
            batches = np.split(store.positions("train")[::-1], 4)
            assert (loader.pixels is None) == (free == 6 * GIB)
            made[free] = [photos.clone() for photos in loader.epoch(1, batches)]
    for kept, streamed in zip(*made.values(), strict=True):
        assert torch.equal(kept, streamed)


# --- the whole branch ---------------------------------------------------------------------------


@pytest.mark.parametrize("card, kind", [("T4", torch.float16), ("A100", torch.bfloat16)])
def test_a_training_on_cuda_and_what_it_leaves(monkeypatch, toys, tmp_path, card, kind):
    """Augmentation, mixing, averaging, autocast, gradients' scale, `compile`; then scoring."""
    pytest.importorskip("kornia")
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda net: compiled.append(net) or net)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    recipe = toy_recipe(augment="standard", mixup=0.4, cutmix=1.0, ema=0.9, mix_until=0.6,
                        compile=True, epochs=3)  # fmt: skip
    with pretended_gpu(monkeypatch, card) as asked:
        run = train(recipe, toys, tmp_path / "run", progress=False)
        assert set(asked) == {kind} and len(compiled) == 1 and torch.backends.cudnn.benchmark
        rows = run.history()
        assert rows[-1]["train_loss"] < rows[0]["train_loss"]
        asked.clear()
        logits, labels, _ = logits_of(Checkpoint.load(run.kept), toys, "val", progress=False)
        assert set(asked) == {kind} and logits.dtype == torch.float32
        right = (logits.argmax(1).numpy() == labels).mean()
        assert right == pytest.approx(run.summary["kept"]["val_accuracy"])
        scorer, photo = Scorer.of(Checkpoint.load(run.kept)), torch.rand(1, 3, 16, 16)
        asked.clear()
        scorer(photo.requires_grad_()).sum().backward()
        assert photo.grad is not None and not asked  # heat maps are in full precision


def test_a_killed_training_on_cuda_goes_on_with_its_scale(monkeypatch, toys, tmp_path):
    recipe = toy_recipe(augment="none", ema=0.9, epochs=3)
    with pretended_gpu(monkeypatch, "T4"):
        whole = train(recipe, toys, tmp_path / "whole", progress=False)
        keep, seen = loop.keep, []

        def kept_then_killed(run, parts, state, row):
            keep(run, parts, state, row)
            seen.append(parts.accelerator.scaler.get_scale())
            if len(seen) == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(loop, "keep", kept_then_killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, toys, tmp_path / "killed", progress=False)
        assert "scale" in load_tensors(tmp_path / "killed" / "state.safetensors")[1]["scaler"]
        resumed = train(recipe, toys, tmp_path / "killed", progress=False)
    weights, expected = load_tensors(resumed.last)[0], load_tensors(whole.last)[0]
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_head_on_cuda_learns_from_features(monkeypatch, toys, tmp_path):
    recipe = toy_recipe(model="efficientnet_lite0", plan="head", augment="none", size=32,
                        store_size=32, epochs=2)  # fmt: skip
    with pretended_gpu(monkeypatch, "T4") as asked:
        run = train(recipe, toys, tmp_path / "run", progress=False)
        assert set(asked) == {torch.float16} and run.finished
        logits, labels, _ = logits_of(Checkpoint.load(run.kept), toys, "val", progress=False)
    right = (logits.argmax(1).numpy() == labels).mean()
    assert right == pytest.approx(run.summary["kept"]["val_accuracy"])


def test_kernels_are_not_timed_for_photos_that_grow(monkeypatch, toys, tmp_path):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with pretended_gpu(monkeypatch, "T4"):
        recipe = toy_recipe(augment="none", start_size=8, epochs=1)
        train(recipe, toys, tmp_path / "r", progress=False)
    assert not torch.backends.cudnn.benchmark
