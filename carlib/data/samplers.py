"""Which photos make a batch, as a pure function of seed, epoch and step.

Nothing here keeps state: a run that was killed and resumed asks for the same epoch again and gets
the same batches. Labels come from the catalog; no photo is opened to choose it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carlib.seeding import seed_of

SAMPLERS = ("shuffle", "balanced", "per_class", "pairs")


@dataclass(frozen=True)
class Batches:
    """The batches of an epoch: arrays of positions into the training photos.

    "shuffle" shows each photo once; "balanced" draws with replacement so that every class is
    equally likely; "per_class" draws some classes for every batch and `per_class` photos of each,
    so that a loss that compares photos finds pairs; "pairs" puts two photos side by side, half of
    the time of one class, as a Siamese network is usually fed. The last incomplete batch is
    dropped, unless there is no other.
    """

    labels: np.ndarray
    batch_size: int
    seed: int = 0
    sampler: str = "shuffle"
    per_class: int = 4

    def __len__(self) -> int:
        return max(1, len(self.labels) // self.batch_size)

    def epoch(self, epoch: int) -> Sequence[np.ndarray]:
        """Batches of one epoch, each of shape (batch size,), int64."""
        generator = np.random.default_rng(seed_of(self.seed, epoch))
        if self.sampler == "per_class":
            return [self._some_classes(generator) for _ in range(len(self))]
        if self.sampler == "pairs":
            return [self._side_by_side(generator) for _ in range(len(self))]
        if self.sampler == "balanced":
            order = generator.choice(len(self.labels), len(self.labels), p=self._weights())
        else:
            order = generator.permutation(len(self.labels))
        size = self.batch_size
        return [order[step * size : (step + 1) * size] for step in range(len(self))]

    def _some_classes(self, generator: np.random.Generator) -> np.ndarray:
        """Classes drawn without replacement, and photos of each; again where it has too few."""
        rows = self._rows
        classes = min(max(1, self.batch_size // self.per_class), len(rows))
        each = self.batch_size // classes
        drawn = generator.choice(len(rows), classes, replace=False)
        return np.concatenate(
            [generator.choice(rows[c], each, replace=len(rows[c]) < each) for c in drawn]
        )

    def _side_by_side(self, generator: np.random.Generator) -> np.ndarray:
        """A first photo at random; beside it another of its class or one of another class."""
        first = generator.choice(len(self.labels), max(1, self.batch_size // 2))
        place = {int(self.labels[rows[0]]): number for number, rows in enumerate(self._rows)}
        photos = []
        for photo in first:
            mine = place[int(self.labels[photo])]
            same = len(self._rows) == 1 or (generator.random() < 0.5 and len(self._rows[mine]) > 1)
            if same:
                others = self._rows[mine][self._rows[mine] != photo]
                photos += [photo, generator.choice(others) if len(others) else photo]
            else:
                other = (mine + 1 + generator.integers(len(self._rows) - 1)) % len(self._rows)
                photos += [photo, generator.choice(self._rows[other])]
        return np.array(photos)

    @functools.cached_property
    def _rows(self) -> list[np.ndarray]:
        """Positions of the photos of every class that has any."""
        order = np.argsort(self.labels, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.labels[order])) + 1)

    def _weights(self) -> np.ndarray:
        counts = np.bincount(self.labels)
        weights = 1.0 / counts[self.labels]
        return weights / weights.sum()


def long_tail(labels: np.ndarray, factor: float, seed: int = 0) -> np.ndarray:
    """Positions of a long-tailed part of the photos: int64, ascending.

    In a random order of the classes the first keeps all its photos and the last 1/factor of them,
    in between the share falls exponentially (Cui 2019, arXiv:1901.05555); one photo always stays.
    What a larger factor keeps is part of what a smaller one keeps.
    """
    generator = np.random.default_rng(seed_of(seed, 4))
    place = generator.permutation(int(labels.max(initial=0)) + 1)
    order = generator.permutation(len(labels))
    rank = np.empty(len(labels), np.int64)  # place of a photo among those of its class
    for label in range(len(place)):
        of_class = order[labels[order] == label]
        rank[of_class] = np.arange(len(of_class))
    shares = factor ** (-place / max(1, len(place) - 1))
    kept = np.maximum(1, np.round(np.bincount(labels, minlength=len(place)) * shares))
    return np.flatnonzero(rank < kept[labels])
