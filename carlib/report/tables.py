"""Rows as a table: at the terminal, in Markdown, in a notebook; and the questions records answer.

Rows are mappings of values; the report's Typst text is given the same rows. How a value is written
is decided here once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from carlib.errors import CarlibError, shown
from carlib.experiment.record import Record
from carlib.experiment.registry import RECIPES
from carlib.experiment.tables import STANFORD, comparable, evaluations, named, title_of
from carlib.report.rows import map_rows, retrieval_rows, rows_of, verification_rows

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Rows = list[dict[str, Any]]
NOT_RUN = "not run"


# What people read in the place of a value's name, where its words alone would not do.
HEADINGS = {
    **{f"recall_at_{k}": f"Recall@{k}" for k in (1, 2, 4, 8)},
    "map_at_r": "MAP@R", "r_precision": "R-precision", "top3": "top-3", "top5": "top-5",
    "macro_f1": "macro F1", "auroc": "AUROC", "auroc_interval": "AUROC, 95 %",
    "fpr95": "FPR at TPR .95", "road": "ROAD", "points_in_car": "largest value in the car",
    "times_car_area": "share in the car over its area",
    **{f"{level}_auc": f"AUC, {level}" for level in ("easy", "medium", "hard")},
}  # fmt: skip


def heading(name: object) -> str:
    """The heading of a column, or the name of a row, that holds a value of this name."""
    return HEADINGS.get(str(name), str(name).replace("_", " "))


def cell(value: object) -> str:
    """A value as a table shows it: three decimals, "low to high" for an interval, "" for none."""
    if value is None or value != value:  # NaN is not itself
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return " to ".join(map(cell, value))
    return str(value)


@dataclass(frozen=True)
class Table:
    """Rows of values under headings: `columns` maps what a row calls a value to its heading."""

    rows: Sequence[Mapping[str, Any]]
    columns: Mapping[str, str]
    title: str = ""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], *columns: str, title: str = "") -> Table:
        """These columns of the rows, or all of them, under their own names."""
        names = columns or tuple(dict.fromkeys(name for line in rows for name in line))
        return cls(rows, {name: heading(name) for name in names}, title)

    def cells(self) -> list[list[str]]:
        """The text of every cell, row by row."""
        return [[cell(line.get(name)) for name in self.columns] for line in self.rows]

    def frame(self) -> pd.DataFrame:
        """For a notebook: the first column is the index."""
        frame = pd.DataFrame(self.cells(), columns=list(self.columns.values()))
        return frame.set_index(frame.columns[0])

    def markdown(self) -> str:
        """For README and model card."""
        head, *lines = (
            f"| {' | '.join(line)} |" for line in [list(self.columns.values()), *self.cells()]
        )
        return "\n".join([head, f"|{'---|' * len(self.columns)}", *lines])

    def rich(self) -> RichTable:
        """For the terminal; columns of numbers are set to the right."""
        from rich.table import Table as RichTable
        from rich.text import Text  # brackets in a name are no markup

        table = RichTable(title=Text(shown(self.title), style="table.title"), title_justify="left")
        for name, heading in self.columns.items():
            words = any(isinstance(line.get(name), str) for line in self.rows)
            table.add_column(heading, justify="left" if words else "right")
        for line in self.cells():
            table.add_row(*(Text(shown(text)) for text in line))
        return table


# --- what the committed records answer ----------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """How records answer a question: which rows, and which columns a notebook has room for."""

    rows: Callable[[Sequence[Record]], Rows]
    columns: tuple[str, ...] = ()
    interval: str = "interval"  # the heading of that column: of which score it is


def answer(question: str, records: Sequence[Record], *names: str) -> Table:
    """The table that answers one of QUESTIONS; `names` selects recipes, in this order.

    A recipe without a record, or a question without any, says "not run".
    """
    if question not in QUESTIONS:
        raise CarlibError(f"unknown question {question!r}; known: {', '.join(QUESTIONS)}")
    asked = QUESTIONS[question]
    rows = [({"network": line["title"]} if "title" in line else {}) | line
            for line in asked.rows(records)]  # fmt: skip
    if names:
        rows = [line for name in names for line in _of_recipe(rows, name)]
    if not rows:
        return Table.of([{question: NOT_RUN, "": NOT_RUN}])
    known = dict.fromkeys(name for line in rows for name in line)
    columns = asked.columns or [name for name in known if not name.endswith("_interval")]
    table = Table.of(rows, *(name for name in columns if name in known))
    return replace(table, columns={name: asked.interval if name == "interval" else words
                                   for name, words in table.columns.items()})  # fmt: skip


def _of_recipe(rows: Rows, name: str) -> Rows:
    """The rows of a recipe: as it is now, else as it was when it was run."""
    return (
        [line for line in rows if line.get("label", line.get("recipe")) == name]
        or [line for line in rows if line.get("name") == name and not line["points"]]
        or [
            {
                "network": RECIPES[name].note if name in RECIPES else name,
                "recipe": name,
                "accuracy": NOT_RUN,
            }
        ]
    )


def _scored(weights: str | None) -> Callable[[Sequence[Record]], Rows]:
    """Val accuracy of recipes that began with "random" or "pretrained" weights, or with any."""

    def rows(records: Sequence[Record]) -> Rows:
        scored = rows_of(evaluations(comparable(named(records)), weights=weights))
        return [
            line
            | {
                "recipe": line["name"],
                "label": line["recipe"],
                "training": f"{line['seconds'] / 60:.0f} min, {line['hardware']}",
            }
            for line in scored.values()
        ]

    return rows


def _votes(records: Sequence[Record]) -> Rows:
    """kNN votes, a row per network and seed: what train chose, and its score."""
    return [
        {"network": f"{title_of(record)}, seed {record.recipe['seed']}", **record.extra["chosen"],
         "accuracy": record.metrics["accuracy"], "interval": record.metrics["accuracy_interval"],
         "predicting": f"{record.timing['predict_seconds']:.2f} s"}
        for record in records
        if record.kind == "knn" and record.data.get("dataset") == STANFORD
    ]  # fmt: skip


def _search(records: Sequence[Record]) -> Rows:
    """The benchmark of searching large galleries, a row per kind of index."""
    return [
        {"photos": record.data["photos"]} | line
        for record in records
        if (record.kind, record.topic) == ("benchmark", "search")
        for line in record.extra["rows"]
    ]


def _audits(records: Sequence[Record]) -> Rows:
    """What was counted in each data set of photographs: a row per fact, a column per data set."""
    facts: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.kind == "audit" and record.data.get("dataset") != "showroom":
            counts = record.metrics | record.metrics["findings"]
            for name, value in counts.items():
                if not isinstance(value, dict):
                    line = facts.setdefault(name, {"fact": name.replace("_", " ")})
                    line[record.data["catalog"]] = value
    return list(facts.values())


def _study(topic: str) -> Callable[[Sequence[Record]], Rows]:
    def rows(records: Sequence[Record]) -> Rows:
        return [
            {"network": title_of(record)} | line
            for record in records
            if (record.kind, record.topic) == ("study", topic)
            and record.data.get("dataset") == STANFORD
            for line in record.extra["rows"]
        ]

    return rows


_SCORES = ("network", "recipe", "accuracy", "interval", "top5", "seeds", "training")
_NEIGHBORS = (("network", "loss", "seeds", "recall_at_1", "interval", "map_at_r",
               "effective_rank"), "95 % of Recall@1")  # fmt: skip
_PAIRS = (("network", "loss", "seeds", "easy_auc", "medium_auc", "hard_auc", "interval"),
          "95 % of hard")  # fmt: skip

QUESTIONS: dict[str, Question] = {
    "accuracy": Question(_scored(None), _SCORES),
    "from scratch": Question(_scored("random"), _SCORES),
    "pretrained": Question(_scored("pretrained"), _SCORES),
    "votes": Question(_votes),
    "search": Question(_search),
    "seen classes": Question(lambda records: retrieval_rows(records, "same"), *_NEIGHBORS),
    "unseen classes": Question(lambda records: retrieval_rows(records, "unseen"), *_NEIGHBORS),
    "pairs": Question(verification_rows, *_PAIRS),
    "earlier pairs": Question(
        lambda records: verification_rows(records, earlier=True) or verification_rows(records),
        *_PAIRS,
    ),
    "maps": Question(map_rows),
    "data": Question(_audits),
    "imbalance": Question(
        _study("imbalance"),
        ("network", "factor", "objective", "balanced_accuracy", "balanced_accuracy_sd",
         "head_accuracy", "medium_accuracy", "tail_accuracy"),
    ),
    "unknown": Question(
        _study("unknown"), ("network", "score", "auroc", "auroc_interval", "fpr95")
    ),
    "leak": Question(
        _study("leak"), ("network", "divided", "learner", "accuracy", "accuracy_sd", "known")
    ),
}  # fmt: skip
