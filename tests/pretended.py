"""A GPU that is not there: everything asked of "cuda" is done on the CPU, and called "cuda"."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from accelerate.state import AcceleratorState
from torch.overrides import TorchFunctionMode

CARDS = {"P100": (6, 0), "V100": (7, 0), "T4": (7, 5), "A100": (8, 0), "L4": (8, 9)}
GIB = 2**30


class OnCpu(TorchFunctionMode):
    """Maps the device of every call to the CPU; tensors say that they lie on the GPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function == torch.Tensor.device.__get__:  # made anew whenever it is named
            return torch.device("cuda", 0)
        if function is torch.Tensor.pin_memory:
            return args[0]
        if function is torch.device:
            return function(*args, **(kwargs or {}))
        args = tuple(map(_here, args))
        return function(*args, **{name: _here(value) for name, value in (kwargs or {}).items()})


def _here(value):
    """A device, or the name of one, on the CPU; all else as it is."""
    cuda = isinstance(value, str) and value.split(":")[0] == "cuda"
    if cuda or (isinstance(value, torch.device) and value.type == "cuda"):
        return torch.device("cpu")
    return value


def pretend(monkeypatch: pytest.MonkeyPatch, card: str, free: int = 12 * GIB) -> None:
    """Have torch report a card; nothing can be computed on it yet, see `pretended_gpu`."""
    capability = CARDS[card]
    there = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: card,
        "get_device_capability": lambda device=None: capability,
        # As torch has it: emulation makes bf16 "supported" on any card.
        "is_bf16_supported": lambda including_emulation=True: (
            including_emulation or capability >= (8, 0)
        ),
        "mem_get_info": lambda device=None: (free, 15 * GIB),
        "empty_cache": lambda: None,
        "manual_seed_all": lambda seed: None,
        "_lazy_call": lambda *arguments, **options: None,
    }
    for name, stand_in in there.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)


@contextlib.contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch, card: str, free: int = 12 * GIB) -> Iterator:
    """Inside, the branch for CUDA runs from end to end; gives what was asked of autocast."""
    asked: list[torch.dtype] = []
    autocast = torch.autocast

    class Autocast(autocast):
        def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
            asked.append(dtype)
            super().__init__("cpu", dtype, enabled, cache_enabled)

    pretend(monkeypatch, card, free)
    monkeypatch.setattr(torch, "autocast", Autocast)
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": generator())
    for kind in ("accelerator", "cuda"):  # its name in newer and older torch
        check = f"_{kind}_graph_capture_health_check"
        monkeypatch.setattr(torch.optim.Optimizer, check, lambda self: None, raising=False)
    AcceleratorState._reset_state(True)  # what it found in an earlier test
    try:
        with OnCpu():
            yield asked
    finally:
        AcceleratorState._reset_state(True)
