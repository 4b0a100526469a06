"""Randomness as a function of numbers, so that nothing has to be remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*parts: int) -> int:
    """One 63-bit seed from several numbers, such as (seed, epoch, step)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def set_seed(seed: int, device: torch.device) -> None:
    """Seed what draws on a device; `torch.manual_seed` without CUDA costs a millisecond each time.

    (It formats a stack trace, in case CUDA is initialized later and the seeding fails then.)
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """A block that draws from a seed of its own; what is drawn after it does not notice.

    Of several GPUs only the one in use is seeded back: the others draw nothing here.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
