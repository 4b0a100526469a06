"""CompCars as it is released: web photos of whole cars and of parts, and the surveillance set.

    data/image/MAKE/MODEL/YEAR/*.jpg    data/label/….txt      data/part/MAKE/MODEL/YEAR/PART/*.jpg
    data/misc/make_model_name.mat, car_type.mat, attributes.txt
    data/train_test_split/classification/, verification/, part/
    sv_data/image/MODEL/*.jpg           sv_data/{train,test}_surveillance.txt

Ids count from 1. A label file holds the viewpoint (−1: unknown), the number of boxes (1) and the
box, 1-based with its last pixel. The year folder may be called `unknown`. Source: Yang, Luo, Loy,
Tang, CVPR 2015, and the README of the release.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pandas as pd
import scipy.io

from carlib.data.catalog import Catalog, Extras
from carlib.data.readers.pair_list import LEVELS
from carlib.data.readers.pair_list import read_pairs as read_list
from carlib.data.sources import FolderSource
from carlib.errors import DataError
from carlib.files import read_file

LOOKS_FOR = "CompCars: data/image/ and data/train_test_split/, or sv_data/image/"
VIEWPOINTS = ("front", "rear", "side", "front-side", "rear-side")
PARTS = (
    "headlight", "taillight", "fog light", "air intake", "console", "steering wheel", "dashboard",
    "gear lever",
)  # fmt: skip
TASKS = ("classification", "verification", *PARTS, "surveillance")


def detect(root: Path) -> bool:
    """True where the web photos or the surveillance set lie."""
    return _web(root) is not None or _surveillance(root) is not None


def read(root: Path, task: str = "") -> Catalog:
    """The photos of one task, its official lists as splits, a class per model.

    "classification" (the default where the web photos are) and every name in PARTS have train and
    test. "verification" has the list to train on as train, but every tenth of its models as val (a
    threshold is fitted on models that were not learned), and every photo that a pair list names as
    test. "surveillance" is the other set. `Catalog.by("make")` makes makes the classes.
    """
    task = task or ("classification" if _web(root) else "surveillance")
    if task not in TASKS:
        raise DataError(f"{root}: CompCars has no task {task!r}; known: {', '.join(TASKS)}")
    if task == "surveillance":
        return _read_surveillance(root)
    base = _web(root)
    if base is None:
        raise DataError(f"{root}: {task} needs data/image/ and data/train_test_split/ of CompCars")
    lists, photos = _lists(base, task)
    rows = pd.DataFrame([(path, split) for split, paths in lists.items() for path in paths],
                        columns=["photo", "split"])  # fmt: skip
    rows = rows.drop_duplicates("photo").reset_index(drop=True)
    if rows.empty:
        raise DataError(f"{base / 'train_test_split'}: the lists of {task} are empty; unpack again")
    rows = rows.join(_ids(rows["photo"], base))
    if photos.name == "image":
        rows = rows.join(_labels(rows["photo"], base / "label"))
    if not any(os.path.isfile(photos / photo) for photo in rows["photo"]):
        raise DataError(
            f"{photos}: none of the {len(rows)} listed photos is there, not even "
            f"{rows['photo'].iloc[0]}; unpack the photos of CompCars into this folder"
        )
    rows["path"] = [(photos / photo).relative_to(root).as_posix() for photo in rows["photo"]]
    pairs = _pair_lists(base).relative_to(root).as_posix() if task == "verification" else ""
    extras = Extras("compcars", pair_lists=pairs)
    return _catalog(rows, base, root, f"compcars-{task.replace(' ', '_')}", extras)


def read_pairs(root: Path, level: str) -> pd.DataFrame:
    """An official pair list: columns `a`, `b` (paths as the catalog has them) and `same` (bool)."""
    base = _web(root)
    if level not in LEVELS or base is None:
        raise DataError(f"{root}: no pair list {level!r}; known: {', '.join(LEVELS)}")
    pairs = read_list(_pair_lists(base) / f"verification_pairs_{level}.txt")
    for side in ("a", "b"):
        paths = ((base / "image" / photo).relative_to(root).as_posix() for photo in pairs[side])
        pairs[side] = list(paths)
    return pairs


def read_attributes(root: Path) -> pd.DataFrame:
    """What is known of every model: speed (km/h), displacement (l), doors, seats, type; by id.

    Zero in the file means unknown and becomes missing.
    """
    base = _web(root)
    if base is None:
        raise DataError(f"{root}: no data/image/ of CompCars; attributes belong to the web photos")
    file = base / "misc" / "attributes.txt"
    head, *lines = [line.split() for line in _lines(file)] or [[]]
    table = pd.DataFrame(lines, columns=head or None)
    if "model_id" not in table or "type" not in table:
        raise DataError(f"{file}: no columns model_id and type; use the file of the release")
    table = table.apply(pd.to_numeric, errors="coerce").set_index("model_id")
    table = table.where(table != 0)
    types = _cells(base / "misc" / "car_type.mat", "types")
    known = {number: name for number, name in enumerate(types, start=1)}
    table["type"] = table["type"].map(known).astype("string")
    return table


# --- where things are ---------------------------------------------------------------------------


def _web(root: Path) -> Path | None:
    for base in (root / "data", root):
        if (base / "image").is_dir() and (base / "train_test_split").is_dir():
            return base
    return None


def _surveillance(root: Path) -> Path | None:
    for base in (root / "sv_data", root):
        if (base / "image").is_dir() and (base / "train_surveillance.txt").is_file():
            return base
    return None


def _lists(base: Path, task: str) -> tuple[dict[str, list[str]], Path]:
    """Photos by split as the lists have them, and the folder that they are below."""
    folder = base / "train_test_split"
    if task == "classification":
        files = {split: folder / task / f"{split}.txt" for split in ("train", "test")}
        return {split: _lines(file) for split, file in files.items()}, base / "image"
    if task == "verification":
        paired = [
            photo
            for level in LEVELS
            if (file := _pair_lists(base) / f"verification_pairs_{level}.txt").is_file()
            for photo in read_list(file)[["a", "b"]].to_numpy().ravel()
        ]
        learned, held_out = _models_apart(_lines(folder / task / "verification_train.txt"))
        splits = {"train": learned, "val": held_out, "test": list(dict.fromkeys(paired))}
        return splits, base / "image"
    number = PARTS.index(task) + 1
    files = {s: folder / "part" / f"{s}_part_{number}.txt" for s in ("train", "test")}
    return {split: _lines(file) for split, file in files.items()}, base / "part"


def _pair_lists(base: Path) -> Path:
    """The folder of the official lists of pairs."""
    return base / "train_test_split" / "verification"


def _models_apart(photos: list[str]) -> tuple[list[str], list[str]]:
    """Photos of most models, and those of every tenth model."""
    model = ["/".join(photo.split("/")[:2]) for photo in photos]
    held_out = set(sorted(set(model))[4::10])
    parts = ([], [])
    for photo, name in zip(photos, model, strict=True):
        parts[name in held_out].append(photo)
    return parts


def _lines(file: Path) -> list[str]:
    try:
        text = read_file(file).decode(errors="replace")
    except FileNotFoundError:
        raise DataError(f"{file}: not there; it belongs to the release of CompCars") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); unpack it again") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


# --- what the tree says of a photo --------------------------------------------------------------


def _ids(photos: pd.Series, base: Path) -> pd.DataFrame:
    """Make id, model id and year from MAKE/MODEL/YEAR/…; the year is missing where unknown."""
    parts = photos.str.split("/", expand=True).reindex(columns=range(3))
    numbers = parts.apply(pd.to_numeric, errors="coerce").astype("Int64")
    wrong = numbers[[0, 1]].isna().any(axis=1)
    if wrong.any():
        raise DataError(
            f"{base / 'train_test_split'}: {photos[wrong].iloc[0]!r} is no photo of the release; "
            f"expected make/model/year/name.jpg"
        )
    return numbers.set_axis(["make_id", "model_id", "year"], axis=1)


def _labels(photos: pd.Series, folder: Path) -> pd.DataFrame:
    """Viewpoint and box from the label files; missing where there is no file."""
    return pd.DataFrame(
        [_label(folder / Path(photo).with_suffix(".txt")) for photo in photos],
        columns=["viewpoint", "x1", "y1", "x2", "y2"],
        index=photos.index,
    )


def _label(file: Path) -> tuple:
    try:
        words = [int(word) for word in read_file(file).split()]
        code, _, x1, y1, x2, y2 = words[:6]
    except FileNotFoundError:
        return (pd.NA,) * 5
    except (OSError, ValueError):
        raise DataError(
            f"{file}: expected a viewpoint, the number of boxes and x1 y1 x2 y2; unpack it again"
        ) from None
    viewpoint = VIEWPOINTS[code - 1] if 1 <= code <= len(VIEWPOINTS) else pd.NA
    return viewpoint, max(x1 - 1, 0), max(y1 - 1, 0), x2, y2


def _catalog(rows: pd.DataFrame, base: Path, root: Path, name: str, extras: Extras) -> Catalog:
    """Rows with ids as a catalog: a class per model, in order of the ids."""
    misc = base / "misc"
    makes = _cells(misc / "make_model_name.mat", "make_names")
    models = _cells(misc / "make_model_name.mat", "model_names")
    for column, names in (("make_id", makes), ("model_id", models)):
        beyond = rows[(rows[column] < 1) | (rows[column] > len(names))]
        if len(beyond):
            raise DataError(
                f"{misc / 'make_model_name.mat'}: names no {column} {beyond[column].iloc[0]}, "
                f"which {beyond['path'].iloc[0]} is of; use the file of the same release"
            )
    rows["make"] = [makes[number - 1] for number in rows["make_id"]]
    if (misc / "attributes.txt").is_file():
        types = read_attributes(root)["type"]
        rows["body"] = rows["model_id"].map(types.to_dict()).astype("string")
    return _classes(rows.drop(columns=["photo", "make_id"]), models, name, root, extras)


def _classes(
    rows: pd.DataFrame, models: list[str], name: str, root: Path, extras: Extras
) -> Catalog:
    """A catalog of rows with `make` and `model_id`: a class per model, in order of the ids."""
    first = rows.drop_duplicates("model_id").sort_values("model_id")
    ids = first["model_id"].to_list()
    # A model's name without its make; the release leaves some nameless.
    short = {n: models[n - 1].removeprefix(make).strip() or f"model {n}"
             for n, make in zip(ids, first["make"], strict=True)}  # fmt: skip
    full = [f"{make} {short[n]}" for n, make in zip(ids, first["make"], strict=True)]
    full = [f"{text} ({n})" if full.count(text) > 1 else text
            for text, n in zip(full, ids, strict=True)]  # fmt: skip
    rows["model"] = rows["model_id"].map(short)
    rows["label"] = rows["model_id"].map({n: place for place, n in enumerate(ids)})
    rows["class_name"] = [full[label] for label in rows["label"]]
    rows = rows.drop(columns="model_id")
    return Catalog.from_rows(rows, full, name, FolderSource(root), extras)


def _cells(file: Path, key: str) -> list[str]:
    """A cell array of names as strings; empty cells are empty strings."""
    if not file.is_file():
        raise DataError(f"{file}: not there; it belongs to the release of CompCars")
    try:
        cells = scipy.io.loadmat(io.BytesIO(read_file(file)))[key]
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise DataError(
            f"{file}: cannot be read ({error or 'it is empty'}); unpack it again"
        ) from None
    return ["".join(str(part) for part in cell.ravel()).strip() for cell in cells.ravel()]


# --- the surveillance set -----------------------------------------------------------------------


def _read_surveillance(root: Path) -> Catalog:
    """Front views from road cameras: a class per model, splits by the official lists."""
    base = _surveillance(root)
    if base is None:
        raise DataError(f"{root}: no sv_data/image/ with its lists; unpack the surveillance set")
    rows = pd.DataFrame(
        [(photo, split) for split in ("train", "test")
         for photo in _lines(base / f"{split}_surveillance.txt")],
        columns=["photo", "split"],
    )  # fmt: skip
    number = pd.to_numeric(rows["photo"].str.split("/").str[0], errors="coerce")
    if rows.empty or number.isna().any():
        raise DataError(f"{base}: its lists are empty or name no model; expected model/name.jpg")
    rows["model_id"] = number.astype(int)
    file = base / "sv_make_model_name.mat"
    names = _cells(file, "sv_make_model_name")  # a row per model: make, model, id among web photos
    makes, models = (names[column::3] for column in (0, 1))
    last = rows["model_id"].max()
    if rows["model_id"].min() < 1 or last > len(makes):
        raise DataError(f"{file}: names {len(makes)} models; the lists go up to {last}")
    rows["make"] = [makes[n - 1] for n in rows["model_id"]]
    rows["viewpoint"] = "front"
    images = base / "image"
    rows["path"] = [(images / photo).relative_to(root).as_posix() for photo in rows["photo"]]
    rows = rows.drop(columns="photo")
    return _classes(rows, models, "compcars-surveillance", root, Extras("compcars"))
