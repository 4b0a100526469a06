"""How long heat maps take: 100 photos by every method that needs one pass, at 224 pixels.

    python benchmarks/heat_maps.py [--data showroom] [--recipe lite0_frozen] [--photos 100]

The network is the recipe's before any training, which is as fast as after it. The methods take
turns. Score-CAM is left out: it needs a pass per channel. The aim is Grad-CAM in a minute on two
cores.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from common import tell

from carlib.data.opening import open_catalog
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe
from carlib.explain.maps import METHODS, heat_maps
from carlib.explain.scored_images import see
from carlib.timing import medians, taking_turns

AIM = {"Grad-CAM": 60.0}  # seconds


def main(arguments: list[str] | None = None) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="showroom", help="a data set, as `open_catalog` takes it")
    parser.add_argument("--recipe", default="lite0_frozen")
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    catalog = open_catalog(options.data).with_val()
    checkpoint = Checkpoint.begin(get_recipe(options.recipe), catalog)
    scorer, seen = Scorer.of(checkpoint), see(checkpoint, catalog, "val", options.photos)
    calls = {
        name: partial(heat_maps, scorer, seen.photos, seen.answers, name)
        for name in METHODS
        if name != "Score-CAM"
    }
    seconds = taking_turns(calls, options.rounds, warm_up=0)
    whole, single = calls["Grad-CAM"](), []
    for number in range(min(8, len(seen))):
        one = seen.select([number])
        single.append(heat_maps(scorer, one.photos, one.answers))
    apart = float(np.abs(np.concatenate(single) - whole[: len(single)]).max())
    record = Record(
        kind="benchmark",
        topic="heat_maps",
        data={"catalog": catalog.name, "fingerprint": catalog.fingerprint, "photos": len(seen)},
        metrics=medians(seconds) | {"largest difference of one at a time": apart},
        recipe=vars(checkpoint.recipe),
        extra={"aim": AIM, "seconds": seconds},
        command=command_line(),
    )
    return tell(record)


if __name__ == "__main__":
    main()
