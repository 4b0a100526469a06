"""Do two networks differ, or could chance have made the difference?

Chance has two parts: which photos were scored, and which seeds were trained. A mean over seeds, and
a difference of two such means, carry an interval of both: seeds and photos are drawn anew together,
each by itself (the pigeonhole bootstrap, Owen 2007, arXiv:0712.1111). Such an interval is right
where photos or classes vary more than seeds do. Where seeds vary more, three of them make it too
narrow (simulated: it then holds the truth in about three cases of four).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from carlib.errors import RunError
from carlib.evaluation.metrics import RESAMPLES, bootstrap_mean, interval
from carlib.experiment.resampling import class_draws

# --- means over seeds ---------------------------------------------------------------------------


def paired_difference(
    one: np.ndarray, other: np.ndarray, counts: np.ndarray | None = None, seed: int = 0
) -> tuple[float, list[float]]:
    """One way's mean less the other's, each over its seeds, on the same photos or classes, and the
    95 % interval.

    Each is (seeds, units), with as many seeds as it has: a unit is a photo, right (1) or wrong (0),
    or, as photos of one class share their luck, a class with the sum of what its photos scored;
    `counts` (units,) has the photos of each unit, one without it. Both share the draws of units,
    and seeds are drawn for each; with one seed the interval is of the photos alone. Raises
    `RunError` where the shapes do not fit.
    """
    (one, other), counts = _checked([one, other], counts)
    draws = [unit_draws(sums, counts, seed) for sums in (one, other)]
    return _mean(one, counts) - _mean(other, counts), difference_interval(*draws, seed)


def unit_draws(sums: np.ndarray, counts: np.ndarray, seed: int = 0) -> np.ndarray:
    """Each seed's mean (seeds, resamples) with photos or classes drawn anew; the same draws for the
    same number of units.
    """
    drawn = class_draws(len(counts), RESAMPLES, seed)
    return (sums @ drawn.T) / np.maximum(drawn @ counts, 1e-12)


def over_seeds(draws: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means (resamples,) over seeds drawn anew, of what each seed's draws (seeds, resamples) are.

    One seed fewer is drawn than there are: draws of so few would spread too little otherwise, and
    with one fewer their variance is that of the mean (Rao and Wu 1988, JASA 83, 231).
    """
    seeds, resamples = draws.shape
    generator = np.random.default_rng([seed, seeds])
    times = generator.multinomial(max(seeds - 1, 1), np.full(seeds, 1 / seeds), resamples)
    return (times.T * draws).sum(0) / times.sum(1)


def difference_interval(one: np.ndarray, other: np.ndarray, seed: int = 0) -> list[float]:
    """The 95 % interval of a difference of two ways, from draws (seeds, resamples) of each on the
    same photos or classes.
    """
    return interval(over_seeds(one, seed) - over_seeds(other, seed + 1))


def _mean(sums: np.ndarray, counts: np.ndarray) -> float:
    return float((sums.sum(1) / counts.sum()).mean())


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
    difference, draws = bootstrap_mean(gain, seed)
    discordant = only_a + only_b
    return {
        "only_a_right": only_a,
        "only_b_right": only_b,
        "p_value": float(binomtest(only_b, discordant).pvalue) if discordant else 1.0,
        "difference": float(difference),
        "difference_interval": interval(draws),
    }
