"""A folder per class: `train/<class>/x.jpg` and `test/<class>/x.jpg`, or just `<class>/x.jpg`.

The first is how Kaggle's by-class copy of Stanford Cars comes (inside car_data/car_data/, with
boxes in anno_train.csv and anno_test.csv), the second torchvision's ImageFolder.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from carlib.data.catalog import Catalog, recognized
from carlib.data.class_names import canonical_order, true_name
from carlib.data.sources import FolderSource
from carlib.data.table import BOX, SPLITS, check_text
from carlib.errors import DataError
from carlib.files import read_file

LOOKS_FOR = (
    "a folder per class: train/<class>/*.jpg and test/<class>/*.jpg (also inside "
    "folders such as car_data/car_data/), or <class>/*.jpg"
)

# What people and cameras call photos. HEIC cannot be read, but is counted and named with the rest.
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff",
           ".avif", ".jp2", ".mpo", ".heic", ".heif")  # fmt: skip
# What lies beside photos and is none.
BESIDE = (".txt", ".md", ".csv", ".json", ".xml", ".mat", ".html", ".ini", ".db", ".yaml", ".yml")
NAMED = 5  # kinds of files that a note names


def detect(root: Path) -> bool:
    """True where a class folder holds a photo."""
    base = _base(root)
    return any(_photos(folder) for _, _, folder in _class_folders(base))


def read(root: Path) -> Catalog:
    """List the photos; without split folders all of them are "train"."""
    base = _base(root)
    class_folders = _class_folders(base)
    rows = [
        (photo.relative_to(root).as_posix(), name, split)
        for split, name, folder in class_folders
        for photo in _photos(folder)
    ]
    check_text(root, (text for path, name, _ in rows for text in (path, name)))
    table = pd.DataFrame(rows, columns=["path", "class_name", "split"])
    folders = sorted({name for _, name, _ in class_folders})
    if empty := set(folders) - set(table["class_name"]):
        raise _no_photos(next(folder for _, name, folder in class_folders if name in empty))
    class_names = canonical_order(folders)
    place = {name: label for label, name in enumerate(class_names)}
    table["label"] = table["class_name"].map(place)
    table = _with_boxes(table, root)
    name = recognized(class_names).dataset or root.resolve().name
    catalog = Catalog.from_rows(table, class_names, name, FolderSource(root))
    return replace(catalog, notes=_unread(root, set(table["path"])))


def _no_photos(folder: Path) -> DataError:
    """What to say of a class folder without photos: they may lie deeper, or it is no class."""
    deeper = next((p for p in sorted(folder.rglob("*")) if p.suffix.lower() in ENDINGS), None)
    if deeper is None:
        mend = f"Put some in ({', '.join(ENDINGS)}), or move the folder away if it is no class."
    else:
        mend = f"Its photos lie deeper, such as {deeper.relative_to(folder)}: move them up."
    return DataError(f"{folder}: no photo lies directly in this class folder. {mend}")


def _base(root: Path) -> Path:
    """The folder that holds the splits or the classes: archives wrap it in folders of their own."""
    base = root
    for _ in range(4):
        inside = _folders(base)
        if any(_is_split(p) for p in inside) or any(_photos(folder) for folder in inside):
            return base
        if len(inside) != 1:
            break
        base = inside[0]
    return root


def _is_split(folder: Path) -> bool:
    return folder.name.lower() in SPLITS


def _unread(root: Path, paths: set[str]) -> tuple[str, ...]:
    """A note of the files below a folder that are neither photos nor usual beside them."""
    found: dict[tuple[str, str], list[str]] = {}
    for folder, inside, files in os.walk(root):
        inside[:] = sorted(name for name in inside if not _hidden(name))
        for name in sorted(files):
            path = (Path(folder) / name).relative_to(root)
            if path.as_posix() not in paths and not name.startswith("."):
                found.setdefault((path.parts[0], path.suffix.lower()), []).append(path.as_posix())
    odd = [files for (_, ending), files in found.items() if ending not in BESIDE]
    if not odd:
        return ()
    examples = ", ".join(f"{files[0]} ({len(files)} such)" for files in odd[:NAMED])
    return (f"{sum(map(len, odd))} files were not read: {examples}",)


def _class_folders(base: Path) -> list[tuple[str, str, Path]]:
    """(split, class name, folder), sorted; class names with their slashes put back."""
    tops = _folders(base)
    splits = [folder for folder in tops if _is_split(folder)]
    if not splits:
        return [("train", true_name(folder.name), folder) for folder in tops]
    return [
        (SPLITS[split.name.lower()], true_name(folder.name), folder)
        for split in splits
        for folder in _folders(split)
    ]


def _folders(base: Path) -> list[Path]:
    if not base.is_dir():
        return []
    return sorted(p for p in base.iterdir() if p.is_dir() and not _hidden(p.name))


def _hidden(name: str) -> bool:
    """Folders that systems and archives leave beside those of people."""
    return name.startswith(".") or name in ("__MACOSX", "__pycache__")


def _photos(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith(".")
    )


def _with_boxes(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Boxes from Kaggle's anno_<split>.csv (name, x1, y1, x2, y2, class; 1-based, no header)."""
    parts = []
    for split in ("train", "test"):
        file = root / f"anno_{split}.csv"
        if file.exists():
            parts.append(_boxes(file).assign(split=split))
    if not parts:
        return table
    boxes = pd.concat(parts, ignore_index=True)
    table["file"] = table["path"].map(lambda path: path.rpartition("/")[2])
    table = table.merge(boxes, on=["file", "split"], how="left", validate="many_to_one")
    return table.drop(columns="file")


def _boxes(file: Path) -> pd.DataFrame:
    try:
        text = io.BytesIO(read_file(file))
        boxes = pd.read_csv(text, header=None, names=["file", *BOX, "label"])
        if boxes.isna().any(axis=None):
            raise ValueError("a value is missing")
        boxes = boxes.astype(dict.fromkeys(BOX, "Int64")).drop(columns="label")
    except (OSError, TypeError, ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"{file}: expected rows of file name, x1, y1, x2, y2, class ({error}). Remove the "
            f"file to go on without boxes."
        ) from error
    if boxes["file"].duplicated().any():
        twice = boxes["file"][boxes["file"].duplicated()].iloc[0]
        raise DataError(f"{file}: {twice} has two boxes. Keep one of the rows.")
    boxes[["x1", "y1"]] -= 1
    return boxes
