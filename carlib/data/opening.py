"""From a name or a path to a catalog: the drawn cars, or the reader that knows the layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from carlib.data.catalog import Catalog
from carlib.data.table import TARGETS
from carlib.errors import DataError


def open_catalog(name_or_path: str | os.PathLike[str], **options: Any) -> Catalog:
    """Open a data set: "showroom" for the drawn cars, else a folder or file in any known layout.

    A folder that is called showroom is opened as "./showroom".

    Words after "#" choose: a task where a data set has several, such as CompCars'
    `PATH#verification`, and what its classes are, such as `PATH#make` (see `Catalog.by`). Options
    go to the opener. Raises DataError that says what was looked for.
    """
    name, words = str(name_or_path), []
    while "#" in name and not os.path.exists(os.path.expanduser(name)):  # a name may hold one too
        name, _, word = name.rpartition("#")
        words = [word, *words] if word else words
    for word in (word for word in words if word not in TARGETS):
        options["task"] = word
    if name == "showroom":
        from carlib.data.drawn import open_showroom

        catalog = open_showroom(**options)
    else:
        from carlib.data.readers import read_any

        if not name:
            raise DataError("no data set is named; is a variable empty? Give a folder")
        catalog = read_any(Path(os.path.expanduser(name)), **options)  # "~name" may be a folder
    for word in (word for word in words if word in TARGETS):
        catalog = catalog.by(word)
    return catalog
