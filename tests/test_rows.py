"""Rows of tables: whose interval stands there, which records hold a place, and what is missing."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import fake_record, fake_retrieval, fake_verification
from typer.testing import CliRunner

from carlib.cli import app
from carlib.errors import RunError
from carlib.experiment.outputs import Outputs, in_bytes
from carlib.experiment.record import Record, load_records
from carlib.experiment.registry import RECIPES, quick
from carlib.experiment.tables import evaluations
from carlib.paths import outputs_of, results_root
from carlib.report.answers import label_rows
from carlib.report.cost import progress, time_rows
from carlib.report.differences import differences
from carlib.report.intervals import difference, with_outputs
from carlib.report.missing import command, missing, orders
from carlib.report.rows import retrieval_rows, rows_of, verification_rows
from carlib.retrieval import verification


def kept(name: str, seed: int, right: list[int], of: int = 60) -> Record:
    """An evaluation that keeps logits, right about the photos at these places."""
    labels = np.arange(of) % 2
    answers = np.where(np.isin(np.arange(of), right), labels, 1 - labels)
    table = pd.DataFrame({"stem": [f"{n:03}" for n in range(of)], "label": labels})
    for column in ("class_name", "make", "model", "year", "body"):
        table[column] = pd.NA
    data = Outputs({"logits": np.eye(2, dtype=np.float16)[answers]}, table).to_bytes()
    return replace(fake_record(name, seed, len(right) / of), outputs_file=data, outputs="")


def changed(record: Record, **fields: object) -> Record:
    recipe = record.recipe | fields
    return replace(record, recipe=recipe, recipe_hash="", method="", name="")


def test_several_seeds_have_the_interval_of_their_mean() -> None:
    few, many = list(range(30)), list(range(36))
    one, other = kept("cnn3", 0, few), kept("cnn3", 1, many)
    line = rows_of([one, other])["cnn3"]
    low, high = line["interval"]
    assert line["resampled"] == "photos" and line["accuracy"] == pytest.approx(0.55)
    assert low < 0.5 < 0.6 < high and line["interval"] != one.metrics["accuracy_interval"]
    assert rows_of([one])["cnn3"]["interval"] == one.metrics["accuracy_interval"]
    bare = [replace(record, outputs="", outputs_file=b"") for record in (one, other)]
    assert rows_of(bare)["cnn3"]["resampled"] == "classes"
    bare = [replace(record, per_class=None) for record in bare]
    assert rows_of(bare)["cnn3"]["interval"] is None  # never that of seed 0


def test_compared_photos_have_an_interval_where_classes_tell() -> None:
    seeds = [fake_retrieval(seed=seed, value=value) for seed, value in ((0, 0.5), (1, 0.7))]
    assert retrieval_rows(seeds, "unseen")[0]["interval"] is None
    told = [
        replace(s, per_class=[{"class": c, "photos": 5, "recall_at_1": value + shift}
                              for c, shift in (("a", 0.1), ("b", -0.1), ("c", 0.0))])
        for s, value in zip(seeds, (0.5, 0.7), strict=True)
    ]  # fmt: skip
    line = retrieval_rows(told, "unseen")[0]
    low, high = line["interval"]
    assert line["resampled"] == "classes" and low < 0.5 < 0.7 < high


def test_a_difference_needs_the_same_photos_and_views() -> None:
    ours, theirs = kept("cnn4", 0, list(range(50))), kept("cnn3", 0, list(range(40)))
    told = difference([ours], [theirs], "accuracy")
    assert (told["one"], told["other"], told["unit"]) == ("cnn4", "cnn3", "photos")
    assert told["difference"] == pytest.approx(1 / 6) and told["interval"][0] > 0
    assert difference([ours], [], "accuracy") is None
    mirrored = replace(ours, scoring={"views": ["plain", "mirror"]})
    told = difference([mirrored], [theirs], "accuracy")
    assert told["interval"] is None and "different views" in told["why"]
    others = kept("cnn3", 0, list(range(40)), of=61)
    told = difference([ours], [others], "accuracy")
    assert told["unit"] == "classes"  # the photos are others, the classes the same
    silent = replace(others, per_class=None)
    assert "no scores by photo" in difference([ours], [silent], "accuracy")["why"]


def test_gains_are_against_the_strongest_baseline() -> None:
    untrained = {"kept": "untrained", "hash": "0"}
    weak = replace(fake_retrieval("lite0_frozen", value=0.5), checkpoint=untrained)
    strong = replace(fake_retrieval("lite0_frozen", value=0.6, points="whitened"),
                     checkpoint=untrained)  # fmt: skip
    ours = fake_retrieval("lite0_cpu", value=0.7)
    told = differences([weak, strong, ours])["unseen"]
    assert told["other"] == "lite0_frozen_untrained_whitened"
    assert told["difference"] == pytest.approx(0.1)


def test_a_changed_recipe_holds_its_place_until_it_is_run_again() -> None:
    old = changed(fake_record("lite0_cpu"), chosen_on="val", flip_eval=True, epochs=13)
    label = "lite0_cpu (chosen_on=val, flip_eval=True, epochs=13)"
    assert list(rows_of([old])) == [label] and rows_of([old])[label]["name"] == "lite0_cpu"
    assert "lite0_cpu" in missing([old])[:1] and evaluations([old], "lite0_cpu") == [old]
    new = fake_record("lite0_cpu")
    assert evaluations([old, new], "lite0_cpu") == [new]
    assert list(rows_of([old, new])) == ["lite0_cpu"] and "lite0_cpu" not in missing([old, new])


def test_a_cut_budget_and_a_variant_have_no_row() -> None:
    short, variant = quick(RECIPES["s1"]), RECIPES["s1"].variant(epochs=3)
    records = [changed(fake_record("s1"), **asdict(recipe)) for recipe in (short, variant)]
    assert rows_of(records) == {} and "s1" in missing(records)


def test_one_view_and_the_mirror_image_have_columns_of_their_own() -> None:
    plain = replace(fake_record(), scoring={"views": ["plain"], "size": 96})
    gained = plain.metrics | {"accuracy_with_mirror": 0.2, "mirror_gain": 0.077}
    line = rows_of([replace(plain, metrics=gained)])["cnn3"]
    assert (line["one_view"], line["with_mirror"], line["mirror_gain"]) == (0.123, 0.2, 0.077)
    old = replace(plain, scoring={"views": ["plain", "mirror"], "size": 96})
    line = rows_of([old])["cnn3"]
    assert (line["one_view"], line["with_mirror"]) == (None, 0.123)
    assert (line["crop"], line["pixels"], line["last_epoch"]) == ("box", "96/96", 0.25)


def timed(seed: int, values: list[float], **fields: object) -> Record:
    """A training whose epochs took a minute each, half a minute after it was begun."""
    history = [{"epoch": n, "seconds": 60.0, "val_accuracy": value}
               for n, value in enumerate(values, 1)]  # fmt: skip
    took = {"train_seconds": 30.0 + 60 * len(values)}
    return replace(fake_record("cnn3", seed, values[-1]), history=history, timing=took, **fields)


def test_minutes_to_an_accuracy_are_means_over_the_seeds_of_one_machine() -> None:
    one, other = timed(0, [0.2, 0.55, 0.72]), timed(1, [0.51, 0.52, 0.69])
    assert progress(one)[0] == (90.0, 0.2)
    (line,) = time_rows([one, other])
    assert line["to 0.5"] == pytest.approx(2.0) and line["minutes"] == pytest.approx(3.5)
    assert line["to 0.7"] is None and line["seeds"] == 2  # one of them never got there
    elsewhere = replace(other, hardware=other.hardware | {"cpu": "another"})
    (line,) = time_rows([one, elsewhere])
    assert line["seeds"] == 1 and line["to 0.7"] == pytest.approx(3.5)
    unseen = [{"epoch": 1, "seconds": 60.0, "dev_accuracy": 0.9}]
    assert time_rows([replace(one, history=unseen)]) == []


def test_outputs_come_with_their_records(tmp_path) -> None:
    folder = tmp_path / "results"
    record = kept("cnn3", 0, [1, 2])
    record.write(folder)
    bare = replace(record, outputs_file=b"", outputs=record.outputs)
    assert with_outputs([bare], folder)[0].outputs_file == record.outputs_file
    (outputs_of(folder) / f"{record.outputs}.safetensors").unlink()
    with pytest.raises(RunError, match=record.outputs):
        with_outputs([bare], folder)


def test_missing_recipes_are_listed_with_their_costs(monkeypatch) -> None:
    """What older records stand for comes first, then what costs least; CPUs as measured."""
    few = {name: RECIPES[name] for name in ("cnn4", "cnn3", "lite0_triplet")}
    monkeypatch.setattr("carlib.report.missing.RECIPES", few)
    old = changed(fake_record("cnn4"), chosen_on="val")
    lines = orders([old])
    assert lines[1::2] == ["carlib train cnn4 --data PATH",
                           "carlib train lite0_triplet --data PATH --classes 98",
                           "carlib train cnn3 --data PATH"]  # fmt: skip
    assert all(line.startswith("# ") and "TFLOP" in line for line in lines[::2])
    assert lines[0].endswith("2 CPU cores 0.2")  # 754 s, and 7,330 photographs
    fake_record("cnn3").write(results_root())
    shown = CliRunner().invoke(app, ["recipes", "--missing"])
    assert shown.exit_code == 0 and "carlib train cnn3 " not in shown.output


def test_a_recipe_is_run_when_what_it_was_made_for_is(monkeypatch) -> None:
    """A network that names half of the classes does not stand for one that names them all."""
    names = ("cnn4", "fronts", "lite0_triplet")
    monkeypatch.setattr("carlib.report.missing.RECIPES", {name: RECIPES[name] for name in names})
    halves = [fake_retrieval("cnn4"), fake_retrieval("lite0_triplet")]
    assert missing(halves) == ["cnn4", "fronts"]
    trained = {"fronts": RECIPES["fronts"].method}
    bench = replace(fake_record(), kind="benchmark", recipe=None, extra={"recipes": trained})
    assert missing([*halves, bench]) == ["cnn4"]
    older = replace(bench, extra={"recipes": {"fronts": "0" * 16}})
    assert "fronts" in missing([*halves, older])
    assert command("fronts") == "carlib train fronts --data showroom#counterfactual"


def test_pairs_of_other_lists_are_another_question() -> None:
    """Rows that scored the lists as they are now stand alone, whatever earlier ones had."""
    before = [fake_verification("siamese_lite0", value=0.9), fake_verification("lite0_cpu")]
    now = fake_verification("lite0_cpu_long", value=0.7)
    now = replace(now, scoring=now.scoring | {"pairs": "0123456789abcdef"})
    assert [row["name"] for row in verification_rows([*before, now])] == ["lite0_cpu_long"]
    earlier = verification_rows([*before, now], earlier=True)
    assert {row["name"] for row in earlier} == {"siamese_lite0", "lite0_cpu"}
    assert len(verification_rows(before)) == 2 and not verification_rows(before, earlier=True)
    assert differences([*before, now])["pairs"] is None  # nothing to set it against


def test_a_difference_of_pairs_draws_classes_as_their_own_intervals_do() -> None:
    """From kept points and pairs: exact, where rows per class allow a first order only."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 8)
    table = pd.DataFrame({"stem": [f"{n:03}" for n in range(96)], "label": labels})
    table["class_name"] = [f"class {label}" for label in labels]
    for column in ("make", "model", "year", "body"):
        table[column] = pd.NA
    pairs = np.stack([generator.permutation(96) for _ in range(2)], 1).astype(np.int32)
    same = np.stack([np.arange(0, 96, 2), np.arange(1, 96, 2)], 1).astype(np.int32)
    pairs = np.concatenate([same, pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]])
    kept = []
    for name, spread in (("lite0_cpu", 0.5), ("lite0_cpu_long", 3.0)):
        points = generator.normal(size=(12, 16))[labels] + spread * generator.normal(size=(96, 16))
        tensors = {"embeddings": in_bytes(points), "hard": pairs, "fitting": pairs}
        outputs = Outputs(tensors, table)
        found = verification.computed(outputs)
        kept.append(replace(
            fake_verification(name), metrics=found["metrics"],
            per_class=found["per_class"], outputs_file=outputs.to_bytes(), outputs="",
        ))  # fmt: skip
    sharp, blurred = kept
    told = difference([sharp], [blurred], "hard_auc")
    low, high = told["interval"]
    assert told["unit"] == "classes" and 0 < low < told["difference"] < high < 1
    assert difference([sharp], [sharp], "hard_auc")["interval"] == [0, 0]
    own = difference([sharp], [replace(blurred, outputs="", outputs_file=b"")], "hard_auc")
    assert own["interval"] != told["interval"]


def test_measures_of_s2_are_computed_from_the_kept_logits(monkeypatch) -> None:
    seeds = [kept("lite0_frozen", 0, [*range(30)]), kept("lite0_frozen", 1, [*range(48)])]
    metrics = {"macro_f1": 0.4, "weighted_f1": 0.4}
    seeds = [replace(seed, metrics=seed.metrics | metrics) for seed in seeds]
    (row,) = label_rows(seeds)
    assert row["accuracy"] == pytest.approx(0.65) and row["hamming_loss"] == pytest.approx(0.35)
    assert row["kappa"] == pytest.approx((0.0 + 0.6) / 2)
    committed = Path(__file__).parents[1] / "data" / "results"
    monkeypatch.setenv("CARLIB_RESULTS", str(committed))
    rows = label_rows(load_records(committed))
    assert len(rows) >= 3
    for row in rows:
        assert row["hamming_loss"] == pytest.approx(1 - row["accuracy"], abs=2e-5)
        assert 0 < row["macro_jaccard"] < row["macro_f1"] and row["kappa"] <= row["accuracy"]
