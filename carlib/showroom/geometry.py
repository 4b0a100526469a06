"""The two surfaces a car is made of: the shell (everything below the windows) and the cabin.

Both are closed-form: a point on the sheet metal is a function of two coordinates. So a lamp, a
seam or a badge is laid on the metal by evaluating the same function a few millimetres further out.
"""

from __future__ import annotations

import numpy as np

from carlib.showroom.makes import Shape

# Cross section of the shell from the sill (v = 0) to the shoulder (v = 1): how far each level lies
# inside the widest outline, in metres, at the sides, the nose and the tail.
_LEVELS = np.array([0.0, 0.08, 0.18, 0.32, 0.46, 0.58, 0.68, 0.76, 0.86, 0.94, 1.0])
_SIDE_INSET = np.array([0.07, 0.03, 0.012, 0.0, 0.004, 0.012, 0.016, 0.034, 0.05, 0.075, 0.13])
_NOSE_INSET = np.array([0.13, 0.05, 0.01, 0.0, 0.015, 0.035, 0.06, 0.085, 0.14, 0.21, 0.34])
_TAIL_INSET = np.array([0.14, 0.05, 0.01, 0.0, 0.03, 0.045, 0.05, 0.05, 0.065, 0.10, 0.18])

# Sheet metal is round where the table has corners, but for the crease above the door handles.
_FINE = np.linspace(0.0, 1.0, 201)


def _rounded(inset: np.ndarray) -> np.ndarray:
    """An inset table resampled at `_FINE` with its corners rounded off; ends stay."""
    raw = np.interp(_FINE, _LEVELS, inset)
    first, last = 2 * raw[0] - raw[8:0:-1], 2 * raw[-1] - raw[-2:-10:-1]
    return np.convolve(np.concatenate([first, raw, last]), np.ones(17) / 17, mode="valid")


_SIDE, _NOSE, _TAIL = _rounded(_SIDE_INSET), _rounded(_NOSE_INSET), _rounded(_TAIL_INSET)


class Outline:
    """Half of a rounded plan outline, from the middle of the nose to the middle of the tail.

    A superellipse with one exponent for the front half and one for the rear; sampled evenly by arc
    length, because lamps are placed by the distance one would measure along the metal.
    """

    def __init__(self, front: float, rear: float, half_width: float, shape: Shape) -> None:
        self.half_width = half_width
        angle = np.linspace(0.0, np.pi, 4001)
        cosine, sine = np.cos(angle), np.abs(np.sin(angle))
        power = np.where(cosine >= 0, 2 / shape.front_round, 2 / shape.rear_round)
        x = np.abs(cosine) ** power * np.where(cosine >= 0, front, rear)
        y = sine**power * half_width
        arc = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        self.length = float(arc[-1])
        self._s = np.linspace(0.0, self.length, 1025)
        self._x, self._y = np.interp(self._s, arc, x), np.interp(self._s, arc, y)

    def at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) at signed arc length `s`, positive to the left of the car."""
        distance = np.abs(s)
        x, y = np.interp(distance, self._s, self._x), np.interp(distance, self._s, self._y)
        return x, np.where(np.asarray(s) < 0, -y, y)

    def s_at_x(self, x: float | np.ndarray) -> np.ndarray:
        """Arc length at which the left side passes `x`."""
        return np.interp(-np.asarray(x), -self._x, self._s)

    def width_at(self, x: np.ndarray) -> np.ndarray:
        """Half the width of the outline at `x`."""
        return np.interp(self.s_at_x(x), self._s, self._y)


class Shell:
    """The body below the windows, as a belt `at(s, z)` and a lid `lid(x, eta)`."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.middle = (shape.front_x + shape.rear_x) / 2
        half = (shape.front_x - shape.rear_x) / 2
        self.outline = Outline(half, -half, shape.width / 2, shape)
        self.half_length = half
        knots = [
            (shape.rear_x, shape.tail_z),
            (min(shape.back_x, shape.rear_x + 0.3), shape.tail_z),
            (-0.4, shape.belt_z),
            (shape.cowl_x + 0.05, shape.cowl_z),
            (shape.front_x - 0.35, 0.55 * shape.nose_z + 0.45 * shape.cowl_z),
            (shape.front_x, shape.nose_z),
        ]
        self._top_x = np.linspace(shape.rear_x - 0.5, shape.front_x + 0.5, 201)
        raw = np.interp(self._top_x, *zip(*sorted(knots), strict=True))
        window = np.ones(13) / 13  # 0.3 m or so: sheet metal has no kinks
        self._top_z = np.convolve(np.pad(raw, 6, mode="edge"), window, mode="valid")

    def top(self, x: np.ndarray) -> np.ndarray:
        """Height of the shoulder at `x`."""
        return np.interp(x, self._top_x, self._top_z)

    def bottom(self, x: np.ndarray) -> np.ndarray:
        """Height of the lower edge at `x`: a little higher under the bumpers."""
        reach = np.clip((np.abs(x - self.middle) / self.half_length - 0.78) / 0.22, 0, 1)
        return self.shape.clearance + 0.05 * reach**2

    def level(self, s: np.ndarray, z: np.ndarray) -> np.ndarray:
        """The level v in 0..1 that lies `z` metres above ground at arc length `s`."""
        x = self.outline.at(s)[0] + self.middle
        return np.clip((z - self.bottom(x)) / (self.top(x) - self.bottom(x)), 0.0, 1.0)

    def belt(self, s: np.ndarray, v: np.ndarray, outset: float = 0.0) -> np.ndarray:
        """Points (..., 3) of the belt at arc length `s` and level `v`."""
        s, v = np.broadcast_arrays(np.asarray(s, dtype=float), np.asarray(v, dtype=float))
        px, py = self.outline.at(s)
        x = self._leaned(px, v) + self.middle
        y = py * (1 - np.interp(v, _FINE, _SIDE) / self.outline.half_width)
        bottom, top = self.bottom(px + self.middle), self.top(px + self.middle)
        grow = 1 + outset / self.outline.half_width
        x, y = self.middle + (x - self.middle) * grow, y * grow
        return np.stack([x, y, bottom + v * (top - bottom)], -1)

    def _leaned(self, px: np.ndarray, v: np.ndarray) -> np.ndarray:
        """x (from the middle) at level v of the outline's px: nose and tail lean in, doors do not.

        Rake changes the slope above the bumper, not the bumper itself.
        """
        above = np.clip((v - 0.35) / 0.3, 0, 1)
        nose = np.interp(v, _FINE, _NOSE) * (1 + (self.shape.nose_rake - 1) * above)
        tail = np.interp(v, _FINE, _TAIL) * (1 + (self.shape.tail_rake - 1) * above)
        return px - np.where(px > 0, nose, tail) * (px / self.half_length) ** 3

    def at(self, s: np.ndarray, z: np.ndarray, outset: float = 0.004) -> np.ndarray:
        """Points (..., 3) on the belt `z` metres above ground: where details are laid."""
        return self.belt(s, self.level(s, z), outset)

    def lid(self, x: np.ndarray, eta: np.ndarray, lift: float = 0.0) -> np.ndarray:
        """Points (..., 3) of hood, deck and all between; eta runs -1..1 from right to left."""
        x, eta = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(eta, dtype=float))
        dense = np.linspace(-self.half_length, self.half_length, 401)
        px = np.interp(x - self.middle, self._leaned(dense, np.ones(401)), dense)
        half = self.outline.width_at(px) * (1 - _SIDE[-1] / self.outline.half_width)
        z = self.top(px + self.middle) + self._crown(eta, half) + lift
        return np.stack([x, eta * half, z], -1)

    def lid_ends(self) -> tuple[float, float]:
        """x of the front and the rear end of the lid."""
        ends = np.array([self.half_length, -self.half_length])
        front, rear = self.middle + self._leaned(ends, np.ones(2))
        return float(front), float(rear)

    def belt_grid(self, fine: int) -> np.ndarray:
        """Points (10 * fine + 1, C, 3) of the whole belt; closest where it curves."""
        levels = np.interp(np.linspace(0, 10, 10 * fine + 1), np.arange(11), _LEVELS)
        return self.belt(self._stations(64 * fine)[None, :], levels[:, None])

    def lid_grid(self, fine: int) -> np.ndarray:
        """Points (C, 9, 3) of the lid; its edge is that of `belt_grid`, point by point."""
        s = self._stations(64 * fine)
        edge = self.belt(s[s >= 0], np.ones(1))
        eta = np.linspace(-1, 1, 9)
        y = edge[:, 1:2] * eta
        x, z = np.broadcast_to(edge[:, :1], y.shape), edge[:, 2:] + self._crown(eta, edge[:, 1:2])
        return np.stack([x, y, z], axis=-1)

    def _crown(self, eta: np.ndarray, half: np.ndarray) -> np.ndarray:
        """How far the lid rises above its edge."""
        return 0.045 * (1 - eta**2) * np.clip(half / self.outline.half_width, 0, 1)

    def _stations(self, columns: int) -> np.ndarray:
        """Arc lengths from the tail's middle round the left side, the nose and the right side."""
        s = np.linspace(0, self.outline.length, 1025)
        x, y = self.outline.at(s)
        turn = np.abs(np.diff(np.unwrap(np.arctan2(np.diff(y), np.diff(x)))))
        weight = np.concatenate([[0], np.cumsum(np.append(turn, 0) * 1.2 + 0.0035)])[:1025]
        half = np.interp(np.linspace(0, weight[-1], columns // 2 + 1), weight, s)
        half[[0, -1]] = 0, self.outline.length
        return np.concatenate([-half[::-1], half[1:]])


class Cabin:
    """The greenhouse: windshield, side windows, rear window and roof.

    A ring shrinks from the foot of the windows (v = 0) to the edge of the roof (v = 1).
    """

    PLAN = 7.0  # exponent of the superellipse seen from above: nearly a box, with bent glass

    def __init__(self, shell: Shell) -> None:
        self.shell, self.shape = shell, shell.shape
        shape = self.shape
        self.foot_width = shape.width / 2 - 0.125
        self.roof_width = shape.width / 2 - 0.11 - shape.tumblehome

    def ends(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(center x, half length) of the ring at level v."""
        t = np.asarray(v, dtype=float) ** 1.12
        front = self.shape.cowl_x + (self.shape.roof_front_x - self.shape.cowl_x) * t
        rear = self.shape.back_x + (self.shape.roof_rear_x - self.shape.back_x) * t
        return (front + rear) / 2, (front - rear) / 2

    def roof_height(self, x: np.ndarray) -> np.ndarray:
        """Height of the roof's edge: an arch, highest a little before the middle."""
        shape = self.shape
        middle = 0.4 * shape.roof_rear_x + 0.6 * shape.roof_front_x
        half = (shape.roof_front_x - shape.roof_rear_x) / 2 + 0.15
        drop = 0.05 if shape.roof_rear_x > -1.1 else 0.065
        return shape.height - 0.045 - drop * np.clip((x - middle) / half, -1.4, 1.4) ** 2

    def ring(self, e: np.ndarray, w: np.ndarray, v: np.ndarray, outset: float = 0.0) -> np.ndarray:
        """Points (..., 3) at plan position (e, w), both in -1..1, and level v."""
        e, w, v = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (e, w, v)))
        center, half = self.ends(v)
        x = center + (half + outset) * e
        # glass is bowed: it leaves the belt steeply and leans in towards the roof
        lean = 0.35 * v + 0.65 * v**2.2
        y = (self.foot_width + (self.roof_width - self.foot_width) * lean + outset) * w
        center_0, half_0 = self.ends(np.zeros_like(v))
        center_1, half_1 = self.ends(np.ones_like(v))
        foot = self.shell.top(center_0 + half_0 * e) + 0.005
        roof = self.roof_height(center_1 + half_1 * e)
        rise = 1 - (1 - v) ** 1.18
        return np.stack([x, y, foot + (roof - foot) * rise], -1)

    def side(self, x: np.ndarray, v: np.ndarray, hand: int, outset: float = 0.005) -> np.ndarray:
        """Points of the left (hand = 1) or right (-1) side at `x`."""
        center, half = self.ends(v)
        e = np.clip((x - center) / half, -1, 1)
        return self.ring(e, hand * self._unit(e), v, outset)

    def end(self, eta: np.ndarray, v: np.ndarray, hand: int, outset: float = 0.005) -> np.ndarray:
        """Points of the windshield (hand = 1) or the rear window (-1), eta from -1 to 1."""
        return self.ring(hand * self._unit(eta), eta, v, outset)

    def wall_grid(self) -> np.ndarray:
        """Points (7, C, 3) of the whole ring of glass and posts, from the foot to the roof."""
        e, w = self._plan()
        return self.ring(e, w, np.linspace(0, 1, 7)[:, None])

    def roof_grid(self) -> np.ndarray:
        """Points (R, C, 3) of the roof, ring by ring inwards; the first is the wall's last."""
        e, w = self._plan()
        share = np.array([1.0, 0.93, 0.72, 0.0])[:, None]
        points = self.ring(e * share, w * share, 1.0)
        points[..., 2] += 0.045 * (1 - share**4)
        return points

    def _plan(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions (e, w) round the ring, close together at the corners; first and last agree."""
        w = np.array([0.0, 0.25, 0.5, 0.7, 0.85, 0.93])
        e = np.array([0.84, 0.68, 0.46, 0.23, 0.0])
        e, w = np.concatenate([self._unit(w), e]), np.concatenate([w, self._unit(e)])
        e, w = np.concatenate([e, -e[-2::-1]]), np.concatenate([w, w[-2::-1]])
        return np.concatenate([e, e[-2::-1]]), np.concatenate([w, -w[-2::-1]])

    def _unit(self, w: np.ndarray) -> np.ndarray:
        """The other coordinate of the unit superellipse."""
        return (1 - np.abs(w) ** self.PLAN) ** (1 / self.PLAN)
