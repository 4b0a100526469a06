"""Things that get in the way: what an occluder paints over is gone from photo and mask alike."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from carlib.showroom.polygons import fill_polygon
from carlib.showroom.scenes import Color, Light


def draw_occluder(canvas: np.ndarray, name: str, light: Light, rng: np.random.Generator) -> None:
    """Draw an occluder over a canvas (H, W, 4) of color and part id; its own part id is 0.

    KeyError names an unknown one.
    """
    OCCLUDERS[name](canvas, light, rng)


def _fill(canvas: np.ndarray, points, color) -> None:
    fill_polygon(canvas, points, (*(int(c) for c in color), 0))


def _disc(canvas: np.ndarray, x: float, y: float, rx: float, ry: float, color) -> None:
    center, axes = (round(x), round(y)), (max(1, round(rx)), max(1, round(ry)))
    cv2.ellipse(canvas, center, axes, 0, 0, 360, (*(int(c) for c in color), 0), -1)


def _tinted(color: Color, light: Light, share: float = 1.0) -> np.ndarray:
    return np.clip(np.array(color) * (light.sky_glow + 0.5 * light.sun_glow) * share, 0, 255)


def _pole(canvas: np.ndarray, light: Light, rng: np.random.Generator) -> None:
    h, w = canvas.shape[:2]
    x, r = rng.uniform(0.15, 0.85) * w, rng.uniform(0.012, 0.026) * w
    color = ((120, 122, 126), (90, 74, 58), (60, 84, 70))[int(rng.integers(3))]
    foot = h * rng.uniform(0.93, 1.05)
    for left, right, share in ((-1, 1, 0.75), (-0.7, 0.2, 1.05), (-0.4, -0.1, 1.3)):
        box = [(x + left * r, -2), (x + right * r, -2), (x + right * r, foot), (x + left * r, foot)]
        _fill(canvas, box, _tinted(color, light, share))


def _bush(canvas: np.ndarray, light: Light, rng: np.random.Generator) -> None:
    h, w = canvas.shape[:2]
    x, wide = rng.uniform(0.0, 1.0) * w, rng.uniform(0.10, 0.20) * w
    y = h * rng.uniform(0.92, 1.0)
    for i in range(26):
        share = 0.55 + 0.5 * i / 26
        dx, dy = rng.uniform(-1, 1), rng.uniform(-1, 0.4)
        r = wide * rng.uniform(0.16, 0.34)
        px, py = x + dx * wide, y + dy * wide * 0.8 * (1 - 0.45 * dx * dx)
        _disc(canvas, px, py, r, r * 0.8, _tinted((78, 122, 56), light, share))


_LEG = np.array([(0.7, 8.0), (0.2, 8.0), (0.9, 15.4), (1.5, 15.4)])
_COAT = np.array([
    (-1.7, 3.0), (-1.0, 2.2), (1.0, 2.2), (1.7, 3.0), (1.8, 7.6), (1.2, 9.0),
    (-1.2, 9.0), (-1.8, 7.6),
])  # fmt: skip


def _person(canvas: np.ndarray, light: Light, rng: np.random.Generator) -> None:
    """Somebody walking past, 15.4 units of `r` tall."""
    h, w = canvas.shape[:2]
    r = h * rng.uniform(0.5, 0.72) / 15.4
    x, foot = rng.uniform(0.12, 0.88) * w, h * rng.uniform(0.93, 1.0)
    coats = ((150, 50, 54), (52, 74, 120), (60, 60, 64), (190, 170, 120), (70, 110, 80))
    coat = coats[int(rng.integers(len(coats)))]
    top = np.array([x, foot - 15.4 * r])
    for side in (-1, 1):
        _fill(canvas, top + _LEG * [side * r, r], _tinted((48, 50, 62), light))
    _fill(canvas, top + _COAT * r, _tinted(coat, light))
    _disc(canvas, x, top[1] + 0.9 * r, r * 0.95, r, _tinted((60, 44, 34), light))
    _disc(canvas, x, top[1] + 1.25 * r, r * 0.8, r * 0.95, _tinted((206, 160, 130), light))


# Outlines of `_corner`: x in widths of the visible piece from its outer edge, y in photo heights
# from the foot of the rear window; y above 0.35 is measured from the ground instead.
_REAR = ((2, -0.10), (0.75, -0.08), (0.35, 0.06), (0.10, 0.10), (0.0, 0.24))
_SKIRT = ((0.06, 0.97), (0.3, 1.02), (2, 1.02))


def _corner(canvas: np.ndarray, light: Light, rng: np.random.Generator) -> None:
    """The rear corner of a car parked in front, cut off by the edge of the photo."""
    h, w = canvas.shape[:2]
    color = ((186, 188, 192), (60, 66, 76), (140, 30, 36), (40, 70, 120))[int(rng.integers(4))]
    left = rng.random() < 0.5
    wide, top = rng.uniform(0.10, 0.22) * w, rng.uniform(0.42, 0.6)

    def fill(from_top, from_ground, tint: Color, share: float = 1.0) -> None:
        points = [(x, top + y) for x, y in from_top] + list(from_ground)
        flat = [(wide * (1 - x) if left else w - wide * (1 - x), h * y) for x, y in points]
        _fill(canvas, flat, _tinted(tint, light, share))

    fill(_REAR, _SKIRT, color)
    fill((), ((2, 0.90), (0.02, 0.86), *_SKIRT), color, 0.6)
    fill(((2, -0.07), (0.85, -0.055), (0.52, 0.06), (2, 0.06)), (), (50, 60, 70))
    fill(((0.30, 0.12), (0.04, 0.13), (0.02, 0.24), (0.30, 0.24)), (), (190, 30, 30))


def _crates(canvas: np.ndarray, light: Light, rng: np.random.Generator) -> None:
    h, w = canvas.shape[:2]
    x, foot = rng.uniform(0.05, 0.8) * w, h * rng.uniform(0.95, 1.03)
    for i in range(int(rng.integers(1, 3))):
        wide = w * rng.uniform(0.09, 0.14)
        left, low = x + w * rng.uniform(-0.02, 0.02), foot - i * wide * 0.8
        box = [
            (left, low - wide * 0.8),
            (left + wide, low - wide * 0.8),
            (left + wide, low),
            (left, low),
        ]
        _fill(canvas, box, _tinted((168, 126, 80), light, 1.0 - 0.1 * i))
        for k in (0.3, 0.62):
            y = low - wide * 0.8 * k
            line = [
                (left, y),
                (left + wide, y),
                (left + wide, y + wide * 0.05),
                (left, y + wide * 0.05),
            ]
            _fill(canvas, line, _tinted((104, 76, 48), light))


OCCLUDERS: dict[str, Callable[[np.ndarray, Light, np.random.Generator], None]] = {
    "pole": _pole,
    "bush": _bush,
    "person": _person,
    "corner": _corner,
    "crates": _crates,
}
