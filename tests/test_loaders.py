"""What the loaders stand on: memory that stays where it is."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from carlib.runtime import keep_freed_memory

FAULTS = """
import resource, torch
from carlib.runtime import keep_freed_memory
if {keep}:
    keep_freed_memory(torch.device("cpu"))
for step in range(25):
    if step == 5:  # the first steps grow the heap
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep: bool) -> int:
    """Pages asked from the kernel while twenty tensors of 64 MiB come and go."""
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    return int(
        subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_used_again_without_asking_the_kernel() -> None:
    # Once in a while the heap grows by one more tensor: hence a fifth, not a hundredth.
    assert page_faults(keep=True) * 5 < page_faults(keep=False)


def test_a_gpu_has_its_own_allocator() -> None:
    assert not keep_freed_memory(torch.device("cuda"))
