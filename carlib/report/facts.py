"""What the report's Typst text is told: which records and rows there are, and what they come to."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from carlib.data.audit import MAX_RATIO, MIN_SIDE
from carlib.evaluation.metrics import FEWER_RESAMPLES, RESAMPLES
from carlib.experiment.network import make_network
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record, the_one
from carlib.experiment.registry import RECIPES
from carlib.experiment.tables import (
    EARLIER,
    SCRATCH,
    STANFORD,
    TRANSFER,
    best,
    changes,
    label_of,
    row_title,
    shown_name,
    title_of,
)
from carlib.explain.faithfulness import BLIND
from carlib.models.networks import count_parameters
from carlib.report.answers import label_rows
from carlib.report.cost import TARGETS, time_rows
from carlib.report.differences import differences
from carlib.report.figures import FIGURES
from carlib.report.halves import half_rows
from carlib.report.missing import command, missing
from carlib.report.mistakes import mistake_rows
from carlib.report.rows import (
    final_rows,
    retrieval_rows,
    rows_of,
    tried_rows,
    verification_rows,
    with_baseline,
)

STUDIED = ("unknown", "imbalance", "leak", "leads", "axes")  # questions that the report answers


def facts(root: Path, records: Sequence[Record]) -> dict:
    """What Typst cannot find out: which records and figures there are, what the recipes say."""
    tops = {"best": best(records, "random"), "top": best(records, "pretrained")}
    single = {
        "audit": the_one(records, "audit", dataset=STANFORD),
        "rate": the_one(records, "benchmark", "showroom_rate"),
        "books": the_one(records, "benchmark", "notebooks"),
        "truth": the_one(records, "benchmark", "counterfactual"),
        "examples": the_one(records, "benchmark", "examples"),
        **{study: the_one(records, "study", study, STANFORD) for study in STUDIED},
    }
    rows = rows_of(records)
    told = dict.fromkeys((*SCRATCH, *TRANSFER, *(line["name"] for line in rows.values())))
    return {
        "data": STANFORD,
        "records": [record.name for record in records],
        "figures": [name for name in FIGURES if (root / "figures" / name).exists()],
        "resamples": RESAMPLES,
        "fewer_resamples": FEWER_RESAMPLES,
        "limits": {"side": MIN_SIDE, "ratio": MAX_RATIO},
        **{key: record.name if record else None for key, record in (tops | single).items()},
        "shown": {record.name: shown_name(record) for record in records if record.recipe},
        "rows": rows,
        **{key: [label for label, line in rows.items() if line["name"] in names]
           for key, names in (("scratch", SCRATCH), ("transfer", TRANSFER), ("earlier", EARLIER))},
        "final": final_rows(records),
        "knows_nothing": BLIND,
        **comparing(records),
        "differences": differences(records),
        "tried": tried_rows(records),
        "label_scores": label_rows(records),
        "time": time_rows(records),
        "targets": TARGETS,
        "mistakes": mistake_rows(records),
        "lacking": [
            {"name": name, "note": RECIPES[name].note, "command": command(name)}
            for name in missing(records)
        ],
        "labels": {record.name: label_of(record) for record in records if record.recipe},
        "titles": titles(records),
        "changes": {r.name: changes(r) for r in records if r.recipe and changes(r)},
        "digest": digest(root / "data" / "results"),
        "commands": {name: command(name) for name in RECIPES},
        "recipes": {
            name: asdict(RECIPES[name]) | {"parameters": parameters(RECIPES[name])}
            for name in told
        },
    }  # fmt: skip


def comparing(records: Sequence[Record]) -> dict[str, object]:
    """What is told of finding cars, and of telling pairs apart."""
    found = {key: retrieval_rows(records, key) for key in ("unseen", "same")}
    pairs = verification_rows(records)
    return {
        "retrieval": found,
        "verification": pairs,
        "earlier_verification": verification_rows(records, earlier=True),
        "halves": half_rows(records, found["unseen"]),
        "headline": {"unseen": with_baseline(found["unseen"]), "pairs": with_baseline(pairs)},
    }


def titles(records: Sequence[Record]) -> dict[str, str]:
    """What people read in the place of a row's label or a recipe's name."""
    found = {name: recipe.note for name, recipe in RECIPES.items()}
    for record in (one for one in records if one.recipe):
        found[shown_name(record)] = title_of(record)
        found[label_of(record)] = row_title(record)
    return found


def digest(folder: Path) -> str:
    """12 hex digits over the files of a folder of records, names included."""
    summary = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        summary.update(path.name.encode() + b"\0" + path.read_bytes())
    return summary.hexdigest()[:12]


def parameters(recipe: Recipe, num_classes: int = 196) -> int:
    """Trainable parameters of a recipe's network; no memory is taken to count them."""
    return _count(
        Recipe(model=recipe.model, head=recipe.head, grayscale=recipe.grayscale), num_classes
    )


@functools.cache
def _count(recipe: Recipe, num_classes: int) -> int:
    with torch.device("meta"):
        return count_parameters(make_network(recipe, num_classes))
