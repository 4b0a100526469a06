"""What is wrong with a data set: bad photos, copies of photos, and copies on both sides of a split.

Nothing is repaired. A photo that cannot be used is named and left out (`Audit.usable`); copies can
be kept together when a split is made (`stratified_split(groups=audit.groups)`).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from carlib.data.catalog import Catalog
from carlib.data.digests import UNREADABLE
from carlib.data.images import decode_photo, is_turned
from carlib.data.near_copies import join_near_copies, thumbnail
from carlib.data.splits import copy_groups
from carlib.errors import PhotoError
from carlib.files import made, write_atomically
from carlib.runtime import cores

MIN_SIDE = 64  # pixels; smaller photos are blown up by every recipe we have
MAX_RATIO = 3.5  # longer side over shorter; beyond it a squashed car is no longer that car
MAX_GREY = 12  # levels between the channels of a grey photo; JPEG adds a few to pure grey

# Splits that a model learns from or is chosen by. Copies among the others do no harm: the Hub's
# corrupted test sets are copies of the test set by design.
FITTED_SPLITS = ("train", "val")

FINDINGS = (
    "missing",
    "unreadable",
    "greyscale",
    "tiny",
    "odd shape",
    "box outside",
    "lies on its side",
    "exact copy",
    "near copy",
    "copies differ in label",
    "copies across splits",
)


@dataclass(frozen=True, eq=False)
class Audit:
    """Findings about the photos of one catalog.

    `photos`: a row per photo (path, split, class_name, width, height, error). `findings`: a row
    per photo and finding, the finding one of `FINDINGS`, copies numbered by `group`.
    `class_counts`: classes by splits. `groups`: a number per photo, shared by copies.
    """

    name: str
    fingerprint: str
    photos: pd.DataFrame
    findings: pd.DataFrame
    class_counts: pd.DataFrame
    groups: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """Truth value per photo: it can be decoded. `catalog.select(audit.usable)` keeps those."""
        return self.photos["error"].isna().to_numpy()

    @property
    def counts(self) -> dict[str, int]:
        """Photos per finding, zeros included."""
        counts = self.findings["finding"].value_counts()
        return {finding: int(counts.get(finding, 0)) for finding in FINDINGS}

    @property
    def leaks(self) -> bool:
        """Does a copy of a photo of train or val sit in another split?"""
        return self.counts["copies across splits"] > 0

    def copies(self) -> pd.DataFrame:
        """A row per group of copies: kind, paths, class names, splits, and whether it leaks."""
        rows = []
        table = self.findings[self.findings["finding"].isin(("exact copy", "near copy"))]
        leaking = self.findings["finding"] == "copies across splits"
        leaking_groups = set(self.findings["group"][leaking])
        for group, part in table.groupby("group"):
            rows.append(
                {
                    "group": group,
                    "kind": "exact" if (part["finding"] == "exact copy").all() else "near",
                    "paths": part["path"].to_list(),
                    "classes": sorted(set(part["class_name"].dropna())),
                    "splits": sorted(set(part["split"])),
                    "leaks": group in leaking_groups,
                }
            )
        return pd.DataFrame(rows, columns=["group", "kind", "paths", "classes", "splits", "leaks"])

    def to_csv(self, path: Path | str) -> Path:
        """Write the findings, a row per photo and finding."""
        path = Path(path)
        made(path.parent)
        write_atomically(path, self.findings.to_csv(index=False, lineterminator="\n"))
        return path

    def summary(self) -> dict[str, Any]:
        """Counts as plain values, for JSON and for the notebooks."""
        per_class = self.class_counts.sum(axis=1)
        usable = self.photos[self.usable]
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "photos": len(self.photos),
            "usable": int(self.usable.sum()),
            "classes": len(per_class),
            "smallest_class": int(per_class.min()),
            "largest_class": int(per_class.max()),
            "splits": {name: int(n) for name, n in self.class_counts.sum().items()},
            "median_width": _median(usable["width"]),
            "median_height": _median(usable["height"]),
            "findings": self.counts,
            "copy_groups": len(self.copies()),
            "leaks": self.leaks,
        }


def audit(catalog: Catalog, progress: bool = False) -> Audit:
    """Decode every photo of the catalog once and report on it.

    About 300 photos of 300 px per second and core; comparing all pairs of 16,000 takes a minute.
    """
    looks = _look_at_all(catalog, progress)
    photos = catalog.table[["path", "split", "class_name"]].copy()
    photos["width"] = pd.array([look.width for look in looks], dtype="Int64")
    photos["height"] = pd.array([look.height for look in looks], dtype="Int64")
    photos["error"] = pd.array([look.error for look in looks], dtype="string")

    digests = catalog.digests  # junk is no copy of other junk
    digests[photos["error"].notna().to_numpy()] = UNREADABLE
    exact = copy_groups(digests)
    groups = _join_near(exact, looks)
    findings = [*_photo_findings(catalog, looks), *_copy_findings(catalog, exact, groups)]
    return Audit(
        catalog.name,
        catalog.fingerprint,
        photos,
        _findings_table(findings, photos),
        class_counts(catalog),
        groups,
    )


def class_counts(catalog: Catalog) -> pd.DataFrame:
    """Photos per class (rows, in label order) and split (columns); classes without photos too."""
    counts = pd.crosstab(catalog.labels, catalog.table["split"].to_numpy())
    counts = counts.reindex(range(catalog.num_classes), fill_value=0)
    counts = counts.reindex(columns=list(catalog.split_sizes), fill_value=0)
    counts.index = pd.Index(catalog.class_names, name="class_name")
    counts.columns.name = "split"
    return counts


@dataclass(frozen=True)
class _Look:
    """What decoding one photo told."""

    width: int | None = None
    height: int | None = None
    grey: bool = False
    thumbnail: np.ndarray | None = None
    error: str | None = None
    missing: bool = False
    turned: bool = False  # by its orientation tag, while its box is in stored pixels


def _look_at_all(catalog: Catalog, progress: bool) -> list[_Look]:
    def look(path: str, boxed: bool) -> _Look:
        return _look(catalog, path, boxed)

    paths, boxed = catalog.table["path"].to_list(), catalog.table["x1"].notna()
    hidden = None if progress else True  # None: shown on a terminal and in notebooks only
    with ThreadPoolExecutor(cores()) as pool:
        looks = pool.map(look, paths, boxed)  # Pillow lets go of the interpreter while it decodes
        bar = tqdm(looks, total=len(paths), desc="photos", unit="", disable=hidden)
        return list(bar)


def _look(catalog: Catalog, path: str, boxed: bool) -> _Look:
    try:
        data = catalog.source.read(path)
        pixels = decode_photo(data, path, upright=not boxed, shrink=not boxed)
    except PhotoError as error:
        return _Look(error=str(error), missing=catalog.source.size(path) < 0)
    height, width = pixels.shape[:2]
    return _Look(
        width,
        height,
        _is_grey(pixels),
        thumbnail(pixels),
        turned=boxed and is_turned(data),
    )


def _is_grey(pixels: np.ndarray) -> bool:
    red, green, blue = (pixels[..., channel] for channel in range(3))
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    return int((high - low).max()) <= MAX_GREY


def _photo_findings(
    catalog: Catalog, looks: list[_Look]
) -> Iterator[tuple[int, str, int | None, str]]:
    """(row, finding, no group, detail) for what can be said of one photo alone."""
    boxes = catalog.table[["x2", "y2"]].to_numpy(np.float64, na_value=np.nan)
    for row, (look, (right, bottom)) in enumerate(zip(looks, boxes, strict=True)):
        if look.error is not None:
            yield row, "missing" if look.missing else "unreadable", None, look.error
            continue
        size = f"{look.width} x {look.height} px"
        if look.grey:
            yield row, "greyscale", None, size
        if min(look.width, look.height) < MIN_SIDE:
            yield row, "tiny", None, size
        if max(look.width, look.height) > MAX_RATIO * min(look.width, look.height):
            yield row, "odd shape", None, size
        if look.turned:
            yield row, "lies on its side", None, "its box is taken to be in stored pixels"
        if right > look.width or bottom > look.height:
            yield row, "box outside", None, f"box ends at {right:.0f}, {bottom:.0f} of {size}"


def _join_near(exact: np.ndarray, looks: list[_Look]) -> np.ndarray:
    """Groups of exact copies joined where photos are near copies; numbers are arbitrary."""
    rows = [row for row, look in enumerate(looks) if look.error is None]
    groups = exact.copy()
    if rows:
        groups[rows] = join_near_copies(exact[rows], np.stack([looks[r].thumbnail for r in rows]))
    return groups


def _copy_findings(
    catalog: Catalog, exact: np.ndarray, groups: np.ndarray
) -> Iterator[tuple[int, str, int, str]]:
    """(row, finding, group number, detail) for every photo that has a copy."""
    splits, labels = catalog.table["split"].to_numpy(), catalog.labels
    paths = catalog.table["path"].to_numpy()
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    in_copies = np.flatnonzero(sizes[inverse] > 1)
    members: dict[int, list[int]] = {}
    for row in in_copies:
        members.setdefault(int(groups[row]), []).append(int(row))
    for number, rows in enumerate(members.values(), start=1):
        leaks = len({splits[row] for row in rows}) > 1 and any(
            splits[row] in FITTED_SPLITS for row in rows
        )
        conflict = len({labels[row] for row in rows if labels[row] >= 0}) > 1
        for row in rows:
            same = sum(exact[other] == exact[row] for other in rows) > 1
            others = ", ".join(f"{paths[o]} ({splits[o]})" for o in rows if o != row)
            yield row, "exact copy" if same else "near copy", number, others
            if conflict:
                yield row, "copies differ in label", number, others
            if leaks:
                yield row, "copies across splits", number, others


def _findings_table(
    findings: list[tuple[int, str, int | None, str]], photos: pd.DataFrame
) -> pd.DataFrame:
    """Findings with path, split and class, in the order of FINDINGS."""
    table = pd.DataFrame(findings, columns=["row", "finding", "group", "detail"])
    table["finding"] = pd.Categorical(table["finding"], FINDINGS, ordered=True)
    table = table.sort_values(["finding", "group", "row"], ignore_index=True)
    table = table.astype({"finding": "string", "group": "Int64", "detail": "string"})
    told = photos.loc[table["row"], ["path", "split", "class_name"]].reset_index(drop=True)
    return pd.concat([table["finding"], told, table[["group", "detail"]]], axis=1)


def _median(values: pd.Series) -> float | None:
    return float(values.median()) if len(values) else None
