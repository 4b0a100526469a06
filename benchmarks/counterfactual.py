"""Heat maps against the truth: networks of drawn cars, each kind of map held against known causes.

    python benchmarks/counterfactual.py [--pairs 32] [--cheap 8] [--data showroom#counterfactual]

Two years of a drawn car differ in parts that are known, and a photo can be drawn again with the
other year's: see `carlib.explain.truth` for what is measured. The networks are trained here, or
loaded where that was done before: from scratch and fine-tuned, one that was offered a shortcut (a
sticker that gives the year away in train), and one that learned nothing. Measures that need no
truth are taken of the same maps, to see which of them ranks maps as the truth does.

The aim is ten minutes on two cores, training included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from common import tell

from carlib.data.opening import open_catalog
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe
from carlib.explain import measures, truth
from carlib.explain.counterfactual import BLIND, CHEAP, TUNING, Findings, cheap_measures, truth_of
from carlib.explain.questions import Questions
from carlib.training.loop import load_or_train

AIM = 600.0  # seconds on two cores
TRUE = ("contrastivity", "correctness", "single_deletion")


class Network(NamedTuple):
    """What is explained: its recipe, what it learns from, and whether its photos wear stickers."""

    name: str
    recipe: str
    seed: int = 0
    learns: str = "data"  # or "shortcut", or "" for nothing
    stickers: bool = False


NETWORKS = (
    Network("scratch, seed 0", "fronts"),
    Network("scratch, wider", "fronts_half"),
    Network("untrained", "fronts", 0, ""),
    Network("fine-tuned", "fronts_lite0"),
    Network("shortcut", "fronts", 0, "shortcut", True),
    Network("scratch, seed 0, with stickers", "fronts", stickers=True),
    Network("scratch, seed 1", "fronts", 1),
    Network("scratch, seed 2", "fronts", 2),
)


def main(arguments: list[str] | None = None, networks: Sequence[Network] = NETWORKS) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="showroom#counterfactual")
    parser.add_argument("--shortcut", default="showroom#counterfactual-sticker")
    parser.add_argument("--pairs", type=int, default=32, help="that are scored")
    parser.add_argument("--tuning", type=int, default=10, help="pairs that choose thresholds")
    parser.add_argument("--cheap", type=int, default=8, help="of them for measures without truth")
    options = parser.parse_args(arguments)
    measures.ROAD_SHARES = [50]  # of three, each of which takes as long as all other measures
    catalogs = {name: open_catalog(getattr(options, name)).with_val()
                for name in ("data", "shortcut")}  # fmt: skip
    rows, ladder, seconds, drawn = [], [], {}, {}
    for network in networks:
        started = time.process_time()
        checkpoint = trained(network, catalogs)
        learned, key = time.process_time(), (network.stickers, checkpoint.recipe.scored_size)
        if key not in drawn:
            drawn[key] = [
                Questions.draw(count, key[1], seed, network.stickers)
                for count, seed in ((options.pairs, 0), (options.tuning, TUNING))
            ]
        findings = truth_of(checkpoint, *drawn[key])
        cheap = cheap_measures(Scorer.of(checkpoint), findings, options.cheap)
        rows += merged(network.name, findings, cheap)
        ladder += [{"network": network.name} | row for row in findings.ladder()]
        seconds[network.name] = [learned - started, time.process_time() - learned]
        print(f"{network.name}: {seconds[network.name]}", flush=True)
    return tell(made_record(options, catalogs["data"], rows, ladder, seconds))


def trained(network: Network, catalogs: dict) -> Checkpoint:
    """The network, trained or loaded; before any training where it learns from nothing."""
    recipe = get_recipe(network.recipe, seed=network.seed)
    if not network.learns:
        return Checkpoint.begin(recipe, catalogs["data"])
    return load_or_train(recipe, catalogs[network.learns], progress=False)[0]


def merged(name: str, findings: Findings, cheap: pd.DataFrame) -> list[dict[str, object]]:
    """A row per kind of map: measures with the truth, and without."""
    by_map = {row["map"]: row for row in cheap.to_dict("records")}
    return [{"network": name} | row | by_map[row["map"]] for row in findings.rows()]


def agreements(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Which measures without truth rank maps as those with it do, with blind maps and without.

    Of a network that was shown photos with and without stickers, those without.
    """
    table, found = pd.DataFrame(rows), []
    table = table[~table["network"].str.endswith("with stickers")]
    for among, part in (("all maps", table), ("methods", table[~table["map"].isin(BLIND)])):
        agreed = truth.agreement(part, CHEAP, [name for name in TRUE if name in part])
        found += [{"among": among} | row for row in agreed.to_dict("records")]
    return found


def made_record(options, catalog, rows, ladder, seconds) -> Record:
    told = {row["network"]: row for row in reversed(rows) if row["map"] == "Grad-CAM"}
    metrics = {f"{name}: {key}": row[key] for name, row in told.items()
               for key in ("flips", "contrastivity", "correctness") if key in row}  # fmt: skip
    return Record(
        kind="benchmark",
        topic="counterfactual",
        data={"catalog": catalog.name, "fingerprint": catalog.fingerprint, "photos": options.pairs},
        metrics=metrics,
        scoring={"pairs": options.pairs, "tuning": options.tuning, "cheap": options.cheap},
        extra={"rows": rows, "ladder": ladder, "agreement": agreements(rows), "aim": AIM},
        timing={f"{name}, {what}": value for name, both in seconds.items()
                for what, value in zip(("training", "scoring"), both, strict=True)},
        command=command_line(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
