"""The 196 names of Stanford Cars, all of them, and names of other cars."""

from __future__ import annotations

import csv
from collections import Counter
from importlib import resources

import pytest

from carlib.data.class_names import (
    BODIES,
    CarName,
    canonical_order,
    parse_name,
    stanford_class_names,
    true_name,
)

with (
    resources.files("carlib")
    .joinpath("data", "stanford_cars_classes.csv")
    .open(encoding="utf-8") as file
):
    TABLE = list(csv.DictReader(file))  # checked by hand against the devkit

NO_BODY = {
    "Acura TL Type-S 2008",
    "Acura Integra Type R 2001",
    "Buick Regal GS 2012",
    "Chevrolet Corvette ZR1 2012",
    "Chevrolet Corvette Ron Fellows Edition Z06 2007",
    "Chevrolet HHR SS 2010",
    "Chevrolet Cobalt SS 2010",
    "Chevrolet TrailBlazer SS 2009",
    "Chrysler 300 SRT-8 2010",
    "Dodge Challenger SRT8 2011",
    "Dodge Charger SRT-8 2009",
    "FIAT 500 Abarth 2012",
    "Jaguar XK XKR 2012",
    "Lamborghini Gallardo LP 570-4 Superleggera 2012",
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["name"])
def test_every_stanford_name(row):
    parsed = parse_name(row["name"])
    assert parsed == CarName(row["make"], row["model"], row["body"] or None, int(row["year"]))
    assert parsed.make and parsed.model and 1991 <= parsed.year <= 2012
    assert row["name"].startswith(f"{parsed.make} ") and row["name"].endswith(f" {parsed.year}")
    assert (parsed.body in BODIES) is (row["name"] not in NO_BODY)


def test_the_table_is_whole():
    assert len(TABLE) == len(set(stanford_class_names())) == 196
    assert len({row["make"] for row in TABLE}) == 49
    assert stanford_class_names()[0] == "AM General Hummer SUV 2000"
    assert stanford_class_names()[173] == "Ram C/V Cargo Van Minivan 2012"
    assert stanford_class_names()[195] == "smart fortwo Convertible 2012"


def test_only_two_pairs_of_classes_share_all_four_parts():
    parts = Counter((row["make"], row["model"], row["body"], row["year"]) for row in TABLE)
    assert {parts_ for parts_, count in parts.items() if count > 1} == {
        ("Chevrolet", "Express", "Van", "2007"),  # Cargo Van and Van
        ("Chevrolet", "Silverado 1500", "Pickup", "2012"),  # Extended Cab and Regular Cab
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AM General Hummer SUV 2000", ("AM General", "Hummer", "SUV", 2000)),
        ("Aston Martin V8 Vantage Coupe 2012", ("Aston Martin", "V8 Vantage", "Coupe", 2012)),
        ("Land Rover LR2 SUV 2012", ("Land Rover", "LR2", "SUV", 2012)),
        ("Land Rover Range Rover SUV 2012", ("Land Rover", "Range Rover", "SUV", 2012)),
        ("smart fortwo Convertible 2012", ("smart", "fortwo", "Convertible", 2012)),
        ("Ram C/V Cargo Van Minivan 2012", ("Ram", "C/V", "Minivan", 2012)),
        ("Jaguar XK XKR 2012", ("Jaguar", "XK XKR", None, 2012)),
        ("Infiniti G Coupe IPL 2012", ("Infiniti", "G IPL", "Coupe", 2012)),
        ("Ford Ranger SuperCab 2011", ("Ford", "Ranger", "Pickup", 2011)),
        ("Ford E-Series Wagon Van 2012", ("Ford", "E-Series", "Van", 2012)),
        ("Lincoln Town Car Sedan 2011", ("Lincoln", "Town Car", "Sedan", 2011)),
        (
            "Rolls-Royce Phantom Drophead Coupe Convertible 2012",
            ("Rolls-Royce", "Phantom Drophead Coupe", "Convertible", 2012),
        ),
        (
            "Bentley Continental Supersports Conv. Convertible 2012",
            ("Bentley", "Continental Supersports", "Convertible", 2012),
        ),
        # outside Stanford Cars
        ("Alfa Romeo Giulia Sedan 2019", ("Alfa Romeo", "Giulia", "Sedan", 2019)),
        ("Rover 75 Wagon 2001", ("Rover", "75", "Wagon", 2001)),
        ("ford  Focus", ("Ford", "Focus", None, None)),
        ("Tesla", ("Tesla", None, None, None)),
        ("Audi 100", ("Audi", "100", None, None)),
        ("Trabant 601 Sedan 1987", (None, None, "Sedan", 1987)),
        ("zebra", (None, None, None, None)),
        ("2012", (None, None, None, 2012)),
        ("", (None, None, None, None)),
    ],
)
def test_parts_that_are_stated_and_no_others(name, expected):
    assert parse_name(name) == CarName(*expected)


@pytest.mark.parametrize(
    "folder", ["Ram C-V Cargo Van Minivan 2012", "Ram_C-V_Cargo_Van_Minivan_2012"]
)
def test_folders_get_their_slash_back(folder):
    assert true_name(folder) == "Ram C/V Cargo Van Minivan 2012"


def test_other_folders_keep_their_name():
    assert true_name("my_cars") == "my_cars"
    assert true_name("BMW X5 SUV 2007") == "BMW X5 SUV 2007"


def test_order_is_the_devkits_for_all_196_and_untouched_otherwise():
    assert canonical_order(sorted(stanford_class_names())) == stanford_class_names()
    assert sorted(stanford_class_names()) != list(stanford_class_names())
    assert canonical_order(["b", "a"]) == ("b", "a")
