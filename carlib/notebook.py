"""What every notebook begins with: which data, which device, how much time to take.

The same cells run on drawn cars in a minute and on real photos in an hour; `Setup.recipe` is the
only place that knows the difference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from carlib.data.catalog import Catalog
from carlib.data.opening import open_catalog
from carlib.errors import CarlibError, DataError
from carlib.evaluation.evaluate import evaluate, logits_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.cost import DEVICES, STANFORD_CARS, seconds_on, training_flops, within
from carlib.experiment.host import hardware, versions
from carlib.experiment.outputs import Outputs, read_outputs
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record, load_records
from carlib.experiment.registry import get_recipe, quick
from carlib.experiment.tables import keeping_outputs
from carlib.models.freezing import phase_count, rescaled
from carlib.models.networks import count_flops
from carlib.paths import cache_root, runs_root
from carlib.report.tables import answer, heading
from carlib.runtime import the_device
from carlib.training.loop import load_or_train

# How much of a recipe is run: for tests, for drawn cars, in one hour of a GPU, or all of it.
PROFILES = ("tiny", "quick", "hour", "whole")
SMALLEST = {"epochs": 2, "size": 32, "store_size": 32, "eval_size": 0, "start_size": 0}  # "tiny"
MINUTES = 8.0  # of a T4, by estimate, that a training of profile "hour" may take
DRIVE = Path("/content/drive")  # where Colab shows a Google Drive


@dataclass(frozen=True)
class Setup:
    """Data, device, seed and profile of a notebook."""

    catalog: Catalog
    device: str
    seed: int
    profile: str = "quick"
    asked: dict[str, Recipe] = field(default_factory=dict, compare=False, repr=False)  # whole ones

    @property
    def real(self) -> bool:
        """True on photographs, False on pictures that may be published, as the drawn cars."""
        return not self.catalog.publishable

    @property
    def full(self) -> bool:
        """True where whole recipes run."""
        return self.profile == "whole"

    def recipe(
        self, name: str, cut: Mapping[str, object] | None = None, **changes: object
    ) -> Recipe:
        """A named recipe with `changes`, as much of it as the profile has time for.

        "whole": all of it; "hour": fewer epochs where it would take a T4 longer than MINUTES;
        "quick": `carlib.experiment.registry.quick`, and `cut` further; "tiny": two epochs of small
        photos. What was changed is a variant with a name of its own, see `Recipe.variant`.
        """
        recipe = get_recipe(name, seed=self.seed)
        self.asked[f"{name} {changes}"] = _whole(recipe, changes)
        if self.full:
            return changed(recipe, changes)
        if self.profile == "hour":
            photos = self.catalog.split_sizes.get("train", len(self.catalog))
            whole = changed(recipe, changes)
            return within(whole, 60 * MINUTES, photos, self.catalog.num_classes)
        short = changed(quick(recipe), dict(cut or {}) | changes)
        return tiny(short) if self.profile == "tiny" else short

    def seconds_on(self, device: str) -> float:
        """About how long what was asked for would train there on Stanford Cars, profile "hour".

        By operations alone, see `carlib.experiment.cost`, so it is an estimate and shown as one.
        """
        recipes = (within(recipe, 60 * MINUTES, *STANFORD_CARS) for recipe in self.asked.values())
        flops = sum(training_flops(recipe, *STANFORD_CARS) for recipe in recipes)
        return seconds_on(DEVICES[device], flops)

    def keep(self, record: Record) -> Record:
        """Write the record among the runs when it was made on real photos; the drawn ones change
        with the host.

        Not among the committed ones: what a notebook tries is not what the report is about.
        """
        if self.real:
            record.write(runs_root() / "records")
        return record

    def some_classes(self, step: int, more_val: int = 0) -> Catalog:
        """Every `step`-th class of the drawn cars, so that trainings are short; all photographs.

        Of each, `more_val` photos are drawn for val besides those that there are, so that smaller
        differences can be told. Raises `DataError` where there are not two classes to tell apart.
        """
        if self.catalog.num_classes < 2:
            raise DataError(f"{self.catalog.name} has one class; it takes two to tell them apart.")
        few = range(0, self.catalog.num_classes, step)
        if self.real or len(few) < 6:
            return self.catalog
        if more_val and self.catalog.extras.dataset == "showroom":
            return open_catalog("showroom", only=few, more_val=more_val)
        return self.catalog.select_classes(few)


def setup(seed: int = 0, data: str = "", profile: str = "", drive: bool = False) -> Setup:
    """Open data and print what runs where.

    `data` is "showroom" for the drawn cars, "stanford-cars" (fetched from the Hugging Face hub
    once, then opened), or the path of photos of your own; without it, what CARLIB_DATA names, else
    the drawn cars. `profile` is one of PROFILES; without it, what CARLIB_PROFILE names, else "hour"
    for photos on a GPU and "quick" elsewhere. `drive` keeps runs on Google Drive, on Colab. Raises
    `CarlibError` for what cannot be opened.
    """
    if drive:
        keep_on_drive()
    catalog = _opened(data or os.environ.get("CARLIB_DATA") or "showroom").with_val()
    device = the_device().type
    usual = "hour" if device == "cuda" and not catalog.publishable else "quick"
    profile = profile or os.environ.get("CARLIB_PROFILE") or usual
    if profile not in PROFILES:
        raise CarlibError(f"unknown profile {profile!r}; known: {', '.join(PROFILES)}")
    pd.set_option("display.max_colwidth", 80)  # room for what a network is called
    machine, used = hardware(), versions()
    print(f"data     {catalog}")
    hashes = (f"{name} {catalog.split_hash(name)}" for name in catalog.split_sizes)
    print(f"photos   fingerprint {catalog.fingerprint}; split hashes: {', '.join(hashes)}")
    cores = machine["cores"]
    print(f"device   {machine['gpu'] or machine['cpu']}, {cores} core{'s' * (cores != 1)}")
    print(f"seed     {seed}; recipes: {profile}")
    print("versions " + ", ".join(f"{name} {version}" for name, version in used.items()))
    return Setup(catalog, device, seed, profile)


def changed(recipe: Recipe, changes: Mapping[str, object]) -> Recipe:
    """A variant with `changes`; a plan among them is stretched over the epochs that there are."""
    if plan := changes.get("plan"):
        epochs = int(changes.get("epochs", recipe.epochs))
        changes = {**changes, "plan": rescaled(str(plan), epochs)}
    return recipe.variant(**changes)


def _whole(recipe: Recipe, changes: Mapping[str, object]) -> Recipe:
    """The recipe as it would be run whole; what a profile decides is left as the recipe has it."""
    kept = {name: value for name, value in changes.items() if name not in ("epochs", "size")}
    return changed(recipe, kept)


def tiny(recipe: Recipe) -> Recipe:
    """A recipe that shows that code runs, and nothing else."""
    cut = {key: min(value, getattr(recipe, key) or value) for key, value in SMALLEST.items()}
    cut["epochs"] = max(cut["epochs"], phase_count(recipe.plan))
    return recipe.variant(**cut, plan=rescaled(recipe.plan, cut["epochs"]))


def keep_on_drive() -> None:
    """Have runs and records lie on Google Drive, where they outlive Colab's machine."""
    try:
        from google.colab import drive
    except ImportError:
        print(f"no Colab here: runs stay in {runs_root()}")
        return
    drive.mount(str(DRIVE))
    os.environ["CARLIB_RUNS"] = str(DRIVE / "MyDrive" / "carlib" / "runs")


def _opened(data: str) -> Catalog:
    """A catalog by name or path; the photographs of Stanford Cars are fetched when asked for."""
    if data.replace("_", "-") == "stanford-cars" and not Path(data).exists():
        from carlib.data.download import fetch

        return fetch("stanford_cars", cache_root() / "stanford-cars")
    return open_catalog(data)


def learned_and_new(catalog: Catalog, new: int = 2) -> tuple[Catalog, Catalog]:
    """The first half of the classes, to be learned, and the others, which nobody will have seen.

    The others are `new` classes at least and have no photo of test, see `Catalog.unseen_classes`.
    Raises `DataError` where that leaves fewer than two classes to learn.
    """
    number = min(catalog.num_classes // 2, catalog.num_classes - new)
    if number < 2:
        raise DataError(
            f"{catalog.name} has {catalog.num_classes} classes; {new + 2} or more are needed: "
            f"two to learn, and {new} that are never seen in training."
        )
    return catalog.select_classes(range(number)), catalog.unseen_classes(number)


class Experiments:
    """Networks that a notebook trains on one catalog: their records and val logits, by title."""

    def __init__(self, here: Setup, catalog: Catalog) -> None:
        self.here, self.catalog = here, catalog
        self.records: dict[str, Record] = {}
        self.logits: dict[str, torch.Tensor] = {}  # of val: (photos, classes), in catalog order
        self.flops: dict[str, int] = {}  # of one photo, forward

    def run(
        self, name: str, title: str, cut: Mapping[str, object] | None = None, **changes: object
    ) -> Checkpoint:
        """Train or load a recipe (see `Setup.recipe`) and score it on val, under a title."""
        recipe = self.here.recipe(name, cut, **changes)
        checkpoint, run = load_or_train(recipe, self.catalog, progress=False)
        record = self.here.keep(evaluate(checkpoint, self.catalog, "val", run))
        self.records[title] = record
        self.logits[title] = logits_of(checkpoint, self.catalog, "val", progress=False)[0]
        self.flops[title] = count_flops(
            checkpoint.model, recipe.scored_size, 1 if recipe.grayscale else 3
        )
        seconds = run.summary["seconds"]
        print(f"{title}: accuracy {record.metrics['accuracy']:.3f}, {seconds:.0f} s")
        return checkpoint

    def metrics(self, *titles: str) -> dict[str, dict[str, Any]]:
        """The metrics of these titles (all by default), for bars."""
        return {title: self.records[title].metrics for title in titles or self.records}

    def table(self, *titles: str) -> pd.DataFrame:
        """What was reached and what it cost, a row per title (all by default)."""
        rows = {}
        for title, metrics in self.metrics(*titles).items():
            training = self.records[title].extra["training"]
            low, high = metrics["accuracy_interval"]
            rows[title] = (
                {"accuracy": metrics["accuracy"], "low": low, "high": high}
                | {heading(score): metrics[score] for score in ("top5", "macro_f1")}
                | {"parameters": training["parameters"], "GFLOPs": self.flops[title] / 1e9}
                | {"seconds": training["seconds"]}
                | {"photos/s": training["photos_seen"] / training["seconds"]}
            )
        return pd.DataFrame.from_dict(rows, orient="index")


def full_scale(question: str, *names: str) -> pd.DataFrame:
    """What committed records of real photos answer to a question of `carlib.report.tables`.

    Such as "from scratch", "unseen classes", "pairs" or "maps". `names` selects recipes, in this
    order, and one without a record says "not run".
    """
    return answer(question, load_records(), *names).frame()


def real_outputs(label: str = "", kind: str = "evaluation", topic: str = "") -> list[Outputs]:
    """What the networks of a recipe said of Stanford Cars' photos, from the committed outputs, seed
    by seed; none where no record of that label keeps them.

    `label` is what a row of `full_scale` is called, such as "lite0_cpu_long" or
    "lite0_cpu_long_untrained_whitened", "" for every one. `kind` and `topic` say what was asked of
    the network: "evaluation" or "published" (logits of val), "retrieval" of "same" or "unseen"
    classes, or "verification" (embeddings).
    """
    found = keeping_outputs(load_records(), kind, topic)
    return [
        read_outputs(record)
        for row, seeds in found.items()
        if label in ("", row)
        for record in seeds
    ]
