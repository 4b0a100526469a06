"""Every model of every make, and what changed between its two years; as data.

Each of eight bodies is built by three makes, in proportions of their own. Lengths are metres.
"""

from __future__ import annotations

from dataclasses import fields, replace

from carlib.showroom.makes import SIGNATURES, CarSpec, Edition, Shape

_SEDAN = Shape(
    kind="closed", wheelbase=2.78, front_overhang=0.90, rear_overhang=1.06, width=1.84,
    height=1.46, clearance=0.19, nose_z=0.78, cowl_z=0.98, belt_z=0.99, tail_z=1.04,
    cowl_x=0.86, roof_front_x=0.16, roof_rear_x=-0.86, back_x=-1.62, wheel_radius=0.34,
    pillars=(-0.22,), doors=(0.78, -0.22, -1.12),
)  # fmt: skip
_COUPE = replace(
    _SEDAN, wheelbase=2.66, front_overhang=0.88, rear_overhang=0.92, width=1.86, height=1.31,
    clearance=0.16, nose_z=0.72, cowl_z=0.91, belt_z=0.93, tail_z=0.98, cowl_x=0.52,
    roof_front_x=-0.12, roof_rear_x=-0.74, back_x=-1.74, wheel_radius=0.35, front_round=4.6,
    nose_rake=1.3, tumblehome=0.22, pillars=(-0.66,), doors=(0.50, -0.74),
)  # fmt: skip
_CONVERTIBLE = replace(
    _COUPE, kind="convertible", height=1.30, cowl_x=0.56, roof_front_x=0.02, roof_rear_x=-0.4,
    back_x=-1.42, belt_z=0.92, tail_z=0.95, pillars=(), nose_z=0.73,
)  # fmt: skip
_HATCHBACK = replace(
    _SEDAN, wheelbase=2.56, front_overhang=0.80, rear_overhang=0.66, width=1.76, height=1.50,
    nose_z=0.82, cowl_z=1.00, belt_z=1.03, tail_z=1.05, cowl_x=0.86, roof_front_x=0.24,
    roof_rear_x=-1.36, back_x=-1.86, wheel_radius=0.32, pillars=(-0.18, -1.06),
    doors=(0.74, -0.18, -0.98), rear_round=5.4,
)  # fmt: skip
_WAGON = replace(
    _SEDAN, wheelbase=2.80, rear_overhang=1.08, height=1.50, belt_z=1.00, tail_z=1.03,
    roof_rear_x=-2.02, back_x=-2.40, pillars=(-0.22, -1.20), doors=(0.78, -0.22, -1.14),
    rear_round=6.2, roof_rails=True,
)  # fmt: skip
_SUV = replace(
    _SEDAN, wheelbase=2.78, front_overhang=0.86, rear_overhang=0.92, width=1.92, height=1.76,
    clearance=0.27, nose_z=1.00, cowl_z=1.15, belt_z=1.18, tail_z=1.20, cowl_x=0.92,
    roof_front_x=0.34, roof_rear_x=-1.78, back_x=-2.16, wheel_radius=0.40, front_round=5.7,
    rear_round=6.2, nose_rake=0.7, pillars=(-0.20, -1.20), doors=(0.80, -0.20, -1.12),
    cladding=True, roof_rails=True,
)  # fmt: skip
_PICKUP = replace(
    _SUV, kind="pickup", wheelbase=3.40, front_overhang=0.92, rear_overhang=1.14, width=1.96,
    height=1.84, nose_z=1.08, cowl_z=1.20, belt_z=1.22, tail_z=1.20, cowl_x=1.06,
    roof_front_x=0.46, roof_rear_x=-0.74, back_x=-0.92, wheel_radius=0.41, tail_rake=0.3,
    pillars=(0.02,), doors=(1.0, 0.02, -0.86), roof_rails=False,
)  # fmt: skip
_VAN = replace(
    _SEDAN, wheelbase=3.00, front_overhang=0.92, rear_overhang=0.98, width=1.96, height=1.86,
    clearance=0.21, nose_z=0.94, cowl_z=1.14, belt_z=1.14, tail_z=1.14, cowl_x=1.50,
    roof_front_x=0.72, roof_rear_x=-2.20, back_x=-2.38, wheel_radius=0.34, front_round=5.1,
    rear_round=7.0, nose_rake=0.9, tail_rake=0.5, pillars=(0.28, -0.92),
    doors=(1.16, 0.28, -0.92), tumblehome=0.13,
)  # fmt: skip

# (make, model) -> body, shape. Each body has three models of different proportions.
_MODELS: dict[tuple[str, str], tuple[str, Shape]] = {
    ("Aurora", "Comet"): ("Sedan", _SEDAN),
    ("Aurora", "Perigee"): ("Coupe", replace(_COUPE, front_round=4.4)),
    ("Aurora", "Summit"): ("SUV", replace(_SUV, roof_rear_x=-1.55, tail_rake=1.6)),
    ("Bexmoor", "Pip"): (
        "Hatchback",
        replace(
            _HATCHBACK, wheelbase=2.34, front_overhang=0.70, rear_overhang=0.52, width=1.66,
            height=1.52, cowl_x=0.84, roof_rear_x=-1.18, back_x=-1.56, nose_rake=1.5,
            front_round=4.3, rear_round=4.6, pillars=(-0.40,), doors=(0.72, -0.40),
        ),
    ),
    ("Bexmoor", "Meadow"): ("Wagon", replace(_WAGON, front_round=4.6, rear_round=5.4)),
    ("Bexmoor", "Breeze"): (
        "Convertible",
        replace(
            _CONVERTIBLE, wheelbase=2.34, front_overhang=0.76, rear_overhang=0.78, width=1.70,
            cowl_x=0.50, roof_front_x=0.04, back_x=-1.06, front_round=4.3, rear_round=4.4,
            doors=(0.46, -0.62),
        ),
    ),
    ("Caldera", "Basalt"): ("Pickup", _PICKUP),
    ("Caldera", "Ridge"): (
        "SUV",
        replace(
            _SUV, wheelbase=2.60, height=1.84, nose_z=1.08, cowl_z=1.18, belt_z=1.19,
            cowl_x=0.72, roof_front_x=0.40, roof_rear_x=-1.86, back_x=-2.02, front_round=7.4,
            rear_round=8.6, nose_rake=0.35, tail_rake=0.3, tumblehome=0.07, clearance=0.31,
            wheel_radius=0.41, pillars=(-0.26, -1.12), doors=(0.66, -0.26, -1.06),
        ),
    ),
    ("Caldera", "Harbor"): (
        "Van",
        replace(
            _VAN, height=2.06, wheelbase=3.14, roof_front_x=0.96, blind_rear=True,
            nose_z=1.00, tail_rake=0.2, tumblehome=0.09,
        ),
    ),
    ("Drummond", "Chancel"): (
        "Sedan",
        replace(
            _SEDAN, wheelbase=2.98, front_overhang=0.86, rear_overhang=1.14, width=1.90,
            height=1.48, nose_z=0.84, cowl_z=1.02, belt_z=1.03, tail_z=1.05, cowl_x=0.78,
            roof_front_x=0.12, roof_rear_x=-1.02, back_x=-1.68, front_round=5.9,
            rear_round=6.6, nose_rake=0.6, wheel_radius=0.36, pillars=(-0.30,),
            doors=(0.72, -0.30, -1.24),
        ),
    ),
    ("Drummond", "Quill"): (
        "Wagon",
        replace(
            _WAGON, wheelbase=2.92, height=1.47, roof_rear_x=-1.86, back_x=-2.46,
            front_round=5.6, wheel_radius=0.36,
        ),
    ),
    ("Drummond", "Falconer"): (
        "Coupe",
        replace(
            _COUPE, wheelbase=2.82, height=1.37, nose_z=0.80, cowl_z=0.97, belt_z=0.99,
            tail_z=1.02, cowl_x=0.48, roof_front_x=-0.16, roof_rear_x=-0.92, back_x=-1.62,
            rear_overhang=1.08, front_round=5.6, nose_rake=0.8, wheel_radius=0.37,
        ),
    ),
    ("Elmira", "Lumen"): (
        "Sedan",
        replace(
            _SEDAN, wheelbase=2.88, front_overhang=0.82, rear_overhang=0.94, height=1.44,
            nose_z=0.76, cowl_x=1.08, roof_front_x=0.20, roof_rear_x=-0.66, back_x=-1.86,
            tail_z=1.06, front_round=4.4, nose_rake=1.6, pillars=(-0.16,),
            doors=(0.98, -0.16, -1.16),
        ),
    ),
    ("Elmira", "Photon"): (
        "Hatchback",
        replace(_HATCHBACK, roof_rear_x=-1.14, front_round=4.5),
    ),
    ("Elmira", "Nimbus"): (
        "Van",
        replace(
            _VAN, height=1.74, cowl_x=1.66, roof_front_x=0.62, roof_rear_x=-1.92, back_x=-2.34,
            front_round=4.4, nose_rake=1.5, tail_rake=1.2, nose_z=0.86, cowl_z=1.06,
            belt_z=1.08,
        ),
    ),
    ("Fennix", "Ember"): (
        "Coupe",
        replace(
            _COUPE, wheelbase=2.54, front_overhang=0.98, rear_overhang=0.84, width=1.92,
            height=1.20, nose_z=0.67, cowl_z=0.86, belt_z=0.90, tail_z=0.98, cowl_x=0.70,
            wheel_radius=0.33,
            roof_front_x=-0.14, roof_rear_x=-0.56, back_x=-1.80, nose_rake=2.0, front_round=4.4,
            pillars=(-0.60,), doors=(0.56, -0.66),
        ),
    ),
    ("Fennix", "Blaze"): (
        "Convertible",
        replace(
            _CONVERTIBLE, wheelbase=2.54, front_overhang=0.98, rear_overhang=0.86, width=1.90,
            height=1.19, nose_z=0.67, cowl_z=0.86, belt_z=0.88, tail_z=0.94, cowl_x=0.60,
            wheel_radius=0.33,
            nose_rake=2.0, front_round=4.4,
        ),
    ),
    ("Fennix", "Cinder"): (
        "Hatchback",
        replace(
            _HATCHBACK, wheelbase=2.66, height=1.42, width=1.82, roof_rear_x=-1.22,
            back_x=-1.92, nose_z=0.76, wheel_radius=0.35, nose_rake=1.4,
        ),
    ),
    ("Halcyon", "Drover"): (
        "Pickup",
        replace(
            _PICKUP, wheelbase=3.20, cowl_x=0.78, roof_front_x=0.26, roof_rear_x=-0.40,
            back_x=-0.52, pillars=(), doors=(0.70, -0.44), height=1.76, nose_z=1.02,
            cowl_z=1.14, belt_z=1.15, tail_z=1.14, wheel_radius=0.38, cladding=False,
        ),
    ),
    ("Halcyon", "Homestead"): ("Van", replace(_VAN, cowl_x=1.40, front_round=6.0, height=1.80)),
    ("Halcyon", "Tern"): (
        "Wagon",
        replace(
            _WAGON, front_round=6.2, rear_round=7.8, nose_rake=0.4, tail_rake=0.3, height=1.48,
            cowl_x=0.74, roof_front_x=0.26, roof_rear_x=-2.22, back_x=-2.42, nose_z=0.84,
            wheel_radius=0.32, tumblehome=0.10,
        ),
    ),
    ("Juniper", "Moss"): (
        "SUV",
        replace(
            _SUV, wheelbase=2.62, height=1.66, width=1.84, nose_z=0.92, cowl_z=1.08,
            belt_z=1.10, tail_z=1.12, front_round=4.8, roof_rear_x=-1.50, back_x=-1.98,
            roof_rails=False,
        ),
    ),
    ("Juniper", "Thicket"): (
        "Pickup",
        replace(
            _PICKUP, wheelbase=3.10, width=1.86, height=1.74, nose_z=0.98, cowl_z=1.12,
            belt_z=1.14, tail_z=1.13, cowl_x=1.14, roof_rear_x=-0.66, back_x=-0.88,
            front_round=5.1, nose_rake=1.0, doors=(1.04, 0.06, -0.80), pillars=(0.06,),
        ),
    ),
    ("Juniper", "Fern"): (
        "Convertible",
        replace(
            _CONVERTIBLE, wheelbase=2.50, height=1.44, width=1.76, nose_z=0.86, cowl_z=1.02,
            belt_z=1.03, tail_z=1.03, cowl_x=0.70, roof_front_x=0.24, back_x=-1.26,
            front_round=5.4, rear_round=5.8, nose_rake=0.6, clearance=0.20, doors=(0.62, -0.52),
        ),
    ),
}  # fmt: skip


def _edition(make: str, **designs: str) -> Edition:
    """An edition with the make's older lamps unless told otherwise."""
    lamps = SIGNATURES[make]
    older = {
        "headlight": next(iter(lamps.headlight.patterns)),
        "taillight": next(iter(lamps.taillight.patterns)),
    }
    return Edition(**(older | designs))


# (make, model) -> year, designs of that year; year, what is new. The second year changes the parts
# named and no other, which `changed_parts` reads back from here.
_YEARS: dict[tuple[str, str], tuple[int, dict[str, str], int, dict[str, str]]] = {
    ("Aurora", "Comet"): (
        2009, {"grille": "bars", "wheel": "ten", "foglight": "round"},
        2012, {"grille": "mesh", "taillight": "blocks"},
    ),
    ("Aurora", "Perigee"): (
        2008, {"grille": "mesh", "wheel": "five", "foglight": "none"},
        2011, {"headlight": "brow", "taillight": "blocks", "wheel": "turbine"},
    ),
    ("Aurora", "Summit"): (
        2010, {"grille": "single", "wheel": "star", "foglight": "slit"},
        2014, {"headlight": "brow", "grille": "bars", "taillight": "blocks"},
    ),
    ("Bexmoor", "Pip"): (
        2007, {"grille": "slats", "wheel": "disc", "foglight": "none"},
        2010, {"headlight": "halo", "taillight": "ring", "foglight": "round"},
    ),
    ("Bexmoor", "Meadow"): (
        2006, {"grille": "bars", "wheel": "ten", "foglight": "round"},
        2011, {"grille": "slats", "taillight": "ring", "wheel": "three"},
    ),
    ("Bexmoor", "Breeze"): (
        2009, {"grille": "mesh", "wheel": "five", "foglight": "none"},
        2013, {"headlight": "halo", "taillight": "ring"},
    ),
    ("Caldera", "Basalt"): (
        2008, {"grille": "bars", "wheel": "disc", "foglight": "round"},
        2012, {"grille": "slats", "taillight": "ladder", "wheel": "star"},
    ),
    ("Caldera", "Ridge"): (
        2007, {"grille": "slats", "wheel": "five", "foglight": "round"},
        2011, {"headlight": "frame", "taillight": "ladder"},
    ),
    ("Caldera", "Harbor"): (
        2010, {"grille": "single", "wheel": "disc", "foglight": "none"},
        2013, {"headlight": "frame", "grille": "bars", "taillight": "ladder"},
    ),
    ("Drummond", "Chancel"): (
        2008, {"grille": "slats", "wheel": "ten", "foglight": "round"},
        2012, {"headlight": "bracket", "taillight": "hook"},
    ),
    ("Drummond", "Quill"): (
        2009, {"grille": "bars", "wheel": "twin", "foglight": "slit"},
        2013, {"grille": "slats", "taillight": "hook", "wheel": "star"},
    ),
    ("Drummond", "Falconer"): (
        2010, {"grille": "mesh", "wheel": "twin", "foglight": "none"},
        2014, {"headlight": "bracket", "taillight": "hook", "foglight": "slit"},
    ),
    ("Elmira", "Lumen"): (
        2012, {"grille": "single", "wheel": "turbine", "foglight": "none"},
        2014, {"headlight": "dashes", "taillight": "clear"},
    ),
    ("Elmira", "Photon"): (
        2011, {"grille": "bars", "wheel": "three", "foglight": "none"},
        2013, {"headlight": "dashes", "taillight": "clear", "wheel": "ten"},
    ),
    ("Elmira", "Nimbus"): (
        2010, {"grille": "single", "wheel": "turbine", "foglight": "slit"},
        2014, {"headlight": "dashes", "taillight": "clear", "foglight": "round"},
    ),
    ("Fennix", "Ember"): (
        2008, {"grille": "mesh", "wheel": "five", "foglight": "slit"},
        2012, {"headlight": "claw", "taillight": "arrow", "wheel": "twin"},
    ),
    ("Fennix", "Blaze"): (
        2009, {"grille": "bars", "wheel": "star", "foglight": "none"},
        2013, {"headlight": "claw", "taillight": "arrow"},
    ),
    ("Fennix", "Cinder"): (
        2007, {"grille": "bars", "wheel": "ten", "foglight": "round"},
        2011, {"grille": "single", "taillight": "arrow", "foglight": "slit"},
    ),
    ("Halcyon", "Drover"): (
        2006, {"grille": "bars", "wheel": "disc", "foglight": "none"},
        2010, {"headlight": "quad", "taillight": "solid"},
    ),
    ("Halcyon", "Homestead"): (
        2009, {"grille": "slats", "wheel": "ten", "foglight": "none"},
        2012, {"grille": "single", "taillight": "solid", "foglight": "round"},
    ),
    ("Halcyon", "Tern"): (
        2005, {"grille": "bars", "wheel": "disc", "foglight": "slit"},
        2009, {"headlight": "quad", "taillight": "solid", "wheel": "five"},
    ),
    ("Juniper", "Moss"): (
        2011, {"grille": "mesh", "wheel": "three", "foglight": "round"},
        2014, {"headlight": "cross", "taillight": "cross"},
    ),
    ("Juniper", "Thicket"): (
        2010, {"grille": "bars", "wheel": "star", "foglight": "slit"},
        2013, {"headlight": "cross", "taillight": "cross", "wheel": "disc"},
    ),
    ("Juniper", "Fern"): (
        2008, {"grille": "mesh", "wheel": "twin", "foglight": "none"},
        2012, {"grille": "single", "taillight": "cross", "foglight": "round"},
    ),
}  # fmt: skip


def _cars() -> tuple[CarSpec, ...]:
    cars = []
    for (make, model), (body, shape) in _MODELS.items():
        first_year, designs, second_year, news = _YEARS[make, model]
        older = _edition(make, **designs)
        for year, edition in ((first_year, older), (second_year, replace(older, **news))):
            cars.append(CarSpec(make, model, body, year, shape, SIGNATURES[make], edition))
    return tuple(cars)


CARS: tuple[CarSpec, ...] = _cars()
"""Every class of the showroom, in label order."""


def changed_parts(
    make: str, model: str, cars: tuple[CarSpec, ...] = CARS
) -> tuple[str, ...]:  # fmt: skip
    """Names of the parts (as in `PARTS`) in which the two years of a model in `cars` differ.

    Raises KeyError where there is no such model.
    """
    editions = [car.edition for car in cars if (car.make, car.model) == (make, model)]
    if not editions:
        raise KeyError(f"the showroom has no {make} {model}")
    older, newer = editions
    return tuple(
        f.name for f in fields(Edition) if getattr(older, f.name) != getattr(newer, f.name)
    )
