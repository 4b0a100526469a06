"""The command line in processes of its own: answers, exit codes, questions at a real terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trees
from toys import shape, toy_recipe
from typer.testing import CliRunner

from carlib.apps.predictor import publish
from carlib.cli import app
from carlib.data.opening import open_catalog
from carlib.paths import results_root
from carlib.training.loop import load_or_train

CARLIB = [sys.executable, "-c", "from carlib.cli import main; main()"]


def call(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*CARLIB, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def network(toy_root, tmp_path_factory) -> Path:
    """A published toy network."""
    from toys import toy_catalog

    folder, catalog = tmp_path_factory.mktemp("network"), toy_catalog(toy_root)
    with pytest.MonkeyPatch.context() as patch:
        for part in ("cache", "runs", "results"):
            patch.setenv(f"CARLIB_{part.upper()}", str(folder / part))
        checkpoint, _ = load_or_train(toy_recipe(epochs=6), catalog, progress=False)
        publish(checkpoint, catalog, path=folder / "toy.safetensors")
    return folder / "toy.safetensors"


def photo(folder: Path, name: str, kind: int, seed: int = 900) -> Path:
    shape(kind, seed).save(folder / name)
    return folder / name


def test_help_needs_nothing_large() -> None:
    """Half a second where nothing else runs; benchmarks/startup.py records it."""
    assert call("--help").returncode == 0
    code = "import sys, carlib.cli; print(sorted({'torch', 'pandas', 'gradio'} & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8"
    )
    assert loaded.stdout.strip() == "[]"


def test_predict_names_cars_and_tells_bad_files(network, tmp_path) -> None:
    good, bad = photo(tmp_path, "disc.png", 2), tmp_path / "notes.jpg"
    bad.write_text("no photo", encoding="utf-8")
    done = call("predict", good, bad, "--model", network, "--json")
    assert done.returncode == 2 and "notes.jpg: not an image file" in done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert found[str(good)]["guesses"][0]["name"] == "red disc" and len(found) == 1
    shown = CliRunner().invoke(app, ["predict", str(good), "--model", str(network)])
    assert shown.exit_code == 0 and "red disc" in shown.output


def test_verify_answers_by_its_exit_code(network, tmp_path) -> None:
    one, two, three = (photo(tmp_path, f"{n}.png", k, n) for n, k in ((1, 2), (2, 2), (3, 3)))
    run = CliRunner().invoke
    codes = [
        run(app, ["verify", str(one), str(other), "--model", str(network), "--json"])
        for other in (two, three)
    ]
    for done in codes:
        assert done.exit_code == (0 if json.loads(done.output)["same"] else 1)
    similar = [json.loads(done.output)["similarity"] for done in codes]
    assert similar[0] > similar[1]


def test_search_explain_and_export(network, toy_root, tmp_path) -> None:
    run, asked = CliRunner().invoke, photo(tmp_path, "disc.png", 2)
    common = ["--model", str(network)]
    found = run(app, ["search", str(asked), "--data", str(toy_root), "--json", *common])
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout[found.stdout.index("[") :])
    assert rows[0]["class_name"] == "red disc" and len(rows) == 8
    out = tmp_path / "heat.png"
    done = run(app, ["explain", str(asked), "--out", str(out), "--box", "0,0,40,40", *common])
    assert done.exit_code == 0 and out.stat().st_size > 1000
    bad = run(app, ["explain", str(asked), "--out", str(out), "--box", "0,0", *common])
    assert bad.exit_code == 2 and "write it as x1,y1,x2,y2" in bad.output
    bad = run(app, ["search", str(asked), "--where", "make", "--data", str(toy_root), *common])
    assert bad.exit_code == 2 and "column=value" in bad.output


def test_a_missing_extra_is_named(network, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "carlib.apps.demo", raising=False)
    done = CliRunner().invoke(app, ["demo", "--model", str(network), "--data", "showroom"])
    assert done.exit_code == 2 and "carlib[demo]" in done.output


def test_a_folder_with_the_test_split_alone_is_scored_and_noted(tmp_path) -> None:
    """Only cars_test/, devkit/cars_meta.mat and the labels of the test photos are there."""
    whole, alone = trees.devkit(tmp_path / "whole", per_class=8), tmp_path / "alone"
    checkpoint, run = load_or_train(toy_recipe(epochs=1), open_catalog(whole).with_val(1 / 8))
    trees.save_meta(alone / "devkit" / "cars_meta.mat")
    rows = trees.devkit_rows(2)
    trees.save_annotations(alone / "cars_test_annos_withlabels.mat", rows)
    for seed, (name, _, _) in enumerate(rows):
        trees.write(alone / "cars_test" / name, trees.photo(100 + seed))
    asked = ["evaluate", str(run.folder), "--data", str(alone), "--split", "test", "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert 0 <= found["metrics"]["accuracy"] <= 1
    assert json.loads(Path(found["record"]).read_text(encoding="utf-8"))["data"]["photos"] == 6
    ledger = (results_root() / "test_ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(ledger) == 1 and json.loads(ledger[0])["checkpoint"] == checkpoint.hash


# --- questions ----------------------------------------------------------------------------------


def test_nothing_is_asked_where_nobody_can_answer() -> None:
    done = call("train")
    assert done.returncode == 2 and "say which recipe to train" in done.stderr


def test_a_terminal_is_asked_and_told_the_command(toy_root) -> None:
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [*CARLIB, "train"], stdin=slave, stdout=slave, stderr=slave, close_fds=True,
        env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    os.close(slave)
    # data, task, target, recipe, loss, cache, epochs (first a wrong one), photos in a batch
    answers = [str(toy_root), "", "", "cnn3", "", "", "0", "1", "16"]
    os.write(master, "".join(f"{answer}\n" for answer in answers).encode())
    said = read_until(master, "accuracy")
    child.wait(600)
    os.close(master)
    assert f"carlib train cnn3 --data {toy_root} --set epochs=1 --set batch_size=16" in said
    assert "a whole number from 1 on" in said
    assert child.returncode == 0


def read_until(terminal: int, words: str, seconds: float = 600) -> str:
    """What the program says up to and with some words."""
    said, end = "", time.monotonic() + seconds
    while words not in said and (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                said += os.read(terminal, 4096).decode(errors="replace")
            except OSError:  # the program has ended
                break
    return said
