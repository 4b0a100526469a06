"""What every notebook begins with: which data, which device, how much time to take.

The same cells run on drawn cars in a minute and on real photos in an hour; `Setup.recipe` is the
only place that knows the difference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch

from carlib.catalog import Catalog, open_catalog
from carlib.recipes import Recipe, quick, recipe
from carlib.records import Record, hardware, load_records, versions


@dataclass(frozen=True)
class Setup:
    """Data, device and seed of a notebook."""

    catalog: Catalog
    device: str
    seed: int

    @property
    def real(self) -> bool:
        """True on photographs, False on the drawn cars."""
        return self.catalog.name != "showroom"

    @property
    def full(self) -> bool:
        """True where whole recipes run: on real photos, with a GPU."""
        return self.real and self.device == "cuda"

    def recipe(
        self, name: str, cut: Mapping[str, object] | None = None, **changes: object
    ) -> Recipe:
        """A named recipe with `changes`: whole where `full`, else quick and `cut` further."""
        chosen = recipe(name, seed=self.seed)
        if not self.full:
            chosen = quick(chosen).but(**(cut or {}))
        return chosen.but(**changes) if changes else chosen

    def keep(self, record: Record) -> Record:
        """Write the record when it was made on real photos; the drawn ones change with the host."""
        if self.real:
            record.write()
        return record


def setup(seed: int = 0) -> Setup:
    """Open the data that CARLIB_DATA names (else the drawn cars) and print what runs where."""
    catalog = open_catalog(os.environ.get("CARLIB_DATA") or "showroom").with_val()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine, used = hardware(), versions()
    print(f"data     {catalog}")
    print(f"device   {machine['gpu'] or machine['cpu']}, {machine['cores']} cores")
    print(f"seed     {seed}")
    print("versions " + ", ".join(f"{name} {version}" for name, version in used.items()))
    return Setup(catalog, device, seed)


def compare(records: Mapping[str, Record], *titles: str) -> pd.DataFrame:
    """Evaluation records side by side, a row per title (all by default), for tables and bars."""
    rows = []
    for title in titles or records:
        metrics, training = records[title].metrics, records[title].extra["training"]
        low, high = metrics["accuracy_interval"]
        row = {"name": title, "value": metrics["accuracy"], "low": low, "high": high}
        row |= {name: metrics[name] for name in ("top5", "macro_f1")}
        rows.append(row | {"parameters": training["parameters"], "seconds": training["seconds"]})
    return pd.DataFrame(rows)


def full_scale(*names: str, metrics: tuple[str, ...] = ("accuracy", "top5", "macro_f1")):
    """Committed evaluation records of real photos as a table, one row per recipe.

    Seeds of one recipe are averaged, the spread in a column of its own; a recipe without a record
    says "not run". Names select recipes, in this order; none selects all.
    """
    groups: dict[str, list[Record]] = {}
    for record in load_records(kind="evaluation"):
        if record.data["catalog"] != "showroom" and record.data["split"] == "val":
            groups.setdefault(record.recipe["name"], []).append(record)
    rows = []
    for name in names or groups:
        row: dict[str, object] = {"recipe": name}
        records = groups.get(name, [])
        if not records:
            rows.append(row | {"val accuracy": "not run"})
            continue
        accuracies = [r.metrics["accuracy"] for r in records]
        low, high = records[0].metrics["accuracy_interval"]
        row["val accuracy"] = f"{sum(accuracies) / len(accuracies):.3f}"
        row["95 % interval"] = f"{low:.3f} to {high:.3f}"
        for metric in metrics[1:]:
            row[metric.replace("_", " ")] = f"{records[0].metrics[metric]:.3f}"
        row["seeds"] = len(records)
        row["training"] = f"{records[0].timing['train_seconds'] / 60:.0f} min"
        row["on"] = records[0].hardware["gpu"] or f"{records[0].hardware['cores']} CPU cores"
        rows.append(row)
    return pd.DataFrame(rows).fillna("").set_index("recipe")


def full_scale_data() -> pd.DataFrame:
    """Committed audits of real data sets as a table, one column per data set."""
    columns = {}
    for record in load_records(kind="audit"):
        if record.data["catalog"] != "showroom":
            flat = {k.replace("_", " "): v for k, v in record.metrics.items() if k != "findings"}
            flat |= record.metrics["findings"]
            columns[record.data["catalog"]] = {k: str(v) for k, v in flat.items()}
    return pd.DataFrame(columns)
