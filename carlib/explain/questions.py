"""Photos of drawn cars of which it is known what decides, as arrays: questions for heat maps.

A pair is a photo and its counterfactual, in which all parts that tell two years of a model apart
are the other year's. Beside it stand the same car before another scene, and the means to draw it
again without some parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

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
        taken, pairs, others = zip(
            *_complete_pairs(count, side, seed, sticker, _labels(class_names)), strict=True
        )
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
        area = self.causes.mean((1, 2))
        steps = {f"{n} changed": self.number == n for n in np.unique(self.number)}
        for low, high in zip((0, *AREAS), (*AREAS, 1), strict=True):
            name = f"{low:.0%} to {high:.0%}" if high < 1 else f"over {low:.0%}"
            steps[name] = (area >= low) & (area < high)
        return steps


def _labels(class_names: Sequence[str]) -> list[int]:
    """The drawn cars of whose model a classifier knows both years."""
    known = [name in class_names for name in CLASS_NAMES]
    if labels := [label for label in range(len(known)) if known[label] and known[label ^ 1]]:
        return labels
    raise RunError(f"no drawn car has both of its years among: {', '.join(class_names[:5])} …")


def _complete_pairs(
    count: int, side: int, seed: int, sticker: bool, labels: Sequence[int]
) -> Iterator[tuple[Shot, CounterfactualPair, CounterfactualPair]]:
    """Photos, each class in turn, the pair in which all parts that tell its years apart are
    swapped, and one in which the scene is another; photos that do not show one of these parts are
    passed over.
    """
    for index in range(count):
        label = labels[index % len(labels)]
        car, rng = FACELIFTS[label], np.random.Generator(np.random.PCG64([seed, STREAM, index]))
        seen = False
        while not seen:
            shot = Shot(label, facelift_view(car, rng), side, sticker=sticker)
            pair = shot.swapped(differing_parts(label))
            seen = pair.is_seen
        scenes = [name for name in SCENES if name != shot.view.scene]
        scene = scenes[int(rng.integers(len(scenes)))]
        yield shot, pair, shot.elsewhere(replace(facelift_view(car, rng), scene=scene))


def _both(pair: CounterfactualPair) -> torch.Tensor:
    return torch.stack([_tensor(pair.photo), _tensor(pair.counter)])


def _tensor(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1).float() / 255
