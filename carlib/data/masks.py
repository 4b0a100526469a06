"""Where things are in framed photos, as far as a catalog knows: the car, its box, its parts.

What a heat map is held against. Masks are (photos, side, side) bool, framed as the photos are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from carlib.data.catalog import Catalog
from carlib.data.drawn import changed_mask, part_mask
from carlib.data.framing import Framing
from carlib.data.table import boxes_of
from carlib.showroom import PARTS

Masks = dict[str, np.ndarray]
CUT = 0.9  # of photos that are cut to the car a box has more than this share


def known_masks(catalog: Catalog, rows: Sequence[int], framing: Framing) -> tuple[Masks, Masks]:
    """Masks in which a map should lie, and masks of what can be hidden to see what is needed.

    `rows` are the photos' in the catalog. By name, and empty where a catalog knows neither boxes
    nor parts. `framing.size` is the masks' side.
    """
    inside: Masks = {}
    if catalog.has_boxes:
        boxes = box_masks(catalog, rows, framing)
        if 0 < boxes.mean() < CUT:  # else it says nothing about finding the car
            inside["box"] = boxes
    if not catalog.has_part_masks:
        return inside, {}
    parts = part_masks(catalog, rows, framing)
    changed = changed_masks(catalog, rows, parts)
    inside |= {"car": parts > 0, "changed_part": changed}
    hidden = {"background": parts == 0, "car": parts > 0, "changed parts": changed}
    return inside, hidden | {name: parts == PARTS.index(name) for name in PARTS[1:]}


def box_masks(catalog: Catalog, rows: Sequence[int], framing: Framing) -> np.ndarray:
    """Where the car is, by its box; empty where the box is unknown."""
    table, masks = catalog.table.iloc[rows], []
    for path, box in zip(table["path"], boxes_of(table), strict=True):
        width, height = Image.open(io.BytesIO(catalog.source.read(path))).size
        whole = np.zeros((height, width), np.uint8)
        if not np.isnan(box).any():
            x1, y1, x2, y2 = (round(value) for value in box)
            whole[max(y1, 0) : y2, max(x1, 0) : x2] = 1
        masks.append(framing.apply_to_mask(whole, tuple(box)) > 0)
    return np.stack(masks)


def part_masks(catalog: Catalog, rows: Sequence[int], framing: Framing) -> np.ndarray:
    """Part ids of drawn cars, (photos, side, side) uint8, as `PARTS` names them."""
    boxes = boxes_of(catalog.table.iloc[rows])
    return np.stack([framing.apply_to_mask(part_mask(catalog, row), tuple(box))
                     for row, box in zip(rows, boxes, strict=True)])  # fmt: skip


def changed_masks(catalog: Catalog, rows: Sequence[int], parts: np.ndarray) -> np.ndarray:
    """The parts in which the two years of each photo's model differ."""
    table = catalog.table.iloc[rows]
    photos = zip(parts, table["make"], table["model"], strict=True)
    return np.stack([changed_mask(*photo) for photo in photos])
