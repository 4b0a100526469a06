"""What a case is, where it is tried, and how a command is called.

What is right never comes from carlib: every case that must be answered brings a twin (the upright,
the 8-bit, the small picture), a count, or plain numpy to compare the answer with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from toys import by_class, toy_catalog, toy_recipe

KINDS = {
    1: "pictures of every format, depth and shape",
    2: "pipes, devices, links, giant files",
    3: "photos and folders nobody is told of",
    4: "options and recipe fields",
    5: "names that climb out of folders",
    6: "values that are not numbers",
    7: "foreign or damaged files",
    8: "full disks and locked folders",
    9: "unlabelled and small sets",
    10: "errors nobody foresaw",
}
NET = "unexpected error"  # what the command line says when only its last net was left


class Refused(Exception):
    """A command ended with an exit code that is not 0, saying why."""


class NetUsed(Exception):
    """A command was saved by its last net alone: an error of ours escaped."""


@dataclass(frozen=True)
class Case:
    """One input and what must come of it."""

    kind: int
    name: str
    act: Callable[[Place], object]  # makes the input and does what a user does with it
    right: Callable[[object], bool] | None = None  # of the answer; None: it must be refused
    words: str = ""  # what a refusal must name
    refusable: bool = False  # an answer and a refusal are both right
    child: bool = False  # it may hang or eat memory, so a process of its own tries it


class World:
    """What all cases share: toy photos, a trained network, and folders that carlib writes to."""

    VARIABLES = ("CARLIB_CACHE", "CARLIB_RUNS", "CARLIB_RESULTS", "COLUMNS", "TERM")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.variables = {
            f"CARLIB_{n.upper()}": f"{root}/{n}" for n in ("cache", "runs", "results")
        }
        self.variables |= {"COLUMNS": "240", "TERM": "dumb"}  # so that tables are not broken
        os.environ |= self.variables
        self.photos = by_class(root / "shapes")
        self._trained()

    def _trained(self) -> None:
        from carlib.apps.predictor import publish
        from carlib.training.loop import load_or_train

        self.catalog = toy_catalog(self.photos)
        recipe = toy_recipe(epochs=5)
        self.checkpoint, self.run = load_or_train(recipe, self.catalog, progress=False, say=str)
        self.network = self.root / "toy.safetensors"
        self.divided = self.catalog.to_csv(self.root / "divided.csv")  # with its val photos
        publish(self.checkpoint, self.catalog, self.run, path=self.network)

    @cached_property
    def predictor(self):
        from carlib.apps.predictor import Predictor

        return Predictor.load(self.network)

    @cached_property
    def demo(self):
        from carlib.apps.demo import Demo

        return Demo(self.predictor, self.catalog)

    def chances(self, pixels: np.ndarray) -> dict[str, float]:
        """What the toy network says of pixels, by class: they are the twin's, not carlib's."""
        found = self.predictor.identify(np.asarray(pixels), top=9)
        return dict(zip(found.names, found.probabilities, strict=True))


@dataclass(frozen=True)
class Place:
    """A folder of a case's own, in the world."""

    world: World
    folder: Path

    def write(self, name: str, data: bytes | str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def toys(self, name: str = "set", per_class: int = 4) -> Path:
        """A data set of toy photos, a folder per class."""
        return by_class(self.folder / name, per_class)

    def cli(self, *words: object, allowed: tuple[int, ...] = (0,), both: bool = False) -> str:
        """What a command prints, `both` to stdout and stderr; other exit codes are refusals."""
        from typer.testing import CliRunner

        from carlib.cli import app

        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        if NET in done.stderr:
            raise NetUsed(done.stderr)
        if done.exit_code not in allowed:
            raise Refused(done.stderr)
        return done.output if both else done.stdout

    def use(self, *words: object, **options) -> str:
        """The same, with the toy network as model."""
        return self.cli(*words, "--model", self.world.network, **options)


@contextmanager
def environment(**values: object) -> Iterator[None]:
    """Variables of the environment, for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ |= {name: str(value) for name, value in values.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def anything(_: object) -> bool:
    """Right whatever the answer, as long as it is one."""
    return True
