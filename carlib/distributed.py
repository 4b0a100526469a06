"""Several processes that work on one thing, as `accelerate launch` or `torchrun` start them.

All of them call the same functions in the same order. `shard` gives each its part of the photos,
`all_gather` puts what came of them in order again, each photo once, and only the main process
writes. Of a batch to learn from, `places` are a process's own, and `gathered` is what all processes
made of theirs. With one process nothing of this costs anything.

`launch` starts such processes from a notebook.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from carlib.errors import RunError
from carlib.runtime import cores, the_device

if TYPE_CHECKING:
    import torch


def world() -> tuple[int, int]:
    """Which process this is (0: the main one), and how many there are on all machines."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    state = _group()
    return state.process_index, state.num_processes


@functools.cache
def _group() -> Any:
    """The group of processes, joined once and left when this one ends.

    A group's threads that still run when an interpreter goes away abort it now and then, after all
    of its work is done.
    """
    from accelerate import PartialState

    # Processes without GPUs must say so.
    state = PartialState(cpu=the_device().type == "cpu")
    atexit.register(state.destroy_process_group)
    return state


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


def places(count: int, mixed: bool = False) -> np.ndarray:
    """Which places of a batch of `count` photos are this process's, ascending.

    A run of the batch; of a batch that is mixed a run from either end, as photo k is mixed with the
    k-th from the end: so both are in one process. Raises `RunError` where some process would
    have none.
    """
    rank, number = world()
    if number == 1:
        return np.arange(count)
    front = np.arange(count // 2 if mixed else count)
    if len(front) < number:
        raise RunError(
            f"a batch of {count} photos{' that are mixed in twos' if mixed else ''} is too small "
            f"for {number} processes; start fewer, or set a larger batch_size"
        )
    front = np.array_split(front, number)[rank]
    return np.concatenate([front, count - 1 - front[::-1]]) if mixed else front


def gathered(embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (batch, dims) and labels ≥ 0 (batch,) of all processes, in the order of these.

    A loss that compares photos sees the whole batch, as one process would. Every process computes
    the same, so its own rows get the gradient that they get in all: as many times theirs as there
    are processes, which the mean that these take of the network's gradients makes one.
    """
    rank, number = world()
    if number == 1:
        return embeddings, labels
    import torch
    from accelerate.utils import gather, pad_across_processes

    labels = gather(pad_across_processes(labels, pad_index=-1))
    own = pad_across_processes(embeddings)
    rows = list(gather(own.detach()).split(len(own)))
    rows[rank] = own
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * number)
    return torch.cat(rows)[labels >= 0], labels[labels >= 0]


def launch(function: Callable, processes: int, *arguments: Any, **options: Any) -> Any:
    """Call a function in several fresh processes that work together; what the main one gave.

    As `torchrun` does it, but from a notebook or a program, whatever that has trained before:
    `launch(train, 2, recipe, catalog)`. The function must be one that is imported, since fresh
    processes know none of a notebook's. A program calls this under `if __name__ == "__main__":`.
    """
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if function.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        raise RunError(f"{function.__name__}: only this notebook knows it; write it to a module")
    if the_device().type == "cuda" and processes > torch.cuda.device_count():
        raise RunError(f"{processes} processes, but {torch.cuda.device_count()} GPUs; start fewer")
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, start_method="spawn", max_restarts=0,
        run_id="carlib", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
    )  # fmt: skip
    try:
        with _signals_kept():
            return elastic_launch(config, _begin)(function, processes, arguments, options)[0]
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        told = failure.message["message"] if isinstance(failure.message, dict) else failure.message
        raise RunError(f"process {rank} of {processes}: {told.splitlines()[0]}") from error


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """What a signal does here stays so: torch's own handlers would end a notebook's interrupts."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    kept = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in kept.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _begin(function: Callable, processes: int, arguments: tuple, options: dict) -> Any:
    """What a fresh process does: share the processors with the others, then call."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // processes))
    return function(*arguments, **options)
