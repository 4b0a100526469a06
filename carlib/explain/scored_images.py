"""Photos of a catalog as a network saw them, and what it said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from carlib.data.catalog import Catalog
from carlib.data.framing import Framing
from carlib.data.table import boxes_of, labels_of
from carlib.errors import RunError
from carlib.evaluation.evaluate import ready
from carlib.evaluation.scorer import scoring_photos
from carlib.experiment.checkpoint import Checkpoint

KINDS = ("right", "wrong", "unsure")  # photos to look at


# --- photos to look at --------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """How photos were drawn from a catalog."""

    split: str
    photos: int  # asked for; 0: all there are
    seed: int


@dataclass(frozen=True)
class ScoredImages:
    """Photos of a catalog as a network saw them, and what it said."""

    photos: torch.Tensor  # (photos, 3, side, side) float32 in 0…1, framed
    table: pd.DataFrame  # their rows of the catalog, index 0..n-1
    rows: np.ndarray  # where those are in the catalog
    probabilities: np.ndarray  # (photos, classes)
    class_names: tuple[str, ...]
    framing: Framing  # of the photos, side included
    sample: Sample | None = None  # None: picked by hand, not drawn

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> np.ndarray:
        return labels_of(self.table)

    @property
    def answers(self) -> np.ndarray:
        """The class with the largest probability (photos,)."""
        return self.probabilities.argmax(1)

    @property
    def confidence(self) -> np.ndarray:
        """That probability (photos,)."""
        return self.probabilities.max(1)

    def box(self, number: int) -> tuple[float, ...]:
        """The car's box, NaN where unknown."""
        return tuple(boxes_of(self.table.iloc[[number]])[0])

    def select(self, which: np.ndarray) -> ScoredImages:
        """The photos at some positions, or those where a boolean mask is true."""
        which = np.arange(len(self))[which]
        table = self.table.iloc[which].reset_index(drop=True)
        return ScoredImages(self.photos[which], table, self.rows[which], self.probabilities[which],
                    self.class_names, self.framing)  # fmt: skip

    def choose(self, kind: str, count: int, seed: int = 0) -> ScoredImages:
        """Photos that were answered "right" or "wrong", drawn by seed, or the most "unsure" ones.

        As many as there are, if fewer than `count`.
        """
        if kind not in KINDS:
            raise RunError(f"unknown kind of photos {kind!r}; known: {', '.join(KINDS)}")
        if kind == "unsure":
            return self.select(np.argsort(self.confidence, kind="stable")[:count])
        of_kind = np.flatnonzero((self.answers == self.labels) == (kind == "right"))
        drawn = np.random.default_rng(seed).permutation(of_kind)[:count]
        return self.select(np.sort(drawn))


@torch.no_grad()
def see(
    checkpoint: Checkpoint, catalog: Catalog, split: str = "val", count: int = 0, seed: int = 0
) -> ScoredImages:
    """Photos of a split (`count` of them, drawn by seed; 0: all) as the network sees them.

    Raises `RunError` when no photo of the split can be read, or the network names no class.
    """
    checkpoint.recipe.must_classify()
    checkpoint.check_classes(catalog)
    scorer, store, positions = ready(checkpoint, catalog, split, progress=False)
    if count:
        drawn = np.random.default_rng(seed).permutation(len(positions))[:count]
        positions = positions[np.sort(drawn)]
    batches = scoring_photos(store, positions, scorer.size, scorer.device)
    parts = [(photos.cpu(), scorer(photos).softmax(1).cpu()) for photos in batches]
    rows = store.rows[positions]
    table = catalog.table.iloc[rows].reset_index(drop=True)
    photos, chances = (torch.cat(side) for side in zip(*parts, strict=True))
    framing, sample = (
        replace(checkpoint.recipe.framing, size=scorer.size),
        Sample(split, count, seed),
    )
    return ScoredImages(photos, table, rows, chances.numpy(), catalog.class_names, framing, sample)
