"""Records read together: which may stand in one table, and under which name.

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
from carlib.experiment.registry import RECIPES

STANFORD = "stanford-cars"  # the data set whose records the report and the notebooks compare
AT_HAND = "box"  # its photos at hand are cut to the car's box: a whole one shows no more
USUAL_BODY = "efficientnet_lite0"  # of rows that name no other
BEFORE = " (earlier recipe)"  # in the titles of rows whose recipe has changed since
VOLATILE = ("name", "note", "seed")  # fields that make no other method of a recipe

# What the tables list, in this order, once it is run.
SCRATCH = ("cnn3", "cnn4", "cnn_advanced", "s1", "resnet_ce", "resnet_focal", "resnet_large_ce",
           "resnet_large_focal", "scratch_cpu", "scratch_best")  # fmt: skip
TRANSFER = (
    "lite0_frozen",
    "lite0_cpu",
    "lite0_cpu_long",
    "lite2_cpu_long",
    "lite2_cpu_whole",
    "lite0",
    "lite2",
)  # ours, pretrained
# Methods of studies S2 to S4 on the body at hand, and S0's way to compare.
METHODS = ("s2_lite0", "s2_lite0_24", "s3_lite0", "s3_lite0_24", "s4_lite0", "s4_lite0_24")
SIAMESE = ("siamese_resnet18", "siamese_resnet50", "siamese_efficientnet", "siamese_scratch",
           "siamese_lite0")  # fmt: skip
EARLIER = ("resnet50_frozen", "resnet50_frozen_augmented", "resnet50_tuned",
           "densenet121_progressive", "efficientnet_b3", "efficientnetv2", "efficientnetv2_mlp",
           "resnet18_ce", "resnet18_focal", "inception_ce", "inception_focal",
           *METHODS)  # fmt: skip
NAMES = (*SCRATCH, *TRANSFER, *EARLIER)
COMPARING = ("lite0_contrastive", "lite0_triplet", "lite0_multi_similarity", "lite0_proxy_anchor",
             "lite0_arcface", "siamese_lite0")  # fmt: skip
OURS = ("scratch_cpu", "scratch_best", *TRANSFER, *COMPARING)


def machine(record: Record) -> str:
    """What a record was made on, in a few words: the GPU, or the number of CPU cores."""
    cores = record.hardware["cores"]
    return record.hardware["gpu"] or f"{cores} CPU core{'s' * (cores != 1)}"


def changes(record: Record) -> list[str]:
    """What a record's recipe was, where it differs from the one that has its name now; what recipes
    no longer say comes first.
    """
    planned = RECIPES.get(record.recipe["name"])
    if planned is None or planned.method == record.method:
        return []
    was, now, usual = record.recipe, asdict(planned), asdict(Recipe())
    differing = [key for key in was if key not in VOLATILE and was[key] != now.get(key)]
    return [f"{k}={was[k]}" for k in sorted(differing, key=lambda k: (k in now, k))] + [
        f"no {key}" for key in now if key not in was and now[key] != usual[key]
    ]


def shown_name(record: Record) -> str:
    """By what name records of one method are told: their recipe's, with some of its `changes`."""
    changed = changes(record)
    told = f" ({', '.join(changed[:3])}{' …' if changed[3:] else ''})" if changed else ""
    return f"{record.recipe['name']}{told}"


def title_of(record: Record, short: bool = False) -> str:
    """What people read: the recipe's note, with the epochs that were trained, and whether the
    recipe has changed since; where there is little room, an asterisk says so.
    """
    was, planned = record.recipe, RECIPES.get(record.recipe["name"])
    if planned is None:
        return was["name"]
    if not changes(record):
        return planned.note
    note = planned.note.replace(f"{planned.epochs} epochs", f"{was['epochs']} epochs")
    return f"{note}{'*' if short else BEFORE}"


def row_title(record: Record, short: bool = False) -> str:
    """`label_of` as people read it."""
    points = points_of(record)
    if points[:1] == [UNTRAINED]:
        body = record.recipe["model"]
        which = "" if body == USUAL_BODY else f" ({body})"
        return ", ".join([f"a body that learned no car{which}", *points[1:]])
    return ", ".join([title_of(record, short), *points])


def evaluations(
    records: Sequence[Record], recipe_name: str | None = None, weights: str | None = None
) -> list[Record]:
    """Val scores on Stanford Cars, seed by seed: of one recipe, of "random" or "pretrained" weights
    to begin with, or all. Weights are those that the recipe keeps.

    A recipe is told by `shown_name`, or, where it was not run as it is now, by its name alone.
    """
    found = [
        record
        for record in records
        if record.kind == "evaluation"
        and (record.data.get("dataset"), record.data["split"]) == (STANFORD, "val")
        and record.checkpoint.get("kept", "best") in (record.recipe.get("keep", "best"), "")
        and weights in (None, record.recipe.get("weights", "random"))
    ]
    if recipe_name is None:
        return found
    exact = [record for record in found if shown_name(record) == recipe_name]
    return exact or [record for record in found if record.recipe["name"] == recipe_name]


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
        labels.setdefault(label_of(record), []).append(record)
    for label, seeds in labels.items():
        seeds.sort(key=lambda record: record.recipe["seed"])
        _one_method(label, seeds)
        _no_seed_twice(seeds)
    return labels


def keeping_outputs(
    records: Sequence[Record], kind: str, topic: str = ""
) -> dict[str, list[Record]]:
    """Records of a kind on Stanford Cars that keep their outputs, by label, seed by seed."""
    return by_label([
        record
        for record in records
        if (record.kind, record.topic, record.data.get("dataset")) == (kind, topic, STANFORD)
        and record.outputs
    ])  # fmt: skip


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


def label_of(record: Record) -> str:
    """The recipe, and what its network is compared by where that is not what it was trained for."""
    return "_".join([shown_name(record), *points_of(record)])


def points_of(record: Record) -> list[str]:
    """What photos are compared by, where that is not what the network was trained for."""
    told, points = record.checkpoint or {}, record.scoring.get("points", "")
    return [word for word in (UNTRAINED if told.get("kept") == UNTRAINED else "", points) if word]


def _difference(one: Record, other: Record) -> str:
    a, b = one.recipe, other.recipe
    keys = [key for key in a if key not in VOLATILE and a[key] != b.get(key)]
    return ", ".join(f"{key} {a[key]} and {b.get(key)}" for key in keys[:3])


def named(records: Sequence[Record]) -> list[Record]:
    """Records of recipes that the registry names, as they are now or were; no variant that somebody
    tried, and no method cut to a laptop's budget.
    """
    return [record for record in records if record.recipe and record.recipe["name"] in RECIPES]


def best(records: Sequence[Record], weights: str | None = None) -> Record | None:
    """The first seed of the recipe that has the highest val accuracy, as a mean over its seeds.

    Among named recipes that begin with some `weights` or all; the best of several seeds is no
    result.
    """
    recipes = by_label(named(evaluations(records, weights=weights)))
    means = {name: mean(r.metrics["accuracy"] for r in seeds) for name, seeds in recipes.items()}
    return recipes[max(means, key=means.get)][0] if means else None


def same_photos(records: Sequence[Record]) -> None:
    """Refuse to set records side by side that scored different photos."""
    if len({record.data["split_hash"] for record in records}) > 1:
        names = ", ".join(record.name for record in records)
        raise RunError(f"records of different photos cannot stand in one table: {names}")
