"""The columns of a catalog's table, and what its rows must hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import PurePath, PurePosixPath

import numpy as np
import pandas as pd

from carlib.data.class_names import parse_name
from carlib.data.sources import PARQUET_MARK
from carlib.errors import DataError

COLUMNS = (
    "path",
    "label",
    "class_name",
    "make",
    "model",
    "year",
    "body",
    "viewpoint",
    "x1",
    "y1",
    "x2",
    "y2",
    "split",
)
TARGETS = ("make", "model", "year", "body")  # what classes can be made of
SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
"""What folders and files call splits, in lower case."""
BOX = ("x1", "y1", "x2", "y2")
_INTEGERS = ("label", "year", *BOX)
DTYPES = {column: "Int64" if column in _INTEGERS else "string" for column in COLUMNS}


def labels_of(table: pd.DataFrame) -> np.ndarray:
    """Labels int64 (rows,) of a catalog's rows, −1 where unknown."""
    return table["label"].to_numpy(np.int64, na_value=-1)


def boxes_of(table: pd.DataFrame) -> np.ndarray:
    """Boxes float64 (rows, 4) of a catalog's rows as x1, y1, x2, y2, NaN where unknown."""
    return table[list(BOX)].astype("Float64").to_numpy(float, na_value=np.nan)


def photo_stem(path: str) -> str:
    """File name of a photo without folders and ending, also inside a parquet file."""
    _, mark, inside = path.rpartition(PARQUET_MARK)
    return PurePosixPath(inside if mark else path).stem


def parts_of_names(class_names: tuple[str, ...]) -> pd.DataFrame:
    """What each class name tells, one row per label and a last one for "no label"."""
    parsed = [parse_name(name) for name in class_names]
    columns = {
        "class_name": [*class_names, None],
        **{
            part: [*(getattr(name, part) for name in parsed), None]
            for part in ("make", "model", "year", "body")
        },
    }
    return pd.DataFrame({k: pd.array(v, dtype=DTYPES[k]) for k, v in columns.items()})


def check_rows(table: pd.DataFrame, class_names: tuple[str, ...], name: str) -> None:
    """Raise `DataError` naming the first row that a catalog cannot have."""
    if len(set(class_names)) != len(class_names):
        twice = sorted({n for n in class_names if class_names.count(n) > 1})
        raise DataError(f"{name}: class names appear twice: {twice}.")
    for column in ("path", "split"):
        if table[column].isna().any():
            raise DataError(f"{name}: row {table[column].isna().idxmax()} has no {column}.")
    out = table["path"].str.contains(r"^/|(?:^|/)\.\.(?:/|$)|\0")
    if out.any():
        path = table["path"][out].iloc[0]
        raise DataError(f"{name}: {path!r} leads out of the folder of the data set; correct it")
    if table["path"].duplicated().any():
        path = table["path"][table["path"].duplicated()].iloc[0]
        raise DataError(f"{name}: {path} is listed twice; keep one of the rows.")
    wrong = ((table["label"] < 0) | (table["label"] >= len(class_names))).fillna(False)
    if wrong.any():
        row = table[wrong].iloc[0]
        raise DataError(
            f"{name}: {row['path']} has label {row['label']}, outside 0..{len(class_names) - 1}."
        )
    _check_boxes(table, name)


def _check_boxes(table: pd.DataFrame, name: str) -> None:
    known = table[list(BOX)].notna()
    boxes = table[list(BOX)].fillna(0)
    wrong = known.any(axis=1) & (
        ~known.all(axis=1)
        | (boxes["x1"] < 0)
        | (boxes["y1"] < 0)
        | (boxes["x2"] <= boxes["x1"])
        | (boxes["y2"] <= boxes["y1"])
    )
    if wrong.any():
        row = table[wrong].iloc[0]
        box = ", ".join("?" if pd.isna(row[side]) else str(row[side]) for side in BOX)
        raise DataError(
            f"{name}: {row['path']} has the box ({box}); expected 0 <= x1 < x2 and "
            f"0 <= y1 < y2 (0-based, half-open), or no box at all."
        )


def check_text(root: PurePath, texts: Iterable[str]) -> None:
    """Raise `DataError` for the first name that is not text, as those from old archives may be."""
    for text in texts:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise DataError(
                f"{root}: the name {text!r} is not in UTF-8, as names from an old archive may be. "
                f"Rename it, such as with: convmv -r -f latin1 -t utf8 --notest FOLDER"
            )


def digest_of_lines(lines: Sequence[str]) -> str:
    """16 hex digits over lines of text."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
