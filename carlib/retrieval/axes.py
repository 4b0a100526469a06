"""Where points are measured from, and along which axes: five ways to compare what a network says.

Features of a network were made to be classified, not compared: most of them point roughly one way,
and a few directions drown the others. A mean taken away, or axes made more equal in length, often
tells classes apart better that the network never learned. All is fitted on train photos of the
classes that it did learn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from carlib.data.catalog import Catalog
from carlib.data.digests import digest_of
from carlib.errors import RunError
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.outputs import in_bytes
from carlib.retrieval.embeddings import Embeddings, embed, scaled

MOST_AXES = 256  # of whitened and within points
LEAST_VARIANCE = 1e-12  # of an axis whose length is changed
LEAST_SHARE = 1e-10  # of the largest variance: along axes below it photos differ by rounding alone


@dataclass(frozen=True)
class Way:
    """How axes come about.

    `rooted`: of every number its square root first, as few large ones drown the rest (Arandjelović
    2012, "Three things everyone should know to improve object retrieval"). `centered`: measured
    from the mean. `by`: axes of the differences between "all" photos (Jégou 2012, "Negative
    evidences and co-occurrences in image retrieval: the benefit of PCA and whitening"), "within"
    classes (Mikolajczyk 2007, "Improving descriptors for fast tree matching by optimal linear
    projection"), or the dims as they are (""). Each axis is divided by its variance to the `power`:
    one half makes all equally long. `most` axes are kept, those along which photos differ most; 0:
    all.
    """

    rooted: bool = False
    centered: bool = True
    by: str = ""
    power: float = 0.5
    most: int = 0


# The last was chosen by classes that no result of comparing is told of: `carlib study axes`.
WAYS = {
    "plain": Way(centered=False),
    "centered": Way(),
    "whitened": Way(by="all", most=MOST_AXES),
    "within": Way(by="within", most=MOST_AXES),
    "softened": Way(rooted=True, by="within", power=0.25),
}


@dataclass(frozen=True)
class Axes:
    """A point to measure from, and axes to measure along."""

    mean: np.ndarray  # (dims,) float32
    axes: np.ndarray  # (dims, kept) float32
    rooted: bool = False

    @classmethod
    def fit(
        cls,
        values: np.ndarray,
        way: str | Way,
        labels: np.ndarray | None = None,
        most: int | None = None,
    ) -> Axes:
        """Axes for points (photos, dims), `most` of them or as many as photos, dims and their
        differences allow; by default as the way has it.

        `labels` (photos,) are needed for axes within classes. Points on no axes of their own keep
        all dims where there are not more photos than `most` to tell which ones matter.
        """
        way = way if isinstance(way, Way) else known_way(way)
        values = np.asarray(_rooted(values) if way.rooted else values, np.float64)
        photos, dims = values.shape
        most = (way.most if most is None else most) or dims
        mean = values.mean(0) if way.centered else np.zeros(dims)
        centered, count = values - mean, min(most, photos - 1, dims)
        if not way.by:
            few = dims <= most or photos <= most
            axes = np.eye(dims) if few else _principal(centered, most)[1]
        elif way.by == "all":
            variance, axes = _principal(centered, count)
            axes = axes / variance**way.power
        else:
            axes = _within(centered, labels, count, way.power)
        return cls(mean.astype(np.float32), axes.astype(np.float32), way.rooted)

    def apply(self, embeddings: Embeddings) -> Embeddings:
        """The same photos on these axes, rows of length one."""
        digits = digest_of(self.mean.tobytes() + self.axes.tobytes())[:8]
        values = _rooted(embeddings.vectors) if self.rooted else embeddings.vectors
        values = scaled((values - self.mean) @ self.axes)
        return Embeddings(values, embeddings.table, f"{embeddings.network}-{digits}")


def known_way(name: str) -> Way:
    """The way of a name; `RunError` lists those there are."""
    if name not in WAYS:
        raise RunError(f"unknown points {name!r}; known: {', '.join(WAYS)}")
    return WAYS[name]


def _rooted(values: np.ndarray) -> np.ndarray:
    """Square roots with the numbers' signs, rows of length one."""
    return scaled(np.sign(values) * np.sqrt(np.abs(values)))


def _principal(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest mean squares and the axes (dims, count at most) that have them, largest first.

    Axes along which photos differ by rounding alone are none.
    """
    if count < 1:
        raise RunError(f"{len(values)} photos have no axes along which they differ; give more")
    squares, axes = np.linalg.eigh(values.T @ values / max(1, len(values) - 1))
    count = max(1, min(count, int((squares > LEAST_SHARE * squares[-1]).sum())))
    return np.maximum(squares[::-1][:count], LEAST_VARIANCE), axes[:, ::-1][:, :count]


def _within(values: np.ndarray, labels: np.ndarray, count: int, power: float) -> np.ndarray:
    """Axes (dims, count at most) of the differences inside of classes, divided by these variances
    to the power; those kept along which all photos then differ most.

    The covariance is shrunk (Ledoit 2004), as there may be fewer photos than dims.
    """
    from sklearn.covariance import ledoit_wolf

    _, codes = np.unique(labels, return_inverse=True)
    sums = np.zeros((codes.max() + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    inside = values - (sums / np.bincount(codes)[:, None])[codes]
    variance, axes = np.linalg.eigh(ledoit_wolf(inside, assume_centered=True)[0])
    even = axes / np.maximum(variance, LEAST_VARIANCE) ** power
    return even @ _principal(values @ even, count)[1]


def points_of(checkpoint: Checkpoint, way: str) -> str:
    """What photos are compared by, as a record says it; "" for what the network was made for."""
    return "_".join(filter(None, (checkpoint.points, "" if way == "plain" else way)))


def on_axes(
    checkpoint: Checkpoint, catalog: Catalog, way: str, *parts: Embeddings
) -> tuple[list[Embeddings], list[Embeddings]]:
    """Embeddings on axes fitted on train photos of the classes that the network learned, the first
    of the catalog: as they are kept, in bytes, and with all digits.

    Ways without a number of axes keep all dims. Where all classes were learned, what is kept is on
    MOST_AXES: a million photos fit, and along those axes learned classes differ.
    """
    learned = catalog.select_classes(range(len(checkpoint.class_names)))
    dims, all_learned = parts[0].vectors.shape[1], not checkpoint.learned_a_part(catalog)
    cut = all_learned and dims > MOST_AXES and "train" in learned.split_sizes
    if way == "plain" and not cut:
        return [_rounded(part) for part in parts], list(parts)
    known = embed(checkpoint, learned, "train", progress=False).labelled
    exact = Axes.fit(known.vectors, way, known.labels)
    axes = Axes.fit(known.vectors, way, known.labels, MOST_AXES) if cut else exact
    return [_rounded(axes.apply(part)) for part in parts], [exact.apply(part) for part in parts]


def _rounded(points: Embeddings) -> Embeddings:
    return replace(points, vectors=in_bytes(points.vectors))
