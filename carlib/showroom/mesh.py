"""A mesh of flat convex polygons, and the builder that collects them.

The renderer is a painter: it draws polygons back to front, so each one carries a *layer* (things
that lie on other things have a higher layer) and, where a thing may end up behind or before the
rest of the car depending on the camera, a second layer for that case.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

PARTS: tuple[str, ...] = (
    "background", "body", "hood", "roof", "door", "bumper", "window", "wheel", "grille",
    "headlight", "taillight", "foglight", "badge", "mirror", "plate", "trim", "interior",
    "sticker",
)  # fmt: skip
"""Names of the ids in a part mask; id 0 is everything that is not car.

"sticker" belongs to no car: it is what a photo may wear to give its class away, on purpose.
"""

PART_ID = {name: i for i, name in enumerate(PARTS)}


@dataclass(frozen=True)
class Material:
    """How a surface answers light; colors are 0..255, weights 0..1."""

    color: tuple[int, int, int] | None  # None: the paint of this photo
    mirror: float = 0.0  # share of the surroundings it reflects when seen head-on
    gloss: float = 0.0  # strength of the highlight
    glow: float = 0.0  # share of its color that needs no light


MATERIALS: dict[str, Material] = {
    "paint": Material(None, mirror=0.07, gloss=0.55),
    "paint_shade": Material(None),  # a seam or a recess: the paint, much darker
    "paint_crease": Material(None, mirror=0.05),  # an edge in the metal: the paint, a little darker
    "black": Material((22, 23, 26), mirror=0.01),
    "plastic": Material((48, 49, 52), mirror=0.02, gloss=0.05),
    "rubber": Material((34, 34, 36)),
    "glass": Material((26, 32, 38), mirror=0.22, gloss=0.6),
    "chrome": Material((205, 208, 212), mirror=0.25, gloss=0.6),
    "silver": Material((196, 198, 202), mirror=0.05, gloss=0.4),
    "alloy": Material((178, 181, 186), mirror=0.03, gloss=0.35),
    "steel": Material((112, 114, 118), mirror=0.02, gloss=0.2),
    "reflector": Material((164, 174, 186), mirror=0.10, gloss=0.4, glow=0.2),
    "smoked": Material((44, 48, 56), mirror=0.10, gloss=0.4),
    "lamp": Material((240, 242, 236), mirror=0.05, gloss=0.5, glow=0.55),
    "led": Material((244, 250, 255), glow=0.9),
    "red_glass": Material((140, 14, 18), mirror=0.06, gloss=0.4, glow=0.3),
    "red_led": Material((255, 66, 52), glow=0.75),
    "amber": Material((255, 160, 30), glow=0.45),
    "white_glass": Material((232, 226, 222), mirror=0.05, glow=0.4),
    "plate": Material((236, 236, 226), glow=0.15),
    "ink": Material((40, 44, 60)),
    "interior": Material((40, 36, 34)),
    "leather": Material((136, 100, 72)),
    "screen": Material((150, 168, 178), mirror=0.25, gloss=0.4),  # glass drawn half transparent
    "red": Material((200, 24, 30), gloss=0.3, glow=0.2),
    "blue": Material((30, 70, 190), gloss=0.3, glow=0.2),
    "gold": Material((226, 178, 50), gloss=0.4, glow=0.2),
    "teal": Material((0, 190, 180), gloss=0.3, glow=0.2),
    "orange": Material((250, 120, 20), gloss=0.3, glow=0.2),
    "green": Material((40, 160, 60), gloss=0.3, glow=0.2),
}  # fmt: skip

MATERIAL_ID = {name: i for i, name in enumerate(MATERIALS)}


class Side(IntEnum):
    """From where a polygon is seen before the rest of the car; elsewhere `far_layer` counts."""

    ANY = 0
    LEFT = 1
    RIGHT = 2
    FRONT = 3


class Layer:
    """Drawing order. Only bodies need their own polygons sorted by depth; see `SORTED`."""

    FAR_WHEEL = 5
    TREAD = 10
    BODY = 20
    BODY_DETAIL = 21  # to 35: lamps, grille, seams, in the order of their own layers
    WHEEL_FACE = 40  # to 46
    FAR_MIRROR = 45  # over the hood, but behind the cabin
    SEAT = 50
    CABIN = 52
    CABIN_DETAIL = 53  # to 59
    SCREEN = 60  # the see-through windshield of an open car
    STICKER = 62  # on either windshield
    NEAR_MIRROR = 70
    SORTED = (BODY, CABIN, SEAT, TREAD)
    HULL = (BODY, CABIN, SEAT, TREAD, SCREEN, NEAR_MIRROR)  # what all years of a model share


@dataclass(frozen=True)
class Mesh:
    """Polygons of one car. V vertices, F faces; face f owns vertices start[f]:start[f + 1]."""

    vertices: np.ndarray  # (V, 3) metres
    start: np.ndarray  # (F + 1,)
    normal: np.ndarray  # (F, 3), unit length, pointing out of the car
    center: np.ndarray  # (F, 3)
    material: np.ndarray  # (F,) index into MATERIALS
    part: np.ndarray  # (F,) index into PARTS
    layer: np.ndarray  # (F,)
    far_layer: np.ndarray  # (F,) the layer when the camera is not on `side`
    side: np.ndarray  # (F,) a `Side`
    turning: np.ndarray  # indices of the vertices that turn with a wheel
    extreme: np.ndarray  # (E, 3) outermost vertices, those of years' own parts left out
    hub: np.ndarray  # (V, 3) the hub such a vertex turns about, NaN for the others


class MeshBuilder:
    """Collects polygons; `build` packs them into a `Mesh`."""

    def __init__(self) -> None:
        self._vertices: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._normals: list[np.ndarray] = []
        self._tags: list[np.ndarray] = []
        self._hubs: list[np.ndarray] = []

    def add(
        self,
        points: np.ndarray,
        material: str | np.ndarray,
        part: str | np.ndarray,
        layer: int,
        outward: np.ndarray | tuple[float, float, float],
        *,
        far_layer: int | None = None,
        side: Side = Side.ANY,
        flat: bool = False,
        hub: np.ndarray | None = None,
    ) -> None:
        """Add convex polygons: one (k, 3), or n of them (n, k, 3) at once.

        `outward` is a direction (3,) or (n, 3) that leaves the car there; it need not be a normal.
        `material` and `part` are names, or arrays of n names. A polygon with a `hub` turns about
        it with the wheel. `far_layer` replaces `layer` when the camera is not on this `side`. A
        `flat` polygon takes `outward`, a unit vector then, as its normal: slivers have no good one.
        """
        points = np.asarray(points, dtype=np.float64)
        points = points[None] if points.ndim == 2 else points
        n, k = points.shape[:2]
        if flat:
            normal = np.tile(np.asarray(outward, dtype=np.float64), (n, 1))
        else:
            normal = _normals(points)
            normal *= np.where((normal * outward).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
        tags = np.empty((n, 5), dtype=np.int64)
        tags[:, 0] = _ids(material, MATERIAL_ID)
        tags[:, 1] = _ids(part, PART_ID)
        tags[:, 2], tags[:, 3] = layer, layer if far_layer is None else far_layer
        tags[:, 4] = side
        self._vertices.append(points.reshape(-1, 3))
        self._counts.append(np.full(n, k))
        self._normals.append(normal)
        self._tags.append(tags)
        self._hubs.append(np.tile(_NO_HUB if hub is None else hub, (n * k, 1)))

    def build(self) -> Mesh:
        vertices, hub = np.concatenate(self._vertices), np.concatenate(self._hubs)
        counts, tags = np.concatenate(self._counts), np.concatenate(self._tags)
        start = np.concatenate([[0], np.cumsum(counts)])
        return Mesh(
            vertices=vertices,
            start=start,
            normal=np.concatenate(self._normals),
            center=np.add.reduceat(vertices, start[:-1]) / counts[:, None],
            material=tags[:, 0],
            part=tags[:, 1],
            layer=tags[:, 2],
            far_layer=tags[:, 3],
            side=tags[:, 4],
            turning=np.flatnonzero(np.isfinite(hub[:, 0])),
            extreme=_extreme(vertices[np.repeat(np.isin(tags[:, 2], Layer.HULL), counts)]),
            hub=hub,
        )


_NO_HUB = np.full(3, np.nan)


def _extreme(vertices: np.ndarray) -> np.ndarray:
    """The vertices that lie furthest out in some 400 directions, evenly spread (Fibonacci)."""
    i = np.arange(400) + 0.5
    height, turn = 1 - 2 * i / 400, i * np.pi * (1 + 5**0.5)
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), height])
    return vertices[np.unique((directions.T @ vertices.T).argmax(axis=1))]


def grid_quads(grid: np.ndarray) -> np.ndarray:
    """The quads (n, 4, 3) between neighbouring points of a grid (rows, columns, 3)."""
    corners = (grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1])
    return np.stack(corners, axis=2).reshape(-1, 4, 3)


def _ids(names: str | np.ndarray, table: dict[str, int]) -> int | list[int]:
    return table[names] if isinstance(names, str) else [table[name] for name in names]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """np.cross for (..., 3), without its price for small arrays."""
    after, before = [1, 2, 0], [2, 0, 1]
    return a[..., after] * b[..., before] - a[..., before] * b[..., after]


def _normals(polygons: np.ndarray) -> np.ndarray:
    """Unit normals (n, 3) of polygons (n, k, 3) that need not be quite flat."""
    fan = polygons[:, 1:] - polygons[:, :1]
    normal = _cross(fan[:, :-1], fan[:, 1:]).sum(axis=1)
    length = np.sqrt((normal**2).sum(axis=1, keepdims=True))
    return normal / np.maximum(length, 1e-12)
