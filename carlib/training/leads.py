"""What does one change to a recipe bring? Judged on dev photos; val is not looked at.

Each lead is the base recipe with one thing changed, trained for as many epochs on the same photos.
The record lists all of them, those that do not pay as well: it says how many variants were tried
before a recipe was settled (Pineau 2021, arXiv:2003.12206).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from carlib.data.catalog import Catalog
from carlib.evaluation.evaluate import ready, scored_data
from carlib.evaluation.significance import mcnemar
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.cost import training_flops
from carlib.experiment.host import command_line
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record
from carlib.training.loop import load_or_train
from carlib.training.parts import kept_back

DEV = 0.1  # of the training photos
LEADS: dict[str, dict[str, object]] = {  # of recipe lite0_cpu
    "mixing ends after nine tenths": {"mix_until": 0.9},
    "half of the batches are mixed": {"mix_probability": 0.5},
    "MixUp beside CutMix": {"mixup": 0.2},
    "no mixing": {"cutmix": 0.0},
    "averaged weights": {"ema": 0.99},
    "one side throughout": {"start_size": 0, "size": 128, "eval_size": 160},
    "224 px at the end": {"size": 224, "eval_size": 256, "start_size": 128},
    "generalized mean pooling": {"pooling": "gem"},
    "batch norms kept at the end": {"norm_until": 0.8},
    "half the learning rate": {"lr": 5e-4},
    "twice the learning rate": {"lr": 2e-3},
    "lower rates in lower layers": {"layer_decay": 0.85},
    "first two stages kept": {"plan": "blocks.2"},
    "EfficientNet-Lite2": {"model": "efficientnet_lite2"},
    "EfficientNet-Lite2, first two stages kept": {
        "model": "efficientnet_lite2",
        "plan": "blocks.2",
    },
}


def leads_study(
    catalog: Catalog,
    base: Recipe,
    leads: Mapping[str, Mapping[str, object]] = LEADS,
    *,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Record:
    """Train the base and each lead; rows of the record have `dev_accuracy`, the `difference` to the
    base with its 95 % interval over dev's photos, `tflop` and `seconds`. The record is not written.
    """
    base.must_classify()
    photos, classes = catalog.split_sizes["train"], catalog.num_classes
    base, rows, labels, first = base.but(dev=DEV), [], None, None
    for lead, changes in ({"as it is": {}} | dict(leads)).items():
        recipe = base.variant(**changes)
        checkpoint, run = load_or_train(recipe, catalog, progress=progress, say=say)
        answers, labels = answers_on_dev(checkpoint, catalog)
        first = answers if first is None else first
        compared = mcnemar(labels, first, answers)
        rows.append({
            "lead": lead,
            "changes": dict(changes),
            "dev_accuracy": float((answers == labels).mean()),
            "difference": compared["difference"],
            "difference_interval": compared["difference_interval"],
            "tflop": training_flops(recipe, photos, classes) / 1e12,
            "seconds": run.summary["seconds"],
        })  # fmt: skip
        say(f"{lead}: dev accuracy {rows[-1]['dev_accuracy']:.3f}, {compared['difference']:+.3f}")
    return Record(
        kind="study",
        topic="leads",
        data=scored_data(catalog, "train", len(labels)),
        metrics={"base_dev_accuracy": rows[0]["dev_accuracy"]},
        scoring={"dev": DEV, "leads": list(leads)},
        recipe=asdict(base),
        extra={"rows": rows},
        command=command_line(),
    )


def answers_on_dev(checkpoint: Checkpoint, catalog: Catalog) -> tuple[np.ndarray, np.ndarray]:
    """What a network says of the photos that its training kept back, and their labels (photos,)."""
    scorer, store, train = ready(checkpoint, catalog, "train", progress=False)
    train = train[store.labels[train] >= 0]
    _, dev = kept_back(store, train, checkpoint.recipe.dev)
    return scorer.predict(store, dev).argmax(1).numpy(), store.labels[dev]
