"""Do two networks differ, or could chance have made the difference?

Chance has two parts: which photos were scored, and which seeds were trained. A mean over seeds, and
a difference of two such means, carry an interval of both: seeds and photos are drawn anew together,
each by itself (the pigeonhole bootstrap, Owen 2007, arXiv:0712.1111).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from carlib.errors import RunError
from carlib.evaluation.metrics import RESAMPLES, bootstrap, interval

# --- means over seeds ---------------------------------------------------------------------------


def mean_over_seeds(
    sums: np.ndarray, counts: np.ndarray | None = None, seed: int = 0
) -> tuple[float, list[float]]:
    """The mean of several seeds on the same photos, and its 95 % interval.

    `sums` (seeds, units): a unit is a photo, right (1) or wrong (0), or, as photos of one class
    share their luck, a class with the sum of what its photos scored; `counts` (units,) has the
    photos of each unit, one without it. With one seed the interval is of the photos alone. Raises
    `RunError` where the shapes do not fit.
    """
    (sums,), counts = _checked([sums], counts)
    (draws,) = _drawn_means([sums], counts, seed)
    return float((sums.sum(1) / counts.sum()).mean()), interval(draws)


def paired_difference(
    one: np.ndarray, other: np.ndarray, counts: np.ndarray | None = None, seed: int = 0
) -> tuple[float, list[float]]:
    """One way's mean less the other's, each over its seeds, on the same photos or classes, and the
    95 % interval.

    Both are as `sums` of `mean_over_seeds`, with the same units and as many seeds as each has; they
    share the draws of units, and seeds are drawn for each. Raises `RunError` where they do not fit.
    """
    (one, other), counts = _checked([one, other], counts)
    first, second = _drawn_means([one, other], counts, seed)
    value = (one.sum(1).mean() - other.sum(1).mean()) / counts.sum()
    return float(value), interval(first - second)


def _drawn_means(ways: list[np.ndarray], counts: np.ndarray, seed: int) -> list[np.ndarray]:
    """Means (resamples,) of each way, units drawn once for all ways, seeds for each.

    One seed fewer is drawn than there are: draws of so few would spread too little otherwise, and
    with one fewer their variance is that of the mean (Rao and Wu 1988, JASA 83, 231).
    """
    generator = np.random.default_rng(seed)
    units = len(counts)
    drawn = generator.multinomial(units, np.full(units, 1 / units), RESAMPLES)
    photos = drawn @ counts
    means = []
    for sums in ways:
        seeds = len(sums)
        times = generator.multinomial(max(seeds - 1, 1), np.full(seeds, 1 / seeds), RESAMPLES)
        total = ((times @ sums) * drawn).sum(1) / times.sum(1)
        means.append(total / photos)
    return means


def _checked(
    ways: list[np.ndarray], counts: np.ndarray | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """As numbers, without the units that have no photo."""
    ways = [np.asarray(sums, float) for sums in ways]
    units = ways[0].shape[-1] if ways[0].ndim else 0
    counts = np.ones(units) if counts is None else np.asarray(counts, float)
    if any(w.ndim != 2 or not len(w) or w.shape[1] != units for w in ways) or len(counts) != units:
        shapes = ", ".join(str(sums.shape) for sums in (*ways, counts))
        raise RunError(
            f"scores must be (seeds, units) and counts (units,) of the same; not {shapes}"
        )
    there = counts > 0
    if not there.any():
        raise RunError("no unit has a photo, so there is no mean of them")
    return [sums[:, there] for sums in ways], counts[there]


# --- two networks -------------------------------------------------------------------------------


def mcnemar(
    labels: np.ndarray, answers_a: np.ndarray, answers_b: np.ndarray, seed: int = 0
) -> dict:
    """Is one of two networks better on the same photos? McNemar 1947 (doi:10.1007/BF02295996).

    Only photos that one of them gets right and the other wrong tell them apart: `only_a_right`,
    `only_b_right` and the exact two-sided binomial `p_value`, one where there is no such photo.
    `difference` is accuracy b − a, with a 95 % bootstrap interval over photos, both networks on
    the same draws. All arguments are (photos,) integers.
    """
    labels, a, b = (np.asarray(part) for part in (labels, answers_a, answers_b))
    if labels.ndim != 1 or not len(labels) or not labels.shape == a.shape == b.shape:
        shapes = f"{labels.shape}, {a.shape} and {b.shape}"
        raise RunError(f"labels and answers must be of the same photos, at least one; not {shapes}")
    gain = (b == labels).astype(int) - (a == labels).astype(int)
    only_a, only_b = int((gain < 0).sum()), int((gain > 0).sum())
    difference, draws = bootstrap(len(gain), lambda rows: gain[rows].mean(), seed)
    discordant = only_a + only_b
    return {
        "only_a_right": only_a,
        "only_b_right": only_b,
        "p_value": float(binomtest(only_b, discordant).pvalue) if discordant else 1.0,
        "difference": float(difference),
        "difference_interval": interval(draws),
    }
