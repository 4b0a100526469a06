"""Charts of data, training, pairs and results: tables and arrays in, figures out.

seaborn draws what it has a chart for; where bars bring their own intervals, or hatches say what
colors do, matplotlib does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from carlib.data.catalog import Catalog
from carlib.evaluation.metrics import confusion
from carlib.experiment.record import judged_by
from carlib.plots.style import (
    BLACK,
    BLUE,
    COLORS,
    HATCHES,
    LINES,
    ORANGE,
    SKY,
    literal,
    short_name,
    styled,
)

# --- data ---------------------------------------------------------------------------------------


@styled
def class_histogram(catalog: Catalog) -> Figure:
    """Photos per class, largest first, one line per split; and how many classes have how many."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6), width_ratios=(2, 1))
    counts = {
        name: np.sort(np.bincount(part.labels, minlength=catalog.num_classes))[::-1]
        for name in catalog.split_sizes
        if (part := catalog.select(name)).labels.min() >= 0
    }
    table = _counted(counts)
    _line_per_column(table, left, drawstyle="steps-mid")
    left.set(
        xlabel="class, largest first", ylabel="photos", title="Photos per class", ylim=(0, None)
    )
    sns.histplot(table.iloc[:, 0], discrete=True, color=BLUE, alpha=1, lw=0, ax=right)
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set(xlabel=f"photos in {table.columns[0]}", ylabel="classes", title="How uneven")
    return figure


@styled
def counts_chart(counts: Sequence[int], title: str) -> Figure:
    """Photos per class, largest first."""
    figure, ax = plt.subplots(figsize=(6, 2.4))
    ax.bar(range(1, len(counts) + 1), sorted(counts, reverse=True), width=1.0, color=BLUE)
    ax.set(title=title, xlabel="class, largest first", ylabel="photos")
    return figure


@styled
def bar_counts(counts: pd.Series, title: str) -> Figure:
    """Horizontal bars of the twenty most frequent values."""
    shown = counts.sort_values(ascending=False)[:20]
    figure, ax = plt.subplots(figsize=(5, 0.5 + 0.19 * len(shown)))
    sns.barplot(x=shown.to_numpy(), y=shown.index.astype(str), color=BLUE, saturation=1, ax=ax)
    ax.set(title=title, xlabel="photos", ylabel="")
    ax.grid(axis="y", visible=False)
    return figure


@styled
def size_and_aspect(sizes: pd.DataFrame) -> Figure:
    """Widths against heights (columns `width`, `height`, pixels), and the aspect ratios."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
    sns.scatterplot(sizes, x="width", y="height", s=6, alpha=0.4, lw=0, color=BLUE, ax=left,
                    rasterized=True)  # fmt: skip
    left.set(xlabel="width, pixels", ylabel="height, pixels", title="Size of the photos")
    aspect = sizes["width"] / sizes["height"]
    sns.histplot(aspect, bins=40, color=ORANGE, alpha=1, lw=0, ax=right)
    right.axvline(1, color=BLACK, lw=0.8, ls="--")
    right.set(xlabel="width ÷ height", ylabel="photos", title="Aspect (dashed: square)")
    return figure


@styled
def class_map(points: pd.DataFrame) -> Figure:
    """Classes in the plane, a color and a marker per body; two dozen of them named.

    `points` is what `carlib.retrieval.ranking.class_map` gives.
    """
    figure, ax = plt.subplots(figsize=(7, 5))
    body = points["body"].fillna("unknown")
    names = body.value_counts().index
    colors = dict(zip(names, cycle(COLORS), strict=False))
    markers = dict(zip(names, cycle("os^Dv<>Pp*X"), strict=False))
    sns.scatterplot(points, x="x", y="y", hue=body, style=body, hue_order=names, style_order=names,
                    palette=colors, markers=markers, s=28, lw=0, ax=ax)  # fmt: skip
    right = points["x"].quantile([0, 1]).dot([0.3, 0.7])  # names beyond it run to the left
    for row in _apart(points):
        aside = {"ha": "right", "xytext": (-3, 2)} if points["x"].iloc[row] > right else {}
        ax.annotate(short_name(points["class_name"].iloc[row], 40),
                    points[["x", "y"]].iloc[row], fontsize=6,
                    **({"xytext": (3, 2), "textcoords": "offset points"} | aside))  # fmt: skip
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="",
           title="Classes that look alike lie side by side")  # fmt: skip
    ax.grid(visible=False)
    ax.legend(fontsize=7, ncol=5, loc="upper center", bbox_to_anchor=(0.5, 0))
    return figure


def _apart(points: pd.DataFrame, most: int = 24) -> list[int]:
    """Some rows whose names would not lie on each other: a name is wide and low."""
    places = points[["x", "y"]].to_numpy(float)
    places = places / np.maximum(np.ptp(places, axis=0), 1e-12) / (0.3, 0.04)
    named: list[int] = []
    for row, place in enumerate(places):
        if len(named) < most and all(np.abs(place - places[other]).max() > 1 for other in named):
            named.append(row)
    return named


# --- training -----------------------------------------------------------------------------------


@styled
def curves(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Four charts by epoch: loss, accuracy and F1, precision and recall, top-k.

    Of the photos that the training looked at: val's, or dev's where it kept some back.
    """
    table, judge = pd.DataFrame(history).set_index("epoch"), judged_by(history)
    panels = {
        "loss": ("train_loss", f"{judge}_loss"),
        "accuracy and F1": ("train_accuracy", f"{judge}_accuracy", f"{judge}_macro_f1"),
        "macro precision and recall": (f"{judge}_macro_precision", f"{judge}_macro_recall"),
        f"top-k accuracy on {judge}": (f"{judge}_accuracy", f"{judge}_top3", f"{judge}_top5"),
    }
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.5))
    for ax, (name, columns) in zip(axes, panels.items(), strict=True):
        shown = table[[column for column in columns if column in table]]
        _line_per_column(shown.rename(columns=lambda column: column.replace("_", " ")), ax)
        ax.set(title=name)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


@styled
def compare_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """The accuracy of several histories against the epoch, on val, or on dev where they have it."""
    figure, ax = plt.subplots(figsize=(6, 3))
    tables = {name: pd.DataFrame(history).set_index("epoch") for name, history in histories.items()}
    judges = {name: judged_by(history) for name, history in histories.items()}
    scores = {name: table[f"{judges[name]}_accuracy"] for name, table in tables.items()}
    _line_per_column(pd.DataFrame(scores), ax)
    ax.set(ylabel=f"{' or '.join(sorted(set(judges.values())))} accuracy", ylim=(0, None))
    return figure


@styled
def lines(
    values: Mapping[str, Sequence[float]], x: str, y: str, log: bool = False, first: int = 1
) -> Figure:
    """Named sequences against their index, counted from `first`."""
    figure, ax = plt.subplots(figsize=(6, 2.6))
    _line_per_column(_counted(values, first), ax)
    ax.set(xlabel=x, ylabel=y, yscale="log" if log else "linear")
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _counted(values: Mapping[str, Sequence[float]], first: int = 1) -> pd.DataFrame:
    """Named sequences of any lengths as columns, their places counted from `first`."""
    table = pd.DataFrame({name: pd.Series(list(series)) for name, series in values.items()})
    return table.set_index(table.index + first)


def _line_per_column(table: pd.DataFrame, ax: plt.Axes, **options) -> None:
    """Every column against the index, each with a color and dashes; gaps are bridged."""
    palette = dict(zip(table, cycle(COLORS), strict=False))
    sns.lineplot(table, palette=palette, errorbar=None, lw=1.3, ax=ax, **options)
    ax.legend(fontsize=7)


@styled
def bars_with_intervals(
    scores: Mapping[str, Mapping[str, Any]],
    score: str = "accuracy",
    *,
    title: str = "",
    reference: str | None = None,
    x: str = "accuracy on val",
) -> Figure:
    """Horizontal bars: of each name its `score`, and as error bar its `<score>_interval`.

    A dashed line marks the name that the others are compared with.
    """
    names = list(scores)[::-1]  # the first one on top
    values = np.array([scores[name][score] for name in names])
    ends = np.array([scores[name][f"{score}_interval"] for name in names])
    figure, ax = plt.subplots(figsize=(6, 0.7 + 0.28 * len(names)))
    ax.barh(names, values, xerr=np.abs(ends.T - values), color=SKY, ecolor=BLACK, capsize=2,
            error_kw={"lw": 0.8})  # fmt: skip
    if reference:
        ax.axvline(scores[reference][score], color=BLACK, lw=0.8, ls="--")
    ax.set(title=title, xlabel=f"{x}, with 95 % interval", xlim=(0, None))
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", alpha=0.3)
    return figure


@styled
def points_with_intervals(
    scores: Mapping[str, Mapping[str, Any]],
    across: tuple[str, str],
    up: tuple[str, str],
    grey: Sequence[str] = (),
) -> Figure:
    """A point per name, with error bars along both axes: the intervals of two scores.

    Error bars are the scores' `<key>_interval`; names in `grey` are what the others are held
    against. Raises `KeyError` for a score that a name lacks.
    """
    figure, ax = plt.subplots(figsize=(6.6, 3.4))
    colors = cycle(COLORS)
    for name, mark in zip(scores, cycle("osD^vPX*<>h"), strict=False):
        at = {key: scores[name][key] for key, _ in (across, up)}
        arms = {key: [[at[key] - low], [high - at[key]]]
                for key in at for low, high in [scores[name][f"{key}_interval"]]}  # fmt: skip
        color = "0.6" if name in grey else next(colors)
        ax.errorbar(at[across[0]], at[up[0]], xerr=np.abs(arms[across[0]]), color=color, ms=5,
                    yerr=np.abs(arms[up[0]]), fmt=mark, lw=0.8, capsize=2, label=name)  # fmt: skip
    ax.set(xlabel=f"{across[1]}, with 95 % interval", ylabel=up[1])
    ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside right center", fontsize=7)
    return figure


# --- pairs --------------------------------------------------------------------------------------


@styled
def roc_curves(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """True accepts against false accepts, which are rare where it matters: hence the log scale.

    `curves` are named ones of `carlib.retrieval.verification.roc`.
    """
    figure, ax = plt.subplots(figsize=(6.6, 3))
    for (name, table), color, line in zip(
        curves.items(), cycle(COLORS), cycle(LINES), strict=False
    ):
        ax.plot(table["far"], table["tar"], color=color, ls=line, lw=1.3, label=name)
    rates = np.logspace(-3, 0, 100)
    ax.plot(rates, rates, color=BLACK, lw=0.8, ls=":", label="guessing")
    ax.set(title="Who is let in, and who should be", xscale="log", xlim=(1e-3, 1), ylim=(0, 1))
    ax.set(xlabel="false accepts, share of two models", ylabel="true accepts, share of one model")
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def similarity_histograms(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]], threshold: float | None = None
) -> Figure:
    """How similar the photos of pairs are: a chart per name, same pairs over different ones.

    Values are similarities (pairs,) and `same` (pairs,) bool; the line is a decision's threshold.
    """
    figure, axes = plt.subplots(1, len(parts), figsize=(2.7 * len(parts), 2.3), squeeze=False,
                                sharex=True, sharey=True)  # fmt: skip
    for ax, (name, (similarity, same)) in zip(axes[0], parts.items(), strict=True):
        bins = np.linspace(-1, 1, 51)
        ax.hist(similarity[~same], bins, color=SKY, hatch="///", edgecolor="white", lw=0,
                label="two models")  # fmt: skip
        ax.hist(similarity[same], bins, color=BLUE, histtype="step", lw=1.3, label="one model")
        if threshold is not None:
            ax.axvline(threshold, color=BLACK, lw=0.8, ls="--")
        ax.set(title=name, xlabel="similarity")
    axes[0][0].set_ylabel("pairs")
    axes[0][0].legend(fontsize=7)
    return figure


# --- results ------------------------------------------------------------------------------------


@styled
def confusion_chart(labels: np.ndarray, answers: np.ndarray, catalog: Catalog) -> Figure:
    """The full confusion matrix, rows normalized; classes in label order, so makes are blocks."""
    matrix = confusion(labels, answers, catalog.num_classes).astype(float)
    matrix /= np.maximum(matrix.sum(1, keepdims=True), 1)
    every = max(1, catalog.num_classes // 24)  # names that there is room for
    ticks = np.arange(catalog.num_classes)[::every]
    names = [literal(name) for name in catalog.class_names[::every]]
    figure, ax = plt.subplots(figsize=(6.4, 5.6))
    sns.heatmap(matrix, vmin=0, vmax=1, cmap="magma_r", square=True, rasterized=True, ax=ax,
                xticklabels=False, yticklabels=False, cbar_kws={"shrink": 0.8})  # fmt: skip
    ax.set_xticks(ticks + 0.5, names, rotation=90, fontsize=6)
    ax.set_yticks(ticks + 0.5, names, rotation=0, fontsize=6)
    ax.grid(visible=False)
    ax.set(
        xlabel="predicted class", ylabel="true class", title="Confusion, share of the true class"
    )
    return figure


# --- trust --------------------------------------------------------------------------------------


@styled
def reliability_diagram(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy against confidence, and below how many photos are how sure.

    `tables` are named ones of `carlib.evaluation.calibration.reliability`, all with the same bins.
    On the dashed diagonal confidence can be taken at its word; below it a network is too sure of
    itself.
    """
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(4.2, 4.6), height_ratios=(3, 1), sharex=True
    )
    top.plot((0, 1), (0, 1), color=BLACK, lw=0.8, ls="--")
    styles = zip(tables.items(), cycle(COLORS), cycle(LINES), cycle(HATCHES), strict=False)
    for number, ((name, table), color, line, hatch) in enumerate(styles):
        top.plot(table["confidence"], table["accuracy"], color=color, ls=line, lw=1.3, marker="o",
                 ms=3, clip_on=False, label=name)  # fmt: skip
        # Bars of one bin stand side by side, so that none hides another.
        width = 0.9 * (table["high"] - table["low"]) / len(tables)
        bottom.bar(table["low"] + number * width, table["photos"] / table["photos"].sum(), width,
                   align="edge", color=color, hatch=hatch, edgecolor="white", lw=0)  # fmt: skip
    top.set(
        ylabel="accuracy", title="Sure, and right? (dashed: calibrated)", xlim=(0, 1), ylim=(0, 1)
    )
    bottom.set(xlabel="confidence", ylabel="share of photos")
    top.legend(fontsize=7, loc="upper left")
    return figure


@styled
def coverage(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy against the share of photos answered, surest first.

    `curves` are named ones of `carlib.evaluation.calibration.coverage_curve`. The dot at the right
    answers all.
    """
    figure, ax = plt.subplots(figsize=(5, 3))
    styles = zip(curves.items(), cycle(COLORS), cycle(LINES), strict=False)
    for (name, curve), color, line in styles:
        ax.plot(curve["coverage"], curve["accuracy"], color=color, ls=line, lw=1.3, label=name,
                marker="o", ms=4, markevery=[len(curve) - 1], clip_on=False)  # fmt: skip
    ax.set(xlabel="coverage: share of photos answered", ylabel="accuracy of the answers",
           title="Answering only when sure", xlim=(0, 1))  # fmt: skip
    ax.set_ylim(top=1)
    ax.legend(fontsize=7)
    return figure
