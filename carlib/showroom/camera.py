"""Where the photographer stands: views, their names, and the perspective projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VIEWPOINTS: tuple[str, ...] = ("front", "rear", "side", "front-side", "rear-side")
"""The five viewpoints of CompCars, in the order of its codes 1 to 5."""


def viewpoint_of(azimuth: float) -> str:
    """Name of the view from `azimuth` degrees: 0 faces the nose, 90 the left side, 180 the tail."""
    turned = abs((azimuth + 180.0) % 360.0 - 180.0)
    if turned < 15:
        return "front"
    if turned < 75:
        return "front-side"
    if turned <= 105:
        return "side"
    return "rear-side" if turned <= 165 else "rear"


@dataclass(frozen=True)
class View:
    """Everything about a photo that is not the car. Angles in degrees."""

    azimuth: float = 35.0  # 0 faces the nose; positive walks to the car's left
    elevation: float = 8.0  # of the camera above the middle of the car
    distance: float = 2.6  # in car lengths: near is wide-angle, far is telephoto
    roll: float = 0.0
    aspect: float = 4 / 3  # width / height of the photo
    fill: float = 0.86  # share of the photo's width or height that the car takes
    shift: tuple[float, float] = (0.0, 0.0)  # of the car off the middle, in photo widths/heights
    paint: tuple[int, int, int] = (176, 24, 32)
    scene: str = "studio"
    sun: tuple[float, float] = (40.0, 50.0)  # azimuth (from the camera) and elevation
    occluder: str | None = None
    wheel_turn: float = 0.0
    exposure: float = 1.0
    warmth: float = 0.0  # -1 blue .. 1 amber
    noise: int = 0  # standard deviation in grey levels, about
    blur: int = 0  # 0 none, 1 slight, 2 more
    seed: int = 0  # of the scene's and the occluder's own details

    @property
    def viewpoint(self) -> str:
        return viewpoint_of(self.azimuth)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: `project` maps metres to pixels, (0, 0) the upper left corner."""

    position: np.ndarray  # (3,)
    axes: np.ndarray  # (3, 3) rows: right, down, forward
    focal: float  # pixels
    center: np.ndarray  # (2,) pixels
    width: int
    height: int

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3). Points must lie before the camera."""
        seen = (points - self.position) @ self.axes.T
        return seen[..., :2] / seen[..., 2:] * self.focal + self.center

    @property
    def horizon(self) -> float:
        """Row of the horizon in the middle column."""
        ahead = self.axes[2] * [1, 1, 0]
        return float(self.project(self.position + 1e4 * ahead / np.sqrt((ahead**2).sum()))[1])

    def ground(self, x: float, y: float) -> np.ndarray:
        """Pixel of the point on the ground `x` metres to the right and `y` beyond the car."""
        ahead = self.axes[2] * [1, 1, 0]
        ahead = ahead / np.sqrt((ahead**2).sum())
        right = np.array([ahead[1], -ahead[0], 0.0])
        return self.project(x * right + y * ahead)


def photo_shape(size: int, aspect: float) -> tuple[int, int]:
    """(height, width) of a photo whose longer side is `size`."""
    if aspect >= 1:
        return max(1, round(size / aspect)), size
    return size, max(1, round(size * aspect))


def place_camera(view: View, vertices: np.ndarray, length: float, size: int) -> Camera:
    """Point a camera at the car and zoom until it fills the photo as `view` asks."""
    height, width = photo_shape(size, view.aspect)
    a, e, r = np.deg2rad([view.azimuth, view.elevation, view.roll])
    toward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    position = np.array([0.0, 0.0, 0.55]) + toward * view.distance * length
    forward = -toward
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    down = np.cross(forward, right)
    axes = np.stack(
        [np.cos(r) * right + np.sin(r) * down, np.cos(r) * down - np.sin(r) * right, forward]
    )
    seen = (vertices - position) @ axes.T
    flat = seen[:, :2] / seen[:, 2:]
    low, high = flat.min(axis=0), flat.max(axis=0)
    photo = np.array([width, height], dtype=np.float64)
    focal = float((view.fill * photo / (high - low)).min())
    center = photo * (0.5 + np.asarray(view.shift)) - focal * (low + high) / 2
    return Camera(position, axes, focal, center, width, height)
