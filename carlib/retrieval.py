"""Show me cars like this one: neighbors, and how good they are.

Two things that are easily confused. *kNN classification* lets the nearest training photos vote on
the class of a photo: its score is an accuracy. *Retrieval* asks how many of the photos that come
first are of the query's class: its scores are Recall@k, R-precision and MAP@R, and it can be asked
of classes that the network never saw. Every score lies in 0…1.

Search here is exact (faiss); `carlib.gallery` keeps galleries and searches large ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from carlib.catalog import Catalog
from carlib.embeddings import Embeddings, effective_rank, embed, scaled
from carlib.errors import RunError
from carlib.evaluation import scored_data, scoring_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.experiment.run import Run
from carlib.metrics import RECALLS, bootstrap, interval, ranking_scores

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
        similarity, found = faiss.knn(
            scaled(queries), scaled(gallery), k, faiss.METRIC_INNER_PRODUCT
        )
        return 1 - similarity, found
    gallery, queries = (np.ascontiguousarray(part, np.float32) for part in (gallery, queries))
    squared, found = faiss.knn(queries, gallery, k, faiss.METRIC_L2)
    return np.sqrt(np.maximum(squared, 0)), found


def other_neighbors(
    embeddings: Embeddings, k: int, metric: str = "cosine"
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other photos of every photo: distances and positions (photos, k)."""
    distances, found = neighbors(embeddings.vectors, embeddings.vectors, k + 1, metric)
    own = found == np.arange(len(found))[:, None]
    own[~own.any(1), -1] = True  # so many copies that the photo itself is not among the nearest
    return distances[~own].reshape(-1, k), found[~own].reshape(-1, k)


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
    found = np.zeros((len(labels), num_classes))
    np.add.at(found, (np.arange(len(labels))[:, None], labels), weight)
    return found / found.sum(1, keepdims=True)


def knn_table(
    gallery: Embeddings,
    queries: Embeddings,
    num_classes: int,
    ks: Iterable[int] = NEIGHBORS,
    metrics: Sequence[str] = METRICS,
) -> pd.DataFrame:
    """Accuracy of kNN classification for every k, metric and weighting, one search per metric.

    Columns `metric`, `weights`, `k`, `accuracy`, and `seconds` of the search, which all k share.
    Of classes with equally many votes the first answers.
    """
    ks = sorted(set(ks))
    rows = []
    for metric in metrics:
        started = time.perf_counter()
        distances, found = neighbors(gallery.vectors, queries.vectors, ks[-1], metric)
        seconds = time.perf_counter() - started
        labels = gallery.labels[found]
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
    the photos that are scored later choose nothing. Gives a row of `knn_table`.
    """
    parted = catalog.select("train").stratified_split(seed=1).table.set_index("path")["split"]
    asked = (parted.reindex(gallery.paths) == "val").to_numpy(bool)
    if asked.all() or not asked.any():
        raise RunError(f"{catalog.name}: too few training photos to choose k on a part of them")
    rest = gallery.select(~asked)
    ks = [k for k in NEIGHBORS if k <= len(rest)]
    table = knn_table(rest, gallery.select(asked), catalog.num_classes, ks)
    return table.loc[table["accuracy"].idxmax()].to_dict()


def knn_record(
    gallery: Embeddings, queries: Embeddings, catalog: Catalog, checkpoint: Checkpoint
) -> Record:
    """kNN classification as study S3 did it, with k chosen on train; the record is not written.

    Gallery and queries are the checkpoint's raw features of train and val. Its rows are those of
    `knn_table`, for charts; its accuracy is that of the k, metric and weighting that train chose.
    """
    chosen = choose_k(gallery, catalog)
    rows = knn_table(gallery, queries, catalog.num_classes)
    started = time.perf_counter()
    k, metric = int(chosen["k"]), str(chosen["metric"])
    distances, found = neighbors(gallery.vectors, queries.vectors, k, metric)
    labels = gallery.labels[found]
    shares = votes(distances, labels, catalog.num_classes, str(chosen["weights"]))
    seconds = time.perf_counter() - started
    right = shares.argmax(1) == queries.labels
    value, draws = bootstrap(len(right), lambda rows: right[rows].mean())
    return Record(
        kind="knn",
        data=scored_data(catalog, "val", len(queries)),
        metrics={"accuracy": float(value), "accuracy_interval": interval(draws)},
        scoring=scoring_of(checkpoint),
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        extra={
            "chosen": {key: chosen[key] for key in ("metric", "weights", "k")},
            "rows": rows.to_dict(orient="records"),
            "gallery": len(gallery),
        },
        timing={"predict_seconds": seconds},
        command=command_line(),
    )


# --- retrieval ----------------------------------------------------------------------------------


def query_scores(
    queries: Embeddings, gallery: Embeddings | None = None, metric: str = "cosine"
) -> pd.DataFrame:
    """Retrieval scores of every query, one row each, in the order of the queries.

    Columns are those of `carlib.metrics.ranking_scores`. Without a gallery the queries search among
    each other, each left out of its own results. A query whose class has no photo in the gallery
    has missing values.
    """
    alone = gallery is None
    known = queries if gallery is None else gallery
    counts = np.bincount(known.labels, minlength=int(queries.labels.max(initial=0)) + 1)
    relevant = counts[queries.labels] - (1 if alone else 0)
    most = len(known) - (1 if alone else 0)
    depth = min(max(int(relevant.max(initial=0)), RECALLS[-1]), most)
    if alone:
        _, found = other_neighbors(queries, depth, metric)
    else:
        _, found = neighbors(known.vectors, queries.vectors, depth, metric)
    hits = known.labels[found] == queries.labels[:, None]
    return pd.DataFrame(ranking_scores(hits, relevant))


def mean_scores(scores: pd.DataFrame, labels: np.ndarray, seed: int = 0) -> dict[str, object]:
    """Means of `query_scores` with 95 % intervals, by drawing classes and not photos anew.

    Photos of one class share their neighbors, so they are no independent witnesses.
    """
    scored = scores.notna().all(axis=1).to_numpy()
    if not scored.any():
        raise RunError("no query has another photo of its class to find")
    values, labels = scores[scored], labels[scored]
    sums = values.groupby(labels).sum().to_numpy()
    sizes = values.groupby(labels).size().to_numpy()
    found, draws = bootstrap(len(sizes), lambda rows: sums[rows].sum(0) / sizes[rows].sum(), seed)
    metrics: dict[str, object] = {}
    for column, name in enumerate(values.columns):
        metrics[name] = float(found[column])
        metrics[f"{name}_interval"] = interval(draws[:, column])
    return metrics


def retrieval_scores(
    queries: Embeddings, gallery: Embeddings | None = None, metric: str = "cosine"
) -> dict[str, object]:
    """Recall@1/2/4/8, R-precision and MAP@R with intervals, and the rank the embedding uses."""
    scores = query_scores(queries, gallery, metric)
    metrics = mean_scores(scores, queries.labels)
    metrics["effective_rank"] = effective_rank(queries.vectors)
    return metrics


def score_retrieval(
    checkpoint: Checkpoint, catalog: Catalog, run: Run | None = None
) -> list[Record]:
    """Every retrieval score that a checkpoint allows on a catalog; records are not written.

    Where it was trained on these classes: val photos search train ("same classes"), and neighbors
    classify them (a classifier's features alone, see `knn_record`). Where it was trained on the
    first of them only, or val is of classes that train has not: photos of classes that were not
    learned search each other ("unseen classes").
    """
    if checkpoint.learned_a_part(catalog):
        others = catalog.unseen_classes(len(checkpoint.class_names))
        asked, data = embed(checkpoint, others), scored_data(others, "unseen", len(others))
        return [_retrieval_record("unseen", checkpoint, data, asked, None, run)]
    checkpoint.check_classes(catalog)
    if not set(catalog.select("val").labels) & set(catalog.select("train").labels):
        asked = embed(checkpoint, catalog, "val")
        data = scored_data(catalog, "val", len(asked))
        return [_retrieval_record("unseen", checkpoint, data, asked, None, run)]
    gallery, asked = (embed(checkpoint, catalog, split) for split in ("train", "val"))
    data = scored_data(catalog, "val", len(asked))
    records = [_retrieval_record("same", checkpoint, data, asked, gallery, run)]
    if not checkpoint.recipe.embedding:
        raw = [embed(checkpoint, catalog, split, unit=False) for split in ("train", "val")]
        records.append(knn_record(*raw, catalog, checkpoint))
    return records


def _retrieval_record(
    protocol: str,
    checkpoint: Checkpoint,
    data: dict[str, object],
    queries: Embeddings,
    gallery: Embeddings | None,
    run: Run | None,
) -> Record:
    return Record(
        kind="retrieval",
        topic=protocol,  # "same" or "unseen" classes
        data=data,
        metrics=retrieval_scores(queries, gallery),
        scoring=scoring_of(checkpoint),
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        history=run.history() if run else None,
        extra={
            "gallery": len(gallery or queries),
            "dims": queries.vectors.shape[1],
            "trained_classes": len(checkpoint.class_names),
            "scored_classes": len(np.unique(queries.labels)),
            "training": run.summary if run else {},
        },
        command=command_line(),
    )


def score_table(scores: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    """The scores of several embeddings that a table has room for, a row per name."""
    shown = ("recall_at_1", "recall_at_4", "recall_at_8", "r_precision", "map_at_r",
             "effective_rank")  # fmt: skip
    rows = {name: [metrics[score] for score in shown] for name, metrics in scores.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=shown)


# --- looking ------------------------------------------------------------------------------------


def hardest_queries(scores: pd.DataFrame, embeddings: Embeddings, top: int = 12) -> pd.DataFrame:
    """The queries whose class is found worst, with their rows of the catalog and their scores."""
    order = scores["map_at_r"].sort_values(kind="stable").index[:top]
    return embeddings.table.loc[order].join(scores)


def label_suspects(embeddings: Embeddings, k: int = 10, share: float = 0.8) -> pd.DataFrame:
    """Photos whose neighbors agree on another class: label errors, or cars that look alike.

    At least `share` of the k nearest other photos are of one class that is not the photo's own,
    and none is of its own. Columns are the catalog's, with `says` (the neighbors' class name),
    `agreement` (their share) and `nearest` (path of the nearest of them); the surest first.
    """
    _, found = other_neighbors(embeddings, k)
    labels = embeddings.labels
    theirs = labels[found]
    names = dict(zip(labels, embeddings.table["class_name"], strict=True))
    rows = []
    for row, (own, voted) in enumerate(zip(labels, theirs, strict=True)):
        said, count = np.unique(voted, return_counts=True)
        best = count.argmax()
        if own in voted or count[best] < share * k:
            continue
        nearest = found[row, np.flatnonzero(voted == said[best])[0]]
        rows.append((row, names[said[best]], count[best] / k, embeddings.paths[nearest]))
    columns = ["row", "says", "agreement", "nearest"]
    suspects = pd.DataFrame(rows, columns=columns).set_index("row")
    suspects = embeddings.table.join(suspects, how="inner")
    return suspects.sort_values("agreement", ascending=False, kind="stable")


def class_map(embeddings: Embeddings, seed: int = 0) -> pd.DataFrame:
    """Every class as a point in the plane, so that classes that look alike lie side by side.

    t-SNE (van der Maaten 2008) of the classes' mean embeddings, by cosine. Columns `class_name`,
    `make`, `body`, `x`, `y`, `photos`.
    """
    from sklearn.manifold import TSNE

    labels = embeddings.labels
    known = np.unique(labels)
    if len(known) < 3:
        raise RunError(f"a map needs three classes or more, not {len(known)}")
    means = np.stack([embeddings.vectors[labels == label].mean(0) for label in known])
    perplexity = min(30.0, (len(known) - 1) / 3)
    points = TSNE(perplexity=perplexity, metric="cosine", random_state=seed).fit_transform(means)
    table = embeddings.table.assign(label=labels).drop_duplicates("label").set_index("label")
    table = table.loc[known, ["class_name", "make", "body"]].reset_index(drop=True)
    counts = [int((labels == label).sum()) for label in known]
    return table.assign(x=points[:, 0], y=points[:, 1], photos=counts)
