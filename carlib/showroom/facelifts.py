"""Eight more cars, one of each make, whose two years differ in one, two or three parts in front.

They are photographed from in front, near or far, so that all that differs is in nearly every
photo and takes from about 1 % to 10 % of it: who reads an explanation off such a photo knows the
whole reason why it shows the one year and not the other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from carlib.showroom.camera import View, place_camera
from carlib.showroom.car import build_mesh
from carlib.showroom.makes import CarSpec
from carlib.showroom.models import CARS, changed_parts
from carlib.showroom.occluders import OCCLUDERS
from carlib.showroom.painter import Drawing, render
from carlib.showroom.scenes import SCENES
from carlib.showroom.snapshots import OCCLUDED, draw_paint

# (make, model of the showroom whose body it has) -> what is new in the second year.
_NEWS: dict[tuple[str, str], dict[str, str]] = {
    ("Aurora", "Summit"): {"grille": "slats"},
    ("Elmira", "Lumen"): {"headlight": "dashes"},
    ("Bexmoor", "Meadow"): {"wheel": "three"},
    ("Caldera", "Basalt"): {"grille": "slats", "headlight": "frame"},
    ("Drummond", "Falconer"): {"headlight": "bracket", "wheel": "disc"},
    ("Juniper", "Fern"): {"grille": "single", "foglight": "round"},
    ("Fennix", "Cinder"): {"grille": "slats", "headlight": "claw", "foglight": "slit"},
    ("Halcyon", "Homestead"): {"grille": "single", "headlight": "quad", "wheel": "three"},
}


def _facelifts() -> tuple[CarSpec, ...]:
    cars = []
    for key, news in _NEWS.items():
        older, newer = (car for car in CARS if (car.make, car.model) == key)
        first = replace(older, model=f"{older.model} GT")
        second = replace(first, year=newer.year, edition=replace(first.edition, **news))
        cars += [first, second]
    return tuple(cars)


FACELIFTS: tuple[CarSpec, ...] = _facelifts()
"""The classes, in label order; labels 2 k and 2 k + 1 are the two years of one model."""

STICKERS: tuple[str, str] = ("teal", "orange")
"""Materials of the sticker that an older and a newer car wear to give their year away."""

NEAREST = 2.4  # how many photos wide or high the whole car would be at the nearest


def differing_parts(label: int) -> tuple[str, ...]:
    """The parts in which a class of `FACELIFTS` differs from the other year of its model."""
    return changed_parts(FACELIFTS[label].make, FACELIFTS[label].model, FACELIFTS)


def draw_facelift(
    label: int, index: int, seed: int = 0, size: int = 128, sticker: str = ""
) -> Drawing:
    """Draw photo `index` of a class of `FACELIFTS`, size x size; see `render` for `sticker`."""
    rng = np.random.Generator(np.random.PCG64([seed, 40, label, index]))
    car = FACELIFTS[label]
    return render(car, facelift_view(car, rng), size, sticker)


def facelift_view(car: CarSpec, rng: np.random.Generator) -> View:
    """A view of the nose of `car` as `rng` has it: the parameters are alike for all classes."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(rng.random())

    def pick(options):
        options = list(options)
        return options[int(rng.integers(len(options)))]

    side = 1.0 if rng.random() < 0.5 else -1.0
    view = View(
        azimuth=side * between(16, 58),
        elevation=1.0 + 8.0 * float(rng.random()) ** 1.5,
        distance=between(2.5, 4.0),
        roll=between(-1.0, 1.0),
        aspect=1.0,
        fill=0.8 * (NEAREST / 0.8) ** float(rng.random()),
        paint=draw_paint(rng),
        scene=pick(SCENES),
        sun=(between(-90, 90), between(32, 68)),
        occluder=pick(OCCLUDERS) if rng.random() < OCCLUDED else None,
        wheel_turn=between(0, 360),
        exposure=between(0.9, 1.12),
        warmth=between(-0.3, 0.3),
        noise=int(rng.integers(0, 4)),
        seed=int(rng.integers(2**31)),
    )
    return replace(view, shift=_toward_nose(car, view, (between(-1, 1), between(-1, 1))))


def _toward_nose(car: CarSpec, view: View, stray: tuple[float, float]) -> tuple[float, float]:
    """The shift that brings the nose to the middle, the more the nearer, give or take `stray`."""
    shape = car.shape
    camera = place_camera(view, build_mesh(car).extreme, shape.front_x - shape.rear_x, 1000)
    side = np.sign(view.azimuth)
    nose = np.array([shape.front_x - 0.55, side * 0.2 * shape.width, 0.85 * shape.nose_z])
    near = min(1.0, max(0.0, (view.fill - 0.8) / 1.2))
    aside = near * (0.5 - camera.project(nose) / 1000)
    aside = np.round(aside + 0.05 * np.asarray(stray), 6)
    return float(aside[0]), float(aside[1])
