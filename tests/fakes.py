"""Records as the library writes them, with numbers that no run has made."""

from __future__ import annotations

from dataclasses import asdict, replace

from carlib.data.drawn import YEARS, photo_name
from carlib.data.pairs import LEVELS
from carlib.experiment.record import Record
from carlib.experiment.registry import RECIPES
from carlib.explain.faithfulness import RANDOM
from carlib.explain.measures import BASELINES


def fake_record(name: str = "cnn3", seed: int = 0, accuracy: float = 0.123, **data) -> Record:
    """An evaluation as `evaluation.evaluate` makes it, of two classes and three epochs."""
    recipe = RECIPES[name].but(seed=seed)
    measured = {"top3": 0.2, "top5": 0.345, "macro_f1": 0.111, "make_accuracy": 0.4,
                "body_accuracy": 0.5, "year_accuracy": 0.3}  # fmt: skip
    classes = [
        {
            "class": one,
            "photos": 4,
            "f1": 0.5,
            "recall": accuracy,
            "confused_with": other,
            "times": 3,
        }
        for one, other in (("Aurora Comet", "Fennix Ember"), ("Fennix Ember", "Aurora Comet"))
    ]  # fmt: skip
    return Record(
        kind="evaluation",
        name=f"{name}-stanford-cars-seed{seed}-val",
        data={"catalog": "stanford-cars", "dataset": "stanford-cars", "fingerprint": "a" * 16,
              "split": "val", "split_hash": "0" * 16, "classes": 2}
        | data,
        metrics={"accuracy": accuracy, "accuracy_interval": [0.1, 0.15]} | measured,
        recipe=asdict(recipe),
        checkpoint={"hash": "f" * 16, "epoch": 3, "kept": recipe.keep, "trained_on": "a" * 16},
        per_class=classes,
        history=[
            {"epoch": epoch, "train_loss": 5 - epoch, "val_loss": 5 - epoch / 2,
             "train_accuracy": epoch / 10, "val_accuracy": epoch / 12, "val_top5": epoch / 8,
             "seconds": 200.0}
            for epoch in (1, 2, 3)
        ],
        extra={"training": {"parameters": 1234567}},
        timing={"train_seconds": 754.0, "evaluate_seconds": 2.0},
        hardware={"cpu": "a processor", "cores": 2, "memory_gib": 8, "gpu": None},
        versions={"torch": "2.0"},
        commit="0123456789ab",
    )  # fmt: skip


def fake_audit() -> Record:
    return Record(
        kind="audit",
        name="audit-stanford-cars",
        data={"catalog": "stanford-cars", "dataset": "stanford-cars", "fingerprint": "a" * 16,
              "split_hashes": {"train": "b" * 16, "val": "0" * 16}},
        metrics={"photos": 7654, "classes": 2, "smallest_class": 3, "largest_class": 9,
                 "median_width": 372.0, "splits": {"train": 6889, "val": 765},
                 "findings": {"missing": 0, "tiny": 41, "copies differ in label": 6}},
        extra={"class_counts": [{"train": 9, "val": 1}, {"train": 3, "val": 1}],
               "copy_groups": {"exact": 10, "near": 17, "across splits": 3}},
    )  # fmt: skip


def fake_retrieval(
    name: str = "lite0_frozen",
    protocol: str = "unseen",
    seed: int = 0,
    value: float = 0.5,
    points: str = "",
    **data,
) -> Record:
    """A retrieval record as `carlib.retrieval` makes them, every score the same."""
    scores = ("recall_at_1", "recall_at_8", "r_precision", "map_at_r", "effective_rank")
    return replace(
        fake_record(name, seed=seed, **data),
        kind="retrieval",
        topic=protocol,
        scoring={"points": points},
        name=f"retrieval-{protocol}-{name}{points}-seed{seed}",
        metrics=dict.fromkeys(scores, value) | {"recall_at_1_interval": [0.4, 0.6]},
        extra={"dims": 512},
    )


def fake_verification(
    name: str = "siamese_lite0", seed: int = 0, value: float = 0.5, **data
) -> Record:
    """A verification record as `carlib.retrieval.verification` makes them, every score the same."""
    scores = ("auc", "eer", "tar_at_0.01", "accuracy", "far")
    metrics = {f"{level}_{score}": value for level in LEVELS for score in scores}
    metrics |= {f"{name}_interval": [0.4, 0.6] for name in ("hard_auc", "medium_far", "hard_far")}
    return replace(
        fake_record(name, seed=seed, **data),
        kind="verification",
        name=f"verification-stanford-cars-{name}-seed{seed}",
        metrics=metrics,
        extra={"dims": 512, "promised": {"far": 0.1}},
    )


def fake_maps(
    name: str = "lite0_cpu", catalog: str = "stanford-cars", value: float = 0.5
) -> Record:
    """Scores of heat maps as `carlib.explain.faithfulness.score_maps` makes them."""
    measures = ("insertion", "increase")
    if catalog == "showroom":
        measures += ("times_changed_part_area", "points_in_changed_part")
    rows = []
    for number, kind in enumerate(("Grad-CAM", RANDOM, *BASELINES)):
        scores = {measure: value / (number + 1) for measure in measures}
        rows.append({"map": kind} | scores | {f"{m}_interval": [0.25, 0.75] for m in measures})
    path = f"photos/{photo_name(YEARS['only'][0], 0, 0)}.png"
    corner = {"Grad-CAM": ["0" * 9 + "987"] * 3 + ["0" * 12] * 9}
    kept = {"path": path, "right": True, "maps": corner}
    return Record(
        kind="maps",
        name=f"maps-{catalog}-{name}-seed0",
        data={"catalog": catalog, "dataset": catalog, "split": "val", "split_hash": "0" * 16,
              "photos": 37},
        metrics={"accuracy": 0.912},
        recipe=asdict(RECIPES[name]),
        extra={"explained": "Grad-CAM", "layer": "body.last", "rows": rows,
               "ahead": [{"measure": "insertion", "map": "Grad-CAM", "than": RANDOM,
                          "difference": value / 2, "difference_interval": [0.011, 0.479]}],
               "examples": [kept] if catalog == "showroom" else [],
               "needs": [{"hidden": "changed parts", "cost": 0.417},
                         {"hidden": "background", "cost": 0.013}]},
    )  # fmt: skip
