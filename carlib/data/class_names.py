"""Car names: what "Make Model Body Year" says about a car, and the 196 classes of Stanford Cars.

A part that a name does not state is None. "Jaguar XK XKR 2012" was built as coupe and as
convertible, so its body stays unknown rather than guessed.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

BODIES = (
    "Convertible",
    "Coupe",
    "Hatchback",
    "Minivan",
    "Pickup",
    "SUV",
    "Sedan",
    "Van",
    "Wagon",
)

# What names write for a body. Longer phrases come first, so that the passenger version of a van
# ("E-Series Wagon Van") is a van, and "Cargo Van Minivan" (Ram C/V) one phrase and a minivan.
_BODY_PHRASES = (
    (r"Conv\. Convertible", "Convertible"),
    (r"Cargo Van Minivan", "Minivan"),
    (r"(?:Cargo|Passenger|Wagon) Van", "Van"),
    (r"(?:Crew|Extended|Regular|Quad|Club) Cab", "Pickup"),
    (r"SuperCab", "Pickup"),
    *((body, body) for body in BODIES),
)

# Makes outside Stanford Cars, so that other folders of cars are understood too.
_OTHER_MAKES = """
    Alfa Romeo, BYD, Chery, Citroen, Dacia, Daihatsu, Genesis, Geely, Great Wall, Haval,
    Kia, Koenigsegg, Lancia, Lexus, Lotus, Lucid, Maserati, Mercury, MG, Morgan, Oldsmobile, Opel,
    Pagani, Peugeot, Polestar, Pontiac, Renault, Rivian, Rover, Saab, Saturn, SEAT, Skoda,
    SsangYong, Subaru, Vauxhall
"""


@dataclass(frozen=True)
class CarName:
    """The parts of a class name; None where the name does not say."""

    make: str | None = None
    model: str | None = None
    body: str | None = None
    year: int | None = None


@functools.cache
def parse_name(name: str) -> CarName:
    """Make, model, body and year of a class name such as "BMW X5 SUV 2007".

    The year is four digits (1900-2099) at the end, the make a known make at the front, the body
    the last body word; the model is what remains. Cabs ("Crew Cab") are bodies of pickups.
    Without a known make the model is unknown too: nothing tells where it begins.
    """
    rest, year = _take_year(" ".join(name.split()))
    rest, make = _take_make(rest)
    rest, body = _take_body(rest)
    return CarName(make, rest if make and rest else None, body, year)


@functools.cache
def stanford_class_names() -> tuple[str, ...]:
    """The 196 class names in the order of the devkit's cars_meta.mat: label 0 comes first."""
    return tuple(row["name"] for row in _stanford_table())


def true_name(folder: str) -> str:
    """The class name behind a folder's name: file systems forbid the slash of "Ram C/V ..."."""
    plain = folder.replace("_", " ").strip()
    return _stanford_folders().get(plain.casefold(), folder)


def canonical_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in label order: the devkit's for exactly the 196 Stanford names, else as given.

    One order for every copy of Stanford Cars makes labels comparable across layouts; sorting
    folders would put "Acura Integra" before "Acura RL", which the devkit does not.
    """
    names = tuple(names)
    stanford = stanford_class_names()
    return stanford if set(names) == set(stanford) else names


def _take_year(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.*?)\s*\b((?:19|20)\d\d)", text)
    return (match[1], int(match[2])) if match else (text, None)


def _take_make(text: str) -> tuple[str, str | None]:
    for make in _makes():
        if re.match(re.escape(make) + r"(?:\s|$)", text, re.IGNORECASE):
            return text[len(make) :].strip(), make
    return text, None


def _take_body(text: str) -> tuple[str, str | None]:
    """Remove the last body phrase: "Phantom Drophead Coupe Convertible" is a convertible."""
    best: tuple[int, re.Match[str], str] | None = None
    for pattern, body in _BODY_PHRASES:
        for match in re.finditer(rf"(?<!\S){pattern}(?!\S)", text, re.IGNORECASE):
            if best is None or match.end() > best[0]:
                best = (match.end(), match, body)
    if best is None:
        return text, None
    _, match, body = best
    return f"{text[: match.start()].strip()} {text[match.end() :].strip()}".strip(), body


@functools.cache
def _makes() -> tuple[str, ...]:
    """Known makes, longest first so that "Land Rover" is tried before "Rover"."""
    makes = {row["make"] for row in _stanford_table()}
    makes |= {" ".join(make.split()) for make in _OTHER_MAKES.split(",")}
    return tuple(sorted(makes, key=lambda make: (-len(make), make)))


@functools.cache
def _stanford_table() -> tuple[dict[str, str], ...]:
    """Rows of name, make, model, body, year: cars_meta.mat with the parts checked by hand."""
    table = resources.files("carlib").joinpath("data", "stanford_cars_classes.csv")
    with table.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


@functools.cache
def _stanford_folders() -> dict[str, str]:
    names = stanford_class_names()
    return {name.replace("/", mark).casefold(): name for name in names for mark in ("-", "", " ")}
