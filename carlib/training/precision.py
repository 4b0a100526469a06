"""Full or half precision on a CPU: both are tried on a training's network, the faster is kept.

Some processors compute bf16 at twice their usual speed and others emulate it, and on one and the
same processor networks differ: depthwise convolutions lose what others gain. PyTorch's bf16
convolutions have also been slow or wrong on some processors (pytorch/pytorch#163347, #169688,
#183815), so what the network learns must be the same both ways. What was found stays with the
training's state: one that is resumed is not asked again.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from carlib.distributed import all_agree, places
from carlib.evaluation.scorer import scoring_photos
from carlib.experiment.cost import DEVICES, seconds_on, training_flops
from carlib.experiment.host import hardware
from carlib.models.freezing import set_trainable
from carlib.seeding import seed_of
from carlib.timing import medians, taking_turns
from carlib.training.epoch import train_step
from carlib.training.optimizer import make_optimizer
from carlib.training.parts import Parts
from carlib.training.state import TrainState

LONG = 120.0  # seconds, by estimate, from which on a training is worth a probe
ROUNDS = 3  # timed steps each way, after one to warm up
FASTER = 1.1  # times as fast as full precision, below which nothing is changed
HOPELESS = 0.5  # times as fast in the first step, below which no further one is tried
LOSS_DIFFERENCE = 0.05  # between the losses of a step, as a share of the loss in full precision
GRADIENT_COSINE = 0.8  # between the gradients of the first step; right ones had .92 and more


def settle_precision(parts: Parts, state: TrainState, show: bool = False) -> None:
    """Set in which precision a training on a CPU learns; its state says what was found out.

    A training that goes on does so as it began. One that begins is probed where the recipe leaves
    the choice ("auto") and the training is long: short ones, by an estimate that knows no clock,
    always compute in full, and so end in the same weights every time.
    """
    if parts.device.type != "cpu":
        return
    if state.epoch == 0 and _worth_a_probe(parts):
        from accelerate.utils import broadcast_object_list

        started = time.perf_counter()
        state.precision = broadcast_object_list([probe(parts, state.accumulate)])[0]
        state.seconds += time.perf_counter() - started
        if show:
            tqdm.write(in_words(state.precision))
    parts.precision = state.precision.get("choice", parts.precision)


def _worth_a_probe(parts: Parts) -> bool:
    recipe, classes = parts.recipe, len(parts.about["class_names"])
    if recipe.precision != "auto" or parts.on_features:
        return False
    flops = training_flops(recipe, len(parts.train), classes)
    return seconds_on(DEVICES["2 CPU cores"], flops) >= LONG


def in_words(found: dict[str, Any]) -> str:
    """What a probe found, in a line for the reader."""
    full, half = (found["photos_per_second"][precision] for precision in ("no", "bf16"))
    rates = f"bf16 {half:.3g} photos/s, full precision {full:.3g}"
    return f"learning in {'bf16' if found['choice'] == 'bf16' else 'full precision'} ({rates})"


def probe(parts: Parts, accumulate: int = 1) -> dict[str, Any]:
    """A few steps of a training each way, on copies, at its largest side and batch.

    Gives the `choice` ("bf16" or "no"), by precision `photos_per_second` and the number of `steps`
    of which they are the median (a single one is the first, a slow one), the largest
    `loss_difference` and the `gradient_cosine` that were seen (None: not finite), and the
    `processor`.
    """
    ways = {precision: _Trial(parts, precision, accumulate) for precision in ("no", "bf16")}
    batch = _batch(parts)
    calls = {precision: partial(trial.step, *batch) for precision, trial in ways.items()}
    seconds = taking_turns(calls, 1, warm_up=0)
    # Where several processes learn, none may go on without the others: their steps wait for each.
    if all_agree(seconds["no"][0] / seconds["bf16"][0] >= HOPELESS):
        seconds = taking_turns(calls, ROUNDS, warm_up=0)
    else:  # the first step is a slow one, and minutes are compared by the speed in full precision
        seconds |= taking_turns({"no": calls["no"]}, ROUNDS, warm_up=0)
    spent, (full, half) = medians(seconds), ways.values()
    relative = torch.tensor(half.losses) / torch.tensor(full.losses[: len(half.losses)])
    difference = (relative - 1).abs().max().item()
    cosine = torch.cosine_similarity(full.gradient, half.gradient, 0).item()
    same = difference <= LOSS_DIFFERENCE and cosine >= GRADIENT_COSINE  # false for NaN
    faster = spent["no"] / spent["bf16"] >= FASTER
    return {
        "choice": "bf16" if same and faster else "no",
        "photos_per_second": {name: parts.batches.batch_size / s for name, s in spent.items()},
        "steps": {name: len(times) for name, times in seconds.items()},
        "loss_difference": difference if math.isfinite(difference) else None,
        "gradient_cosine": cosine if math.isfinite(cosine) else None,
        "processor": hardware()["cpu"],
    }


class _Trial:
    """Copies of what learns, and what came of their steps."""

    def __init__(self, parts: Parts, precision: str, accumulate: int) -> None:
        network, objective = copy.deepcopy(parts.network), copy.deepcopy(parts.objective)
        set_trainable(network, parts.phases[-1].part)
        optimizer = make_optimizer(parts.recipe, network, objective)
        self.parts = replace(
            parts, network=network, learner=network, ema=None, objective=objective, loss=objective,
            optimizer=optimizer, precision=precision,
        )  # fmt: skip
        self.state = TrainState(accumulate=accumulate)
        self.losses: list[float] = []
        self.gradient = torch.empty(0)  # of the first step

    def step(self, photos: torch.Tensor, labels: torch.Tensor, whole: int) -> None:
        """Learn from a batch once more."""
        seed = seed_of(self.parts.recipe.seed, self.state.step, 6)
        loss, _, seen = train_step(self.parts, self.state, photos, labels, seed, whole).tolist()
        self.losses.append(loss / seen)
        if not len(self.gradient):
            self.gradient = _gradient(self.parts.network)


def _gradient(network: nn.Module) -> torch.Tensor:
    """All gradients of a network as one vector."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return torch.cat([gradient.flatten() for gradient in gradients])


def _batch(parts: Parts) -> tuple[torch.Tensor, torch.Tensor, int]:
    """This process's share of the first batch as `Parts.epoch` gives it, not augmented."""
    batch = parts.train[next(iter(parts.batches.epoch(0)))]
    share = batch[places(len(batch))]
    side, device = parts.recipe.size, parts.device
    photos = next(scoring_photos(parts.store, share, side, device, len(share)))
    return parts.prepare(photos), torch.from_numpy(parts.labels[share]), len(batch)
