"""The benchmarks run; what they measure is for a quiet machine."""

from __future__ import annotations

import importlib.util
import mmap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from carlib.data.drawn import open_showroom
from carlib.experiment.record import load_records
from carlib.explain.faithfulness import BLIND
from carlib.timing import medians, memory, ratios, taking_turns

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch) -> None:
    """Benchmarks import from their neighbors, as scripts do."""
    monkeypatch.syspath_prepend(str(FOLDER))


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_loop_compares_four_loops_and_writes_a_record(toy_root, capsys):
    options = ["--recipe", "cnn4", "--size", "16", "--batch-size", "8", "--photos", "16"]
    options += ["--data", str(toy_root), "--rounds", "2", "--workers", "0"]
    load("training_loop").main(options)
    (record,) = load_records(kind="benchmark")
    assert record.topic == "training_loop" and record.scoring == {"device": "cpu"}
    assert record.name.startswith("benchmark-training_loop-cnn4")
    assert {len(v) for v in record.extra["rates"].values()} == {2}
    assert all(rate > 0 for rate in record.metrics.values())
    assert record.metrics.keys() >= {"carlib / random", "carlib / folder", "carlib / timm"}
    assert "aim 0.9" in capsys.readouterr().out


def test_showroom_rate_writes_a_record(monkeypatch):
    rate = load("showroom_rate")
    monkeypatch.setattr(rate, "SIZES", (24, 32))
    monkeypatch.setattr(rate, "CARS", rate.CARS[:2])
    rate.main(["--photos", "4"])
    (record,) = load_records(kind="benchmark")
    assert record.topic == "showroom_rate"
    assert record.metrics.keys() == {"24 px photos/s", "32 px photos/s", "128 px pairs/s"}
    assert all(len(values) == 5 for values in record.extra["rates"].values())


def test_frozen_features_gives_the_same_result_both_ways(toy_root):
    recipes = load("frozen_features")
    plain = recipes.get_recipe
    recipes.get_recipe = lambda name, **changes: plain(
        name, model="resnet18", weights="random", statistics="half", **changes
    )
    recipes.main(["--data", str(toy_root), "--size", "32", "--epochs", "2", "--per-class", "4"])
    (record,) = load_records(kind="benchmark")
    assert record.topic == "frozen_features"
    assert record.metrics["val loss difference"] < 1e-3
    assert set(record.timing) == {"every_epoch_seconds", "once_seconds"}
    assert record.data["photos"] == 16


def test_search_agrees_with_scikit_learn_and_measures_every_index(toy_root, monkeypatch):
    search = load("search")
    plain = search.get_recipe
    monkeypatch.setattr(search, "get_recipe", lambda name: plain(
        name, model="resnet18", weights="random", statistics="half", size=32
    ))  # fmt: skip
    monkeypatch.setattr(search, "QUERIES", 20)
    record = search.main(["--data", str(toy_root), "--photos", "2000", "--rounds", "1"])
    assert record.metrics["largest difference"] < 1e-2
    rows = {row["index"]: row for row in record.extra["rows"]}
    assert set(rows) == {"flat", "ivf_pq"} and rows["flat"]["recall at 10"] == 1
    assert all(row["recall at 10"] > 0.5 for row in rows.values())
    assert [row["candidates"] for row in record.extra["curve"]] == list(search.DEPTHS)
    assert record.extra["curve"][-1]["recall at 10"] >= record.extra["curve"][0]["recall at 10"]
    assert record.topic == "search" and record.scoring == {"photos": 2000}


def test_calls_take_turns() -> None:
    order: list[str] = []
    ways = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    seconds = taking_turns(ways, rounds=2)
    assert order == ["a", "b"] * 3 and {len(found) for found in seconds.values()} == {2}
    assert ratios({"a": [1.0, 2.0], "b": [3.0, 8.0]}, "a") == {"a / b": [3.0, 4.0]}
    assert medians({"a": [1.0, 9.0, 2.0]}) == {"a": 2.0}


def test_memory_counts_what_is_held_and_not_what_is_mapped(tmp_path) -> None:
    before, size = memory(), 64 * 2**20
    private = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # never reused heap
    held = np.frombuffer(private, np.uint8)
    held[:] = 1
    assert 0.9 * size < memory() - before < 1.5 * size
    held.tofile(tmp_path / "file")
    mapped, before = np.memmap(tmp_path / "file", np.uint8, "r"), memory()
    assert all(mapped[start : start + 4096].sum() == 4096 for start in range(0, size, 4096))
    assert memory() - before < size / 2


def test_startup_times_every_way(monkeypatch) -> None:
    startup = load("startup")
    monkeypatch.setattr(startup, "WAYS", {k: startup.WAYS[k] for k in ("python", "carlib --help")})
    startup.main(["--rounds", "2"])
    (record,) = load_records(kind="benchmark")
    assert record.metrics["python"] < record.metrics["carlib --help"]


def test_photos_compares_ways_to_the_network(toy_root) -> None:
    load("photos").main(["--data", str(toy_root), "--photos", "16", "--rounds", "2"])
    (record,) = load_records(kind="benchmark")
    assert record.topic == "photos"
    ways = {"decode", "store", "albumentations", "torchvision"}
    assert record.metrics.keys() >= {f"{way} photos/s" for way in ways} | set(record.extra["aims"])


def test_growth_repeats_photos_and_classes(toy_root, monkeypatch, capsys) -> None:
    growth = load("growth")
    monkeypatch.setattr(growth, "TIMES", (1, 2))
    record = growth.main(["--data", str(toy_root), "--photos", "16"])
    rows = record.extra["rows"]
    first, more, _, other = rows
    assert more["photos"] == other["photos"] == 2 * first["photos"]
    assert (more["classes"], other["classes"]) == (first["classes"], 2 * first["classes"])
    assert all(row[step] > 0 for row in rows for step in growth.STEPS)
    assert record.metrics["photos: train, times"] > 0


def test_heat_maps_times_the_quick_methods(toy_root, monkeypatch) -> None:
    maps = load("heat_maps")
    plain = maps.get_recipe
    monkeypatch.setattr(maps, "get_recipe", lambda name: plain(
        name, model="resnet18", weights="random", statistics="half", size=32
    ))  # fmt: skip
    record = maps.main(["--data", str(toy_root), "--photos", "9", "--rounds", "1"])
    assert record.metrics["largest difference of one at a time"] < 1e-3
    assert set(record.extra["seconds"]) == {"Grad-CAM", "Grad-CAM++", "Layer-CAM", "Eigen-CAM"}


def test_counterfactual_compares_networks_and_measures(monkeypatch):
    bench = load("counterfactual")
    plain = bench.get_recipe
    monkeypatch.setattr(bench, "get_recipe", lambda name, **changes: plain(
        name, size=48, store_size=48, epochs=1, **changes
    ))  # fmt: skip
    monkeypatch.setattr(bench, "open_catalog", lambda name: open_showroom(
        photos_per_class=3, size=48, facelifts=True, sticker=1.0 if "sticker" in name else None
    ))  # fmt: skip
    networks = [network for network in bench.NETWORKS if network.name in ("untrained", "shortcut")]
    monkeypatch.setattr(bench, "LADDERS", {"shortcut": ["Grad-CAM"]})
    record = bench.main(
        ["--pairs", "3", "--tuning", "2", "--cheap", "1", "--each", "1", "--workers", "1"], networks
    )
    rows = record.extra["rows"]
    assert len(rows) == 2 * 11 and {row["network"] for row in rows} == {"untrained", "shortcut"}
    assert {"road", "insertion", "single_deletion", "times_car_area"} <= rows[0].keys()
    assert all("times_shortcut_area" in row for row in rows if row["network"] == "shortcut")
    agreement = pd.DataFrame(record.extra["agreement"])
    assert set(agreement["among"]) == {"all maps", "methods"} and (agreement["networks"] <= 2).all()
    assert agreement["correlation"].between(-1, 1).all()
    ladder = pd.DataFrame(record.extra["ladder"])
    assert set(ladder["map"]) == {"Grad-CAM", *BLIND} and ladder["pairs"].min() >= 1
    assert record.timing["all, by the clock"] >= record.timing["shortcut, training"] > 0
    assert load_records(kind="benchmark")[0].topic == "counterfactual"


def test_drawn_examples_keep_what_the_report_draws_again(monkeypatch) -> None:
    bench = load("drawn_examples")
    plain = bench.get_recipe
    monkeypatch.setattr(bench, "get_recipe", lambda name: plain(
        name, model="resnet18", weights="random", statistics="half"
    ))  # fmt: skip
    catalog = open_showroom(photos_per_class=6, size=32)
    record = bench.main(["--size", "32", "--epochs", "1"], catalog)
    shown, paths = record.extra, set(catalog.table["path"])
    assert len(shown["queries"]) == bench.QUERIES and len(shown["pairs"]) == 2 * bench.PAIRS
    assert all(len(query["nearest"]) == bench.NEIGHBORS for query in shown["queries"])
    assert paths.issuperset(one[end] for one in shown["mistakes"] for end in "ab")
    assert 0 <= record.metrics["only_the_year"] <= 1
    assert load_records(kind="benchmark")[0].topic == "examples"
