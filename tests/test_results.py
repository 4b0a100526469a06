"""The committed records: schema, ranges, sums, and the mistakes that earlier studies made.

Top-5 below top-1, rows of a table identical to the last digit, and compared rows scored on other
photos have all been published; `problems` finds each of them. What a record says twice, as an
accuracy and as recalls of its classes, or as a median and its rounds, must agree.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carlib.errors import RunError
from carlib.experiment.record import Record, load_records

RESULTS = Path(__file__).parent.parent / "data" / "results"
SCORES = {"evaluation", "published", "knn", "views", "maps", "retrieval", "verification", "study"}
KINDS = SCORES | {"audit", "benchmark"}
PARTS = {  # of a record, by kind; what is scored has a recipe as well
    "evaluation": ("checkpoint", "per_class", "timing"),
    "published": ("checkpoint", "per_class", "timing"),
    **dict.fromkeys(("knn", "views", "maps", "retrieval", "verification"), ("checkpoint",)),
}
INFINITE = float("inf")
LIMITS = {  # other than 0 to 1, by the end of the name
    **dict.fromkeys(("kappa", "mcc", "gain", "road", "average_drop"), (-1, 1)),
    **dict.fromkeys(("loss", "area", "temperature"), (0, INFINITE)),
    "effective_rank": (1, INFINITE),
}
RISING = (  # scores that cannot fall from one to the next
    ("accuracy", "top3", "top5"),
    ("recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8"),
    ("map_at_r", "r_precision"),
    *((f"{difficulty}_tar_at_0.001", f"{difficulty}_tar_at_0.01", f"{difficulty}_tar_at_0.1")
      for difficulty in ("easy", "medium", "hard")),
)  # fmt: skip
CLASS_MEANS = {"macro_precision": "precision", "macro_recall": "recall", "macro_f1": "f1"}
CLOSE = 2e-5  # records keep six digits


def problems(folder: Path) -> list[str]:
    """Everything that is wrong with the records of a folder, in words."""
    try:
        records = load_records(folder)
    except RunError as error:
        return [str(error)]
    checks = (wrong_form, wrong_numbers, wrong_sums)
    found = [problem for record in records for check in checks for problem in check(record)]
    found += [f"{r.name}: the file has another name" for r in records
              if not (folder / f"{r.name}.json").exists()]  # fmt: skip
    return [*found, *wrong_together(records), *wrong_ledger(folder)]


def wrong_form(record: Record) -> Iterator[str]:
    if record.kind not in KINDS:
        yield f"{record.name}: unknown kind {record.kind}"
    scored = record.kind in SCORES
    for key in ("catalog", "fingerprint", "split", "split_hash", "photos") if scored else ():
        if not record.data.get(key):
            yield f"{record.name}: data has no {key}"
    needed = ("recipe", *PARTS.get(record.kind, ())) if scored else ()
    told = "extra" if record.kind == "study" else "metrics"
    for part in (told, "hardware", "versions", "commit", "command", *needed):
        if not getattr(record, part):
            yield f"{record.name}: no {part}"
    if any(text.startswith("/") for text in strings(vars(record))):
        yield f"{record.name}: holds a path of somebody's machine"


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def wrong_numbers(record: Record) -> Iterator[str]:
    """Scores out of their range or their interval, and orders that cannot be."""
    if record.kind not in SCORES:
        yield from wrong_costs(record)
        return
    rows = [row for row in record.extra.get("rows", []) if isinstance(row, dict)]
    for scores in (record.metrics, *rows):
        yield from (f"{record.name}: {found}" for found in out_of_range(scores))
        for names in RISING:
            values = [scores[name] for name in names if name in scores]
            if values != sorted(values):
                yield f"{record.name}: {', '.join(names)} are {values}"
    for row in record.history or []:
        for name, value in row.items():
            score = re.sub("^(val|dev|train)_", "", name)
            if score.startswith(("accuracy", "top", "macro")) and not 0 <= value <= 1:
                yield f"{record.name}: {name} is {value} in epoch {row.get('epoch')}"


def out_of_range(scores: dict) -> Iterator[str]:
    for name, value in scores.items():
        low, high = limits(name.removesuffix("_interval"))
        if name.endswith("_interval"):
            inside = value[0] <= scores.get(name.removesuffix("_interval"), INFINITE) <= value[1]
            if not inside or not low <= value[0] <= value[1] <= high:
                yield f"{name} {value} does not hold its value"
        elif isinstance(value, float) and not low <= value <= high:
            yield f"{name} is {value}"


def limits(name: str) -> tuple[float, float]:
    if name == "factor" or name.endswith(("seconds", "difference")):
        return 0, INFINITE
    ends = (bounds for end, bounds in LIMITS.items() if name.endswith(end))
    return next(ends, (0, 1))


def wrong_costs(record: Record) -> Iterator[str]:
    """Times, rates and counts below nothing, and medians that are not those of their rounds."""
    for name, value in record.metrics.items():
        if isinstance(value, (int, float)) and value < 0:
            yield f"{record.name}: {name} is {value}"
    told = record.metrics
    for name, rounds in {**record.extra.get("rates", {}), **record.extra.get("ratios", {})}.items():
        ways = (name, f"{name}_photos_per_second", f"{name} photos/s")
        value = next((told[way] for way in ways if way in told), None)
        if value is None or not same(statistics.median(rounds), value):
            yield f"{record.name}: {name} is {value}, not the median of its rounds"


def wrong_sums(record: Record) -> Iterator[str]:
    """What a record says twice must agree."""
    metrics, extra = record.metrics, record.extra
    said: list[tuple[str, float, float]] = []  # what, as told, as reckoned
    if record.per_class and record.kind in ("retrieval", "verification"):
        said += [(name, metrics[name], mean_of(record.per_class, name))
                 for name in record.per_class[0] if name in metrics]  # fmt: skip
    elif classes := record.per_class:
        photos = [row["photos"] for row in classes]
        right = sum(row["recall"] * row["photos"] for row in classes)
        said += [("photos", record.data.get("photos", 0), sum(photos))]
        said += [("accuracy", metrics["accuracy"], right / sum(photos))]
        said += [(name, metrics[name], statistics.fmean(row[part] for row in classes))
                 for name, part in CLASS_MEANS.items() if name in metrics]  # fmt: skip
    if record.kind == "maps":
        shown = next(row for row in extra["rows"] if row["map"] == extra["explained"])
        said += [(name, metrics[name], value) for name, value in shown.items()
                 if isinstance(value, float)]  # fmt: skip
    if record.kind == "knn":
        chosen = next(r for r in extra["rows"] if extra["chosen"].items() <= r.items())
        said += [("accuracy", metrics["accuracy"], chosen["accuracy"])]
    if record.kind == "audit":
        said += [("photos", metrics["photos"], sum(metrics["splits"].values()))]
        said += [(split, count, sum(row[split] for row in extra["class_counts"]))
                 for split, count in metrics["splits"].items()]  # fmt: skip
    for what, told, reckoned in said:
        if not same(told, reckoned):
            yield f"{record.name}: {what} is {told}, but adds up to {reckoned:.6g}"


def mean_of(classes: list[dict], score: str) -> float:
    """The mean of a score over classes: of areas by their own pairs, of others by their photos."""
    weight = f"{score.removesuffix('auc')}pairs" if score.endswith("_auc") else "photos"
    return sum(row[score] * row[weight] for row in classes) / sum(row[weight] for row in classes)


def same(a: float, b: float) -> bool:
    return abs(a - b) <= CLOSE * max(1, abs(a))


def wrong_together(records: list[Record]) -> Iterator[str]:
    scored = [r for r in records if r.kind in SCORES]
    for a, b in itertools.combinations(scored, 2):
        if a.kind == b.kind and a.metrics and a.metrics == b.metrics:
            yield f"{a.name} and {b.name}: identical to the last digit"
        same_split = all(a.data.get(k) == b.data.get(k) for k in ("catalog", "split"))
        comparable = a.kind == b.kind or {a.kind, b.kind} <= {"evaluation", "published", "knn"}
        if comparable and same_split and a.data.get("split_hash") != b.data.get("split_hash"):
            yield f"{a.name} and {b.name}: same split by name, other photos"


def wrong_ledger(folder: Path) -> Iterator[str]:
    path = folder / "test_ledger.jsonl"
    for number, line in enumerate(
        path.read_text(encoding="utf-8").splitlines() if path.exists() else [], 1
    ):
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

ABOUT = {"catalog": "toys", "fingerprint": "f", "split": "val", "split_hash": "h", "photos": 8}
GOOD = Record(
    kind="evaluation",
    name="good",
    data=ABOUT,
    metrics={"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "top3": 0.6, "top5": 0.6,
             "mcc": -0.1, "loss": 4.2, "macro_recall": 0.4},
    recipe={"name": "toy"},
    checkpoint={"hash": "c"},
    per_class=[{"class": "a", "photos": 5, "recall": 0.8, "precision": 0.5, "f1": 0.6},
               {"class": "b", "photos": 3, "recall": 0.0, "precision": 0.1, "f1": 0.2}],
    history=[{"epoch": 1, "val_accuracy": 0.5, "seconds": 9.0}],
    timing={"train_seconds": 9.0},
    commit="abc",
    command="carlib train toy",
)  # fmt: skip
SPREAD = {"metric": "cosine", "k": 3, "accuracy": 0.5}
OTHERS = {
    "knn": replace(GOOD, kind="knn", name="knn", metrics={"accuracy": 0.5}, per_class=None, extra={
        "rows": [SPREAD, SPREAD | {"k": 9, "accuracy": 0.3}],
        "chosen": {"metric": "cosine", "k": 3}}),
    "maps": replace(GOOD, kind="maps", name="maps", metrics={"insertion": 0.4, "road": -0.1},
        per_class=None, extra={"explained": "Grad-CAM", "rows": [
            {"map": "Grad-CAM", "insertion": 0.4, "road": -0.1}]}),
    "retrieval": replace(GOOD, kind="retrieval", name="retrieval", metrics={
        "recall_at_1": 0.4, "recall_at_2": 0.5, "map_at_r": 0.2, "r_precision": 0.3,
        "effective_rank": 40.0}, per_class=[{"class": "a", "photos": 1, "recall_at_1": 0.0},
                                            {"class": "b", "photos": 2, "recall_at_1": 0.6}]),
    "verification": replace(GOOD, kind="verification", name="verification",
        metrics={"hard_auc": 0.9, "hard_tar_at_0.001": 0.1, "hard_tar_at_0.01": 0.2},
        per_class=[{"class": "a", "photos": 9, "hard_auc": 0.7, "hard_pairs": 1},
                   {"class": "b", "photos": 9, "hard_auc": 1.0, "hard_pairs": 2}]),
    "audit": replace(GOOD, kind="audit", name="audit", recipe=None, checkpoint=None,
        per_class=None, metrics={"photos": 8, "splits": {"train": 6, "val": 2}},
        extra={"class_counts": [{"train": 4, "val": 1}, {"train": 2, "val": 1}]}),
    "benchmark": replace(GOOD, kind="benchmark", name="benchmark", recipe=None, checkpoint=None,
        per_class=None, metrics={"ours / theirs": 2.0},
        extra={"ratios": {"ours / theirs": [1.0, 2.0, 4.0]}}),
}  # fmt: skip


def changed(**metrics: object) -> Record:
    return replace(GOOD, name="bad", metrics={**GOOD.metrics, "macro_f1": 0.4, **metrics})


def other(kind: str, extra: dict | None = None, **metrics: object) -> Record:
    good = OTHERS[kind]
    return replace(
        good, name="bad", metrics=good.metrics | metrics, extra=good.extra | (extra or {})
    )


def test_good_records_pass(tmp_path):
    for record in (GOOD, changed(), *OTHERS.values()):
        record.write(tmp_path)
    (tmp_path / "test_ledger.jsonl").write_text(
        '{"checkpoint": "c", "split_hash": "h"}\n', encoding="utf-8"
    )
    assert problems(tmp_path) == []


@pytest.mark.parametrize(
    "bad, message",
    [
        (changed(accuracy=58.0, accuracy_interval=[57.0, 59.0]), "accuracy is 58"),
        (changed(top5=0.55), "accuracy, top3, top5 are"),
        (changed(top3=0.3), "accuracy, top3, top5 are"),
        (changed(mcc=-1.2), "mcc is -1.2"),
        (changed(loss=-1.0), "loss is -1"),
        (changed(accuracy_interval=[0.1, 0.2]), "does not hold its value"),
        (changed(accuracy=0.51), "accuracy is 0.51, but adds up to 0.5"),
        (changed(macro_f1=0.41), "macro_f1 is 0.41, but adds up to 0.4"),
        (replace(changed(), data=ABOUT | {"photos": 9}), "photos is 9, but adds up to 8"),
        (replace(GOOD, name="bad"), "identical to the last digit"),
        (replace(changed(), data=ABOUT | {"split_hash": "other"}), "other photos"),
        (replace(changed(), data={"catalog": "toys"}), "data has no split_hash"),
        (replace(changed(), checkpoint=None), "no checkpoint"),
        (replace(changed(), command="/opt/me/run"), "somebody's machine"),
        (replace(changed(), command=""), "no command"),
        (replace(changed(), kind="guess"), "unknown kind guess"),
        (replace(changed(), history=[{"epoch": 2, "val_top5": 1.2}]), "val_top5 is 1.2 in epoch 2"),
        (other("knn", {"chosen": {"metric": "cosine", "k": 9}}), "0.5, but adds up to 0.3"),
        (replace(other("knn"), data=ABOUT | {"split_hash": "x"}), "bad and good: same split"),
        (other("maps", insertion=0.41), "insertion is 0.41, but adds up to 0.4"),
        (other("maps", {"rows": [{"map": "Grad-CAM", "insertion": 1.4}]}), "insertion is 1.4"),
        (other("retrieval", recall_at_2=0.3), "recall_at_1, recall_at_2, recall_at_4"),
        (other("retrieval", r_precision=0.1), "map_at_r, r_precision are"),
        (other("retrieval", recall_at_1=0.3), "recall_at_1 is 0.3, but adds up to 0.4"),
        (other("verification", hard_auc=0.8), "hard_auc is 0.8, but adds up to 0.9"),
        (other("verification", **{"hard_tar_at_0.01": 0.05}), "hard_tar_at_0.001"),
        (other("audit", photos=9), "photos is 9, but adds up to 8"),
        (other("audit", splits={"train": 5, "val": 3}), "train is 5, but adds up to 6"),
        (other("benchmark", **{"ours / theirs": 2.1}), "2.1, not the median of its rounds"),
        (other("benchmark", seconds=-1.0), "seconds is -1"),
    ],
)  # fmt: skip
def test_a_wrong_record_is_caught(tmp_path, bad, message):
    GOOD.write(tmp_path)
    bad.write(tmp_path)
    assert any(message in problem for problem in problems(tmp_path)), problems(tmp_path)


def test_a_renamed_a_broken_and_a_foreign_file_are_caught(tmp_path):
    GOOD.write(tmp_path).rename(tmp_path / "better.json")
    assert problems(tmp_path) == ["good: the file has another name"]
    (tmp_path / "x.json").write_text("{", encoding="utf-8")
    assert "x.json: not a record" in problems(tmp_path)[0]


@pytest.mark.parametrize("line", ["{", "[1]", '{"checkpoint": "c"}'])
def test_a_wrong_ledger_is_caught(tmp_path, line):
    (tmp_path / "test_ledger.jsonl").write_text(
        '{"checkpoint": "c", "split_hash": "h"}\n' + line + "\n", encoding="utf-8"
    )
    assert "line 2" in problems(tmp_path)[0]
