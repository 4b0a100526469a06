"""The optimizer of a recipe, and its learning rate at every step.

A schedule is a function of how much is done, and remembers nothing: so a run that was killed goes
on exactly where it was.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from carlib.experiment.recipe import Recipe
from carlib.models.freezing import Phase, epoch_of_phase, phase_at


def make_optimizer(
    recipe: Recipe, model: torch.nn.Module, loss: torch.nn.Module | None = None
) -> torch.optim.Optimizer:
    """The optimizer of a recipe, for a network and what its loss learns.

    No weight decay on biases and norms, nor on a loss's points: their length is their own affair.
    """
    from timm.optim import create_optimizer_v2

    groups = parameter_groups(recipe, model)
    if learned := list(loss.parameters()) if loss else []:
        groups.append({"params": learned, "weight_decay": 0.0, "lr_scale": recipe.proxy_lr})
    # Fused: one pass over the weights instead of a dozen. Fused SGD takes no weights that begin to
    # learn later than others, as they have no momentum yet.
    fused = not (recipe.optimizer == "sgd" and recipe.plan)
    return create_optimizer_v2(groups, recipe.optimizer, recipe.lr, fused=fused)


def parameter_groups(recipe: Recipe, model: torch.nn.Module) -> list[dict[str, Any]]:
    """Parameters by weight decay and by `lr_scale`, their learning rate relative to the head's."""
    # timm groups a body by its layers, but knows no head with a rate of its own, and has what does
    # not decay come first: a state names parameters by their place, so the order here must stay.
    if (recipe.body_lr, recipe.layer_decay) == (1.0, 1.0):
        rest, groups = list(model.parameters()), []
    else:
        from timm.optim import param_groups_layer_decay

        groups = param_groups_layer_decay(
            model.body, recipe.weight_decay, layer_decay=recipe.layer_decay
        )
        for group in groups:
            group["lr_scale"] *= recipe.body_lr
        of_body = set(map(id, model.body.parameters()))
        rest = [p for p in model.parameters() if id(p) not in of_body]
    for decay, part in (
        (recipe.weight_decay, [p for p in rest if p.ndim > 1]),
        (0.0, [p for p in rest if p.ndim <= 1]),
    ):
        groups.append({"params": part, "weight_decay": decay, "lr_scale": 1.0})
    return groups


def learning_rate(
    recipe: Recipe, phases: tuple[Phase, ...], step: int, steps_per_epoch: int, drops: int = 0
) -> float:
    """Learning rate of the head at an optimizer step (0-based); `drops` are plateau's so far."""
    epoch = step // steps_per_epoch
    peak = recipe.lr * phase_at(phases, epoch).factor
    if recipe.schedule == "plateau":
        return peak * recipe.step_factor**drops
    if recipe.schedule == "step":
        return peak * recipe.step_factor ** (epoch_of_phase(phases, epoch) // recipe.step_epochs)
    return peak * lr_factor(recipe, step / max(1, recipe.epochs * steps_per_epoch - 1))


def lr_factor(recipe: Recipe, done: float) -> float:
    """Learning rate relative to its peak when a share `done` (0…1) of the steps is behind.

    "one_cycle" (Smith 2018, arXiv:1803.09820) starts at 1/25 and ends at nothing, both ways along
    a cosine; "cosine" warms up linearly.
    """
    if recipe.schedule == "constant":
        return 1.0
    rising = done / recipe.warmup if recipe.warmup and done < recipe.warmup else 1.0
    if rising < 1.0:
        if recipe.schedule == "cosine":
            return max(rising, 0.01)
        return 0.04 + 0.96 * (1 - math.cos(math.pi * rising)) / 2
    falling = (done - recipe.warmup) / max(1e-9, 1 - recipe.warmup)
    return max(1e-4, (1 + math.cos(math.pi * min(1.0, falling))) / 2)


def momentum_at(recipe: Recipe, done: float) -> float:
    """Momentum (Adam's first beta) when a share `done` (0…1) of the steps is behind.

    It falls from .95 to .85 while the rate rises, and rises while that falls (Smith 2018,
    arXiv:1803.09820), as torch's `OneCycleLR` has it.
    """
    warmup = max(recipe.warmup, 1e-9)
    lowest = done / warmup if done < warmup else 1 - (done - warmup) / max(1e-9, 1 - warmup)
    return 0.95 - 0.1 * (1 - math.cos(math.pi * lowest)) / 2
