"""The figures of the report, drawn from the records at the width at which they are printed.

Same records, same bytes: letters are outlines, colors are told apart without color too, and no file
holds a date. A figure whose record is missing is no figure.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from carlib.experiment.record import Record, judged_by, the_one
from carlib.experiment.tables import STANFORD, TRANSFER, best, title_of
from carlib.explain.faithfulness import BLIND
from carlib.plots.style import BLACK, BLUE, COLORS, GREEN, LINES, ORANGE, printed
from carlib.report.cost import progress
from carlib.report.galleries import (
    drawn_pairs_figure,
    heat_picture,
    mistakes_figure,
    neighbors_figure,
    showroom_picture,
)
from carlib.report.rows import groups, rows_of

COLUMN = 3.35  # inches
LETTERS = 40  # of a legend in one line
# Networks of the counterfactual benchmark that its figure shows, and what its legend calls them.
TRUTH_SHOWN = {"scratch, seed 0": "from scratch", "fine-tuned": "fine-tuned",
               "untrained": "untrained"}  # fmt: skip


def figures(records: Sequence[Record]) -> Iterator[tuple[str, bytes | None]]:
    """File name and content of every figure; no content where the record is missing."""
    for name, draw in FIGURES.items():
        yield name, draw(records)


@printed
def classes_figure(records: Sequence[Record]) -> Figure | None:
    """Photos per class, largest first, for every split of the audited data."""
    audit = the_one(records, "audit", dataset=STANFORD)
    if audit is None:
        return None
    counts = audit.extra["class_counts"]
    figure, ax = plt.subplots(figsize=(COLUMN, 1.35))
    for split, color, line in zip(
        audit.metrics["splits"], (BLUE, ORANGE, GREEN), LINES, strict=False
    ):
        values = sorted((row[split] for row in counts), reverse=True)
        ax.step(range(1, len(values) + 1), values, where="mid", color=color, ls=line, label=split)
    ax.set(xlabel="class, largest first", ylabel="photos", ylim=(0, None), xlim=(0, len(counts)))
    ax.legend()
    return figure


@printed
def curves_figure(records: Sequence[Record]) -> Figure | None:
    """Loss and scores of the best run from scratch, by epoch."""
    top = best(records, "random")
    if top is None or not top.history:
        return None
    judge = judged_by(top.history)
    panels = {
        "loss": {"train_loss": "train", f"{judge}_loss": judge},
        "accuracy": {"train_accuracy": "train", f"{judge}_accuracy": judge,
                     f"{judge}_top5": f"{judge}, top-5"},
    }  # fmt: skip
    figure, axes = plt.subplots(1, 2, figsize=(COLUMN, 1.9))
    for ax, (title, columns) in zip(axes, panels.items(), strict=True):
        for (column, label), color, line in zip(columns.items(), COLORS, LINES, strict=False):
            points = [(row["epoch"], row[column]) for row in top.history if column in row]
            ax.plot(*zip(*points, strict=True), color=color, ls=line, lw=1, label=label)
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[1].set_ylim(0, 1)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@printed
def minutes_figure(records: Sequence[Record]) -> Figure | None:
    """Val accuracy over the minutes of training: the best from scratch, and ours pretrained.

    What came before the first epoch, such as features of a frozen body, counts as well. Minutes of
    another machine than the first's are left out.
    """
    top = best(records, "random")
    ours = [seeds[0] for seeds in groups(records).values() if seeds[0].recipe["name"] in TRANSFER]
    runs = [first for first in ([top] if top else []) + ours if first.history]
    if not runs:
        return None
    runs = [record for record in runs if record.hardware == runs[0].hardware]
    figure, ax = plt.subplots(figsize=(COLUMN, 2.0))
    for record, color, line in zip(runs, COLORS, LINES, strict=False):
        scored = [(seconds / 60, accuracy) for seconds, accuracy in progress(record)]
        ax.plot(
            *zip(*scored, strict=True),
            color=color,
            ls=line,
            lw=1,
            label=title_of(record, short=True),
        )
    ax.set(xscale="log", xlabel="minutes of training", ylabel="val accuracy", ylim=(0, 1))
    ax.xaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def dots(
    rows: Sequence[Mapping], name: str, scores: Mapping[str, str], label: str
) -> Figure | None:
    """A line per row: its scores as marks, and the 95 % interval of the first as a bar.

    `name` is the key of what stands before a line, `scores` are keys and what the legend says.
    """
    if not rows:
        return None
    names = ["\n".join(textwrap.wrap(line[name], 26)) for line in reversed(rows)]
    figure, ax = plt.subplots(figsize=(COLUMN, 0.65 + 0.3 * len(rows)))
    for height, line in enumerate(reversed(rows)):
        if line["interval"]:
            ax.plot(line["interval"], [height, height], color=BLUE, lw=1)
        for score, color, mark in zip(scores, COLORS, "osD", strict=False):
            fill = color if color == BLUE else "white"
            legend = None if height else scores[score]
            ax.plot(line[score], height, mark, ms=4, color=color, mfc=fill, label=legend)
    ax.set_yticks(range(len(rows)), names)
    ax.set(xlabel=label, ylim=(-0.6, len(rows) - 0.4))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(scores))
    return figure


@printed
def imbalance_figure(records: Sequence[Record]) -> Figure | None:
    """Balanced accuracy by imbalance factor, a line per answer to it."""
    study = the_one(records, "study", "imbalance", STANFORD)
    if study is None:
        return None
    rows = study.extra["rows"]
    figure, ax = plt.subplots(figsize=(COLUMN, 2.0))
    answers = dict.fromkeys(row["objective"] for row in rows)
    for answer, color, line, mark in zip(answers, COLORS, LINES, "osD^v", strict=False):
        mine = [row for row in rows if row["objective"] == answer]
        heights = [row["balanced_accuracy"] for row in mine]
        spread = [row["balanced_accuracy_sd"] for row in mine]
        ax.errorbar([row["factor"] for row in mine], heights, spread, color=color, ls=line, lw=1,
                    marker=mark, ms=3, label=answer)  # fmt: skip
    factors = sorted({row["factor"] for row in rows})
    ax.set(xscale="log", xlabel="imbalance factor", ylabel="balanced accuracy")
    ax.set_xticks(factors, [f"{factor:g}" for factor in factors])
    ax.xaxis.set_minor_locator(NullLocator())
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@printed
def scores_figure(records: Sequence[Record]) -> Figure | None:
    """Accuracy on classes, with its interval, and on makes, a line per recipe."""
    rows = list(rows_of(records).values())
    scores = {"accuracy": "the class is right", "make_accuracy": "the make is right"}
    return dots(rows, "short", scores, "val accuracy")


@printed
def maps_figure(records: Sequence[Record]) -> Figure | None:
    """Two measures without truth of every kind of map of real photos, a mark per network."""
    maps = [r for r in records if r.kind == "maps" and r.data.get("dataset") == STANFORD]
    networks = {title_of(record, short=True): record.extra["rows"] for record in maps}
    return by_map(networks, {"insertion": "insertion", "increase": "increase"})


@printed
def truth_figure(records: Sequence[Record]) -> Figure | None:
    """Contrastivity and correctness of every kind of map of drawn cars, a mark per network."""
    record = the_one(records, "benchmark", "counterfactual")
    if record is None:
        return None
    rows = record.extra["rows"]
    networks = {title: [row for row in rows if row["network"] == name]
                for name, title in TRUTH_SHOWN.items()}  # fmt: skip
    return by_map(networks, {"contrastivity": "contrastivity", "correctness": "correctness"})


def by_map(networks: Mapping[str, Sequence[Mapping]], panels: Mapping[str, str]) -> Figure | None:
    """A panel per measure, a line per kind of map, and on it a mark with its interval per network.

    `networks` are rows by what the legend says, `panels` titles by measure. Below a line are maps
    that know nothing.
    """
    if not networks:
        return None
    kinds = [row["map"] for row in next(iter(networks.values()))]
    kinds.sort(key=BLIND.__contains__)  # below the line
    blind = sum(kind in BLIND for kind in kinds)
    figure, axes = plt.subplots(1, 2, figsize=(COLUMN, 0.75 + 0.2 * len(kinds)), sharey=True)
    for ax, (measure, title) in zip(axes, panels.items(), strict=True):
        for number, ((name, rows), color, mark) in enumerate(
            zip(networks.items(), COLORS, "osD^vP", strict=False)
        ):
            step = 0.22 * ((len(networks) - 1) / 2 - number)
            told = [row for row in rows if measure in row]  # not where no pair could be asked
            heights = [len(kinds) - kinds.index(row["map"]) + step for row in told]
            for row, height in zip(told, heights, strict=True):
                ax.plot(row[f"{measure}_interval"], [height] * 2, color=color, lw=0.8)
            values = [row[measure] for row in told]
            ax.plot(values, heights, mark, ms=3, color=color, label=name, lw=0)
        ax.axhline(blind + 0.5, color=BLACK, lw=0.5)
        ax.set(title=title, ylim=(0.4, len(kinds) + 0.6))
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(kinds), 0, -1), kinds)
    wide = sum(map(len, networks)) > LETTERS
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=1 if wide else len(networks))  # fmt: skip
    return figure


FIGURES: dict[str, Callable[[Sequence[Record]], bytes | None]] = {
    "showroom.png": showroom_picture,
    "classes.svg": classes_figure,
    "scores.svg": scores_figure,
    "curves.svg": curves_figure,
    "minutes.svg": minutes_figure,
    "imbalance.svg": imbalance_figure,
    "maps.svg": maps_figure,
    "truth.svg": truth_figure,
    "drawn_mistakes.svg": mistakes_figure,
    "drawn_neighbors.svg": neighbors_figure,
    "drawn_pairs.svg": drawn_pairs_figure,
    "heat.png": heat_picture,
}
