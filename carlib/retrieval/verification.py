"""Are these two photos the same model? Similarity, a threshold, and how far both can be trusted.

Two photos are compared by the cosine of their embeddings. The threshold and the probability of
"same" are fitted on pairs of classes that are neither learned nor scored, and kept as a `Decision`;
the pairs that are scored meet it as it is. Similarities are (pairs,) in −1…1, `same` (pairs,) bool,
every score lies in 0…1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, auc, precision_recall_fscore_support, roc_curve

from carlib.data.catalog import Catalog
from carlib.data.pairs import LEVELS, has_pairs, make_lists, pair_positions
from carlib.data.readers import compcars
from carlib.errors import DataError, RunError
from carlib.evaluation.calibration import calibration_error
from carlib.evaluation.evaluate import scored_data, scoring_of
from carlib.evaluation.metrics import interval
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record, append_to_ledger
from carlib.experiment.run import Run
from carlib.retrieval.embeddings import Embeddings, embed, scaled

FARS = (1e-1, 1e-2, 1e-3)  # false accept rates at which true accepts are told
RESAMPLES = 200  # draws of classes behind every interval
LISTS = 10  # drawn of every difficulty: a single list shows a photo once, so it has few pairs
DRAWN_FARS = np.logspace(-3, 0, 61)  # where a record keeps the curve
BINS = np.linspace(-1, 1, 51)  # of similarity, in which a record counts pairs


def similarities(embeddings: Embeddings, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Cosine (pairs,) of every pair, and the classes (pairs, 2) of its photos.

    `pairs` has columns `a`, `b` (paths) and `same`. Raises `DataError` naming photos that have no
    embedding, and `RunError` where `same` and the photos' classes disagree.
    """
    rows = pair_positions(pairs, embeddings.paths, "the embeddings")
    labels = embeddings.labels[rows]
    wrong = np.flatnonzero((labels[:, 0] == labels[:, 1]) != pairs["same"].to_numpy())
    if len(wrong):
        pair = pairs.iloc[wrong[0]]
        raise RunError(f"{pair['a']} and {pair['b']}: the list and the photos' classes disagree")
    one, other = (scaled(embeddings.vectors[rows[:, side]]) for side in (0, 1))
    return (one * other).sum(1), labels


# --- deciding -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """What is fitted on val pairs and then frozen."""

    threshold: float  # the same model from this similarity on
    slope: float  # of the log-odds of "same" over the similarity
    offset: float
    pairs: int  # that it was fitted on

    @classmethod
    def fit(
        cls, similarity: np.ndarray, same: np.ndarray, false_accept_cost: float = 1.0
    ) -> Decision:
        """The threshold with the least mean cost on these pairs, and a calibrated probability.

        A false reject costs 1, a false accept `false_accept_cost`; both kinds of pairs weigh the
        same, however many there are. The probability is Platt's (1999): logistic regression.
        """
        _check(similarity, same)
        table = roc(similarity, same)[1:]  # without the threshold that accepts nothing
        cost = (1 - table["tar"] + false_accept_cost * table["far"]).to_numpy()
        best, values = int(cost.argmin()), table["threshold"].to_numpy()
        below = values[min(best + 1, len(values) - 1)]
        model = LogisticRegression(C=100.0, class_weight="balanced")
        model.fit(similarity[:, None], same)
        return cls(
            float((values[best] + below) / 2),
            float(model.coef_[0, 0]), float(model.intercept_[0]), len(same),
        )  # fmt: skip

    def probability(self, similarity: np.ndarray) -> np.ndarray:
        """Chance (pairs,) that two photos show the same model, where both answers are as likely."""
        return 1 / (1 + np.exp(-(self.slope * similarity + self.offset)))


# --- scoring ------------------------------------------------------------------------------------


def roc(similarity: np.ndarray, same: np.ndarray, weight: np.ndarray | None = None) -> pd.DataFrame:
    """True and false accept rates for every threshold; columns `threshold`, `far`, `tar`.

    Begins at (0, 0). Pairs that are equally similar are accepted together.
    """
    far, tar, thresholds = roc_curve(
        same, similarity, sample_weight=weight, drop_intermediate=False
    )
    return pd.DataFrame({"threshold": thresholds, "far": far, "tar": tar})


def curve_scores(table: pd.DataFrame) -> dict[str, float]:
    """What does not depend on a threshold: AUC, EER, and TAR at the rates of FARS.

    `table` is `roc`'s. The equal error rate lies where the curve crosses far = 1 − tar.
    """
    far, tar = table["far"].to_numpy(), table["tar"].to_numpy()
    gap = far - (1 - tar)
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    share = 0.0 if after == before else -gap[before] / (gap[after] - gap[before])
    scores = {
        "auc": float(auc(far, tar)),
        "eer": float(far[before] + share * (far[after] - far[before])),
    }
    for rate in FARS:
        scores[f"tar_at_{rate:g}"] = float(tar[far <= rate].max())
    return scores


def threshold_scores(accepted: np.ndarray, same: np.ndarray, weight: np.ndarray) -> dict:
    """Accuracy, precision, recall, F1 and false accept rate of decisions (pairs,) bool."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        same, accepted, average="binary", sample_weight=weight, zero_division=0
    )
    accuracy = accuracy_score(same, accepted, sample_weight=weight)
    values = {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}
    values["far"] = np.average(accepted[~same], weights=weight[~same])
    return {name: float(value) for name, value in values.items()}


def verification_scores(
    similarity: np.ndarray,
    same: np.ndarray,
    classes: np.ndarray,
    decision: Decision,
) -> dict[str, object]:
    """All scores of a list of pairs under a frozen decision, with 95 % intervals.

    Classes (pairs, 2) are drawn anew, not pairs: those of one class share their luck. A pair of two
    classes counts as often as both are drawn together, one of a single class as often as it is.
    """
    _check(similarity, same)
    scores = _all_scores(similarity, same, np.ones(len(same)), decision)
    generator = np.random.default_rng(0)
    known, codes = np.unique(classes, return_inverse=True)
    codes = codes.reshape(classes.shape)
    draws = []
    while len(draws) < RESAMPLES:
        times = np.bincount(generator.integers(0, len(known), len(known)), minlength=len(known))
        one, other = times[codes[:, 0]], times[codes[:, 1]]
        weight = np.where(same, one, one * other).astype(float)
        if (weight * same).any() and (weight * ~same).any():
            draws.append(_all_scores(similarity, same, weight, decision))
    metrics: dict[str, object] = {}
    for name, value in scores.items():
        metrics[name] = value
        metrics[f"{name}_interval"] = interval(np.array([draw[name] for draw in draws]))
    return metrics


def _all_scores(similarity, same, weight, decision: Decision) -> dict[str, float]:
    curve = curve_scores(roc(similarity, same, weight))
    return curve | threshold_scores(similarity >= decision.threshold, same, weight)


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

    points: Embeddings
    fitting: pd.DataFrame  # medium pairs of some classes; the decision is fitted on them
    scored: Mapping[str, pd.DataFrame]  # by difficulty, of other classes
    data: dict[str, object]  # what a record says of the photos
    lists: str  # "official", or how many were made
    left_out: int = 0  # pairs of which a photo is absent or cannot be read

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, catalog: Catalog, progress: bool = True
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
            return cls._official(checkpoint, catalog, progress)
        others = catalog.unseen_classes(len(checkpoint.class_names))
        points = embed(checkpoint, others, progress=progress)
        there = _readable(others, points)
        fit, score = _sides(there)
        scored = _possible_lists(score)
        return cls(points, make_lists(fit, "medium", LISTS), scored,
                   scored_data(others, "unseen", len(score)), f"{LISTS} of each")  # fmt: skip

    @classmethod
    def _official(
        cls, checkpoint: Checkpoint, catalog: Catalog, progress: bool
    ) -> VerificationProtocol:
        """Pairs of the models that the reader sets apart as val, then CompCars' own lists."""
        append_to_ledger(
            {"checkpoint": checkpoint.hash, "recipe": checkpoint.recipe.name,
             "catalog": catalog.name, "split_hash": catalog.split_hash("test")}
        )  # fmt: skip
        val, test = (
            embed(checkpoint, catalog, split, progress=progress) for split in ("val", "test")
        )
        points = Embeddings(
            np.concatenate([val.vectors, test.vectors]),
            pd.concat([val.table, test.table], ignore_index=True),
            checkpoint.hash,
        )
        listed = {level: compcars.read_pairs(catalog.root, level) for level in LEVELS}
        there = set(points.paths)  # a pair of which a photo is absent cannot be asked
        scored = {
            level: pairs[pairs["a"].isin(there) & pairs["b"].isin(there)].reset_index(drop=True)
            for level, pairs in listed.items()
        }
        absent = sum(len(listed[level]) - len(scored[level]) for level in LEVELS)
        fit = _readable(catalog.select("val"), points)
        return cls(points, make_lists(fit, "medium", LISTS), scored,
                   scored_data(catalog, "test", len(test)), "official", absent)  # fmt: skip


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


def score_verification(
    checkpoint: Checkpoint, catalog: Catalog, run: Run | None = None, progress: bool = True
) -> Record:
    """How well a network tells pairs of classes that it never learned; the record is not written.

    Metrics are those of `verification_scores` with the difficulty before the name, such as
    `hard_auc`, and the calibration error of the probability. The decision is fitted once, on medium
    pairs: in use nobody knows how hard a pair is. The extra has it, with the false accept rate
    that it promised, curves, histograms and, where sides are known, accuracy by them.
    """
    protocol = VerificationProtocol.of(checkpoint, catalog, progress)
    similarity, labels = similarities(protocol.points, protocol.fitting)
    same = protocol.fitting["same"].to_numpy()
    decision = Decision.fit(similarity, same)
    promised = verification_scores(similarity, same, labels, decision)
    metrics: dict[str, object] = {}
    extra: dict[str, object] = {
        "decision": asdict(decision),
        "promised": {name: promised[name] for name in ("far", "far_interval", "accuracy")},
        "lists": protocol.lists,
        "pairs_left_out": protocol.left_out,
        "pairs": {level: len(pairs) for level, pairs in protocol.scored.items()},
        "dims": protocol.points.vectors.shape[1],
        "training": run.summary if run else {},
    }
    for level, pairs in protocol.scored.items():
        similarity, labels = similarities(protocol.points, pairs)
        scores = _level_scores(similarity, pairs["same"].to_numpy(), labels, decision)
        metrics |= {f"{level}_{name}": value for name, value in scores.items()}
        extra[level] = drawn(similarity, pairs["same"].to_numpy())
        sides = by_viewpoints(similarity, pairs, protocol.points.table, decision)
        extra[level]["viewpoints"] = sides.reset_index().to_dict(orient="records")
    return Record(
        kind="verification",
        data=protocol.data,
        metrics=metrics,
        scoring=scoring_of(checkpoint) | {"lists": protocol.lists},
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        history=run.history() if run else None,
        extra=extra,
        command=command_line(),
    )


def _level_scores(similarity, same, labels, decision: Decision) -> dict[str, object]:
    scores = verification_scores(similarity, same, labels, decision)
    chance = decision.probability(similarity)
    both = np.stack([1 - chance, chance], axis=1)
    return scores | {"ece": calibration_error(both, same.astype(int))}


def drawn(similarity: np.ndarray, same: np.ndarray) -> dict[str, list[float]]:
    """What a chart needs: `tar` at the rates of DRAWN_FARS, pairs per bin of similarity in BINS."""
    table = roc(similarity, same)
    place = np.searchsorted(table["far"], DRAWN_FARS, side="right") - 1
    counts = {
        name: np.histogram(similarity[rows], BINS)[0].tolist()
        for name, rows in (("same", same), ("other", ~same))
    }
    return {"tar": table["tar"].to_numpy()[place].tolist()} | counts


def _check(similarity: np.ndarray, same: np.ndarray) -> None:
    if similarity.shape != same.shape or not len(same):
        raise RunError(f"{similarity.shape} similarities do not fit {same.shape} answers")
    if same.all() or not same.any():
        raise RunError("pairs of both kinds are needed: the same model, and two models")
    if not np.isfinite(similarity).all():
        raise RunError("similarities hold values that are not finite")
