"""The showroom on disk: drawn once into the cache, opened as a catalog ever after.

    <cache root>/showroom-<version>-<hash of parameters and renderer>/
        photos/<name>.png   parts/<name>.png   catalog.csv   catalog.json

A photo's name is a hash of what it shows, so the folder tells nothing about classes, and the same
photo has the same name in every variant of the data set.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from filelock import FileLock

import carlib
from carlib import showroom
from carlib.data.catalog import Catalog, Extras
from carlib.data.lineup import SHOWROOM_VERSION, Lineup
from carlib.data.readers import catalog_csv
from carlib.data.sources import FolderSource
from carlib.errors import DataError
from carlib.files import made
from carlib.paths import cache_root
from carlib.runtime import announce, cores
from carlib.showroom.facelifts import FACELIFTS
from carlib.showroom.mesh import PARTS
from carlib.showroom.models import CARS, changed_parts
from carlib.showroom.painter import Drawing
from carlib.showroom.snapshots import draw_photo

EXTRAS = Extras("showroom", part_masks="parts", publishable=True)
TRAIN_SHARE, VAL_SHARE = 0.70, 0.15
YEARS = {"photos_per_class": 160, "size": 224, "only": (4, 5)}
"""Variant "years": one car in both years, drawn larger, so that one can learn what differs."""
FRONTS = {"photos_per_class": 110, "size": 128, "facelifts": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "years": YEARS,
    "counterfactual": FRONTS,
    "counterfactual-sticker": FRONTS | {"sticker": 0.95},
}
"""Parameters of `open_showroom` by the name that stands for them. Of "counterfactual", 8 models in
two years from in front, every photo can be drawn again with parts swapped or removed: see
`carlib.showroom.counterfactual`."""
_WORKERS = 2


def open_showroom(
    photos_per_class: int = 40,
    size: int = 128,
    seed: int = 0,
    long_tail: float = 1.0,
    only: Sequence[int] = (),
    more_val: int = 0,
    task: str = "",
    facelifts: bool = False,
    sticker: float | None = None,
) -> Catalog:
    """The drawn cars as a catalog; draws them first if the cache does not hold them.

    Of each class the first 70 % of the photos are split "train", then 15 % "val" and the rest
    "test". `size` is the longer side of a photo, in pixels; photos are 1:1 to 3:2. With
    `long_tail` = f > 1 the classes' numbers of training photos fall exponentially from n to n / f;
    val and test stay balanced. `more_val` photos per class join val and change nothing else: the
    more there are, the smaller a difference can be told. `only` draws some classes, by their
    labels, which then count from 0 in the order given. `facelifts` draws the cars of
    `carlib.showroom.facelifts`, size x size. With a `sticker` they all wear one on the windshield,
    in one of two colors: in train it is that of their year with this probability, in val and test
    with .5, where it tells nothing. `task` is short for the parameters in VARIANTS; of all others
    it takes only `seed` and `sticker`. Raises DataError for parameters that make no data set.
    """
    if task:
        return open_showroom(**_variant(task, sticker), seed=seed)
    params: dict[str, Any] = {
        "photos_per_class": photos_per_class, "size": size, "seed": seed, "long_tail": long_tail,
    }  # fmt: skip
    _check(**params, more_val=more_val)
    lineup = Lineup(facelifts, sticker)
    if unknown := set(only) - set(range(len(lineup.cars))):
        raise DataError(f"the showroom has cars 0 to {len(lineup.cars) - 1}, not {min(unknown)}")
    if only:
        params["only"] = sorted(only)
    if more_val:
        params["more_val"] = more_val
    if facelifts:
        params["lineup"] = asdict(lineup)
    told = json.dumps(params | {"renderer": _renderer()}, sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:10]
    folder = cache_root() / f"showroom-{SHOWROOM_VERSION}-{digest}"
    made(folder.parent)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if not _is_complete(folder):
            plan = photo_plan(photos_per_class, seed, long_tail, more_val, len(lineup.cars))
            plan = [photo for photo in plan if not only or photo[0] in only]
            _build(folder, plan, size, seed, lineup)
    catalog = replace(catalog_csv.read(folder), extras=_extras(lineup))
    return catalog.select_classes(only) if only else catalog


def _variant(task: str, sticker: float | None) -> dict[str, Any]:
    """Parameters by the name that stands for them, with another `sticker` where one is given."""
    if task not in VARIANTS:
        known = ", ".join(f"showroom#{name}" for name in VARIANTS)
        raise DataError(f"the showroom has no variant {task!r}; known: {known}")
    return VARIANTS[task] | ({} if sticker is None else {"sticker": sticker})


def _extras(lineup: Lineup) -> Extras:
    return replace(EXTRAS, counterfactuals=lineup.facelifts)


@functools.cache
def _renderer() -> str:
    """Digest of the code that draws: other code may draw other cars, whatever its version says."""
    digest = hashlib.sha256()
    for file in sorted(Path(showroom.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def part_mask(catalog: Catalog, row: int) -> np.ndarray:
    """Part ids (H, W) uint8 of photo `row` of a showroom catalog; `PARTS` names them."""
    path = str(catalog.table["path"].iloc[row])
    if not catalog.has_part_masks:
        raise DataError(f"{catalog.name} has no part masks; drawn cars have: showroom")
    file = catalog.root / catalog.extras.part_masks / Path(path).name
    mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) if file.is_file() else None
    if mask is None:
        raise DataError(f"{path}: no part mask at {file}. Delete the folder to draw it again.")
    return mask


def changed_mask(parts: np.ndarray, make: str, model: str) -> np.ndarray:
    """Where part ids (..., H, W) are of parts in which the two years of a model differ; bool."""
    names = changed_parts(make, model, (*CARS, *FACELIFTS))
    return np.isin(parts, [PARTS.index(name) for name in names])


def redraw(
    path: str, photos_per_class: int = 40, size: int = 128, seed: int = 0, only: Sequence[int] = ()
) -> tuple[int, Drawing]:
    """A photo of a showroom catalog drawn alone: its car's place in CARS, and the drawing.

    `path` is the catalog's; the other arguments are those that `open_showroom` had. Raises
    DataError for a path that this showroom does not have.
    """
    for label, index, _ in photo_plan(photos_per_class, seed, 1.0):
        if (not only or label in only) and photo_name(label, index, seed) == Path(path).stem:
            return label, draw_photo(label, index, seed, size)
    raise DataError(f"{path}: not a photo of this showroom; give the arguments it was opened with")


class Redrawn:
    """Photos that are drawn when they are read; the arguments are those of `redraw`."""

    root = Path()

    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters

    def read(self, path: str) -> bytes:
        """The photo as PNG; raises DataError for a path that this showroom does not have."""
        _, drawing = redraw(path, **self.parameters)
        return cv2.imencode(".png", np.ascontiguousarray(drawing.image[..., ::-1]))[1].tobytes()

    def size(self, path: str) -> int:
        """Bytes of the photo."""
        return len(self.read(path))

    def stamp(self, path: str) -> None:
        """Nothing: there is no file."""


def redrawn_catalog(paths: Sequence[str], **parameters: Any) -> Catalog:
    """A catalog of some photos of a showroom, none of which has to be on disk.

    `parameters` are those of `redraw`, which raises DataError for a photo it does not have.
    """
    lineup = Lineup()
    found = {path: redraw(path, **parameters) for path in paths}
    rows = [_row(path, label, lineup, drawing) | {"split": "val"}
            for path, (label, drawing) in found.items()]  # fmt: skip
    names = tuple(car.name for car in lineup.cars)
    return Catalog(pd.DataFrame(rows), names, "showroom", Redrawn(**parameters), _extras(lineup))


def photo_plan(
    photos_per_class: int, seed: int, long_tail: float, more_val: int = 0, classes: int = 0
) -> list[tuple[int, int, str]]:
    """(class index, photo index, split) of every photo of a data set; of `CARS` by default."""
    classes = classes or len(CARS)
    train = max(1, round(photos_per_class * TRAIN_SHARE))
    val = max(1, round(photos_per_class * VAL_SHARE))
    rank = np.random.Generator(np.random.PCG64([seed, 11])).random(classes).argsort()
    plan = []
    for label, place in enumerate(rank.argsort()):
        kept = max(1, round(train * long_tail ** (-place / (classes - 1))))
        for index in range(photos_per_class):
            if index < train:
                if index < kept:
                    plan.append((label, index, "train"))
            else:
                plan.append((label, index, "val" if index < train + val else "test"))
        added = range(photos_per_class, photos_per_class + more_val)
        plan += [(label, index, "val") for index in added]
    return plan


def photo_name(label: int, index: int, seed: int) -> str:
    """File stem of a photo of `CARS`."""
    return Lineup().photo_name(label, index, "", seed)


def _check(photos_per_class: int, size: int, seed: int, long_tail: float, more_val: int) -> None:
    if photos_per_class < 3:
        raise DataError(f"photos_per_class is {photos_per_class}; three splits need 3 at least.")
    if not 32 <= size <= 1024:
        raise DataError(f"size is {size}; the showroom draws photos of 32 to 1024 pixels.")
    if seed < 0:
        raise DataError(f"seed is {seed}; give a number from 0 up.")
    if more_val < 0:
        raise DataError(f"more_val is {more_val}; give a number from 0 up.")
    if long_tail < 1:
        raise DataError(f"long_tail is {long_tail}; it is largest / smallest class, so 1 or more.")


def _is_complete(folder: Path) -> bool:
    """True when catalog, photos and masks are all there and none is empty."""
    try:
        paths = pd.read_csv(folder / "catalog.csv", usecols=["path"])["path"]
        wanted = {Path(path).name for path in paths}
        json.loads((folder / "catalog.json").read_text(encoding="utf-8"))
        return all(
            wanted <= {e.name for e in os.scandir(folder / part) if e.stat().st_size > 0}
            for part in ("photos", "parts")
        )
    except (OSError, ValueError):
        return False


def _build(
    folder: Path, plan: list[tuple[int, int, str]], size: int, seed: int, lineup: Lineup
) -> None:
    """Draw everything beside `folder`, then rename: a folder of that name is always whole."""
    began = time.perf_counter()
    cars = len({label for label, _, _ in plan})
    announce(f"Showroom: drawing {len(plan)} photos of {cars} cars, once ...")
    draft = Path(tempfile.mkdtemp(prefix=folder.name + ".draft-", dir=folder.parent))
    try:
        for part in ("photos", "parts"):
            (draft / part).mkdir()
        rows = _draw_all(draft, plan, size, seed, lineup)
        source, names = FolderSource(draft), tuple(car.name for car in lineup.cars)
        table = pd.DataFrame(rows).drop(columns="order")
        Catalog(table, names, "showroom", source, _extras(lineup)).to_csv(draft / "catalog.csv")
        if folder.exists():  # an incomplete one: deleted photos, or another program's
            shutil.rmtree(folder)
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    announce(f"Showroom: done in {time.perf_counter() - began:.0f} s, kept in the cache")


def _draw_all(
    draft: Path, plan: list[tuple[int, int, str]], size: int, seed: int, lineup: Lineup
) -> list[dict]:
    """Draw the plan, in several processes when it is long.

    Workers are fresh interpreters, not forks: a notebook with threads cannot be forked safely.
    """
    if len(plan) < 300 or cores() < 2:
        return draw_share(draft, plan, size, seed, lineup)
    step = -(-len(plan) // _WORKERS)  # neighbours are of one class and share its mesh
    shares = [plan[i * step : (i + 1) * step] for i in range(_WORKERS)]
    package_root = str(Path(carlib.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    workers = []
    for number, share in enumerate(shares):
        task = draft / f"task-{number}.json"
        values = {"plan": share, "size": size, "seed": seed, "lineup": asdict(lineup)}
        task.write_text(json.dumps(values), encoding="utf-8")
        command = [sys.executable, "-c", _WORKER, str(task)]
        workers.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}))
    failed = [worker.wait() for worker in workers]
    if any(failed):
        raise DataError(f"drawing the showroom failed (exit codes {failed}); see the lines above.")
    rows: list[dict] = []
    for number in range(_WORKERS):
        rows += json.loads((draft / f"task-{number}.rows").read_text(encoding="utf-8"))
        for ending in ("json", "rows"):
            (draft / f"task-{number}.{ending}").unlink()
    return sorted(rows, key=lambda row: (row["label"], row["order"]))


_WORKER = "import sys; from carlib.data.drawn import run_task; run_task(sys.argv[1])"


def run_task(file: str) -> None:
    """Body of a worker process: draw the photos listed in a task file, leave their rows beside."""
    cv2.setNumThreads(1)
    path = Path(file)
    values = json.loads(path.read_text(encoding="utf-8"))
    rows = draw_share(path.parent, **values | {"lineup": Lineup(**values["lineup"])})
    path.with_suffix(".rows").write_text(json.dumps(rows), encoding="utf-8")


def draw_share(folder: Path, plan: list, size: int, seed: int, lineup: Lineup) -> list[dict]:
    """Draw photos into `folder` and return their catalog rows."""
    rows = []
    for label, index, split in plan:
        drawing = lineup.draw(label, index, split, size, seed)
        name = lineup.photo_name(label, index, split, seed)
        _write_png(folder / "photos" / f"{name}.png", drawing.image[..., ::-1])
        _write_png(folder / "parts" / f"{name}.png", drawing.parts)
        path = f"photos/{name}.png"
        rows.append(_row(path, label, lineup, drawing) | {"split": split, "order": index})
    return rows


def _row(path: str, label: int, lineup: Lineup, drawing: Drawing) -> dict[str, Any]:
    """What a catalog says of a photo, but for its split."""
    car, (x1, y1, x2, y2) = lineup.cars[label], drawing.box
    return {
        "path": path, "label": label, "class_name": car.name, "make": car.make, "model": car.model,
        "year": car.year, "body": car.body, "viewpoint": drawing.viewpoint,
        "x1": x1, "y1": y1, "x2": x2, "y2": y2,
    }  # fmt: skip


def _write_png(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 3]):
        raise DataError(f"{path}: cannot be written. Is the disk full?")
