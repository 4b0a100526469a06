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

from carlib.catalog import Catalog, open_catalog
from carlib.evaluation import evaluate, logits_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import hardware, versions
from carlib.experiment.record import Record, load_records
from carlib.models import count_flops
from carlib.paths import runs_root
from carlib.recipes import Recipe, quick, recipe
from carlib.results import (
    STANFORD,
    Row,
    comparable,
    evaluations,
    map_rows,
    retrieval_rows,
    row,
    shown_name,
    verification_rows,
)
from carlib.training import load_or_train

SHOWN = {  # columns of a study that a table has room for
    "imbalance": ("factor", "objective", "balanced_accuracy", "balanced_accuracy_sd",
                  "head_accuracy", "medium_accuracy", "tail_accuracy"),
    "unknown": ("score", "auroc", "auroc_interval", "fpr95"),
    "leak": ("divided", "learner", "accuracy", "accuracy_sd", "known"),
}  # fmt: skip


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
        chosen = recipe(name, seed=self.seed)
        if self.full:
            return chosen.variant(**changes)
        return quick(chosen).variant(**(dict(cut or {}) | changes))

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
        chosen = self.here.recipe(name, cut, **changes)
        checkpoint, run = load_or_train(chosen, self.catalog, progress=False)
        record = self.here.keep(evaluate(checkpoint, self.catalog, "val", run))
        self.records[title] = record
        self.logits[title] = logits_of(checkpoint, self.catalog, "val", progress=False)[0]
        self.flops[title] = count_flops(
            checkpoint.model, chosen.scored_size, 1 if chosen.grayscale else 3
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


def full_scale(*names: str, weights: str | None = None) -> pd.DataFrame:
    """Committed val scores on Stanford Cars as a table, a row per recipe, its seeds averaged.

    Names select recipes, in this order, and one without a record says "not run"; none selects all,
    or those that began with `weights` ("random" or "pretrained").
    """
    records = comparable(load_records())
    scored = evaluations(records, weights=weights)
    names = names or tuple(dict.fromkeys(map(shown_name, scored)))
    table = {name: _scores(row(records, name)) for name in names}
    return pd.DataFrame(table.values(), index=pd.Index(table, name="recipe")).fillna("")


def _scores(found: Row | None) -> dict[str, str]:
    if found is None:
        return {"val accuracy": "not run"}
    metrics, (low, high) = found.metrics, found.interval
    return {
        "val accuracy": f"{metrics['accuracy']:.3f}",
        "95 % interval": f"{low:.3f} to {high:.3f}",
        "top-5": f"{metrics['top5']:.3f}",
        "macro F1": f"{metrics['macro_f1']:.3f}",
        "seeds": str(found.seeds),
        "training": f"{found.seconds / 60:.0f} min",
        "on": found.hardware,
    }


def full_scale_retrieval(protocol: str) -> pd.DataFrame:
    """Committed retrieval scores on Stanford Cars, "same" or "unseen" classes, best first."""
    rows = retrieval_rows(load_records(), protocol)
    if not rows:
        return pd.DataFrame({protocol: ["not run"]})
    shown = ["loss", "dims", "seeds", "recall_at_1", "interval", "recall_at_8", "r_precision",
             "map_at_r", "effective_rank"]  # fmt: skip
    return pd.DataFrame(rows).set_index("recipe")[shown]


def full_scale_verification() -> pd.DataFrame:
    """Committed scores of pairs of unseen classes of Stanford Cars, best on hard pairs first."""
    rows = verification_rows(load_records())
    if not rows:
        return pd.DataFrame({"verification": ["not run"]})
    shown = ["loss", "dims", "seeds", "easy_auc", "medium_auc", "hard_auc", "interval", "hard_eer",
             "hard_tar_at_0.01", "hard_accuracy"]  # fmt: skip
    return pd.DataFrame(rows).set_index("recipe")[shown].round(3)


def full_scale_knn() -> pd.DataFrame:
    """Committed kNN votes on Stanford Cars, a row per network: what train chose, and its score."""
    rows = {}
    for record in load_records(kind="knn"):
        if record.data.get("dataset") == STANFORD:
            low, high = record.metrics["accuracy_interval"]
            rows[f"{shown_name(record)}, seed {record.recipe['seed']}"] = record.extra["chosen"] | {
                "val accuracy": f"{record.metrics['accuracy']:.3f}",
                "95 % interval": f"{low:.3f} to {high:.3f}",
                "predicting, s": f"{record.timing['predict_seconds']:.2f}",
            }
    return pd.DataFrame(rows).T if rows else pd.DataFrame({"kNN": ["not run"]})


def full_scale_search() -> pd.DataFrame:
    """The committed benchmark of searching large galleries, a row per kind of index."""
    found = [r for r in load_records(kind="benchmark") if r.topic == "search"]
    rows = [{"photos": r.data["photos"]} | line for r in found for line in r.extra["rows"]]
    return pd.DataFrame(rows) if rows else pd.DataFrame({"search": ["not run"]})


def full_scale_maps() -> pd.DataFrame:
    """Committed measures of heat maps, a row per network and kind of map."""
    rows = map_rows(load_records(kind="maps"))
    if not rows:
        return pd.DataFrame({"maps": ["not run"]})
    table = pd.DataFrame(rows).set_index(["data", "recipe", "layer", "map"])
    shown = [name for name in table if not name.endswith("_interval")]
    return table[shown].round(3).astype(object).fillna("")


def studies(question: str) -> pd.DataFrame:
    """Rows of the committed studies of a question (see SHOWN) on Stanford Cars."""
    found = [
        record
        for record in load_records(kind="study")
        if (record.topic, record.data.get("dataset")) == (question, STANFORD)
    ]
    rows = [{"network": shown_name(r)} | line for r in found for line in r.extra["rows"]]
    if not rows:
        return pd.DataFrame({question: ["not run"]})
    table = pd.DataFrame(rows).set_index("network")
    return table[[name for name in SHOWN[question] if name in table]].round(3)


def full_scale_data() -> pd.DataFrame:
    """Committed audits of real data sets as a table, one column per data set."""
    columns = {}
    for record in load_records(kind="audit"):
        if record.data.get("dataset") != "showroom":
            flat = {k.replace("_", " "): v for k, v in record.metrics.items() if k != "findings"}
            flat |= record.metrics["findings"]
            columns[record.data["catalog"]] = {k: str(v) for k, v in flat.items()}
    return pd.DataFrame(columns)
