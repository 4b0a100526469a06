"""A network's record of heat maps: are they true, on photos whose truth is known or not?"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import cv2
import numpy as np
import torch
from torch import nn

from carlib.data.catalog import Catalog
from carlib.errors import RunError
from carlib.evaluation.evaluate import of_photos_that_stay, scored_data, scoring_of
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.explain.maps import METHODS, heat_maps, target_layer
from carlib.explain.measures import (
    BASELINES,
    MEASURES,
    ahead_of,
    baseline_maps,
    faithfulness,
    measured,
    needs,
    rank_correlation,
    with_interval,
)
from carlib.explain.scored_images import ScoredImages
from carlib.seeding import drawing_from

EXAMPLES, DETAIL = 4, 12  # maps of drawn cars that a record keeps, and their side
FORGETFUL = 8  # networks of random weights that share the photos
RANDOM = "random network"  # the row of a network that knows nothing
BLIND = (RANDOM, *BASELINES)  # maps that know nothing


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
    with drawing_from(seed):
        for number, (name, module) in enumerate(reversed(layers), 1):
            module.reset_parameters()
            if number % stride == 0 or number == len(layers):
                yield name, copied


def forgetful_maps(
    checkpoint: Checkpoint, seen: ScoredImages, method: str, layer: str
) -> np.ndarray:
    """Maps of the answered classes by the same network with random weights throughout.

    The photos are shared out to FORGETFUL such networks: one alone looks at the same places of
    every photo, by chance at the right ones.
    """
    maps = np.empty(seen.photos.shape[:1] + seen.photos.shape[2:], np.float32)
    for seed in range(min(FORGETFUL, len(seen))):
        *_, (_, network) = randomized(checkpoint.model, seed)
        scorer, part = Scorer.of(replace(checkpoint, model=network)), slice(seed, None, FORGETFUL)
        maps[part] = heat_maps(scorer, seen.photos[part], seen.answers[part], method, layer)
    return maps


def sanity(
    checkpoint: Checkpoint,
    photos: torch.Tensor,
    maps: np.ndarray,
    classes: Sequence[int],
    method: str,
    layer: str,
) -> list[dict[str, object]]:
    """Rank correlation of a method's `maps` with those of ever more random networks, a row each.

    A map that stays the same when the network forgets all it knew does not show what it knew.
    """
    rows = []
    for name, network in randomized(checkpoint.model):
        scorer = Scorer.of(replace(checkpoint, model=network))
        others = heat_maps(scorer, photos, classes, method, layer)
        rows.append({"random_from": name} | with_interval(
            "correlation", rank_correlation(maps, others)))  # fmt: skip
    return rows


# --- a network's record --------------------------------------------------------------------------


@of_photos_that_stay
def score_maps(
    checkpoint: Checkpoint,
    catalog: Catalog,
    seen: ScoredImages,
    inside: Mapping[str, np.ndarray] | None = None,
    hidden: Mapping[str, np.ndarray] | None = None,
    methods: Sequence[str] = tuple(METHODS),
    measures: Sequence[str] = tuple(MEASURES),
    layer: str = "",
) -> Record:
    """Whether a network's heat maps can be believed; the record is not written.

    On the photos of the catalog that `see` drew: the answered class explained, by every method (at
    a `layer`, else at the last), by the first of them of networks of random weights, and by every
    baseline. Rows of the record: the measures, and of masks `inside` which a map should lie the
    share of the map inside over the share of the area. Beside them: by how much each method is
    ahead of the best map that knows nothing, what random layers do to the map, and what hiding each
    of the masks `hidden` costs. Masks (photos, side, side) bool go by name; `known_masks` makes
    both. Raises `RunError` for unknown methods, measures and layers, and for photos that were
    picked by hand.
    """
    _check(methods, measures, seen)  # before hours of work, not after
    scorer, first = Scorer.of(checkpoint), methods[0]
    maps, seconds = _maps_of_methods(scorer, seen, methods, layer)
    maps |= _blind_maps(checkpoint, seen, first, layer)
    values = measured(scorer, seen.photos, maps, seen.answers, measures)
    rows = faithfulness(values, maps, inside)
    shown = {name: maps[name] for name in (first, RANDOM)}
    return Record(
        kind="maps",
        data=scored_data(catalog, seen.sample.split, len(seen)),
        metrics={"accuracy": float((seen.answers == seen.labels).mean())}
        | {name: value for name, value in rows[0].items() if name != "map"},
        scoring=scoring_of(checkpoint) | _asked(seen, methods, measures, layer),
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        extra={
            "explained": first,  # by which method the metrics are
            "layer": target_layer(scorer.network, scorer.size, scorer.channels, layer).name,
            "rows": rows,
            "ahead": ahead_of(BLIND, values),
            "sanity": sanity(checkpoint, seen.photos, maps[first], seen.answers, first, layer),
            "needs": needs(scorer, seen.photos, seen.labels, hidden) if hidden else [],
            "area": {name: float(mask.mean()) for name, mask in (inside or {}).items()},
            "examples": examples(seen, shown) if hidden else [],  # cars that can be drawn again
        },
        timing={f"{name} seconds": value for name, value in seconds.items()},
        command=command_line(),
    )


def _asked(
    seen: ScoredImages, methods: Sequence[str], measures: Sequence[str], layer: str
) -> dict[str, object]:
    """What was asked, as a record says it."""
    told = {"layer": layer, "methods": list(methods), "measures": list(measures)}
    return told | {"photos": seen.sample.photos, "seed": seen.sample.seed}


def _check(methods: Sequence[str], measures: Sequence[str], seen: ScoredImages) -> None:
    for what, names, known in (("method", methods, METHODS), ("measure", measures, MEASURES)):
        if odd := [name for name in names if name not in known]:
            raise RunError(f"unknown {what} {odd[0]!r}; known: {', '.join(known)}")
    if seen.sample is None:
        raise RunError("these photos were picked by hand; a record is of photos drawn by `see`")


def _maps_of_methods(
    scorer: Scorer, seen: ScoredImages, methods: Sequence[str], layer: str
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Maps of the answered classes by every method, and the seconds that they took."""
    maps, seconds = {}, {}
    for method in methods:
        started = time.perf_counter()
        maps[method] = heat_maps(scorer, seen.photos, seen.answers, method, layer)
        seconds[method] = time.perf_counter() - started
    return maps, seconds


def _blind_maps(
    checkpoint: Checkpoint, seen: ScoredImages, method: str, layer: str
) -> dict[str, np.ndarray]:
    """Maps that know nothing of the network or of the answer, by the names of BLIND."""
    maps = {name: baseline_maps(seen.photos, name, seen.sample.seed) for name in BASELINES}
    return {RANDOM: forgetful_maps(checkpoint, seen, method, layer)} | maps


def examples(seen: ScoredImages, maps: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """A few photos, evenly through the split, and their maps: a digit 0 to 9 for every place.

    Enough to draw the maps again over drawn cars, which need not be kept.
    """
    rows = []
    for number in np.linspace(0, len(seen) - 1, min(EXAMPLES, len(seen))).round().astype(int):
        digits = {name: _digits(heat[number]) for name, heat in maps.items()}
        right = bool(seen.answers[number] == seen.labels[number])
        rows.append({"path": seen.table["path"].iloc[number], "right": right, "maps": digits})
    return rows


def _digits(heat: np.ndarray) -> list[str]:
    small = cv2.resize(heat, (DETAIL, DETAIL), interpolation=cv2.INTER_AREA)
    return ["".join(str(min(9, int(10 * value))) for value in line) for line in small]
