"""Is a heat map true, where the truth is known? Measures on pairs of photos that differ in a cause.

A pair is a photo and its counterfactual: the same but for some parts, the *cause*, which are those
of another class. Whatever a network's answer does between the two, those parts did it. Here are
maps, masks and answers as arrays; each measure gives one value per pair, NaN where a pair cannot be
asked. `carlib.explain.counterfactual` makes the arrays.

Sources: target sensitivity (here `contrastivity`), single deletion, preservation and deletion
check, after FunnyBirds (Hesse 2023, arXiv:2308.06248) with changes. The two classes are those of a
pair, not of one photo; shares stand in the place of sums, and parts are not widened; train pairs
choose the threshold of the checks, by these two alone; a tie counts one half; correlations are not
rescaled to 0…1. `undistracted` is not its distractibility, which counts irrelevant parts. That
measures of maps disagree with each other and with known truths was shown before: Tomsett 2020
(arXiv:1912.01451), Gevaert 2022 (arXiv:2202.12270), Brandt 2023 (arXiv:2308.03161), Hedström 2023
(arXiv:2302.07265).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from carlib.evaluation.metrics import bootstrap_mean, interval
from carlib.explain.measures import energy_inside, rank_correlation, with_interval

THRESHOLDS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Shares of a map from which on a part counts as marked; train pairs choose."""


# --- one value per pair -------------------------------------------------------------------------


def agrees(more: np.ndarray, less: np.ndarray) -> np.ndarray:
    """1 where what should be more is more, one half where both are equal, else 0; NaN stays."""
    return (np.sign(more - less) + 1) / 2


def cause_shares(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of each map that lies in the cause (pairs, photo | counterfactual, own | other class).

    `maps` (pairs, 2, 2, side, side), the first class being the one that the photo shows and the
    second the one whose parts the counterfactual has; `masks` (pairs, side, side) bool.
    """
    repeated = np.repeat(masks, 4, axis=0)
    return energy_inside(maps.reshape(-1, *maps.shape[3:]), repeated).reshape(maps.shape[:3])


def contrastivity(shares: np.ndarray) -> np.ndarray:
    """Does a map of a class lie on a part more where the part speaks for that class? In 0…1.

    The photo's map of the photo's class should have more of itself in the cause than the same
    photo's map of the other class, and the other way about in the counterfactual. One half is what
    a map has that does not care for the class. `shares` as `cause_shares` gives them.
    """
    photo, counter = shares[:, 0], shares[:, 1]
    return (agrees(photo[:, 0], photo[:, 1]) + agrees(counter[:, 1], counter[:, 0])) / 2


def movement(shares: np.ndarray) -> np.ndarray:
    """Does a class's map leave a part that is swapped for another class's? In 0…1, blind is .5.

    As `contrastivity`, but of one class on both photos instead of both classes on one photo.
    """
    photo, counter = shares[:, 0], shares[:, 1]
    return (agrees(photo[:, 0], counter[:, 0]) + agrees(counter[:, 1], photo[:, 1])) / 2


def correctness(shares: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of the map in the cause over the cause's share of the photo; 1 is a blind map's.

    Mean of the photo's map and the counterfactual's, each of the class that it shows.
    """
    area = masks.mean((1, 2))
    own = (shares[:, 0, 0] + shares[:, 1, 1]) / 2
    return np.where(area > 0, own / np.maximum(area, 1e-8), np.nan)


def part_shares(maps: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Share of each map in each part, (photos, parts), NaN where the part is not to be seen.

    `maps` (photos, side, side), `parts` (photos, parts, side, side) bool.
    """
    inside = np.einsum("nhw,nphw->np", maps, parts, dtype=np.float64)
    total = np.maximum(maps.sum((1, 2), dtype=np.float64), 1e-8)
    return np.where(parts.any((2, 3)), inside / total[:, None], np.nan)


def single_deletion(shares: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Spearman's correlation of what a map gives to parts with what they do, (photos,) in -1…1.

    `shares` as `part_shares` gives them, `drops` (photos, parts) of the class's logit when the part
    alone is taken away. NaN for photos of fewer than three parts, or where no part does anything; 0
    for a map that gives all parts the same.
    """
    values = np.full(len(shares), np.nan)
    for number, (share, drop) in enumerate(zip(shares, drops, strict=True)):
        seen = ~np.isnan(share)
        if seen.sum() >= 3 and np.ptp(drop[seen]) > 0:
            values[number] = rank_correlation(share[None, seen], drop[None, seen])[0]
    return values


def removals(
    shares: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> set[tuple[int, frozenset[int]]]:
    """What `part_checks` asks for: photos and the parts that are taken away from each."""
    asked: list[tuple[int, frozenset[int]]] = []
    for threshold in thresholds:
        part_checks(shares, threshold, lambda *key: asked.append(key) or 0)
    return set(asked)


def part_checks(
    shares: np.ndarray, threshold: float, answer: Callable[[int, frozenset[int]], int]
) -> tuple[np.ndarray, np.ndarray]:
    """Preservation and deletion check of every photo, 1 where it holds, else 0.

    A part is marked where the map's share in it is larger than the threshold. Preservation: the
    answer stays when all other parts are taken away. Deletion: it changes without the marked ones.
    `answer(photo, parts)` is the network's, with those parts taken away.
    """
    kept, gone = np.zeros(len(shares)), np.zeros(len(shares))
    for number, share in enumerate(shares):
        seen = frozenset(np.flatnonzero(~np.isnan(share)).tolist())
        marked = frozenset(np.flatnonzero(share > threshold).tolist())
        whole = answer(number, frozenset())
        kept[number] = answer(number, seen - marked) == whole
        gone[number] = answer(number, marked) != whole
    return kept, gone


def best_threshold(
    shares: np.ndarray,
    answer: Callable[[int, frozenset[int]], int],
    thresholds: Sequence[float] = THRESHOLDS,
) -> float:
    """The threshold with the highest mean of both checks; the lowest of those that tie."""
    return max(thresholds, key=lambda t: np.mean(part_checks(shares, t, answer)))


def undistracted(maps: np.ndarray, changed: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """Share of each map outside `changed`, what could be exchanged and the answer stayed.

    All arrays (photos, …): maps and `changed` (side, side), `stays` bool. NaN where it changed.
    """
    return np.where(stays, 1 - energy_inside(maps, changed), np.nan)


# --- over pairs, and over networks --------------------------------------------------------------


def mean_of(name: str, values: np.ndarray) -> dict[str, object]:
    """Mean of the values that are numbers, and its 95 % interval by resampling pairs.

    Nothing where none is.
    """
    values = values[~np.isnan(values)]
    return with_interval(name, values) if len(values) else {}


def ladder(
    values: Mapping[str, np.ndarray], steps: Mapping[str, np.ndarray]
) -> list[dict[str, object]]:
    """Measures on pairs of each step: a row per step, with intervals and the number of pairs.

    `values` (pairs,) by the measure's name, `steps` (pairs,) bool by the step's.
    """
    rows = []
    for step, which in steps.items():
        row: dict[str, object] = {"step": step, "pairs": int(which.sum())}
        for name, value in values.items():
            row |= mean_of(name, value[which])
        rows.append(row)
    return rows


def agreement(
    rows: pd.DataFrame, cheap: Mapping[str, int], true: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """Which cheap measure ranks maps as a true one does? A row per pair of measures, best first.

    `rows` has a column "network", one row per kind of map of each network, and the measures;
    `cheap` says of each 1 where higher is better, else -1. The number is the mean over networks of
    Spearman's correlation over the kinds of map, its interval is by resampling networks.
    """
    found = []
    for measure, sign in cheap.items():
        for truth in true:
            each = np.array([
                rank_correlation(sign * of[[measure]].to_numpy().T, of[[truth]].to_numpy().T)[0]
                for _, of in rows.dropna(subset=[measure, truth]).groupby("network")
            ])  # fmt: skip
            row = {"measure": measure, "truth": truth, "networks": len(each)}
            mean, draws = bootstrap_mean(each, seed)
            found.append(row | {"correlation": mean, "correlation_interval": interval(draws)})
    return pd.DataFrame(found).sort_values(["truth", "correlation"], ascending=[True, False])
