"""Which part of a network learns when: freezing plans as data.

A plan is a few phases, written `part:epochs:factor` one after the other. A part is "head", "all",
or the name of a module of the body from which on, up to the head, everything learns. The factor
multiplies the learning rate.

    head:5:1 all:5:0.1                                         two stages (study S3, ResNet-50)
    head:4:1 features.denseblock4:3:0.5 features.denseblock3:3:0.1     progressive (DenseNet-121)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from carlib.errors import RecipeError
from carlib.models.networks import Classifier


@dataclass(frozen=True)
class Phase:
    """Some epochs in which one part learns."""

    part: str
    epochs: int
    factor: float


def parse_plan(text: str, epochs: int) -> tuple[Phase, ...]:
    """The phases of a plan; an empty plan lets everything learn in every epoch.

    A single part without epochs holds for all of them. Raises `RecipeError` for a phase that cannot
    be read and for phases that do not add up to `epochs`.
    """
    if ":" not in text:
        return (Phase(text or "all", epochs, 1.0),)
    phases = []
    for written in text.split():
        try:
            part, count, factor = written.split(":")
            phases.append(Phase(part, int(count), float(factor)))
        except ValueError:
            raise RecipeError(
                f"plan: {written!r} is no phase; write part:epochs:factor, such as head:5:1"
            ) from None
    if sum(phase.epochs for phase in phases) != epochs or min(p.epochs for p in phases) < 1:
        counts = " + ".join(str(phase.epochs) for phase in phases)
        raise RecipeError(f"plan: phases of {counts} epochs in a recipe of {epochs} epochs")
    return tuple(phases)


def phase_count(text: str) -> int:
    """How many phases a plan has, and so how many epochs it needs."""
    return max(1, len(text.split()))


def rescaled(text: str, epochs: int) -> str:
    """A plan on another number of epochs: shares kept, at least one epoch for each phase.

    Raises `RecipeError` where there are fewer epochs than phases.
    """
    if ":" not in text:
        return text
    parts = [written.split(":") for written in text.split()]
    if epochs < len(parts):
        raise RecipeError(f"plan: {len(parts)} phases need as many epochs, not {epochs}")
    whole = sum(int(count) for _, count, _ in parts)
    counts = [max(1, round(int(count) * epochs / whole)) for _, count, _ in parts]
    counts[-1] = max(1, counts[-1] + epochs - sum(counts))
    while sum(counts) > epochs:
        counts[counts.index(max(counts))] -= 1
    return " ".join(
        f"{part}:{count}:{factor}" for (part, _, factor), count in zip(parts, counts, strict=True)
    )


def phase_at(phases: tuple[Phase, ...], epoch: int) -> Phase:
    """The phase that an epoch (0-based) belongs to."""
    for phase in phases:
        if epoch < phase.epochs:
            return phase
        epoch -= phase.epochs
    return phases[-1]


def epoch_of_phase(phases: tuple[Phase, ...], epoch: int) -> int:
    """How many epochs of its own phase lie before an epoch (0-based)."""
    for phase in phases:
        if epoch < phase.epochs:
            break
        epoch -= phase.epochs
    return epoch


def set_trainable(model: nn.Module, part: str) -> None:
    """Let a part and everything above it learn; what is frozen also scores as in evaluation.

    So batch norm keeps the statistics that its frozen weights were trained with. Raises
    `RecipeError` when the body has no such module, naming those that it has.
    """
    if part == "all":
        model.train().requires_grad_(True)
        return
    body = _body(model)
    names = [name for name, _ in body.named_modules() if name]
    if part != "head" and part not in names:
        tops = ", ".join(name for name in names if name.count(".") < 2)
        raise RecipeError(f"plan: the network has no part {part!r}; its parts are: {tops}")
    model.train().requires_grad_(True)
    body.eval().requires_grad_(False)
    later = names[names.index(part) :] if part != "head" else []
    for name in later:
        module = body.get_submodule(name)
        module.train()
        module.requires_grad_(True)


def keep_statistics(model: nn.Module) -> None:
    """Have batch norms use the statistics they have, and change them no more."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _body(model: nn.Module) -> nn.Module:
    if not isinstance(model, Classifier):
        raise RecipeError(f"plan: {type(model).__name__} has no body that could be frozen")
    return model.body
