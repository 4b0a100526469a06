"""The committed records: schema, ranges, and the mistakes that earlier studies made.

Top-5 below top-1, rows of a table identical to the last digit, and compared rows scored on other
photos have all been published; `problems` finds each of them.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from carlib.errors import RunError
from carlib.records import Record, load_records

RESULTS = Path(__file__).parent.parent / "data" / "results"
SIGNED = ("kappa", "mcc")  # within −1…1
UNBOUNDED = ("loss",)  # 0 or more


def problems(folder: Path) -> list[str]:
    """Everything that is wrong with the records of a folder, in words."""
    try:
        records = load_records(folder)
    except RunError as error:
        return [str(error)]
    found = [p for record in records for p in (*wrong_form(record, folder), *wrong_numbers(record))]
    return [*found, *wrong_together(records), *wrong_ledger(folder)]


def wrong_form(record: Record, folder: Path):
    if not (folder / f"{record.name}.json").exists():
        yield f"{record.name}: the file has another name"
    needed = {"evaluation": ("catalog", "fingerprint", "split", "split_hash", "photos")}
    for key in needed.get(record.kind, ()):
        if not record.data.get(key):
            yield f"{record.name}: data has no {key}"
    if record.kind == "evaluation":
        for part in ("recipe", "checkpoint", "metrics", "per_class", "hardware", "versions"):
            if not getattr(record, part):
                yield f"{record.name}: no {part}"
    if any(text.startswith("/") for text in strings(vars(record))):
        yield f"{record.name}: holds a path of somebody's machine"


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def wrong_numbers(record: Record):
    if record.kind != "evaluation":
        return
    metrics = record.metrics
    for name, value in metrics.items():
        if name.endswith("_interval"):
            inside = value[0] <= metrics.get(name.removesuffix("_interval"), 2) <= value[1]
            if not inside or not 0 <= value[0] <= value[1] <= 1:
                yield f"{record.name}: {name} {value} does not hold its value"
        elif not limits(name)[0] <= value <= limits(name)[1]:
            yield f"{record.name}: {name} is {value}"
    for row in record.history or []:
        for name, value in row.items():
            if name.removeprefix("val_").startswith(("accuracy", "top", "macro")) and not (
                0 <= value <= 1
            ):
                yield f"{record.name}: {name} is {value} in epoch {row.get('epoch')}"
    rising = [metrics[k] for k in ("accuracy", "top3", "top5") if k in metrics]
    if rising != sorted(rising):
        yield f"{record.name}: top-1, top-3, top-5 are {rising}"


def limits(name: str) -> tuple[float, float]:
    if name in UNBOUNDED:
        return 0, float("inf")
    return (-1 if name in SIGNED else 0), 1


def wrong_together(records: list[Record]):
    scored = [r for r in records if r.kind == "evaluation"]
    for a, b in itertools.combinations(scored, 2):
        if a.metrics == b.metrics:
            yield f"{a.name} and {b.name}: identical to the last digit"
        same = all(a.data.get(k) == b.data.get(k) for k in ("catalog", "split"))
        if same and a.data.get("split_hash") != b.data.get("split_hash"):
            yield f"{a.name} and {b.name}: same split by name, other photos"


def wrong_ledger(folder: Path):
    path = folder / "test_ledger.jsonl"
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            yield f"{path.name}, line {number}: not JSON"
            continue
        if not isinstance(entry, dict) or not {"checkpoint", "split_hash"} <= entry.keys():
            yield f"{path.name}, line {number}: no checkpoint or split hash"


@pytest.mark.skipif(not any(RESULTS.glob("*.json")), reason="no records are committed yet")
def test_the_committed_records_are_sound():
    assert problems(RESULTS) == []


# --- the net itself catches what it should ------------------------------------------------------

GOOD = Record(
    kind="evaluation",
    name="good",
    data={"catalog": "toys", "fingerprint": "f", "split": "val", "split_hash": "h", "photos": 9},
    metrics={"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "top3": 0.6, "top5": 0.6,
             "mcc": -0.1, "loss": 4.2},
    recipe={"name": "toy"},
    checkpoint={"hash": "c"},
    per_class=[{"class": "a"}],
    history=[{"epoch": 1, "val_accuracy": 0.5, "seconds": 9.0}],
)  # fmt: skip


def changed(**metrics: object) -> Record:
    return replace(GOOD, name="bad", metrics={**GOOD.metrics, "macro_f1": 0.4, **metrics})


def test_good_records_pass(tmp_path):
    GOOD.write(tmp_path)
    changed().write(tmp_path)
    (tmp_path / "test_ledger.jsonl").write_text('{"checkpoint": "c", "split_hash": "h"}\n')
    assert problems(tmp_path) == []


@pytest.mark.parametrize(
    "bad, message",
    [
        (changed(accuracy=58.0, accuracy_interval=[57.0, 59.0]), "accuracy is 58"),
        (changed(top5=0.55), "top-1, top-3, top-5 are"),
        (changed(top3=0.3), "top-1, top-3, top-5 are"),
        (changed(mcc=-1.2), "mcc is -1.2"),
        (changed(loss=-1.0), "loss is -1"),
        (changed(accuracy_interval=[0.1, 0.2]), "does not hold its value"),
        (replace(GOOD, name="bad"), "identical to the last digit"),
        (replace(changed(), data=GOOD.data | {"split_hash": "other"}), "other photos"),
        (replace(changed(), data={"catalog": "toys"}), "data has no split_hash"),
        (replace(changed(), checkpoint=None), "no checkpoint"),
        (replace(changed(), command="/opt/me/run"), "somebody's machine"),
        (replace(changed(), history=[{"epoch": 2, "val_top5": 1.2}]), "val_top5 is 1.2 in epoch 2"),
    ],
)
def test_a_wrong_record_is_caught(tmp_path, bad, message):
    GOOD.write(tmp_path)
    bad.write(tmp_path)
    assert any(message in problem for problem in problems(tmp_path)), problems(tmp_path)


def test_a_renamed_a_broken_and_a_foreign_file_are_caught(tmp_path):
    GOOD.write(tmp_path).rename(tmp_path / "better.json")
    assert problems(tmp_path) == ["good: the file has another name"]
    (tmp_path / "x.json").write_text("{")
    assert "x.json: not a record" in problems(tmp_path)[0]


@pytest.mark.parametrize("line", ["{", "[1]", '{"checkpoint": "c"}'])
def test_a_wrong_ledger_is_caught(tmp_path, line):
    (tmp_path / "test_ledger.jsonl").write_text(
        '{"checkpoint": "c", "split_hash": "h"}\n' + line + "\n"
    )
    assert "line 2" in problems(tmp_path)[0]
