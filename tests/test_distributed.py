"""Two real processes that train together, as torchrun and accelerate start them, against one."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import positive_pairs, toy_catalog, toy_recipe, train_all

from carlib import distributed
from carlib.distributed import all_agree, all_gather, is_main, launch, shard, world
from carlib.errors import RunError
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.run import Run
from carlib.files import load_tensors
from carlib.retrieval.embeddings import embed

SETTINGS = dict(model="cnn3", size=16, augment="none", epochs=3, batch_size=16, lr=2e-3,
                smoothing=0.0, statistics="half", eval_size=0)  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "carlib"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1",
              "--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={free_port()}",
              "-m", "carlib"]  # fmt: skip
LAUNCHERS = {"one": ["-m", "carlib"], "torchrun": TORCHRUN, "accelerate": ACCELERATE}


def train_with(launcher: str, root: Path, folder: Path) -> Run:
    changes = [word for k, v in SETTINGS.items() for word in ("--set", f"{k}={json.dumps(v)}")]
    done = subprocess.run(
        [sys.executable, *LAUNCHERS[launcher], "train", "cnn3", "--data", str(root), *changes],
        capture_output=True, text=True, timeout=1800,
        env=os.environ | {"CARLIB_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1",
                          "CARLIB_RESULTS": str(folder / "results"),
                          "CARLIB_CACHE": str(folder / "cache")}, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("macro F1") == 1  # said once
    (found,) = (folder / "runs").iterdir()
    return Run(found, Checkpoint.load(found).recipe)


@pytest.fixture(scope="module")
def alone(toy_root, tmp_path_factory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("one")
    return train_with("one", toy_root, folder), folder


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_give_the_curve_of_one(alone, toy_root, tmp_path, launcher: str) -> None:
    """Each with half of the batch: together they are one process with the whole of it."""
    run, folder = alone
    both = train_with(launcher, toy_root, tmp_path)
    for mine, theirs in zip(both.history(), run.history(), strict=True):
        for name in ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            assert mine[name] == pytest.approx(theirs[name], abs=1e-4), name
    weights, expected = load_tensors(both.last)[0], load_tensors(run.last)[0]
    assert all(torch.allclose(weights[k], expected[k], atol=1e-4) for k in expected)
    (record,) = (tmp_path / "results").glob("*.json")  # written once
    (single,) = (folder / "results").glob("*.json")
    mine, theirs = (json.loads(path.read_text(encoding="utf-8")) for path in (record, single))
    assert mine["data"] == theirs["data"]  # every photo counted once
    assert mine["metrics"]["accuracy"] == pytest.approx(theirs["metrics"]["accuracy"])


EMBEDDING = """
import sys, numpy as np
from pathlib import Path
from toys import toy_catalog, toy_recipe
from carlib.retrieval.embeddings import embed
from carlib.distributed import is_main
from carlib.experiment.checkpoint import Checkpoint
catalog = toy_catalog(Path(sys.argv[1]))
points = embed(Checkpoint.begin(toy_recipe(), catalog), catalog, progress=False)
if is_main():
    np.save(sys.argv[2], points.vectors)
"""


def test_embeddings_are_shared_and_put_in_order(toys, toy_root, tmp_path) -> None:
    script, out = tmp_path / "embedding.py", tmp_path / "points.npy"
    script.write_text(EMBEDDING, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
               "--standalone", str(script), str(toy_root), str(out)]  # fmt: skip
    here = str(Path(__file__).parent)
    subprocess.run(command, check=True, env=os.environ | {
        "PYTHONPATH": os.pathsep.join([here, str(Path(here).parent)]), "OMP_NUM_THREADS": "1",
        "CARLIB_CACHE": str(tmp_path / "other")})  # fmt: skip
    alone = embed(Checkpoint.begin(toy_recipe(), toys), toys, progress=False)
    np.testing.assert_allclose(np.load(out), alone.vectors, atol=2e-3)


# --- one recipe, one curve ----------------------------------------------------------------------

NO_KORNIA = importlib.util.find_spec("kornia") is None
# Plain steps, since Adam makes steps even of rounding errors; no batch norm, whose statistics are
# of a share, no dropout, and no clipping, which would hide a wrong scale.
PLAIN = dict(augment="light", optimizer="sgd", lr=0.01, clip=0.0, epochs=3, batch_size=12)
COMPARES = dict(embedding=8, **(PLAIN | dict(lr=0.001)))
ALIKE = [
    toy_recipe(name="augmented", **(PLAIN | dict(augment="strong"))),
    toy_recipe(name="odd", **(PLAIN | dict(batch_size=9, accumulate=2))),
    toy_recipe(name="mixed", mixup=0.4, cutmix=1.0, mix_until=0.7, ema=0.9,
               **(PLAIN | dict(batch_size=15))),
    *([] if NO_KORNIA else [
        toy_recipe(name="kornia", augment_on="gpu", **(PLAIN | dict(augment="strong")))]),
    toy_recipe(name="pairs", loss="contrastive", sampler="pairs", **COMPARES),
    *(toy_recipe(name=loss, loss=loss, sampler="per_class", per_class=3, **COMPARES)
      for loss in ("contrastive", "triplet", "multi_similarity", "proxy_anchor")),
]  # fmt: skip


@pytest.fixture(scope="module")
def one_curve(toy_root, tmp_path_factory) -> Path:
    """All of these trained by this process, which has so trained before."""
    folder = tmp_path_factory.mktemp("curves")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARLIB_CACHE", str(folder / "cache"))
        train_all(str(toy_root), str(folder), ALIKE)
    return folder


@pytest.mark.parametrize("processes", [2, 3])
def test_one_recipe_is_one_curve_on_any_number_of_processes(
    one_curve, toy_root, tmp_path, processes
):
    """With all that is drawn: batches, augmentation, mixing; and with losses that compare."""
    launch(train_all, processes, str(toy_root), str(tmp_path), ALIKE)
    for recipe in ALIKE:
        alone, shared = (Run(who / recipe.name, recipe) for who in (one_curve, tmp_path))
        for mine, theirs in zip(shared.history(), alone.history(), strict=True):
            for name in ("lr", "train_loss", "train_accuracy", "val_accuracy"):
                assert mine[name] == pytest.approx(theirs[name], abs=1e-4), (recipe.name, name)
        weights, expected = load_tensors(shared.last)[0], load_tensors(alone.last)[0]
        for name in expected:
            assert torch.allclose(weights[name], expected[name], atol=1e-4), (recipe.name, name)


COMPARING = [toy_recipe(embedding=8, loss="contrastive", sampler=sampler, batch_size=16)
             for sampler in ("pairs", "per_class")]  # fmt: skip


def test_pairs_of_one_class_stay_as_many(toy_root):
    alone = positive_pairs(str(toy_root), COMPARING)
    assert alone[0] > 0.3 and alone[1] > 0.15
    assert launch(positive_pairs, 2, str(toy_root), COMPARING) == alone


def test_what_is_frozen_may_change_on_several_processes(toy_root, tmp_path):
    """A body that learns from the second epoch on, and one that never does."""
    body = dict(model="efficientnet_lite0", augment="none", size=32, store_size=32, epochs=2,
                optimizer="sgd", lr=0.01)  # fmt: skip
    recipes = [toy_recipe(name="later", plan="head:1:1 all:1:0.1", **body),
               toy_recipe(name="never", plan="head", **body)]  # fmt: skip
    train_all(str(toy_root), str(tmp_path / "one"), recipes)
    launch(train_all, 2, str(toy_root), str(tmp_path / "two"), recipes)
    later, never = (
        [[row["train_loss"] for row in Run(tmp_path / who / recipe.name, recipe).history()]
         for who in ("one", "two")]
        for recipe in recipes
    )  # fmt: skip
    assert len(later[1]) == 2  # batch norm and dropout differ, so the losses do
    assert np.allclose(never[0], never[1], atol=0.1)


def test_shares_are_a_batch(monkeypatch):
    for count, number in ((7, 3), (8, 4), (16, 5)):
        for mixed in (False, True):
            shares = []
            for rank in range(number):
                monkeypatch.setattr(distributed, "world", lambda r=rank, n=number: (r, n))
                try:
                    shares.append(distributed.places(count, mixed))
                except RunError as error:
                    assert count // 2 < number and "start fewer, or set a larger" in str(error)
                    break
                if mixed:  # both of every two
                    assert set(shares[-1]) == set(count - 1 - shares[-1])
            else:
                seen = np.concatenate(shares)
                middle = {count // 2} if mixed and count % 2 else set()
                assert len(seen) == len(set(seen)) and set(seen) == set(range(count)) - middle


NOTEBOOK = """
import signal, sys
from pathlib import Path
from toys import toy_catalog, toy_recipe
from carlib.distributed import launch
from carlib.training.loop import train
catalog = toy_catalog(Path(sys.argv[1]))
recipe = toy_recipe(augment="none", epochs=2)
interrupted = signal.getsignal(signal.SIGINT)
alone = train(recipe, catalog, sys.argv[2] + "/one", progress=False)
both = launch(train, 2, recipe, catalog, sys.argv[2] + "/two", progress=False, workers=0)
assert both.finished
assert signal.getsignal(signal.SIGINT) is interrupted
for mine, theirs in zip(both.history(), alone.history(), strict=True):
    assert abs(mine["train_loss"] - theirs["train_loss"]) < 1e-4
def mine(): ...
try:
    launch(mine, 2)
except Exception as error:
    assert "only this notebook knows it" in str(error), error
else:
    raise AssertionError
try:
    launch(train, 2, recipe.but(batch_size=1), catalog, sys.argv[2] + "/four")
except Exception as error:
    assert "start fewer, or set a larger batch_size" in str(error), error
else:
    raise AssertionError
"""


def test_a_notebook_that_has_trained_starts_them(toy_root, tmp_path) -> None:
    """In a kernel: no file behind its cells, and what was trained before has been set up."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    here = str(Path(__file__).parent)
    paths = [here, str(Path(here).parent)]
    begin = f"import sys; sys.path[:0] = {paths!r}; sys.argv[1:] = {[str(toy_root), str(tmp_path)]}"
    cells = [nbformat.v4.new_code_cell(source) for source in (begin, NOTEBOOK)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()


def test_alone_everything_is_ones_own(toy_root) -> None:
    assert world() == (0, 1) and is_main() and all_agree(True) and not all_agree(False)
    positions = np.arange(5)
    np.testing.assert_array_equal(shard(positions), positions)
    values = torch.rand(5, 2)
    assert all_gather(values, 5) is values
    assert len(toy_catalog(toy_root)) == 96
