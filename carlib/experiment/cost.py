"""What a training costs before it is run: operations counted, time by what a device is worth.

An estimate, and marked as one wherever it is shown: the operations are those of the network alone,
and a device reaches only a share of what its maker promises.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from carlib.experiment.network import make_network
from carlib.experiment.recipe import Recipe
from carlib.models.freezing import parse_plan, phase_at, phase_count, rescaled
from carlib.models.networks import count_flops

BACKWARD = 2  # times the operations of the forward pass
STANFORD_CARS = (7330, 196)  # photos and classes to learn, by which costs are estimated


@dataclass(frozen=True)
class Device:
    """A kind of machine: what its maker promises, and what trainings get of it."""

    name: str
    tflops: float  # promised, 10¹² operations a second in half precision
    share: float = 0.2  # of that; small networks at batch 64 seldom see more


# NVIDIA's data sheets, dense half precision; the CPU as measured with ResNet-18 at 128 px.
DEVICES = {
    "T4": Device("T4", 65.0),
    "L4": Device("L4", 121.0),
    "A100": Device("A100", 312.0),
    "H100": Device("H100", 989.0),
    "2 CPU cores": Device("2 CPU cores", 0.24, share=1.0),
}


def training_flops(recipe: Recipe, photos: int, num_classes: int) -> float:
    """Operations of a whole training on `photos` photos: forward, and backward where it learns.

    A frozen body is asked without a way back, and only once where photos are not varied.
    """
    forward = photo_flops(recipe.model, recipe.head, recipe.size, recipe.grayscale, num_classes)
    if recipe.sees_the_same:
        return float(forward * photos)
    passes = 0.0
    for epoch in range(recipe.epochs):
        phase = phase_at(parse_plan(recipe.plan, recipe.epochs), epoch)
        pixels = (recipe.size_at(epoch) / recipe.size) ** 2
        passes += pixels * (1 if phase.part == "head" else 1 + BACKWARD)
    return forward * photos * passes


def seconds_on(device: Device, flops: float) -> float:
    """How long that many operations take there."""
    return flops / (device.tflops * 1e12 * device.share)


@functools.cache
def photo_flops(model: str, head: str, size: int, grayscale: bool, num_classes: int) -> int:
    """Operations for one photo, forward; no memory is taken to count them."""
    recipe = Recipe(model=model, head=head, grayscale=grayscale)
    with torch.device("meta"):
        network = make_network(recipe, num_classes)
    return count_flops(network, size, 1 if grayscale else 3)


def within(recipe: Recipe, seconds: float, photos: int, num_classes: int) -> Recipe:
    """The recipe, or a variant of as many epochs as a T4 has time for, by estimate; one at least
    for each phase.

    The schedule is stretched over the epochs that are left, phases keep their shares.
    """
    needed = seconds_on(DEVICES["T4"], training_flops(recipe, photos, num_classes))
    if needed <= seconds or recipe.epochs == 1:
        return recipe
    epochs = max(phase_count(recipe.plan), int(recipe.epochs * seconds / needed))
    stretched: dict[str, object] = {"epochs": epochs, "plan": rescaled(recipe.plan, epochs)}
    if recipe.schedule == "step":
        stretched["step_epochs"] = max(1, round(recipe.step_epochs * epochs / recipe.epochs))
    return recipe.variant(**stretched)
