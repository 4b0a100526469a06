"""Where does a network look? Heat maps by the grad-cam library, laid where they belong.

A map is (side, side) float32 in 0…1 over the square that the network saw, the framed photo; the
photo's own pixels are reached by `Framing.undo`. Networks get photos in 0…1 and normalize them
themselves with the statistics they were trained with (`Scorer`), so that nothing is ever scaled
back by the wrong ones. Whether a map can be believed is `carlib.explain.faithfulness`'s question.

Sources: Grad-CAM (Selvaraju 2017, arXiv:1610.02391), Grad-CAM++ (Chattopadhay 2018,
arXiv:1710.11063), Layer-CAM (Jiang 2021), Eigen-CAM (Muhammad 2020, arXiv:2008.00299), Score-CAM
(Wang 2020, arXiv:1910.01279), all as pytorch-grad-cam has them (Gildenblat 2021).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from carlib.errors import RunError
from carlib.evaluation.scorer import Scorer
from carlib.models.networks import Classifier

METHODS = {
    "Grad-CAM": "GradCAM",
    "Grad-CAM++": "GradCAMPlusPlus",
    "Layer-CAM": "LayerCAM",
    "Eigen-CAM": "EigenCAM",
    "Score-CAM": "ScoreCAM",
}
_NO_PLACE_FOR_A_MAP = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Dropout, nn.Identity)


# --- where maps are taken -----------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A module whose output has a place for every part of the photo."""

    name: str  # below the network, as `get_submodule` takes it
    module: nn.Module
    reshape: Callable[[torch.Tensor], torch.Tensor] | None = None  # to (batch, channels, h, w)


def target_layer(network: Classifier, size: int, channels: int = 3, name: str = "") -> Layer:
    """The layer called `name`, or the last one before the pooling whose output is a map.

    Of a transformer it is the norm at the entry of the last block: behind it only the class token
    decides. `size` is the side of its photos in pixels. Raises `RunError` listing where maps can be
    taken when there is no such layer, or none with a map.
    """
    blocks = getattr(network.body, "blocks", None)
    if not name and hasattr(network.body, "num_prefix_tokens") and blocks is not None:
        name = f"body.blocks.{len(blocks) - 1}.norm1"
    layers = _layers(network, size, channels)
    if not layers:
        raise RunError(f"{type(network.body).__name__}: no layer's output is a map of the photo")
    if name and name not in layers:
        names = list(layers)
        shown = ", ".join(dict.fromkeys([*names[:3], "…", *names[-9:]]))
        raise RunError(f"no map can be taken at layer {name!r}; layers that have one: {shown}")
    name = name or [n for n, (_, usual) in layers.items() if usual][-1]
    return Layer(name, network.get_submodule(name), layers[name][0])


@torch.no_grad()
def _layers(
    network: Classifier, size: int, channels: int
) -> dict[str, tuple[Callable | None, bool]]:
    """Layers whose output is a map, in the order in which they finish: how it is reshaped, and
    whether it would do as the default.
    """
    layers: dict[str, tuple[Callable | None, bool]] = {}

    def watch(name: str, module: nn.Module):
        def hook(_, __, output):
            if not isinstance(output, torch.Tensor):
                return
            reshape = _tokens_to_map(network.body, output)
            if (output.ndim == 4 and min(output.shape[2:]) > 1) or reshape:
                usual = not isinstance(module, _NO_PLACE_FOR_A_MAP)
                layers.pop(name, None)  # a module that is used twice ends where it ends last
                layers[name] = (reshape, usual)

        return module.register_forward_hook(hook)

    hooks = [watch(f"body.{name}", module) for name, module in network.body.named_modules() if name]
    like = next(network.parameters())
    try:
        photo = torch.zeros(1, channels, size, size, dtype=like.dtype, device=like.device)
        network.eval().features(photo)
    finally:
        for hook in hooks:
            hook.remove()
    return layers


def _tokens_to_map(body: nn.Module, output: torch.Tensor) -> Callable | None:
    """For tokens (batch, prefix + n², channels) what makes them (batch, channels, n, n)."""
    prefix = getattr(body, "num_prefix_tokens", None)
    if prefix is None or output.ndim != 3:
        return None
    side = round((output.shape[1] - prefix) ** 0.5)
    if side < 2 or side**2 != output.shape[1] - prefix:
        return None
    return lambda tokens: tokens[:, prefix:].unflatten(1, (side, side)).permute(0, 3, 1, 2)


# --- maps ---------------------------------------------------------------------------------------


class _Embeds(nn.Module):
    """What the library explains when two photos are compared."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.scorer.embed(photos)


def heat_maps(
    scorer: Scorer,
    photos: torch.Tensor,
    classes: Sequence[int],
    method: str = "Grad-CAM",
    layer: str = "",
    against: Sequence[int] | None = None,
    batch_size: int = 16,
) -> np.ndarray:
    """What speaks for a class in every photo: maps (photos, side, side) float32 in 0…1.

    `photos` (photos, 3, side, side) in 0…1, one class number each, and one that it is held
    `against` if given: then what speaks for the first and not for the other (Prabhushankar 2020,
    arXiv:2008.00178). Raises `RunError` for unknown methods and layers.
    """
    if against is None:
        targets = [lambda output, number=int(number): output[number] for number in classes]
    else:
        targets = [
            lambda output, number=int(number), rival=int(rival): output[number] - output[rival]
            for number, rival in zip(classes, against, strict=True)
        ]
    return _maps_of(scorer, scorer, photos, targets, method, layer, batch_size)


def similarity_maps(
    scorer: Scorer, photos: torch.Tensor, others: torch.Tensor, layer: str = ""
) -> np.ndarray:
    """What in each photo makes it like another: maps (photos, side, side) float32 in 0…1.

    Grad-CAM of the cosine of both embeddings, with the other photo's held still (Stylianou 2019,
    arXiv:1901.00536). Swap the two to see the other side.
    """
    with torch.no_grad():
        fixed = scorer.embed(others.to(scorer.device))
    targets = [lambda output, other=other: (output * other).sum() for other in fixed]
    return _maps_of(scorer, _Embeds(scorer), photos, targets, "Grad-CAM", layer, 16)


def _maps_of(scorer, model, photos, targets, method: str, layer: str, batch_size: int):
    where = target_layer(scorer.network, photos.shape[-1], scorer.channels, layer)
    return maps_at(model, where, photos, targets, method, batch_size)


def maps_at(
    model: nn.Module,
    layer: Layer,
    photos: torch.Tensor,
    targets: Sequence[Callable[[torch.Tensor], torch.Tensor]],
    method: str = "Grad-CAM",
    batch_size: int = 16,
) -> np.ndarray:
    """Maps (photos, side, side) float32 in 0…1 by any module that takes photos, at a layer of it.

    A target makes of what the module says of its photo the number that is explained. Raises
    `RunError` for an unknown method, and for photos that are none or lack a target.
    """
    import pytorch_grad_cam

    if method not in METHODS:
        raise RunError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if photos.ndim != 4 or photos.shape[1] != 3 or len(photos) != len(targets) or not targets:
        raise RunError(
            f"maps need photos (photos, 3, side, side) and a class each, not "
            f"{tuple(photos.shape)} and {len(targets)}"
        )
    device = next(model.parameters()).device
    kind = getattr(pytorch_grad_cam, METHODS[method])
    cam = kind(model=model, target_layers=[layer.module], reshape_transform=layer.reshape)
    cam.batch_size = batch_size
    # Score-CAM draws a bar for each photo. The others leave stderr alone, which threads share.
    noisy = method == "Score-CAM"
    quiet = contextlib.redirect_stderr(io.StringIO()) if noisy else contextlib.nullcontext()
    maps = []
    try:  # not `with cam`, which swallows an IndexError
        for start in range(0, len(photos), batch_size):
            # With a gradient asked of the photos there is one at every layer, frozen or not.
            part = photos[start : start + batch_size].to(device).requires_grad_(True)
            with quiet:
                maps.append(cam(input_tensor=part, targets=targets[start : start + batch_size]))
    finally:
        cam.activations_and_grads.release()
    return np.nan_to_num(np.concatenate(maps)).astype(np.float32)
