"""Readers: one module per layout on disk, each with `LOOKS_FOR`, `detect(root)` and `read(root)`.

A reader of several tasks names them in `TASKS` and takes one as `read(root, task)`.

A new layout is one module more and one entry in `_MODULES`; the order is the order of trial.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from carlib.errors import DataError

if TYPE_CHECKING:
    from carlib.data.catalog import Catalog

_MODULES = ("catalog_csv", "devkit", "compcars", "hub", "class_folders")


def read_any(root: Path, task: str = "") -> Catalog:
    """Open the folder (or single file) with the first reader that recognises it.

    `task` chooses among the photos of a data set that has several uses, as CompCars does.
    """
    if not os.path.exists(root):  # unlike `root.exists`, for names that no file can have too
        raise DataError(
            f"{root}: there is no such file or folder. Give the folder of a data set, or "
            f"'showroom' for the drawn cars; data/README.md says how to get the real ones."
        )
    try:
        return _read(root, task)
    except PermissionError as error:
        raise DataError(
            f"{error.filename}: cannot be looked into ({error.strerror}). Give yourself the right "
            f"to read it (chmod -R u+rX), or move it elsewhere."
        ) from error


def _read(root: Path, task: str) -> Catalog:
    readers = [import_module(f"{__name__}.{module}") for module in _MODULES]
    for reader in readers:
        if reader.detect(root):
            if not task:
                return reader.read(root)
            if hasattr(reader, "TASKS"):
                return reader.read(root, task)
            raise DataError(f"{root}: this data set has one task only; leave out '#{task}'")
    wanted = "\n".join(f"  - {reader.LOOKS_FOR}" for reader in readers)
    held = ", ".join(sorted(p.name for p in root.iterdir())[:8]) if root.is_dir() else "one file"
    raise DataError(
        f"{root}: no layout recognised. It holds: {held or 'nothing'}. Looked for:\n{wanted}"
    )
