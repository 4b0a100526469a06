"""Rows of tables, from records: what README, report, notebooks and the terminal are given.

One function makes a row. Scores are means over seeds, their intervals those of the means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean

from carlib.experiment.checkpoint import UNTRAINED
from carlib.experiment.record import Record
from carlib.experiment.tables import (
    AT_HAND,
    NAMES,
    OURS,
    STANFORD,
    by_label,
    evaluations,
    machine,
    named,
    row_title,
    same_photos,
    shown_name,
    title_of,
)
from carlib.report.intervals import seed_interval

FINAL_WAYS = {"knn": "nearest photographs vote", "published": "as published, half precision"}
Row = dict[str, object]


def make_row(label: str, seeds: Sequence[Record], score: str) -> Row:
    """What a table says of one recipe: scores as means over its seeds, the rest as the first seed
    has it.

    `interval` is the 95 % interval of the mean of `score`, see `seed_interval`, `spread` its
    smallest and largest value among the seeds; `record` is the file of the first seed. `recipe` is
    the row's label, `title` what people read, `method` what was trained and `points` what is
    compared, so that rows of one network find each other.
    """
    first, values = seeds[0], [seed.metrics[score] for seed in seeds]
    single = [
        name
        for name, value in first.metrics.items()
        if isinstance(value, float) and all(name in seed.metrics for seed in seeds)
    ]
    trained = (first.checkpoint or {}).get("kept") != UNTRAINED
    points = first.scoring.get("points", "")
    loss = first.recipe["loss"].replace("_", "-") if trained else "none"
    between, unit = seed_interval(seeds, score)
    return {
        "recipe": label,
        "name": first.recipe["name"],
        "record": first.name,
        "method": shown_name(first),
        "title": row_title(first),
        "short": row_title(first, short=True),
        "trained": trained,
        "points": points,
        "loss": ", ".join(filter(None, (loss, points))),
        "dims": first.extra.get("dims"),
        "seeds": len(seeds),
        "interval": between,
        "resampled": unit,
        "spread": [min(values), max(values)],
        "seconds": first.timing.get("train_seconds"),  # on this hardware
        "hardware": machine(first),
        **_what_was_seen(first),
        **_epochs(seeds),
        **(means := {name: mean(seed.metrics[name] for seed in seeds) for name in single}),
        **_views(first, means),
    }


def _what_was_seen(record: Record) -> Row:
    """Of the photos: whole or the car's box, pixels, how many; and how often."""
    recipe = record.recipe
    scored = record.scoring.get("size") or recipe["eval_size"] or recipe["size"]
    return {
        "crop": AT_HAND if record.data.get("dataset") == STANFORD else recipe["crop"],
        "size": recipe["size"],  # side of a training photo, pixels
        "scored_size": scored,
        "pixels": f"{recipe['size']}/{scored}",
        "train_photos": record.extra.get("training", {}).get("train_photos"),
        "epochs": recipe["epochs"],
    }


def _views(record: Record, means: Row) -> Row:
    """Accuracy by one view of a photo, and by the mean with its mirror image; None where a record
    does not say.
    """
    if "accuracy" not in means:
        return {}
    views = record.scoring.get("views", ["plain"])
    mirrored = means["accuracy"] if views == ["plain", "mirror"] else None
    return {
        "one_view": means["accuracy"] if views == ["plain"] else None,
        "with_mirror": means.get("accuracy_with_mirror", mirrored),
    }


def _epochs(seeds: Sequence[Record]) -> Row:
    """What val says of the last epoch, and of the epoch that val itself would choose.

    Means over the seeds; None where training looked at other photos than val's.
    """
    scores = [
        [row["val_accuracy"] for row in seed.history or () if "val_accuracy" in row]
        for seed in seeds
    ]
    if not all(scores):
        return {"last_epoch": None, "best_epoch": None}
    return {
        "last_epoch": mean(values[-1] for values in scores),
        "best_epoch": mean(max(values) for values in scores),
    }


# --- val scores ---------------------------------------------------------------------------------


def groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Seeds of every row of val scores, by its label, in the order of NAMES.

    A name whose recipe has changed stands for what it was, until the recipe is run as it is now.
    """
    labels = by_label(named(evaluations(records)))
    found: dict[str, list[Record]] = {}
    for name in (*NAMES, *labels):
        mine = {label: seeds for label, seeds in labels.items() if seeds[0].recipe["name"] == name}
        found |= {name: mine[name]} if name in mine else mine
    return found


def rows_of(records: Sequence[Record], names: Iterable[str] | None = None) -> dict[str, Row]:
    """The rows of val scores by label, see `groups`; of the recipes of these names, or of all."""
    names = None if names is None else set(names)
    return {
        label: make_row(label, seeds, "accuracy")
        for label, seeds in groups(records).items()
        if names is None or seeds[0].recipe["name"] in names
    }


def final_rows(records: Sequence[Record]) -> list[Row]:
    """Every way in which the same val photos of Stanford Cars were named, best first.

    A row per named recipe, and what became of a network: neighbors that vote, the published file.
    Raises `RunError` when the rows did not score the same photos.
    """
    trained = groups(records)
    used = [
        record
        for record in records
        if record.kind in FINAL_WAYS
        and (record.data.get("dataset"), record.data["split"]) == (STANFORD, "val")
    ]
    same_photos([*(seeds[0] for seeds in trained.values()), *used])
    rows = [
        {"way": _way(seeds[0])} | make_row(label, seeds, "accuracy")
        for label, seeds in trained.items()
    ]
    rows += [
        {"way": FINAL_WAYS[record.kind]} | make_row(shown_name(record), [record], "accuracy")
        for record in used
    ]
    return sorted(rows, key=lambda line: -line["accuracy"])


def _way(record: Record) -> str:
    if record.recipe.get("weights", "random") == "random":
        return "trained from scratch"
    return (
        "linear layer, frozen body" if record.recipe.get("plan") == "head" else "all layers trained"
    )


# --- comparing photos ---------------------------------------------------------------------------


def compared(
    records: Sequence[Record], kind: str, topic: str = "", earlier: bool = False
) -> dict[str, list[Record]]:
    """Seeds of every row that compares photos of Stanford Cars, by its label.

    `kind` and `topic` are those of the records: "retrieval" among "same" or "unseen" classes, or
    "verification". Of the latter, rows that scored the lists of pairs as they are made now, or the
    `earlier` ones, never both: they are other questions. Raises `RunError` when the rows did not
    score the same photos.
    """
    chosen = [
        record
        for record in records
        if (record.kind, record.topic) == (kind, topic) and record.data.get("dataset") == STANFORD
    ]
    same_photos(chosen)
    now = any(map(lists_of, chosen))  # records from before these lists do not say which theirs are
    return by_label([record for record in chosen if earlier != (bool(lists_of(record)) == now)])


def lists_of(record: Record) -> str:
    """Digest of the pairs that a verification scored; "" where it does not say."""
    return record.scoring.get("pairs", "")


def retrieval_rows(records: Sequence[Record], protocol: str) -> list[Row]:
    """Retrieval among "same" or "unseen" classes: a row per recipe, best Recall@1 first."""
    return _best_first(compared(records, "retrieval", protocol), "recall_at_1")


def verification_rows(records: Sequence[Record], earlier: bool = False) -> list[Row]:
    """Pairs of unseen classes, the same or not: a row per recipe, best AUC on hard pairs first; on
    the lists as they are made now, or on `earlier` ones.
    """
    return _best_first(compared(records, "verification", earlier=earlier), "hard_auc")


AS_THEY_COME = ("", "features")  # what is compared: the output, or what lies below the last layer


def with_baseline(rows: Sequence[Row]) -> list[Row]:
    """Of rows, best first: the best network that learned cars, its points as they come, so that no
    scored class chooses axes for it; and the best that learned none, on whichever axes.
    """
    ours = [row for row in rows if row["trained"] and row["points"] in AS_THEY_COME]
    theirs = [row for row in rows if not row["trained"]]
    return [way[0] for way in (ours, theirs) if way]


def _best_first(labels: dict[str, list[Record]], score: str) -> list[Row]:
    rows = [make_row(label, seeds, score) for label, seeds in labels.items()]
    return sorted(rows, key=lambda line: -line[score])


def map_rows(records: Sequence[Record]) -> list[Row]:
    """Measures of heat maps, a row per network, data set and kind of map, in the records' order."""
    rows = []
    for record in records:
        if record.kind == "maps":
            about = {"network": title_of(record), "data": record.data["catalog"],
                     "layer": record.extra["layer"], "photos": record.data["photos"]}  # fmt: skip
            rows += [about | line for line in record.extra["rows"]]
    return rows


# --- what was tried -----------------------------------------------------------------------------

# Topics of studies that try variants of recipes: what they try them on, and by which score.
TRIALS = {"leads": ("photographs kept back from train", "accuracy"),
          "trials": ("photographs of classes that were not learned", "Recall@1")}  # fmt: skip


def tried_rows(records: Sequence[Record]) -> list[Row]:
    """How many variants of each of our recipes were tried, on what, and by which score (Pineau
    2021, arXiv:2003.12206); `tried` is None where no record says.
    """
    studies = [r for r in records if r.kind == "study" and r.topic in TRIALS and r.recipe]
    rows = []
    for name in OURS:
        counts = [(study, _variants(study, name)) for study in studies]
        mine = [(study, count) for study, count in counts if count]
        on = [f"{study.data['photos']:,} {TRIALS[study.topic][0]}" for study, _ in mine]
        by = dict.fromkeys(TRIALS[study.topic][1] for study, _ in mine)
        rows.append({"recipe": name, "tried": sum(count for _, count in mine) if mine else None,
                     "on": "; ".join(on), "by": ", ".join(by)})  # fmt: skip
    return rows


def _variants(study: Record, name: str) -> int:
    """How many variants of a recipe a study has tried; as it is, it is none."""
    return sum(study.recipe["name"] == name and bool(row["changes"]) for row in study.extra["rows"])
