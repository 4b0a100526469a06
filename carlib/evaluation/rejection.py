"""Is this a car that the network knows? Scores, and how well they tell."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from carlib.errors import RunError
from carlib.evaluation.calibration import probabilities
from carlib.evaluation.metrics import bootstrap, interval

CELLS = 2**22  # similarities held at once: 16 MiB of float32
REFUSED = 20  # fpr95 lets one known car in so many be refused


# --- cars never learned -------------------------------------------------------------------------
# Scores (photos,): the larger, the more surely the photo shows one of the known cars.


def max_softmax(logits: torch.Tensor) -> np.ndarray:
    """The largest probability (Hendrycks 2017, arXiv:1610.02136); (photos,) float64."""
    return probabilities(logits).max(1)


def energy(logits: torch.Tensor) -> np.ndarray:
    """log Σ exp(logits), the negative free energy (Liu 2020, arXiv:2010.03759); (photos,).

    Unlike the softmax it keeps how large the logits are altogether.
    """
    return logits.double().logsumexp(1).numpy()


def nearest_similarity(
    features: np.ndarray | torch.Tensor, gallery: np.ndarray | torch.Tensor
) -> np.ndarray:
    """Cosine similarity in −1…1 to the nearest row of the gallery; (photos,) float32.

    Sun 2022 (arXiv:2204.06507) with similarity for distance, which on unit vectors orders alike.
    `features` is (photos, dims), `gallery` (known photos, dims), such as those of training.
    """
    rows, known = (torch.as_tensor(part).float() for part in (features, gallery))
    if rows.ndim != 2 or known.ndim != 2 or rows.shape[1] != known.shape[1]:
        shapes = f"{tuple(rows.shape)} and {tuple(known.shape)}"
        raise RunError(f"features and gallery must be (photos, dims) with equal dims, not {shapes}")
    if not len(known):
        raise RunError("a gallery of no photos has no nearest one")
    # Checked, since the largest of several values is "not a number" wherever one of them is.
    if not (rows.isfinite().all() and known.isfinite().all()):
        raise RunError("features or gallery hold values that are not finite")
    known = F.normalize(known).T
    blocks = F.normalize(rows).split(max(1, CELLS // known.shape[1]))
    return torch.cat([(block @ known).amax(1) for block in blocks]).numpy()


def rejection(known: np.ndarray, unknown: np.ndarray, seed: int = 0) -> dict:
    """How well scores of known cars (photos,) are told from those of unknown ones (photos,).

    `auroc`, the chance that a known car scores higher than an unknown one; `fpr95`, the share of
    unknown cars accepted by the threshold that accepts 95 % of the known. Each has a 95 %
    bootstrap interval, for which known and unknown photos are drawn apart from each other.
    """
    known, unknown = np.asarray(known, float), np.asarray(unknown, float)
    for name, scores in (("known", known), ("unknown", unknown)):
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise RunError(f"the scores of {name} cars must be finite numbers, at least one")
    others = np.random.default_rng((seed, 1))  # not the stream that draws the known

    def drawn(rows: np.ndarray) -> tuple[float, float]:
        return _separation(known[rows], unknown[others.integers(0, len(unknown), len(unknown))])

    _, draws = bootstrap(len(known), drawn, seed)
    metrics = {}
    for column, name in enumerate(("auroc", "fpr95")):
        metrics[name] = _separation(known, unknown)[column]
        metrics[f"{name}_interval"] = interval(draws[:, column])
    return metrics


def _separation(known: np.ndarray, unknown: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve, ties counting half, and false positive rate at 95 % true ones.

    Counted here because a bootstrap asks for it a thousand times; the area is scikit-learn's.
    """
    known, unknown = np.sort(known), np.sort(unknown)
    below = np.searchsorted(unknown, known, side="left")
    not_above = np.searchsorted(unknown, known, side="right")
    threshold = known[len(known) // REFUSED]
    area = (below + not_above).mean() / 2 / len(unknown)
    return float(area), float((unknown >= threshold).mean())
