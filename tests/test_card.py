"""The model card says what the record of the published network says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import fake_record

from carlib.report import build as report
from carlib.report.card import CARD, model_card

ROOT = Path(__file__).resolve().parents[1]


def published():
    found = fake_record(photos=8)
    use = {"temperature": 0.5, "known_from": 0.25, "trained_as": "f" * 16,
           "decision": {"threshold": 0.4, "slope": 9.0, "offset": -3.0, "pairs": 4321}}  # fmt: skip
    extra = found.extra | {
        "use": use,
        "bytes": 7_654_321,
        "known_share": 0.95,
        "train_photos": 6580,
    }
    extra["training"] = {"seconds": 3060.0}
    scores = {"make_accuracy": 0.9, "model_accuracy": 0.85, "ece": 0.3, "ece_calibrated": 0.02,
              "accuracy_at_80": 0.97, "top3": 0.9}  # fmt: skip
    metrics = found.metrics | scores
    for name in ("accuracy", "top3", "top5", "make_accuracy", "model_accuracy"):
        metrics.setdefault(f"{name}_interval", [0.1, 0.9])
    rows = [
        {"class": "BMW M3 Coupe 2012", "photos": 4, "recall": 0.5, "f1": 0.5, "precision": 0.5},
        {"class": "Audi S5 Coupe 2012", "photos": 4, "recall": 1.0, "f1": 1.0, "precision": 1.0},
    ]
    return replace(found, kind="published", name="published", extra=extra, metrics=metrics,
                   per_class=rows)  # fmt: skip


def test_the_card_has_the_records_numbers() -> None:
    text = model_card(ROOT, [published()])
    for said in (
        "7,654,321 bytes",
        "0.020",
        "4,321 pairs",
        "below 0.250: 95 % of",
        "6,580",
        "51 min",
    ):
        assert said in text
    assert "| Coupe | 8 | 0.750 |" in text and "BMW M3 Coupe 2012 (2 of 4)" in text
    assert "Not measured yet" in text
    assert model_card(ROOT, [fake_record()]) is None


def test_the_card_has_the_costs_of_this_very_network() -> None:
    row = {"accuracy": 0.9, "photos_per_second": 45.6, "bytes": 1_234_567,
           "change": 0.01, "change_interval": [-0.02, 0.03]}  # fmt: skip
    ways = {"torch": 60.0, "onnx": 20.9, "onnx int8": 12.3}
    rows = [row | {"way": way, "ms_per_photo": ms} for way, ms in ways.items()]
    extra = {"rows": rows, "parameters": 7654, "gflops": 0.56, "side": 96}
    costs = replace(
        published(), kind="benchmark", topic="deployment", name="deployment-toy", extra=extra
    )
    text = model_card(ROOT, [published(), costs])
    assert "| onnx int8 | 1.2 | 0.900 | 12.3 | 46 | 1.7 |" in text and "+0.010 (−0.020" in text
    other = replace(costs, checkpoint={"hash": "0" * 16})
    assert "Not measured yet" in model_card(ROOT, [published(), other])


@pytest.mark.parametrize("changed", [True, False])
def test_a_card_that_says_something_else_is_found(tmp_path, changed: bool) -> None:
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "report", root / "report")
    marks = "".join(f"<!-- {m}:begin -->\n<!-- {m}:end -->\n" for m in ("results", "notebooks"))
    (root / "README.md").write_text(marks, encoding="utf-8")
    shutil.copy(ROOT / "CITATION.cff", root)
    published().write(root / "data" / "results")
    assert root / CARD in report.build_report(root)
    if changed:
        text = (root / CARD).read_text(encoding="utf-8")
        (root / CARD).write_text(text.replace("7,654,321", "7,654,320"), encoding="utf-8")
    found = report.check_report(root)
    assert any("7,654,320" in line for line in found) == changed
