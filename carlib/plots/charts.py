"""Charts of data, training, pairs and results: tables and arrays in, figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from carlib.catalog import Catalog
from carlib.metrics import confused_pairs, confusion
from carlib.plots.style import (
    BLACK,
    BLUE,
    COLORS,
    GREEN,
    HATCHES,
    LINES,
    ORANGE,
    RED,
    SKY,
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
    for (name, values), color, line in zip(counts.items(), COLORS, LINES, strict=False):
        left.step(range(1, len(values) + 1), values, where="mid", color=color, ls=line, label=name)
    left.set(
        xlabel="class, largest first", ylabel="photos", title="Photos per class", ylim=(0, None)
    )
    left.legend()
    first = next(iter(counts.values()))
    values, classes = np.unique(first, return_counts=True)
    right.bar(values, classes, width=1.0, color=BLUE)
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set(xlabel=f"photos in {next(iter(counts))}", ylabel="classes", title="How uneven")
    return figure


@styled
def counts_chart(counts: Sequence[int], title: str) -> Figure:
    """Photos per class, largest first."""
    figure, ax = plt.subplots(figsize=(6, 2.4))
    ax.bar(range(1, len(counts) + 1), sorted(counts, reverse=True), width=1.0, color=BLUE)
    ax.set(title=title, xlabel="class, largest first", ylabel="photos")
    return figure


@styled
def bar_counts(counts: pd.Series, title: str, top: int = 20) -> Figure:
    """Horizontal bars of the most frequent values."""
    shown = counts.sort_values(ascending=False)[:top][::-1]
    figure, ax = plt.subplots(figsize=(5, 0.5 + 0.19 * len(shown)))
    ax.barh(shown.index.astype(str), shown.to_numpy(), color=BLUE)
    ax.set(title=title, xlabel="photos")
    ax.grid(axis="y", visible=False)
    return figure


@styled
def size_and_aspect(sizes: pd.DataFrame) -> Figure:
    """Widths against heights (columns `width`, `height`, pixels), and the aspect ratios."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
    left.plot(sizes["width"], sizes["height"], ".", ms=2, alpha=0.4, color=BLUE, rasterized=True)
    left.set(xlabel="width, pixels", ylabel="height, pixels", title="Size of the photos")
    right.hist(sizes["width"] / sizes["height"], bins=40, color=ORANGE)
    right.axvline(1, color=BLACK, lw=0.8, ls="--")
    right.set(xlabel="width ÷ height", ylabel="photos", title="Aspect (dashed: square)")
    return figure


@styled
def class_map(points: pd.DataFrame, names: int = 24) -> Figure:
    """Classes in the plane, a color and a marker per body; some of them named.

    `points` is what `carlib.retrieval.class_map` gives.
    """
    figure, ax = plt.subplots(figsize=(7, 5))
    bodies = points["body"].fillna("unknown").value_counts().index
    styles = zip(bodies, cycle(COLORS), cycle("os^Dv<>Pp*X"), strict=False)
    for body, color, marker in styles:
        own = points[points["body"].fillna("unknown") == body]
        ax.scatter(own["x"], own["y"], color=color, marker=marker, s=18, label=body)
    step = max(1, len(points) // names)
    for _, row in points[::step].iterrows():
        ax.annotate(short_name(row["class_name"], 40), (row["x"], row["y"]), fontsize=5,
                    xytext=(3, 2), textcoords="offset points")  # fmt: skip
    ax.set(xticks=[], yticks=[], title="Classes that look alike lie side by side")
    ax.grid(visible=False)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


# --- training -----------------------------------------------------------------------------------


@styled
def curves(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Four charts by epoch: loss, accuracy and F1, precision and recall, top-k."""
    table = pd.DataFrame(history).set_index("epoch")
    panels = {
        "loss": ("train_loss", "val_loss"),
        "accuracy and F1": ("train_accuracy", "val_accuracy", "val_macro_f1"),
        "macro precision and recall": ("val_macro_precision", "val_macro_recall"),
        "top-k accuracy on val": ("val_accuracy", "val_top3", "val_top5"),
    }
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.5))
    for ax, (name, columns) in zip(axes, panels.items(), strict=True):
        for column, color, line in zip(columns, COLORS, LINES, strict=False):
            if column in table:
                values = table[column].dropna()
                label = column.replace("val_", "val ").replace("train_", "train ").replace("_", " ")
                ax.plot(values.index, values, color=color, ls=line, lw=1.3, label=label)
        ax.set(title=name, xlabel="epoch")
        ax.legend(fontsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


@styled
def compare_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], column: str = "val_accuracy"
) -> Figure:
    """One column of several histories against the epoch."""
    figure, ax = plt.subplots(figsize=(6, 3))
    for number, (name, history) in enumerate(histories.items()):
        rows = [row for row in history if column in row]
        ax.plot([r["epoch"] for r in rows], [r[column] for r in rows], label=name, lw=1.3,
                color=COLORS[number % 6], ls=LINES[number // 6 % 6 or number % 6])  # fmt: skip
    ax.set(xlabel="epoch", ylabel=column.replace("_", " "), ylim=(0, None))
    ax.legend(fontsize=7)
    return figure


@styled
def lines(values: Mapping[str, Sequence[float]], x: str, y: str, log: bool = False) -> Figure:
    """Named sequences against their index (from 1)."""
    figure, ax = plt.subplots(figsize=(6, 2.6))
    for (name, series), color, line in zip(values.items(), COLORS, LINES, strict=False):
        ax.plot(range(1, len(series) + 1), series, color=color, ls=line, label=name)
    ax.set(xlabel=x, ylabel=y, yscale="log" if log else "linear")
    ax.legend()
    return figure


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


# --- pairs --------------------------------------------------------------------------------------


@styled
def roc_curves(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """True accepts against false accepts, which are rare where it matters: hence the log scale.

    `curves` are named ones of `carlib.verification.roc`.
    """
    figure, ax = plt.subplots(figsize=(5, 3))
    for (name, table), color, line in zip(
        curves.items(), cycle(COLORS), cycle(LINES), strict=False
    ):
        ax.plot(table["far"], table["tar"], color=color, ls=line, lw=1.3, label=name)
    rates = np.logspace(-3, 0, 100)
    ax.plot(rates, rates, color=BLACK, lw=0.8, ls=":", label="guessing")
    ax.set(title="Who is let in, and who should be", xscale="log", xlim=(1e-3, 1), ylim=(0, 1))
    ax.set(xlabel="false accepts, share of two models", ylabel="true accepts, share of one model")
    ax.legend(fontsize=7)
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
    figure, ax = plt.subplots(figsize=(5, 4.4))
    image = ax.imshow(matrix, cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
    ax.set(
        xlabel="predicted class", ylabel="true class", title="Confusion, share of the true class"
    )
    ax.grid(visible=False)
    figure.colorbar(image, ax=ax, shrink=0.8)
    return figure


@styled
def best_classes(per_class: Sequence[Mapping], top: int = 20) -> Figure:
    """The classes with the highest F1 (classes with more photos first where equal)."""
    table = pd.DataFrame([row for row in per_class if row["photos"]])
    table = table.sort_values(["f1", "photos"], ascending=False)[:top][::-1]
    figure, ax = plt.subplots(figsize=(6, 0.6 + 0.19 * len(table)))
    ax.barh(table["class"], table["f1"], color=GREEN)
    ax.set(title=f"The {len(table)} best classes", xlabel="F1 on val", xlim=(0, 1))
    ax.grid(axis="y", visible=False)
    return figure


@styled
def confused_chart(
    labels: np.ndarray, answers: np.ndarray, catalog: Catalog, top: int = 20
) -> Figure:
    """The pairs of classes most often taken for each other, both directions stacked."""
    pairs = confused_pairs(labels, answers, catalog, top)[::-1]
    names = [f"{a}  |  {b}" for a, b in zip(pairs["a"], pairs["b"], strict=True)]
    figure, ax = plt.subplots(figsize=(8, 0.7 + 0.21 * max(1, len(pairs))))
    ax.barh(names, pairs["a as b"], color=RED, label="left taken for right")
    ax.barh(names, pairs["b as a"], left=pairs["a as b"], color=SKY, hatch="///",
            label="right taken for left")  # fmt: skip
    ax.set(title=f"The {len(pairs)} most confused pairs", xlabel="photos of val")
    ax.grid(axis="y", visible=False)
    ax.legend(fontsize=7, loc="lower right")
    return figure


# --- trust --------------------------------------------------------------------------------------


@styled
def reliability_diagram(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy against confidence, and below how many photos are how sure.

    `tables` are named ones of `carlib.trust.reliability`, all with the same bins. On the dashed
    diagonal confidence can be taken at its word; below it a network is too sure of itself.
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

    `curves` are named ones of `carlib.trust.coverage_curve`. The dot at the right answers all.
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
