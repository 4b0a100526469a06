"""Heat maps against the truth: networks of drawn cars, each kind of map held against known causes.

    python benchmarks/counterfactual.py [--pairs 32] [--cheap 6] [--each 20] [--data NAME]

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
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import pandas as pd
import torch
from common import tell

from carlib.data.opening import open_catalog
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe
from carlib.explain import measures, truth
from carlib.explain.counterfactual import CHEAP, TUNING, cheap_measures, ladder_of, truth_of
from carlib.explain.faithfulness import BLIND
from carlib.explain.questions import Questions
from carlib.training.loop import load_or_train

AIM = 600.0  # seconds on two cores
CAMS = ["Grad-CAM", "Eigen-CAM", "Gradient"]
LADDERS = {  # many pairs: two networks, and the slowest method for the faster of them alone
    "scratch, seed 0": [*CAMS, "Occlusion"], "fine-tuned": CAMS,
}  # fmt: skip
asked_pairs = cache(Questions.draw)  # the networks of a process share the photos of a size
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
    Network("fine-tuned", "fronts_lite0"),
    Network("scratch, wider", "fronts_half"),
    Network("shortcut", "fronts", 0, "shortcut", True),
    Network("scratch, seed 1", "fronts", 1),
    Network("scratch, seed 2", "fronts", 2),
    Network("scratch, seed 0, with stickers", "fronts", stickers=True),  # trained before
    Network("untrained", "fronts", 0, ""),
)


def main(arguments: list[str] | None = None, networks: Sequence[Network] = NETWORKS) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="showroom#counterfactual")
    parser.add_argument("--shortcut", default="showroom#counterfactual-sticker")
    parser.add_argument("--pairs", type=int, default=32, help="that are scored")
    parser.add_argument("--tuning", type=int, default=8, help="pairs that choose thresholds")
    parser.add_argument("--cheap", type=int, default=6, help="of them for measures without truth")
    parser.add_argument("--each", type=int, default=20, help="pairs of every step of the ladder")
    parser.add_argument("--workers", type=int, default=2, help="processes, a network each")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    open_catalog(options.data), open_catalog(options.shortcut)  # drawn once, not by each worker
    ask = partial(scored, options)
    if options.workers > 1:
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            found = list(pool.map(ask, networks))  # those that take long come first
    else:
        found = [ask(network) for network in networks]
    record = made_record(options, found, [network.recipe for network in networks])
    record.timing["all, by the clock"] = time.perf_counter() - started
    return tell(record)


def scored(options: argparse.Namespace, network: Network) -> dict[str, Any]:
    """One network's rows, its ladder, and the seconds of one core that it took."""
    torch.set_num_threads(1)  # a core each
    started = time.process_time()
    checkpoint = trained(network, options)
    learned, side = time.process_time(), checkpoint.recipe.scored_size
    pairs = asked_pairs(options.pairs, side, sticker=network.stickers)
    tuning = asked_pairs(options.tuning, side, TUNING, network.stickers)
    findings = truth_of(checkpoint, pairs, tuning)
    measures.ROAD_SHARES = [50]  # of three, each of which takes as long as all other measures
    cheap = cheap_measures(Scorer.of(checkpoint), findings, options.cheap)
    by_map = {row["map"]: row for row in cheap.to_dict("records")}
    about = {"network": network.name}
    ladder = []
    if kinds := LADDERS.get(network.name):
        ladder = ladder_of(checkpoint, Questions.climb(options.each, side), kinds)
    return {
        "rows": [about | row | by_map[row["map"]] for row in findings.rows()],
        "ladder": [about | row for row in ladder],
        "seconds": {f"{network.name}, training": learned - started,
                    f"{network.name}, scoring": time.process_time() - learned},
    }  # fmt: skip


def trained(network: Network, options: argparse.Namespace) -> Checkpoint:
    """The network, trained or loaded; before any training where it learns from nothing."""
    recipe = get_recipe(network.recipe, seed=network.seed)
    catalog = open_catalog(options.shortcut if network.learns == "shortcut" else options.data)
    if not network.learns:
        return Checkpoint.begin(recipe, catalog)
    return load_or_train(recipe, catalog.with_val(), progress=False)[0]


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


def made_record(
    options: argparse.Namespace, found: list[dict[str, Any]], recipes: Sequence[str]
) -> Record:
    rows = [row for one in found for row in one["rows"]]
    metrics = {f"{row['network']}: {key}": row[key] for row in rows if row["map"] == "Grad-CAM"
               for key in ("flips", "contrastivity", "correctness") if key in row}  # fmt: skip
    catalog = open_catalog(options.data)
    return Record(
        kind="benchmark",
        topic="counterfactual",
        data={"catalog": catalog.name, "fingerprint": catalog.fingerprint, "photos": options.pairs},
        metrics=metrics,
        scoring={"pairs": options.pairs, "tuning": options.tuning, "cheap": options.cheap,
                 "each": options.each},
        extra={"rows": rows, "ladder": [row for one in found for row in one["ladder"]],
               "agreement": agreements(rows), "aim": AIM,
               "recipes": {name: get_recipe(name).method for name in recipes}},
        timing={name: value for one in found for name, value in one["seconds"].items()},
        command=command_line(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
