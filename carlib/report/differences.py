"""Every comparison that the report's sentences make, each a paired difference with an interval.

A gain is against the strongest baseline of the table, not against the weakest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from carlib.experiment.checkpoint import UNTRAINED
from carlib.experiment.record import Record
from carlib.experiment.tables import METHODS, SIAMESE, STANFORD, best, evaluations, shown_name
from carlib.report.intervals import difference
from carlib.report.rows import AS_THEY_COME, compared, groups

BUDGET = ("model", "weights", "size", "epochs")  # what two ways to learn must have in common
Difference = dict[str, object]
Seeds = list[Record]


def differences(records: Sequence[Record]) -> dict[str, object]:
    """By what a sentence is about: a `difference` each, None where a row is missing, or several."""
    named = groups(records)
    tops = {key: _of_best(named, best(records, key)) for key in ("random", "pretrained")}
    frozen = next((s for s in named.values() if s[0].recipe["name"] == "lite0_frozen"), [])
    earlier = [s for s in named.values() if s[0].recipe["name"] in METHODS]
    unseen, pairs = compared(records, "retrieval", "unseen"), compared(records, "verification")
    earlier_pairs = compared(records, "verification", earlier=True)
    return {
        "pretraining": difference(tops["pretrained"], tops["random"], "accuracy"),
        "frozen": difference(frozen, tops["random"], "accuracy"),
        "learning": difference(tops["pretrained"], frozen, "accuracy"),
        "earlier": difference(tops["pretrained"], strongest(earlier, "accuracy"), "accuracy"),
        "votes": votes(records),
        "unseen": against_baselines(unseen, "recall_at_1"),
        "naming": naming(unseen, "recall_at_1"),
        "kept": difference(
            unseen.get("lite2_cpu_long_whitened", []),
            unseen.get("lite0_cpu_long_whitened", []),
            "recall_at_1",
        ),
        "layers": layers(unseen, "recall_at_1"),
        "pairs": against_baselines(pairs, "hard_auc"),
        "siamese": siamese(pairs, "hard_auc") or siamese(earlier_pairs, "hard_auc"),
    }


def strongest(rows: Sequence[Seeds], score: str) -> Seeds:
    """The row with the highest mean over its seeds; empty where there is none."""
    return max(rows, key=lambda seeds: np.mean([r.metrics[score] for r in seeds]), default=[])


def against_baselines(labels: Mapping[str, Seeds], score: str) -> Difference | None:
    """The best network that learned cars, its points as they come, against the best that learned
    none, on whichever axes.
    """
    learned = _as_they_come(labels)
    untrained = [seeds for seeds in labels.values() if _is_untrained(seeds)]
    return difference(strongest(learned, score), strongest(untrained, score), score)


def _as_they_come(labels: Mapping[str, Seeds]) -> list[Seeds]:
    return [
        seeds for seeds in labels.values()
        if not _is_untrained(seeds) and seeds[0].scoring.get("points", "") in AS_THEY_COME
    ]  # fmt: skip


def naming(labels: Mapping[str, Seeds], score: str) -> Difference | None:
    """The best network that learned to compare, and against it the best that learned to name with
    the same body, photos and epochs; features or embeddings as they come, on no axes of their own.
    """
    learned = _as_they_come(labels)
    compares = strongest([s for s in learned if s[0].recipe["embedding"]], score)
    names = [s for s in learned if not s[0].recipe["embedding"] and _alike(s, compares)]
    return difference(strongest(names, score), compares, score)


def layers(labels: Mapping[str, Seeds], score: str) -> list[Difference]:
    """Of every network that learned to compare: what lies below its last layer against its
    embedding.
    """
    found = []
    for seeds in labels.values():
        if seeds[0].scoring.get("points") == "features":
            above = next(
                (s for s in labels.values()
                 if s[0].method == seeds[0].method and not s[0].scoring.get("points")), [],
            )  # fmt: skip
            found.append(difference(seeds, above, score))
    return [one for one in found if one]


def siamese(labels: Mapping[str, Seeds], score: str) -> Difference | None:
    """The best that S0's method, contrastive loss on pairs, has made, and against it the best of
    the others with the same body, photos and epochs.
    """
    theirs = strongest([s for s in labels.values() if s[0].recipe["name"] in SIAMESE], score)
    others = [s for s in labels.values()
              if s[0].recipe["name"] not in SIAMESE and _alike(s, theirs)]  # fmt: skip
    return difference(strongest(others, score), theirs, score)


def votes(records: Sequence[Record]) -> list[Difference]:
    """Neighbors that vote against the network's own layer, for every record of votes."""
    found = []
    for vote in records:
        if vote.kind == "knn" and vote.data.get("dataset") == STANFORD:
            own = [
                r for r in evaluations(records) if r.checkpoint["hash"] == vote.checkpoint["hash"]
            ]
            told = difference([vote], own, "accuracy")
            if told:
                found.append(told | {"one": f"the neighbors of {shown_name(vote)}"})
    return found


def _of_best(named: Mapping[str, Seeds], record: Record | None) -> Seeds:
    return next((seeds for seeds in named.values() if record in seeds), []) if record else []


def _alike(one: Seeds, other: Seeds) -> bool:
    """Whether two networks had the same body, and as much to learn from."""
    return not _is_untrained(one) and all(
        one[0].recipe[key] == seeds[0].recipe[key] for seeds in [other] if seeds for key in BUDGET
    )


def _is_untrained(seeds: Seeds) -> bool:
    return (seeds[0].checkpoint or {}).get("kept") == UNTRAINED
