"""What `carlib train` asks when nothing was said and somebody sits at the terminal."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import typer

from carlib.errors import CarlibError


def at_a_terminal() -> bool:
    """Whether a person can answer: input and output are both a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@dataclass(frozen=True)
class Training:
    """The answers, as `carlib train` takes them."""

    recipe: str
    data: str
    changes: tuple[str, ...]
    cache: str  # folder, "" for the usual one

    @property
    def command(self) -> str:
        """The command line that needs no questions."""
        words = ["carlib", "train", self.recipe, "--data", self.data]
        words += [word for change in self.changes for word in ("--set", change)]
        setting = f"CARLIB_CACHE={shlex.quote(self.cache)} " if self.cache else ""
        return setting + shlex.join(words)


def ask_training() -> Training:
    """Ask for task, target, recipe, loss, cache, epochs and batch; Enter takes the default."""
    from carlib.experiment.registry import RECIPES, get_recipe
    from carlib.models.losses import LOSSES, METRIC_LOSSES
    from carlib.paths import cache_root

    data = typer.prompt(
        "data set: a folder, or showroom", os.environ.get("CARLIB_DATA", "showroom")
    )
    task = _one_of("task", ("classify", "verify"), "classify")
    target = _one_of("target", ("model", "make"), "model")
    embeds = task == "verify"
    names = [name for name, known in RECIPES.items() if bool(known.embedding) == embeds]
    recipe = get_recipe(_one_of("recipe", names, "siamese_lite0" if embeds else "lite0_cpu"))
    loss = _one_of("loss", METRIC_LOSSES if embeds else LOSSES, recipe.loss)
    usual = str(cache_root())
    cache = typer.prompt("cache of decoded photos", usual)
    epochs = _number("epochs", recipe.epochs)
    batch = _number("photos in a batch", recipe.batch_size)
    asked = {"loss": loss, "epochs": epochs, "batch_size": batch}
    changes = [
        f"{field}={value}" for field, value in asked.items() if value != getattr(recipe, field)
    ]
    if loss != "contrastive" and recipe.sampler == "pairs":
        changes.append("sampler=per_class")  # the others compare all photos of a batch
    place = data if target == "model" else f"{data}#{target}"
    return Training(recipe.name, place, tuple(changes), "" if cache == usual else cache)


def _one_of(question: str, choices: Sequence[str], default: str) -> str:
    def known(answer: str) -> str:
        if answer not in choices:
            raise typer.BadParameter(f"one of: {', '.join(choices)}")
        return answer

    return _asked(f"{question} ({', '.join(choices)})", default, known)


def _number(question: str, default: int) -> int:
    def counted(answer: str) -> int:
        if not str(answer).isdecimal() or int(answer) < 1:
            raise typer.BadParameter("a whole number from 1 on")
        return int(answer)

    return _asked(question, default, counted)


def _asked(question: str, default: object, parse: Callable):
    try:
        return typer.prompt(question, default, value_proc=parse)
    except typer.Abort:
        raise CarlibError("nothing was trained") from None
