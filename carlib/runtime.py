"""Which device and precision there are, and what is set in a process when its work begins."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from typing import TYPE_CHECKING

import cv2

from carlib.errors import RecipeError

if TYPE_CHECKING:
    import torch


def announce(words: str) -> None:
    """Say what takes a while: in a notebook beside the rest, elsewhere on standard error, as a
    program may read what a command answers.
    """
    shell = sys.modules.get("IPython")
    in_notebook = shell is not None and shell.get_ipython() is not None
    print(words, file=sys.stdout if in_notebook else sys.stderr, flush=True)


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def the_device() -> torch.device:
    """Where networks learn and answer, whoever asks: this process's GPU if CUDA has one, else CPU.

    Apple's MPS is not used: not every operation here exists on it, and none was tried on it.
    """
    import torch

    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if told or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def precision_on(device: torch.device, wanted: str = "auto") -> str:
    """The precision that a recipe's means on a device: "no", "fp16" (with its scaler) or "bf16".

    "auto" is what the device computes fastest without emulation: bf16 from compute capability 8.0
    (A100, L4) on, fp16 on 7.x (V100, T4), none on older GPUs, whose half precision gains nothing.
    A CPU computes in full unless its training finds half precision faster, see
    `training.precision`.
    """
    import torch

    if device.type == "cpu":
        if wanted == "fp16":
            raise RecipeError("precision is 'fp16', which needs a GPU; use 'auto', 'bf16' or 'no'")
        return "no" if wanted == "auto" else wanted
    if wanted != "auto":
        return wanted
    major, _ = torch.cuda.get_device_capability(device)
    if major >= 8 and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if major >= 7 else "no"


def half_precision(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Around what is computed in "fp16" or "bf16"; with "no" everything is computed in full."""
    import torch

    kinds = {"fp16": torch.float16, "bf16": torch.bfloat16}
    if precision not in kinds:
        return contextlib.nullcontext()
    return torch.autocast(device.type, kinds[precision])


def as_trained(device: torch.device, wanted: str) -> contextlib.AbstractContextManager:
    """Around what a network is asked: the precision it was trained in, where a GPU answers.

    Gradients of heat maps would vanish in it: who asks for gradients, asks in full precision.
    """
    import torch

    precision = "no" if torch.is_grad_enabled() else scoring_precision(device, wanted)
    return half_precision(device, precision)


def scoring_precision(device: torch.device, wanted: str) -> str:
    """In which precision a network answers: as it was trained on a GPU, in full on a CPU.

    There bf16 would be up to 2.5 times as fast, but changed the published network's answer to one
    val photo in a hundred.
    """
    return "no" if device.type == "cpu" else precision_on(device, wanted)


def prepare_process(device: torch.device, one_size: bool | None = None) -> None:
    """Before photos are computed with: one OpenCV thread, and memory that is kept.

    A training says whether its photos are all of one size: then cuDNN times its kernels once and
    goes on with the fastest.
    """
    one_thread_a_photo()
    keep_freed_memory(device)
    if device.type == "cuda" and one_size is not None:
        import torch

        torch.backends.cudnn.benchmark = one_size


def one_thread_a_photo() -> None:
    """Photos are worked on side by side, a thread or process each; nested pools only fight."""
    cv2.setNumThreads(1)


@functools.cache
def keep_freed_memory(device: torch.device) -> bool:
    """Have the C library keep what it frees while the CPU computes; true where that was possible.

    glibc gives every large block back to the kernel at once, and each step of a network asks for
    the same blocks again, page by page of zeros: half the time of a training step on two cores.
    The price is that memory in use stays at its peak. Source: mallopt(3).
    """
    if device.type != "cpu":
        return False
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows, musl: another allocator
        return False
    return bool(mallopt(m_mmap_max, 0) and mallopt(m_trim_threshold, 2**31 - 1))


def give_back_freed_memory() -> None:
    """Give the kernel what the C library keeps: a server lives long, and photos differ in size.

    Nothing where the C library is another than glibc. Source: malloc_trim(3).
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
