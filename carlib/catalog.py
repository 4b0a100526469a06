"""A data set as one table: a row per photo, whatever the layout on disk was.

Labels are 0-based and boxes 0-based half-open pixels (x2 and y2 lie just outside); a value that
the source does not give is missing (<NA>), never guessed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from carlib.digests import UNREADABLE, photo_digests
from carlib.errors import DataError
from carlib.names import parse_name, stanford_class_names
from carlib.sources import PARQUET_MARK, FolderSource, ParquetSource, PhotoSource

__all__ = [
    "COLUMNS",
    "Catalog",
    "Extras",
    "FolderSource",
    "ParquetSource",
    "PhotoSource",
    "copy_groups",
    "open_catalog",
    "photo_stem",
]

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
BOX = ("x1", "y1", "x2", "y2")
_INTEGERS = ("label", "year", *BOX)
DTYPES = {column: "Int64" if column in _INTEGERS else "string" for column in COLUMNS}


@dataclass(frozen=True)
class Extras:
    """What a data set is and brings besides its table, as its reader found it.

    Code asks for these, and never what a catalog is called: a folder may have any name.
    """

    dataset: str = ""  # "stanford-cars", "compcars" or "showroom", told by its content; else ""
    part_masks: str = ""  # folder below the root with a mask of part ids for every photo
    pair_lists: str = ""  # folder below the root with official lists of pairs
    publishable: bool = False  # pictures may be shown in public, as drawn cars may

    @classmethod
    def from_dict(cls, values: object) -> Extras:
        """From what JSON holds; a value of another type or an unknown one raises `DataError`."""
        types = {field.name: type(field.default) for field in fields(cls)}
        if not isinstance(values, dict):
            raise DataError(f"extras are {values!r}; expected an object with {', '.join(types)}")
        for name, value in values.items():
            if type(value) is not types.get(name):
                raise DataError(f"extras: {name!r} is {value!r}; known: {', '.join(types)}")
        return cls(**values)


def recognized(class_names: Sequence[str]) -> Extras:
    """What class names tell of a data set: exactly the 196 of the devkit are Stanford Cars."""
    stanford = tuple(class_names) == stanford_class_names()
    return Extras(dataset="stanford-cars" if stanford else "")


@dataclass(frozen=True, eq=False)
class Catalog:
    """Photos of one data set, their classes, and where to read them.

    `table` has exactly `COLUMNS` in this order and rows 0..n-1. Build one with `from_rows`, which
    fills in what the class names tell.
    """

    table: pd.DataFrame
    class_names: tuple[str, ...]
    name: str  # for people, in titles and file names; nothing is decided by it
    source: PhotoSource
    extras: Extras = Extras()

    def __post_init__(self) -> None:
        missing = set(COLUMNS) ^ set(self.table.columns)
        if missing:
            raise DataError(
                f"{self.name}: a catalog needs exactly the columns {COLUMNS}; "
                f"missing or unknown: {sorted(missing)}"
            )
        table = self.table[list(COLUMNS)].astype(DTYPES).reset_index(drop=True)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "class_names", tuple(self.class_names))
        _check(table, self.class_names, self.name)

    @classmethod
    def from_rows(
        cls,
        rows: pd.DataFrame,
        class_names: Sequence[str],
        name: str,
        source: PhotoSource,
        extras: Extras | None = None,
    ) -> Catalog:
        """A catalog from any subset of the columns: `path` is needed, `split` defaults to train.

        Class name, make, model, year and body follow from the label where not given, and from the
        class names whether this is Stanford Cars.
        """
        class_names = tuple(class_names)
        table = pd.DataFrame(rows).reset_index(drop=True)
        for column in COLUMNS:
            if column not in table:
                table[column] = pd.Series("train" if column == "split" else pd.NA, table.index)
        table = table[list(COLUMNS)].astype(DTYPES)
        _check(table, class_names, name)
        known = _class_table(class_names)
        labels = table["label"].to_numpy(np.int64, na_value=-1)
        told = known.take(np.where(labels < 0, len(class_names), labels)).reset_index(drop=True)
        for column in known.columns:
            table[column] = table[column].fillna(told[column])
        return cls(table, class_names, name, source, extras or recognized(class_names))

    def __len__(self) -> int:
        return len(self.table)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Catalog):
            return NotImplemented
        return (
            (self.name, self.class_names, self.extras)
            == (other.name, other.class_names, other.extras)
            and self.table.equals(other.table)
            and (self.source is other.source or bool((self.digests == other.digests).all()))
        )

    def __hash__(self) -> int:
        return hash(self._rows_digest)

    def __repr__(self) -> str:
        splits = ", ".join(f"{name} {count}" for name, count in self.split_sizes.items())
        return f"Catalog({self.name!r}: {len(self)} photos of {self.num_classes} classes; {splits})"

    @property
    def root(self) -> Path:
        """Folder that the paths are relative to."""
        return self.source.root

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def labels(self) -> np.ndarray:
        """Labels as int64 (n,), -1 where unknown."""
        return labels_of(self.table)

    @property
    def split_sizes(self) -> dict[str, int]:
        """Photos per split, in order of first appearance."""
        return {str(k): int(v) for k, v in self.table["split"].value_counts(sort=False).items()}

    @property
    def digests(self) -> np.ndarray:
        """The digest of every photo's bytes, (n,) of str, as they are on disk now.

        UNREADABLE (an empty word) where a photo is missing. See `carlib.digests`.
        """
        return photo_digests(self.source, self.table["path"])

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when a class name, a value of a row or a photo's byte does.

        The order of the rows does not matter. Photos that were replaced are seen at once.
        """
        return self.fingerprint_of(self.digests)

    def fingerprint_of(self, digests: np.ndarray) -> str:
        """The fingerprint with these `digests` (n,): what a store was made of, say."""
        return _digest([self._rows_digest, *digests[self._by_path]])

    @functools.cached_property
    def _by_path(self) -> np.ndarray:
        return self.table["path"].argsort().to_numpy()

    @functools.cached_property
    def _rows_digest(self) -> str:
        """16 hex digits over class names and rows, photos left out."""
        rows = self.table.iloc[self._by_path]
        columns = [rows[column].astype("string").fillna("") for column in COLUMNS]
        lines = ("\x1f".join(values) for values in zip(*columns, strict=True))
        return _digest([*self.class_names, "", *lines])

    # --- what this data set has ---

    @property
    def has_boxes(self) -> bool:
        """Is the car's box known of a photo?"""
        return self._knows("x1")

    @property
    def has_viewpoints(self) -> bool:
        """Is the side known from which a photo was taken?"""
        return self._knows("viewpoint")

    @property
    def has_makes(self) -> bool:
        """Is a photo's make known?"""
        return self._knows("make")

    @property
    def has_part_masks(self) -> bool:
        """Is it known which pixel belongs to which part of the car?"""
        return bool(self.extras.part_masks)

    @property
    def has_official_pairs(self) -> bool:
        """Did its authors publish lists of pairs to verify?"""
        return bool(self.extras.pair_lists)

    @property
    def publishable(self) -> bool:
        """May its pictures be shown in public? Photographs of a data set may not."""
        return self.extras.publishable

    def _knows(self, column: str) -> bool:
        return bool(self.table[column].notna().any())

    def split_hash(self, split: str) -> str:
        """16 hex digits over the photos (file stem and label) of one split.

        The same photos give the same hash in another layout or picture format.
        """
        part = self.select(split)
        stems = (photo_stem(path) for path in part.table["path"])
        return _digest(
            sorted(f"{s}\x1f{label}" for s, label in zip(stems, part.labels, strict=True))
        )

    def select(self, which: str | Sequence[bool] | np.ndarray | pd.Series) -> Catalog:
        """The photos of one split (by name), or those where a boolean mask is true."""
        if isinstance(which, str):
            if which not in self.split_sizes:
                there = ", ".join(self.split_sizes) or "none at all"
                raise DataError(f"{self.name} has no split {which!r}; its splits are: {there}.")
            which = self.table["split"] == which
        mask = np.asarray(which, dtype=bool)
        if mask.shape != (len(self),):
            raise DataError(
                f"{self.name}: a mask of shape {mask.shape} cannot select from "
                f"{len(self)} photos; give one truth value per photo."
            )
        return self._with_table(self.table[mask])

    def stratified_split(
        self,
        val_fraction: float = 0.1,
        seed: int = 0,
        groups: Sequence[Any] | np.ndarray | None = None,
    ) -> Catalog:
        """Divide the photos of split "train" into "train" and "val", class by class.

        A class of n photos gives round(n * val_fraction), and one at least where it has two. The
        choice follows a hash of seed and file stem, so it depends on neither the order of the
        rows nor the machine nor the picture format. `groups` (one value per row of the catalog)
        keeps photos together; by default those that are copies of each other, byte for byte.
        """
        if not 0 <= val_fraction < 1:
            raise DataError(f"val_fraction is {val_fraction}; it must lie in [0, 1).")
        if "val" in self.split_sizes:
            raise DataError(
                f"{self.name} has a val split already; use it as it is, or select "
                f"'train' first to divide that."
            )
        train = (self.table["split"] == "train").to_numpy()
        if not train.any():
            there = ", ".join(self.split_sizes) or "none at all"
            raise DataError(f"{self.name} has no split 'train' to divide; its splits are: {there}.")
        if groups is None:
            groups = np.arange(len(self))
            groups[train] = copy_groups(self.select(train).digests)
        elif len(groups) != len(self):
            raise DataError(f"groups has {len(groups)} entries for {len(self)} photos.")
        rows = np.flatnonzero(train)
        paths = self.table["path"].to_list()
        in_val = _choose_val(
            [paths[row] for row in rows],
            self.labels[rows],
            np.asarray(groups)[rows],
            val_fraction,
            seed,
        )
        table = self.table.copy()
        table.loc[rows[in_val], "split"] = "val"
        return self._with_table(table)

    def with_val(self, val_fraction: float = 0.1, seed: int = 0) -> Catalog:
        """This catalog with a val split: its own where it has one, else `stratified_split`'s.

        A catalog without train (a test set alone) is given back as it is.
        """
        if "val" in self.split_sizes or "train" not in self.split_sizes:
            return self
        return self.stratified_split(val_fraction, seed)

    def unseen_class_split(self, num_train_classes: int | None = None) -> Catalog:
        """Photos of the first half of the classes become "train", the others "unseen".

        The usual protocol of metric learning (98 + 98 classes on Stanford Cars). Labels stay.
        """
        number = (self.num_classes + 1) // 2 if num_train_classes is None else num_train_classes
        if not 0 < number < self.num_classes:
            raise DataError(
                f"num_train_classes is {number}; {self.name} has {self.num_classes} "
                f"classes, so it must lie between 1 and {self.num_classes - 1}."
            )
        if (self.labels < 0).any():
            raise DataError(
                f"{self.name} has photos without a label; select a labelled split first."
            )
        table = self.table.copy()
        table["split"] = np.where(self.labels < number, "train", "unseen")
        return self._with_table(table)

    def unseen_classes(self, known: int) -> Catalog:
        """All photos but those of test, of the classes after the first `known`, as split "unseen".

        Labels count from 0 again: what a network that learned the first classes is asked about.
        """
        allowed = self.select((self.table["split"] != "test").to_numpy(bool))
        others = allowed.unseen_class_split(known).select("unseen")
        return others.select_classes(range(known, self.num_classes))

    def select_classes(self, labels: Sequence[int]) -> Catalog:
        """The photos of some classes, as a catalog of these alone: labels count from 0 again."""
        chosen = [int(label) for label in labels]
        if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(self.num_classes)):
            raise DataError(
                f"{self.name}: cannot select classes {chosen}; give different labels "
                f"from 0 to {self.num_classes - 1}."
            )
        table = self.table[np.isin(self.labels, chosen)].copy()
        table["label"] = table["label"].map({old: new for new, old in enumerate(chosen)})
        names = [self.class_names[label] for label in chosen]
        extras = replace(self.extras, pair_lists="")  # official pairs are of all classes
        return replace(self, table=table, class_names=tuple(names), extras=extras)

    def by(self, column: str) -> Catalog:
        """The same photos with another kind of class: "make", "model" (any year), "year" or "body".

        Classes are in alphabetical order; photos of which the value is unknown are left out.
        """
        if column not in TARGETS:
            raise DataError(f"cannot make classes of {column!r}; known: {', '.join(TARGETS)}")
        values = self.table[column].astype("string")
        if column == "model":
            values = (self.table["make"].astype("string") + " " + values).str.strip()
        if values.isna().all():
            raise DataError(f"{self.name}: no photo has a known {column}")
        table = self.table[values.notna()].copy()
        values = values[values.notna()]
        names = tuple(sorted(values.unique()))
        table["label"] = values.map({name: label for label, name in enumerate(names)})
        table["class_name"] = values
        extras = replace(self.extras, dataset="", pair_lists="")  # they are about other classes
        return Catalog(table, names, f"{self.name}-{column}", self.source, extras)

    def to_csv(self, path: Path | str) -> Path:
        """Write the rows as CSV, and name, class names and root as JSON beside it.

        `open_catalog(path)` reads both back. The JSON may be absent: then the folder of the CSV is
        the root and the classes are those of the rows.
        """
        path = Path(path)
        if path.suffix.lower() != ".csv":
            raise DataError(f"{path}: a catalog is written as .csv; give the file that ending.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
        about = {
            "name": self.name,
            "root": _portable_root(self.root, path.parent),
            "class_names": list(self.class_names),
        }
        if self.extras != Extras():
            about["extras"] = asdict(self.extras)
        text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
        path.with_suffix(".json").write_text(text, encoding="utf-8")
        return path

    def _with_table(self, table: pd.DataFrame) -> Catalog:
        return replace(self, table=table)


def open_catalog(name_or_path: str | os.PathLike[str], **options: Any) -> Catalog:
    """Open a data set: "showroom" for the drawn cars, else a folder or file in any known layout.

    A folder that is called showroom is opened as "./showroom".

    Words after "#" choose: a task where a data set has several, such as CompCars'
    `PATH#verification`, and what its classes are, such as `PATH#make` (see `Catalog.by`). Options
    go to the opener. Raises DataError that says what was looked for.
    """
    name, *words = [str(name_or_path)]
    if not Path(name).expanduser().exists():
        name, *words = name.split("#")
    for word in (word for word in words if word not in TARGETS):
        options["task"] = word
    if name == "showroom":
        from carlib.showroom import open_showroom

        catalog = open_showroom(**options)
    else:
        from carlib.readers import read_any

        catalog = read_any(Path(name).expanduser(), **options)
    for word in (word for word in words if word in TARGETS):
        catalog = catalog.by(word)
    return catalog


def labels_of(table: pd.DataFrame) -> np.ndarray:
    """Labels int64 (rows,) of a catalog's rows, −1 where unknown."""
    return table["label"].to_numpy(np.int64, na_value=-1)


def boxes_of(table: pd.DataFrame) -> np.ndarray:
    """Boxes float64 (rows, 4) of a catalog's rows as x1, y1, x2, y2, NaN where unknown."""
    return table[["x1", "y1", "x2", "y2"]].astype("Float64").to_numpy(float, na_value=np.nan)


def photo_stem(path: str) -> str:
    """File name of a photo without folders and ending, also inside a parquet file."""
    _, mark, inside = path.rpartition(PARQUET_MARK)
    return PurePosixPath(inside if mark else path).stem


def copy_groups(digests: np.ndarray) -> np.ndarray:
    """Group number (n,) per photo of these `digests`; photos that are the same byte for byte share
    one. Photos that cannot be read are groups of their own.
    """
    groups = np.arange(len(digests))
    first: dict[str, int] = {}
    for row in np.flatnonzero(digests != UNREADABLE):
        groups[row] = first.setdefault(digests[row], int(row))
    return groups


def _choose_val(
    paths: list[str], labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """Truth value per row: is it in val?

    A group counts with the class of its smallest stem, whose hash ranks the group; one that would
    overshoot the class's share is passed over.
    """
    stems = [photo_stem(path) for path in paths]
    members: dict[Any, list[int]] = {}
    for row in sorted(range(len(paths)), key=lambda row: (stems[row], paths[row])):
        members.setdefault(groups[row], []).append(row)
    by_class: dict[int, list[tuple[str, str, list[int]]]] = {}
    for rows in members.values():
        rank = hashlib.sha256(f"{seed}:{stems[rows[0]]}".encode()).hexdigest()
        by_class.setdefault(int(labels[rows[0]]), []).append((rank, paths[rows[0]], rows))
    chosen = np.zeros(len(paths), dtype=bool)
    for candidates in by_class.values():
        wanted = _val_count(sum(len(rows) for _, _, rows in candidates), fraction)
        for _, _, rows in sorted(candidates):
            if len(rows) <= wanted:
                chosen[rows] = True
                wanted -= len(rows)
    return chosen


def _val_count(size: int, fraction: float) -> int:
    at_least = 1 if size >= 2 and fraction > 0 else 0
    return max(at_least, round(size * fraction))


def _class_table(class_names: tuple[str, ...]) -> pd.DataFrame:
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


def _check(table: pd.DataFrame, class_names: tuple[str, ...], name: str) -> None:
    if len(set(class_names)) != len(class_names):
        twice = sorted({n for n in class_names if class_names.count(n) > 1})
        raise DataError(f"{name}: class names appear twice: {twice}.")
    for column in ("path", "split"):
        if table[column].isna().any():
            raise DataError(f"{name}: row {table[column].isna().idxmax()} has no {column}.")
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


def _portable_root(root: Path, folder: Path) -> str:
    """Root as written beside a CSV: relative where one holds the other, so both can move."""
    root, folder = root.resolve(), folder.resolve()
    if root.is_relative_to(folder) or folder.is_relative_to(root):
        return PurePosixPath(Path(os.path.relpath(root, folder))).as_posix()
    return root.as_posix()


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
