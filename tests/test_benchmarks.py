"""The benchmarks run; what they measure is for a quiet machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from carlib.records import load_records

FOLDER = Path(__file__).parent.parent / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_loop_compares_three_loops_and_writes_a_record(toy_root, capsys):
    options = ["--recipe", "cnn4", "--size", "16", "--batch-size", "8", "--photos", "16"]
    options += ["--data", str(toy_root), "--rounds", "2", "--workers", "0"]
    load("training_loop").main(options)
    (record,) = load_records(kind="benchmark")
    assert record.name == "training_loop-shapes-cpu-16px"
    assert {len(v) for v in record.extra["rates"].values()} == {2}
    assert all(rate > 0 for rate in record.metrics.values())
    assert record.metrics.keys() >= {"carlib / random", "carlib / folder"}
    assert "aim 0.9" in capsys.readouterr().out


def test_showroom_rate_writes_a_record(monkeypatch):
    rate = load("showroom_rate")
    monkeypatch.setattr(rate, "SIZES", (24, 32))
    monkeypatch.setattr(rate, "CARS", rate.CARS[:2])
    rate.main(["--photos", "4"])
    (record,) = load_records(kind="benchmark")
    assert record.name == "showroom_rate"
    assert record.metrics.keys() == {"24 px photos/s", "32 px photos/s"}
    assert all(len(values) == 5 for values in record.extra["rates"].values())


def test_frozen_features_gives_the_same_result_both_ways(toy_root):
    recipes = load("frozen_features")
    plain = recipes.recipe
    recipes.recipe = lambda name, **changes: plain(
        name, model="resnet18", weights="random", statistics="half", **changes
    )
    recipes.main(["--data", str(toy_root), "--size", "32", "--epochs", "2", "--per-class", "4"])
    (record,) = load_records(kind="benchmark")
    assert record.name == "frozen_features-shapes-resnet18-32px"
    assert record.metrics["val loss difference"] < 1e-3
    assert set(record.timing) == {"every_epoch_seconds", "once_seconds"}
    assert record.data["photos"] == 16


def test_search_agrees_with_scikit_learn_and_measures_every_index(toy_root, monkeypatch):
    search = load("search")
    plain = search.recipe
    monkeypatch.setattr(search, "recipe", lambda name: plain(
        name, model="resnet18", weights="random", statistics="half", size=32
    ))  # fmt: skip
    monkeypatch.setattr(search, "QUERIES", 20)
    record = search.main(["--data", str(toy_root), "--photos", "2000", "--rounds", "1"])
    assert record.metrics["largest difference"] < 1e-2
    rows = {row["index"]: row for row in record.extra["rows"]}
    assert set(rows) == {"flat", "hnsw", "ivf_pq"} and rows["flat"]["recall at 10"] == 1
    assert all(row["recall at 10"] > 0.5 for row in rows.values())
    assert record.name == "search-shapes-2000"
