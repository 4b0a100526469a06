"""How far a network's answers can be believed.

Three questions, all answered from logits: does "90 % sure" mean right nine times in ten
(calibration); how right is a network that may keep silent (coverage); and does it notice a car
that it never learned (rejection)? McNemar's test tells two networks apart on the same photos.

Logits are (photos, classes) float32 on the CPU, labels (photos,) int64, everything else numpy. An
answer counts as right as in `carlib.evaluation.metrics`: the true class alone scores highest.
Metrics lie in 0…1. `RunError` is raised for what has no answer: no photos, arrays of different
lengths, labels of no class, scores that are not finite.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from sklearn.model_selection import KFold

from carlib.errors import RunError
from carlib.evaluation.metrics import ranks_of

BINS = 15  # of the confidence, as in Guo 2017
TEMPERATURES = (0.02, 50.0)  # where a temperature is looked for

# --- calibration --------------------------------------------------------------------------------


def probabilities(logits: torch.Tensor, temperature: float = 1.0) -> np.ndarray:
    """Softmax of logits / temperature; (photos, classes) float64.

    Double precision, because single rounds many sure answers to exactly 1 and so loses their order.
    """
    if not 0 < temperature < np.inf:
        raise RunError(f"a temperature is a number above zero, not {temperature}")
    return (logits.double() / temperature).softmax(1).numpy()


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """How often the network is right against how sure it is, by equal bins of the confidence.

    The confidence is the largest probability. One row per bin (low, high] that has photos; columns
    `confidence` and `accuracy` (means), `photos` (count), `low`, `high` (edges).
    """
    confidence, right = answers_of(probabilities, labels)
    if bins < 1:
        raise RunError(f"a reliability table needs at least one bin, not {bins}")
    edges = np.linspace(0, 1, bins + 1)
    # Rounding may lift a probability above one by the last digit.
    numbers = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    table = pd.DataFrame({"bin": numbers, "confidence": confidence, "accuracy": right})
    table = table.groupby("bin").agg(
        confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), photos=("bin", "size")
    )
    filled = table.index.to_numpy()
    return table.assign(low=edges[filled], high=edges[filled + 1]).reset_index(drop=True)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: mean gap of confidence and accuracy (Guo 2017, arXiv:1706.04599).

    Every bin counts by its photos. Chance alone makes gaps, so that few photos never give zero.
    """
    table = reliability(probabilities, labels, bins)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float(np.average(gaps, weights=table["photos"]))


def fit_temperature(logits: torch.Tensor, labels: np.ndarray) -> float:
    """The temperature under which the labels are likeliest (Guo 2017, arXiv:1706.04599).

    Above one the network was too sure, below one not sure enough; the answers stay the same.
    """
    check_predictions(logits, labels)
    # A sum, to which (log T)² / 2 adds what is believed before any photo: T is near one, within a
    # factor e or so. Some hundreds of photos drown it; but where all answers are right the
    # likelihood alone would have T go to zero, and where few photos are wrong to anything.
    scores, truth = logits.double(), torch.from_numpy(labels)

    def surprise(log_t: float) -> float:
        loss = F.cross_entropy(scores / np.exp(log_t), truth, reduction="sum")
        return float(loss) + log_t**2 / 2

    best = minimize_scalar(surprise, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(best.x))


def cross_fitted(
    logits: torch.Tensor, labels: np.ndarray, seed: int = 0, folds: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (photos, classes) of every photo under a temperature that never saw it.

    Each fold takes the temperature fitted on all others, so nothing is scored on what fitted it.
    The folds are drawn with `seed` by position, thus the same for all networks on one split. Also
    returns the temperatures (folds,), that of fold i fitted without fold i.
    """
    check_predictions(logits, labels)
    if not 2 <= folds <= len(labels):
        raise RunError(f"{len(labels)} photos cannot be divided into {folds} folds, 2 or more")
    calibrated, temperatures = np.empty(logits.shape), np.empty(folds)
    parts = KFold(folds, shuffle=True, random_state=seed).split(labels)
    for number, (others, fold) in enumerate(parts):
        temperatures[number] = fit_temperature(logits[others], labels[others])
        calibrated[fold] = probabilities(logits[fold], temperatures[number])
    return calibrated, temperatures


# --- answering only when sure -------------------------------------------------------------------


def coverage_curve(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Accuracy of a network that answers the surest photos only (Geifman 2017, arXiv:1705.08500).

    One row per distinct confidence, surest first; columns `coverage` (share of photos answered),
    `accuracy` (of these), `threshold` (least confidence answered). Photos that are equally sure
    are answered together or not at all: no threshold could part them.
    """
    confidence, right = answers_of(probabilities, labels)
    thresholds, which = np.unique(-confidence, return_inverse=True)
    answered = np.bincount(which).cumsum()
    hits = np.bincount(which, weights=right).cumsum()
    return pd.DataFrame(
        {
            "coverage": answered / len(labels),
            "accuracy": hits / answered,
            "threshold": -thresholds,
        }
    )


def accuracy_at(curve: pd.DataFrame, coverage: float) -> float:
    """Accuracy where at least the share `coverage` of the photos, in ]0, 1], is answered.

    Ties can make it more photos than asked for, never fewer.
    """
    if not 0 < coverage <= 1:
        raise RunError(f"a coverage lies above 0 and at most at 1, not at {coverage}")
    enough = curve["coverage"].to_numpy() >= coverage - 1e-9  # 0.1 + 0.2 is to mean 0.3
    return float(curve["accuracy"].to_numpy()[enough.argmax()])


def area_under_coverage(curve: pd.DataFrame) -> float:
    """Mean accuracy over all coverages; one less the mean risk of Geifman 2019 (arXiv:1805.08206).

    Of two networks equally often right, it prefers the one that is surer where it is right.
    """
    steps = np.diff(curve["coverage"], prepend=0.0)
    return float((curve["accuracy"] * steps).sum())


def trust_metrics(logits: torch.Tensor, labels: np.ndarray) -> dict[str, float]:
    """Calibration and coverage in numbers, for a record; needs two photos.

    `ece` as the network comes and `ece_calibrated` under cross-fitted temperatures, which also
    order the photos for the coverage; `temperature` is fitted on all photos, for use on new ones;
    `accuracy_at_80` answers the surest 0.8 of the photos, `accuracy_at_80_gain` more often right
    than when answering all.
    """
    calibrated, _ = cross_fitted(logits, labels)
    curve = coverage_curve(calibrated, labels)
    surest = accuracy_at(curve, 0.8)
    return {
        "ece": calibration_error(probabilities(logits), labels),
        "ece_calibrated": calibration_error(calibrated, labels),
        "temperature": fit_temperature(logits, labels),
        "accuracy_at_80": surest,
        "accuracy_at_80_gain": surest - accuracy_at(curve, 1.0),
        "area_under_coverage": area_under_coverage(curve),
    }


# --- shared -------------------------------------------------------------------------------------


def answers_of(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest probability of every photo, and whether the answer is right; both (photos,)."""
    check_predictions(probabilities, labels)
    if probabilities.min() < 0 or not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise RunError("these are no probabilities: make them of logits with `probabilities`")
    right = ranks_of(torch.from_numpy(probabilities), labels) < 1
    return probabilities.max(1), right


def check_predictions(scores: np.ndarray | torch.Tensor, labels: np.ndarray) -> None:
    """Refuse scores (photos, classes) and labels (photos,) that cannot be judged."""
    if scores.ndim != 2:
        raise RunError(f"scores must be (photos, classes), not of shape {tuple(scores.shape)}")
    if len(scores) != len(labels):
        raise RunError(f"{len(scores)} photos but {len(labels)} labels: are they of one split?")
    if not len(labels):
        raise RunError("there are no photos to judge")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise RunError(f"labels must lie in 0…{scores.shape[1] - 1}; leave out unlabelled photos")
    if not torch.as_tensor(scores).isfinite().all():
        raise RunError("scores hold values that are not finite: the network has diverged")
