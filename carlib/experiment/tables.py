"""Records read together: which may stand in one table, and what the seeds of a recipe say.

Records of one method (a recipe without its seed) make a row, whatever they are called; a name is
for reading. Where two methods would stand under one name, or one seed twice, there is no table but
an error that names the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from statistics import mean

from carlib.errors import RunError
from carlib.experiment.checkpoint import UNTRAINED
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record
from carlib.experiment.registry import RECIPES, quick

FINAL_WAYS = {"knn": "nearest photographs vote", "published": "as published, half precision"}
STANFORD = "stanford-cars"  # the data set whose records the report and the notebooks compare
VOLATILE = ("name", "note", "seed")  # fields that make no other method of a recipe

# What the tables list, in this order, whether it was run or not.
STUDIES = ("cnn3", "cnn4", "cnn_advanced", "s1", "resnet_ce", "resnet_focal", "resnet_large_ce",
           "resnet_large_focal")  # fmt: skip
SHORT = {name: quick(RECIPES[name]) for name in STUDIES}  # the same methods on a small budget
BUDGET = (*(short.name for short in SHORT.values()), "scratch_cpu")  # what two CPU cores can do
FULL = (*STUDIES, "scratch_best")  # what the recipes ask for; hours on a GPU
TRANSFER = ("lite0_frozen", "lite0_cpu", "lite0_cpu_long", "lite0", "lite2")  # ours, pretrained
EARLIER = ("resnet50_frozen", "resnet50_frozen_augmented", "resnet50_tuned",
           "densenet121_progressive", "efficientnet_b3", "efficientnetv2", "resnet18_ce",
           "resnet18_focal", "inception_ce", "inception_focal")  # fmt: skip
NAMES = (*BUDGET, *FULL, *TRANSFER, *EARLIER)
PLANNED: dict[str, Recipe] = RECIPES | {short.name: short for short in SHORT.values()}


def machine(record: Record) -> str:
    """What a record was made on, in a few words: the GPU, or the number of CPU cores."""
    return record.hardware["gpu"] or f"{record.hardware['cores']} CPU cores"


def shown_name(record: Record) -> str:
    """What a record's recipe is called in tables and figures.

    A recipe that has changed since, or was changed for a run, is shown as what it was: its name and
    what differs from the recipe that has the name now.
    """
    name = record.recipe["name"]
    planned = PLANNED.get(name)
    if planned is None or planned.method == record.method:
        return name
    was, now = record.recipe, asdict(planned)
    changed = [f"{k}={was[k]}" for k in was if k not in VOLATILE and was[k] != now.get(k)]
    changed += [f"no {k}" for k in now if k not in was]
    return f"{name} ({', '.join(changed[:3])}{' …' if changed[3:] else ''})"


def evaluations(
    records: Sequence[Record], recipe_name: str | None = None, weights: str | None = None
) -> list[Record]:
    """Val scores on Stanford Cars, seed by seed: of one recipe (by `shown_name`), of "random" or
    "pretrained" weights to begin with, or all. Weights are those of a run's best epoch.
    """
    return [
        record
        for record in records
        if record.kind == "evaluation"
        and (record.data.get("dataset"), record.data["split"]) == (STANFORD, "val")
        and record.checkpoint.get("kept", "best") in (record.recipe.get("keep", "best"), "")
        and recipe_name in (None, shown_name(record))
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


def by_label(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records that make a row each, by what the row is called, seed by seed.

    Raises `RunError` where a name would stand for two methods, or a seed would count twice.
    """
    labels: dict[str, list[Record]] = {}
    for record in records:
        labels.setdefault(_label(record), []).append(record)
    for label, seeds in labels.items():
        seeds.sort(key=lambda record: record.recipe["seed"])
        _one_method(label, seeds)
        _no_seed_twice(seeds)
    return labels


def _one_method(label: str, records: Sequence[Record]) -> None:
    first = records[0]
    other = next((r for r in records if r.method != first.method), None)
    if other is not None:
        raise RunError(
            f"{first.name} and {other.name} are both called {label} but are of different "
            f"recipes ({_difference(first, other)}); they cannot be averaged. Rename one"
        )


def _no_seed_twice(records: Sequence[Record]) -> None:
    for one, other in pairwise(records):
        if one.recipe["seed"] == other.recipe["seed"]:
            raise RunError(
                f"{one.name} and {other.name} are of one recipe and seed, on other photos or "
                f"with other weights; keep one of them"
            )


def _label(record: Record) -> str:
    """The recipe, and what its network is compared by where that is not what it was trained for."""
    told, points = record.checkpoint or {}, record.scoring.get("points", "")
    untrained = UNTRAINED if told.get("kept") == UNTRAINED else ""
    return "_".join(filter(None, (shown_name(record), untrained, points)))


def _difference(one: Record, other: Record) -> str:
    a, b = one.recipe, other.recipe
    keys = [key for key in a if key not in VOLATILE and a[key] != b.get(key)]
    return ", ".join(f"{key} {a[key]} and {b.get(key)}" for key in keys[:3])


def best(records: Sequence[Record], weights: str | None = None) -> Record | None:
    """The first seed of the recipe that has the highest val accuracy, as a mean over its seeds.

    Among recipes that begin with some `weights` or all; the best of several seeds is no result.
    """
    recipes = by_label(evaluations(records, weights=weights))
    means = {name: mean(r.metrics["accuracy"] for r in seeds) for name, seeds in recipes.items()}
    return recipes[max(means, key=means.get)][0] if means else None


def make_row(label: str, seeds: Sequence[Record], score: str) -> dict[str, object]:
    """What a table says of one recipe: scores as means over its seeds, the rest as the first seed
    has it.

    `interval` is the 95 % interval of the first seed's `score`, `spread` its smallest and largest
    value among the seeds; `record` is the file of the first seed. `recipe` is the row's label,
    `method` what was trained and `points` what is compared, so that rows of one network find each
    other.
    """
    first, values = seeds[0], [seed.metrics[score] for seed in seeds]
    single = [name for name, value in first.metrics.items() if isinstance(value, float)]
    trained = (first.checkpoint or {}).get("kept") != UNTRAINED
    points = first.scoring.get("points", "")
    loss = first.recipe["loss"].replace("_", "-") if trained else "none"
    return {
        "recipe": label,
        "record": first.name,
        "method": shown_name(first),
        "trained": trained,
        "points": points,
        "loss": ", ".join(filter(None, (loss, points))),
        "dims": first.extra.get("dims"),
        "epochs": first.recipe["epochs"],
        "size": first.recipe["size"],  # side of a training photo, pixels
        "seeds": len(seeds),
        "interval": first.metrics[f"{score}_interval"],
        "spread": [min(values), max(values)],
        "seconds": first.timing.get("train_seconds"),  # on this hardware
        "hardware": machine(first),
        **{name: mean(seed.metrics[name] for seed in seeds) for name in single},
    }


def row(records: Sequence[Record], recipe_name: str) -> dict[str, object] | None:
    """The row of a recipe's val scores, see `make_row`, or nothing if it was not run.

    A record whose recipe is no longer the one of that name is another row, see `shown_name`.
    """
    seeds = by_label(evaluations(records, recipe_name)).get(recipe_name)
    return make_row(recipe_name, seeds, "accuracy") if seeds else None


def final_rows(records: Sequence[Record]) -> list[dict[str, object]]:
    """Every way in which the same val photos of Stanford Cars were named, best first.

    A row per recipe that was trained as a whole (of those on a small budget, SHORT, the best), and
    what became of a network: neighbors that vote, the published file. Scores are means over the
    seeds. Raises `RunError` when the rows did not score the same photos.
    """
    trained = {label: seeds[0] for label, seeds in by_label(evaluations(records)).items()}
    scored = {name: row(records, name) for name in trained}
    short = [recipe.name for recipe in SHORT.values() if recipe.name in scored]
    shorter = sorted(short, key=lambda name: -scored[name]["accuracy"])[1:]
    used = [
        record
        for record in records
        if record.kind in FINAL_WAYS
        and (record.data.get("dataset"), record.data["split"]) == (STANFORD, "val")
    ]
    _same_photos([*trained.values(), *used])
    rows = [
        {"way": _way(trained[name])}
        | {key: line[key] for key in ("recipe", "accuracy", "interval", "seconds")}
        for name, line in scored.items()
        if name not in shorter
    ]
    rows += [
        {"recipe": shown_name(record), "way": FINAL_WAYS[record.kind],
         "accuracy": record.metrics["accuracy"], "interval": record.metrics["accuracy_interval"],
         "seconds": record.timing.get("train_seconds")}
        for record in used
    ]  # fmt: skip
    return sorted(rows, key=lambda line: -line["accuracy"])


def _same_photos(records: Sequence[Record]) -> None:
    """Refuse to set records side by side that scored different photos."""
    if len({record.data["split_hash"] for record in records}) > 1:
        names = ", ".join(record.name for record in records)
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
    among = [r for r in records if (r.kind, r.topic) == ("retrieval", protocol)]
    return _compared(among, "recall_at_1")


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
            about = {"recipe": shown_name(record), "data": record.data["catalog"],
                     "layer": record.extra["layer"], "photos": record.data["photos"]}  # fmt: skip
            rows += [about | row for row in record.extra["rows"]]
    return rows


def _compared(records: Sequence[Record], score: str) -> list[dict[str, object]]:
    """A row per recipe that compares photos of Stanford Cars, by its mean score."""
    compared = [record for record in records if record.data.get("dataset") == STANFORD]
    _same_photos(compared)
    rows = [make_row(label, seeds, score) for label, seeds in by_label(compared).items()]
    return sorted(rows, key=lambda row: -row[score])
