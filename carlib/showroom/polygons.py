"""Flat polygons: clip them, cut them into upright strips, fill them."""

from __future__ import annotations

import cv2
import numpy as np

SHIFT = 4
"""Fractional bits of the coordinates that are given to OpenCV: 1/16 pixel."""


def clip_polygon(outline: np.ndarray, axis: int, low: float, high: float) -> np.ndarray:
    """The part of a convex polygon (k, 2) between two values of one coordinate; may be empty."""
    for sign, bound in ((1.0, low), (-1.0, -high)):
        kept: list[np.ndarray] = []
        for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            inside_a, inside_b = sign * a[axis] >= bound, sign * b[axis] >= bound
            if inside_a:
                kept.append(a)
            if inside_a != inside_b:
                t = (bound - sign * a[axis]) / (sign * (b[axis] - a[axis]))
                kept.append(a + t * (b - a))
        if len(kept) < 3:
            return np.empty((0, 2))
        outline = np.array(kept)
    return outline


def columns(outline: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a polygon (k, 2) into upright strips about `width` wide.

    Returns positions and the lower and upper edge there. Every vertical line may cross the outline
    at most twice.
    """
    first, last = outline[:, 0].min(), outline[:, 0].max()
    even = np.linspace(first, last, max(1, int(np.ceil((last - first) / width))) + 1)
    s = np.unique(np.concatenate([even, outline[:, 0]]).round(7))
    a, b = outline, np.roll(outline, -1, axis=0)
    run = b[:, 0] - a[:, 0]
    t = (s[:, None] - a[:, 0]) / np.where(run == 0, 1, run)
    height = a[:, 1] + t * (b[:, 1] - a[:, 1])
    hit = (run != 0) & (t >= -1e-4) & (t <= 1 + 1e-4)
    low = np.where(hit, height, np.inf).min(axis=1)
    high = np.where(hit, height, -np.inf).max(axis=1)
    ok = np.isfinite(low)
    return s[ok], low[ok], high[ok]


def fill_polygon(canvas: np.ndarray, points: np.ndarray, color: tuple[int, ...]) -> None:
    """Fill a polygon (k, 2) that every vertical line crosses at most twice; pixels.

    Strip by strip with `fillConvexPoly`: `fillPoly` gives other pixels in another OpenCV.
    """
    x, low, high = columns(np.asarray(points, dtype=float), np.inf)
    upper, lower = np.stack([x, low], axis=1), np.stack([x, high], axis=1)
    quads = np.stack([upper[:-1], upper[1:], lower[1:], lower[:-1]], axis=1)
    for quad in np.rint(quads * (1 << SHIFT)).astype(np.int32):
        cv2.fillConvexPoly(canvas, quad, color, cv2.LINE_8, SHIFT)
