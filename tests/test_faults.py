"""Faults while a network learns: stopped, robbed of a worker, of photos, of memory, or changed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_resume import long_recipe, long_run, long_session, processes, same_weights  # noqa: F401
from toys import toy_catalog, toy_recipe

from carlib.errors import RunError
from carlib.experiment.run import Run
from carlib.files import load_tensors
from carlib.training import loop as training
from carlib.training import parts as building
from carlib.training.loop import train


def test_stopped_for_a_while_it_goes_on(processes, long_run, toy_root, tmp_path) -> None:  # noqa: F811
    arguments = (str(toy_root), str(long_run), str(tmp_path / "run"))
    process = processes.Process(target=long_session, args=arguments)
    process.start()
    for _ in range(5):
        process.join(0.3)
        with contextlib.suppress(ProcessLookupError):  # it ends when it is done, whoever looks
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(process.pid, signal.SIGCONT)
    process.join(1800)
    assert process.exitcode == 0 and same_weights(tmp_path / "run", long_run / "whole")


def test_a_worker_that_is_killed_is_told_and_nothing_is_lost(
    long_run,  # noqa: F811
    toy_root,
    tmp_path,
    monkeypatch,
) -> None:
    catalog, folder, judge = toy_catalog(toy_root), tmp_path / "run", training.judge

    def kill_then_judge(run, parts, state, metrics):
        judge(run, parts, state, metrics)
        if state.epoch >= 4:
            for child in multiprocessing.active_children():
                child.kill()

    monkeypatch.setattr(training, "judge", kill_then_judge)
    with pytest.raises(RunError, match=r"process that reads photos was ended.*the same command"):
        train(long_recipe(), catalog, folder, progress=False, workers=1)
    monkeypatch.undo()
    assert len(Run.of(long_recipe(), catalog, folder).history()) >= 2
    os.environ["CARLIB_CACHE"] = str(long_run)
    train(long_recipe(), catalog, folder, progress=False, workers=0)
    assert same_weights(folder, long_run / "whole")


def test_photos_replaced_during_an_epoch_are_seen_as_they_were(
    long_run,  # noqa: F811
    toy_root,
    tmp_path,
    monkeypatch,
) -> None:
    """They were decoded once; whoever trains afterwards has other data, and another run."""
    root, judge = tmp_path / "shapes", training.judge
    shutil.copytree(toy_root, root)
    catalog = toy_catalog(root)
    before = catalog.fingerprint

    def replace_then_judge(*arguments):
        for path in catalog.table["path"][:5]:
            Image.new("RGB", (48, 40), "black").save(root / path)
        return judge(*arguments)

    monkeypatch.setattr(training, "judge", replace_then_judge)
    train(long_recipe(), catalog, tmp_path / "run", progress=False, workers=0)
    assert same_weights(tmp_path / "run", long_run / "whole")
    assert toy_catalog(root).fingerprint != before
    with pytest.raises(RunError, match="other"):
        train(long_recipe(), toy_catalog(root), tmp_path / "run", progress=False, workers=0)


class Hungry(torch.nn.Module):
    """A network that runs out of memory on more than `most` photos."""

    def __init__(self, inner: torch.nn.Module, most: int, fail: Callable[[], None]) -> None:
        super().__init__()
        self.inner, self.most, self.fail = inner, most, fail

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        if self.training and len(photos) > self.most and photos.device.type != "meta":
            self.fail()
        return self.inner(photos)


def of_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory (pretended)")


def of_the_machine() -> None:
    torch.empty(2**50)  # fails as a smaller one would if there were no memory left


def of_python() -> None:
    raise MemoryError


def make_hungry(monkeypatch: pytest.MonkeyPatch, most: int, fail=of_a_gpu) -> None:
    make = building.make_network
    monkeypatch.setattr(building, "make_network", lambda *a, **k: Hungry(make(*a, **k), most, fail))


@pytest.mark.parametrize("fail", [of_a_gpu, of_the_machine, of_python])
def test_memory_that_ends_costs_smaller_pieces(toys, tmp_path, monkeypatch, capsys, fail) -> None:
    recipe = toy_recipe(epochs=1, optimizer="sgd", lr=0.05)
    whole = load_tensors(train(recipe, toys, tmp_path / "whole").last)[0]
    make_hungry(monkeypatch, 3, fail)
    pieces = load_tensors(train(recipe, toys, tmp_path / "pieces").last)[0]
    assert "pieces of 2 photos, 4 to a step" in capsys.readouterr().err
    for name, tensor in whole.items():
        assert torch.allclose(tensor, pieces[f"inner.{name}"], atol=1e-5)


def test_memory_for_no_photo_is_an_error(toys, monkeypatch) -> None:
    make_hungry(monkeypatch, 0)
    with pytest.raises(RunError, match="single photo; use a smaller size"):
        train(toy_recipe(), toys)


def test_pieces_are_no_smaller_than_batch_norm_can_use(toys, monkeypatch) -> None:
    """Of vectors, as before a classifier: one photo has no statistics."""
    make_hungry(monkeypatch, 1)
    recipe = toy_recipe(embedding=8, loss="contrastive", sampler="per_class", smoothing=0.0)
    normed = torch.nn.BatchNorm1d(8)
    make = building.make_network

    def with_norm(*arguments, **options):
        network = make(*arguments, **options)
        network.norm = normed
        return network

    monkeypatch.setattr(building, "make_network", with_norm)
    with pytest.raises(RunError, match="two photos; use a smaller size"):
        train(recipe, toys, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in a run's folder, but for what TensorBoard shows."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"epochs": 13}, {"seed": 1}, {"size": 24}])
def test_a_recipe_changed_before_the_resume_is_refused(toys, tmp_path, monkeypatch, change) -> None:
    """In a folder that was named; without a name the other recipe has a folder of its own."""
    recipe, folder, judge = long_recipe(), tmp_path / "run", training.judge

    def stop_in_epoch_two(run, parts, state, metrics):
        judge(run, parts, state, metrics)
        if state.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "judge", stop_in_epoch_two)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, toys, folder, progress=False, workers=0)
    monkeypatch.undo()
    kept = contents(folder)
    other = replace(recipe, **change)
    with pytest.raises(RunError, match=str(next(iter(change)))):
        train(other, toys, folder, progress=False, workers=0)
    assert contents(folder) == kept
    assert Run.of(other, toys).folder != Run.of(recipe, toys).folder
    assert Path(train(recipe, toys, folder, progress=False, workers=0).folder) == folder
