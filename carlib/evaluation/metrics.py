"""Every metric from one pass of logits, intervals included; shares lie in 0…1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import (
    classification_report,
    cohen_kappa_score,
    hamming_loss,
    jaccard_score,
    matthews_corrcoef,
)

from carlib.data.catalog import Catalog

RESAMPLES = 1000  # bootstrap resamples behind an interval
FEWER_RESAMPLES = 200  # where each of them takes long
ATTRIBUTES = ("make", "model", "year", "body")


def quick_metrics(logits: torch.Tensor, labels: np.ndarray, smoothing: float = 0.0) -> dict:
    """The metrics followed every epoch: loss, accuracy, top-3, top-5, macro P, R and F1."""
    truth = torch.from_numpy(labels)
    ranks = ranks_of(logits, labels)
    precision, recall, f1 = macro_scores(
        confusion(labels, answers_of(logits, labels), logits.shape[1])
    )
    return {
        "loss": float(F.cross_entropy(logits, truth, label_smoothing=smoothing)),
        "accuracy": float((ranks < 1).mean()),
        "top3": float((ranks < 3).mean()),
        "top5": float((ranks < 5).mean()),
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
    }


RECALLS = (1, 2, 4, 8)  # k of Recall@k


def ranking_scores(hits: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of ranked lists: one array (queries,) each, not a number where nothing is relevant.

    `hits` (queries, places) tells where the photo is of the query's class, `relevant` (queries,)
    how many photos are, R. `recall_at_k`: is there a hit among the first k? `r_precision`: the
    share of hits in the first R places; `map_at_r`: the same, early hits counting more (Musgrave
    2020, arXiv:2003.08505).
    """
    places = np.arange(hits.shape[1])
    within = hits & (places < relevant[:, None])
    precision = hits.cumsum(1) / (places + 1)
    some = np.where(relevant > 0, relevant, np.nan)
    scores = {f"recall_at_{k}": hits[:, :k].any(1) + 0 * some for k in RECALLS}
    scores["r_precision"] = within.sum(1) / some
    scores["map_at_r"] = (precision * within).sum(1) / some
    return scores


def quick_retrieval(embeddings: torch.Tensor, labels: np.ndarray) -> dict:
    """What is followed every epoch of a network that compares: val photos search each other.

    `embeddings` (photos, dims) of length one. "accuracy" is Recall@1, "map_at_r" as in
    `ranking_scores`; both zero where no two photos are of one class.
    """
    similarity = (embeddings @ embeddings.T).fill_diagonal_(-2.0)
    relevant = np.bincount(labels)[labels] - 1
    depth = min(max(int(relevant.max(initial=0)), 1), len(labels) - 1)
    nearest = similarity.topk(depth).indices.numpy()
    scores = ranking_scores(labels[nearest] == labels[:, None], relevant)
    there = relevant > 0
    means = {name: float(values[there].mean()) if there.any() else 0.0
             for name, values in scores.items()}  # fmt: skip
    return {"accuracy": means["recall_at_1"], "map_at_r": means["map_at_r"]}


def ranks_of(logits: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """How many classes score at least as high as the true one, itself left out.

    Logits (…, photos, classes), labels (photos,) → (…, photos).

    Counting ties against the network keeps one that says nothing from looking right; what is not
    a number counts against it too.
    """
    truth = torch.from_numpy(labels).expand(logits.shape[:-1])[..., None]
    return (~(logits < logits.gather(-1, truth))).sum(-1).numpy() - 1


def answers_of(logits: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """The class that each photo is said to be of; (photos,).

    Where the true class and another score alike, the other: see `ranks_of`, with which these agree.
    """
    answers = logits.argmax(1)
    tied = torch.from_numpy((answers.numpy() == labels) & (ranks_of(logits, labels) > 0))
    others = logits[tied].scatter(1, answers[tied, None], -torch.inf)
    answers[tied] = others.argmax(1)
    return answers.numpy()


def confusion(labels: np.ndarray, answers: np.ndarray, num_classes: int) -> np.ndarray:
    """Confusion matrix (classes, classes): rows are true, columns predicted.

    Counted here because a bootstrap asks for it a thousand times: scikit-learn's, equal in value,
    takes milliseconds at 196 classes, this one some microseconds.
    """
    cells = np.bincount(labels * num_classes + answers, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def macro_scores(matrix: np.ndarray) -> tuple[float, float, float]:
    """Macro precision, recall and F1 over the classes that have photos."""
    hit, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    there = true > 0
    precision = hit / np.maximum(predicted, 1)
    recall = hit / np.maximum(true, 1)
    f1 = 2 * hit / np.maximum(true + predicted, 1)
    return tuple(float(values[there].mean()) for values in (precision, recall, f1))


def score(logits: torch.Tensor, labels: np.ndarray, classes: pd.DataFrame, seed: int = 0) -> dict:
    """All metrics of a split, with 95 % bootstrap intervals over photos where these are sound.

    `classes` has a row per label with what is known of it, as of `class_table`.

    Macro precision and F1 have none. A resample repeats photos, so with a handful per class fewer
    classes are ever named in it: nearly every resample scores lower than the photos themselves,
    and an interval of such draws need not even hold the value.
    """
    answers = answers_of(logits, labels)
    ranks = ranks_of(logits, labels)
    report = classification_report(labels, answers, output_dict=True, zero_division=0)
    metrics: dict[str, Any] = {
        "loss": float(F.cross_entropy(logits, torch.from_numpy(labels))),
    } | label_scores(labels, answers)
    for key in ("precision", "recall", "f1-score"):
        metrics[f"weighted_{key.replace('-score', '')}"] = float(report["weighted avg"][key])
    hits = {"accuracy": ranks < 1, "top3": ranks < 3, "top5": ranks < 5}
    hits |= attribute_hits(labels, answers, classes)
    for name, hit in hits.items():
        _with_interval(metrics, name, bootstrap_mean(hit, seed))

    def macro(rows: np.ndarray) -> tuple[float, float, float]:
        return macro_scores(confusion(labels[rows], answers[rows], logits.shape[1]))

    metrics["macro_precision"], _, metrics["macro_f1"] = macro(np.arange(len(labels)))
    recalled = bootstrap(len(labels), lambda rows: macro(rows)[1], seed, FEWER_RESAMPLES)
    _with_interval(metrics, "macro_recall", recalled)
    metrics["balanced_accuracy"] = metrics["macro_recall"]
    return metrics


def label_scores(labels: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """Measures of answers (photos,) that study S2 reported beside accuracy and F1."""
    return {
        # Undefined (not a number) when there is but one class: then no better than chance.
        "kappa": float(np.nan_to_num(cohen_kappa_score(labels, answers))),
        "mcc": float(matthews_corrcoef(labels, answers)),
        "hamming_loss": float(hamming_loss(labels, answers)),
        "macro_jaccard": float(jaccard_score(labels, answers, average="macro", zero_division=0)),
    }


def attribute_hits(labels: np.ndarray, answers: np.ndarray, classes: pd.DataFrame) -> dict:
    """Is the make (model, year, body) of the answer right? One boolean array per attribute.

    A photo whose class does not tell the attribute counts as wrong only if the classes differ.
    """
    hits = {}
    for name in ATTRIBUTES:
        values = classes[name].astype("string").fillna("").to_numpy(dtype=object)
        if name == "model":
            values = (
                classes["make"].astype("string").fillna("").to_numpy(dtype=object) + "/" + values
            )
        if any(v.strip("/") for v in values):
            hits[f"{name}_accuracy"] = (values[labels] == values[answers]) | (labels == answers)
    return hits


def group_accuracy(labels: np.ndarray, answers: np.ndarray, train_counts: np.ndarray) -> dict:
    """Accuracy on the third of the classes with most, middling and fewest training photos."""
    order = np.argsort(-train_counts, kind="stable")
    accuracies = {}
    for name, classes in zip(("head", "medium", "tail"), np.array_split(order, 3), strict=True):
        rows = np.isin(labels, classes)
        if rows.any():
            accuracies[f"{name}_accuracy"] = float((labels == answers)[rows].mean())
    return accuracies


def bootstrap(
    count: int, statistic: Callable[[np.ndarray], Any], seed: int = 0, resamples: int = RESAMPLES
):
    """A statistic of all rows, and of `resamples` draws with replacement (Efron 1979)."""
    generator = np.random.default_rng(seed)
    draws = [statistic(generator.integers(0, count, count)) for _ in range(resamples)]
    return statistic(np.arange(count)), np.asarray(draws)


def bootstrap_mean(
    values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, np.ndarray]:
    """`bootstrap` of the mean of values (rows,): the same draws, many of them at once."""
    generator, count = np.random.default_rng(seed), len(values)
    at_once = max(1, 2**20 // max(count, 1))
    sizes = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    draws = [values[generator.integers(0, count, (size, count))].mean(1) for size in sizes]
    return float(values.mean()), np.concatenate(draws)


def _with_interval(metrics: dict, name: str, bootstrapped: tuple) -> None:
    value, draws = bootstrapped
    metrics[name] = float(value)
    metrics[f"{name}_interval"] = interval(draws)


def interval(draws: np.ndarray) -> list[float]:
    """The middle 95 % of bootstrap draws, [low, high]."""
    return [float(x) for x in np.quantile(draws, (0.025, 0.975))]


def per_class(
    labels: np.ndarray, answers: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Precision, recall, F1, photos and the class most often said instead, for every class."""
    matrix = confusion(labels, answers, len(class_names))
    rows = []
    for label, name in enumerate(class_names):
        hit, true = matrix[label, label], matrix[label].sum()
        predicted = matrix[:, label].sum()
        others = np.where(np.arange(len(matrix)) == label, 0, matrix[label])
        rows.append(
            {
                "class": name,
                "photos": int(true),
                "precision": float(hit / predicted) if predicted else 0.0,
                "recall": float(hit / true) if true else 0.0,
                "f1": float(2 * hit / (true + predicted)) if true + predicted else 0.0,
                "confused_with": class_names[others.argmax()] if others.any() else None,
                "times": int(others.max(initial=0)),
            }
        )
    return rows


def confused_pairs(labels: np.ndarray, answers: np.ndarray, catalog: Catalog) -> pd.DataFrame:
    """The twenty pairs of classes most often taken for each other: a, b, a as b, b as a, photos."""
    matrix = confusion(labels, answers, catalog.num_classes)
    both = np.triu(matrix + matrix.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:20]
    pairs = [np.unravel_index(i, both.shape) for i in order if both.flat[i]]
    names = catalog.class_names
    return pd.DataFrame(
        [
            {"a": names[a], "b": names[b], "a as b": matrix[a, b], "b as a": matrix[b, a],
             "photos": matrix[a].sum() + matrix[b].sum()}
            for a, b in pairs
        ],
        columns=["a", "b", "a as b", "b as a", "photos"],
    )  # fmt: skip
