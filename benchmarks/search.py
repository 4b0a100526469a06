"""What exact and approximate search cost, against scikit-learn and on a large gallery.

    python benchmarks/search.py [--data showroom] [--photos 1000000]

The small part: all photos of a data set search each other by features of 1,280 numbers, with
faiss and with scikit-learn's brute force, which must find the same. The large part: the features on
256 principal axes, and around them as many points as asked for, each a photo's own plus noise a
quarter as long as the way to its nearest neighbor, so that neighborhoods are like those of photos.
Recall against time: "ivf_pq" again, with few and with many candidates that are compared exactly.
Aims: 4 times scikit-learn, and 20 times exact search with nine in ten of the true ten nearest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import faiss
import numpy as np
import pandas as pd
from common import tell
from sklearn.neighbors import NearestNeighbors

from carlib.data.opening import open_catalog
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe
from carlib.retrieval.axes import Axes
from carlib.retrieval.embeddings import Embeddings, embed, scaled
from carlib.retrieval.gallery import KINDS, Gallery
from carlib.retrieval.knn import neighbors
from carlib.timing import medians, memory, ratios, taking_turns

AIMS = {"times scikit-learn": 4.0, "times exact": 20.0, "recall at 10": 0.9}
K, QUERIES, DIMS = 10, 1000, 256
DEPTHS = (2, 4, 8, 16, 32)  # candidates of "ivf_pq" per neighbor asked for
Row = dict[str, object]


def against_scikit_learn(points: np.ndarray, rounds: int) -> dict[str, float]:
    """All points (photos, dims) search each other: seconds of both, and whether they agree."""
    theirs = NearestNeighbors(n_neighbors=K, algorithm="brute", n_jobs=-1).fit(points)
    ways = {
        "faiss": lambda: neighbors(points, points, K, "euclidean"),
        "scikit-learn": lambda: theirs.kneighbors(points),
    }
    seconds = taking_turns(ways, rounds)
    # Compared by distance, because photos that are copies are equally near in any order.
    ours, brute = neighbors(points, points, K, "euclidean")[0], theirs.kneighbors(points)[0]
    scale = float(np.median(brute[:, -1]))
    return {
        "times scikit-learn": statistics.median(*ratios(seconds, "faiss").values()),
        "faiss seconds": medians(seconds)["faiss"],
        "largest difference": float(np.abs(ours - brute)[:, 1:].max() / scale),
    }


def grown(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Unit points (count, dims) around those given, with neighborhoods of the same size."""
    generator = np.random.default_rng(seed)
    near = neighbors(points, points, 2, "euclidean")[0][:, 1]
    made = np.empty((count, points.shape[1]), np.float32)
    for start in range(0, count, 100_000):
        rows = generator.integers(0, len(points), min(100_000, count - start))
        noise = generator.normal(size=(len(rows), points.shape[1])).astype(np.float32)
        length = 0.25 * near[rows, None] / np.sqrt(points.shape[1])
        made[start : start + len(rows)] = scaled(points[rows] + length * noise)
    return made


def large(points: np.ndarray, count: int, rounds: int) -> tuple[list[Row], list[Row]]:
    """Build and search a gallery of every kind: a row each, and how recall is paid for in time."""
    table = pd.DataFrame({"path": [f"{number}.jpg" for number in range(count)]})
    table = table.assign(label=0, class_name="", make="", model="", year=pd.NA)
    gallery = Embeddings(grown(points, count, 0), table, "benchmark")
    queries = grown(points, QUERIES, 1)
    rows, curve, truth, exact = [], [], None, 0.0

    def searched(index: faiss.Index) -> Row:
        nonlocal truth, exact
        search = partial(index.search, queries, K)
        seconds = medians(taking_turns({"": search}, rounds))[""]
        nearest = search()[1]
        truth, exact = (nearest, seconds) if truth is None else (truth, exact)
        hits = [len(set(a) & set(b)) / K for a, b in zip(nearest, truth, strict=True)]
        return {"recall at 10": float(np.mean(hits)), "times exact": exact / seconds,
                "ms per query": 1000 * seconds / QUERIES}  # fmt: skip

    for kind in KINDS:
        before, started = memory(), time.perf_counter()
        made = Gallery.build(gallery, kind)
        built, held = time.perf_counter() - started, memory() - before
        rows.append({"index": kind, **searched(made.index), "build seconds": built,
                     "memory GiB": held / 2**30})  # fmt: skip
        print(rows[-1], flush=True)
        for candidates in DEPTHS if kind == "ivf_pq" else ():
            made.index.k_factor = candidates
            curve.append({"index": kind, "candidates": candidates, **searched(made.index)})
            print(curve[-1], flush=True)
        del made
    return rows, curve


def main(arguments: list[str] | None = None) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="showroom", help="a data set, as `open_catalog` takes it")
    parser.add_argument("--recipe", default="lite0_frozen", help="whose untrained network embeds")
    parser.add_argument("--photos", type=int, default=1_000_000, help="of the large gallery")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    catalog = open_catalog(options.data).with_val()
    checkpoint = Checkpoint.begin(get_recipe(options.recipe), catalog)
    points = embed(checkpoint, catalog).vectors
    metrics = against_scikit_learn(points, options.rounds)
    axes = Axes.fit(points, "whitened", most=DIMS)
    rows, curve = large(scaled((points - axes.mean) @ axes.axes), options.photos, options.rounds)
    good = [row for row in rows[1:] if row["recall at 10"] >= AIMS["recall at 10"]]
    record = Record(
        kind="benchmark",
        topic="search",
        scoring={"photos": options.photos},
        data={"catalog": catalog.name, "fingerprint": catalog.fingerprint,
              "photos": options.photos},
        metrics=metrics | {"times exact": max((r["times exact"] for r in good), default=0.0)},
        extra={"aims": AIMS, "rows": rows, "curve": curve, "points": list(points.shape),
               "dims": DIMS},
        command=command_line(),
    )  # fmt: skip
    return tell(record)


if __name__ == "__main__":
    main()
