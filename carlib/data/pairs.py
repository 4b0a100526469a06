"""Pairs of photos and the question "are these two the same model?", from any catalog.

Three difficulties, as CompCars has them: in an *easy* pair both photos show the car from the same
side (where that is unknown, a negative easy pair is of two makes), a *medium* pair is any pair, and
the negatives of a *hard* one are two models of one make. Which classes meet is drawn anew for every
list. A list is balanced and shows no photo twice, so that no single photo decides many pairs.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd

from carlib.data.catalog import Catalog
from carlib.data.readers.pair_list import LEVELS
from carlib.errors import DataError
from carlib.seeding import seed_of


def make_pairs(catalog: Catalog, level: str, count: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """A list of pairs: columns `a`, `b` (paths) and `same` (bool), half of them the same class.

    `count` pairs, or as many as the photos allow with none shown twice. The same catalog, level and
    seed give the same list. Raises `DataError` when no balanced list can be made.
    """
    if level not in LEVELS:
        raise DataError(f"unknown difficulty {level!r}; known: {', '.join(LEVELS)}")
    if (catalog.labels < 0).any():
        raise DataError(f"{catalog.name}: photos without a label cannot be paired")
    generator = np.random.default_rng(seed_of(seed, LEVELS.index(level)))
    table = catalog.table.assign(label=catalog.labels).sort_values("path", ignore_index=True)
    for_same, for_other = _halves(table, generator)
    same = _positive(table, for_same, level, generator)
    other = _negative(table, for_other, level, generator)
    half = min(len(same), len(other), max(1, count // 2))
    if not half:
        raise DataError(
            f"{catalog.name}: no balanced list of {level} pairs: {len(same)} pairs of one class, "
            f"{len(other)} of two; it needs classes of two photos"
            + (" and makes of two classes" if level == "hard" else "")
        )
    rows = np.concatenate([same[:half], other[:half]])
    answer = np.repeat([True, False], half)
    order = generator.permutation(2 * half)
    paths = table["path"].to_numpy(object)
    return pd.DataFrame(
        {"a": paths[rows[order, 0]], "b": paths[rows[order, 1]], "same": answer[order]}
    )


def make_lists(catalog: Catalog, level: str, number: int, count: int = 20_000) -> pd.DataFrame:
    """A `number` of lists below each other, or as many as come out.

    Of a handful of photos not every draw has pairs of both kinds. Raises what `make_pairs` does
    where none has.
    """
    lists = []
    for seed in range(number):
        with contextlib.suppress(DataError):
            lists.append(make_pairs(catalog, level, count, seed))
    return pd.concat(lists or [make_pairs(catalog, level, count)], ignore_index=True)


def has_pairs(catalog: Catalog, level: str, number: int = 10) -> bool:
    """Would `make_lists` give any?"""
    try:
        return len(make_lists(catalog, level, number, count=2)) > 0
    except DataError:
        return False


def pair_rows(pairs: pd.DataFrame, catalog: Catalog) -> np.ndarray:
    """Rows of the catalog's table for both photos of every pair, (pairs, 2) int64.

    Raises `DataError` that counts and names photos which the catalog does not have.
    """
    return pair_positions(pairs, catalog.table["path"].to_numpy(object), catalog.name)


def pair_positions(pairs: pd.DataFrame, paths: np.ndarray, where: str) -> np.ndarray:
    """Where both photos of every pair are among `paths`, (pairs, 2) int64."""
    place = pd.Series(np.arange(len(paths)), index=paths)
    positions = place.reindex(pairs[["a", "b"]].to_numpy(object).ravel())
    if positions.isna().any():
        absent = positions.index[positions.isna()].unique()
        raise DataError(
            f"{where}: {len(absent)} photos of the pairs are not there, "
            f"such as {', '.join(map(str, absent[:3]))}"
        )
    return positions.to_numpy(np.int64).reshape(-1, 2)


# --- who meets whom -----------------------------------------------------------------------------


def _halves(table: pd.DataFrame, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Every class's photos in random order, half of them for each kind of pair."""
    order = generator.permutation(len(table))
    groups = table.iloc[order].groupby("label", sort=False)
    place, size = groups.cumcount().to_numpy(), groups["path"].transform("size").to_numpy()
    first = place < 2 * np.ceil(size / 4)  # an even number, so that none is left over
    return order[first & (size > 1)], order[~(first & (size > 1))]


def _positive(
    table: pd.DataFrame, rows: np.ndarray, level: str, generator: np.random.Generator
) -> np.ndarray:
    """Photos of one class two by two, (pairs, 2), in random order; easy ones from one side."""
    part = table.iloc[rows]
    keys = [part["label"]]
    if level == "easy":
        keys.append(part["viewpoint"].fillna("unknown"))
    place = part.groupby(keys, sort=False).cumcount().to_numpy()
    number = part.groupby(keys, sort=False).ngroup().to_numpy()
    order = np.lexsort((place, number))
    rows, number = rows[order], number[order]
    first = np.flatnonzero((place[order][:-1] % 2 == 0) & (number[:-1] == number[1:]))
    pairs = np.stack([rows[first], rows[first + 1]], axis=1)
    return pairs[generator.permutation(len(pairs))]


def _negative(
    table: pd.DataFrame, rows: np.ndarray, level: str, generator: np.random.Generator
) -> np.ndarray:
    """Photos of two classes two by two, (pairs, 2), in random order."""
    if level == "hard":  # two models of one make: it must be known
        rows = rows[table["make"].iloc[rows].notna().to_numpy(bool)]
    part = table.iloc[rows]
    make = part["make"].fillna("unknown").to_numpy(object)
    viewpoint = part["viewpoint"].fillna("").to_numpy(object)
    label = part["label"].to_numpy()
    group = {
        "easy": viewpoint,
        "medium": np.full(len(part), "", object),
        "hard": make,
    }[level]
    parts = []
    for name in sorted(set(group)):
        of_group = np.flatnonzero(group == name)
        # From one side any other model; where the side is unknown, any other make.
        apart = make if level == "easy" and name == "" else label
        parts.append(_apart(rows[of_group], apart[of_group], generator))
    pairs = np.concatenate(parts) if parts else np.empty((0, 2), np.int64)
    return pairs[generator.permutation(len(pairs))]


def _apart(rows: np.ndarray, keys: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Rows two by two such that no pair shares a key, as many as there can be, (pairs, 2).

    With the keys in random order, every row meets the one half the length further on: they share a
    key only where one key has more than half of all rows, and then its surplus is left out first.
    (In the order of the keys, every list would pair the same classes.)
    """
    _, codes, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = generator.permutation(len(rows))
    rows, codes = rows[order], codes[order]
    if len(counts) and (most := counts.argmax()) >= 0 and counts[most] > len(rows) / 2:
        surplus = np.flatnonzero(codes == most)[len(rows) - counts[most] :]
        rows, codes = np.delete(rows, surplus), np.delete(codes, surplus)
    order = np.argsort(generator.permutation(len(counts))[codes], kind="stable")
    half = len(rows) // 2
    return np.stack([rows[order[:half]], rows[order[half : 2 * half]]], axis=1)
