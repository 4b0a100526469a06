"""Puts a car together: shell, wheels, face and tail, cabin or open top, mirrors."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

from carlib.showroom.details import (
    Face,
    lay_badge,
    lay_grille,
    lay_lamp,
    lay_plate,
    lay_wheel,
    outward,
)
from carlib.showroom.geometry import Cabin, Shell
from carlib.showroom.makes import CarSpec
from carlib.showroom.mesh import Layer, Mesh, MeshBuilder, Side, grid_quads


@lru_cache(maxsize=128)
def build_mesh(car: CarSpec, fine: int = 1, sticker: str = "") -> Mesh:
    """The mesh of a car, in metres: x forward, y left, z up, wheels on z = 0.

    `fine` cuts the sheet metal into fine * fine times as many pieces, for large pictures.
    `sticker` is the material of a sticker on the windshield; without one there is none.
    """
    builder, shell = MeshBuilder(), Shell(car.shape)
    _add_shell(builder, shell, fine)
    _add_wheels(builder, shell, car)
    _add_seams(builder, shell)
    _add_nose(builder, shell, car)
    _add_tail(builder, shell, car)
    cabin = Cabin(shell)
    if car.shape.kind == "convertible":
        _add_cockpit(builder, shell, cabin)
    else:
        _add_cabin(builder, cabin)
    if car.shape.kind == "pickup":
        _add_bed(builder, shell)
    _add_mirrors(builder, shell)
    if sticker:
        _add_sticker(builder, cabin, sticker)
    return builder.build()


def _add_shell(builder: MeshBuilder, shell: Shell, fine: int) -> None:
    shape = shell.shape
    grid = shell.belt_grid(fine)
    quads = grid_quads(grid)
    row = np.repeat(np.arange(grid.shape[0] - 1), grid.shape[1] - 1) // fine
    x = quads[:, :, 0].mean(axis=1)
    part = np.full(len(quads), "body", dtype=object)
    part[(x < shape.doors[0]) & (x > shape.doors[-1]) & (row > 0)] = "door"
    axle = shape.wheelbase / 2 + 1.2 * shape.wheel_radius
    part[(np.abs(x) > axle) & (row <= 4)] = "bumper"
    material = np.where(row == 0, "plastic", "paint").astype(object)
    builder.add(quads, material, part, Layer.BODY, outward(quads, shell))

    lid = grid_quads(shell.lid_grid(fine))
    x = lid[:, :, 0].mean(axis=1)
    if shape.kind != "convertible":  # what the cabin stands on is never seen
        seen = (x < shape.back_x + 0.2) | (x > shape.cowl_x - 0.25)
        lid, x = lid[seen], x[seen]
    part = np.where(x > shape.cowl_x - 0.1, "hood", "body").astype(object)
    builder.add(lid, "paint", part, Layer.BODY, (0, 0, 1))


def _add_wheels(builder: MeshBuilder, shell: Shell, car: CarSpec) -> None:
    """Four wheels, each in a dark arch cut into the side; a lip or dark plastic surrounds it."""
    shape, radius = shell.shape, shell.shape.wheel_radius
    lip = (1.34, "plastic", "trim", 22) if shape.cladding else (1.19, "paint", "body", 22)
    turn = np.linspace(0, np.pi, 19)
    for x in (shape.wheelbase / 2, -shape.wheelbase / 2):
        for hand in (1, -1):
            for size, material, part, layer in (lip, (1.13, "black", "body", 23)):
                reach = x + radius * size * np.cos(turn)
                arch = radius + radius * size * np.sin(turn)
                arch = np.minimum(arch, shell.top(reach) - 0.30 + 0.20 * size)
                s = shell.outline.s_at_x(reach - shell.middle)
                heights = np.stack([np.zeros_like(arch), arch], axis=1)
                quads = grid_quads(shell.at(hand * s[:, None], heights, 0.003))
                builder.add(quads, material, part, layer, (0, hand, 0), flat=True)
            y = float(shell.outline.width_at(x - shell.middle)) - 0.015
            hub = np.array([x, hand * y, radius])
            lay_wheel(builder, hub, radius, car.edition.wheel, hand)


def _strip(builder, shell: Shell, s, low, high, material: str, part: str, layer: int) -> None:
    """A strip on both sides of the shell between two heights at arc lengths `s`."""
    for hand in (1, -1):
        heights = np.stack(np.broadcast_arrays(low, high), axis=-1)
        heights = np.broadcast_to(heights, (len(s), 2))
        quads = grid_quads(shell.at(hand * np.asarray(s)[:, None], heights, 0.004))
        builder.add(quads, material, part, layer, outward(quads, shell))


def _upright(builder, shell: Shell, x: float, bottom: float, top: float) -> None:
    """A door cut: a thin dark line from the sill up, in short pieces that follow the metal."""
    for hand in (1, -1):
        s = hand * shell.outline.s_at_x(np.array([x - 0.008, x + 0.008]) - shell.middle)
        z = np.linspace(bottom, top, 8)
        quads = grid_quads(shell.at(s[None, :], z[:, None], 0.003))
        builder.add(quads, "paint_shade", "door", 21, outward(quads, shell))


def _add_seams(builder: MeshBuilder, shell: Shell) -> None:
    """Door cuts and handles, sill, hood lines."""
    shape = shell.shape
    sill = shape.clearance + 0.07
    along = np.linspace(shape.doors[-1], shape.doors[0], 9)
    s = shell.outline.s_at_x(along - shell.middle)
    _strip(builder, shell, s, sill, sill + 0.016, "paint_shade", "door", 21)
    for x in shape.doors:
        _upright(builder, shell, x, sill, float(shell.top(x)) - 0.05)
    if shape.cladding:
        reach = shape.wheelbase / 2 - 1.2 * shape.wheel_radius
        s = shell.outline.s_at_x(np.linspace(-reach, reach, 9) - shell.middle)
        _strip(builder, shell, s, shape.clearance, sill + 0.03, "plastic", "trim", 22)
    for x in shape.doors[1:]:
        s = shell.outline.s_at_x(np.array([x + 0.08, x + 0.26]) - shell.middle)
        z = float(shell.top(x)) - 0.185
        _strip(builder, shell, s, z, z + 0.034, "paint_shade", "door", 22)
        _strip(builder, shell, s, z + 0.010, z + 0.034, "chrome", "door", 23)
    front, _ = shell.lid_ends()
    x = np.linspace(shape.cowl_x - 0.1, front - 0.12, 9)
    for eta in (0.86, -0.86, 0.42, -0.42):
        width = 0.009 if abs(eta) > 0.5 else 0.016
        grid = shell.lid(x[:, None], np.array([eta - width, eta + width])[None, :], 0.003)
        material = "paint_shade" if abs(eta) > 0.5 else "paint_crease"
        builder.add(
            grid_quads(grid), material, "hood", 21, (0, 0, 1), side=Side.FRONT, far_layer=12
        )


def _add_nose(builder: MeshBuilder, shell: Shell, car: CarSpec) -> None:
    face = Face(builder, shell, rear=False)
    trapezium = np.array([(0, 0), (0.85, 0), (1, 1), (0, 1)], dtype=float)
    for hand in (1, -1):
        face.lay(face.box(trapezium, (0, 0.52, 0.03, 0.19)), hand, "black", "bumper", 21)
        face.lay(face.box(_BOX, (0, 1.35, 0.295, 0.315)), hand, "paint_shade", "bumper", 21)
        _lay_foglight(face, hand, car.edition.foglight)
    lay_grille(face, car)
    lay_lamp(face, car.signature.headlight, car.edition.headlight, "headlight")
    lay_badge(face, car, car.signature.badge_w)
    lay_plate(face, 0.06)


_BOX = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=float)
_DISC = np.array([(np.cos(t), np.sin(t)) for t in 2 * np.pi * np.arange(12) / 12]) / 2 + 0.5


def _lay_foglight(face: Face, hand: int, design: str) -> None:
    if design == "none":
        return
    tall = 0.17 * 0.6 / face.height  # lamps keep their size on a tall nose
    face.lay(face.box(_BOX, (0.62, 0.98, 0.07, 0.07 + tall)), hand, "black", "foglight", 22)
    if design == "round":
        wide = tall * face.height / face.unit * 0.86
        box = (0.80 - wide / 2, 0.80 + wide / 2, 0.07 + 0.07 * tall, 0.07 + 0.93 * tall)
        face.lay(face.box(_DISC, box), hand, "lamp", "foglight", 23)
    else:
        box = (0.65, 0.95, 0.07 + 0.34 * tall, 0.07 + 0.72 * tall)
        face.lay(face.box(_BOX, box), hand, "led", "foglight", 23)


def _add_tail(builder: MeshBuilder, shell: Shell, car: CarSpec) -> None:
    face = Face(builder, shell, rear=True)
    for hand in (1, -1):
        face.lay(face.box(_BOX, (0, 0.62, 0.0, 0.10)), hand, "plastic", "bumper", 21)
        face.lay(face.box(_BOX, (0, 1.3, 0.365, 0.385)), hand, "paint_shade", "bumper", 21)
        face.lay(face.box(_BOX, (0.66, 0.90, 0.12, 0.16)), hand, "red_glass", "bumper", 22)
        face.lay(face.box(_DISC, (0.40, 0.52, 0.0, 0.09)), hand, "chrome", "bumper", 23)
        face.lay(face.box(_BOX, (0, 0.30, 0.40, 0.60)), hand, "paint_shade", "body", 22)
    lay_lamp(face, car.signature.taillight, car.edition.taillight, "taillight")
    lay_badge(face, car, 0.78)
    lay_plate(face, 0.43)


def _add_cabin(builder: MeshBuilder, cabin: Cabin) -> None:
    shape = cabin.shape
    wall = grid_quads(cabin.wall_grid())
    middle = np.array([cabin.ends(0.5)[0], 0.0, shape.belt_z])
    builder.add(wall, "paint", "body", Layer.CABIN, wall.mean(axis=1) - middle)
    roof = grid_quads(cabin.roof_grid())
    builder.add(roof, "paint", "roof", Layer.CABIN, (0, 0, 1))
    for hand in (1, -1):
        split = hand == -1 and shape.blind_rear  # barn doors, a window in each
        spans = [(-0.80, -0.06), (0.06, 0.80)] if split else [(-0.82, 0.82)]
        _add_screen(builder, cabin, hand, spans)
        _add_side_windows(builder, cabin, hand)
        if shape.roof_rails:
            _add_rail(builder, cabin, hand)


def _add_screen(builder: MeshBuilder, cabin: Cabin, hand: int, spans) -> None:
    """Windshield (hand = 1) or rear window, on a slightly larger black surround."""
    tall = (0.05, 0.90) if hand == 1 else (0.14, 0.86)
    for edge, material, layer in ((0.025, "black", 53), (0.0, "glass", 54)):
        v = np.linspace(tall[0] - edge, tall[1] + edge, 4 if material == "black" else 8)
        for low, high in spans:
            eta = np.linspace(low - edge, high + edge, 8)
            grid = cabin.end(eta[None, :], v[:, None], hand, 0.004 * (layer - 52))
            builder.add(grid_quads(grid), material, "window", layer, (hand, 0, 0.4))


def _add_side_windows(builder: MeshBuilder, cabin: Cabin, hand: int) -> None:
    """One black field along the side, then the panes, so that the posts between them stay black."""
    shape = cabin.shape
    v = np.linspace(0.07, 0.86, 8)

    def edges(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        center, half = cabin.ends(v)
        rear = 0.90 - 0.05 * np.clip((0.25 - v) / 0.25, 0, 1)
        return center - rear * half, center + 0.895 * half

    rear, front = edges(v)
    if shape.blind_rear:
        rear = np.full_like(rear, shape.pillars[0] - 0.03)
    stops = [rear, *(np.full_like(v, x) for x in sorted(shape.pillars)), front]
    if shape.blind_rear:
        stops = [rear, front]
    black_v = np.linspace(0.045, 0.89, 8)
    black = edges(black_v)
    first = rear if shape.blind_rear else black[0]
    _rows(builder, cabin, hand, black_v, first - 0.02, black[1] + 0.02, "black", 53)
    for low, high in pairwise(stops):
        inset_low = 0.0 if low is rear else 0.035
        inset_high = 0.0 if high is front else 0.035
        left, right = np.maximum(low + inset_low, rear), np.minimum(high - inset_high, front)
        if (right - left).max() > 0.08:
            _rows(builder, cabin, hand, v, left, np.maximum(left, right), "glass", 54)


def _rows(builder, cabin: Cabin, hand: int, v, left, right, material: str, layer: int) -> None:
    t = np.linspace(0, 1, 3)
    x = left[:, None] + (right - left)[:, None] * t[None, :]
    grid = cabin.side(x, v[:, None], hand, 0.003 * (layer - 52))
    builder.add(grid_quads(grid), material, "window", layer, (0, hand, 0.2))


def _add_rail(builder: MeshBuilder, cabin: Cabin, hand: int) -> None:
    e = np.linspace(-0.86, 0.7, 7)
    foot = cabin.ring(e, np.full(7, hand * 0.93), np.ones(7)) + np.array([0, 0, 0.02])
    top = foot + np.array([0, 0, 0.045])
    builder.add(grid_quads(np.stack([foot, top], axis=1)), "steel", "trim", 56, (0, hand, 0))
    wide = np.stack([top, top - [0, hand * 0.035, 0]], axis=1)
    builder.add(grid_quads(wide), "steel", "trim", 56, (0, 0, 1))


def _add_bed(builder: MeshBuilder, shell: Shell) -> None:
    """The open bed of a pickup: a dark liner seen from above, and the line of the tailgate."""
    shape = shell.shape
    _, rear = shell.lid_ends()
    for margin, material, layer in ((0.0, "plastic", 22), (0.045, "black", 23)):
        x = np.linspace(rear + 0.06 + margin, shape.back_x - 0.08 - margin, 7)
        eta = np.linspace(-0.93 + margin, 0.93 - margin, 5)
        grid = shell.lid(x[:, None], eta[None, :], 0.004)
        builder.add(grid_quads(grid), material, "interior", layer, (0, 0, 1))


def _add_cockpit(builder: MeshBuilder, shell: Shell, cabin: Cabin) -> None:
    """An open car: a dark opening, seats, the folded roof and a see-through windshield."""
    shape = shell.shape
    x = np.linspace(shape.back_x, shape.cowl_x - 0.06, 8)
    for reach, material, part, layer in (
        (0.89, "black", "trim", 22),
        (0.86, "interior", "interior", 23),
    ):
        grid = shell.lid(x[:, None], np.linspace(-reach, reach, 5)[None, :], 0.003)
        builder.add(grid_quads(grid), material, part, layer, (0, 0, 1))
    half, back = shape.width / 2, shape.back_x
    roof = (back - 0.10, 0.0, float(shell.top(back)) + 0.01)
    _block(builder, roof, (0.26, 1.5 * half, 0.07), "black", "trim")
    for x_seat, tall in ((0.5 * (shape.cowl_x + back) - 0.02, 0.20), (back + 0.12, 0.10)):
        low = float(shell.top(x_seat)) - 0.05
        for y in (0.40 * half, -0.40 * half):
            head = (x_seat - 0.03, y, low + tall + 0.02)
            _block(builder, (x_seat, y, low), (0.15, 0.46, tall), "leather", "interior")
            _block(builder, head, (0.10, 0.25, 0.13), "leather", "interior")
    _add_open_screen(builder, cabin)


def _add_open_screen(builder: MeshBuilder, cabin: Cabin) -> None:
    """The windshield of an open car, seen from both sides; behind the seats from behind."""
    v = np.linspace(0.0, 0.92, 6)[:, None]
    glass = cabin.end(np.linspace(-0.88, 0.88, 9)[None, :], v, 1, 0.0)
    posts = [cabin.end(np.array([[h * 0.86, h * 0.93]]), v, 1, 0.0) for h in (1, -1)]
    beam = cabin.end(np.linspace(-0.93, 0.93, 9)[None, :], np.array([[0.90], [1.0]]), 1, 0.0)
    for out in (np.array([1, 0, 0.2]), np.array([-1, 0, -0.2])):
        builder.add(
            grid_quads(glass), "screen", "window", Layer.SCREEN, out, side=Side.FRONT, far_layer=48
        )
        for piece in (*posts, beam):
            quads = grid_quads(piece)
            builder.add(
                quads, "black", "body", Layer.SCREEN + 1, out, side=Side.FRONT, far_layer=49
            )


def _block(builder: MeshBuilder, foot, size, material: str, part: str) -> None:
    """A box with bevelled upper edges standing on `foot` (middle of its base)."""
    (x, y, z), (a, b, c) = foot, size
    rings = []
    for height, shrink in ((0.0, 1.0), (0.7 * c, 1.0), (c, 0.72)):
        corners = [(1, 1), (1, -1), (-1, -1), (-1, 1), (1, 1)]
        rings.append(
            [(x + p * a / 2 * shrink, y + q * b / 2 * shrink, z + height) for p, q in corners]
        )
    rings = np.array(rings)
    quads = grid_quads(rings)
    builder.add(quads, material, part, Layer.SEAT, quads.mean(axis=1) - [x, y, z + c / 3])
    builder.add(rings[2, :4], material, part, Layer.SEAT, (0, 0, 1))


def _add_sticker(builder: MeshBuilder, cabin: Cabin, material: str) -> None:
    """A colored square with a white edge in the middle of the windshield."""
    for edge, color, lift in ((0.05, "plate", 0.014), (0.0, material, 0.018)):
        eta = np.linspace(-0.22 - edge, 0.22 + edge, 5)
        v = np.linspace(0.26 - edge, 0.68 + edge, 4)
        quads = grid_quads(cabin.end(eta[None, :], v[:, None], 1, lift))
        builder.add(quads, color, "sticker", Layer.STICKER + (edge == 0), (1, 0, 0.4))


def _add_mirrors(builder: MeshBuilder, shell: Shell) -> None:
    """Two mirrors at the foot of the windshield posts: a rounded pod and a dark glass."""
    shape = shell.shape
    x = shape.cowl_x - 0.30
    z = float(shell.top(x)) + 0.085
    turn = 2 * np.pi * np.arange(9) / 8
    for hand in (1, -1):
        y = hand * (shape.width / 2 + 0.01)
        section = np.stack([0.115 * np.cos(turn), 0.078 * np.sin(turn)], axis=1)
        rings = [
            np.stack([np.full(9, x + dx), y + f * section[:, 0], z + f * section[:, 1]], axis=1)
            for dx, f in ((-0.055, 1.0), (0.03, 0.96), (0.085, 0.55))
        ]
        quads = grid_quads(np.array(rings))
        side = Side.LEFT if hand == 1 else Side.RIGHT
        options = {"side": side, "far_layer": Layer.FAR_MIRROR}
        out = quads.mean(axis=1) - [x, y, z]
        builder.add(quads, "paint", "mirror", Layer.NEAR_MIRROR, out, **options)
        builder.add(rings[2][:8], "paint", "mirror", Layer.NEAR_MIRROR, (1, 0, 0), **options)
        builder.add(rings[0][:8], "black", "mirror", Layer.NEAR_MIRROR, (-1, 0, 0), **options)
        arm = np.array([(-0.03, -0.18, -0.09), (0.09, -0.18, -0.09), (0.03, -0.06, 0.01),
                        (-0.03, -0.06, 0.01)]) * [1, hand, 1] + [x, y, z]  # fmt: skip
        for out in ((0, -0.2 * hand, 1), (0, 0.2 * hand, -1)):
            builder.add(arm, "black", "mirror", Layer.NEAR_MIRROR - 1, out, **options)
        inner = rings[0][:8] * [1, 0.82, 0.86] + [-0.004, 0.18 * y, 0.14 * z]
        builder.add(inner, "glass", "mirror", Layer.NEAR_MIRROR + 1, (-1, 0, 0), **options)
