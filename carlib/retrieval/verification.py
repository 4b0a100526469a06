"""Are these two photos the same model? Similarity, a threshold, and how far both can be trusted.

Two photos are compared by the cosine of their embeddings. The decision (see
`carlib.retrieval.deciding`) is fitted on pairs of classes that are neither learned nor scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from carlib.data.catalog import Catalog
from carlib.data.pairs import LEVELS, has_pairs, make_lists, pair_positions
from carlib.data.readers import compcars
from carlib.data.table import digest_of_lines, photo_stem
from carlib.errors import DataError, RunError
from carlib.evaluation.evaluate import lost, of_photos_that_stay, scored_data, scoring_of, whose
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.outputs import Outputs, kept_of, photo_table
from carlib.experiment.record import Record, append_to_ledger
from carlib.experiment.run import Run
from carlib.retrieval.axes import on_axes, points_of
from carlib.retrieval.deciding import (
    Decision,
    class_areas,
    curve_scores,
    drawn,
    level_scores,
    roc,
    verification_scores,
)
from carlib.retrieval.embeddings import Embeddings, embed, scaled

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # similarity, same, classes; see `deciding`
LISTS = 10  # drawn of every difficulty: a single list shows a photo once, so it has few pairs


def similarities(embeddings: Embeddings, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Cosine (pairs,) of every pair, and the classes (pairs, 2) of its photos.

    `pairs` has columns `a`, `b` (paths) and `same`. Raises `DataError` naming photos that have no
    embedding, and `RunError` where `same` and the photos' classes disagree.
    """
    rows = _rows(embeddings, pairs)
    return _cosine(embeddings.vectors, rows), embeddings.labels[rows]


def _rows(embeddings: Embeddings, pairs: pd.DataFrame) -> np.ndarray:
    """Rows (pairs, 2) of both photos among the embeddings, and their answers checked."""
    rows = pair_positions(pairs, embeddings.paths, "the embeddings")
    labels = embeddings.labels[rows]
    wrong = np.flatnonzero((labels[:, 0] == labels[:, 1]) != pairs["same"].to_numpy())
    if len(wrong):
        pair = pairs.iloc[wrong[0]]
        raise RunError(f"{pair['a']} and {pair['b']}: the list and the photos' classes disagree")
    return rows


def _cosine(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Cosine (pairs,) of two rows (pairs, 2) of points (photos, dims)."""
    one, other = (scaled(vectors[rows[:, side]]) for side in (0, 1))
    return (one * other).sum(1)


def by_viewpoints(
    similarity: np.ndarray, pairs: pd.DataFrame, table: pd.DataFrame, decision: Decision
) -> pd.DataFrame:
    """Accuracy by the sides from which the two photos were taken; columns are a pair's two sides.

    `table` has the photos' rows of a catalog. Pairs of which a side is unknown are left out.
    """
    sides = table.set_index("path")["viewpoint"]
    a, b = (pairs[side].map(sides) for side in ("a", "b"))
    known = (a.notna() & b.notna()).to_numpy()
    named = [" + ".join(sorted(pair)) for pair in zip(a[known], b[known], strict=True)]
    right = (similarity[known] >= decision.threshold) == pairs["same"].to_numpy()[known]
    rows = pd.DataFrame({"viewpoints": named, "accuracy": right})
    return (
        rows.groupby("viewpoints")["accuracy"]
        .agg(["mean", "size"])
        .rename(columns={"mean": "accuracy", "size": "pairs"})
    )


def hardest(similarity: np.ndarray, pairs: pd.DataFrame, top: int = 6) -> dict[str, pd.DataFrame]:
    """Pairs that mislead most: "false accepts", two models most alike, and "false rejects"."""
    table = pairs.assign(similarity=similarity)
    strangers = table[~table["same"]].sort_values("similarity", ascending=False, kind="stable")
    twins = table[table["same"]].sort_values("similarity", kind="stable")
    return {"false accepts": strangers.head(top), "false rejects": twins.head(top)}


# --- a network's record -------------------------------------------------------------------------


@dataclass(frozen=True)
class VerificationProtocol:
    """Pairs of classes that a network never learned, and the photos' embeddings."""

    points: Embeddings  # as they are kept, see `carlib.retrieval.axes.on_axes`
    exact: Embeddings  # the same with all axes and digits
    fitting: pd.DataFrame  # medium pairs of some classes; the decision is fitted on them
    scored: Mapping[str, pd.DataFrame]  # by difficulty, of other classes
    data: dict[str, object]  # what a record says of the photos
    lists: str  # "official", or how many were made
    way: str  # how the points are compared, see `carlib.retrieval.axes`
    left_out: int = 0  # pairs of which a photo is absent or cannot be read

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        catalog: Catalog,
        progress: bool = True,
        points: str = "plain",
    ) -> VerificationProtocol:
        """The official lists of CompCars, or lists made of the classes that were not learned.

        Of those classes, in their order, the first fits, the second is scored, the third fits and
        so on: makes are in both halves. The official lists are a test split, so the ledger notes
        that they were opened. Raises `RunError` where the network has learned every class.
        """
        if not has_protocol(checkpoint, catalog):
            raise RunError(
                f"{catalog.name}: {checkpoint.recipe.name} has learned its classes, or others, or "
                f"all but three that have two photos, or the others are too few for pairs of both "
                f"kinds; train it on the first of them (carlib train --classes)"
            )
        if _official_fit(checkpoint, catalog):
            return cls._official(checkpoint, catalog, progress, points)
        others = catalog.unseen_classes(len(checkpoint.class_names))
        embedded = embed(checkpoint, others, progress=progress)
        there = _readable(others, embedded)
        fit, score = _sides(there)
        scored = _possible_lists(score)
        (kept,), (exact,) = on_axes(checkpoint, catalog, points, embedded)
        data = scored_data(others, "unseen", len(score))
        return cls(kept, exact, make_lists(fit, "medium", LISTS), scored, data,
                   f"{LISTS} of each", points)  # fmt: skip

    @classmethod
    def _official(
        cls, checkpoint: Checkpoint, catalog: Catalog, progress: bool, points: str
    ) -> VerificationProtocol:
        """Pairs of the models that the reader sets apart as val, then CompCars' own lists."""
        append_to_ledger(
            {"checkpoint": checkpoint.hash, "recipe": checkpoint.recipe.name,
             "catalog": catalog.name, "split_hash": catalog.split_hash("test")}
        )  # fmt: skip
        val, test = (
            embed(checkpoint, catalog, split, progress=progress) for split in ("val", "test")
        )
        embedded = Embeddings(
            np.concatenate([val.vectors, test.vectors]),
            pd.concat([val.table, test.table], ignore_index=True),
            checkpoint.hash,
        )
        listed = {level: compcars.read_pairs(catalog.root, level) for level in LEVELS}
        there = set(embedded.paths)  # a pair of which a photo is absent cannot be asked
        scored = {
            level: pairs[pairs["a"].isin(there) & pairs["b"].isin(there)].reset_index(drop=True)
            for level, pairs in listed.items()
        }
        absent = sum(len(listed[level]) - len(scored[level]) for level in LEVELS)
        fit = _readable(catalog.select("val"), embedded)
        (kept,), (exact,) = on_axes(checkpoint, catalog, points, embedded)
        return cls(kept, exact, make_lists(fit, "medium", LISTS), scored,
                   scored_data(catalog, "test", len(test)), "official", points, absent)  # fmt: skip

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """Every list of pairs as rows of the points (pairs, 2), the decision's as "fitting"."""
        lists = {"fitting": self.fitting, **self.scored}
        return {name: _rows(self.points, pairs).astype(np.int32) for name, pairs in lists.items()}

    @property
    def told(self) -> dict[str, str]:
        """What a record says of the lists: whose they are, and 16 hex digits over the scored pairs
        and their answers, by the photos' file stems.
        """
        lines = [
            f"{level}|{photo_stem(one)}|{photo_stem(other)}|{same}"
            for level, pairs in self.scored.items()
            for one, other, same in pairs[["a", "b", "same"]].itertuples(index=False)
        ]
        return {"lists": self.lists, "pairs": digest_of_lines(lines)}

    def outputs(self, checkpoint: Checkpoint) -> Outputs:
        """The network's embeddings, and every pair as two of their rows."""
        return Outputs(
            {"embeddings": self.points.vectors} | self.rows,
            photo_table(self.points.table),
            about=whose(checkpoint, self.data, points_of(checkpoint, self.way)),
        )


def has_protocol(checkpoint: Checkpoint, catalog: Catalog) -> bool:
    """True where a catalog brings lists for this network, or has four classes or more, of two
    photos or more outside of test, that it did not learn, and from which pairs of both kinds
    can be made to fit the decision and to score it.
    """
    if _official_fit(checkpoint, catalog):
        return True
    if not checkpoint.learned_a_part(catalog):
        return False
    learned = len(checkpoint.class_names)
    allowed = catalog.select((catalog.table["split"] != "test").to_numpy(bool))
    if sum(label >= learned for label in paired_classes(allowed)) < 4:
        return False
    sides = _sides(catalog.unseen_classes(learned))
    return all(has_pairs(side, "medium", LISTS) for side in sides)


def _sides(others: Catalog) -> tuple[Catalog, Catalog]:
    """Of the classes that have pairs every other one, to fit the decision and to score it."""
    known = paired_classes(others)
    return others.select_classes(known[0::2]), others.select_classes(known[1::2])


def _official_fit(checkpoint: Checkpoint, catalog: Catalog) -> bool:
    """Official lists are asked of a network that learned the models set apart for that."""
    return catalog.has_official_pairs and checkpoint.class_names == catalog.class_names


def paired_classes(catalog: Catalog) -> list[int]:
    """Labels of the classes that have two photos or more, so that a pair can be made."""
    counts = np.bincount(catalog.labels[catalog.labels >= 0], minlength=catalog.num_classes)
    return np.flatnonzero(counts > 1).tolist()


def _readable(catalog: Catalog, points: Embeddings) -> Catalog:
    """The photos of a catalog that have an embedding; the others could not be read."""
    return catalog.select(catalog.table["path"].isin(points.paths).to_numpy(bool))


def _possible_lists(catalog: Catalog) -> dict[str, pd.DataFrame]:
    """Lists of every difficulty that these photos allow: hard pairs need makes of two classes."""
    there = [level for level in LEVELS if has_pairs(catalog, level, LISTS)]
    pairs = {level: make_lists(catalog, level, LISTS) for level in there}
    if not pairs:
        raise DataError(f"{catalog.name}: no balanced list of pairs can be made of its photos")
    return pairs


def known_decision(points: Embeddings, catalog: Catalog) -> Decision:
    """The decision of a network that learned all classes, fitted on medium pairs of val photos.

    It holds for cars that the network knows, on photos that it does not: there are no classes left
    that it has not seen. `score_verification` is how one measures a way of training.
    """
    pairs = make_lists(_readable(catalog.select("val"), points), "medium", LISTS)
    return Decision.fit(similarities(points, pairs)[0], pairs["same"].to_numpy())


@of_photos_that_stay
def score_verification(
    checkpoint: Checkpoint,
    catalog: Catalog,
    run: Run | None = None,
    progress: bool = True,
    points: str = "plain",
    keep: bool = False,
) -> Record:
    """How well a network tells pairs of classes that it never learned; the record is not written.

    Metrics are those of `verification_scores` with the difficulty before the name, such as
    `hard_auc`, and the calibration error of the probability. The decision is fitted once, on medium
    pairs: in use nobody knows how hard a pair is. The extra has it, with the false accept rate
    that it promised, curves, histograms and, where sides are known, accuracy by them. `points` is
    a way of `carlib.retrieval.axes`; `keep` has the record keep the embeddings and the pairs.
    """
    protocol = VerificationProtocol.of(checkpoint, catalog, progress, points)
    outputs = protocol.outputs(checkpoint)
    found = computed(outputs)
    extra = found["extra"]
    extra |= {
        "lists": protocol.lists,
        "pairs_left_out": protocol.left_out,
        "dims": protocol.points.vectors.shape[1],
        "training": run.summary if run else {},
    }
    areas = {}
    for level, pairs in protocol.scored.items():
        similarity, _ = similarities(protocol.points, pairs)
        sides = by_viewpoints(
            similarity, pairs, protocol.points.table, Decision(**extra["decision"])
        )
        extra[level]["viewpoints"] = sides.reset_index().to_dict(orient="records")
        exact = roc(similarities(protocol.exact, pairs)[0], pairs["same"].to_numpy())
        areas[f"{level}_auc"] = curve_scores(exact)["auc"]
    extra["rounding"] = lost(areas, found["metrics"])
    return Record(
        kind="verification",
        data=protocol.data,
        metrics=found["metrics"],
        scoring=scoring_of(checkpoint) | protocol.told | {"points": points_of(checkpoint, points)},
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        per_class=found["per_class"],
        history=run.history() if run else None,
        extra=extra,
        command=command_line(),
        outputs_file=kept_of(outputs) if keep else b"",
    )


def computed(outputs: Outputs) -> dict[str, Any]:
    """Metrics, rows per class and the extra of a verification, from embeddings as they are kept."""
    similarity, same, classes = compared_pairs(outputs, "fitting")
    decision = Decision.fit(similarity, same)
    promised = verification_scores(similarity, same, classes, decision)
    levels = [level for level in LEVELS if level in outputs.tensors]
    compared = {level: compared_pairs(outputs, level) for level in levels}
    metrics: dict[str, object] = {}
    for level, pairs in compared.items():
        scores = level_scores(*pairs, decision)
        metrics |= {f"{level}_{name}": value for name, value in scores.items()}
    extra = {
        "decision": asdict(decision),
        "promised": {name: promised[name] for name in ("far", "far_interval", "accuracy")},
        "pairs": {level: len(pairs[0]) for level, pairs in compared.items()},
        **{level: drawn(similarity, same) for level, (similarity, same, _) in compared.items()},
    }
    return {"metrics": metrics, "per_class": _class_rows(outputs, compared), "extra": extra}


def compared_pairs(outputs: Outputs, name: str) -> Pairs:
    """Similarity (pairs,), same (pairs,) and classes (pairs, 2) of one list of pairs."""
    rows = outputs.tensors[name]
    similarity, classes = _cosine(outputs.tensors["embeddings"], rows), outputs.labels[rows]
    return similarity, classes[:, 0] == classes[:, 1], classes


def _class_rows(outputs: Outputs, compared: Mapping[str, Pairs]) -> list[dict[str, Any]]:
    """Of every class that is in a scored pair what it adds to the areas, by difficulty."""
    names = outputs.table.drop_duplicates("label").set_index("label")["class_name"]
    counts = outputs.table["label"].value_counts()
    labels = np.unique(np.concatenate([classes.ravel() for *_, classes in compared.values()]))
    rows = [{"class": names[label], "photos": int(counts[label])} for label in labels]
    for level, pairs in compared.items():
        for row, added in zip(rows, class_areas(*pairs, labels), strict=True):
            row |= {f"{level}_{name}": value for name, value in added.items()}
    return rows
