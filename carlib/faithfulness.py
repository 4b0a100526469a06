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

import copy
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import rankdata
from torch import nn

from carlib.catalog import Catalog
from carlib.errors import RunError
from carlib.evaluation import scored_data, scoring_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.explain import METHODS, Seen, Viewer, heat_maps, see, target_layer
from carlib.metrics import bootstrap, interval
from carlib.showroom import PARTS, changed_mask, part_mask

ROAD_SHARES = [20, 50, 80]
STEPS = 20  # in which pixels are taken away or brought back
BASELINES = ("random", "center", "edges")  # maps that know nothing of the network
HIGHER_IS_BETTER = {
    "insertion": True, "deletion": False, "average_drop": False, "increase": True, "road": True,
}  # fmt: skip
BATCH = 64
EXAMPLES, DETAIL = 4, 12  # maps of drawn cars that a record keeps, and their side
VISIBLE = 0.005  # share of a photo from which on a part counts as shown
FORGETFUL = 8  # networks of random weights that share the photos
RANDOM = "random network"  # the row of a network that knows nothing


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


def insertion(viewer: Viewer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """Area under the class's probability as its blurred photo gets its pixels back, best first.

    Higher is better: what the map marks soon brings the answer back.
    """
    blurred = _blurred(photos, photos.shape[-1] // 8)
    return _area(viewer, blurred, photos, maps, classes)


def deletion(viewer: Viewer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """Area under the class's probability as pixels turn grey, those marked most first.

    Lower is better: without what the map marks the answer is soon gone.
    """
    return _area(viewer, photos, _grey(photos), maps, classes)


def average_drop(viewer: Viewer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """Share of the probability that is lost when only what is marked is left (lower is better)."""
    whole, left = _whole_and_masked(viewer, photos, maps, classes)
    return np.maximum(0, whole - left) / np.maximum(whole, 1e-8)


def increase(viewer: Viewer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """1 where the class is likelier when only what is marked is left, else 0 (higher is better)."""
    whole, left = _whole_and_masked(viewer, photos, maps, classes)
    return (left > whole).astype(float)


def road(viewer: Viewer, photos: torch.Tensor, maps: np.ndarray, classes: Sequence[int]):
    """Least minus most relevant first, half of it: pixels are removed so that it leaves no trace.

    Each removed pixel becomes the noisy mean of its neighbors (seconds per photo), ROAD_SHARES in
    percent of them. Higher is better, and zero is a map that knows nothing.
    """
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    combined = ROADCombined(percentiles=ROAD_SHARES)
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the noise
        for photo, heat, number in zip(photos, maps, classes, strict=True):
            target = [ClassifierOutputSoftmaxTarget(int(number))]
            found.append(combined(photo[None].to(viewer.device), heat[None], target, viewer))
    return np.concatenate(found)


MEASURES: dict[str, Callable[..., np.ndarray]] = {
    "insertion": insertion, "deletion": deletion, "average_drop": average_drop,
    "increase": increase, "road": road,
}  # fmt: skip


def faithfulness(
    viewer: Viewer,
    photos: torch.Tensor,
    maps: Mapping[str, np.ndarray],
    classes: Sequence[int],
    measures: Sequence[str] = tuple(MEASURES),
) -> list[dict[str, object]]:
    """Means of the measures with 95 % intervals over the photos, a row per named set of maps."""
    rows = []
    for name, own in maps.items():
        row: dict[str, object] = {"map": name}
        for measure in measures:
            row |= with_interval(measure, MEASURES[measure](viewer, photos, own, classes))
        rows.append(row)
    return rows


def with_interval(name: str, values: np.ndarray) -> dict[str, object]:
    """The mean of values (photos,) and its 95 % interval by bootstrap over the photos."""
    mean, draws = bootstrap(len(values), lambda rows: values[rows].mean())
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


# --- would another network have the same map? ---------------------------------------------------


def randomized(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Copies of a network whose layers are random from the last to the first, one more each time.

    Layers are the modules that hold weights themselves; ten or so steps, the last all random.
    """
    copied = copy.deepcopy(network)
    layers = [(n, m) for n, m in copied.named_modules() if hasattr(m, "reset_parameters")]
    if not layers:
        raise RunError(f"{type(network).__name__}: no layer with weights to make random")
    stride = max(1, len(layers) // 10)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for number, (name, module) in enumerate(reversed(layers), 1):
            module.reset_parameters()
            if number % stride == 0 or number == len(layers):
                yield name, copied


def forgetful_maps(
    checkpoint: Checkpoint, seen: Seen, method: str = "Grad-CAM", layer: str = ""
) -> np.ndarray:
    """Maps of the answered classes by the same network with random weights throughout.

    The photos are shared out to FORGETFUL such networks: one alone looks at the same places of
    every photo, by chance at the right ones.
    """
    maps = np.empty(seen.photos.shape[:1] + seen.photos.shape[2:], np.float32)
    for seed in range(min(FORGETFUL, len(seen))):
        *_, (_, network) = randomized(checkpoint.model, seed)
        viewer, own = Viewer(replace(checkpoint, model=network)), slice(seed, None, FORGETFUL)
        maps[own] = heat_maps(viewer, seen.photos[own], seen.answers[own], method, layer)
    return maps


def rank_correlation(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Spearman's correlation of two maps of each photo; 0 where one of them is flat."""
    ranks = [rankdata(part.reshape(len(part), -1), axis=1) for part in (maps, others)]
    centered = [part - part.mean(1, keepdims=True) for part in ranks]
    product = (centered[0] * centered[1]).sum(1)
    norms = np.linalg.norm(centered[0], axis=1) * np.linalg.norm(centered[1], axis=1)
    return np.where(norms > 0, product / np.maximum(norms, 1e-8), 0.0)


def sanity(
    checkpoint: Checkpoint,
    photos: torch.Tensor,
    maps: np.ndarray,
    classes: Sequence[int],
    layer: str = "",
) -> list[dict[str, object]]:
    """Rank correlation of Grad-CAM's maps with those of ever more random networks, a row each.

    A map that stays the same when the network forgets all it knew does not show what it knew.
    """
    rows = []
    for name, network in randomized(checkpoint.model):
        viewer = Viewer(replace(checkpoint, model=network))
        others = heat_maps(viewer, photos, classes, layer=layer)
        rows.append({"random_from": name} | with_interval(
            "correlation", rank_correlation(maps, others)))  # fmt: skip
    return rows


# --- what the network needs ----------------------------------------------------------------------


def hidden(photos: torch.Tensor, masks: np.ndarray) -> torch.Tensor:
    """The photos with their masks (photos, side, side) bool painted in the photo's mean color."""
    cover = torch.from_numpy(np.ascontiguousarray(masks))[:, None]
    return torch.where(cover, _grey(photos), photos)


def hits(viewer: Viewer, photos: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """1 where the answer is right, else 0, (photos,)."""
    return (_chances(viewer, photos).argmax(1) == labels).astype(float)


def needs(
    viewer: Viewer, photos: torch.Tensor, labels: np.ndarray, masks: Mapping[str, np.ndarray]
):
    """Accuracy with parts of the photos hidden, and what it costs; a row per name, as a table.

    `masks` (photos, side, side) bool are what is hidden. Only photos that show the part are scored,
    with and without it, so the columns `whole` and `hidden` compare the same photos.
    """
    right = hits(viewer, photos, labels)
    rows = []
    for name, own in masks.items():
        shows = own.any((1, 2))
        if not shows.any():
            continue
        without = hits(viewer, hidden(photos[shows], own[shows]), labels[shows])
        row = {"hidden": name, "photos": int(shows.sum()), "area": float(own[shows].mean())}
        row |= {"whole": float(right[shows].mean()), "without": float(without.mean())}
        rows.append(row | with_interval("cost", right[shows] - without))
    return pd.DataFrame(rows)


# --- masks of what is known ----------------------------------------------------------------------


def box_masks(seen: Seen, catalog: Catalog) -> np.ndarray:
    """Where the car is, by its box, in the framed photos: (photos, side, side) bool.

    Empty where the box is unknown.
    """
    framing, masks = replace(seen.framing, size=seen.photos.shape[-1]), []
    for number, path in enumerate(seen.table["path"]):
        width, height = Image.open(io.BytesIO(catalog.source.read(path))).size
        whole, box = np.zeros((height, width), np.uint8), seen.box(number)
        if not np.isnan(box).any():
            x1, y1, x2, y2 = (round(value) for value in box)
            whole[max(y1, 0) : y2, max(x1, 0) : x2] = 1
        masks.append(framing.apply_to_mask(whole, box) > 0)
    return np.stack(masks)


def part_masks(seen: Seen, catalog: Catalog) -> np.ndarray:
    """Part ids of drawn cars in the framed photos: (photos, side, side) uint8, as `PARTS` names."""
    framing = replace(seen.framing, size=seen.photos.shape[-1])
    return np.stack(
        [framing.apply_to_mask(part_mask(catalog, row), seen.box(number))
         for number, row in enumerate(seen.rows)]
    )  # fmt: skip


def changed_masks(seen: Seen, parts: np.ndarray) -> np.ndarray:
    """The parts in which the two years of each photo's model differ: (photos, side, side) bool."""
    rows = zip(parts, seen.table["make"], seen.table["model"], strict=True)
    return np.stack([changed_mask(*row) for row in rows])


def other_years(catalog: Catalog) -> np.ndarray:
    """For every class the one of the same model in another year, (classes,); -1 without one."""
    table = catalog.table.drop_duplicates("label").sort_values("label")
    others = np.full(catalog.num_classes, -1)
    for _, rows in table.groupby(["make", "model"]):
        if len(rows) == 2:
            others[rows["label"].to_numpy()] = rows["label"].to_numpy()[::-1]
    return others


# --- a network's record --------------------------------------------------------------------------


def score_maps(
    checkpoint: Checkpoint,
    catalog: Catalog,
    split: str = "val",
    count: int = 100,
    methods: Sequence[str] = tuple(METHODS),
    measures: Sequence[str] = tuple(MEASURES),
    layer: str = "",
    seed: int = 0,
) -> Record:
    """Whether a network's heat maps can be believed; the record is not written.

    `count` photos drawn by seed, the answered class explained, by every method (at a `layer`, else
    at the last), by the first of them of networks of random weights, and by every baseline. Rows of
    the record: the measures, and where boxes or parts are known the share of the map inside over
    the share of the area. Beside them: what random layers do to the map, and on drawn cars what
    hiding the background, the car, the badge or the grille costs. Raises `RunError` for methods,
    measures and layers that are not known.
    """
    for what, names, known in (("method", methods, METHODS), ("measure", measures, MEASURES)):
        if odd := [name for name in names if name not in known]:  # before hours of work, not after
            raise RunError(f"unknown {what} {odd[0]!r}; known: {', '.join(known)}")
    viewer, seen = Viewer(checkpoint), see(checkpoint, catalog, split, count, seed)
    maps, seconds = {}, {}
    for method in methods:
        started = time.perf_counter()
        maps[method] = heat_maps(viewer, seen.photos, seen.answers, method, layer)
        seconds[method] = time.perf_counter() - started
    maps[RANDOM] = forgetful_maps(checkpoint, seen, methods[0], layer)
    maps |= {name: baseline_maps(seen.photos, name, seed) for name in BASELINES}
    rows = faithfulness(viewer, seen.photos, maps, seen.answers, measures)
    known, hidden_parts = _known_masks(seen, catalog)
    for row in rows:
        for name, masks in known.items():
            shows = masks.mean((1, 2)) > VISIBLE
            own = maps[row["map"]][shows], masks[shows]
            row |= with_interval(f"times_{name}_area", times_area(*own))
            row |= with_interval(f"points_in_{name}", points_inside(*own))
    first = methods[0]
    needed = needs(viewer, seen.photos, seen.labels, hidden_parts) if hidden_parts else None
    return Record(
        kind="maps",
        data=scored_data(catalog, split, len(seen)),
        metrics={"accuracy": float((seen.answers == seen.labels).mean())}
        | {name: value for name, value in rows[0].items() if name != "map"},
        scoring=scoring_of(checkpoint)
        | {"layer": layer, "methods": list(methods), "measures": list(measures)}
        | {"photos": count, "seed": seed},
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        extra={
            "explained": first,  # by which method the metrics are
            "layer": target_layer(viewer.network, viewer.size, viewer.channels, layer).name,
            "rows": rows,
            "sanity": sanity(checkpoint, seen.photos, maps[first], seen.answers, layer),
            "needs": [] if needed is None else needed.to_dict(orient="records"),
            "area": {name: float(masks.mean()) for name, masks in known.items()},
            "examples": examples(seen, {name: maps[name] for name in (first, RANDOM)})
            if hidden_parts
            else [],
        },
        timing={f"{name} seconds": value for name, value in seconds.items()},
        command=command_line(),
    )


def examples(seen: Seen, maps: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """A few photos, evenly through the split, and their maps: a digit 0 to 9 for every place.

    Enough to draw the maps again over drawn cars, which need not be kept.
    """
    found = []
    for number in np.linspace(0, len(seen) - 1, min(EXAMPLES, len(seen))).round().astype(int):
        small = {
            name: cv2.resize(own[number], (DETAIL, DETAIL), interpolation=cv2.INTER_AREA)
            for name, own in maps.items()
        }
        digits = {
            name: ["".join(str(min(9, int(10 * value))) for value in line) for line in own]
            for name, own in small.items()
        }
        right = bool(seen.answers[number] == seen.labels[number])
        found.append({"path": seen.table["path"].iloc[number], "right": right, "maps": digits})
    return found


def _known_masks(seen: Seen, catalog: Catalog) -> tuple[dict, dict]:
    """Masks in which a map should lie, and masks of what is hidden to see what is needed."""
    known, hide = {}, {}
    boxes = box_masks(seen, catalog)
    if 0 < boxes.mean() < 0.9:  # photos that are cut to the car say nothing about finding it
        known["box"] = boxes
    if catalog.has_part_masks:
        parts = part_masks(seen, catalog)
        changed = changed_masks(seen, parts)
        known |= {"car": parts > 0, "changed_part": changed}
        hide = {"background": parts == 0, "car": parts > 0, "changed parts": changed}
        hide |= {name: parts == PARTS.index(name) for name in PARTS[1:]}
    return known, hide


# --- shared --------------------------------------------------------------------------------------


def _area(viewer, start: torch.Tensor, end: torch.Tensor, maps: np.ndarray, classes) -> np.ndarray:
    """Mean probability while pixels go over from `start` to `end` in order of the map."""
    order = torch.from_numpy(maps.reshape(len(maps), -1).copy()).argsort(1, descending=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    rank = rank.view(len(maps), 1, *maps.shape[1:])
    values = []
    for step in range(STEPS + 1):
        changed = rank < order.shape[1] * step / STEPS
        values.append(_probabilities(viewer, torch.where(changed, end, start), classes))
    return np.trapezoid(np.stack(values), dx=1 / STEPS, axis=0)


def _whole_and_masked(viewer, photos, maps, classes) -> tuple[np.ndarray, np.ndarray]:
    heat = torch.from_numpy(maps)[:, None]
    masked = heat * photos + (1 - heat) * _grey(photos)
    return _probabilities(viewer, photos, classes), _probabilities(viewer, masked, classes)


def _probabilities(viewer: Viewer, photos: torch.Tensor, classes: Sequence[int]) -> np.ndarray:
    """Of the class explained, (photos,)."""
    return _chances(viewer, photos)[np.arange(len(photos)), np.asarray(classes, int)]


@torch.no_grad()
def _chances(viewer: Viewer, photos: torch.Tensor) -> np.ndarray:
    """Probabilities (photos, classes)."""
    parts = [viewer(part.to(viewer.device)).softmax(1).cpu() for part in photos.split(BATCH)]
    return torch.cat(parts).numpy()


def _grey(photos: torch.Tensor) -> torch.Tensor:
    """Every photo in its mean color: taking away what it shows, not how light it is."""
    return photos.mean((2, 3), keepdim=True).expand_as(photos)


def _blurred(photos: torch.Tensor, sigma: int) -> torch.Tensor:
    from torchvision.transforms.functional import gaussian_blur

    side = photos.shape[-1]
    kernel = min(4 * sigma + 1, side - (1 - side % 2))  # odd, and no wider than the photo
    return gaussian_blur(photos, [kernel, kernel], [float(sigma), float(sigma)])
