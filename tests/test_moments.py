"""What a kill, a second process or a change on disk may do between two steps, one moment each."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from test_gallery import points
from toys import by_class, shape, toy_catalog, toy_recipe

from carlib.data.framing import Framing
from carlib.data.store import PhotoStore
from carlib.errors import RunError
from carlib.evaluation import evaluate as evaluation
from carlib.evaluation.evaluate import evaluate
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.recipe import Recipe, recipe_from_json
from carlib.experiment.record import append_to_ledger
from carlib.experiment.run import Run
from carlib.files import load_tensors, save_tensors, write_atomically
from carlib.models import backbones
from carlib.paths import cache_root
from carlib.retrieval.embeddings import embed
from carlib.retrieval.gallery import Gallery
from carlib.training import loop
from carlib.training.loop import load_or_train, train


class Killed(BaseException):
    """Ends a training as a signal would: nothing catches it."""


def killed_in(monkeypatch, name: str, call: int, owner=loop):
    """Have the `call`-th call of a function of the loop be the last thing that is done."""
    calls, real = [], getattr(owner, name)

    def counted(*arguments, **named):
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, counted)


# --- a training -----------------------------------------------------------------------------------


def test_killed_after_the_last_state_a_run_has_its_whole_history(toys, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_in(patch, "write_history", 2, Run)
        with pytest.raises(Killed):
            train(toy_recipe(epochs=2), toys, tmp_path / "run", progress=False)
    run = train(toy_recipe(epochs=2), toys, tmp_path / "run", progress=False)
    assert [row["epoch"] for row in run.history()] == [1, 2]


def test_the_best_weights_are_those_that_the_state_knows(toys, tmp_path, monkeypatch):
    """Killed between the better weights and the state; the epoch then goes worse, as on a GPU."""
    recipe, folder = toy_recipe(epochs=2, dev=0.2, keep="best"), tmp_path / "run"
    real, scores = loop.quick_metrics, iter((0.3, 0.9, 0.1))

    def scored(*arguments):
        return real(*arguments) | {"accuracy": next(scores)}

    monkeypatch.setattr(loop, "quick_metrics", scored)
    with monkeypatch.context() as patch:
        killed_in(patch, "save_state", 2)
        with pytest.raises(Killed):
            train(recipe, toys, folder, progress=False)
    run = train(recipe, toys, folder, progress=False)
    assert run.summary["best_epoch"] == 1
    assert load_tensors(run.best)[1]["epoch"] == 1 and not run.next_best.exists()


def test_a_run_that_was_ended_meanwhile_is_not_trained_again(toys, tmp_path, monkeypatch):
    recipe, real = toy_recipe(epochs=1), loop.make_accelerator

    def slowly(recipe):  # another process trains while this one imports
        monkeypatch.setattr(loop, "make_accelerator", real)
        train(recipe, toys, tmp_path / "run", progress=False)
        monkeypatch.setattr(loop, "begin", None)
        return real(recipe)

    monkeypatch.setattr(loop, "make_accelerator", slowly)
    assert len(train(recipe, toys, tmp_path / "run", progress=False).history()) == 1


def test_weights_that_are_gone_or_others_are_not_loaded(toys):
    recipe = toy_recipe(epochs=1)
    _, run = load_or_train(recipe, toys, progress=False)
    tensors, about = load_tensors(run.last)
    save_tensors(run.last, {name: values * 2 for name, values in tensors.items()}, about)
    with pytest.raises(RunError, match="is another file now"):
        load_or_train(recipe, toys)
    run.last.unlink()
    with pytest.raises(RunError, match="is gone; put back"):
        load_or_train(recipe, toys)


def test_other_pretrained_weights_begin_another_run(toys, tmp_path, monkeypatch):
    monkeypatch.setenv("CARLIB_WEIGHTS", str(tmp_path))
    network = backbones.build_backbone("resnet18", 4)
    recipe = toy_recipe(model="resnet18", weights="pretrained", size=32, store_size=32, epochs=1)
    path = tmp_path / f"{backbones.BACKBONES['resnet18'].weights}.safetensors"
    path.write_bytes(b"one")
    run = Run.of(recipe, toys, tmp_path / "run")
    run.folder.mkdir()
    run.claim(toys)
    assert Run.of(recipe, toys, tmp_path / "run") == run and network
    path.unlink()  # on another machine a finished run is loaded without them
    assert Run.of(recipe, toys, tmp_path / "run") == run
    run.claim(toys)  # which forgets nothing
    path.write_bytes(b"another")
    with pytest.raises(RunError, match="begun from other pretrained weights"):
        Run.of(recipe, toys, tmp_path / "run")


def test_whole_numbers_give_the_recipe_that_its_json_gives():
    recipe = Recipe(weight_decay=0, clip=1, lr=1)
    assert recipe.hash == recipe_from_json(recipe.to_json()).hash
    assert recipe.hash == Recipe(weight_decay=0.0, clip=1.0, lr=1.0).hash


# --- photos that change ---------------------------------------------------------------------------


def repaint(catalog, kind: int) -> None:
    """Another picture under the name of the first val photo."""
    path = catalog.select("val").table["path"].iloc[0]
    shape(kind, 99).save(Path(catalog.root) / path)


def test_photos_that_change_while_they_are_scored_have_no_record(tmp_path, monkeypatch):
    catalog = toy_catalog(by_class(tmp_path / "toys", per_class=6))
    checkpoint, real = Checkpoint.begin(toy_recipe(), catalog), evaluation.logits_of

    def meanwhile(*arguments, **named):
        found = real(*arguments, **named)
        repaint(catalog, 3)
        return found

    monkeypatch.setattr(evaluation, "logits_of", meanwhile)
    with pytest.raises(RunError, match="changed while they were scored"):
        evaluate(checkpoint, catalog)


def test_a_training_says_which_photos_it_decoded(tmp_path, monkeypatch):
    catalog = toy_catalog(by_class(tmp_path / "toys", per_class=6))
    real, before = loop.make_parts, catalog.fingerprint

    def after(*arguments, **named):
        parts = real(*arguments, **named)
        repaint(catalog, 3)
        return parts

    monkeypatch.setattr(loop, "make_parts", after)
    run = train(toy_recipe(epochs=1), catalog, tmp_path / "run", progress=False)
    assert Checkpoint.load(run.last).told()["trained_on"] == before
    assert run.data["fingerprint"] == before != catalog.fingerprint


def test_logits_of_epochs_belong_to_their_photos(tmp_path):
    """As they are kept they go with a record of the same photos in the same order alone."""
    catalog = toy_catalog(by_class(tmp_path / "toys", per_class=6))
    run = train(toy_recipe(epochs=2), catalog, progress=False, keep_epochs=True)
    checkpoint = Checkpoint.load(run.kept)
    rows = np.flatnonzero(catalog.table["split"] == "val")
    assert run.epoch_logits(catalog.photos_digest(rows))["epochs"].shape == (2, len(rows), 4)
    assert run.epoch_logits(catalog.photos_digest(rows[::-1])) == {}
    repaint(catalog, 3)
    assert run.epoch_logits(catalog.photos_digest(rows)) == {}
    assert evaluate(checkpoint, catalog, "val", run).outputs


def test_untrained_networks_that_look_otherwise_are_not_one(toys):
    one, other = (Checkpoint.begin(toy_recipe(size=size), toys) for size in (16, 20))
    assert all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))
    assert one.hash != other.hash
    gallery = Gallery.build(embed(one, toys, progress=False))
    with pytest.raises(RunError, match="checkpoint"):
        gallery.add(embed(other, toys, progress=False))


# --- files of others, and remains -----------------------------------------------------------------


def test_files_of_other_people_stay(toys, tmp_path):
    theirs = ("draft.tmp", "photos-2019.zip", "index-of-cars.md", "photos-raw/a.jpg")
    for name in theirs:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("years of work", encoding="utf-8")
    ours = tmp_path / "last.safetensors.1-abcdef.tmp"
    ours.write_text("half", encoding="utf-8")
    gallery = Gallery.build(points())
    gallery.save(tmp_path)
    gallery.save(tmp_path)
    train(toy_recipe(epochs=1), toys, tmp_path, progress=False)
    assert all((tmp_path / name).exists() for name in theirs) and not ours.exists()
    assert len(list(tmp_path.glob("index-*.faiss"))) == 1


def test_remains_of_killed_decoders_are_swept(tmp_path):
    catalog = toy_catalog(by_class(tmp_path / "toys", per_class=3))
    store = PhotoStore.open(catalog, Framing(16), progress=False)
    stem = Path(store.pixels.filename).with_suffix("")
    Path(f"{stem}.json").unlink()
    Path(f"{stem}.999.tmp").write_bytes(b"half of the photos")
    PhotoStore.open(catalog, Framing(16), progress=False)
    assert not list((cache_root() / "photos").glob("*.tmp"))


def test_writers_of_one_file_do_not_meet(tmp_path):
    path, errors = tmp_path / "one.json", []

    def write(letter: str) -> None:
        try:
            for _ in range(20):
                write_atomically(path, letter * 5000)
                assert len(set(path.read_text(encoding="utf-8"))) == 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and [file.name for file in tmp_path.iterdir()] == ["one.json"]


def test_a_line_that_was_cut_spoils_no_later_one(tmp_path):
    path = append_to_ledger({"checkpoint": "a"}, tmp_path)
    path.write_bytes(path.read_bytes() + b'{"checkpoint": "b')
    append_to_ledger({"checkpoint": "c"}, tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["checkpoint"] for line in (lines[0], lines[2])] == ["a", "c"]
    assert len(lines) == 3


def test_features_whose_bits_turned_are_computed_again(toys):
    checkpoint = Checkpoint.begin(toy_recipe(), toys)
    first = embed(checkpoint, toys, progress=False).vectors
    for path in (cache_root() / "features").glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-5] ^= 0x10
        path.write_bytes(data)
    np.testing.assert_array_equal(embed(checkpoint, toys, progress=False).vectors, first)


def test_a_look_that_is_no_number_is_never_the_best(toys, tmp_path, monkeypatch):
    losses, real = iter([float("nan"), 1.0, 2.0]), loop.quick_metrics
    monkeypatch.setattr(loop, "quick_metrics", lambda *a: real(*a) | {"loss": next(losses)})
    run = train(toy_recipe(epochs=3, dev=0.2, keep="best", monitor="loss"), toys, progress=False)
    assert run.summary["best_epoch"] == 2
    record = evaluate(Checkpoint.load(run.best), toys, "val", run)
    assert ["dev_loss" in row for row in record.history] == [False, True, True]
    record.write(tmp_path)  # which refuses what is no number
