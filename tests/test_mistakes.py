"""What mistakes win, on scores whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fakes import fake_record

from carlib.errors import RunError
from carlib.evaluation.mistakes import chosen_on_scored, gained
from carlib.experiment.outputs import Outputs
from carlib.experiment.record import Record
from carlib.report.halves import COMPARED, half_rows
from carlib.report.mistakes import MISTAKES, mistake_rows
from carlib.report.rows import retrieval_rows


def test_a_gain_is_paired() -> None:
    generator = np.random.default_rng(0)
    honest = (generator.random(400) < 0.6).astype(float)
    reported = honest.copy()
    reported[np.flatnonzero(honest == 0)[:40]] = 1
    found = gained(reported, honest)
    assert found.gain == pytest.approx(0.1) and found.honest == pytest.approx(honest.mean())
    low, high = found.interval  # of a share of .1 in 400, not of two accuracies
    assert 0.06 < low < 0.1 < high < 0.14
    by_class = gained(reported.reshape(80, 5).sum(1), honest.reshape(80, 5).sum(1), np.full(80, 5))
    assert by_class.gain == pytest.approx(found.gain)


def test_choosing_among_equals_wins_and_is_undone() -> None:
    """Thirty options that are all right on half of the photos: only luck tells them apart."""
    gains, honest = [], []
    for seed in range(20):
        hits = np.random.default_rng(seed).random((30, 200)) < 0.5
        found = chosen_on_scored(hits)
        gains.append(found.gain)
        honest.append(found.honest)
        assert found.reported == pytest.approx(hits.mean(1).max())
    assert np.mean(gains) > 0.05  # the largest of thirty, two standard deviations of .035
    assert abs(np.mean(honest) - 0.5) < 0.02


def test_a_choice_that_is_clear_wins_nothing() -> None:
    hits = np.zeros((3, 50))
    hits[1] = np.arange(50) % 10 > 0
    found = chosen_on_scored(hits)
    assert found.gain == 0 and found.interval == (0, 0) and found.honest == 0.9


def test_copies_stay_together() -> None:
    """Of each photo four copies: apart they would let an option be chosen on what is scored."""
    hits = np.random.default_rng(3).random((40, 60)) < 0.5
    once, copied = chosen_on_scored(hits), np.repeat(hits, 4, axis=1)
    together = chosen_on_scored(copied, np.repeat(np.arange(60), 4))
    assert together.honest == pytest.approx(once.honest)
    assert together.interval == pytest.approx(once.interval)
    assert chosen_on_scored(copied).honest > together.honest + 0.03


@pytest.mark.parametrize("hits, groups", [
    (np.zeros(5), None), (np.zeros((0, 5)), None), (np.zeros((2, 1)), None),
    (np.zeros((2, 5)), np.zeros(4)),
])  # fmt: skip
def test_what_does_not_fit_is_said(hits, groups) -> None:
    with pytest.raises(RunError):
        chosen_on_scored(hits, groups)


# --- from outputs -------------------------------------------------------------------------------


def kept(kind: str, topic: str, outputs: Outputs, seed: int = 0, **metrics: float) -> Record:
    record = fake_record("lite0_cpu", seed, 0.5)
    changed = dict(kind=kind, topic=topic, metrics=record.metrics | metrics, outputs="", name="",
                   outputs_file=outputs.to_bytes())  # fmt: skip
    return replace(record, **changed)


def photos(labels: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame({"stem": [f"{n:04}" for n in range(len(labels))], "label": labels})
    return table.assign(**dict.fromkeys(("class_name", "make", "model", "year", "body"), pd.NA))


def test_the_table_makes_what_the_outputs_allow() -> None:
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 20)
    said = np.where(draw.random((3, 8, 240)) < 0.6, labels, (labels + 1) % 12)  # seeds, epochs
    seeds = [
        Outputs({"logits": np.eye(12, dtype=np.float16)[one[-1]],
                 "epochs": np.eye(12, dtype=np.float16)[one]}, photos(labels))
        for one in said
    ]  # fmt: skip
    centers = draw.normal(size=(12, 16))
    points = (centers[labels] + draw.normal(size=(240, 16))).astype(np.float16)
    pairs = {name: draw.integers(0, 240, (300, 2)).astype(np.int32)
             for name in ("fitting", "medium", "hard")}  # fmt: skip
    unseen = Outputs({"embeddings": points} | pairs, photos(labels), about={"points": ""})
    same = Outputs({"embeddings": points[::2], "gallery": points[1::2]}, photos(labels[::2]),
                   photos(labels[1::2]))  # fmt: skip
    records = [kept("evaluation", "", one, seed) for seed, one in enumerate(seeds)]
    records += [kept("retrieval", "unseen", unseen, recall_at_1=0.5),
                kept("retrieval", "same", same, recall_at_1=0.5),
                kept("verification", "", unseen, hard_auc=0.8)]  # fmt: skip
    rows = {row["mistake"]: row for row in mistake_rows(records)}
    (halves,) = half_rows(records, retrieval_rows(records, "unseen"))
    assert halves["trained"] and set(halves["scores"]) == set(COMPARED)
    gain = halves["scores"]["softened"] - halves["scores"]["plain"]
    assert halves["gain"] == pytest.approx(gain)
    assert halves["interval"][0] <= gain <= halves["interval"][1]
    assert len(rows) == sum(map(len, MISTAKES.values())) - 1  # no outputs have a mirrored view
    assert [row["won"] for row in mistake_rows(records)] == sorted(
        (row["won"] for row in rows.values()), reverse=True
    )
    lucky, copies = (next(row for name, row in rows.items() if word in name)
                     for word in ("lucky", "have a copy"))  # fmt: skip
    assert lucky["honest"] == (said[0, -1] == labels).mean() and lucky["interval"][0] > 0
    assert 0.02 < copies["won"] < 0.1 and copies["interval"][0] > 0  # of a tenth, those not found
    assert mistake_rows([fake_record("cnn3", 0, 0.5)]) == []  # keeps no outputs
