"""Toy photos and toy recipes: small enough that a test trains a network in a second."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from carlib.data.catalog import Catalog
from carlib.data.opening import open_catalog

if TYPE_CHECKING:
    from carlib.experiment.recipe import Recipe

SHAPES = ("blue bar", "green ring", "red disc", "white square")  # sorted, as folders are
WIDTH, HEIGHT = 48, 40


def shape(kind: int, seed: int) -> Image.Image:
    """One shape on a noisy grey ground, somewhere near the middle."""
    generator = np.random.default_rng((kind, seed))
    ground = generator.integers(70, 130, (HEIGHT, WIDTH, 1), dtype=np.uint8).repeat(3, 2)
    image = Image.fromarray(ground)
    draw = ImageDraw.Draw(image)
    x = WIDTH // 2 + int(generator.integers(-6, 7))
    y = HEIGHT // 2 + int(generator.integers(-6, 7))
    r = int(generator.integers(7, 12))
    box = (x - r, y - r, x + r, y + r)
    if kind == 0:
        draw.rectangle((x - r, y - 3, x + r, y + 3), fill=(30, 60, 230))
    elif kind == 1:
        draw.ellipse(box, outline=(30, 210, 40), width=4)
    elif kind == 2:
        draw.ellipse(box, fill=(220, 40, 30))
    else:
        draw.rectangle(box, fill=(250, 250, 250))
    return image


def by_class(root: Path, per_class: int = 24) -> Path:
    """Write the toy photos as one folder per class."""
    for kind, name in enumerate(SHAPES):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(per_class):
            shape(kind, seed).save(folder / f"{kind}{seed:03d}.png")
    return root


def toy_catalog(root: Path, val_fraction: float = 1 / 6) -> Catalog:
    """The toys of a folder, divided into train and val."""
    return open_catalog(root).stratified_split(val_fraction)


def toy_recipe(**changes: object) -> Recipe:
    """Three convolutions on 16 px photos, four epochs of ten steps."""
    from carlib.experiment.recipe import Recipe

    plain = dict(
        name="toy", model="cnn3", size=16, store_size=20, augment="light", smoothing=0.0,
        epochs=4, batch_size=8, lr=2e-3, weight_decay=0.0, statistics="half",
    )  # fmt: skip
    return Recipe().but(**(plain | changes))


def build_store(root: str, start, results) -> None:
    """For another process: wait for the others, build the store, tell shape and sum."""
    from carlib.data.framing import Framing
    from carlib.data.store import PhotoStore

    catalog = toy_catalog(Path(root))
    start.wait()
    pixels = PhotoStore.open(catalog, Framing(64), progress=False).pixels
    results.put((pixels.shape, int(pixels.sum(dtype=np.int64))))
