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

_NEUTRALS = ("white", "silver", "grey", "black")
_NEUTRAL_SHARE = 0.6  # about what is seen on the road

# Where photographers stand: azimuth on the car's left side, how far they stray from it, and how
# often. Corner views lead, as they do in CompCars and in any album of cars.
_POSES = ((0, 15, 0.15), (45, 30, 0.35), (90, 15, 0.12), (135, 30, 0.25), (180, 15, 0.13))
_ASPECTS = (1.0, 1.2, 4 / 3, 4 / 3, 1.5)
OCCLUDED = 0.1  # share of the photos with something in the way


def draw_paint(rng: np.random.Generator) -> tuple[int, int, int]:
    """A paint that any car may wear, RGB: mostly a neutral one, and no two quite alike."""
    names = list(_NEUTRALS if rng.random() < _NEUTRAL_SHARE else PAINTS)
    paint = np.array(PAINTS[names[int(rng.integers(len(names)))]])
    paint = np.clip(paint + rng.integers(-10, 11, size=3), 18, 240)
    return (int(paint[0]), int(paint[1]), int(paint[2]))


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

    fill = between(0.70, 0.94)
    slack = 0.9 * (1 - fill) / 2
    paint = draw_paint(rng)
    return View(
        azimuth=_azimuth(rng),
        elevation=1.0 + 8.0 * float(rng.random()) ** 1.5,
        distance=between(2.5, 4.0),
        roll=between(-1.0, 1.0),
        aspect=pick(_ASPECTS),
        fill=fill,
        shift=(between(-slack, slack), between(-slack, slack)),
        paint=paint,
        scene=pick(SCENES),
        sun=(between(-90, 90), between(32, 68)),
        occluder=pick(OCCLUDERS) if rng.random() < OCCLUDED else None,
        wheel_turn=between(0, 360),
        exposure=between(0.9, 1.12),
        warmth=between(-0.3, 0.3),
        noise=int(rng.integers(0, 4)),
        blur=pick((0, 0, 0, 0, 1)),
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
    shares = np.cumsum([share for *_, share in _POSES])
    place = min(int((shares <= rng.random()).sum()), len(_POSES) - 1)
    middle, stray, _ = _POSES[place]
    lean = float(rng.random()) - float(rng.random())  # two dice: the middle is likeliest
    azimuth = middle + stray * lean
    return azimuth if rng.random() < 0.5 else -azimuth
