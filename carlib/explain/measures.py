"""Is a heat map true? Measures of it, the baselines that it has to beat, and sanity checks.

A map is true where changing what it marks changes the answer. Everything is done to the photo's
pixels in 0…1, before normalization. Maps are (photos, side, side) in 0…1, photos (photos, 3, side,
side), classes (photos,) the ones explained; each measure gives one value per photo.

Sources: insertion and deletion (Petsiuk 2018, RISE, arXiv:1806.07421); average drop and increase
(Chattopadhay 2018, arXiv:1710.11063); ROAD (Rong 2022, arXiv:2202.00449) by the grad-cam library;
pointing game (Zhang 2018, arXiv:1608.00507); energy (Wang 2020, arXiv:1910.01279); randomization
(Adebayo 2018, arXiv:1810.03292).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata

from carlib.errors import RunError
from carlib.evaluation.metrics import bootstrap_mean, interval
from carlib.evaluation.scorer import Scorer
from carlib.seeding import drawing_from

ROAD_SHARES = [20, 50, 80]
STEPS = 20  # in which pixels are taken away or brought back
BASELINES = ("random", "center", "edges")  # maps that know nothing of the network
VISIBLE = 0.005  # share of a photo from which on a thing counts as shown
BATCH = 64


# --- maps that know nothing of the network ------------------------------------------------------


def baseline_maps(photos: torch.Tensor, name: str, seed: int = 0) -> np.ndarray:
    """Maps (photos, side, side) float32 of one of BASELINES.

    "random" is smooth noise on a grid as coarse as a network's last map, "center" a bell in the
    middle of the photo, where cars are, "edges" the strength of the photo's own edges.
    """
    count, _, side, _ = photos.shape
    if name == "random":
        noise = torch.rand(count, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
        maps = F.interpolate(noise, (side, side), mode="bilinear", align_corners=False)[:, 0]
    elif name == "center":
        away = torch.linspace(-1, 1, side) ** 2
        maps = torch.exp(-2 * (away[:, None] + away)).expand(count, side, side)
    elif name == "edges":
        grey = photos.mean(1, keepdim=True)
        kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        kernels = torch.stack([kernel, kernel.T])[:, None]
        edges = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
        maps = _blurred(edges.norm(dim=1, keepdim=True), max(1, side // 32))[:, 0]
    else:
        raise RunError(f"unknown baseline {name!r}; known: {', '.join(BASELINES)}")
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low).clamp_min(1e-8)).numpy().astype(np.float32)


# --- what the answer does when pixels change ----------------------------------------------------


def insertion(scorer: Scorer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """Area under the class's probability as its blurred photo gets its pixels back, best first.

    Higher is better: what the map marks soon brings the answer back.
    """
    blurred = _blurred(photos, photos.shape[-1] // 8)
    return _area(scorer, blurred, photos, maps, classes)


def deletion(scorer: Scorer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """Area under the class's probability as pixels turn grey, those marked most first.

    Lower is better: without what the map marks the answer is soon gone.
    """
    return _area(scorer, photos, _grey(photos), maps, classes)


def average_drop(scorer: Scorer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """Share of the probability that is lost when only what is marked is left (lower is better)."""
    whole, left = _whole_and_masked(scorer, photos, maps, classes)
    return np.maximum(0, whole - left) / np.maximum(whole, 1e-8)


def increase(scorer: Scorer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """1 where the class is likelier when only what is marked is left, else 0 (higher is better)."""
    whole, left = _whole_and_masked(scorer, photos, maps, classes)
    return (left > whole).astype(float)


def road(scorer: Scorer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """Least minus most relevant first, half of it: pixels are removed so that it leaves no trace.

    Each removed pixel becomes the noisy mean of its neighbors (seconds per photo), ROAD_SHARES in
    percent of them. Higher is better, and zero is a map that knows nothing.
    """
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    combined = ROADCombined(percentiles=ROAD_SHARES)
    scores = []
    with drawing_from(0):  # the noise
        for photo, heat, number in zip(photos, maps, classes, strict=True):
            target = [ClassifierOutputSoftmaxTarget(int(number))]
            scores.append(combined(photo[None].to(scorer.device), heat[None], target, scorer))
    return np.concatenate(scores)


MEASURES: dict[str, Callable[..., np.ndarray]] = {
    "insertion": insertion, "deletion": deletion, "average_drop": average_drop,
    "increase": increase, "road": road,
}  # fmt: skip


HIGHER = {"insertion": 1, "deletion": -1, "average_drop": -1, "increase": 1, "road": 1}
"""Which way a measure says that a map is better: 1 where higher is, else -1."""
Values = dict[str, dict[str, np.ndarray]]  # (photos,) by the kind of map and the measure


def measured(
    scorer: Scorer,
    photos: torch.Tensor,
    maps: Mapping[str, np.ndarray],
    classes: Sequence[int],
    measures: Sequence[str] = tuple(MEASURES),
) -> Values:
    """What each measure says of each named set of maps, photo by photo."""
    return {
        name: {m: np.asarray(MEASURES[m](scorer, photos, heat, classes)) for m in measures}
        for name, heat in maps.items()
    }


def faithfulness(
    values: Values,
    maps: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray] | None = None,
) -> list[dict[str, object]]:
    """Means of the measures with 95 % intervals over the photos, a row per named set of maps.

    `masks` (photos, side, side) bool by name are where a map should lie, if that is known; then a
    row also has what `inside_scores` says of them.
    """
    rows = []
    for name, heat in maps.items():
        row: dict[str, object] = {"map": name}
        for measure, each in values[name].items():
            row |= with_interval(measure, each)
        rows.append(row | inside_scores(heat, masks or {}))
    return rows


def ahead_of(blind: Sequence[str], values: Values) -> list[dict[str, object]]:
    """By how much every kind of map is better than the best of those called `blind`, a row per
    measure and kind: the mean over photos of the paired difference, with its 95 % interval.
    """
    rows = []
    others = [name for name in values if name not in blind]
    for measure in next(iter(values.values())):
        sign = HIGHER[measure]
        best = max(blind, key=lambda name: sign * values[name][measure].mean())
        for name in others:
            paired = sign * (values[name][measure] - values[best][measure])
            about = {"measure": measure, "map": name, "than": best}
            rows.append(about | with_interval("difference", paired))
    return rows


def with_interval(name: str, values: np.ndarray) -> dict[str, object]:
    """The mean of values (photos,) and its 95 % interval by bootstrap over the photos."""
    mean, draws = bootstrap_mean(values)
    return {name: float(mean), f"{name}_interval": interval(draws)}


# --- where it points, when one knows where it should ---------------------------------------------


def energy_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of every map that lies inside its mask (photos, side, side) bool."""
    total = np.maximum(maps.sum((1, 2)), 1e-8)
    return (maps * masks).sum((1, 2)) / total


def times_area(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """That share over the mask's share of the photo: 1 is a map that does not care for it.

    Photos whose mask is empty are missing (NaN).
    """
    area = masks.mean((1, 2))
    return np.where(area > 0, energy_inside(maps, masks) / np.maximum(area, 1e-8), np.nan)


def points_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """1 where the largest value of a map lies in its mask, else 0."""
    place = maps.reshape(len(maps), -1).argmax(1)
    return masks.reshape(len(masks), -1)[np.arange(len(maps)), place].astype(float)


def inside_scores(maps: np.ndarray, masks: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Means of `times_area` and `points_inside` with 95 % intervals, of every mask by its name.

    Over the photos that show the thing: a mask of a few pixels is hit by chance or not at all. What
    no photo shows has no score.
    """
    scores: dict[str, object] = {}
    for name, mask in masks.items():
        shows = mask.mean((1, 2)) > VISIBLE
        if not shows.any():
            continue
        shown = maps[shows], mask[shows]
        scores |= with_interval(f"times_{name}_area", times_area(*shown))
        scores |= with_interval(f"points_in_{name}", points_inside(*shown))
    return scores


def rank_correlation(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Spearman's correlation of two maps of each photo, or of the rows of two tables; 0 where one
    of them is flat.
    """
    ranks = [rankdata(part.reshape(len(part), -1), axis=1) for part in (maps, others)]
    centered = [part - part.mean(1, keepdims=True) for part in ranks]
    product = (centered[0] * centered[1]).sum(1)
    norms = np.linalg.norm(centered[0], axis=1) * np.linalg.norm(centered[1], axis=1)
    return np.where(norms > 0, product / np.maximum(norms, 1e-8), 0.0)


# --- what the network needs ----------------------------------------------------------------------


def hidden(photos: torch.Tensor, masks: np.ndarray) -> torch.Tensor:
    """The photos with their masks (photos, side, side) bool painted in the photo's mean color."""
    cover = torch.from_numpy(np.ascontiguousarray(masks))[:, None]
    return torch.where(cover, _grey(photos), photos)


def hits(scorer: Scorer, photos: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """1 where the answer is right, else 0, (photos,)."""
    return (_chances(scorer, photos).argmax(1) == labels).astype(float)


def needs(
    scorer: Scorer, photos: torch.Tensor, labels: np.ndarray, masks: Mapping[str, np.ndarray]
) -> list[dict[str, object]]:
    """Accuracy with parts of the photos hidden, and what it costs; a row per name.

    `masks` (photos, side, side) bool are what is hidden. Only photos that show the part are scored,
    with and without it, so the columns `whole` and `hidden` compare the same photos.
    """
    right, rows = hits(scorer, photos, labels), []
    for name, mask in masks.items():
        shows = mask.any((1, 2))
        if not shows.any():
            continue
        without = hits(scorer, hidden(photos[shows], mask[shows]), labels[shows])
        row = {"hidden": name, "photos": int(shows.sum()), "area": float(mask[shows].mean())}
        row |= {"whole": float(right[shows].mean()), "without": float(without.mean())}
        rows.append(row | with_interval("cost", right[shows] - without))
    return rows


# --- shared --------------------------------------------------------------------------------------


def _area(scorer, start: torch.Tensor, end: torch.Tensor, maps: np.ndarray, classes) -> np.ndarray:
    """Mean probability while pixels go over from `start` to `end` in order of the map."""
    order = torch.from_numpy(maps.reshape(len(maps), -1).copy()).argsort(1, descending=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    rank = rank.view(len(maps), 1, *maps.shape[1:])
    values = []
    for step in range(STEPS + 1):
        changed = rank < order.shape[1] * step / STEPS
        values.append(_probabilities(scorer, torch.where(changed, end, start), classes))
    return np.trapezoid(np.stack(values), dx=1 / STEPS, axis=0)


def _whole_and_masked(scorer, photos, maps, classes) -> tuple[np.ndarray, np.ndarray]:
    heat = torch.from_numpy(maps)[:, None]
    masked = heat * photos + (1 - heat) * _grey(photos)
    return _probabilities(scorer, photos, classes), _probabilities(scorer, masked, classes)


def _probabilities(scorer: Scorer, photos: torch.Tensor, classes: Sequence[int]) -> np.ndarray:
    """Of the class explained, (photos,)."""
    return _chances(scorer, photos)[np.arange(len(photos)), np.asarray(classes, int)]


@torch.no_grad()
def _chances(scorer: Scorer, photos: torch.Tensor) -> np.ndarray:
    """Probabilities (photos, classes)."""
    parts = [scorer(part.to(scorer.device)).softmax(1).cpu() for part in photos.split(BATCH)]
    return torch.cat(parts).numpy()


def _grey(photos: torch.Tensor) -> torch.Tensor:
    """Every photo in its mean color: taking away what it shows, not how light it is."""
    return photos.mean((2, 3), keepdim=True).expand_as(photos)


def _blurred(photos: torch.Tensor, sigma: int) -> torch.Tensor:
    from torchvision.transforms.functional import gaussian_blur

    side = photos.shape[-1]
    kernel = min(4 * sigma + 1, side - (1 - side % 2))  # odd, and no wider than the photo
    return gaussian_blur(photos, [kernel, kernel], [float(sigma), float(sigma)])
