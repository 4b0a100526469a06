"""Turns a car and a view into a photo and its truth: part mask, box, viewpoint.

A painter's renderer. Polygons are culled, shaded once each and drawn back to front into one
four-channel canvas: red, green, blue and the part id. So the mask can never disagree with the
picture, and what an occluder paints over is gone from both. The canvas is drawn two or three times
larger and averaged down. Vertices are rounded to 1/16 pixel and colors to 8 bits before drawing,
and all that follows is integer arithmetic, so a photo is the same array on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from carlib.showroom.camera import Camera, View, place_camera
from carlib.showroom.car import build_mesh
from carlib.showroom.makes import CarSpec
from carlib.showroom.mesh import MATERIALS, Layer, Mesh, Side
from carlib.showroom.occluders import draw_occluder
from carlib.showroom.polygons import SHIFT
from carlib.showroom.scenes import Light, paint_scene

_COLOR = np.array([m.color or (0, 0, 0) for m in MATERIALS.values()], dtype=np.float64)
_MIRROR = np.array([m.mirror for m in MATERIALS.values()])
_GLOSS = np.array([m.gloss for m in MATERIALS.values()])
_GLOW = np.array([m.glow for m in MATERIALS.values()])
_NAMES = list(MATERIALS)
_PAINTS = {"paint": 1.0, "paint_shade": 0.34, "paint_crease": 0.86}  # share of the paint's color
_SCREEN = _NAMES.index("screen")


@dataclass(frozen=True)
class Drawing:
    """A drawn photo and the truth about it."""

    image: np.ndarray  # (H, W, 3) uint8, RGB
    parts: np.ndarray  # (H, W) uint8, index into PARTS; 0 where there is no car
    box: tuple[int, int, int, int]  # x1, y1, x2, y2 of the visible car, 0-based, half-open
    azimuth: float
    viewpoint: str


Window = tuple[int, int, int, int]
"""x1, y1, x2, y2 on a canvas, half-open."""


@dataclass(frozen=True)
class Stage:
    """All of a photo but its car: what is drawn on one stage differs in the car alone."""

    view: View
    camera: Camera
    light: Light
    backdrop: np.ndarray  # (H * scale, W * scale, 4) uint8: scene, cast shadow, part id 0
    scale: int  # the canvas is so many times larger than the photo
    rng: np.random.Generator  # for what comes after the car: occluder and noise

    def draw(
        self, mesh: Mesh, hidden: Sequence[int] = (), window: Window | None = None
    ) -> np.ndarray:
        """A canvas like `backdrop` with the car on it.

        The polygons of `hidden` part ids are left out. With a `window`, those that do not reach
        into it are left out too, and only what is inside of the window is right.
        """
        canvas = self.backdrop.copy()
        pixels = self.camera.project(_turned(mesh, self.view.wheel_turn)) * self.scale - 0.5
        faces = np.flatnonzero(_facing(mesh, self.camera))
        if len(hidden):
            faces = faces[~np.isin(mesh.part[faces], hidden)]
        if window:
            faces = faces[_reaches(pixels, mesh.start, window)[faces]]
        draw_faces(canvas, mesh, faces, pixels, self.view, self.camera, self.light)
        return canvas

    def window(self, meshes: Iterable[Mesh], parts: Sequence[int]) -> Window:
        """A window, in whole photo pixels, outside of which `parts` of `meshes` are not seen."""
        height, width = self.backdrop.shape[:2]
        points = []
        for mesh in meshes:  # wheels turn in the disc of their tread: no need to turn them here
            points.append(mesh.vertices[np.repeat(np.isin(mesh.part, parts), np.diff(mesh.start))])
        pixels = self.camera.project(np.concatenate(points))
        if not len(pixels):
            return (0, 0, 0, 0)
        low = np.clip(pixels.min(axis=0) - 1, 0, None).astype(int) * self.scale
        high = np.clip(pixels.max(axis=0) + 2, 0, None).astype(int) * self.scale
        return int(low[0]), int(low[1]), min(int(high[0]), width), min(int(high[1]), height)

    def develop(
        self, canvas: np.ndarray, window: Window | None = None, around: np.ndarray | None = None
    ) -> np.ndarray:
        """The photo (H, W, 3) of a canvas, into which it draws the occluder.

        With a `window`, the photo `around` already is what it would be outside of that.
        """
        bits = np.random.PCG64(0)  # all photos of a stage have the same occluder and noise
        bits.state = self.rng.bit_generator.state
        rng = np.random.Generator(bits)
        if self.view.occluder:
            draw_occluder(canvas, self.view.occluder, self.light, rng)
        height, width = (side // self.scale for side in canvas.shape[:2])
        noise = _noise(self.view, (height, width), rng)
        if window is None or self.view.blur:  # which carries a change out of the window
            return develop(_shrink(canvas, self.scale), self.view, noise)
        x1, y1, x2, y2 = window
        there = np.s_[y1 // self.scale : y2 // self.scale, x1 // self.scale : x2 // self.scale]
        photo = around.copy()
        if photo[there].size:
            small = _shrink(canvas[y1:y2, x1:x2], self.scale)
            photo[there] = develop(small, self.view, noise[there])
        return photo

    def parts(self, canvas: np.ndarray) -> np.ndarray:
        """Part ids (H, W) in the middles of the photo's pixels."""
        middle = slice(self.scale // 2, None, self.scale)
        return np.ascontiguousarray(canvas[middle, middle, 3])


def render(car: CarSpec, view: View, size: int = 128, sticker: str = "") -> Drawing:
    """Draw `car` as `view` sees it; the longer side of the photo has `size` pixels.

    `sticker` is the material of a sticker on the windshield; without one there is none.
    """
    stage = set_stage(car, view, size)
    canvas = stage.draw(build_mesh(car, fineness(size), sticker))
    image = stage.develop(canvas)
    parts = stage.parts(canvas)
    return Drawing(image, parts, box_of(parts), float(view.azimuth), view.viewpoint)


def fineness(size: int) -> int:
    """How finely the sheet metal is cut (see `build_mesh`) for photos of `size` pixels."""
    return 1 if size <= 160 else 2 if size <= 256 else 3


def set_stage(car: CarSpec, view: View, size: int) -> Stage:
    """The stage for photos of `car`, or of one of the same shape, with a longer side of `size`."""
    length = car.shape.front_x - car.shape.rear_x
    camera = place_camera(view, build_mesh(car, fineness(size)).extreme, length, size)
    rng = np.random.Generator(np.random.PCG64([view.seed, 7]))
    scene, light = paint_scene(view, camera, rng)
    _cast_shadow(scene, car, camera, light)
    scale = 3 if size <= 192 else 2
    canvas = np.zeros((*scene.shape[:2], 4), np.uint8)
    canvas[..., :3] = scene
    canvas = canvas.repeat(scale, axis=0).repeat(scale, axis=1)
    return Stage(view, camera, light, canvas, scale, rng)


def box_of(parts: np.ndarray) -> tuple[int, int, int, int]:
    """Tight box (x1, y1, x2, y2), half-open, of all that is car in a part mask."""
    columns, rows = np.flatnonzero(parts.any(axis=0)), np.flatnonzero(parts.any(axis=1))
    if not len(rows):
        return (0, 0, 0, 0)
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def draw_faces(
    canvas: np.ndarray, mesh: Mesh, faces: np.ndarray, pixels: np.ndarray,
    view: View, camera: Camera, light: Light,
) -> None:  # fmt: skip
    """Draw `faces` (n,) of a mesh, back to front; `pixels` (V, 2) of all vertices on the canvas."""
    layer = _layers(mesh, faces, camera)
    depth = np.sqrt(((camera.position - mesh.center[faces]) ** 2).sum(axis=1))
    key = layer * 1e3 - np.where(np.isin(layer, Layer.SORTED), depth.round(5), 0.0)
    faces = faces[np.argsort(key, kind="stable")]
    points = np.rint(pixels * (1 << SHIFT)).astype(np.int32)
    colors = np.empty((len(faces), 4))
    colors[:, :3] = shade(mesh, faces, view, camera, light)
    colors[:, 3] = mesh.part[faces]
    starts, stops = mesh.start[faces].tolist(), mesh.start[faces + 1].tolist()
    screens = (mesh.material[faces] == _SCREEN).tolist()
    before = None
    for first, last, color, screen in zip(starts, stops, colors.tolist(), screens, strict=True):
        if screen and before is None:
            before = canvas[..., :3].copy()
        elif before is not None and not screen:
            _see_through(canvas, before)
            before = None
        cv2.fillConvexPoly(canvas, points[first:last], color, cv2.LINE_8, SHIFT)
    if before is not None:
        _see_through(canvas, before)


def shade(mesh: Mesh, faces: np.ndarray, view: View, camera: Camera, light: Light) -> np.ndarray:
    """Colors (n, 3), whole numbers 0..255, of `faces`: sky, sun, reflections, highlight."""
    material, normal = mesh.material[faces], mesh.normal[faces]
    base = _COLOR[material]
    for name, share in _PAINTS.items():
        base[material == _NAMES.index(name)] = np.asarray(view.paint) * share
    to_camera = camera.position - mesh.center[faces]
    to_camera /= np.sqrt((to_camera**2).sum(axis=1, keepdims=True))
    cosine = np.clip((normal * to_camera).sum(axis=1), 0, 1)
    mirrored = 2 * cosine[:, None] * normal - to_camera

    up = 0.5 + 0.5 * normal[:, 2:]
    ambient = light.ground_glow + (light.sky_glow - light.ground_glow) * up
    sun = np.clip(normal @ light.direction, 0, None)[:, None] * light.sun_glow
    color = base * (ambient + sun)
    gaze = _MIRROR[material]
    fresnel = gaze + (gaze > 0.04) * 0.45 * (1 - cosine) ** 4
    color += (light.reflection(mirrored[:, 2]) - color) * fresnel[:, None]
    glint = np.clip(mirrored @ light.direction, 0, None) ** 20
    color += (glint * _GLOSS[material] * light.glint)[:, None]
    color = np.maximum(color, base * _GLOW[material][:, None])
    return np.rint(np.clip(color, 0, 255))


def develop(image: np.ndarray, view: View, noise: np.ndarray) -> np.ndarray:
    """What the camera does to the light: blur, exposure, white balance, noise. Integers only."""
    work = image.astype(np.int32)
    for _ in range(view.blur):
        work = _binomial(work)
    warm = np.array([1 + 0.10 * view.warmth, 1.0, 1 - 0.10 * view.warmth])
    gain = np.rint(256 * view.exposure * warm).astype(np.int32)
    work = ((work * gain + 128) >> 8) + noise
    return np.clip(work, 0, 255).astype(np.uint8)


def _noise(view: View, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """What the sensor adds, (H, W, 3): four dice add up to a bell, its standard deviation 148."""
    if not view.noise:
        return np.zeros((*shape, 3), np.int32)
    dice = rng.integers(0, 256, size=(4, *shape, 3), dtype=np.uint8)
    return ((dice.sum(axis=0, dtype=np.int32) - 510) * view.noise + 74) // 148


def _facing(mesh: Mesh, camera: Camera) -> np.ndarray:
    """Which faces (F,) turn their outer side to the camera."""
    return ((camera.position - mesh.center) * mesh.normal).sum(axis=1) > 1e-3


def _reaches(pixels: np.ndarray, start: np.ndarray, window: Window) -> np.ndarray:
    """Which faces (F,) may touch a window; `pixels` (V, 2) of their vertices."""
    low = np.minimum.reduceat(pixels, start[:-1]) - 1
    high = np.maximum.reduceat(pixels, start[:-1]) + 1
    return ((high >= window[:2]) & (low <= window[2:])).all(axis=1)


def _layers(mesh: Mesh, faces: np.ndarray, camera: Camera) -> np.ndarray:
    """Layer of each face, given from where the camera sees its side of the car."""
    x, y, _ = camera.position
    sees = {Side.ANY: True, Side.LEFT: y > 0.9, Side.RIGHT: y < -0.9, Side.FRONT: x > 0}
    near = np.array([sees[side] for side in Side])[mesh.side[faces]]
    return np.where(near, mesh.layer[faces], mesh.far_layer[faces])


def _turned(mesh: Mesh, angle: float) -> np.ndarray:
    """Vertices with the wheels turned by `angle` degrees."""
    vertices = mesh.vertices.copy()
    hub = mesh.hub[mesh.turning]
    arm = vertices[mesh.turning] - hub
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    arm = np.stack([c * arm[:, 0] - s * arm[:, 2], arm[:, 1], s * arm[:, 0] + c * arm[:, 2]], 1)
    vertices[mesh.turning] = hub + arm
    return vertices


def _see_through(canvas: np.ndarray, before: np.ndarray) -> None:
    """Half-transparent glass: mix what was just drawn with what it covers."""
    mixed = canvas[..., :3].astype(np.uint16) * 5 + before.astype(np.uint16) * 11
    canvas[..., :3] = mixed >> 4


def _shrink(canvas: np.ndarray, scale: int) -> np.ndarray:
    """Average blocks of scale x scale pixels of the color channels."""
    total = cv2.boxFilter(canvas, cv2.CV_32S, (scale, scale), anchor=(0, 0), normalize=False)
    total = total[::scale, ::scale, :3]
    return ((total + scale * scale // 2) // (scale * scale)).astype(np.uint8)


def _binomial(image: np.ndarray) -> np.ndarray:
    """The 1-2-1 kernel in both directions."""
    for axis in (0, 1):
        ends = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(image, ends, mode="edge")
        low, high = (wide[:-2], wide[2:]) if axis == 0 else (wide[:, :-2], wide[:, 2:])
        image = (low + 2 * image + high + 2) >> 2
    return image


def _cast_shadow(backdrop: np.ndarray, car: CarSpec, camera: Camera, light: Light) -> None:
    """Darken the ground under the car, and on the side away from the sun."""
    shape = car.shape
    corners = np.array([(1, 0.62), (0.9, 0.92), (0.55, 1), (-0.55, 1), (-0.9, 0.92), (-1, 0.66)])
    corners = np.concatenate([corners, corners[::-1] * [1, -1]])
    half = np.array([(shape.front_x - shape.rear_x) / 2, shape.width / 2])
    foot = np.zeros((len(corners), 3))
    foot[:, :2] = corners * half * 0.98
    foot[:, 0] += (shape.front_x + shape.rear_x) / 2
    reach = -light.direction[:2] / max(light.direction[2], 0.35)
    thrown = foot * [0.62, 0.8, 1] - [0.25, 0, 0]
    thrown[:, :2] += reach * shape.height
    belt = foot.copy()
    belt[:, :2] += reach * shape.belt_z * 0.9
    soft = max(3, round(camera.width / 24)) | 1
    for points, strength, size in (
        (np.concatenate([foot, thrown, belt]), light.shadow, soft),
        (foot * [0.97, 0.93, 1], 0.62, max(3, soft // 2) | 1),
    ):
        _darken(backdrop, camera.project(points), strength, size)


def _darken(backdrop: np.ndarray, pixels: np.ndarray, strength: float, size: int) -> None:
    mask = np.zeros(backdrop.shape[:2], np.uint8)
    hull = cv2.convexHull(np.rint(pixels * 16).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 255, cv2.LINE_8, SHIFT)
    for _ in range(2):
        total = cv2.boxFilter(mask, cv2.CV_32S, (size, size), normalize=False)
        mask = (total // (size * size)).astype(np.uint8)
    weight = 65280 - mask.astype(np.int32) * int(strength * 256)
    backdrop[:] = (backdrop * weight[..., None]) // 65280
