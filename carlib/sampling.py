"""Which photos make a batch, as a pure function of seed, epoch and step.

Nothing here keeps state: a run that was killed and resumed asks for the same epoch again and gets
the same batches. Labels come from the catalog; no photo is opened to choose it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAMPLERS = ("shuffle", "balanced")


def seed_of(*parts: int) -> int:
    """One 63-bit seed from several numbers, such as (seed, epoch, step)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class Batches:
    """The batches of an epoch: arrays of positions into the training photos.

    "shuffle" shows each photo once; "balanced" draws with replacement so that every class is
    equally likely. The last incomplete batch is dropped, unless there is no other.
    """

    labels: np.ndarray
    batch_size: int
    seed: int = 0
    sampler: str = "shuffle"

    def __len__(self) -> int:
        return max(1, len(self.labels) // self.batch_size)

    def epoch(self, epoch: int) -> Sequence[np.ndarray]:
        """Batches of one epoch, each of shape (batch size,), int64."""
        generator = np.random.default_rng(seed_of(self.seed, epoch))
        if self.sampler == "balanced":
            order = generator.choice(len(self.labels), len(self.labels), p=self._weights())
        else:
            order = generator.permutation(len(self.labels))
        size = self.batch_size
        return [order[step * size : (step + 1) * size] for step in range(len(self))]

    def _weights(self) -> np.ndarray:
        counts = np.bincount(self.labels)
        weights = 1.0 / counts[self.labels]
        return weights / weights.sum()
