"""Photos of drawn cars of which it is known what decides, as arrays: questions for heat maps.

A pair is a photo and its counterfactual, in which all parts that tell two years of a model apart
are the other year's. Beside it stand the same car before another scene, and the means to draw it
again without some parts.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

import numpy as np
import torch

from carlib.errors import RunError
from carlib.showroom.counterfactual import (
    REMOVABLE,
    SMALLEST,
    CounterfactualPair,
    Shot,
    differing_parts,
)
from carlib.showroom.facelifts import FACELIFTS, facelift_view
from carlib.showroom.scenes import SCENES

CLASS_NAMES = tuple(car.name for car in FACELIFTS)
AREAS = (0.02, 0.04, 0.07, 0.1)  # edges of the ladder's steps, shares of the photo
STEPS = (
    *(f"{low:.0%} to {high:.0%}" for low, high in itertools.pairwise((0, *AREAS))),
    f"over {AREAS[-1]:.0%}",
)
STREAM = 43  # keeps these photos apart from those that networks learn, whose seeds count alike


@dataclass(frozen=True)
class Questions:
    """Pairs of photos whose difference is the reason for the answer, and what else is known."""

    photos: torch.Tensor  # (pairs, 2, 3, side, side) in 0…1: photo and counterfactual
    classes: np.ndarray  # (pairs, 2): of the photo, and whose parts the counterfactual has
    causes: np.ndarray  # (pairs, side, side) bool: the parts that differ
    number: np.ndarray  # (pairs,) how many parts differ
    names: tuple[str, ...]  # of the parts that can be taken away
    parts: np.ndarray  # (pairs, parts, side, side) bool, of the photo; empty where not to be seen
    without: Callable[[int, frozenset[int]], torch.Tensor]  # photo of a pair, lacking parts
    car: np.ndarray  # (pairs, side, side) bool, of the photo
    scenes: torch.Tensor  # (pairs, 3, side, side): the photo's car before another scene
    exchanged: np.ndarray  # (pairs, side, side) bool: where that scene is to be seen

    def __len__(self) -> int:
        return len(self.photos)

    @classmethod
    def draw(
        cls,
        count: int = 48,
        side: int = 128,
        seed: int = 0,
        sticker: bool = False,
        class_names: Sequence[str] = CLASS_NAMES,
    ) -> Questions:
        """`count` pairs in which all parts that tell two years apart are swapped.

        With `sticker` the cars wear the one of their year, and keep it. `class_names` are the
        classes in the order in which a model has them. Raises `RunError` where both years of no
        drawn model are among them.
        """
        endless = _complete_pairs(side, seed, sticker, _labels(class_names))
        return cls._of(islice(endless, count), class_names)

    @classmethod
    def climb(
        cls,
        each: int = 20,
        side: int = 128,
        seed: int = 0,
        class_names: Sequence[str] = CLASS_NAMES,
    ) -> Questions:
        """As `draw`, but as many pairs as give every step of `ladder_steps` at least `each`.

        Pairs are passed over whose steps have enough; after 100 · `each` steps stay as they are.
        """
        labels, have = _labels(class_names), Counter()
        wanted = {*(_number_step(len(differing_parts(label))) for label in labels), *STEPS}
        taken = []
        for shot, pair, rng in islice(_complete_pairs(side, seed, False, labels), 100 * each):
            steps = _number_step(len(pair.parts)), _area_step(pair.share)
            if min(have[step] for step in steps) < each:
                taken.append((shot, pair, rng))
                have.update(steps)
            if min(have[step] for step in wanted) >= each:
                break
        return cls._of(taken, class_names)

    @classmethod
    def _of(
        cls,
        drawn: Iterable[tuple[Shot, CounterfactualPair, np.random.Generator]],
        class_names: Sequence[str],
    ) -> Questions:
        """Arrays of pairs, and for each the car before another scene."""
        taken, pairs, others = zip(
            *((shot, pair, _elsewhere(shot, rng)) for shot, pair, rng in drawn), strict=True
        )
        count, side = len(pairs), pairs[0].mask.shape[0]
        parts = np.zeros((count, len(REMOVABLE), side, side), bool)
        for mine, pair in zip(parts, pairs, strict=True):
            for name, mask in pair.part_masks.items():
                if name in REMOVABLE and mask.mean() >= SMALLEST:
                    mine[REMOVABLE.index(name)] = mask
        places = [class_names.index(name) if name in class_names else -1 for name in CLASS_NAMES]

        @cache  # of all maps of all networks
        def without(number: int, gone: frozenset[int]) -> torch.Tensor:
            removed = taken[number].removed([REMOVABLE[part] for part in sorted(gone)])
            return _tensor(removed.counter)

        return cls(
            photos=torch.stack([_both(pair) for pair in pairs]),
            classes=np.array([(places[pair.label], places[pair.target]) for pair in pairs]),
            causes=np.stack([pair.mask for pair in pairs]),
            number=np.array([len(pair.parts) for pair in pairs]),
            names=REMOVABLE,
            parts=parts,
            without=without,
            car=np.stack([np.any([*pair.part_masks.values()], axis=0) for pair in pairs]),
            scenes=torch.stack([_tensor(other.counter) for other in others]),
            exchanged=np.stack([other.mask for other in others]),
        )

    def ladder_steps(self) -> dict[str, np.ndarray]:
        """Pairs (pairs,) bool by how many parts differ, and by their share of the photo."""
        numbers = np.array([_number_step(number) for number in self.number])
        areas = np.array([_area_step(area) for area in self.causes.mean((1, 2))])
        steps = {name: numbers == name for name in np.unique(numbers).tolist()}
        return steps | {name: areas == name for name in STEPS}


def _number_step(number: int) -> str:
    return f"{number} changed"


def _area_step(share: float) -> str:
    """The step of parts that take a share of the photo."""
    return STEPS[int(np.searchsorted(AREAS, share, side="right"))]


def _labels(class_names: Sequence[str]) -> list[int]:
    """The drawn cars of whose model a classifier knows both years."""
    known = [name in class_names for name in CLASS_NAMES]
    if labels := [label for label in range(len(known)) if known[label] and known[label ^ 1]]:
        return labels
    raise RunError(f"no drawn car has both of its years among: {', '.join(class_names[:5])} …")


def _complete_pairs(
    side: int, seed: int, sticker: bool, labels: Sequence[int]
) -> Iterator[tuple[Shot, CounterfactualPair, np.random.Generator]]:
    """Photos endlessly, each class in turn, with the pair in which all parts that tell its years
    apart are swapped; photos that do not show one of these parts are passed over.
    """
    for index in itertools.count():
        label = labels[index % len(labels)]
        car, rng = FACELIFTS[label], np.random.Generator(np.random.PCG64([seed, STREAM, index]))
        seen = False
        while not seen:
            shot = Shot(label, facelift_view(car, rng), side, sticker=sticker)
            pair = shot.swapped(differing_parts(label))
            seen = pair.is_seen
        yield shot, pair, rng


def _elsewhere(shot: Shot, rng: np.random.Generator) -> CounterfactualPair:
    """The pair in which the scene alone is another."""
    scenes = [name for name in SCENES if name != shot.view.scene]
    scene = scenes[int(rng.integers(len(scenes)))]
    return shot.elsewhere(replace(facelift_view(FACELIFTS[shot.label], rng), scene=scene))


def _both(pair: CounterfactualPair) -> torch.Tensor:
    return torch.stack([_tensor(pair.photo), _tensor(pair.counter)])


def _tensor(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1).float() / 255
