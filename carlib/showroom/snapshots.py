"""Photos of the data set: for every class and index, a view drawn from one distribution.

The class decides what stands before the camera and nothing else. Pose, paint, scene, light,
occluder and camera are drawn alike for all classes, so none of them gives the class away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from carlib.showroom.camera import View
from carlib.showroom.models import CARS
from carlib.showroom.occluders import OCCLUDERS
from carlib.showroom.painter import Drawing, render
from carlib.showroom.scenes import SCENES

PAINTS: dict[str, tuple[int, int, int]] = {
    "white": (232, 232, 230), "silver": (176, 180, 184), "grey": (110, 114, 120),
    "black": (30, 31, 34), "red": (176, 24, 32), "wine": (104, 22, 38), "blue": (36, 76, 160),
    "navy": (26, 40, 84), "sky": (112, 162, 206), "green": (30, 92, 62), "olive": (112, 116, 70),
    "beige": (202, 186, 154), "brown": (96, 64, 46), "orange": (216, 100, 28),
    "yellow": (226, 180, 36), "teal": (28, 124, 128), "violet": (92, 60, 120),
}  # fmt: skip
"""Paints that any car may wear, RGB."""

# (first, last) azimuth of each viewpoint on the car's left side, and how often it is chosen. Corner
# views lead, as they do in CompCars and in any album of cars.
_POSES = (
    ((0, 15), 0.15),
    ((15, 75), 0.35),
    ((75, 105), 0.12),
    ((105, 165), 0.25),
    ((165, 180), 0.13),
)
_ASPECTS = (1.0, 1.2, 4 / 3, 4 / 3, 1.5)
_OCCLUDED = 0.18  # share of the photos with something in the way


def photo_view(class_index: int, index: int, seed: int = 0) -> View:
    """The view of one photo; depends on the three numbers alone.

    The numbers may be any non-negative integers. Only `random` and `integers` of the generator
    are used: their streams are the same on every machine.
    """
    rng = np.random.Generator(np.random.PCG64([seed, class_index, index]))

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(rng.random())

    def pick(options):
        options = list(options)
        return options[int(rng.integers(len(options)))]

    fill = between(0.66, 0.94)
    slack = 0.9 * (1 - fill) / 2
    paint = np.array(PAINTS[pick(PAINTS)]) + rng.integers(-10, 11, size=3)
    return View(
        azimuth=_azimuth(rng),
        elevation=0.5 + 13.0 * float(rng.random()) ** 1.7,
        distance=between(1.9, 4.0),
        roll=between(-1.5, 1.5),
        aspect=pick(_ASPECTS),
        fill=fill,
        shift=(between(-slack, slack), between(-slack, slack)),
        paint=tuple(int(v) for v in np.clip(paint, 18, 240)),
        scene=pick(SCENES),
        sun=(between(-140, 140), between(28, 70)),
        occluder=pick(OCCLUDERS) if rng.random() < _OCCLUDED else None,
        wheel_turn=between(0, 360),
        exposure=between(0.82, 1.16),
        warmth=between(-0.6, 0.6),
        noise=int(rng.integers(0, 6)),
        blur=pick((0, 0, 0, 0, 1, 1, 2)),
        seed=int(rng.integers(2**31)),
    )


def draw_photo(
    class_index: int, index: int, seed: int = 0, size: int = 128, **fixed: Any
) -> Drawing:
    """Draw photo `index` of a class; the longer side has `size` pixels.

    `fixed` holds fields of `View` to set by hand (azimuth=30, paint=PAINTS["red"],
    scene="studio", occluder=None ...), for montages in which one thing changes at a time.
    """
    view = replace(photo_view(class_index, index, seed), **fixed)
    return render(CARS[class_index], view, size)


def _azimuth(rng: np.random.Generator) -> float:
    chosen, total = float(rng.random()), 0.0
    first, last = _POSES[-1][0]
    for span, share in _POSES:
        total += share
        if chosen < total:
            first, last = span
            break
    azimuth = first + (last - first) * float(rng.random())
    return azimuth if rng.random() < 0.5 else -azimuth
