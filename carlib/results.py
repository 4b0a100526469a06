"""Records read together: which may stand in one table, and what the seeds of a recipe say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from carlib.errors import RunError
from carlib.records import Record

FINAL_WAYS = {"knn": "nearest photographs vote", "published": "as published, half precision"}
WAYS = ("features", "whitened")  # of comparing, at the end of a recipe's name
STANFORD = "stanford-cars"  # the catalog whose records the report and the notebooks compare

# What the tables list, in this order, whether it was run or not.
STUDIES = ("cnn3", "cnn4", "cnn_advanced", "s1", "resnet_ce", "resnet_focal", "resnet_large_ce",
           "resnet_large_focal")  # fmt: skip
BUDGET = (*(f"{name}_quick" for name in STUDIES), "scratch_cpu")  # what two CPU cores can do
FULL = (*STUDIES, "scratch_best")  # what the recipes ask for; hours on a GPU
TRANSFER = ("lite0_frozen", "lite0_cpu", "lite0_cpu_long", "lite0", "lite2")  # ours, pretrained
EARLIER = ("resnet50_frozen", "resnet50_frozen_augmented", "resnet50_tuned",
           "densenet121_progressive", "efficientnet_b3", "efficientnetv2", "resnet18_ce",
           "resnet18_focal", "inception_ce", "inception_focal")  # fmt: skip
NAMES = (*BUDGET, *FULL, *TRANSFER, *EARLIER)


def machine(record: Record) -> str:
    """What a record was made on, in a few words: the GPU, or the number of CPU cores."""
    return record.hardware["gpu"] or f"{record.hardware['cores']} CPU cores"


def named(records: Sequence[Record], name: str) -> Record | None:
    """The record of this name, or nothing if it was not made."""
    return next((record for record in records if record.name == name), None)


def evaluations(
    records: Sequence[Record], recipe_name: str | None = None, weights: str | None = None
) -> list[Record]:
    """Val scores on Stanford Cars, seed by seed: of one recipe, of "random" or "pretrained" weights
    to begin with, or all.
    """
    return [
        record
        for record in records
        if record.kind == "evaluation"
        and (record.data["catalog"], record.data["split"]) == (STANFORD, "val")
        and recipe_name in (None, record.recipe["name"])
        and weights in (None, record.recipe.get("weights", "random"))
    ]


def comparable(records: Sequence[Record]) -> list[Record]:
    """The records, once it is certain that every evaluation in one table scored the same photos."""
    splits: dict[str, str] = {}
    for record in evaluations(records):
        splits.setdefault(record.data["split_hash"], record.name)
    if len(splits) > 1:
        names = ", ".join(f"{name} ({digest})" for digest, name in splits.items())
        raise RunError(f"records of different val splits cannot stand in one table: {names}")
    return list(records)


def best(records: Sequence[Record], weights: str | None = None) -> Record | None:
    """The first seed of the recipe that has the highest val accuracy, as a mean over its seeds.

    Among recipes that begin with some `weights` or all; the best of several seeds is no result.
    """
    first = _first_seeds(evaluations(records, weights=weights))
    means = {name: row(records, name).metrics["accuracy"] for name in first}
    return first[max(means, key=means.get)] if means else None


def _first_seeds(scored: Sequence[Record]) -> dict[str, Record]:
    """The first record of every recipe, by name."""
    first: dict[str, Record] = {}
    for record in scored:
        first.setdefault(record.recipe["name"], record)
    return first


@dataclass(frozen=True)
class Row:
    """One recipe in a table: metrics averaged over its seeds, the rest as the first seed has it."""

    recipe: str
    seeds: int
    metrics: dict[str, float]  # means over the seeds
    interval: tuple[float, float]  # 95 % of the first seed's accuracy, by bootstrap over photos
    spread: tuple[float, float]  # smallest and largest accuracy among the seeds
    seconds: float  # of training, on this hardware
    hardware: str  # the GPU, or the number of CPU cores
    epochs: int
    size: int  # side of a training photo, pixels


def row(records: Sequence[Record], recipe_name: str) -> Row | None:
    """The row of a recipe, or nothing if it was not run."""
    seeds = evaluations(records, recipe_name)
    if not seeds:
        return None
    first = seeds[0]
    accuracies = [seed.metrics["accuracy"] for seed in seeds]
    single = [name for name, value in first.metrics.items() if isinstance(value, float)]
    return Row(
        recipe=recipe_name,
        seeds=len(seeds),
        metrics={name: mean(seed.metrics[name] for seed in seeds) for name in single},
        interval=tuple(first.metrics["accuracy_interval"]),
        spread=(min(accuracies), max(accuracies)),
        seconds=first.timing["train_seconds"],
        hardware=machine(first),
        epochs=first.recipe["epochs"],
        size=first.recipe["size"],
    )


def final_rows(records: Sequence[Record]) -> list[dict[str, object]]:
    """Every way in which the same val photos of Stanford Cars were named, best first.

    A row per recipe that was trained as a whole (of those on a small budget, "_quick", the best),
    and what became of a network: neighbors that vote, the published file. Scores are means over
    the seeds. Raises `RunError` when the rows did not score the same photos.
    """
    trained = _first_seeds(evaluations(records))
    found = {name: row(records, name) for name in trained}
    quick = [name for name in trained if name.endswith("_quick")]
    shorter = sorted(quick, key=lambda name: -found[name].metrics["accuracy"])[1:]
    used = [
        record
        for record in records
        if record.kind in FINAL_WAYS
        and (record.data["catalog"], record.data["split"]) == (STANFORD, "val")
    ]
    _same_photos([*trained.values(), *used])
    rows = [
        {"recipe": name, "way": _way(trained[name]), "accuracy": line.metrics["accuracy"],
         "interval": line.interval, "seconds": line.seconds}
        for name, line in found.items()
        if name not in shorter
    ]  # fmt: skip
    rows += [
        {"recipe": record.recipe["name"], "way": FINAL_WAYS[record.kind],
         "accuracy": record.metrics["accuracy"], "interval": record.metrics["accuracy_interval"],
         "seconds": record.timing.get("train_seconds")}
        for record in used
    ]  # fmt: skip
    return sorted(rows, key=lambda line: -line["accuracy"])


def _same_photos(found: Sequence[Record]) -> None:
    """Refuse to set records side by side that scored different photos."""
    if len({record.data["split_hash"] for record in found}) > 1:
        names = ", ".join(record.name for record in found)
        raise RunError(f"records of different photos cannot stand in one table: {names}")


def _way(record: Record) -> str:
    if record.recipe.get("weights", "random") == "random":
        return "trained from scratch"
    return (
        "linear layer, frozen body" if record.recipe.get("plan") == "head" else "all layers trained"
    )


def retrieval_rows(records: Sequence[Record], protocol: str) -> list[dict[str, object]]:
    """Retrieval among "same" or "unseen" classes of Stanford Cars: a row per recipe, best first.

    Scores are means over the seeds; the interval is that of the first seed's Recall@1. Raises
    `RunError` when the rows did not score the same photos.
    """
    found = [r for r in records if r.kind == "retrieval" and r.extra["protocol"] == protocol]
    return _compared(found, "recall_at_1")


def verification_rows(records: Sequence[Record]) -> list[dict[str, object]]:
    """Pairs of unseen classes of Stanford Cars, the same or not: a row per recipe, best first.

    Scores are means over the seeds; the interval is that of the first seed's AUC on hard pairs.
    """
    return _compared([r for r in records if r.kind == "verification"], "hard_auc")


def map_rows(records: Sequence[Record]) -> list[dict[str, object]]:
    """Measures of heat maps, a row per network, data set and kind of map, in the records' order."""
    rows = []
    for record in records:
        if record.kind == "maps":
            about = {"recipe": record.recipe["name"], "data": record.data["catalog"],
                     "layer": record.extra["layer"], "photos": record.data["photos"]}  # fmt: skip
            rows += [about | row for row in record.extra["rows"]]
    return rows


def _compared(found: Sequence[Record], key: str) -> list[dict[str, object]]:
    """A row per recipe that compares photos of Stanford Cars, by its mean score `key`."""
    found = [record for record in found if record.data["catalog"] == STANFORD]
    _same_photos(found)
    rows = []
    for name in dict.fromkeys(record.recipe["name"] for record in found):
        seeds = [record for record in found if record.recipe["name"] == name]
        first = seeds[0]
        scores = {
            score: mean(seed.metrics[score] for seed in seeds)
            for score, value in first.metrics.items()
            if isinstance(value, float)
        }
        loss = "none"  # a network before any training
        if first.checkpoint["epoch"] is not None:
            loss = first.recipe["loss"].replace("_", "-")
        loss += next((f", {way}" for way in WAYS if name.endswith(f"_{way}")), "")
        values = [seed.metrics[key] for seed in seeds]
        rows.append(
            {"recipe": name, "loss": loss, "dims": first.extra["dims"], "seeds": len(seeds),
             "interval": first.metrics[f"{key}_interval"], "spread": [min(values), max(values)],
             **scores}
        )  # fmt: skip
    return sorted(rows, key=lambda row: -row[key])
