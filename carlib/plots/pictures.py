"""Pictures of cars: grids of photos, neighbors, pairs and heat maps laid over them.

Photos are read from a catalog or given as (height, width, 3) uint8.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from carlib.data.catalog import Catalog
from carlib.data.images import decode_photo
from carlib.errors import PhotoError
from carlib.plots.style import BLACK, GREEN, RED, short_name, styled


@styled
def montage(
    photos: Sequence[np.ndarray | None], titles: Sequence[str] | None = None, columns: int = 6
) -> Figure:
    """A grid of photos (height, width, 3) uint8, each with an optional title.

    None leaves a gap.
    """
    rows = -(-len(photos) // columns)
    height = 1.3 if titles is None else 1.56
    figure, axes = plt.subplots(rows, columns, figsize=(1.3 * columns, height * rows))
    for ax in np.atleast_1d(axes).flat:
        ax.axis("off")
    for number, (ax, photo) in enumerate(zip(np.atleast_1d(axes).flat, photos, strict=False)):
        if photo is not None:
            ax.imshow(photo)
        if titles is not None:
            lines = [textwrap.fill(line, 20) for line in titles[number].split("\n")]
            ax.set_title("\n".join(lines), fontsize=7, loc="center")
    return figure


def _photo(catalog: Catalog, path: str, title: str) -> tuple[np.ndarray | None, str]:
    """A photo and its title; None for one that cannot be read, and the title says so."""
    try:
        return decode_photo(catalog.source.read(path), path), title
    except PhotoError:
        return None, f"{title}\n(cannot be read)"


def catalog_montage(
    catalog: Catalog,
    rows: Sequence[int],
    columns: int = 6,
    subtitles: Sequence[str] | None = None,
) -> Figure:
    """A grid of photos of a catalog, titled by class, with a second title each if given."""
    table = catalog.table.iloc[list(rows)]
    titles = [short_name(name) for name in table["class_name"]]
    if subtitles is not None:
        pairs = zip(titles, map(short_name, subtitles), strict=True)
        titles = [f"{title}\n{below}" for title, below in pairs]
    told = [_photo(catalog, *one) for one in zip(table["path"], titles, strict=True)]
    return montage([photo for photo, _ in told], [title for _, title in told], columns)


@styled
def neighbors(catalog: Catalog, queries: pd.DataFrame, nearest: Sequence[pd.DataFrame]) -> Figure:
    """A row per query: its photo, then its neighbors, nearest first.

    Tables have the columns of a catalog. Neighbors of the query's class are framed green with a
    solid line, others red with a dashed one; those may carry a `similarity`.
    """
    columns = 1 + max(len(rows) for rows in nearest)
    size = (1.2 * columns, 1.56 * len(queries))
    figure, axes = plt.subplots(len(queries), columns, figsize=size, squeeze=False)
    for (_, asked), rows, line in zip(queries.iterrows(), nearest, axes, strict=True):
        for ax in line:
            ax.axis("off")
        _framed(line[0], catalog, asked, BLACK, "-")
        for (_, row), ax in zip(rows.iterrows(), line[1:], strict=False):
            right = row["label"] == asked["label"]
            _framed(ax, catalog, row, GREEN if right else RED, "-" if right else "--")
            if "similarity" in row:
                ax.set_xlabel(f"{row['similarity']:.2f}", fontsize=7, labelpad=2)
    return figure


def _framed(ax: plt.Axes, catalog: Catalog, row: pd.Series, color: str, line: str) -> None:
    """One photo of a catalog in a colored frame, its class above."""
    photo, title = _photo(catalog, row["path"], short_name(row["class_name"]))
    if photo is not None:
        ax.imshow(photo)
    ax.axis("on")
    ax.grid(visible=False)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=6, loc="center", color=color)
    for spine in ax.spines.values():
        spine.set(visible=True, color=color, linewidth=2, linestyle=line)


@styled
def augmentations(photo: np.ndarray, draws: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """One row per preset: the photo as it is, then some draws of the preset."""
    columns = 1 + max(len(row) for row in draws.values())
    figure, axes = plt.subplots(len(draws), columns, figsize=(1.3 * columns, 1.35 * len(draws)))
    for (name, row), line in zip(draws.items(), np.atleast_2d(axes), strict=True):
        for ax in line:
            ax.axis("off")
        for ax, image in zip(line, [photo, *row], strict=False):
            ax.imshow(image)
        line[0].set_title(name, loc="center")
    return figure


@styled
def pair_rows(
    catalog: Catalog, pairs: pd.DataFrame, columns: int = 3, told: str = "similarity"
) -> Figure:
    """Pairs of photos, two beside each other, framed green where they show one model.

    `pairs` has columns `a`, `b`, `same`, and if known one called as `told`, which stands below.
    """
    table = catalog.table.set_index("path").assign(path=lambda rows: rows.index)
    lines = -(-len(pairs) // columns)
    figure, axes = plt.subplots(lines, 2 * columns, squeeze=False,
                                figsize=(2.4 * columns, 1.62 * lines))  # fmt: skip
    for ax in axes.flat:
        ax.axis("off")
    for (_, pair), (left, right) in zip(pairs.iterrows(), axes.reshape(-1, 2), strict=False):
        color, line = (GREEN, "-") if pair["same"] else (RED, "--")
        for ax, end in ((left, "a"), (right, "b")):
            _framed(ax, catalog, table.loc[pair[end]], color, line)
        if told in pairs:
            left.set_xlabel(f"{told} {pair[told]:.2f}", fontsize=7, labelpad=2)
    return figure


@styled
def heat_grid(
    photos: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    right: Sequence[bool] | None = None,
    columns: int = 4,
) -> Figure:
    """Maps (height, width) in 0…1 over their photos (height, width, 3) uint8, laid on each other.

    Titles are green where `right`, red where not.
    """
    rows = -(-len(photos) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.7 * columns, 2.21 * rows),
                                squeeze=False)  # fmt: skip
    for ax in axes.flat:
        ax.axis("off")
    for number, (ax, photo, heat) in enumerate(zip(axes.flat, photos, maps, strict=False)):
        ax.imshow(overlay(photo, heat))
        if titles is not None:
            color = BLACK if right is None else GREEN if right[number] else RED
            ax.set_title(titles[number], fontsize=6, loc="center", color=color)
    return figure


@styled
def heat_rows(
    photos: Sequence[np.ndarray],
    maps: Mapping[str, Sequence[np.ndarray]],
    side: float = 1.3,
    titles: Sequence[str] = (),
) -> Figure:
    """A row per photo, with its title if any: as it is, then under each named set of maps,
    for comparison.
    """
    figure, axes = plt.subplots(len(photos), 1 + len(maps), squeeze=False,
                                figsize=(side * (1 + len(maps)), side * len(photos)))  # fmt: skip
    for number, (photo, line) in enumerate(zip(photos, axes, strict=True)):
        for ax in line:
            ax.axis("off")
        line[0].imshow(photo)
        for title in titles[number : number + 1]:
            beside = {"transform": line[0].transAxes, "ha": "right", "va": "center"}
            line[0].text(-0.08, 0.5, title, fontsize=7, **beside)
        for ax, (name, of_photos) in zip(line[1:], maps.items(), strict=True):
            ax.imshow(overlay(photo, of_photos[number]))
            if not number:
                ax.set_title(name, fontsize=7, loc="center")
    return figure


def overlay(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map (height, width) in 0…1 over its photo, both (height, width, 3) uint8.

    The photo is grey, so that all color is the map's; the more marked, the less transparent.
    """
    grey = photo.mean(2, keepdims=True) / 255
    opacity = (0.15 + 0.6 * heat)[..., None]
    mixed = (1 - opacity) * grey + opacity * plt.get_cmap("inferno")(heat)[..., :3]
    return (255 * mixed).round().astype(np.uint8)
