"""What is laid on the metal: lamps, grille, badge, plate, seams, and the wheels.

Outlines come from `makes` in unit boxes. Here they are cut into narrow upright strips, and each
strip is bent onto the shell, so that a lamp wraps round the corner of the car as a real one does.
"""

from __future__ import annotations

import numpy as np

from carlib.showroom.geometry import Shell
from carlib.showroom.makes import Box, CarSpec, Lamp, Polygon
from carlib.showroom.mesh import Layer, MeshBuilder, Side, grid_quads
from carlib.showroom.polygons import clip_polygon, columns

STRIP = 0.055  # metres: width of the strips that follow the curve of the body

_TURN = 2 * np.pi * np.arange(24) / 24
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


class Face:
    """Lays outlines on the nose (`rear=False`) or the tail of a shell.

    `u` counts half-widths of the car along the metal from its middle, `w` goes from the lower edge
    (0) to the leading edge of the hood, or the rear edge of the deck (1).
    """

    def __init__(self, builder: MeshBuilder, shell: Shell, *, rear: bool) -> None:
        self.builder, self.shell, self.rear = builder, shell, rear
        shape = shell.shape
        self.unit = shape.width / 2
        self.low = float(shell.bottom(shape.rear_x if rear else shape.front_x))
        self.high = shape.tail_z if rear else shape.nose_z
        self.height = self.high - self.low

    def box(self, outline: Polygon | np.ndarray, box: Box) -> np.ndarray:
        """An outline of the unit box moved into `box`, in metres (arc length, height)."""
        u0, u1, w0, w1 = box
        points = np.asarray(outline, dtype=float)
        u = (u0 + points[:, 0] * (u1 - u0)) * self.unit
        w = self.low + (w0 + points[:, 1] * (w1 - w0)) * self.height
        return np.stack([u, w], axis=1)

    def lay(self, outline: np.ndarray, hand: int, material: str, part: str, layer: int) -> None:
        """Lay an outline in metres on the left (hand = 1) or right (-1) half."""
        if len(outline) < 3:
            return
        u, low, high = columns(outline, STRIP)
        s = (self.shell.outline.length - u) if self.rear else u
        lift = 0.003 + 0.001 * (layer - Layer.BODY_DETAIL)
        grid = self.shell.at(hand * s[:, None], np.stack([low, high], axis=1), lift)
        quads = grid_quads(grid)
        self.builder.add(quads, material, part, layer, outward(quads, self.shell))


def outward(polygons: np.ndarray, shell: Shell) -> np.ndarray:
    """Directions (n, 3) that leave the shell at polygons (n, k, 3)."""
    center = polygons.mean(axis=1)
    inner = np.stack(
        [
            np.clip(center[:, 0], shell.shape.rear_x + 0.8, shell.shape.front_x - 0.8),
            np.zeros(len(center)),
            np.full(len(center), 0.5 * shell.shape.belt_z),
        ],
        axis=1,
    )
    return (center - inner) * [1.0, 1.0, 0.3]


def lay_lamp(face: Face, lamp: Lamp, pattern: str, part: str) -> None:
    """Both lamps of a pair, with what shines in them."""
    older = pattern == next(iter(lamp.patterns))
    glass = "red_glass" if part == "taillight" else "reflector" if older else "smoked"
    outline = face.box(lamp.outline, lamp.box)
    middle, extent = outline.mean(axis=0), np.ptp(outline, axis=0)
    rim = middle + (outline - middle) * (1 + 2 * 0.014 / extent)
    if lamp.box[0] == 0:  # a bar from side to side has no rim in the middle
        rim[:, 0] = np.maximum(rim[:, 0], 0.0)
    for hand in (1, -1):
        face.lay(rim, hand, "black", part, 24)
        face.lay(outline, hand, glass, part, 25)
        for depth, (material, element) in enumerate(lamp.patterns[pattern]):
            face.lay(face.box(element, lamp.box), hand, material, part, 26 + min(depth, 2))


def lay_grille(face: Face, car: CarSpec) -> None:
    """Grille opening, rim and pattern; two nostrils where the make's box leaves the middle free."""
    outline = face.box(car.signature.grille, car.signature.grille_box)
    middle = (
        outline.mean(axis=0) if car.signature.grille_box[0] > 0 else [0.0, outline[:, 1].mean()]
    )
    inner = middle + (outline - middle) * [0.91, 0.86]
    for hand in (1, -1):
        face.lay(outline, hand, car.signature.grille_frame, "grille", 22)
        face.lay(inner, hand, "black", "grille", 23)
        for piece in _grille_pattern(inner, car.edition.grille):
            face.lay(piece, hand, "silver", "grille", 24)


def _grille_pattern(inner: np.ndarray, pattern: str) -> list[np.ndarray]:
    """The bright pieces of the right half of a grille; metres."""
    (u0, w0), (u1, w1) = inner.min(axis=0), inner.max(axis=0)
    width, height = u1 - u0, w1 - w0

    def rows(count: int, share: float) -> list[np.ndarray]:
        step = height / count
        lows = w0 + step * (np.arange(count) + 0.5 - share / 2)
        return [clip_polygon(inner, 1, low, low + share * step) for low in lows]

    def uprights(count: int, share: float) -> list[np.ndarray]:
        step = width / count
        lows = u0 + step * (np.arange(count) + 0.5 - share / 2)
        return [clip_polygon(inner, 0, low, low + share * step) for low in lows]

    if pattern == "bars":
        return rows(3 if height < 0.25 else 4, 0.42)
    if pattern == "slats":
        return uprights(max(3, round(width / 0.085)), 0.45)
    if pattern == "mesh":
        cells = [clip_polygon(row, 0, u0 + width * (i + 0.22) / 4, u0 + width * (i + 0.78) / 4)
                 for row in rows(4, 0.5) if len(row) for i in range(4)]  # fmt: skip
        return [cell for cell in cells if len(cell)]
    if pattern == "single":
        return [clip_polygon(inner, 1, w0 + 0.38 * height, w0 + 0.66 * height)]
    raise ValueError(f"unknown grille pattern {pattern!r}")


_BADGES: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "circle": (tuple(map(tuple, _CIRCLE[::2])),),
    "diamond": (((0, -1.2), (0.9, 0), (0, 1.2), (-0.9, 0)),),
    "triangle": (((-1, -0.8), (1, -0.8), (0, 1.0)),),
    "shield": (((0, -1.2), (0.9, -0.2), (0.9, 0.9), (-0.9, 0.9), (-0.9, -0.2)),),
    "leaf": (((0, -1.3), (0.6, -0.5), (0.6, 0.4), (0, 1.3), (-0.6, 0.4), (-0.6, -0.5)),),
    "chevron": (
        ((-1.2, -0.7), (-0.5, -0.7), (0.2, 0.9), (-0.2, 0.9)),
        ((1.2, -0.7), (0.5, -0.7), (-0.2, 0.9), (0.2, 0.9)),
    ),
    "wings": (
        ((-2.2, 0.5), (0, 0.2), (0, -0.5), (-1.4, -0.3)),
        ((2.2, 0.5), (0, 0.2), (0, -0.5), (1.4, -0.3)),
        tuple((0.6 * x, 0.75 * y) for x, y in _CIRCLE[::2]),
    ),
    "star": (
        ((0, 1.3), (0.3, 0), (0, -1.3), (-0.3, 0)),
        ((1.3, 0), (0, 0.3), (-1.3, 0), (0, -0.3)),
    ),
}
"""Badges as convex polygons, y up, about one unit in radius."""


def lay_badge(face: Face, car: CarSpec, w: float) -> None:
    """The make's badge in the middle of the face: upright, on a dark ground that is part of it."""
    size, middle = 0.066, face.low + w * face.height
    x = _front_most(face, middle - 0.06, middle + 0.06)
    for scale, material, layer in ((1.4, "black", 29), (1.0, car.signature.badge_color, 30)):
        for polygon in _BADGES[car.signature.badge]:
            flat = np.asarray(polygon) * size * scale
            points = np.stack([np.full(len(flat), x), flat[:, 0], middle + flat[:, 1]], axis=1)
            face.builder.add(points, material, "badge", layer, (-1 if face.rear else 1, 0, 0))


def lay_plate(face: Face, w: float) -> None:
    """Licence plate in the middle; the marks on it mean nothing."""
    half, height = 0.23, 0.115
    low = face.low + w * face.height
    x, out = _front_most(face, low, low + height), -1 if face.rear else 1
    marks = [(-0.19, -0.14), (-0.12, -0.07), (-0.03, 0.02), (0.04, 0.09), (0.11, 0.18)]
    pieces = [((-half, half), (0, height), "plate", 27)]
    pieces += [(mark, (0.03, height - 0.03), "ink", 28) for mark in marks]
    for (y0, y1), (z0, z1), material, layer in pieces:
        y = np.array([y0, y1, y1, y0])
        z = low + np.array([z0, z0, z1, z1])
        points = np.stack([np.full(4, x + 0.001 * out * (layer - 27)), y, z], axis=1)
        face.builder.add(points, material, "plate", layer, (out, 0, 0))


def _front_most(face: Face, low: float, high: float) -> float:
    """x of a flat upright thing that touches the middle of the face between two heights."""
    s = face.shell.outline.length if face.rear else 0.0
    points = face.shell.at(np.full(3, s), np.linspace(low, high, 3), 0.012)
    return float(points[:, 0].min() if face.rear else points[:, 0].max())


def lay_wheel(builder: MeshBuilder, hub: np.ndarray, radius: float, design: str, hand: int) -> None:
    """A tyre with its tread, and the rim's face, flush with the side of the body.

    `hub` is the middle of the outer face; `hand` is +1 on the left of the car.
    """
    wide = 0.22
    out = np.array([0.0, hand, 0.0])
    ring = np.stack([_CIRCLE[:, 0], np.zeros(24), _CIRCLE[:, 1]], axis=1)
    outer, inner = hub + ring * radius, hub + ring * radius - out * wide
    following = np.roll(np.arange(24), -1)
    side = Side.LEFT if hand == 1 else Side.RIGHT
    tread = np.stack([outer, outer[following], inner[following], inner], axis=1)
    builder.add(tread, "rubber", "wheel", Layer.TREAD, ring, far_layer=Layer.FAR_WHEEL, side=side)
    builder.add(inner, "rubber", "wheel", Layer.FAR_WHEEL, -out)
    builder.add(outer, "rubber", "wheel", Layer.WHEEL_FACE, out)

    def disc(polygons: np.ndarray, material: str, layer: int) -> None:
        flat = np.asarray(polygons, dtype=float) * radius
        flat = flat[None] if flat.ndim == 2 else flat
        points = hub + out * 0.002 * (layer - 39)
        points = points + np.stack([flat[..., 0], np.zeros(flat.shape[:2]), flat[..., 1]], axis=-1)
        builder.add(points, material, "wheel", layer, out, hub=hub)

    disc(_CIRCLE * 0.70, "alloy", Layer.WHEEL_FACE + 1)
    for material, layer, polygons in rim_design(design):
        disc(polygons, material, Layer.WHEEL_FACE + layer)


def rim_design(name: str) -> list[tuple[str, int, np.ndarray]]:
    """(material, layer, convex polygons (n, k, 2)) on a rim of radius 0.70 (the tyre's is 1)."""

    def spokes(count: int, foot: float, tip: float, lean: float = 0.0) -> np.ndarray:
        shape = np.array([[0.08, -foot], [0.66, -tip + lean], [0.66, tip + lean], [0.08, foot]])
        angle = 2 * np.pi * np.arange(count) / count
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
        x, y = shape[:, 0], shape[:, 1]
        return np.stack([c * x - s * y, s * x + c * y], axis=-1)

    well = ("black", 2, _CIRCLE[None] * 0.61)
    cap = ("alloy", 4, _CIRCLE[None, ::2] * 0.14)
    if name == "disc":  # a pressed steel wheel with small holes
        angle = 2 * np.pi * np.arange(8) / 8
        holes = (
            0.44 * np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None] + 0.085 * _CIRCLE[::3]
        )
        return [("steel", 2, _CIRCLE[None] * 0.66), ("black", 3, holes),
                ("chrome", 4, _CIRCLE[None, ::2] * 0.2)]  # fmt: skip
    designs = {
        "five": [spokes(5, 0.09, 0.13)],
        "ten": [spokes(10, 0.035, 0.05)],
        "twin": [spokes(5, 0.035, 0.045, lean=0.12), spokes(5, 0.035, 0.045, lean=-0.12)],
        "turbine": [spokes(8, 0.04, 0.10, lean=0.26)],
        "three": [spokes(3, 0.13, 0.22)],
        "star": [spokes(6, 0.13, 0.04)],
    }
    return [well, *(("alloy", 3, polygons) for polygons in designs[name]), cap]
