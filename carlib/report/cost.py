"""What an hour of a machine buys: val accuracy over the time that training took."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from carlib.experiment.record import Record, judged_by
from carlib.report.rows import Row, groups
from carlib.training.precision import HOPELESS

TARGETS = (0.5, 0.7, 0.8, 0.85, 0.9)  # val accuracies


def progress(record: Record) -> list[tuple[float, float]]:
    """Seconds since the training began and accuracy then, a pair for each epoch that was judged.

    What came before the first epoch, such as features of a frozen body, counts as well.
    """
    spent = np.cumsum([row["seconds"] for row in record.history])
    before = max(0.0, record.timing["train_seconds"] - spent[-1])
    score = f"{judged_by(record.history)}_accuracy"
    return [
        (before + seconds, row[score])
        for seconds, row in zip(spent, record.history, strict=True)
        if score in row
    ]


def seconds_to(record: Record, target: float) -> float | None:
    """Seconds until val accuracy was first at least the target; None where it never was."""
    return next((seconds for seconds, value in progress(record) if value >= target), None)


def processor(record: Record) -> str:
    """What a record was made on: the GPU, or the processor and how many of its cores."""
    told = record.hardware
    cores = f", {told['cores']} core{'s' * (told['cores'] != 1)}"
    return told["gpu"] or re.sub(r"\((R|TM)\)| Processor| CPU|@.*", "", told["cpu"]).strip() + cores


def measured(probe: Mapping[str, Any]) -> dict[str, float]:
    """The photos/s by precision that a probe measured on more than a first step, which is slow.

    Earlier probes did not say how many steps they took, and gave up where bf16 was far behind.
    """
    rates = probe.get("photos_per_second", {})
    gave_up = bool(rates) and rates["bf16"] < HOPELESS * rates["no"]
    steps = probe.get("steps", dict.fromkeys(rates, 1 if gave_up else 3))
    return {name: rate for name, rate in rates.items() if steps[name] > 1}


def time_rows(records: Sequence[Record]) -> list[Row]:
    """Minutes to each of TARGETS, "to 0.5" …: a row per recipe, means over one machine's seeds.

    None where a seed never got there. `probed` has the photos/s of the recipe's own largest step by
    precision, as its training measured them beforehand: minutes of two processors compare by them.
    Recipes whose training did not look at val are left out.
    """
    rows = []
    for label, seeds in groups(records).items():
        judged = [r for r in seeds if r.history and judged_by(r.history) == "val"]
        if not judged:
            continue
        mine = [record for record in judged if record.hardware == judged[0].hardware]
        first, row = mine[0], {"recipe": label, "record": mine[0].name, "seeds": len(mine)}
        for target in TARGETS:
            times = [seconds_to(record, target) for record in mine]
            row[f"to {target}"] = mean(times) / 60 if None not in times else None
        probe = first.extra.get("training", {}).get("precision", {})
        rows.append(row | {
            "name": first.recipe["name"],
            "weights": first.recipe.get("weights", "random"),
            "accuracy": mean(record.metrics["accuracy"] for record in mine),
            "minutes": mean(record.timing["train_seconds"] for record in mine) / 60,
            "on": processor(first),
            "precision": probe.get("choice"),
            "probed": measured(probe),
        })  # fmt: skip
    return sorted(rows, key=lambda row: row["minutes"])
