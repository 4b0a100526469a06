"""Killed and resumed: the same final weights, bit by bit, as if nothing had happened.

The processes here are real, and so is their end: SIGKILL, which no code can catch.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_catalog, toy_recipe

from carlib import files
from carlib.errors import RunError
from carlib.experiment.run import Run
from carlib.files import load_tensors
from carlib.training import epoch
from carlib.training import loop as training
from carlib.training.loop import train
from carlib.training.parts import make_accelerator, make_parts
from carlib.training.state import TrainState, load_state, save_state

RECIPES = {  # between them: everything that a run has to remember
    "averaged": dict(model="cnn_advanced", ema=0.9, mixup=0.4, cutmix=1.0, dev=0.1,
                     keep="best", mix_probability=0.7, eval_every=2, sampler="balanced",
                     start_size=16, size=32, store_size=32, grayscale=True, augment="scratch_cpu"),
    "plateau": dict(model="cnn3", optimizer="sgd", lr=0.05, schedule="plateau", monitor="loss",
                    dev=0.2, keep="best", plateau_patience=1, step_factor=0.5, accumulate=2,
                    statistics="data"),
    "embedding": dict(model="cnn3", embedding=8, loss="proxy_anchor", sampler="per_class",
                      proxy_lr=50.0, monitor="map_at_r"),
}  # fmt: skip
EPOCHS, STEPS = 3, 5  # 80 photos in batches of 16


def stateful(name: str):
    return toy_recipe(epochs=EPOCHS, batch_size=16, **RECIPES[name])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(module, name: str, when, after: bool = False) -> None:
    """Kill this process when it calls a function for which `when(*arguments)` is true."""
    function = getattr(module, name)

    def deadly(*arguments):
        if not after and when(*arguments):
            die()
        result = function(*arguments)
        if after and when(*arguments):
            die()
        return result

    setattr(module, name, deadly)


def before_step(number: int):
    return lambda: die_in(epoch, "train_step", lambda _, state, *rest: state.step == number)


def after_the_best_weights() -> None:
    """Between two files: the best weights are of an epoch that the state does not know yet."""
    die_in(training, "judge", lambda _, __, state, ___: state.epoch == 2, after=True)


def while_the_state_is_written() -> None:
    replace = os.replace
    count = 0

    def deadly(source, target):
        nonlocal count
        count += Path(target).name == "state.safetensors"
        if count == 2:
            os.truncate(source, os.path.getsize(source) // 2)
            die()
        replace(source, target)

    files.os.replace = deadly


def after_the_last_weights() -> None:
    write = training.write_atomically

    def deadly(path, data):
        if path.name == "finished.json":
            die()
        write(path, data)

    training.write_atomically = deadly


MOMENTS = {
    "first step": before_step(0),
    "middle of the first epoch": before_step(3),
    "middle of the second epoch": before_step(STEPS + 2),
    "after the best weights": after_the_best_weights,
    "while the state is written": while_the_state_is_written,
    "after the last weights": after_the_last_weights,
}


def session(name: str, root: str, cache: str, folder: str, moment: str | None) -> None:
    """One process that trains until its end or its death."""
    torch.set_num_threads(1)
    os.environ["CARLIB_CACHE"] = cache
    if moment:
        MOMENTS[moment]()
    workers = 1 if moment == "middle of the second epoch" else 0
    train(stateful(name), toy_catalog(Path(root)), folder, progress=False, workers=workers)


@pytest.fixture(scope="module")
def processes():
    """A server that has imported everything and forks clean processes off."""
    context = multiprocessing.get_context("forkserver")
    preload = ["carlib.training.loop", "albumentations", "accelerate", "timm.data", "timm.utils"]
    context.set_forkserver_preload([*preload, "torch.utils.tensorboard"])
    return context


@pytest.fixture(scope="module")
def whole(toy_root, tmp_path_factory, processes):
    """Uninterrupted runs by recipe, each trained once."""
    base = tmp_path_factory.mktemp("whole")
    for name in RECIPES:
        process = processes.Process(
            target=session, args=(name, str(toy_root), str(base), str(base / name), None)
        )
        process.start()
        process.join(1800)
        assert process.exitcode == 0
    return base


CASES = [("averaged", moment) for moment in MOMENTS]
CASES += [("plateau", m) for m in ("middle of the second epoch", "after the best weights")]


@pytest.mark.parametrize("name, moment", CASES)
def test_killed_and_resumed_ends_in_the_same_weights(
    processes, whole, toy_root, tmp_path, name, moment
):
    folder = tmp_path / "killed"
    arguments = (name, str(toy_root), str(whole), str(folder))
    process = processes.Process(target=session, args=(*arguments, moment))
    process.start()
    process.join(1800)
    assert process.exitcode == -signal.SIGKILL
    run = Run.of(stateful(name), toy_catalog(toy_root), folder)
    assert not run.finished
    os.environ["CARLIB_CACHE"] = str(whole)  # put back by the private_folders fixture
    train(stateful(name), toy_catalog(toy_root), folder, progress=False, workers=0)
    for file in ("last.safetensors", "best.safetensors"):
        mine, theirs = load_tensors(folder / file)[0], load_tensors(whole / name / file)[0]
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine), file
    there = Run.of(stateful(name), toy_catalog(toy_root), whole / name)
    without_time = [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]
    assert without_time == [
        {k: v for k, v in row.items() if k != "seconds"} for row in there.history()
    ]
    assert not list(folder.glob("*.tmp"))


# --- at random moments --------------------------------------------------------------------------

KILLS = 20


def long_session(root: str, cache: str, folder: str, limit: int = 0) -> None:
    """Train twelve epochs; with a limit no file may grow beyond so many bytes."""
    torch.set_num_threads(1)
    os.environ["CARLIB_CACHE"] = cache
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails with an error
    try:
        train(long_recipe(), toy_catalog(Path(root)), folder, progress=False, workers=0)
    except RunError as error:
        Path(folder).with_suffix(".error").write_text(str(error), encoding="utf-8")
        raise SystemExit(3) from None


def long_recipe():
    return toy_recipe(epochs=12, batch_size=16, **RECIPES["averaged"])


@pytest.fixture(scope="module")
def long_run(toy_root, tmp_path_factory, processes):
    """The uninterrupted run that the others must equal."""
    base = tmp_path_factory.mktemp("long")
    process = processes.Process(
        target=long_session, args=(str(toy_root), str(base), str(base / "whole"))
    )
    process.start()
    process.join(1800)
    assert process.exitcode == 0
    return base


def same_weights(folder: Path, other: Path) -> bool:
    for file in ("last.safetensors", "best.safetensors"):
        mine, theirs = load_tensors(folder / file)[0], load_tensors(other / file)[0]
        if mine.keys() != theirs.keys() or not all(torch.equal(mine[k], theirs[k]) for k in mine):
            return False
    return True


def test_twenty_kills_at_random_moments(processes, long_run, toy_root, tmp_path) -> None:
    """Whatever is going on: importing, decoding, an epoch, the writing of a file.

    A run that reaches its end before the twentieth kill is compared and begun anew: how many
    kills one run takes depends on the machine, what they may cost does not.
    """
    generator, folder, killed = np.random.default_rng(0), tmp_path / "killed", 0
    arguments = (str(toy_root), str(long_run), str(folder))
    while killed < KILLS:
        process = processes.Process(target=long_session, args=arguments)
        process.start()
        process.join(float(generator.uniform(0.05, 1.2)))
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += 1
        else:
            assert process.exitcode == 0
        if (folder / "finished.json").exists():
            assert same_weights(folder, long_run / "whole")
            shutil.rmtree(folder)
    os.environ["CARLIB_CACHE"] = str(long_run)
    train(long_recipe(), toy_catalog(toy_root), folder, progress=False, workers=0)
    assert same_weights(folder, long_run / "whole")
    assert not list(folder.glob("*.tmp"))


def test_a_disk_that_takes_no_more_costs_nothing_that_was_written(
    processes, long_run, toy_root, tmp_path
) -> None:
    """The limit of the file size is the system's: writing fails in the middle of a file."""
    folder = tmp_path / "full"
    largest = (long_run / "whole" / "last.safetensors").stat().st_size
    arguments = (str(toy_root), str(long_run), str(folder), largest // 2)
    process = processes.Process(target=long_session, args=arguments)
    process.start()
    process.join(1800)
    assert process.exitcode == 3
    assert "cannot be written" in folder.with_suffix(".error").read_text(encoding="utf-8")
    assert not list(folder.glob("*.tmp")) and not list(folder.glob("*.safetensors"))
    os.environ["CARLIB_CACHE"] = str(long_run)
    train(long_recipe(), toy_catalog(toy_root), folder, progress=False, workers=0)
    assert same_weights(folder, long_run / "whole")


def test_photos_deleted_during_an_epoch_are_not_missed(
    long_run, toy_root, tmp_path, monkeypatch
) -> None:
    """They were decoded once, and the training lives on that."""
    root, judge = tmp_path / "shapes", training.judge
    shutil.copytree(toy_root, root)
    catalog = toy_catalog(root)

    def delete_then_judge(*arguments):
        shutil.rmtree(root, ignore_errors=True)
        return judge(*arguments)

    monkeypatch.setattr(training, "judge", delete_then_judge)
    train(long_recipe(), catalog, tmp_path / "run", progress=False, workers=0)
    assert not root.exists() and same_weights(tmp_path / "run", long_run / "whole")


def test_the_scale_of_fp16_gradients_is_remembered(toys, tmp_path):
    """Half precision needs a GPU to train in; what is kept of it does not."""
    recipe = stateful("plateau")

    def parts(scale: float):
        accelerator = make_accelerator(recipe)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        return make_parts(recipe, toys, accelerator)

    save_state(tmp_path / "state", parts(1024.0), TrainState(history=[{"epoch": 1.0}]))
    resumed = parts(65536.0)
    assert load_state(tmp_path / "state", resumed).history == [{"epoch": 1.0}]
    assert resumed.accelerator.scaler.get_scale() == 1024.0
