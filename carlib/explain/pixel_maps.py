"""Heat maps that need no layer: by the gradient at the pixels, and by covering them.

Sources: gradient (Simonyan 2014, arXiv:1312.6034), gradient times input (Shrikumar 2016,
arXiv:1605.01713), occlusion (Zeiler 2014, arXiv:1311.2901).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from carlib.errors import RunError

PIXEL_METHODS = ("Gradient", "Gradient × input", "Occlusion")
PATCHES = 8  # occlusion: so many patches cover a side
BATCH = 64


def pixel_maps(
    model: nn.Module, photos: torch.Tensor, classes: np.ndarray, method: str
) -> np.ndarray:
    """What speaks for some classes in every photo: (photos, classes, side, side) float32 in 0…1.

    `photos` (photos, 3, side, side) in 0…1, `classes` (photos, classes) their numbers. Raises
    `RunError` for an unknown method.
    """
    if method not in PIXEL_METHODS:
        raise RunError(f"unknown method {method!r}; known: {', '.join(PIXEL_METHODS)}")
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(photos), BATCH):
        part = photos[start : start + BATCH].to(device)
        numbers = torch.from_numpy(np.asarray(classes[start : start + BATCH], np.int64)).to(device)
        ask = _occlusion if method == "Occlusion" else _by_gradient
        parts.append(ask(model, part, numbers, method).clamp_min(0).cpu())
    maps = torch.cat(parts)
    return (maps / maps.amax((2, 3), keepdim=True).clamp_min(1e-12)).numpy().astype(np.float32)


def _by_gradient(
    model: nn.Module, photos: torch.Tensor, classes: torch.Tensor, method: str
) -> torch.Tensor:
    maps = []
    for numbers in classes.T:
        leaf = photos.clone().requires_grad_(True)
        logits = model(leaf).gather(1, numbers[:, None]).sum()
        (slope,) = torch.autograd.grad(logits, leaf)
        maps.append(slope.abs().amax(1) if method == "Gradient" else (slope * photos).sum(1))
    return torch.stack(maps, 1)


@torch.no_grad()
def _occlusion(
    model: nn.Module, photos: torch.Tensor, classes: torch.Tensor, method: str
) -> torch.Tensor:
    """By how much each class's logit falls when a patch takes the photo's mean color."""
    side = photos.shape[-1]
    edges = np.linspace(0, side, PATCHES + 1).round().astype(int)
    grey = photos.mean((2, 3), keepdim=True)
    whole, drops = model(photos).gather(1, classes), []
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            covered = photos.clone()
            covered[:, :, top:bottom, left:right] = grey
            drops.append(whole - model(covered).gather(1, classes))
    grid = torch.stack(drops, 2).unflatten(2, (PATCHES, PATCHES))
    return F.interpolate(grid, (side, side), mode="bilinear", align_corners=False)
