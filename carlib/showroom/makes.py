"""Who builds what in the showroom: makes, models and model years, as data.

Three levels of difference, as in a real car market:

* a make is known by its face: headlight and tail-light shape, grille shape, badge (`Signature`);
* a model is known by its body and proportions (`Shape`);
* two years of a model differ in nothing but the parts that its `Edition` names.

All lengths are metres. A lamp, a grille and a badge are polygons in a unit box, so that they fit
any nose: `u` runs from the middle of the car outwards, `w` from bottom to top.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Polygon = tuple[tuple[float, float], ...]
Box = tuple[float, float, float, float]
Element = tuple[str, Polygon]  # material, outline in the unit box of the lamp


@dataclass(frozen=True)
class Shape:
    """Body and proportions of a model, in metres; x points forward, z up, x = 0 between axles."""

    kind: str  # how the cabin is built: closed, pickup or convertible
    wheelbase: float
    front_overhang: float
    rear_overhang: float
    width: float
    height: float
    clearance: float  # ground to sill
    nose_z: float  # leading edge of the hood
    cowl_z: float  # foot of the windshield
    belt_z: float  # shoulder line at the rear doors
    tail_z: float  # rear edge of the body proper
    cowl_x: float  # foot of the windshield
    roof_front_x: float
    roof_rear_x: float
    back_x: float  # foot of the rear window
    wheel_radius: float
    front_round: float = 4.9  # exponent of the plan outline: 2 an ellipse, 9 a box
    rear_round: float = 5.8
    nose_rake: float = 1.0  # how far the nose leans back, relative to a sedan
    tail_rake: float = 1.0
    tumblehome: float = 0.15  # how far the side windows lean in, at the roof
    pillars: tuple[float, ...] = ()  # x of the posts between the side windows
    doors: tuple[float, ...] = ()  # x of the door cuts, front to rear
    cladding: bool = False  # dark plastic round the wheel arches and along the sill
    roof_rails: bool = False
    blind_rear: bool = False  # no glass behind the last pillar: a panel van

    @property
    def front_x(self) -> float:
        return self.wheelbase / 2 + self.front_overhang

    @property
    def rear_x(self) -> float:
        return -self.wheelbase / 2 - self.rear_overhang


@dataclass(frozen=True)
class Lamp:
    """A lamp: its outline, its place on the car, and what shines in it, by pattern name.

    `box` is (u0, u1, w0, w1): u in half-widths along the outline from the middle of the car,
    w as a fraction of the height of the nose or the tail. Of two patterns the first is the older
    one, in a bright reflector; the newer headlight is behind dark glass.
    """

    box: Box
    outline: Polygon
    patterns: dict[str, tuple[Element, ...]] = field(hash=False)


@dataclass(frozen=True)
class Signature:
    """What makes a make: lamps, grille and badge."""

    headlight: Lamp
    taillight: Lamp
    grille_box: Box  # (0, half width, w0, w1), same units as a lamp's
    grille: Polygon  # right half of the outline, u in 0..1
    grille_frame: str  # material of the rim: chrome, paint, black
    badge: str  # name of a badge shape
    badge_color: str
    badge_w: float  # height of the badge on the nose, as a fraction


@dataclass(frozen=True)
class Edition:
    """The parts that may differ between two years of one model, each by the name of its design."""

    grille: str
    headlight: str
    taillight: str
    wheel: str
    foglight: str


@dataclass(frozen=True)
class CarSpec:
    """One class of the showroom: everything the renderer has to know about a car."""

    make: str
    model: str
    body: str
    year: int
    shape: Shape
    signature: Signature
    edition: Edition

    @property
    def name(self) -> str:
        return f"{self.make} {self.model} {self.body} {self.year}"


def _rect(u0: float, u1: float, w0: float, w1: float) -> Polygon:
    return ((u0, w0), (u1, w0), (u1, w1), (u0, w1))


def _oval(u: float, w: float, ru: float, rw: float) -> Polygon:
    """Twelve-sided oval; its corners are written out so that no libm is asked."""
    corners = (
        (1.0, 0.0), (0.866, 0.5), (0.5, 0.866), (0.0, 1.0), (-0.5, 0.866), (-0.866, 0.5),
        (-1.0, 0.0), (-0.866, -0.5), (-0.5, -0.866), (0.0, -1.0), (0.5, -0.866), (0.866, -0.5),
    )  # fmt: skip
    return tuple((u + ru * x, w + rw * y) for x, y in corners)


_SQUARE = _rect(0, 1, 0, 1)

# The inner edge of a lamp is at u = 0.
SIGNATURES = {
    "Aurora": Signature(  # swept almonds, hexagon, a bar of light across the tail
        headlight=Lamp(
            (0.48, 1.18, 0.66, 0.98),
            ((0, 0.28), (0.35, 0.0), (0.95, 0.30), (1, 0.92), (0.9, 1.0), (0.4, 0.74)),
            {
                "projector": (("lamp", _oval(0.34, 0.38, 0.15, 0.28)),),
                "brow": (
                    ("led", ((0.02, 0.30), (0.92, 0.78), (0.97, 0.98), (0.4, 0.74), (0.02, 0.42))),
                    ("led", ((0.32, 0.04), (0.5, 0.08), (0.6, 0.30), (0.42, 0.30))),
                ),
            },
        ),
        taillight=Lamp(
            (0.0, 1.12, 0.70, 0.94),
            ((0, 0.30), (0.45, 0.30), (0.6, 0), (1, 0.1), (1, 1), (0, 1)),
            {
                "bar": (("red_led", _rect(0.0, 1.0, 0.58, 0.84)),),
                "blocks": (
                    ("white_glass", _rect(0.58, 0.76, 0.1, 0.9)),
                    ("red_led", _rect(0.80, 0.98, 0.1, 0.9)),
                ),
            },
        ),
        grille_box=(0, 0.46, 0.34, 0.80),
        grille=((0, 0), (0.72, 0), (1, 0.55), (0.86, 1), (0, 1)),
        grille_frame="chrome",
        badge="star",
        badge_color="silver",
        badge_w=0.90,
    ),
    "Bexmoor": Signature(  # round eyes and an upright oval
        headlight=Lamp(
            (0.52, 0.94, 0.56, 1.0),
            _oval(0.5, 0.5, 0.5, 0.5),
            {
                "round": (("lamp", _oval(0.5, 0.5, 0.34, 0.34)),),
                "halo": (
                    ("led", _oval(0.5, 0.5, 0.44, 0.44)),
                    ("smoked", _oval(0.5, 0.5, 0.28, 0.28)),
                    ("lamp", _oval(0.5, 0.5, 0.13, 0.13)),
                ),
            },
        ),
        taillight=Lamp(
            (0.60, 0.96, 0.48, 0.94),
            _oval(0.5, 0.5, 0.5, 0.5),
            {
                "round": (("red_led", _oval(0.5, 0.5, 0.26, 0.26)),),
                "ring": (
                    ("white_glass", _oval(0.5, 0.5, 0.34, 0.34)),
                    ("amber", _oval(0.5, 0.5, 0.17, 0.17)),
                ),
            },
        ),
        grille_box=(0, 0.36, 0.24, 0.80),
        grille=((0, 0), (0.55, 0.04), (0.9, 0.25), (1, 0.5), (0.9, 0.78), (0.55, 0.97), (0, 1)),
        grille_frame="chrome",
        badge="circle",
        badge_color="red",
        badge_w=0.92,
    ),
    "Caldera": Signature(  # square work lamps, one above the other, in a big trapezium
        headlight=Lamp(
            (0.62, 1.06, 0.52, 0.96),
            _SQUARE,
            {
                "stacked": (
                    ("lamp", _rect(0.10, 0.86, 0.56, 0.90)),
                    ("amber", _rect(0.10, 0.86, 0.10, 0.42)),
                ),
                "frame": (
                    ("led", _rect(0.05, 0.95, 0.84, 0.97)),
                    ("led", _rect(0.05, 0.20, 0.06, 0.84)),
                    ("lamp", _rect(0.36, 0.86, 0.16, 0.66)),
                ),
            },
        ),
        taillight=Lamp(
            (0.76, 1.10, 0.40, 0.98),
            _SQUARE,
            {
                "column": (("white_glass", _rect(0.08, 0.92, 0.40, 0.60)),),
                "ladder": (
                    ("red_led", _rect(0.08, 0.92, 0.70, 0.92)),
                    ("amber", _rect(0.08, 0.92, 0.40, 0.60)),
                    ("red_led", _rect(0.08, 0.92, 0.08, 0.30)),
                ),
            },
        ),
        grille_box=(0, 0.56, 0.36, 0.94),
        grille=((0, 0), (0.8, 0), (1, 1), (0, 1)),
        grille_frame="paint",
        badge="diamond",
        badge_color="gold",
        badge_w=0.65,
    ),
    "Drummond": Signature(  # twin nostrils, bracket lamps, L-shaped tail
        headlight=Lamp(
            (0.50, 1.14, 0.62, 0.94),
            ((0, 0), (0.9, 0), (1, 1), (0, 1)),
            {
                "twin": (
                    ("lamp", _oval(0.24, 0.5, 0.17, 0.36)),
                    ("lamp", _oval(0.66, 0.5, 0.17, 0.36)),
                ),
                "bracket": (
                    ("led", _rect(0.03, 0.12, 0.08, 0.92)),
                    ("led", _rect(0.12, 0.95, 0.74, 0.92)),
                    ("led", _rect(0.50, 0.58, 0.08, 0.74)),
                ),
            },
        ),
        taillight=Lamp(
            (0.46, 1.12, 0.54, 0.96),
            ((0, 0.52), (0.42, 0.52), (0.55, 0), (1, 0), (1, 1), (0, 1)),
            {
                "lens": (("white_glass", _rect(0.05, 0.5, 0.60, 0.92)),),
                "hook": (
                    ("red_led", _rect(0.04, 0.96, 0.72, 0.92)),
                    ("red_led", _rect(0.78, 0.94, 0.06, 0.72)),
                ),
            },
        ),
        grille_box=(0.05, 0.42, 0.40, 0.92),
        grille=((0, 0.12), (0.2, 0), (0.82, 0), (1, 0.5), (0.9, 1), (0.12, 1), (0, 0.9)),
        grille_frame="chrome",
        badge="chevron",
        badge_color="blue",
        badge_w=0.97,
    ),
    "Elmira": Signature(  # an electric face: a thin blade, hardly a mouth
        headlight=Lamp(
            (0.36, 1.20, 0.72, 0.92),
            ((0, 0.2), (1, 0.35), (1, 1), (0, 0.75)),
            {
                "blade": (("led", ((0.02, 0.42), (0.98, 0.62), (0.98, 0.86), (0.02, 0.62))),),
                "dashes": tuple(
                    ("led", _rect(0.06 + 0.24 * i, 0.20 + 0.24 * i, 0.28, 0.80)) for i in range(4)
                ),
            },
        ),
        taillight=Lamp(
            (0.40, 1.14, 0.58, 0.94),
            _SQUARE,
            {
                "stripes": (
                    ("red_led", _rect(0.02, 0.98, 0.74, 0.92)),
                    ("black", _rect(0.0, 1.0, 0.62, 0.70)),
                    ("red_led", _rect(0.02, 0.98, 0.42, 0.58)),
                    ("black", _rect(0.0, 1.0, 0.30, 0.38)),
                ),
                "clear": (("white_glass", _rect(0.0, 1.0, 0.30, 0.66)),),
            },
        ),
        grille_box=(0, 0.62, 0.16, 0.40),
        grille=((0, 0), (0.86, 0), (1, 1), (0, 1)),
        grille_frame="black",
        badge="triangle",
        badge_color="teal",
        badge_w=0.76,
    ),
    "Fennix": Signature(  # angry triangles round a shield
        headlight=Lamp(
            (0.44, 1.20, 0.60, 1.0),
            ((0, 0.0), (0.55, 0.06), (1, 0.70), (1, 1.0), (0.7, 0.92)),
            {
                "beak": (("lamp", _oval(0.56, 0.38, 0.15, 0.26)),),
                "claw": (
                    ("led", ((0.0, 0.0), (0.10, 0.0), (0.98, 0.84), (1, 1), (0.68, 0.90))),
                    ("smoked", ((0.24, 0.10), (0.55, 0.12), (0.9, 0.66), (0.62, 0.58))),
                ),
            },
        ),
        taillight=Lamp(
            (0.50, 1.14, 0.52, 0.96),
            ((0, 0.9), (1, 0), (1, 1), (0, 1)),
            {
                "wedge": (("amber", ((0.45, 0.72), (0.98, 0.22), (0.98, 0.80), (0.45, 0.84))),),
                "arrow": (
                    ("red_led", ((0.05, 0.92), (1, 0.06), (1, 0.28), (0.15, 0.98))),
                    ("white_glass", ((0.62, 0.72), (1, 0.46), (1, 0.86), (0.62, 0.90))),
                ),
            },
        ),
        grille_box=(0, 0.40, 0.22, 0.84),
        grille=((0, 0), (0.30, 0.10), (0.85, 0.60), (1, 1), (0, 1)),
        grille_frame="black",
        badge="shield",
        badge_color="orange",
        badge_w=0.93,
    ),
    "Halcyon": Signature(  # lamps and grille in one band from side to side
        headlight=Lamp(
            (0.58, 1.14, 0.58, 0.92),
            _SQUARE,
            {
                "box": (("lamp", _rect(0.14, 0.80, 0.18, 0.82)),),
                "quad": (
                    ("lamp", _oval(0.28, 0.5, 0.19, 0.36)),
                    ("lamp", _oval(0.70, 0.5, 0.19, 0.36)),
                ),
            },
        ),
        taillight=Lamp(
            (0.56, 1.14, 0.52, 0.96),
            ((0, 0), (1, 0), (1, 1), (0, 1)),
            {
                "bracket": (
                    ("paint", _rect(0.0, 0.62, 0.34, 0.66)),
                    ("red_led", _rect(0.82, 0.96, 0.06, 0.94)),
                ),
                "solid": (
                    ("amber", _rect(0.0, 0.45, 0.55, 0.95)),
                    ("white_glass", _rect(0.0, 0.45, 0.08, 0.45)),
                ),
            },
        ),
        grille_box=(0, 0.58, 0.58, 0.92),
        grille=_SQUARE,
        grille_frame="chrome",
        badge="wings",
        badge_color="silver",
        badge_w=0.75,
    ),
    "Juniper": Signature(  # square pixels and a narrow honeycomb
        headlight=Lamp(
            (0.50, 1.02, 0.54, 0.94),
            ((0, 0.1), (0.1, 0), (0.9, 0), (1, 0.1), (1, 0.9), (0.9, 1), (0.1, 1), (0, 0.9)),
            {
                "pixels": tuple(
                    ("led", _rect(u, u + 0.32, w, w + 0.34))
                    for u in (0.12, 0.54)
                    for w in (0.10, 0.54)
                ),
                "cross": (
                    ("led", _rect(0.42, 0.58, 0.04, 0.96)),
                    ("led", _rect(0.04, 0.96, 0.40, 0.60)),
                ),
            },
        ),
        taillight=Lamp(
            (0.58, 1.08, 0.50, 0.94),
            _SQUARE,
            {
                "pixels": tuple(
                    ("red_led", _rect(u, u + 0.36, w, w + 0.36))
                    for u in (0.10, 0.54)
                    for w in (0.10, 0.54)
                ),
                "cross": (
                    ("white_glass", _rect(0.40, 0.60, 0.0, 1.0)),
                    ("white_glass", _rect(0.0, 1.0, 0.38, 0.62)),
                ),
            },
        ),
        grille_box=(0, 0.26, 0.26, 0.96),
        grille=((0, 0), (0.75, 0), (1, 0.2), (1, 0.8), (0.75, 1), (0, 1)),
        grille_frame="chrome",
        badge="leaf",
        badge_color="green",
        badge_w=0.61,
    ),
}  # fmt: skip
