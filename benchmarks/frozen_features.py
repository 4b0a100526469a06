"""What computing a frozen body's features once saves, against running the body in every epoch.

    python benchmarks/frozen_features.py [--data showroom] [--recipe lite0_frozen] [--epochs 20]

Both ways train the same head with the same seed, one after the other; the seconds are those of
training, scoring val included, and of computing the features. The aim is a tenth of the time and
the same result: the record says by how much the last val losses differ.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from carlib.data.catalog import Catalog
from carlib.data.opening import open_catalog
from carlib.experiment.host import command_line
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe
from carlib.experiment.run import Run
from carlib.training.loop import train

AIM = 10.0  # times as fast


def compare(catalog: Catalog, recipe: Recipe) -> Record:
    """Train both ways; the record is not written yet."""
    with tempfile.TemporaryDirectory() as name:
        ways: dict[str, Run] = {
            way: train(recipe, catalog, Path(name) / way, progress=False, reuse_features=once)
            for way, once in (("every epoch", False), ("once", True))
        }
        seconds = {way: run.summary["seconds"] for way, run in ways.items()}
        losses = {way: run.history()[-1]["val_loss"] for way, run in ways.items()}
        last = {way: run.summary["kept"]["val_accuracy"] for way, run in ways.items()}
    return Record(
        kind="benchmark",
        topic="frozen_features",
        data={"catalog": catalog.name, "fingerprint": catalog.fingerprint, "split": "train",
              "photos": catalog.split_sizes["train"]},
        metrics={
            "times as fast": seconds["every epoch"] / seconds["once"],
            "val loss difference": abs(losses["every epoch"] - losses["once"]),
            "val accuracy difference": abs(last["every epoch"] - last["once"]),
        },
        recipe=vars(recipe),
        extra={"aim": AIM, "epochs": recipe.epochs, "val_loss": losses, "val_accuracy": last},
        timing={way.replace(" ", "_") + "_seconds": value for way, value in seconds.items()},
        command=command_line(),
    )  # fmt: skip


def limited(catalog: Catalog, per_class: int) -> Catalog:
    """A few train photos of every class, and as many val photos at most."""
    catalog = catalog.with_val()
    table = catalog.table
    place = table.groupby(["split", "label"]).cumcount()
    few = table["split"].isin(["train", "val"]) & (place < per_class)
    return catalog.select(few)


def main(arguments: list[str] | None = None) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="showroom", help="a data set, as `open_catalog` takes it")
    parser.add_argument("--recipe", default="lite0_frozen")
    parser.add_argument("--size", type=int, help="side of the photos, instead of the recipe's")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--per-class", type=int, default=2, help="train photos of every class")
    options = parser.parse_args(arguments)
    recipe = get_recipe(options.recipe, epochs=options.epochs)
    recipe = recipe.but(size=options.size) if options.size else recipe
    record = compare(limited(open_catalog(options.data), options.per_class), recipe)
    for name, value in record.metrics.items():
        print(f"{name}: {value:.3g}")
    print(record.write())
    return record


if __name__ == "__main__":
    main()
