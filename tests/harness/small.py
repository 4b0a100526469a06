"""Kind 9: unlabelled rows, splits that are not there, and sets of one: right, or in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from toys import SHAPES, shape

from harness.cases import Case, Place

Rows = list[tuple[int | None, str]]  # class, or None for no label; and split


def _each(count: int, split: str, classes: range = range(4)) -> Rows:
    return [(label, split) for label in classes for _ in range(count)]


SETS: dict[str, Rows] = {
    "a few rows unlabelled in train": [*_each(4, "train"), (None, "train"), (None, "train")],
    "a few rows unlabelled in val": [*_each(4, "train"), *_each(2, "val"), (None, "val")],
    "no row labelled": [(None, "train")] * 8,
    "test alone": _each(3, "test"),
    "an unlabelled test alone": [(None, "test")] * 6,
    "an unlabelled test beside train": [*_each(5, "train"), *[(None, "test")] * 4],
    "val alone": _each(2, "val"),
    "one photo": [(0, "train")],
    "one photo of a class": _each(1, "train"),
    "two photos of a class": _each(2, "train"),
    "one class": _each(6, "train", range(1)),
    "a class without train photos": [*_each(5, "train", range(3)), *_each(1, "val")],
    "a class in val alone": [*_each(5, "train", range(3)), *_each(2, "val", range(3, 4))],
    "train of one photo beside val": [(0, "train"), *_each(2, "val")],
    "no photo": [],
    "a split of its own": [*_each(4, "train"), *_each(2, "night")],
}


def _made(here: Place, rows: Rows) -> str:
    """A catalog.csv of these rows."""
    from carlib.data.catalog import Catalog
    from carlib.data.sources import FolderSource

    table = []
    for number, (label, split) in enumerate(rows):
        name = f"{number:03d}.png"
        shape(label or 0, number).save(here.folder / name)
        table.append({"path": name, "label": pd.NA if label is None else label, "split": split})
    frame = pd.DataFrame(table, columns=["path", "label", "split"])
    source = FolderSource(here.folder)
    file = here.folder / "catalog.csv"
    return str(Catalog.from_rows(frame, SHAPES, "small", source).to_csv(file))


def _score(here: Place, data: str) -> dict:
    told = here.cli("evaluate", here.world.network, "--data", data, "--json")
    found = json.loads(told[told.index("{") :])
    return found["metrics"] | json.loads(open(found["record"], encoding="utf-8").read())["data"]


def _train(here: Place, data: str) -> dict:
    words = ("--set", "epochs=1", "--set", "size=16", "--set", "batch_size=4", "--json")
    told = here.cli("train", "cnn3", "--data", data, *words)
    found = json.loads(told[told.index("{") :])
    return found["metrics"] | json.loads(open(found["record"], encoding="utf-8").read())["data"]


def _embedding(here: Place, data: str) -> dict:
    changes = ("epochs=1", "size=16", "batch_size=4", "embedding=8", "loss=contrastive",
               "sampler=per_class", "per_class=2", "smoothing=0")  # fmt: skip
    words = [word for change in changes for word in ("--set", change)]
    told = here.cli("train", "cnn3", "--data", data, *words, "--json")
    return json.loads(told.splitlines()[0])["metrics"]


def _compare(here: Place, data: str) -> dict:
    told = here.cli("compare", here.world.network, "--data", data, "--json")
    return json.loads(told[told.index("{") :].splitlines()[0])["metrics"]


def _search(here: Place, data: str) -> list:
    shape(2, 9).save(here.folder / "disc.png")
    told = here.use("search", here.folder / "disc.png", "--data", data, "--top", "99", "--json")
    return json.loads(told[told.index("[") :])


def _classes(here: Place, data: str) -> dict:
    words = ("--set", "epochs=1", "--set", "size=16", "--set", "batch_size=4", "--classes", "2")
    told = here.cli("train", "cnn3", "--data", data, *words, "--json")
    return json.loads(told.splitlines()[0])["metrics"]


def _scored_right(found: dict, rows: Rows) -> bool:
    """Between 0 and 1, of exactly the labelled val photos there are, or of what was divided."""
    val = sum(split == "val" for _, split in rows)
    whole = 0 <= found["accuracy"] <= 1 and (not val or found["photos"] == val)
    return whole and all(label is not None for label, split in rows if split == "val")


def _finite(found: dict, rows: Rows) -> bool:
    numbers = [v for v in found.values() if isinstance(v, float)]
    return bool(numbers) and bool(np.isfinite(numbers).all())


def _all_found(found: list, rows: Rows) -> bool:
    return len(found) == sum(split != "test" for _, split in rows)


def _counted(told: str, rows: Rows) -> bool:
    return str(len(rows)) in told


WAYS: dict[str, tuple[Callable, Callable]] = {
    "train": (_train, _scored_right),
    "train to compare": (_embedding, _finite),
    "train two classes": (_classes, _finite),
    "evaluate": (_score, _scored_right),
    "compare": (_compare, _finite),
    "search": (_search, _all_found),
    "show": (lambda here, data: here.cli("data", "show", data), _counted),
    "audit": (lambda here, data: here.cli("data", "audit", data, allowed=(0, 1)), _counted),
    "divide": (lambda here, data: here.cli("data", "show", data, "--val-fraction", "0.3"),
               _counted),
}  # fmt: skip


def cases() -> Iterator[Case]:
    for name, rows in SETS.items():
        for way, (do, right) in WAYS.items():

            def act(here: Place, rows=rows, do=do) -> object:
                return do(here, _made(here, rows))

            yield Case(9, f"{name}: {way}", act, lambda found, r=right, rows=rows: r(found, rows),
                       refusable=True)  # fmt: skip
