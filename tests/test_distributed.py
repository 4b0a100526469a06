"""Two real processes that train together, as torchrun and accelerate start them, against one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_catalog

from carlib.distributed import all_agree, all_gather, is_main, shard, world
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.run import Run
from carlib.files import load_tensors
from carlib.retrieval.embeddings import embed
from carlib.training.loop import train

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
                          "CARLIB_CACHE": str(folder / "cache")},
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
    mine, theirs = (json.loads(path.read_text()) for path in (record, single))
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
    from toys import toy_recipe

    script, out = tmp_path / "embedding.py", tmp_path / "points.npy"
    script.write_text(EMBEDDING)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
               "--standalone", str(script), str(toy_root), str(out)]  # fmt: skip
    here = str(Path(__file__).parent)
    subprocess.run(command, check=True, env=os.environ | {
        "PYTHONPATH": os.pathsep.join([here, str(Path(here).parent)]), "OMP_NUM_THREADS": "1",
        "CARLIB_CACHE": str(tmp_path / "other")})  # fmt: skip
    alone = embed(Checkpoint.begin(toy_recipe(), toys), toys, progress=False)
    np.testing.assert_allclose(np.load(out), alone.vectors, atol=2e-3)


LAUNCHED = """
import sys
from pathlib import Path
from accelerate import debug_launcher
from toys import toy_catalog, toy_recipe
from carlib.training.loop import train

def work():
    train(toy_recipe(augment="none", epochs=2), toy_catalog(Path(sys.argv[1])), sys.argv[2],
          progress=False, workers=0)

if __name__ == "__main__":
    debug_launcher(work, num_processes=2)
"""


def test_a_program_starts_them_as_a_notebook_does(toys, toy_root, tmp_path) -> None:
    """By accelerate's launcher for processors; notebook_launcher is the same one for GPUs."""
    from toys import toy_recipe

    script, folder = tmp_path / "launched.py", tmp_path / "both"
    script.write_text(LAUNCHED)
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, str(script), str(toy_root), str(folder)], check=True, env=(
        os.environ | {"PYTHONPATH": os.pathsep.join([here, str(Path(here).parent)]),
                      "OMP_NUM_THREADS": "1"}))  # fmt: skip
    alone = train(toy_recipe(augment="none", epochs=2), toys, tmp_path / "one", progress=False)
    both = Run(folder, toy_recipe())
    assert both.finished
    for mine, theirs in zip(both.history(), alone.history(), strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)


def test_alone_everything_is_ones_own(toy_root) -> None:
    assert world() == (0, 1) and is_main() and all_agree(True) and not all_agree(False)
    positions = np.arange(5)
    np.testing.assert_array_equal(shard(positions), positions)
    values = torch.rand(5, 2)
    assert all_gather(values, 5) is values
    assert len(toy_catalog(toy_root)) == 96
