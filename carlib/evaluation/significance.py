"""Do two networks differ, or could chance have made the difference?"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from carlib.errors import RunError
from carlib.evaluation.metrics import bootstrap, interval

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
