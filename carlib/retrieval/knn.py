"""The nearest photos, exactly, and what they vote: kNN classification, as study S3 did it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import pandas as pd
from sklearn.neighbors import KNeighborsClassifier

from carlib.data.catalog import Catalog
from carlib.errors import RunError
from carlib.evaluation.evaluate import scored_data, scoring_of
from carlib.evaluation.metrics import bootstrap_mean, confusion, interval, macro_scores
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.retrieval.embeddings import Embeddings, scaled

METRICS = ("cosine", "euclidean")
WEIGHTS = ("uniform", "distance")  # of the votes, as scikit-learn has them
NEIGHBORS = tuple(range(1, 21))  # k that kNN classification tries


# --- neighbors ----------------------------------------------------------------------------------


def neighbors(
    gallery: np.ndarray, queries: np.ndarray, k: int, metric: str = "cosine"
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of the gallery (photos, dims) for each query (queries, dims), exactly.

    Gives distances (queries, k) float32, nearest first, and positions (queries, k) int64. The
    cosine distance is 1 − cosine; rows need not be of length one.
    """
    import faiss

    if metric not in METRICS:
        raise RunError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
    if gallery.ndim != 2 or queries.ndim != 2 or gallery.shape[1] != queries.shape[1]:
        raise RunError(
            f"gallery and queries must be (photos, dims) with equal dims, "
            f"not {gallery.shape} and {queries.shape}"
        )
    if not 1 <= k <= len(gallery):
        raise RunError(f"a gallery of {len(gallery)} photos has no {k} neighbors")
    if metric == "cosine":
        similarity, positions = faiss.knn(
            scaled(queries), scaled(gallery), k, faiss.METRIC_INNER_PRODUCT
        )
        return 1 - similarity, positions
    gallery, queries = (np.ascontiguousarray(part, np.float32) for part in (gallery, queries))
    squared, positions = faiss.knn(queries, gallery, k, faiss.METRIC_L2)
    return np.sqrt(np.maximum(squared, 0)), positions


def other_neighbors(embeddings: Embeddings, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other photos of every photo, by cosine: distances and positions (photos, k).

    Where there are fewer others, k is their number.
    """
    k = min(k, len(embeddings) - 1)
    if k < 1:
        raise RunError(f"{len(embeddings)} photos have no neighbors; two or more are needed")
    distances, positions = neighbors(embeddings.vectors, embeddings.vectors, k + 1)
    others = positions != np.arange(len(positions))[:, None]
    others[others.all(1), -1] = False  # so many copies that the photo is not among its nearest
    return distances[others].reshape(-1, k), positions[others].reshape(-1, k)


# --- kNN classification -------------------------------------------------------------------------


def votes(
    distances: np.ndarray, labels: np.ndarray, num_classes: int, weights: str = "uniform"
) -> np.ndarray:
    """Share of the neighbors' votes per class, (queries, classes) float64, rows summing to one.

    `distances` and `labels` (queries, k) are those of the neighbors. Votes weigh the same, or by
    1/distance; a neighbor at distance zero outvotes all that are not (as in scikit-learn).
    """
    if weights not in WEIGHTS:
        raise RunError(f"unknown weights {weights!r}; known: {', '.join(WEIGHTS)}")
    weight = np.ones(distances.shape)
    if weights == "distance":
        same = distances <= 0
        weight = np.where(same.any(1, keepdims=True), same, 1 / np.where(same, 1, distances))
    sums = np.zeros((len(labels), num_classes))
    np.add.at(sums, (np.arange(len(labels))[:, None], labels), weight)
    return sums / sums.sum(1, keepdims=True)


def knn_table(
    gallery: Embeddings, queries: Embeddings, num_classes: int, ks: Iterable[int] = NEIGHBORS
) -> pd.DataFrame:
    """Accuracy of kNN classification for every k, metric and weighting, one search per metric.

    Columns `metric`, `weights`, `k`, `accuracy`, and `seconds` of the search, which all k share.
    Of classes with equally many votes the first answers. A k larger than the gallery is left out.
    """
    ks = sorted({k for k in ks if k <= len(gallery)})
    if not ks:
        raise RunError(f"a gallery of {len(gallery)} photos has too few for any k")
    rows = []
    for metric in METRICS:
        started = time.perf_counter()
        distances, positions = neighbors(gallery.vectors, queries.vectors, ks[-1], metric)
        seconds = time.perf_counter() - started
        labels = gallery.labels[positions]
        for weights in WEIGHTS:
            for k in ks:
                shares = votes(distances[:, :k], labels[:, :k], num_classes, weights)
                right = shares.argmax(1) == queries.labels
                rows.append(
                    {"metric": metric, "weights": weights, "k": k, "accuracy": right.mean(),
                     "seconds": seconds}
                )  # fmt: skip
    return pd.DataFrame(rows)


def choose_k(gallery: Embeddings, catalog: Catalog) -> dict[str, object]:
    """k, metric and weighting that do best on a part of the gallery itself.

    The gallery is divided as a catalog divides train into train and val, copies kept together, so
    the photos that are scored later choose nothing. Gives a row of `knn_table`. Of a gallery that
    cannot be divided, because no class has two photos, the nearest one answers.
    """
    parted = catalog.select("train").stratified_split(seed=1).table.set_index("path")["split"]
    asked = (parted.reindex(gallery.paths) == "val").to_numpy(bool)
    if asked.all() or not asked.any():
        return {"metric": METRICS[0], "weights": WEIGHTS[0], "k": 1}
    table = knn_table(gallery.select(~asked), gallery.select(asked), catalog.num_classes)
    return table.loc[table["accuracy"].idxmax()].to_dict()


def knn_record(
    gallery: Embeddings, queries: Embeddings, catalog: Catalog, checkpoint: Checkpoint
) -> Record:
    """kNN classification as study S3 did it, with k chosen on train; the record is not written.

    Gallery and queries are the checkpoint's raw features of train and val. Its rows are those of
    `knn_table`, for charts; its scores are those of the k, metric and weighting that train chose,
    and its times those of scikit-learn, which that study used.
    """
    best = choose_k(gallery, catalog)
    rows = knn_table(gallery, queries, catalog.num_classes)
    voters = KNeighborsClassifier(
        int(best["k"]), weights=str(best["weights"]), metric=str(best["metric"]), algorithm="brute"
    )
    started = time.perf_counter()
    voters.fit(gallery.vectors, gallery.labels)
    fitted = time.perf_counter()
    answers = voters.predict(queries.vectors)
    predicted = time.perf_counter()
    right = answers == queries.labels
    value, draws = bootstrap_mean(right)
    macro = macro_scores(confusion(queries.labels, answers, catalog.num_classes))
    named = ("macro_precision", "macro_recall", "macro_f1")
    return Record(
        kind="knn",
        data=scored_data(catalog, "val", len(queries)),
        metrics={"accuracy": float(value), "accuracy_interval": interval(draws)}
        | dict(zip(named, macro, strict=True)),
        scoring=scoring_of(checkpoint),
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        extra={
            "chosen": {key: best[key] for key in ("metric", "weights", "k")},
            "rows": rows.to_dict(orient="records"),
            "gallery": len(gallery),
        },
        timing={"fit_seconds": fitted - started, "predict_seconds": predicted - fitted},
        command=command_line(),
    )
