"""What notebooks begin and end with: the set-up and the tables made from records."""

from __future__ import annotations

import inspect
import os
import sys
import types
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from fakes import fake_audit, fake_record, fake_retrieval, fake_verification
from toys import by_class

import carlib
from carlib import notebook
from carlib.data.catalog import Extras
from carlib.data.opening import open_catalog
from carlib.errors import CarlibError
from carlib.experiment.cost import DEVICES, seconds_on, training_flops, within
from carlib.experiment.registry import RECIPES, get_recipe
from carlib.paths import runs_root
from carlib.report.tables import QUESTIONS

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARLIB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> notebook.Setup:
    """A set-up on photos of somebody's own, on a CPU whatever this machine has."""
    monkeypatch.setenv("CARLIB_DATA", str(by_class(tmp_path / "photos")))
    return replace(notebook.setup(seed=3), device="cpu")


def test_setup_opens_the_data_and_says_what_runs_where(here, capsys) -> None:
    assert here.catalog.split_sizes.keys() == {"train", "val"}
    notebook.setup(seed=3)
    said = capsys.readouterr().out
    for word in ("data", "96 photos", "device", "seed     3", "torch"):
        assert word in said


def test_recipes_are_as_long_as_the_profile_has_time_for(here) -> None:
    small = here.recipe("s1", {"epochs": 2}, lr=0.5)
    assert (small.name, small.epochs, small.lr) == ("s1_quick+epochs=2,lr=0.5", 2, 0.5)
    assert small.seed == 3 and here.recipe("s1").name == "s1_quick"
    whole = replace(here, profile="whole").recipe("s1", {"epochs": 2}, lr=0.5)
    assert whole == get_recipe("s1", seed=3).variant(lr=0.5) and whole.name == "s1+lr=0.5"
    tiny = replace(here, profile="tiny").recipe("s1", {"epochs": 9})
    assert (tiny.epochs, tiny.size) == (2, 32)
    staged = replace(here, profile="tiny").recipe("lite0", plan="head:6:1 all:6:0.1")
    assert staged.plan == "head:1:1 all:1:0.1"


def test_an_hour_of_a_gpu_bounds_every_training(here) -> None:
    hour = replace(here, profile="hour")
    assert hour.recipe("lite0").epochs == get_recipe("lite0").epochs  # two minutes by estimate
    steps = within(get_recipe("efficientnet_b3"), 60, 7330, 196)
    whole = get_recipe("efficientnet_b3")
    assert steps.epochs < whole.epochs and 0 < steps.step_epochs < whole.step_epochs
    long = within(get_recipe("scratch_best"), 60, 7330, 196)
    assert 1 <= long.epochs < get_recipe("scratch_best").epochs and "+epochs=" in long.name
    assert seconds_on(DEVICES["T4"], training_flops(long, 7330, 196)) <= 60
    hour.recipe("scratch_best")
    assert 0 < hour.seconds_on("L4") < hour.seconds_on("T4") <= 2 * 60 * notebook.MINUTES


def test_profiles_come_from_the_environment_and_are_checked(here, monkeypatch) -> None:
    monkeypatch.setenv("CARLIB_PROFILE", "tiny")
    assert notebook.setup().profile == "tiny" and notebook.setup(profile="whole").full
    with pytest.raises(CarlibError, match="'huge'; known: tiny, quick, hour, whole"):
        notebook.setup(profile="huge")


def test_photos_on_a_gpu_get_an_hour_and_drawn_cars_do_not(here, monkeypatch) -> None:
    drawn = replace(here.catalog, extras=Extras(publishable=True))
    monkeypatch.setattr(notebook, "the_device", lambda: torch.device("cuda"))
    assert notebook.setup().profile == "hour"
    monkeypatch.setattr(notebook, "open_catalog", lambda _: drawn)
    assert notebook.setup().profile == "quick"


def test_stanford_cars_are_fetched_when_asked_for_by_name(here, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(
        "carlib.data.download.fetch", lambda name, folder: open_catalog(by_class(folder / name))
    )
    assert len(notebook.setup(data="stanford-cars").catalog) == 96


def test_the_set_up_that_notebooks_call_takes_what_it_says() -> None:
    assert inspect.signature(carlib.setup) == inspect.signature(notebook.setup, eval_str=False)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_form_of_a_notebook_opens_other_data(path: Path, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CARLIB_CACHE", str(tmp_path))
    form = nbformat.read(path, as_version=4).cells[2].source
    assert form.startswith("# @title Photographs instead of drawn cars")
    chosen = form.replace('data = ""', f"data = {str(by_class(tmp_path / 'cars'))!r}")
    opened = {"carlib": carlib}
    exec(chosen.replace("drive = False", "drive = True"), opened)
    assert chosen != form and len(opened["here"].catalog) == 96
    assert "no Colab here" in capsys.readouterr().out


def test_runs_are_kept_on_drive_where_there_is_one(here, monkeypatch, capsys) -> None:
    notebook.setup(drive=True)
    assert "no Colab here" in capsys.readouterr().out
    mounted = []
    colab = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setenv("CARLIB_RUNS", "anywhere")
    notebook.setup(drive=True)
    assert mounted == ["/content/drive"] and "drive/MyDrive" in os.environ["CARLIB_RUNS"]


def test_records_of_drawn_cars_are_not_kept(here, results: Path) -> None:
    here.keep(fake_record())
    kept = runs_root() / "records"
    assert len(list(kept.iterdir())) == 1
    drawn = replace(here.catalog, extras=Extras(publishable=True))
    replace(here, catalog=drawn).keep(fake_record("cnn4"))
    assert len(list(kept.iterdir())) == 1 and not results.exists()


def test_full_scale_shows_what_a_recipe_was_until_it_is_run_again(results: Path) -> None:
    old = fake_record("lite0_cpu")
    replace(old, recipe=old.recipe | {"chosen_on": "val"}, recipe_hash="", method="").write()
    table = notebook.full_scale("accuracy", "lite0_cpu")
    assert list(table.index) == ["ours, fine-tuned, 12 epochs (earlier recipe)"]


def test_full_scale_averages_seeds_and_says_what_was_not_run(results: Path) -> None:
    fake_record(accuracy=0.1).write()
    fake_record(seed=1, accuracy=0.3).write()
    fake_record("cnn4", dataset="showroom").write()
    assert list(notebook.full_scale("accuracy")["recipe"]) == ["cnn3"]
    table = notebook.full_scale("accuracy", "s1", "cnn3")
    assert table.index.tolist() == [RECIPES[name].note for name in ("s1", "cnn3")]
    table = table.set_index("recipe")
    assert table["accuracy"].to_dict() == {"s1": "not run", "cnn3": "0.200"}
    assert table.loc["cnn3", "interval"] == "0.100 to 0.300"
    assert table.loc["cnn3", ["seeds", "training"]].tolist() == ["2", "13 min, 2 CPU cores"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_tables_without_any_record_say_so(results: Path, question: str) -> None:
    assert notebook.full_scale(question).iloc[0, 0] == "not run"


def test_unknown_questions_name_the_known_ones(results: Path) -> None:
    with pytest.raises(CarlibError, match="'speed'; known: accuracy, from scratch"):
        notebook.full_scale("speed")


def test_full_scale_data_is_a_column_per_data_set(results: Path) -> None:
    record = replace(fake_audit(), data=fake_audit().data | {"catalog": "stanford-cars"})
    record.write()
    column = notebook.full_scale("data")["stanford-cars"]
    assert (column["photos"], column["tiny"]) == ("7,654", "41")


def test_full_scale_tells_scratch_from_transfer(results: Path) -> None:
    fake_record().write()
    fake_record("lite0_frozen").write()
    assert list(notebook.full_scale("from scratch")["recipe"]) == ["cnn3"]
    assert list(notebook.full_scale("pretrained")["recipe"]) == ["lite0_frozen"]


def test_studies_show_their_rows(results: Path) -> None:
    rows = [{"score": "energy", "auroc": 0.91234}, {"score": "max softmax", "auroc": 0.9}]
    study = replace(fake_record("lite0_frozen"), kind="study", topic="unknown", name="unknown-x")
    replace(study, extra={"rows": rows}).write()
    table = notebook.full_scale("unknown")
    assert table["AUROC"].tolist() == ["0.912", "0.900"]
    assert set(table.index) == {RECIPES["lite0_frozen"].note}


def test_experiments_keep_what_every_network_reached_and_cost(here, results, capsys) -> None:
    lab = notebook.Experiments(here, here.catalog)
    cut = {"epochs": 1, "size": 16, "store_size": 16}
    lab.run("cnn3", "three", cut)
    lab.run("cnn4", "four", cut, lr=0.01)
    assert "three: accuracy" in capsys.readouterr().out
    table = lab.table()
    assert list(table.index) == ["three", "four"] == list(lab.logits)
    assert lab.table("four").index.tolist() == ["four"] == list(lab.metrics("four"))
    assert (table["GFLOPs"] > 0).all() and (table["photos/s"] > 0).all()
    assert table.loc["four", "accuracy"] == lab.records["four"].metrics["accuracy"]
    assert len(lab.logits["three"]) == lab.records["three"].data["photos"]
    assert len(list((runs_root() / "records").glob("*.json"))) == 2  # of photos of one's own


def test_retrieval_tables_show_records(results: Path) -> None:
    for seed, value in enumerate((0.8, 0.9)):
        fake_verification(seed=seed, value=value).write()
    table = notebook.full_scale("pairs")
    assert table.loc[RECIPES["siamese_lite0"].note, ["AUC, hard", "loss"]].tolist() == [
        "0.850",
        "contrastive",
    ]
    for seed, value in enumerate((0.5, 0.7)):
        fake_retrieval(seed=seed, value=value).write()
    table = notebook.full_scale("unseen classes")
    assert table.loc[RECIPES["lite0_frozen"].note, ["MAP@R", "seeds"]].tolist() == ["0.600", "2"]
    chosen, frozen = (
        {"metric": "cosine", "weights": "uniform", "k": 7},
        RECIPES["lite0_frozen"].note,
    )
    knn = replace(fake_record("lite0_frozen"), kind="knn", name="knn-x")
    replace(knn, extra={"chosen": chosen}, timing={"predict_seconds": 0.5}).write()
    assert notebook.full_scale("votes")["k"].to_dict() == {f"{frozen}, seed 0": "7"}
    rows = [{"index": "flat", "recall at 10": 1.0}]
    bench = replace(knn, kind="benchmark", topic="search", name="search-x", data={"photos": 10})
    replace(bench, extra={"rows": rows}).write()
    assert notebook.full_scale("search").index.tolist() == ["10"]


def test_real_outputs_are_of_the_label_that_was_asked_for(monkeypatch) -> None:
    monkeypatch.setenv("CARLIB_RESULTS", str(Path(__file__).parents[1] / "data/results"))
    (published,) = notebook.real_outputs(kind="published")
    assert published.tensors["logits"].shape == (len(published.table), len(published.classes))
    assert notebook.real_outputs("no such row") == []
