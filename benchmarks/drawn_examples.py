"""What a network of drawn cars gets wrong: mistakes, neighbors and pairs, for the report to show.

    python benchmarks/drawn_examples.py [--recipe lite0_cpu] [--size 128] [--epochs 12]

It learns the first half of the drawn cars and names photos of them that it has not seen; the other
half, which it never saw, search each other and are told apart two by two. The record keeps the
names of the photos and what was said of them: the report draws them again.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from common import tell

from carlib.data.catalog import Catalog
from carlib.data.drawn import open_showroom
from carlib.evaluation.evaluate import logits_of
from carlib.evaluation.metrics import answers_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe
from carlib.retrieval.deciding import Decision
from carlib.retrieval.embeddings import embed
from carlib.retrieval.knn import other_neighbors
from carlib.retrieval.verification import VerificationProtocol, hardest, similarities
from carlib.training.loop import load_or_train

MISTAKES, QUERIES, NEIGHBORS, PAIRS = 6, 3, 5, 3  # that are shown


def main(arguments: list[str] | None = None, catalog: Catalog | None = None) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="lite0_cpu")
    parser.add_argument("--size", type=int, default=128, help="side of the photos, pixels")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args(arguments)
    catalog = catalog or open_showroom()
    recipe = get_recipe(options.recipe).variant(
        size=options.size, eval_size=0, start_size=0, store_size=0, epochs=options.epochs
    )
    learned = catalog.select_classes(range(catalog.num_classes // 2))
    checkpoint, _ = load_or_train(recipe, learned.with_val(), progress=False)
    return tell(made_record(recipe, checkpoint, catalog, learned))


def made_record(
    recipe: Recipe, checkpoint: Checkpoint, catalog: Catalog, learned: Catalog
) -> Record:
    named, found = mistakes(checkpoint, learned), searches(checkpoint, catalog)
    compared = pairs(checkpoint, catalog)
    return Record(
        kind="benchmark",
        topic="examples",
        data={"catalog": catalog.name, "fingerprint": catalog.fingerprint, "split": "val",
              "photos": named["photos"]},
        metrics={"accuracy": named["accuracy"], "only_the_year": named["only_the_year"],
                 "recall_at_1": found["recall_at_1"], "hard_accuracy": compared["accuracy"]},
        recipe=vars(recipe),
        checkpoint=checkpoint.told(),
        extra={"mistakes": named["shown"], "queries": found["shown"], "pairs": compared["shown"]},
        command=command_line(),
    )  # fmt: skip


def mistakes(checkpoint: Checkpoint, learned: Catalog) -> dict:
    """Wrong answers, the surest first, one for each two classes, each beside a photo that was
    learned of the class that was named, from the same side where there is one.
    """
    logits, labels, rows = logits_of(checkpoint, learned, "val", progress=False)
    answers = answers_of(logits, labels)
    sure = logits.softmax(1).amax(1).numpy()
    table, shown, seen = learned.table.iloc[rows], [], set()
    for place in np.argsort(-sure, kind="stable"):
        both = frozenset((labels[place], answers[place]))
        if answers[place] != labels[place] and both not in seen and len(shown) < MISTAKES:
            seen.add(both)
            photo = table.iloc[place]
            shown.append({"a": photo["path"], "b": like(photo, answers[place], learned),
                          "confidence": float(sure[place])})  # fmt: skip
    wrong = answers != labels
    cars = learned.table.drop_duplicates("label").set_index("label")
    models = (cars["make"] + " " + cars["model"]).sort_index().to_numpy()
    same_model = models[answers[wrong]] == models[labels[wrong]]  # and so the year is wrong
    return {"accuracy": float(1 - wrong.mean()), "photos": len(labels), "shown": shown,
            "only_the_year": float(same_model.mean()) if wrong.any() else 0.0}  # fmt: skip


def like(photo: pd.Series, label: int, learned: Catalog) -> str:
    """A photo that was learned of a class, from the side from which another one was taken."""
    table = learned.table[(learned.table["split"] == "train") & (learned.table["label"] == label)]
    alike = table[table["viewpoint"] == photo["viewpoint"]]
    return str((alike if len(alike) else table)["path"].iloc[0])


def searches(checkpoint: Checkpoint, catalog: Catalog) -> dict:
    """The nearest photos of some, taken evenly from the classes that were not learned."""
    others = catalog.unseen_classes(len(checkpoint.class_names))
    points = embed(checkpoint, others, progress=False)
    distances, near = other_neighbors(points, NEIGHBORS)
    chosen = np.linspace(0, len(points) - 1, QUERIES + 2).astype(int)[1:-1]
    shown = [
        {"path": points.paths[row], "nearest": points.paths[near[row]].tolist(),
         "similarity": (1 - distances[row]).tolist()}
        for row in chosen
    ]  # fmt: skip
    return {"recall_at_1": float((points.labels[near[:, 0]] == points.labels).mean()),
            "shown": shown}  # fmt: skip


def pairs(checkpoint: Checkpoint, catalog: Catalog) -> dict:
    """Hard pairs that mislead most, and how many hard answers are right."""
    protocol = VerificationProtocol.of(checkpoint, catalog, progress=False)
    fitting, asked = protocol.fitting, protocol.scored["hard"]
    similarity, _ = similarities(protocol.points, asked)
    decision = Decision.fit(similarities(protocol.points, fitting)[0], fitting["same"].to_numpy())
    right = (similarity >= decision.threshold) == asked["same"].to_numpy()
    worst = hardest(similarity, asked, len(asked))
    shown = [one for table in worst.values() for one in apart(table)]
    return {"accuracy": float(right.mean()), "shown": shown}


def apart(table: pd.DataFrame) -> list[dict]:
    """The first pairs of a table in which no photo is shown twice."""
    shown, seen = [], set()
    for row in table[["a", "b", "same", "similarity"]].to_dict("records"):
        if not seen & {row["a"], row["b"]} and len(shown) < PAIRS:
            seen |= {row["a"], row["b"]}
            shown.append(row)
    return shown


if __name__ == "__main__":
    main()
