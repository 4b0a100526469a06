"""What every notebook begins with: which data, which device, how much time to take.

The same cells run on drawn cars in a minute and on real photos in an hour; `Setup.recipe` is the
only place that knows the difference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from carlib.data.catalog import Catalog
from carlib.data.opening import open_catalog
from carlib.evaluation.evaluate import evaluate, logits_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import hardware, versions
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record, load_records
from carlib.experiment.registry import get_recipe, quick
from carlib.models.networks import count_flops
from carlib.paths import runs_root
from carlib.report.tables import answer
from carlib.training.loop import load_or_train


@dataclass(frozen=True)
class Setup:
    """Data, device and seed of a notebook."""

    catalog: Catalog
    device: str
    seed: int

    @property
    def real(self) -> bool:
        """True on photographs, False on pictures that may be published, as the drawn cars."""
        return not self.catalog.publishable

    @property
    def full(self) -> bool:
        """True where whole recipes run: on real photos, with a GPU."""
        return self.real and self.device == "cuda"

    def recipe(
        self, name: str, cut: Mapping[str, object] | None = None, **changes: object
    ) -> Recipe:
        """A named recipe with `changes`: whole where `full`, else quick and `cut` further.

        What was changed is a variant with a name of its own, see `Recipe.variant`.
        """
        recipe = get_recipe(name, seed=self.seed)
        if self.full:
            return recipe.variant(**changes)
        return quick(recipe).variant(**(dict(cut or {}) | changes))

    def keep(self, record: Record) -> Record:
        """Write the record among the runs when it was made on real photos; the drawn ones change
        with the host.

        Not among the committed ones: what a notebook tries is not what the report is about.
        """
        if self.real:
            record.write(runs_root() / "records")
        return record


def setup(seed: int = 0) -> Setup:
    """Open the data that CARLIB_DATA names (else the drawn cars) and print what runs where."""
    catalog = open_catalog(os.environ.get("CARLIB_DATA") or "showroom").with_val()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine, used = hardware(), versions()
    print(f"data     {catalog}")
    hashes = (f"{name} {catalog.split_hash(name)}" for name in catalog.split_sizes)
    print(f"photos   fingerprint {catalog.fingerprint}; split hashes: {', '.join(hashes)}")
    print(f"device   {machine['gpu'] or machine['cpu']}, {machine['cores']} cores")
    print(f"seed     {seed}")
    print("versions " + ", ".join(f"{name} {version}" for name, version in used.items()))
    return Setup(catalog, device, seed)


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
                | {score: metrics[score] for score in ("top5", "macro_f1")}
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
