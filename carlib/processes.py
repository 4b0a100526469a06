"""Several processes that work on one thing, as `accelerate launch` or `torchrun` start them.

All of them call the same functions in the same order. `share` gives each its part of the photos,
`together` puts what came of them in order again, each photo once, and only the main process writes.
With one process nothing of this costs anything.
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


def share(positions: np.ndarray) -> np.ndarray:
    """This process's part: every n-th; all of them where there are fewer than processes."""
    rank, number = world()
    return positions[rank::number] if len(positions) >= number else positions


def together(values: torch.Tensor, count: int) -> torch.Tensor:
    """Rows (count, …) on the CPU in their order, of the `values` of this process's `share`."""
    _, number = world()
    if number == 1 or count < number:
        return values
    import torch
    from accelerate import PartialState

    rows = -(-count // number)
    padded = torch.zeros(rows, *values.shape[1:], dtype=values.dtype)
    padded[: len(values)] = values
    padded = padded.to(PartialState(cpu=without_gpus()).device)
    parts = [torch.empty_like(padded) for _ in range(number)]
    torch.distributed.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten(0, 1)[:count].cpu()


def all_say(yes: bool) -> bool:
    """True where every process says yes."""
    number = world()[1]
    if number == 1:
        return yes
    import torch

    answers = together(torch.tensor([float(yes)]), number)
    return bool(answers.all())
