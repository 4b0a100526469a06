"""Lists of photo pairs in CompCars' format: a line `photo photo 0|1` each, 1 for the same model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from carlib.errors import DataError
from carlib.files import read_file

LEVELS = ("easy", "medium", "hard")  # how hard the pairs of a list are to tell
COLUMNS = ("a", "b", "same")  # two paths, and whether they are of one class


def read_pairs(file: Path) -> pd.DataFrame:
    """Read a list in CompCars' format; `DataError` names the file and the line that is none."""
    try:
        text = read_file(file).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{file}: cannot be read ({why})") from None
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or words[2] not in ("0", "1"):
            raise DataError(f"{file}, line {number}: expected two photos and 0 or 1, found {line}")
        rows.append((words[0], words[1], words[2] == "1"))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"same": bool})
