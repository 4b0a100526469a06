"""Photos on their way to the network: augmented on the CPU or on the GPU, or as they are.

Both training loaders are asked for an epoch's batches by position and give float photos on the
device. Neither remembers anything between epochs: what a photo looks like follows from (seed,
epoch, step).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from carlib.data.store import PhotoStore
from carlib.data.transforms import cpu_pipeline, gpu_pipeline, preset
from carlib.evaluation.features import Features
from carlib.experiment.recipe import Recipe
from carlib.runtime import one_thread_a_photo
from carlib.seeding import seed_of, set_seed


def make_loader(
    store: PhotoStore,
    used: np.ndarray,
    recipe: Recipe,
    device: torch.device,
    workers: int | None = None,
) -> CpuLoader | GpuLoader:
    """The loader that a recipe asks for; `used` are the positions of the training photos."""
    wanted = recipe.augment_on
    if wanted == "auto":
        wanted = "gpu" if device.type == "cuda" else "cpu"
    if wanted == "gpu":
        return GpuLoader(store, recipe, device, used)
    if workers is None:  # on a CPU, a worker needs a core that the network does not
        workers = 4 if device.type == "cuda" else min(1, (os.cpu_count() or 1) // 4)
    return CpuLoader(store, recipe, device, workers)


class TrainingPhotos(Dataset):
    """Batches of augmented uint8 photos; asked for by (positions, side, seed), hence stateless."""

    def __init__(self, store: PhotoStore, recipe: Recipe) -> None:
        self.store, self.recipe = store, recipe
        self._pipelines: dict[int, Any] = {}

    def __getitem__(self, ticket: tuple[np.ndarray, int, int]) -> torch.Tensor:
        """Photos (batch, size, size, 3) uint8."""
        positions, size, seed = ticket
        one_thread_a_photo()  # in a worker process too
        if size not in self._pipelines:
            self._pipelines[size] = cpu_pipeline(preset(self.recipe.augment), size)
        photos = (np.asarray(self.store.pixels[position]) for position in positions)
        return torch.from_numpy(self._pipelines[size](photos, seed))


class CpuLoader:
    """Augments in worker processes (albumentations) and hands over uint8 batches."""

    def __init__(self, store: PhotoStore, recipe: Recipe, device: torch.device, workers: int):
        self.device, self.seed, self.recipe = device, recipe.seed, recipe
        self.tickets: list[tuple[np.ndarray, int, int]] = []
        self.loader = DataLoader(
            TrainingPhotos(store, recipe),
            batch_size=None,  # a ticket is a whole batch
            sampler=self.tickets,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
        )

    def epoch(self, epoch: int, batches: list[np.ndarray]) -> Iterator[torch.Tensor]:
        """Photos (batch, 3, size, size) in 0…1 on the device, one item per batch."""
        size = self.recipe.size_at(epoch)
        self.tickets[:] = [
            (positions, size, seed_of(self.seed, epoch, step, 1))
            for step, positions in enumerate(batches)
        ]
        for photos in self.loader:
            photos = photos.to(self.device, non_blocking=True)
            yield photos.permute(0, 3, 1, 2).float().div_(255)


class GpuLoader:
    """Holds every training photo on the GPU as uint8 and augments there (kornia)."""

    def __init__(self, store: PhotoStore, recipe: Recipe, device: torch.device, used: np.ndarray):
        self.device, self.recipe = device, recipe
        self.where = np.full(len(store.pixels), -1)
        self.where[used] = np.arange(len(used))
        self.pixels = torch.from_numpy(np.ascontiguousarray(store.pixels[used])).to(device)
        self._pipelines: dict[int, torch.nn.Module] = {}

    def epoch(self, epoch: int, batches: list[np.ndarray]) -> Iterator[torch.Tensor]:
        """Photos (batch, 3, size, size) in 0…1 on the device, one item per batch."""
        size = self.recipe.size_at(epoch)
        if size not in self._pipelines:
            self._pipelines[size] = gpu_pipeline(preset(self.recipe.augment), size)
        for step, positions in enumerate(batches):
            rows = torch.from_numpy(self.where[positions]).to(self.device)
            photos = self.pixels[rows].permute(0, 3, 1, 2).float().div_(255)
            set_seed(seed_of(self.recipe.seed, epoch, step, 1), self.device)
            yield self._pipelines[size](photos)


class FeatureLoader:
    """Hands over features where other loaders hand over photos."""

    def __init__(self, features: Features) -> None:
        self.features = features

    def epoch(self, epoch: int, batches: list[np.ndarray]) -> Iterator[torch.Tensor]:
        """Features (batch, dims) on their device, one item per batch."""
        return (self.features.of(positions) for positions in batches)
