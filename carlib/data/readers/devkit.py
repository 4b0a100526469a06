"""Stanford Cars as its devkit lays it out, with the nestings of torchvision and Kaggle.

Classes and boxes count from 1 in the .mat files, and x2, y2 are the last pixels inside; the
catalog counts from 0 and ends one past.
"""

from __future__ import annotations

import io
import os
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import scipy.io

from carlib.data.catalog import Catalog
from carlib.data.sources import FolderSource
from carlib.errors import DataError
from carlib.files import read_file

LOOKS_FOR = (
    "Stanford Cars devkit: devkit/cars_meta.mat with cars_train/ and devkit/cars_train_annos.mat "
    "(or cars_test/ and cars_test_annos_withlabels.mat), also inside stanford_cars/, car_devkit/ "
    "or cars_train/cars_train/; or cars_annos.mat with car_ims/"
)

_DEVKITS = ("devkit", "car_devkit/devkit", "cars_devkit/devkit", "car_devkit", "cars_devkit", ".")
# The first file that exists describes a split; Kaggle's copies carry names like "... (1).mat".
_ANNOTATIONS = {
    "train": ("cars_train_annos.mat",),
    "test": ("cars_test_annos_withlabels*.mat", "cars_test_annos.mat"),
}


def detect(root: Path) -> bool:
    """True for anything of Stanford Cars, so that an incomplete copy gets a precise error."""
    return _base(root) is not None


def read(root: Path) -> Catalog:
    """Read the annotations; photos are listed whether or not they are on disk."""
    base = _base(root) or root
    devkit = _find_devkit(base)
    if devkit is None:
        return _read_single_file(root, base)
    class_names = _class_names(devkit / "cars_meta.mat")
    parts = []
    for split in _ANNOTATIONS:
        photos = _find_photos(base, split)
        if photos is None:
            continue
        annotations = _find_annotations(base, devkit, split)
        if annotations is None:
            raise DataError(
                f"{photos}: its annotations are missing. Put {_ANNOTATIONS[split][0]} into "
                f"{devkit}, or take the folder away to go on without the {split} split."
            )
        rows = _rows(annotations, len(class_names))
        parts.append(rows.assign(path=_paths(rows["path"], photos, root), split=split))
    if not parts:
        raise DataError(
            f"{base}: {devkit / 'cars_meta.mat'} is there but neither cars_train/ nor cars_test/. "
            f"Unpack the photos of Stanford Cars beside the devkit."
        )
    rows = pd.concat(parts, ignore_index=True)
    return Catalog.from_rows(rows, class_names, "stanford-cars", FolderSource(root))


def _base(root: Path) -> Path | None:
    photos = ("cars_train", "cars_test", "car_ims")
    for base in (root, root / "stanford_cars"):
        if _find_devkit(base) or any((base / folder).is_dir() for folder in photos):
            return base
    return None


def _find_devkit(base: Path) -> Path | None:
    folders = (base / folder for folder in _DEVKITS)
    return next((folder for folder in folders if (folder / "cars_meta.mat").is_file()), None)


def _find_annotations(base: Path, devkit: Path, split: str) -> Path | None:
    for pattern in _ANNOTATIONS[split]:
        for folder in (devkit, base):
            if files := sorted(folder.glob(pattern)):
                return files[0]
    return None


def _find_photos(base: Path, split: str) -> Path | None:
    folders = (base / f"cars_{split}" / f"cars_{split}", base / f"cars_{split}")
    return next((folder for folder in folders if folder.is_dir()), None)


def _paths(names: pd.Series, photos: Path, root: Path) -> list[str]:
    """Paths relative to root; at least one photo must be there, or we look in the wrong place."""
    if not any(os.path.isfile(photos / name) for name in names):  # not `is_file`: it can raise
        raise DataError(
            f"{photos}: none of the {len(names)} listed photos is there, not even {names.iloc[0]}. "
            f"Unpack the photos of Stanford Cars directly into this folder."
        )
    folder = PurePosixPath(photos.relative_to(root).as_posix())
    return [str(folder / name) for name in names]


def _read_single_file(root: Path, base: Path) -> Catalog:
    """The older copy: all photos in car_ims/, one cars_annos.mat with a field `test`."""
    annotations = base / "cars_annos.mat"
    if not (annotations.is_file() and (base / "car_ims").is_dir()):
        raise DataError(
            f"{base}: photos of Stanford Cars, but no devkit/cars_meta.mat to tell their classes. "
            f"Put the devkit beside them (cars_annos.mat fits only photos in car_ims/)."
        )
    class_names = _class_names(annotations)
    rows = _rows(annotations, len(class_names), path="relative_im_path")
    rows["path"] = _paths(rows["path"], base, root)
    rows["split"] = np.where(rows.pop("test") == 1, "test", "train")
    return Catalog.from_rows(rows, class_names, "stanford-cars", FolderSource(root))


def _load(path: Path, key: str) -> np.ndarray:
    try:
        data = scipy.io.loadmat(io.BytesIO(read_file(path)), squeeze_me=True)
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise DataError(
            f"{path}: cannot be read as a .mat file ({error or 'it is empty'}). Download it again."
        ) from error
    if key not in data or np.size(data[key]) == 0:
        keys = sorted(k for k in data if not k.startswith("__"))
        raise DataError(
            f"{path}: nothing under {key!r} (it holds {keys or 'nothing'}). Use the file of the "
            f"Stanford Cars devkit."
        )
    return np.atleast_1d(data[key])


def _class_names(path: Path) -> tuple[str, ...]:
    return tuple(str(name) for name in _load(path, "class_names"))


def _rows(file: Path, num_classes: int, path: str = "fname") -> pd.DataFrame:
    """Rows of path, label, box (and `test` where the file has it), converted to our counting."""
    table = _load(file, "annotations")
    fields = table.dtype.names or ()
    needed = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", path)
    if path != "fname":
        needed = (*needed, "class", "test")
    if absent := [field for field in needed if field not in fields]:
        raise DataError(
            f"{file}: its annotations lack {absent} (they have {list(fields)}). Use the file of "
            f"the Stanford Cars devkit."
        )
    numbers = [field for field in (*needed[:4], "class", "test") if field in fields]
    try:
        values = {field: table[field].astype(np.int64) for field in numbers}
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{file}: classes and boxes must be whole numbers ({error}). Download it again."
        ) from error
    rows = pd.DataFrame({"path": [str(value) for value in table[path]]})
    rows["x1"], rows["y1"] = values["bbox_x1"] - 1, values["bbox_y1"] - 1
    rows["x2"], rows["y2"] = values["bbox_x2"], values["bbox_y2"]
    if "class" in values:
        rows["label"] = values["class"] - 1
    if "test" in values:
        rows["test"] = values["test"]
    _check_rows(file, rows, num_classes)
    return rows


def _check_rows(file: Path, rows: pd.DataFrame, num_classes: int) -> None:
    if "label" in rows:
        for row in rows[(rows["label"] < 0) | (rows["label"] >= num_classes)].itertuples():
            raise DataError(
                f"{file}: {row.path} has class {row.label + 1}, outside 1..{num_classes} of "
                f"cars_meta.mat. Do the two files come from the same devkit?"
            )
    bad = (
        (rows["x1"] < 0)
        | (rows["y1"] < 0)
        | (rows["x2"] <= rows["x1"])
        | (rows["y2"] <= rows["y1"])
    )
    for row in rows[bad].itertuples():
        raise DataError(
            f"{file}: {row.path} has the box {(row.x1 + 1, row.y1 + 1, row.x2, row.y2)}; expected "
            f"1 <= x1 <= x2 and 1 <= y1 <= y2 (1-based). Correct the row or remove it."
        )
