"""Counterfactual cars: the same photo with a part swapped or removed, and nothing else changed.

A pair of photos shares view, light, paint, scene, occluder and noise. What differs between them is
therefore the reason for every difference between a classifier's two answers. Pixels outside of a
pair's mask are equal to the last bit: parts cast no shadow and are mirrored in nothing, as the
shadow on the ground is drawn from the outline of the body.

The idea of taking drawn objects apart to test explanations is that of FunnyBirds (Hesse et al.,
ICCV 2023, https://arxiv.org/abs/2308.06248).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from carlib.errors import DataError
from carlib.showroom.camera import View
from carlib.showroom.car import build_mesh
from carlib.showroom.facelifts import FACELIFTS, STICKERS, differing_parts, facelift_view
from carlib.showroom.makes import CarSpec
from carlib.showroom.mesh import PART_ID, PARTS, Mesh
from carlib.showroom.painter import fineness, set_stage
from carlib.showroom.scenes import SCENES

REMOVABLE: tuple[str, ...] = (
    "grille", "headlight", "taillight", "foglight", "wheel", "badge", "mirror", "plate", "trim",
    "window", "interior", "sticker",
)  # fmt: skip
"""Parts that lie on the body; without the body's own panels nothing would be left to lie on."""

SMALLEST = 1 / 400
"""Share of the photo from which a part counts as visible: 41 pixels at 128 x 128."""

_STREAM = 41  # keeps these photos apart from those of the data set, whose seeds count alike
_TRIES = 200


@dataclass(frozen=True)
class CounterfactualPair:
    """Two photos that differ in `parts` alone, and where; all arrays are `side` pixels square."""

    photo: np.ndarray  # (side, side, 3) uint8 RGB: a car of class `label`
    counter: np.ndarray  # the same view, light, paint, scene, occluder; only `parts` differ
    mask: np.ndarray  # (side, side) bool: all pixels that `parts` touch in either photo
    parts: tuple[str, ...]  # names of the changed parts, as in `PARTS`
    label: int  # class of `photo`: a place in `FACELIFTS`
    target: int  # class whose parts `counter` shows; -1 where they are removed
    kind: str  # "swapped", "removed", or "scene", whose only part is "background"
    part_masks: dict[str, np.ndarray]  # bool: each visible part of `photo`, at pixels' middles
    changed_masks: dict[str, np.ndarray]  # `mask` by part
    complete: bool  # all parts that tell `label` from `target` are swapped

    @property
    def share(self) -> float:
        """Share of the photo that the changed parts touch."""
        return float(self.mask.mean())

    @property
    def is_seen(self) -> bool:
        """Whether each changed part, and the change as a whole, is large enough to count."""
        differs = (self.photo != self.counter).any(axis=2)  # of a wheel, the tire never does
        areas = [mask.mean() for mask in (*self.changed_masks.values(), differs)]
        return min(areas) >= SMALLEST


class Shot:
    """One photo of a car that can be taken apart.

    `sticker` says whether the car wears the sticker of its year. Every method leaves the shot as
    it is, so that pairs of one shot have the same photo.
    """

    def __init__(self, label: int, view: View, side: int = 128, *, sticker: bool = False) -> None:
        self.label, self.view, self.side, self.sticker = label, view, side, sticker
        self.stage = set_stage(FACELIFTS[label], view, side)
        self._own = self._mesh(FACELIFTS[label], label)
        self._bare = self.stage.draw(self._own)
        self._canvas = self._bare.copy()
        self.photo = self.stage.develop(self._canvas)
        ids = self.stage.parts(self._canvas)
        names = (PARTS[i] for i in np.flatnonzero(np.bincount(ids.ravel())) if i)
        self.part_masks = {name: ids == PART_ID[name] for name in names}

    def swapped(self, parts: Sequence[str]) -> CounterfactualPair:
        """The pair whose other photo has `parts` of the other year.

        Raises DataError for a part in which the years do not differ.
        """
        other, differing = self.label ^ 1, differing_parts(self.label)
        if same := [name for name in parts if name not in (*differing, "sticker")]:
            raise DataError(f"{same[0]!r} is the same in both years; swap {', '.join(differing)}")
        edition = FACELIFTS[other].edition
        news = {name: getattr(edition, name) for name in parts if name != "sticker"}
        car = FACELIFTS[self.label]
        car = replace(car, edition=replace(car.edition, **news))
        mesh = self._mesh(car, other if "sticker" in parts else self.label)
        complete = set(differing) <= set(parts)
        return self._pair("swapped", other, *self._redrawn(mesh, parts), complete)

    def removed(self, parts: Sequence[str]) -> CounterfactualPair:
        """The pair whose other photo lacks `parts` and shows what lies behind them.

        Raises DataError for a part that cannot be removed.
        """
        check_removable(parts)
        hidden = [PART_ID[name] for name in parts]
        return self._pair("removed", -1, *self._redrawn(self._own, parts, hidden))

    def elsewhere(self, view: View, *, light: bool = False) -> CounterfactualPair:
        """The pair whose other photo has the scene of `view`; with `light` its light as well."""
        car = FACELIFTS[self.label]
        moved = replace(self.view, scene=view.scene, sun=view.sun, seed=view.seed)
        stage = replace(set_stage(car, moved, self.side), rng=self.stage.rng)
        stage = stage if light else replace(stage, light=self.stage.light)
        canvas = stage.draw(self._own)
        counter = stage.develop(canvas)
        mask = np.ones((self.side, self.side), bool)
        if not light:
            glass = ["window"] if car.shape.kind == "convertible" else []  # seen through
            mask = touched(canvas, ["background", *glass], stage.scale)
        return self._pair("scene", self.label, counter, {"background": mask})

    def _mesh(self, car: CarSpec, label: int) -> Mesh:
        """The mesh of a car, with the sticker of a class if this shot's car wears one."""
        return build_mesh(car, fineness(self.side), STICKERS[label % 2] if self.sticker else "")

    def _redrawn(
        self, mesh: Mesh, parts: Sequence[str], hidden: Sequence[int] = ()
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The photo with another mesh's parts, and where these are before or after, by part.

        Only the window in which these parts lie is drawn anew.
        """
        stage, ids = self.stage, [PART_ID[name] for name in parts]
        window = stage.window((self._own, mesh), ids)
        x1, y1, x2, y2 = window
        canvas = self._bare.copy()
        canvas[y1:y2, x1:x2] = stage.draw(mesh, hidden, window)[y1:y2, x1:x2]
        counter = stage.develop(canvas, window, self.photo)
        masks = {name: touched(self._canvas, [name], stage.scale)
                 | touched(canvas, [name], stage.scale) for name in parts}  # fmt: skip
        return counter, masks

    def _pair(
        self, kind: str, target: int, counter: np.ndarray, masks: dict[str, np.ndarray],
        complete: bool = False,
    ) -> CounterfactualPair:  # fmt: skip
        mask = np.zeros((self.side, self.side), bool)
        for one in masks.values():
            mask |= one
        return CounterfactualPair(
            photo=self.photo, counter=counter, mask=mask,
            parts=tuple(masks), label=self.label, target=target, kind=kind,
            part_masks=self.part_masks, changed_masks=masks, complete=complete,
        )  # fmt: skip


def touched(canvas: np.ndarray, parts: Sequence[str], scale: int) -> np.ndarray:
    """Pixels (H, W) bool in any of whose scale x scale points a canvas shows one of `parts`."""
    ids = canvas[..., 3]
    hit = np.logical_or.reduce([ids == PART_ID[name] for name in parts])
    rows = np.logical_or.reduce([hit[i::scale] for i in range(scale)])
    return np.logical_or.reduce([rows[:, i::scale] for i in range(scale)])


def check_removable(parts: Sequence[str]) -> None:
    """Raise DataError for parts that cannot be removed."""
    if others := [name for name in parts if name not in REMOVABLE]:
        raise DataError(f"{others[0]!r} cannot be removed; can be: {', '.join(REMOVABLE)}")


def counterfactual_pairs(
    count: int,
    side: int = 128,
    seed: int = 0,
    kind: str = "swapped",
    parts: int | Sequence[str] | None = None,
    sticker: float = 0.0,
) -> Iterator[CounterfactualPair]:
    """Pairs of photos, `side` pixels square, that differ in nothing but some parts.

    `kind` "swapped" gives these parts the design of the model's other year, "removed" takes them
    away. `parts` says which: None one part in which the model's years differ; a number n all parts
    of a model whose years differ in just n (1 to 3), so that a swap makes a photo of the other
    class; or names. All of them are visible in one photo or the other. A car wears the sticker of
    its year with probability `sticker`, and always where "sticker" is one of `parts`. Pair i
    depends on the arguments and i, and not on the pairs before it. Raises DataError for parts
    that cannot be changed so.
    """
    if kind not in ("swapped", "removed"):
        raise DataError(f"kind is {kind!r}; known: swapped, removed")
    _check(side, sticker)
    labels = _labels(kind, parts)
    return (_pair_at(index, labels, side, seed, kind, parts, sticker) for index in range(count))


def scene_pairs(
    count: int, side: int = 128, seed: int = 0, *, light: bool = False
) -> Iterator[CounterfactualPair]:
    """Pairs of photos of the same car in two places: a change that must not matter.

    The car keeps its light, so that no pixel of it differs; with `light` it has that of the new
    place and another sun, and all pixels may differ.
    """
    _check(side, 0.0)
    for index in range(count):
        shot, rng = next(_shots(index, range(len(FACELIFTS)), side, seed, 0.0))
        scenes = [name for name in SCENES if name != shot.view.scene]
        scene = scenes[int(rng.integers(len(scenes)))]
        other = facelift_view(FACELIFTS[shot.label], rng)
        yield shot.elsewhere(replace(other, scene=scene), light=light)


def shots(count: int, side: int = 128, seed: int = 0, sticker: float = 0.0) -> Iterator[Shot]:
    """Photos, `side` pixels square, to change at will; cars wear a sticker as often as asked."""
    _check(side, sticker)
    for index in range(count):
        shot, _ = next(_shots(index, range(len(FACELIFTS)), side, seed, sticker))
        yield shot


def _check(side: int, sticker: float) -> None:
    if not 32 <= side <= 1024:
        raise DataError(f"side is {side}; photos are 32 to 1024 pixels square")
    if not 0 <= sticker <= 1:
        raise DataError(f"sticker is {sticker}; give a probability, 0 to 1")


def _labels(kind: str, parts: int | Sequence[str] | None) -> list[int]:
    """The classes of which a pair with these changed parts can be made."""
    if isinstance(parts, str):
        raise DataError(f"parts is {parts!r}; give a sequence of names: [{parts!r}]")
    if not isinstance(parts, int | None) and not len(parts):
        raise DataError("parts names no part; give one or more, a number, or None")
    differing = {label: differing_parts(label) for label in range(len(FACELIFTS))}
    if parts is None:
        return list(differing)
    if isinstance(parts, int):
        labels = [label for label, own in differing.items() if len(own) == parts]
    elif kind == "removed":
        check_removable(parts)
        return list(differing)
    else:
        wanted = set(parts) - {"sticker"}
        labels = [label for label, own in differing.items() if wanted <= set(own)]
    if not labels:
        sets = sorted({", ".join(own) for own in differing.values()})
        raise DataError(f"no model's years differ in {parts!r}; they differ in: {'; '.join(sets)}")
    return labels


def _shots(
    index: int, labels: Sequence[int], side: int, seed: int, sticker: float
) -> Iterator[tuple[Shot, np.random.Generator]]:
    """One photo after the other for pair `index`; the generator is for what else is drawn."""
    rng = np.random.Generator(np.random.PCG64([seed, _STREAM, index]))
    for _ in range(_TRIES):
        label = labels[int(rng.integers(len(labels)))]
        wears = float(rng.random()) < sticker
        view = facelift_view(FACELIFTS[label], rng)
        yield Shot(label, view, side, sticker=wears), rng


def _pair_at(
    index: int, labels: Sequence[int], side: int, seed: int, kind: str,
    parts: int | Sequence[str] | None, sticker: float,
) -> CounterfactualPair:  # fmt: skip
    """Of the photos of `index`, the first in which all parts to be changed are seen, as a pair."""
    named = () if parts is None or isinstance(parts, int) else tuple(parts)
    for shot, rng in _shots(index, labels, side, seed, 1.0 if "sticker" in named else sticker):
        own = differing_parts(shot.label)
        choices = [named or own]
        if parts is None:
            choices = [(own[i],) for i in np.argsort(rng.random(len(own)))]
        for choice in choices:
            pair = shot.swapped(choice) if kind == "swapped" else shot.removed(choice)
            if pair.is_seen:
                return pair
    raise DataError(f"{_TRIES} photos, and none shows {', '.join(named or own)} at {side} pixels")
