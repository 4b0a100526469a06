"""Where points are measured from, and along which axes: four ways to compare what a network says.

Features of a network were made to be classified, not compared: most of them point roughly one way,
and a few directions drown the others. A mean taken away or axes made equally long often tell
classes apart better that the network never learned. All is fitted on train photos of the classes
that it did learn.
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

WAYS = ("plain", "centered", "whitened", "within")
MOST_AXES = 256  # of whitened and within points
LEAST_VARIANCE = 1e-12  # of an axis that is made as long as the others


@dataclass(frozen=True)
class Axes:
    """A point to measure from, and axes to measure along.

    *Plain* measures from zero, *centered* from the mean of the photos; where there are more dims
    than asked for, both keep the axes along which the photos say most, and angles nearly stay.
    *Whitened* makes the axes along which photos differ equally long (Jégou 2012, "Negative
    evidences and co-occurrences in image retrieval: the benefit of PCA and whitening"); *within*
    does so with the differences inside of classes, then keeps the axes along which photos differ
    most (Mikolajczyk 2007, "Improving descriptors for fast tree matching by optimal linear
    projection").
    """

    mean: np.ndarray  # (dims,) float32
    axes: np.ndarray  # (dims, kept) float32

    @classmethod
    def fit(
        cls, values: np.ndarray, way: str, labels: np.ndarray | None = None, most: int = MOST_AXES
    ) -> Axes:
        """Axes for points (photos, dims), `most` of them or as many as photos and dims allow.

        `labels` (photos,) are needed for way "within". Plain and centered points keep all dims
        where there are not more photos than `most` to tell which ones matter.
        """
        if way not in WAYS:
            raise RunError(f"unknown points {way!r}; known: {', '.join(WAYS)}")
        values = np.asarray(values, np.float64)
        photos, dims = values.shape
        mean = np.zeros(dims) if way == "plain" else values.mean(0)
        centered = values - mean
        if way in ("plain", "centered"):
            few = dims <= most or photos <= most
            axes = np.eye(dims) if few else _principal(centered, most)[1]
        elif way == "whitened":
            variance, axes = _principal(centered, min(most, photos - 1, dims))
            axes = axes / np.sqrt(variance)
        else:
            axes = _within(centered, labels, min(most, photos - 1, dims))
        return cls(mean.astype(np.float32), axes.astype(np.float32))

    def apply(self, embeddings: Embeddings) -> Embeddings:
        """The same photos on these axes, rows of length one."""
        digits = digest_of(self.mean.tobytes() + self.axes.tobytes())[:8]
        values = scaled((embeddings.vectors - self.mean) @ self.axes)
        return Embeddings(values, embeddings.table, f"{embeddings.network}-{digits}")


def _principal(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest mean squares (count,) and the axes (dims, count) that have them, largest first."""
    if count < 1:
        raise RunError(f"{len(values)} photos have no axes along which they differ; give more")
    squares, axes = np.linalg.eigh(values.T @ values / max(1, len(values) - 1))
    return np.maximum(squares[::-1][:count], LEAST_VARIANCE), axes[:, ::-1][:, :count]


def _within(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Axes (dims, count) along which photos of one class differ alike, those kept along which all
    photos differ most.

    The covariance is shrunk (Ledoit 2004), as there may be fewer photos than dims.
    """
    from sklearn.covariance import ledoit_wolf

    _, codes = np.unique(labels, return_inverse=True)
    sums = np.zeros((codes.max() + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    inside = values - (sums / np.bincount(codes)[:, None])[codes]
    variance, axes = np.linalg.eigh(ledoit_wolf(inside, assume_centered=True)[0])
    even = axes / np.sqrt(np.maximum(variance, LEAST_VARIANCE))
    return even @ _principal(values @ even, count)[1]


def points_of(checkpoint: Checkpoint, way: str) -> str:
    """What photos are compared by, as a record says it; "" for what the network was made for."""
    return "_".join(filter(None, (checkpoint.points, "" if way == "plain" else way)))


def on_axes(
    checkpoint: Checkpoint, catalog: Catalog, way: str, *parts: Embeddings
) -> tuple[list[Embeddings], list[Embeddings]]:
    """Embeddings on axes fitted on train photos of the classes that the network learned, the first
    of the catalog: as they are kept, in bytes, and with all digits.

    Plain and centered points keep all dims. Where all classes were learned, what is kept is on
    MOST_AXES: a million photos fit, and along those axes learned classes differ.
    """
    learned = catalog.select_classes(range(len(checkpoint.class_names)))
    dims, all_learned = parts[0].vectors.shape[1], not checkpoint.learned_a_part(catalog)
    cut = all_learned and dims > MOST_AXES and "train" in learned.split_sizes
    if way == "plain" and not cut:
        return [_rounded(part) for part in parts], list(parts)
    known = embed(checkpoint, learned, "train", progress=False).labelled
    most = dims if way in ("plain", "centered") else MOST_AXES
    exact = Axes.fit(known.vectors, way, known.labels, most)
    axes = Axes.fit(known.vectors, way, known.labels) if cut else exact
    return [_rounded(axes.apply(part)) for part in parts], [exact.apply(part) for part in parts]


def _rounded(points: Embeddings) -> Embeddings:
    return replace(points, vectors=in_bytes(points.vectors))
