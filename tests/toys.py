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


def train_all(root: str, folder: str, recipes: list[Recipe]) -> None:
    """For several processes: train one recipe after the other, each in a folder of its name."""
    from carlib.training.loop import train

    for recipe in recipes:
        train(
            recipe, toy_catalog(Path(root)), Path(folder) / recipe.name, progress=False, workers=0
        )


def positive_pairs(root: str, recipes: list[Recipe]) -> list[float]:
    """For several processes: the share of pairs of one class among those each loss compares."""
    import torch

    from carlib.distributed import gathered
    from carlib.training.parts import make_accelerator, make_parts, open_loader

    shares = []
    for recipe in recipes:
        parts = make_parts(recipe, toy_catalog(Path(root)), make_accelerator(recipe))
        open_loader(parts, 0)
        positive = pairs = 0
        for _, labels, whole in parts.epoch(0):
            points, labels = gathered(torch.rand(len(labels), 2), labels)
            assert len(points) == whole
            if recipe.sampler == "pairs":
                same, _, different, _ = parts.loss.miner(points, labels)
            else:
                alike = labels[:, None] == labels
                same, different = (torch.triu(which, 1).nonzero() for which in (alike, ~alike))
            positive, pairs = positive + len(same), pairs + len(same) + len(different)
        shares.append(positive / pairs)
    return shares


COLORS = {"blue": (40, 70, 210), "brown": (120, 80, 40), "green": (40, 160, 60),
          "red": (210, 50, 40), "white": (240, 240, 240), "yellow": (230, 210, 50),
          "orange": (240, 150, 30), "violet": (130, 60, 170)}  # fmt: skip


def colored(kind: int, seed: int) -> Image.Image:
    """Something like a car of one color, of 96 × 72 px, on a noisy ground."""
    generator = np.random.default_rng((kind, seed, 1))
    image = Image.fromarray(generator.integers(60, 140, (72, 96, 3), dtype=np.uint8))
    draw, paint = ImageDraw.Draw(image), list(COLORS.values())[kind]
    x, y = (int(value) for value in generator.integers(8, 24, 2))
    draw.rectangle((x, y + 14, x + 60, y + 30), fill=paint)
    draw.rectangle((x + 12 + kind, y, x + 44, y + 14), fill=paint)
    for wheel in (x + 8, x + 40):
        draw.ellipse((wheel, y + 24, wheel + 12, y + 36), fill=(20, 20, 20))
    return image


def colors(
    root: Path, classes: int = 6, per_class: int = 8, mode: str = "RGB", seed: int = 0
) -> Path:
    """Write cars by color, a folder each, as photos of somebody's own: JPEG, no boxes, no makes."""
    for kind, name in enumerate(list(COLORS)[:classes]):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            photo = colored(kind, 100 * seed + number).convert(mode)
            photo.save(root / name / f"IMG_{seed}{kind}{number:02d}.jpg", quality=92)
    return root
