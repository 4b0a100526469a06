"""What a training or a command sets in its process, once, when it begins."""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    import torch


def prepare_process(device: torch.device) -> None:
    """Before photos are computed with: one OpenCV thread, and memory that is kept."""
    one_thread_a_photo()
    keep_freed_memory(device)


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
