"""Show me cars like this one: how good the photos are that come first.

Two things that are easily confused. *kNN classification* lets the nearest training photos vote on
the class of a photo: its score is an accuracy. *Retrieval* asks how many of the photos that come
first are of the query's class: its scores are Recall@k, R-precision and MAP@R, and it can be asked
of classes that the network never saw. Every score lies in 0…1.

Search here is exact (faiss); `carlib.retrieval.gallery` keeps galleries and searches large ones.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from carlib.data.catalog import Catalog
from carlib.errors import RunError
from carlib.evaluation.evaluate import lost, of_photos_that_stay, scored_data, scoring_of, whose
from carlib.evaluation.metrics import RECALLS, bootstrap, interval, ranking_scores
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.outputs import POINTS, Outputs, kept_of, photo_table
from carlib.experiment.record import Record
from carlib.experiment.run import Run
from carlib.retrieval.axes import on_axes, points_of
from carlib.retrieval.embeddings import Embeddings, effective_rank, embed
from carlib.retrieval.knn import knn_record, neighbors, other_neighbors
from carlib.retrieval.verification import VerificationProtocol, has_protocol

# --- retrieval ----------------------------------------------------------------------------------


def query_scores(queries: Embeddings, gallery: Embeddings | None = None) -> pd.DataFrame:
    """Retrieval scores of every query by cosine, one row each, in the order of the queries.

    Columns are those of `carlib.evaluation.metrics.ranking_scores`. Without a gallery the queries
    search among each other, each left out of its own results. A query whose class has no photo in
    the gallery has missing values.
    """
    alone = gallery is None
    known = queries if gallery is None else gallery
    counts = np.bincount(known.labels, minlength=int(queries.labels.max(initial=0)) + 1)
    relevant = counts[queries.labels] - (1 if alone else 0)
    most = len(known) - (1 if alone else 0)
    depth = min(max(int(relevant.max(initial=0)), RECALLS[-1]), most)
    if alone:
        _, positions = other_neighbors(queries, depth)
    else:
        _, positions = neighbors(known.vectors, queries.vectors, depth)
    hits = known.labels[positions] == queries.labels[:, None]
    return pd.DataFrame(ranking_scores(hits, relevant))


def mean_scores(scores: pd.DataFrame, labels: np.ndarray) -> dict[str, object]:
    """Means of `query_scores` with 95 % intervals, by drawing classes and not photos anew.

    Photos of one class share their neighbors, so they are no independent witnesses.
    """
    scored = scores.notna().all(axis=1).to_numpy()
    if not scored.any():
        raise RunError("no query has another photo of its class to find")
    values, labels = scores[scored], labels[scored]
    sums = values.groupby(labels).sum().to_numpy()
    sizes = values.groupby(labels).size().to_numpy()
    means, draws = bootstrap(len(sizes), lambda rows: sums[rows].sum(0) / sizes[rows].sum())
    metrics: dict[str, object] = {}
    for column, name in enumerate(values.columns):
        metrics[name] = float(means[column])
        metrics[f"{name}_interval"] = interval(draws[:, column])
    return metrics


def retrieval_scores(queries: Embeddings, gallery: Embeddings | None = None) -> dict[str, object]:
    """Recall@1/2/4/8, R-precision and MAP@R with intervals, and the rank the embedding uses."""
    scores = query_scores(queries, gallery)
    metrics = mean_scores(scores, queries.labels)
    metrics["effective_rank"] = effective_rank(queries.vectors)
    return metrics


def computed(outputs: Outputs) -> dict[str, Any]:
    """Metrics and rows per class of a retrieval, from embeddings as they are kept."""
    queries, gallery = kept_points(outputs), None
    if outputs.gallery is not None:
        gallery = kept_points(outputs, "gallery")
    scores = query_scores(queries, gallery)
    metrics = mean_scores(scores, queries.labels)
    metrics["effective_rank"] = effective_rank(queries.vectors)
    return {"metrics": metrics, "per_class": _class_rows(scores, queries)}


def kept_points(outputs: Outputs, name: str = "embeddings") -> Embeddings:
    """The "embeddings" or the "gallery" that outputs keep."""
    table = outputs.gallery if name == "gallery" else outputs.table
    return Embeddings(outputs.tensors[name].astype(np.float32), table, "kept")


def _class_rows(scores: pd.DataFrame, queries: Embeddings) -> list[dict[str, Any]]:
    """Means of `query_scores` of every class that has a photo to find, and of how many photos."""
    scored = scores.notna().all(axis=1).to_numpy()
    groups = scores[scored].groupby(queries.labels[scored])
    names = queries.table.assign(label=queries.labels).drop_duplicates("label").set_index("label")
    return [
        {"class": names["class_name"][label], "photos": len(part), **part.mean().to_dict()}
        for label, part in groups
    ]


@of_photos_that_stay
def score_retrieval(
    checkpoint: Checkpoint,
    catalog: Catalog,
    run: Run | None = None,
    points: str = "plain",
    keep: bool = False,
) -> list[Record]:
    """Every retrieval score that a checkpoint allows on a catalog; records are not written.

    Where it was trained on these classes: val photos search train ("same classes"), and neighbors
    classify them (a classifier's plain features alone, see `knn_record`). Where it was trained on
    the first of them only, or val is of classes that train has not: photos of classes that were not
    learned search each other ("unseen classes"). `points` is a way of `carlib.retrieval.axes`;
    `keep` has the records of retrieval keep their embeddings.
    """
    record = functools.partial(_retrieval_record, checkpoint, catalog, run, points, keep)
    if checkpoint.learned_a_part(catalog):
        others = catalog.unseen_classes(len(checkpoint.class_names))
        data = scored_data(others, "unseen", len(others))
        return [record("unseen", data, embed(checkpoint, others).labelled)]
    checkpoint.check_classes(catalog)
    asked = embed(checkpoint, catalog, "val").labelled
    data = scored_data(catalog, "val", len(asked))
    if not set(catalog.select("val").labels) & set(catalog.select("train").labels):
        return [record("unseen", data, asked)]
    records = [record("same", data, asked, embed(checkpoint, catalog, "train").labelled)]
    if not checkpoint.recipe.embedding and points == "plain":
        raw = [embed(checkpoint, catalog, s, unit=False).labelled for s in ("train", "val")]
        records.append(knn_record(*raw, catalog, checkpoint))
    return records


def _retrieval_record(
    checkpoint: Checkpoint,
    catalog: Catalog,
    run: Run | None,
    points: str,
    keep: bool,
    protocol: str,
    data: dict[str, object],
    *parts: Embeddings,  # queries, and the gallery where they do not search each other
) -> Record:
    kept, exact = on_axes(checkpoint, catalog, points, *parts)
    tensors = dict(zip(POINTS, (p.vectors for p in kept), strict=False))
    if keep and checkpoint.learned_a_part(catalog) and has_protocol(checkpoint, catalog):
        # With the pairs that they are verified by, the file is that of the other record too.
        tensors |= VerificationProtocol.of(checkpoint, catalog, progress=False).rows
    tables = [photo_table(part.table) for part in kept]
    compared = points_of(checkpoint, points)
    outputs = Outputs(tensors, *tables, about=whose(checkpoint, data, compared))
    found = computed(outputs)
    best = mean_scores(query_scores(*exact), exact[0].labels)
    exactly = {name: best[name] for name in ("recall_at_1", "r_precision", "map_at_r")}
    return Record(
        kind="retrieval",
        topic=protocol,  # "same" or "unseen" classes
        data=data,
        metrics=found["metrics"],
        scoring=scoring_of(checkpoint) | {"points": compared},
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        per_class=found["per_class"],
        history=run.history() if run else None,
        extra={
            "gallery": len(kept[-1]),
            "dims": kept[0].vectors.shape[1],
            "rounding": lost(exactly, found["metrics"]),
            "trained_classes": len(checkpoint.class_names),
            "scored_classes": len(np.unique(kept[0].labels)),
            "training": run.summary if run else {},
        },
        command=command_line(),
        outputs_file=kept_of(outputs) if keep else b"",
    )


def score_table(scores: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    """The scores of several embeddings that a table has room for, a row per name."""
    shown = ("recall_at_1", "recall_at_4", "recall_at_8", "r_precision", "map_at_r",
             "effective_rank")  # fmt: skip
    rows = {name: [metrics[score] for score in shown] for name, metrics in scores.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=shown)


# --- looking ------------------------------------------------------------------------------------


def label_suspects(embeddings: Embeddings, k: int = 10, share: float = 0.8) -> pd.DataFrame:
    """Photos whose neighbors agree on another class: label errors, or cars that look alike.

    At least `share` of the k nearest other photos, or of all where there are fewer, are of one
    class that is not the photo's own, and none is of its own. Columns are the catalog's, with
    `says` (the neighbors' class name), `agreement` (their share) and `nearest` (path of the nearest
    of them); the surest first.
    """
    _, positions = other_neighbors(embeddings, k)
    k, labels = positions.shape[1], embeddings.labels
    names = dict(zip(labels, embeddings.table["class_name"], strict=True))
    rows = []
    for row, (label, votes) in enumerate(zip(labels, labels[positions], strict=True)):
        classes, counts = np.unique(votes, return_counts=True)
        best, count = classes[counts.argmax()], counts.max()
        if label in votes or count < share * k:
            continue
        nearest = positions[row, np.flatnonzero(votes == best)[0]]
        rows.append((row, names[best], count / k, embeddings.paths[nearest]))
    columns = ["row", "says", "agreement", "nearest"]
    suspects = pd.DataFrame(rows, columns=columns).set_index("row")
    suspects = embeddings.table.join(suspects, how="inner")
    return suspects.sort_values("agreement", ascending=False, kind="stable")


def class_map(embeddings: Embeddings) -> pd.DataFrame:
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
    points = TSNE(perplexity=perplexity, metric="cosine", random_state=0).fit_transform(means)
    table = embeddings.table.assign(label=labels).drop_duplicates("label").set_index("label")
    table = table.loc[known, ["class_name", "make", "body"]].reset_index(drop=True)
    counts = [int((labels == label).sum()) for label in known]
    return table.assign(x=points[:, 0], y=points[:, 1], photos=counts)
