"""A data set as one table: a row per photo, whatever the layout on disk was.

Labels are 0-based and boxes 0-based half-open pixels (x2 and y2 lie just outside); a value that
the source does not give is missing (<NA>), never guessed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from carlib.data.class_names import stanford_class_names
from carlib.data.digests import photo_digests
from carlib.data.sources import PhotoSource
from carlib.data.splits import choose_val, copy_groups
from carlib.data.table import (
    COLUMNS,
    DTYPES,
    TARGETS,
    check_rows,
    digest_of_lines,
    labels_of,
    parts_of_names,
    photo_stem,
)
from carlib.errors import DataError
from carlib.files import has_keys, made, portable, write_atomically


@dataclass(frozen=True)
class Extras:
    """What a data set is and brings besides its table, as its reader found it.

    Code asks for these, and never what a catalog is called: a folder may have any name.
    """

    dataset: str = ""  # "stanford-cars", "compcars" or "showroom", told by its content; else ""
    part_masks: str = ""  # folder below the root with a mask of part ids for every photo
    pair_lists: str = ""  # folder below the root with official lists of pairs
    counterfactuals: bool = False  # its cars can be drawn again, with parts swapped or taken away
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
    notes: tuple[str, ...] = ()  # for people: what lies in the folder and is not among the photos

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
        check_rows(table, self.class_names, self.name)

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
        check_rows(table, class_names, name)
        known = parts_of_names(class_names)
        labels = labels_of(table)
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

        UNREADABLE (an empty word) where a photo is missing. See `carlib.data.digests`.
        """
        return photo_digests(self.source, self.table["path"])

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when a class name, a value of a row or a photo's byte does.

        The order of the rows does not matter. Photos that were replaced are seen at once.
        """
        return self.fingerprint_of(self.digests)

    def fingerprint_of(self, digests: np.ndarray) -> str:
        """The fingerprint with these `digests` (n,): of what was decoded a while ago, say."""
        return digest_of_lines([self._rows_digest, *digests[self._by_path]])

    def photos_digest(self, rows: np.ndarray) -> str:
        """16 hex digits over the photos of some rows in their order: paths and bytes."""
        return digest_of_lines([*self.table["path"].iloc[rows], *self.digests[rows]])

    @functools.cached_property
    def _by_path(self) -> np.ndarray:
        return self.table["path"].argsort().to_numpy()

    @functools.cached_property
    def _rows_digest(self) -> str:
        """16 hex digits over class names and rows, photos left out."""
        rows = self.table.iloc[self._by_path]
        columns = [rows[column].astype("string").fillna("") for column in COLUMNS]
        lines = ("\x1f".join(values) for values in zip(*columns, strict=True))
        return digest_of_lines([*self.class_names, "", *lines])

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
        return digest_of_lines(
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
                f"{self.name}: {mask.shape} truth values for {len(self)} photos; give one each."
            )
        return self._with_table(self.table[mask])

    def stratified_split(
        self,
        val_fraction: float = 0.1,
        seed: int = 0,
        groups: Sequence[Any] | np.ndarray | None = None,
    ) -> Catalog:
        """Divide the labelled photos of split "train" into "train" and "val", class by class.

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
        train = (self.table["split"] == "train").to_numpy() & (self.labels >= 0)
        if not train.any():
            there = ", ".join(self.split_sizes) or "none at all"
            raise DataError(f"{self.name}: no labelled photo of 'train' to divide, of: {there}.")
        if groups is None:
            groups = np.arange(len(self))
            groups[train] = copy_groups(self.select(train).digests)
        elif len(groups) != len(self):
            raise DataError(f"groups has {len(groups)} entries for {len(self)} photos.")
        rows = np.flatnonzero(train)
        paths = self.table["path"].to_list()
        in_val = choose_val(
            [paths[row] for row in rows],
            self.labels[rows],
            np.asarray(groups)[rows],
            val_fraction,
            seed,
        )
        table = self.table.copy()
        table.loc[rows[in_val], "split"] = "val"
        return self._with_table(table)

    def with_val(self, val_fraction: float = 0.1) -> Catalog:
        """This catalog with a val split: its own where it has one, else `stratified_split`'s.

        A catalog without labelled train photos (a test set alone) is given back as it is.
        """
        learnable = (self.table["split"] == "train") & (self.labels >= 0)
        if "val" in self.split_sizes or not learnable.any():
            return self
        return self.stratified_split(val_fraction)

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
        """Labelled photos, test's apart, of the classes after the first `known`, as split "unseen".

        Labels count from 0 again: what a network that learned the first classes is asked about.
        """
        allowed = self.select((self.table["split"] != "test").to_numpy(bool) & (self.labels >= 0))
        others = allowed.unseen_class_split(known).select("unseen")
        return others.select_classes(range(known, self.num_classes))

    def select_classes(self, labels: Sequence[int]) -> Catalog:
        """The photos of some classes, as a catalog of these alone: labels count from 0 again."""
        labels = [int(label) for label in labels]
        if len(set(labels)) < len(labels) or not set(labels) <= set(range(self.num_classes)):
            raise DataError(
                f"{self.name}: cannot select classes {labels}; give different labels "
                f"from 0 to {self.num_classes - 1}."
            )
        table = self.table[np.isin(self.labels, labels)].copy()
        table["label"] = table["label"].map({old: new for new, old in enumerate(labels)})
        names = [self.class_names[label] for label in labels]
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
        beside = path.with_suffix(".json")
        if beside.exists() and not has_keys(beside, "root", "class_names"):
            raise DataError(f"{beside}: is no catalog's and would be lost; name another file")
        made(path.parent)
        write_atomically(path, self.table.to_csv(index=False, lineterminator="\n"))
        about = {
            "name": self.name,
            "root": portable(self.root, path.parent),
            "class_names": list(self.class_names),
        }
        if self.extras != Extras():
            about["extras"] = asdict(self.extras)
        about_text = json.dumps(about, indent=1, ensure_ascii=False)
        write_atomically(beside, f"{about_text}\n")
        return path

    def _with_table(self, table: pd.DataFrame) -> Catalog:
        return replace(self, table=table)
