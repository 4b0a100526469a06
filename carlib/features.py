"""Pooled features of a whole data set, computed once and kept.

A frozen body says the same about the same photo in every epoch, so its head can train on what it
said: one pass over the photos instead of one per epoch, and none for the next head.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from tqdm.auto import tqdm

from carlib.errors import RunError
from carlib.files import load_tensors, save_tensors
from carlib.loading import scoring_photos
from carlib.models import Classifier
from carlib.paths import cache_root, file_name
from carlib.photos import PhotoStore
from carlib.processes import all_say, is_main, share, together
from carlib.recipes import Recipe


@dataclass(frozen=True)
class Features:
    """Features (photos, dims) float32, one row for each of some photos of a store."""

    values: torch.Tensor
    positions: np.ndarray  # of the photos in their store, ascending
    seconds: float  # what computing them took, even when they were found in the cache

    def of(self, positions: np.ndarray) -> torch.Tensor:
        """The features of some photos, (photos, dims), in the order of their store positions."""
        rows = np.searchsorted(self.positions, positions)
        return self.values[torch.from_numpy(rows).to(self.values.device)]


def says_the_same(chosen: Recipe, model: torch.nn.Module) -> bool:
    """Whether this network's features of a photo never change while the recipe is trained.

    A network with more than a head on its body (InceptionV3's auxiliary one) needs the photos.
    """
    return chosen.sees_the_same and type(model) is Classifier


def joined(parts: Sequence[Features]) -> Features:
    """Features of several splits as one; no photo may be in two of them."""
    positions = np.concatenate([part.positions for part in parts])
    order = np.argsort(positions)
    values = torch.cat([part.values for part in parts])[torch.from_numpy(order)]
    return Features(values, positions[order], sum(part.seconds for part in parts))


class FeatureLoader:
    """Hands over features where other loaders hand over photos."""

    def __init__(self, features: Features) -> None:
        self.features = features

    def epoch(self, epoch: int, batches: list[np.ndarray]) -> Iterator[torch.Tensor]:
        """Features (batch, dims) on their device, one item per batch."""
        return (self.features.of(positions) for positions in batches)


def pooled_features(
    model: Classifier,
    store: PhotoStore,
    positions: np.ndarray,
    normalize: torch.nn.Module,
    size: int,
    device: torch.device,
    progress: bool = True,
    mirror: bool = False,
) -> Features:
    """Features of the photos at `positions`, on `device`, from the cache when it has them.

    With `mirror` they are the mean of those of a photo and of its mirror image.
    The cache knows the photos by the store's key (their bytes and framing) and side, the network by
    its weights. Of several processes that ask by chance one computes and the others wait; those
    that were started together share the photos.
    """
    positions = np.sort(positions)
    folder = cache_root() / "features"
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(model, store, positions, normalize, size, mirror)
    path = folder / f"{file_name(store.catalog.name, key)}.safetensors"
    with FileLock(f"{path}.lock") if is_main() else contextlib.nullcontext():
        kept = _kept(path)
        if all_say(kept is not None):
            tensors, about = kept
        else:
            started = time.perf_counter()
            own = share(positions)
            values = _compute(model, store, own, normalize, size, device, progress, mirror)
            values = together(values, len(positions))
            # Half precision: a head learns the same from it, and a million photos take 2.5 GB.
            tensors, about = {"values": values.half()}, {"seconds": time.perf_counter() - started}
            if is_main():
                save_tensors(path, tensors, about)
    return Features(tensors["values"].to(device).float(), positions, about["seconds"])


def _kept(path: Path) -> tuple[dict, dict] | None:
    try:
        return load_tensors(path)
    except RunError:  # not there, or damaged
        return None


@torch.no_grad()
def _compute(model, store, positions, normalize, size, device, progress, mirror) -> torch.Tensor:
    learning = model.training
    model.eval()
    bar = tqdm(total=len(positions), desc="features", unit="photo", disable=not progress)
    found = []
    with bar:
        for photos in scoring_photos(store, positions, size, device):
            features = model.features(normalize(photos))
            if mirror:
                features = (features + model.features(normalize(photos.flip(3)))) / 2
            found.append(features.float().cpu())
            bar.update(len(photos))
    model.train(learning)
    return torch.cat(found)


def _key(model, store, positions, normalize, size, mirror) -> str:
    seen = f"v3|{store.key}|{size}{'|mirror' if mirror else ''}"
    digest = hashlib.sha256(seen.encode())
    digest.update(positions.tobytes())
    for part in (normalize, model.body):
        for name, value in part.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
