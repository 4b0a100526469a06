"""Photos as points: what a network says of every photo, made comparable photo with photo.

An embedding is the pooled features of a photo (or what a network trained for comparing makes of
them), scaled to length one: then the inner product is the cosine, and the nearest neighbor by
cosine is the nearest by distance. The body runs once per catalog; see `carlib.evaluation.features`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from carlib.data.catalog import Catalog
from carlib.data.digests import digest_of
from carlib.data.framing import Framing
from carlib.data.store import PhotoStore
from carlib.data.table import labels_of
from carlib.errors import RunError
from carlib.evaluation.evaluate import features_of
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import Checkpoint


@dataclass(frozen=True)
class Embeddings:
    """One row per photo, in the order of the catalog it came from."""

    vectors: np.ndarray  # (photos, dims) float32
    table: pd.DataFrame  # the photos' rows of the catalog, index 0..n-1; `photo`: their digests
    network: str  # hash of the checkpoint; points of different networks cannot be compared

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.table):
            raise RunError(
                f"embeddings of shape {self.vectors.shape} do not fit {len(self.table)} photos"
            )
        if not np.isfinite(self.vectors).all():
            raise RunError("embeddings hold values that are not finite")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> np.ndarray:
        """Labels int64 (photos,), −1 where unknown."""
        return labels_of(self.table)

    @property
    def paths(self) -> np.ndarray:
        """Paths (photos,) as the catalog has them."""
        return self.table["path"].to_numpy(dtype=object)

    @property
    def labelled(self) -> Embeddings:
        """The photos that have a label; `RunError` where none has."""
        if not (self.labels >= 0).any():
            raise RunError("no photo has a label, so nothing can be right; label some")
        return self.select(self.labels >= 0)

    def select(self, which: np.ndarray) -> Embeddings:
        """The photos at some positions, or those where a boolean mask is true."""
        table = self.table.iloc[np.arange(len(self))[which]].reset_index(drop=True)
        return Embeddings(self.vectors[which], table, self.network)


def embed(
    checkpoint: Checkpoint,
    catalog: Catalog,
    split: str | None = None,
    *,
    unit: bool = True,
    progress: bool = True,
) -> Embeddings:
    """Embeddings of one split of a catalog, of all but test by default.

    With `unit` every row has length one, else rows are the pooled features as they are. Photos
    that cannot be read are left out. The catalog may be of other classes than the network's.
    """
    splits = [split] if split else [name for name in catalog.split_sizes if name != "test"]
    if not splits:
        raise RunError(f"{catalog.name}: no photo but those of split 'test', which are not shown")
    parts = [features_of(checkpoint, catalog, one, progress) for one in splits]
    features = torch.cat([values for values, _, _ in parts])
    rows, digests = (np.concatenate([part[number] for part in parts]) for number in (1, 2))
    if unit:
        scorer = Scorer.of(checkpoint)
        with torch.no_grad():
            features = scorer.network.embed(features.to(scorer.device))
    order = np.argsort(rows, kind="stable")
    table = catalog.table.iloc[rows[order]].reset_index(drop=True).assign(photo=digests[order])
    return Embeddings(features.cpu().numpy()[order].astype(np.float32), table, checkpoint.hash)


def thumbnails(catalog: Catalog, framing: Framing) -> Embeddings:
    """The photos themselves as points: the pixels of small copies, their mean taken away.

    What a network has to be better than. `framing.size` is the side of the copies, such as 16.
    """
    store = PhotoStore.open(catalog, framing, progress=False)
    pixels = store.pixels[:].reshape(len(store.pixels), -1).astype(np.float32)
    vectors = scaled(pixels - pixels.mean(1, keepdims=True))
    table = catalog.table.iloc[store.rows].reset_index(drop=True)
    return Embeddings(vectors, table, f"pixels-{digest_of(repr(framing).encode())[:16]}")


def scaled(values: np.ndarray) -> np.ndarray:
    """Rows (photos, dims) divided by their length; a row of zeros stays."""
    return F.normalize(torch.as_tensor(values).float()).numpy()


def effective_rank(values: np.ndarray) -> float:
    """How many directions the points (photos, dims) really use, from 1 to dims.

    exp of the entropy of the singular values' shares (Roy 2007, "The effective rank"). Far below
    the dims, the embedding has collapsed: most of its numbers say the same.
    """
    singular = np.linalg.svd(values - values.mean(0), compute_uv=False)
    shares = singular / max(singular.sum(), 1e-30)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
