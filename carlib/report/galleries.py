"""Drawn cars in the report: the showroom, heat maps, and what a network of them gets wrong.

Records keep the names of photos, from which the cars are drawn again: no picture is kept.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from carlib.data.catalog import Catalog
from carlib.data.drawn import YEARS, changed_mask, redraw, redrawn_catalog
from carlib.data.framing import Framing
from carlib.experiment.record import Record, the_one
from carlib.plots import pictures
from carlib.plots.style import printed
from carlib.showroom import CARS, PAINTS, draw_photo

TILE = 150  # pixels of a car under a heat map
WIDE = 6.9  # inches, across both columns of the page

# Class, azimuth, paint and scene of each car on page one: every make, every body, all viewpoints.
SHOWN = (
    (1, 35, "blue", "street"), (31, -40, "red", "sunset"), (14, 28, "olive", "forest"),
    (25, -35, "silver", "studio"), (10, 45, "yellow", "seaside"), (36, -30, "wine", "field"),
    (38, 32, "white", "street"), (42, -38, "teal", "garage"), (13, 90, "orange", "field"),
    (18, -90, "navy", "garage"), (29, 150, "sky", "seaside"), (33, 90, "yellow", "sunset"),
    (6, -145, "green", "street"), (40, -90, "beige", "forest"), (23, 140, "grey", "studio"),
    (4, -150, "brown", "field"), (35, 0, "orange", "garage"), (16, 8, "white", "street"),
    (46, -142, "red", "seaside"), (2, 148, "violet", "studio"), (9, 180, "wine", "forest"),
    (44, 5, "silver", "street"), (27, -176, "teal", "street"), (21, 40, "silver", "sunset"),
)  # fmt: skip


def showroom_picture(_: Sequence[Record], columns: int = 8, width: int = 176) -> bytes:
    """Drawn cars in a grid, as PNG."""
    plain = dict(aspect=4 / 3, elevation=7.0, distance=2.6, fill=0.86, shift=(0.0, 0.0), roll=0.0,
                 occluder=None, noise=0, blur=0, exposure=1.05)  # fmt: skip
    tiles = []
    for number, (car, azimuth, paint, scene) in enumerate(SHOWN):
        look = plain | {"azimuth": float(azimuth), "paint": PAINTS[paint], "scene": scene}
        drawing = Image.fromarray(draw_photo(car, number, size=2 * width, **look).image)
        tiles.append(np.asarray(drawing.resize((width, width * 3 // 4), Image.Resampling.LANCZOS)))
    return _png(_sheet(tiles, columns).quantize(256))  # a fifth of the size, hardly to be seen


def heat_picture(records: Sequence[Record]) -> bytes | None:
    """Drawn cars with what differs between their years, and with maps, one below the other; PNG.

    The record keeps the maps and the photos' names; the cars are drawn again.
    """
    shown = [r for r in records if r.kind == "maps" and r.extra.get("examples")]
    if not shown:
        return None
    framing = Framing(TILE, *(shown[0].recipe[name] for name in ("crop", "margin", "fit")))
    columns = []
    for example in shown[0].extra["examples"]:
        label, drawing = redraw(example["path"], **YEARS)
        photo = framing.apply(drawing.image, drawing.box)
        parts = framing.apply_to_mask(drawing.parts, drawing.box)
        heats = [changed_mask(parts, CARS[label].make, CARS[label].model).astype(float)]
        for lines in example["maps"].values():
            digits = np.array([[int(digit) for digit in line] for line in lines], np.float32)
            heats.append(np.clip(cv2.resize(digits / 9, (TILE, TILE)), 0, 1))
        columns.append([photo, *(pictures.overlay(photo, heat) for heat in heats)])
    tiles = [tile for line in zip(*columns, strict=True) for tile in line]
    return _png(_sheet(tiles, len(columns)))


def _sheet(tiles: Sequence[np.ndarray], columns: int, gap: int = 6) -> Image.Image:
    """Pictures of one size in a grid."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(Image.fromarray(tile), (column * (width + gap), row * (height + gap)))
    return sheet


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png", optimize=True)
    return file.getvalue()


@printed
def mistakes_figure(records: Sequence[Record]) -> Figure | None:
    """Drawn cars that a network named wrongly, each beside one of the class that it named."""
    if (record := examples(records)) is None or not record.extra["mistakes"]:
        return None
    pairs = pd.DataFrame(record.extra["mistakes"]).assign(same=False)
    return _across(
        pictures.pair_rows(_drawn([*pairs["a"], *pairs["b"]]), pairs, told="confidence"), 2.7
    )


@printed
def neighbors_figure(records: Sequence[Record]) -> Figure | None:
    """Drawn cars of classes never seen, each before its nearest neighbors."""
    if (record := examples(records)) is None:
        return None
    queries = record.extra["queries"]
    catalog = _drawn([path for query in queries for path in (query["path"], *query["nearest"])])
    rows = catalog.table.set_index("path", drop=False)
    nearest = [rows.loc[q["nearest"]].assign(similarity=q["similarity"]) for q in queries]
    asked = rows.loc[[query["path"] for query in queries]]
    return _across(pictures.neighbors(catalog, asked, nearest), 3.9)


@printed
def drawn_pairs_figure(records: Sequence[Record]) -> Figure | None:
    """Pairs of drawn cars of classes never seen that mislead a network most."""
    if (record := examples(records)) is None or not record.extra["pairs"]:
        return None
    pairs = pd.DataFrame(record.extra["pairs"])
    return _across(pictures.pair_rows(_drawn([*pairs["a"], *pairs["b"]]), pairs), 2.7)


def examples(records: Sequence[Record]) -> Record | None:
    """The record of what a network of drawn cars gets wrong."""
    return the_one(records, "benchmark", "examples")


def _drawn(paths: Sequence[str]) -> Catalog:
    """The photos of these names drawn again, each once."""
    return redrawn_catalog(list(dict.fromkeys(paths)))


def _across(figure: Figure, height: float) -> Figure:
    """As wide as both columns of the page, inches."""
    figure.set_size_inches(WIDE, height)
    return figure
