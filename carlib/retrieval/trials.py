"""Which rate and which habits serve each loss that compares? Asked of classes that choose.

Losses look far apart where one was tuned and the others were not (Musgrave 2020, arXiv:2003.08505).
So each gets as many trials, short ones, on most of the classes that may be learned; the rest of
those judge them. The classes that results of comparing are told of choose nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np
from sklearn.metrics import roc_auc_score

from carlib.data.catalog import Catalog
from carlib.errors import RunError
from carlib.evaluation.evaluate import scored_data
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe
from carlib.models.freezing import rescaled
from carlib.retrieval.axes import MOST_AXES, WAYS, Axes, Way
from carlib.retrieval.embeddings import embed
from carlib.retrieval.ranking import retrieval_scores
from carlib.training.loop import load_or_train

LEARNED, JUDGING = 78, 20  # classes of Stanford Cars; the other 98 are left for results
SHORT = {"epochs": 6, "size": 128, "eval_size": 160, "start_size": 96, "store_size": 160,
         "eval_every": 6, "dev": 0.0, "keep": "last"}  # fmt: skip
RATES: dict[str, dict[str, object]] = {
    "rate 1e-4": {"lr": 1e-4},
    "rate 3e-4": {"lr": 3e-4},
    "rate 1e-3": {"lr": 1e-3},
    "rate 3e-4, batch norms kept": {"lr": 3e-4, "norm_until": 0.0},
}
# The trials of each loss. Proxies begin at random, so theirs let them learn alone for an epoch, as
# their authors do (Kim 2020); cross-entropy's say what mixing and smoothing have to do with it.
HEAD_FIRST = {"plan": "head:1:1 all:5:1"}
TRIALS: dict[str, dict[str, dict[str, object]]] = {
    "lite0_cpu": {
        "rate 3e-4": {"lr": 3e-4},
        "rate 1e-3": {"lr": 1e-3},
        "rate 2e-3": {"lr": 2e-3},
        "rate 1e-3, no mixing, no smoothing": {"lr": 1e-3, "cutmix": 0.0, "smoothing": 0.0},
    },
    "lite0_contrastive": RATES,
    "lite0_triplet": RATES,
    "lite0_multi_similarity": RATES,
    "lite0_proxy_anchor": {name: how | HEAD_FIRST for name, how in RATES.items()},
    "lite0_arcface": {name: how | HEAD_FIRST for name, how in RATES.items()},
    "siamese_lite0": {name: how | {"schedule": "one_cycle"} for name, how in RATES.items()},
}

# What was tried before one was called "softened".
TRIED_WAYS = {
    "plain": WAYS["plain"],
    "centered": WAYS["centered"],
    "rooted": Way(rooted=True, centered=False),
} | {
    f"{'rooted, ' * rooted}{by}, power {power}, {most or 'all'} axes": Way(
        rooted, by=by, power=power, most=most
    )
    for rooted, by, power, most in itertools.product(
        (False, True), ("all", "within"), (0.25, 0.5), (MOST_AXES, 0)
    )
}


def trials_study(
    catalog: Catalog,
    name: str,
    learned: int = LEARNED,
    judging: int = JUDGING,
    *,
    short: Mapping[str, object] = SHORT,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Record:
    """Train every trial of one recipe on the first `learned` classes; the next `judging` ones judge
    them.

    Rows of the record: `trial`, `changes`, `recall_at_1` with its interval among the judging
    classes, `seconds`, and whether it is the `best`. The record is not written.
    """
    if name not in TRIALS:
        raise RunError(f"recipe {name!r} has no trials; those that have: {', '.join(TRIALS)}")
    known, asked = _learned_and_judging(catalog, learned, judging)
    rows = []
    for trial, changes in TRIALS[name].items():
        recipe = trial_recipe(get_recipe(name), changes, short)
        checkpoint, run = load_or_train(recipe, known, progress=progress, say=say)
        scores = retrieval_scores(embed(checkpoint, asked, progress=False).labelled)
        rows.append({
            "trial": trial, "changes": dict(changes), "recall_at_1": scores["recall_at_1"],
            "recall_at_1_interval": scores["recall_at_1_interval"],
            "seconds": run.summary["seconds"],
        })  # fmt: skip
        say(f"{name}, {trial}: Recall@1 {scores['recall_at_1']:.3f}")
    best = max(rows, key=lambda row: row["recall_at_1"])
    return Record(
        kind="study",
        topic="trials",
        data=scored_data(asked, "unseen", len(asked)),
        metrics={"best_recall_at_1": best["recall_at_1"]},
        scoring={"short": dict(short), "learned": learned, "judging": judging},
        recipe=asdict(get_recipe(name)),
        extra={
            "rows": [row | {"best": row is best} for row in rows],
            "judging_classes": list(asked.class_names),
        },
        command=command_line(),
    )


def axes_study(
    catalog: Catalog,
    recipe: Recipe,
    ways: Mapping[str, Way] = TRIED_WAYS,
    learned: int = LEARNED,
    judging: int = JUDGING,
) -> Record:
    """Which axes serve a body that learned no car? Fitted on the first `learned` classes, judged by
    the next `judging` ones.

    Rows of the record: `way`, what it is (see `carlib.retrieval.axes.Way`), `recall_at_1` with its
    interval, and `auc`, over all pairs of the judging photos. The record is not written.
    """
    known, asked = _learned_and_judging(catalog, learned, judging)
    network = Checkpoint.begin(recipe, known)
    fitting = embed(network, known, "train", progress=False).labelled
    points = embed(network, asked, progress=False).labelled
    one, two = np.triu_indices(len(points), 1)
    same = points.labels[one] == points.labels[two]
    rows = []
    for name, way in ways.items():
        placed = Axes.fit(fitting.vectors, way, fitting.labels).apply(points)
        scores = retrieval_scores(placed)
        similarity = (placed.vectors @ placed.vectors.T)[one, two]
        rows.append({
            "way": name, **asdict(way), "recall_at_1": scores["recall_at_1"],
            "recall_at_1_interval": scores["recall_at_1_interval"],
            "auc": float(roc_auc_score(same, similarity)),
        })  # fmt: skip
    best = max(rows, key=lambda row: row["recall_at_1"])
    return Record(
        kind="study",
        topic="axes",
        data=scored_data(asked, "unseen", len(asked)),
        metrics={"best_recall_at_1": best["recall_at_1"], "auc_of_best": best["auc"]},
        scoring={"learned": learned, "judging": judging},
        recipe=asdict(recipe),
        extra={"rows": rows, "judging_classes": list(asked.class_names)},
        command=command_line(),
    )


def _learned_and_judging(catalog: Catalog, learned: int, judging: int) -> tuple[Catalog, Catalog]:
    """The first classes, which are learned, and the next ones, which judge."""
    if learned + judging > catalog.num_classes:
        raise RunError(
            f"{catalog.name}: has {catalog.num_classes} classes, and trials want {learned} to "
            f"learn and {judging} to judge"
        )
    both = catalog.select_classes(range(learned + judging))
    return catalog.select_classes(range(learned)), both.unseen_classes(learned)


def trial_recipe(
    recipe: Recipe, changes: Mapping[str, object], short: Mapping[str, object] = SHORT
) -> Recipe:
    """A recipe as one trial has it: short, and with its changes."""
    epochs = int(short["epochs"])
    wanted = {"schedule": recipe.schedule, **changes, **short}
    plan = rescaled(str(wanted.get("plan", recipe.plan)), epochs)
    return recipe.variant(**(wanted | {"plan": plan}))
