"""A catalog that was written by `Catalog.to_csv`: the file itself, or a folder holding catalog.csv.

The JSON beside it gives name, root, class names and extras; without it they follow from the rows.
"""

from __future__ import annotations

import io
from pathlib import Path
from types import NoneType

import pandas as pd

from carlib.data.catalog import Catalog, Extras, recognized
from carlib.data.class_names import canonical_order
from carlib.data.sources import PARQUET_MARK, FolderSource, ParquetSource
from carlib.data.table import COLUMNS, DTYPES
from carlib.errors import DataError
from carlib.files import checked, read_file, read_json, shortened

TEXT = (str, NoneType)
LOOKS_FOR = "a catalog: a .csv file written by carlib, or a folder holding catalog.csv"


def detect(root: Path) -> bool:
    """True for such a file, and for a folder holding one."""
    return _file(root).is_file()


def read(root: Path) -> Catalog:
    """Read the rows back; labels and class names must agree."""
    file = _file(root)
    table = _table(file)
    about = _about(file)
    photos = file.parent / (about.get("root") or ".")
    names = tuple(about.get("class_names") or _names_of_rows(file, table))
    _check_names(file, table, names)
    in_parquet = table["path"].str.contains(PARQUET_MARK, regex=False).any()
    source = ParquetSource(photos) if in_parquet else FolderSource(photos)
    name = about.get("name") or (file.parent.resolve().name if root.is_dir() else file.stem)
    try:
        told = about.get("extras")
        extras = Extras.from_dict(told) if told is not None else recognized(names)
        return Catalog(table, names, name, source, extras)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _file(root: Path) -> Path:
    return root if root.suffix.lower() == ".csv" else root / "catalog.csv"


def _table(file: Path) -> pd.DataFrame:
    try:
        text = pd.read_csv(io.BytesIO(read_file(file)), dtype="string", keep_default_na=False)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}: cannot be read as a table ({error}). Write it again with Catalog.to_csv."
        ) from error
    absent = [column for column in COLUMNS if column not in text]
    unknown = [column for column in text if column not in COLUMNS]
    if absent or unknown:
        raise DataError(
            f"{file}: columns do not fit: missing {absent}, unknown {unknown}. A catalog has "
            f"exactly {', '.join(COLUMNS)}."
        )
    text = text.replace("", pd.NA)
    try:
        return text[list(COLUMNS)].astype(DTYPES)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{file}: label, year and box hold whole numbers or nothing ({error}). Correct the row."
        ) from error


def _about(file: Path) -> dict:
    beside = file.with_suffix(".json")
    if not beside.exists():
        return {}
    try:
        about = checked(read_json(beside), name=TEXT, root=TEXT, class_names=(list, NoneType))
        names = about.get("class_names") or []
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"class_names is {shortened(names)}")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{beside}: not the JSON of a catalog ({error}). Remove it, and the classes are taken "
            f"from the rows."
        ) from error
    return about


def _names_of_rows(file: Path, table: pd.DataFrame) -> tuple[str, ...]:
    """Class names in label order, when every label from 0 up has a row."""
    if table["label"].notna().any() != table["class_name"].notna().any():
        raise DataError(f"{file}: label and class_name go together; fill in both columns, or none.")
    known = table[["label", "class_name"]].dropna().drop_duplicates().sort_values("label")
    if known["label"].to_list() != list(range(len(known))):
        raise DataError(
            f"{file}: labels and class names of the rows are not one name for each of 0, 1, 2 ... "
            f"Put the .json that Catalog.to_csv wrote beside the file, or correct the rows."
        )
    return canonical_order(known["class_name"])


def _check_names(file: Path, table: pd.DataFrame, names: tuple[str, ...]) -> None:
    labelled = table[table["label"].notna() & table["class_name"].notna()]
    for row in labelled[["path", "label", "class_name"]].itertuples(index=False):
        if 0 <= row.label < len(names) and names[row.label] != row.class_name:
            raise DataError(
                f"{file}: {row.path} has label {row.label} ({names[row.label]!r}) but class_name "
                f"{row.class_name!r}. Correct one of them."
            )
