"""All that must survive a kill: where a training is, and every tensor that it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from carlib.files import load_tensors, save_tensors
from carlib.training.parts import Parts


@dataclass
class TrainState:
    """Where a training is, besides tensors. Everything here is plain JSON."""

    epoch: int = 0  # epochs completed
    step: int = 0  # optimizer steps completed
    best: float = -math.inf  # best monitored value so far, larger is better
    best_epoch: int = -1
    bar: float = -math.inf  # what an improvement is measured from: `best`, small steps left out
    stale: int = 0  # epochs without improvement, for early stopping
    drops: int = 0  # plateau: learning-rate drops so far
    since_drop: int = 0  # plateau: epochs without improvement since the last drop
    accumulate: int = 1  # pieces a batch is divided into
    seconds: float = 0.0  # time spent, over all sessions of this run
    precision: dict[str, Any] = field(default_factory=dict)  # what `training.precision` found out
    history: list[dict[str, float]] = field(default_factory=list)


def save_state(path: Path, parts: Parts, state: TrainState) -> None:
    """Write where the training is and its tensors into one file."""
    tensors = {f"model.{k}": v for k, v in parts.network.state_dict().items()}
    if parts.ema:
        tensors |= {f"ema.{k}": v for k, v in parts.ema.module.state_dict().items()}
    tensors |= {f"loss.{k}": v for k, v in parts.objective.state_dict().items()}
    for index, values in parts.optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in values.items() if v is not None
        }
    scaler = parts.accelerator.scaler  # of gradients in half precision, fp16 alone
    about = {"done": vars(state), "scaler": scaler.state_dict() if scaler else None}
    save_tensors(path, tensors, about)


def load_state(path: Path, parts: Parts) -> TrainState:
    """Put the tensors of a file back into the parts, and say where the training was."""
    tensors, about = load_tensors(path)
    parts.network.load_state_dict(_under(tensors, "model."))
    parts.objective.load_state_dict(_under(tensors, "loss."))
    if parts.accelerator.scaler and about.get("scaler"):
        parts.accelerator.scaler.load_state_dict(about["scaler"])
    if parts.ema:
        parts.ema.module.load_state_dict(_under(tensors, "ema."))
    _restore_optimizer(parts.optimizer, _under(tensors, "optimizer."))
    return TrainState(**about["done"])


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Fused optimizers walk through memory, so what they remember must lie as the weights do
    (channels last); a file keeps values, not strides.
    """
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        like = weights[int(index)]
        fits = value.shape == like.shape
        value = torch.empty_like(like, dtype=value.dtype).copy_(value) if fits else value
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
