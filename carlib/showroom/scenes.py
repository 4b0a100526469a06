"""Where the car stands: seven places, each with its own light.

Scenes are painted at the size of the photo with a handful of gradients and polygons. They know the
camera, so that the horizon is where it belongs. They know nothing of the car's class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from carlib.showroom.camera import Camera, View
from carlib.showroom.polygons import fill_polygon

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Light:
    """The light of a scene; glows multiply a surface's color, colors are 0..255."""

    direction: np.ndarray  # (3,) unit vector towards the sun
    sky_glow: np.ndarray  # (3,) on surfaces that face up
    ground_glow: np.ndarray  # (3,) on surfaces that face down
    sun_glow: np.ndarray  # (3,) on surfaces that face the sun
    glint: float  # brightness of the highlight
    shadow: float  # darkness of the cast shadow, 0..1
    zenith: np.ndarray
    horizon: np.ndarray
    skyline: np.ndarray  # what stands along the horizon: trees, walls
    floor: np.ndarray

    def reflection(self, height: np.ndarray) -> np.ndarray:
        """Color (n, 3) seen in direction of vertical component `height` (n,)."""
        sky = _mix(self.horizon, self.zenith, np.clip(height / 0.8, 0, 1))
        band = _mix(self.skyline, sky, np.clip((height - 0.05) / 0.12, 0, 1))
        floor = _mix(self.floor * 0.75, self.floor, np.clip(-height, 0, 1))
        return np.where(height[:, None] > 0, band, floor)


def _mix(low: np.ndarray, high: np.ndarray, t: np.ndarray) -> np.ndarray:
    return low + (high - low) * np.asarray(t)[:, None]


class _Sheet:
    """The photo while its background is painted."""

    def __init__(self, camera: Camera, rng: np.random.Generator) -> None:
        self.camera, self.rng = camera, rng
        self.image = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.horizon = int(np.clip(round(camera.horizon), -9999, 9999))

    def rows(self, top: int, bottom: int, first: Color, last: Color) -> None:
        """Fill rows with a vertical gradient; rows outside of the photo are allowed."""
        low, high = max(0, top), min(self.camera.height, bottom)
        if high <= low:
            return
        t = (np.arange(low, high) - top) / max(1, bottom - top)
        color = np.rint(_mix(np.array(first, float), np.array(last, float), t))
        self.image[low:high] = np.clip(color, 0, 255).astype(np.uint8)[:, None]

    def polygon(self, points, color: Color) -> None:
        fill_polygon(self.image, points, color)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color) -> None:
        low = (round(x0), round(y0))
        cv2.rectangle(self.image, low, (round(x1) - 1, round(y1) - 1), color, -1)

    def blob(self, x: float, y: float, rx: float, ry: float, color: Color) -> None:
        center, axes = (round(x), round(y)), (max(1, round(rx)), max(1, round(ry)))
        cv2.ellipse(self.image, center, axes, 0, 0, 360, color, -1)

    def grain(self, top: int, bottom: int, strength: int, cell: tuple[int, int]) -> None:
        """Blotchy texture on rows: random cells (height, width), smoothly enlarged."""
        low, high = max(0, top), min(self.camera.height, bottom)
        if high - low < 2:
            return
        size = (max(2, (high - low) // cell[0]), max(2, self.camera.width // cell[1]))
        cells = self.rng.integers(0, 256, size=size, dtype=np.uint8)
        shape = (self.camera.width, high - low)
        noise = cv2.resize(cells, shape, interpolation=cv2.INTER_LINEAR_EXACT).astype(np.int16)
        spread = ((noise - 128) * strength) >> 7
        work = self.image[low:high].astype(np.int16) + spread[..., None]
        self.image[low:high] = np.clip(work, 0, 255).astype(np.uint8)

    def soften(self, top: int, bottom: int, size: int) -> None:
        """Blur rows, as a lens does with what is far behind the car."""
        low, high = max(0, top), min(self.camera.height, bottom)
        if high - low < 2:
            return
        total = cv2.boxFilter(self.image[low:high], cv2.CV_32S, (size, size), normalize=False)
        self.image[low:high] = total // (size * size)

    def ground_strip(
        self, near: float, far: float, left: float, right: float, color: Color
    ) -> None:
        """A rectangle painted on the ground, in metres beyond the car and to its right."""
        corners = [(left, near), (right, near), (right, far), (left, far)]
        self.polygon([self.camera.ground(x, y) for x, y in corners], color)

    def pick(self, *colors: Color) -> Color:
        return colors[int(self.rng.integers(len(colors)))]

    def vary(self, color: Color, by: int = 14) -> Color:
        step = self.rng.integers(-by, by + 1, size=3)
        return tuple(int(np.clip(c + s, 0, 255)) for c, s in zip(color, step, strict=True))

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


def paint_scene(view: View, camera: Camera, rng: np.random.Generator) -> tuple[np.ndarray, Light]:
    """Background (H, W, 3) and light of `view.scene`; KeyError names an unknown scene."""
    sheet = _Sheet(camera, rng)
    values = SCENES[view.scene](sheet)
    return sheet.image, _light(view, camera, **values)


def _light(view: View, camera: Camera, *, sky, ground, sun, zenith, horizon, skyline, floor,
           glint=150.0, shadow=0.45) -> Light:  # fmt: skip
    azimuth, elevation = np.deg2rad([view.azimuth + view.sun[0], view.sun[1]])
    direction = np.array([
        np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
    ])  # fmt: skip
    return Light(
        direction, np.array(sky), np.array(ground), np.array(sun), glint, shadow,
        np.array(zenith, float), np.array(horizon, float), np.array(skyline, float),
        np.array(floor, float),
    )  # fmt: skip


def _studio(sheet: _Sheet) -> dict:
    wall = sheet.pick(
        (196, 198, 204), (150, 156, 166), (214, 208, 198), (92, 98, 110), (168, 184, 196)
    )
    dark = tuple(int(c * 0.62) for c in wall)
    light = tuple(min(255, int(c * 1.18)) for c in wall)
    line = sheet.horizon + sheet.camera.height // 6
    sheet.rows(-1, line, dark, light)
    sheet.rows(line, sheet.camera.height + 1, light, tuple(int(c * 0.8) for c in wall))
    sheet.soften(line - 12, line + 12, 7)
    return dict(
        sky=(0.79, 0.79, 0.80), ground=(0.36, 0.36, 0.36), sun=(0.51, 0.51, 0.50), glint=190.0,
        zenith=(252, 252, 255), horizon=(205, 208, 214), skyline=(70, 72, 78),
        floor=np.array(wall) * 0.55, shadow=0.30,
    )  # fmt: skip


_WALLS = (
    (168, 120, 98), (196, 180, 150), (140, 146, 154), (206, 200, 190),
    (120, 96, 88), (172, 160, 148),
)  # fmt: skip


def _street(sheet: _Sheet) -> dict:
    c, h = sheet.camera, sheet.horizon
    overcast = sheet.rng.random() < 0.4
    top, low = ((150, 160, 172), (204, 208, 212)) if overcast else ((84, 142, 214), (196, 218, 238))
    sheet.rows(-1, h, top, low)
    x = -sheet.between(0, 20)
    while x < c.width:
        wide, tall = sheet.between(0.14, 0.34) * c.width, sheet.between(0.22, 0.7) * c.height
        wall = sheet.vary(sheet.pick(*_WALLS))
        sheet.box(x, h - tall, x + wide, h + 2, wall)
        pane = tuple(int(v * 0.5) + 12 for v in wall)
        step = c.width / sheet.between(14, 22)
        rows = np.arange(h - tall + step * 0.5, h - step, step * 1.25)
        for y in rows:
            for px in np.arange(x + step * 0.4, x + wide - step * 0.7, step):
                sheet.box(px, y, px + step * 0.5, y + step * 0.7, pane)
        x += wide
    sheet.soften(0, h + 2, 3)
    kerb = round(c.ground(0, 5.0)[1])
    sheet.rows(h, kerb, (150, 148, 144), (172, 170, 166))
    tar = sheet.vary((96, 98, 102), 10)
    sheet.rows(kerb, c.height + 1, tar, tuple(int(v * 0.86) for v in tar))
    sheet.box(0, kerb - max(1, c.height // 60), c.width, kerb, (196, 194, 190))
    sheet.grain(kerb, c.height, 12, (2, 4))
    return dict(
        sky=(0.66, 0.69, 0.75), ground=(0.34, 0.33, 0.32),
        sun=(0.24, 0.24, 0.24) if overcast else (0.62, 0.60, 0.55),
        glint=60.0 if overcast else 170.0, zenith=top, horizon=(226, 232, 238),
        skyline=(96, 86, 80), floor=(84, 85, 88), shadow=0.25 if overcast else 0.5,
    )  # fmt: skip


def _field(sheet: _Sheet) -> dict:
    c, h = sheet.camera, sheet.horizon
    sheet.rows(-1, h, (78, 146, 222), (200, 224, 242))
    for _ in range(int(sheet.rng.integers(1, 5))):
        x, y = sheet.between(0, c.width), h - sheet.between(0.15, 0.6) * c.height
        for _ in range(4):
            rx = sheet.between(0.05, 0.12) * c.width
            dx, dy = sheet.between(-1, 1), sheet.between(-0.3, 0.3)
            sheet.blob(x + dx * rx, y + dy * rx, rx, rx * 0.4, (240, 244, 248))
    sheet.soften(0, h, 5)
    for depth in (0, 1):
        crest = h - (2 - depth) * c.height * np.array([sheet.between(0.0, 0.10) for _ in range(6)])
        points = [(i * c.width / 5, y) for i, y in enumerate(crest)]
        tint = ((118, 152, 138), (84, 132, 76))[depth]
        sheet.polygon([(0, h + 3), *points, (c.width, h + 3)], sheet.vary(tint))
    for _ in range(int(sheet.rng.integers(0, 6))):
        x, r = sheet.between(0, c.width), sheet.between(0.03, 0.08) * c.width
        sheet.box(x - r * 0.12, h - r, x + r * 0.12 + 1, h + 2, (86, 66, 48))
        sheet.blob(x, h - r * 1.5, r * 0.9, r, sheet.vary((58, 104, 52)))
    grass = sheet.vary(sheet.pick((116, 158, 72), (150, 160, 84), (98, 140, 66)))
    sheet.rows(h + 1, c.height + 1, tuple(int(v * 0.9) for v in grass), grass)
    sheet.grain(h + 1, c.height, 26, (2, 3))
    return dict(
        sky=(0.66, 0.70, 0.77), ground=(0.34, 0.36, 0.28), sun=(0.68, 0.66, 0.59),
        zenith=(84, 150, 226), horizon=(222, 234, 244), skyline=(70, 96, 62), floor=(92, 112, 60),
    )  # fmt: skip


def _sunset(sheet: _Sheet) -> dict:
    c, h = sheet.camera, sheet.horizon
    top = sheet.pick((92, 78, 138), (70, 84, 140), (120, 84, 124))
    sheet.rows(-1, h - c.height // 5, top, (226, 138, 110))
    sheet.rows(h - c.height // 5, h, (226, 138, 110), (255, 206, 128))
    x, r = sheet.between(0.05, 0.95) * c.width, 0.055 * c.width
    sheet.blob(x, h - r * sheet.between(0.2, 2.2), r, r, (255, 240, 200))
    sheet.soften(0, h, 5)
    crest = [(i * c.width / 9, h - sheet.between(0.0, 0.12) * c.height) for i in range(10)]
    sheet.polygon([(0, h + 2), *crest, (c.width, h + 2)], (92, 62, 84))
    ground = sheet.pick((150, 116, 96), (124, 104, 104), (164, 128, 92))
    sheet.rows(h + 1, c.height + 1, tuple(int(v * 0.8) for v in ground), ground)
    sheet.grain(h + 1, c.height, 16, (2, 5))
    return dict(
        sky=(0.68, 0.59, 0.59), ground=(0.36, 0.30, 0.28), sun=(0.68, 0.51, 0.33),
        zenith=(110, 100, 160), horizon=(255, 200, 140), skyline=(100, 66, 84), floor=(110, 84, 74),
    )  # fmt: skip


def _garage(sheet: _Sheet) -> dict:
    c = sheet.camera
    wall = sheet.pick((176, 178, 176), (158, 166, 176), (190, 178, 160), (140, 150, 146))
    foot = round(c.ground(0, 4.5)[1])
    sheet.rows(-1, foot, tuple(int(v * 0.66) for v in wall), wall)
    step = c.width / sheet.between(4, 8)
    band = sheet.pick((196, 170, 40), (60, 110, 160), (170, 60, 50), (70, 130, 90))
    sheet.box(0, foot - c.height * 0.16, c.width, foot - c.height * 0.10, band)
    for x in np.arange(-sheet.between(0, step), c.width, step):
        sheet.box(x, -1, x + max(1, step * 0.06), foot, tuple(int(v * 0.72) for v in wall))
    for x in np.arange(sheet.between(0, step), c.width, step * 2):
        sheet.box(x, 0.03 * c.height, x + step * 0.8, 0.06 * c.height, (250, 250, 240))
    sheet.soften(0, foot, 3)
    floor = sheet.vary((126, 126, 124))
    sheet.rows(foot, c.height + 1, tuple(int(v * 0.84) for v in floor), floor)
    for x in (-3.4, 3.2):
        sheet.ground_strip(-3.0, 4.4, x, x + 0.14, sheet.pick((222, 214, 200), (206, 176, 60)))
    sheet.grain(foot, c.height, 9, (3, 5))
    return dict(
        sky=(0.77, 0.76, 0.70), ground=(0.34, 0.34, 0.33), sun=(0.37, 0.37, 0.34), glint=150.0,
        zenith=(244, 244, 232), horizon=(150, 150, 146), skyline=(84, 84, 82), floor=(88, 88, 86),
        shadow=0.3,
    )  # fmt: skip


def _seaside(sheet: _Sheet) -> dict:
    c, h = sheet.camera, sheet.horizon
    sheet.rows(-1, h, (96, 164, 226), (218, 234, 244))
    for _ in range(int(sheet.rng.integers(0, 4))):
        x, y = sheet.between(0, c.width), h - sheet.between(0.1, 0.5) * c.height
        sheet.blob(x, y, sheet.between(0.08, 0.2) * c.width, 0.03 * c.height, (236, 242, 248))
    sheet.soften(0, h, 5)
    shore = round(c.ground(0, 9.0)[1])
    sheet.rows(h, shore, (44, 104, 150), (86, 168, 180))
    sheet.box(0, shore - 1, c.width, shore + max(1, c.height // 80), (236, 240, 238))
    sand = sheet.vary((214, 194, 152), 10)
    sheet.rows(shore + 1, c.height + 1, sand, tuple(int(v * 0.9) for v in sand))
    sheet.grain(shore + 1, c.height, 12, (2, 4))
    return dict(
        sky=(0.68, 0.73, 0.77), ground=(0.42, 0.40, 0.35), sun=(0.66, 0.65, 0.59),
        zenith=(96, 160, 228), horizon=(230, 240, 246), skyline=(90, 140, 156),
        floor=(160, 146, 116),
    )  # fmt: skip


def _forest(sheet: _Sheet) -> dict:
    c, h = sheet.camera, sheet.horizon
    sheet.rows(-1, h, sheet.pick((74, 104, 70), (96, 104, 60), (58, 88, 72)), (140, 160, 112))
    sheet.grain(0, h, 40, (5, 5))
    for _ in range(int(sheet.rng.integers(5, 11))):
        x, w = sheet.between(0, c.width), sheet.between(0.010, 0.032) * c.width
        sheet.box(x, -1, x + w + 1, h + 3, sheet.vary((74, 60, 46)))
    sheet.soften(0, h + 1, 3)
    verge = round(c.ground(0, 4.0)[1])
    sheet.rows(h, verge, (86, 112, 60), (104, 128, 70))
    sheet.grain(h, verge, 26, (2, 3))
    road = sheet.pick((112, 112, 112), (142, 124, 100))
    sheet.rows(verge, c.height + 1, road, tuple(int(v * 0.88) for v in road))
    sheet.grain(verge, c.height, 12, (2, 4))
    return dict(
        sky=(0.64, 0.68, 0.62), ground=(0.32, 0.33, 0.28), sun=(0.48, 0.47, 0.40), glint=110.0,
        zenith=(206, 222, 204), horizon=(150, 172, 130), skyline=(48, 62, 42), floor=(84, 84, 72),
        shadow=0.35,
    )  # fmt: skip


SCENES: dict[str, Callable[[_Sheet], dict]] = {
    "studio": _studio,
    "street": _street,
    "field": _field,
    "sunset": _sunset,
    "garage": _garage,
    "seaside": _seaside,
    "forest": _forest,
}
