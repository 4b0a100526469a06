"""Several processes that work on one thing, as `accelerate launch` or `torchrun` start them.

All of them call the same functions in the same order. `shard` gives each its part of the photos,
`all_gather` puts what came of them in order again, each photo once, and only the main process
writes. With one process nothing of this costs anything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def without_gpus() -> bool:
    """True where several processes share processors: accelerate joins them when told so alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    import torch

    return not torch.cuda.is_available()


def world() -> tuple[int, int]:
    """Which process this is (0: the main one), and how many there are on all machines."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    from accelerate import PartialState

    state = PartialState(cpu=without_gpus())  # joins the group when it is called first
    return state.process_index, state.num_processes


def is_main() -> bool:
    """True in the one process that writes and prints."""
    return world()[0] == 0


def shard(positions: np.ndarray) -> np.ndarray:
    """This process's part, in order; all of them where there are fewer than processes.

    As accelerate's `split_between_processes` divides, which gives an array back undivided.
    """
    rank, number = world()
    return np.array_split(positions, number)[rank] if len(positions) >= number else positions


def all_gather(values: torch.Tensor, count: int) -> torch.Tensor:
    """Rows (count, …) on the CPU in their order, of the `values` of this process's `shard`."""
    number = world()[1]
    if number == 1 or count < number:
        return values
    import torch
    from accelerate.utils import gather_object

    return torch.cat(gather_object([values]))


def all_agree(yes: bool) -> bool:
    """True where every process says yes."""
    if world()[1] == 1:
        return yes
    from accelerate.utils import gather_object

    return all(gather_object([yes]))
