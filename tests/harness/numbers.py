"""Kind 6: checkpoints, galleries and scores whose numbers are none."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from toys import shape

from harness.cases import Case, Place
from harness.names import _read, _write

NONE = {"NaN": math.nan, "Inf": math.inf, "-Inf": -math.inf}
COMMANDS = {
    "predict": lambda here, model: here.cli("predict", _disc(here), "--json", "--model", model),
    "verify": lambda here, model: here.cli(
        "verify", _disc(here), _disc(here, 3), "--json", "--model", model, allowed=(0, 1)
    ),
    "search": lambda here, model: here.cli(
        "search", _disc(here), "--json", "--data", here.world.photos, "--model", model
    ),
}


def _disc(here: Place, kind: int = 2) -> Path:
    shape(kind, 900).save(here.folder / f"{kind}.png")
    return here.folder / f"{kind}.png"


def strict(text: str) -> object:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    start = min(place for place in (text.find("{"), text.find("[")) if place >= 0)
    return json.loads(text[start:], parse_constant=refuse)


def _changed(here: Place, change: Callable[[dict, dict], None]) -> Path:
    about, tensors = _read(here.world.network)
    about = copy.deepcopy(about)
    change(about, tensors)
    _write(here.folder / "odd.safetensors", tensors, about)
    return here.folder / "odd.safetensors"


def weights() -> Iterator[Case]:
    for number, (word, value) in enumerate(NONE.items()):
        for place in ("first", "last", "all"):

            def change(about: dict, tensors: dict, place=place, value=value) -> None:
                names = [n for n, v in tensors.items() if v.is_floating_point()]
                for name in {"first": names[:1], "last": names[-1:], "all": names}[place]:
                    tensors[name].view(-1)[0] = value

            for command in COMMANDS if place != "all" else list(COMMANDS)[number : number + 1]:
                yield Case(6, f"{word} in the {place} weights, {command}",
                           lambda here, c=change, do=COMMANDS[command]: do(here, _changed(here, c)),
                           words="odd.safetensors")  # fmt: skip


def normalization() -> Iterator[Case]:
    changes = {
        "std of 0": ("std", [0.0, 0.5, 0.5]),
        "std of -1": ("std", [-1.0, 0.5, 0.5]),
        "std of NaN": ("std", [math.nan] * 3),
        "std of Inf": ("std", [math.inf] * 3),
        "mean of NaN": ("mean", [0.5, math.nan, 0.5]),
        "mean of -Inf": ("mean", [0.5, 0.5, -math.inf]),
        "two means": ("mean", [0.5, 0.5]),
        "a word as std": ("std", "half"),
        "words as mean": ("mean", ["a", "b", "c"]),
        "std of nothing": ("std", None),
        "one number as std": ("std", 0.5),
    }
    for name, (field, value) in changes.items():

        def change(about: dict, tensors: dict, field=field, value=value) -> None:
            about[field] = value

        for command in ("predict", "search"):
            yield Case(6, f"{name}, {command}",
                       lambda here, c=change, do=COMMANDS[command]: do(here, _changed(here, c)),
                       words="odd.safetensors")  # fmt: skip


def manners() -> Iterator[Case]:
    """What a published network says of itself: temperature and thresholds."""
    changes = {
        ("temperature",): (math.nan, 0.0, -1.0, math.inf, "warm", None),
        ("known_from",): (math.nan, "half", -math.inf),
        ("decision", "threshold"): (math.nan, "x"),
        ("decision", "slope"): (math.inf, None),
        ("decision",): ({}, [1], {"threshold": 0.5}),
        (): ([], "use", 5),
    }
    for place, values in changes.items():
        for value in values:

            def change(about: dict, tensors: dict, place=place, value=value) -> None:
                inside = about
                path = ("use", *place)
                for key in path[:-1]:
                    inside = inside[key]
                inside[path[-1]] = value

            command = "verify" if "decision" in place else "predict"
            yield Case(6, f"use {'.'.join(place)} = {value!r}",
                       lambda here, c=change, do=COMMANDS[command]: do(here, _changed(here, c)),
                       words="odd.safetensors")  # fmt: skip


def valid() -> Iterator[Case]:
    """JSON of a sound network is JSON."""
    for name, do in COMMANDS.items():
        yield Case(6, f"JSON of {name}",
                   lambda here, do=do: strict(do(here, here.world.network)),
                   lambda found: bool(found))  # fmt: skip

    def evaluated(here: Place) -> object:
        return strict(here.cli("evaluate", here.world.network, "--data", here.world.photos,
                               "--json"))  # fmt: skip

    yield Case(6, "JSON of evaluate", evaluated, bool)

    def audited(here: Place) -> object:
        here.write("set/a/x.png", b"")
        here.write("set/b/y.png", b"")
        return strict(here.cli("data", "audit", here.folder / "set", "--json"))

    yield Case(6, "JSON of an audit of nothing readable", audited, bool)


def results() -> Iterator[Case]:
    """Points, records and histories that hold no numbers."""

    def points(here: Place, value: float) -> object:
        from carlib.retrieval.embeddings import Embeddings

        vectors = np.ones((4, 3), np.float32)
        vectors[1, 1] = value
        return Embeddings(vectors, here.world.catalog.table.iloc[:4], "toy")

    def query(here: Place, value: float) -> object:
        found = here.world.demo.gallery
        asked = np.ones((1, found.index.d), np.float32)
        asked[0, 0] = value
        return found.search(asked, 3)

    def record(here: Place, value: float) -> object:
        from carlib.experiment.record import Record

        return Record("toy", {}, {"accuracy": value}, name="odd").write(here.folder)

    def ledger(here: Place, value: float) -> object:
        from carlib.experiment.record import append_to_ledger

        return strict(append_to_ledger({"score": value}, here.folder).read_text(encoding="utf-8"))

    for word, value in NONE.items():
        for name, do in (("points", points), ("a query", query), ("a record", record),
                         ("the ledger", ledger)):  # fmt: skip
            yield Case(6, f"{word} in {name}", lambda here, do=do, v=value: do(here, v))


def cases() -> Iterator[Case]:
    yield from weights()
    yield from normalization()
    yield from manners()
    yield from valid()
    yield from results()
