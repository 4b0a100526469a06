"""Which photos of a class go to val: a hash decides, and copies stay together."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from carlib.data.digests import UNREADABLE
from carlib.data.table import photo_stem


def copy_groups(digests: np.ndarray) -> np.ndarray:
    """Group number (n,) per photo of these `digests`; photos that are the same byte for byte share
    one. Photos that cannot be read are groups of their own.
    """
    groups = np.arange(len(digests))
    first: dict[str, int] = {}
    for row in np.flatnonzero(digests != UNREADABLE):
        groups[row] = first.setdefault(digests[row], int(row))
    return groups


def choose_val(
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
    in_val = np.zeros(len(paths), dtype=bool)
    for candidates in by_class.values():
        wanted = _val_count(sum(len(rows) for _, _, rows in candidates), fraction)
        for _, _, rows in sorted(candidates):
            if len(rows) <= wanted:
                in_val[rows] = True
                wanted -= len(rows)
    return in_val


def _val_count(size: int, fraction: float) -> int:
    at_least = 1 if size >= 2 and fraction > 0 else 0
    return max(at_least, round(size * fraction))
