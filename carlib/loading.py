"""Photos on their way to the network: augmented on the CPU or on the GPU, or as they are.

Both training loaders are asked for an epoch's batches by position and give float photos on the
device. Neither remembers anything between epochs: what a photo looks like follows from (seed,
epoch, step).
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from carlib.augment import cpu_pipeline, gpu_pipeline, preset
from carlib.photos import PhotoStore, resize
from carlib.recipes import Recipe
from carlib.sampling import seed_of


def make_loader(
    store: PhotoStore,
    used: np.ndarray,
    chosen: Recipe,
    device: torch.device,
    workers: int | None = None,
) -> CpuLoader | GpuLoader:
    """The loader that a recipe asks for; `used` are the positions of the training photos."""
    wanted = chosen.augment_on
    if wanted == "auto":
        wanted = "gpu" if device.type == "cuda" else "cpu"
    if wanted == "gpu":
        return GpuLoader(store, chosen, device, used)
    if workers is None:  # on a CPU, a worker needs a core that the network does not
        workers = 4 if device.type == "cuda" else min(1, (os.cpu_count() or 1) // 4)
    return CpuLoader(store, chosen, device, workers)


class TrainingPhotos(Dataset):
    """Batches of augmented uint8 photos; asked for by (positions, side, seed), hence stateless."""

    def __init__(self, store: PhotoStore, chosen: Recipe) -> None:
        self.store, self.recipe = store, chosen
        self._pipelines: dict[int, Any] = {}

    def __getitem__(self, ticket: tuple[np.ndarray, int, int]) -> torch.Tensor:
        """Photos (batch, size, size, 3) uint8."""
        positions, size, seed = ticket
        if size not in self._pipelines:
            self._pipelines[size] = cpu_pipeline(preset(self.recipe.augment), size)
        photos = (np.asarray(self.store.pixels[position]) for position in positions)
        return torch.from_numpy(self._pipelines[size](photos, seed))


class CpuLoader:
    """Augments in worker processes (albumentations) and hands over uint8 batches."""

    def __init__(self, store: PhotoStore, chosen: Recipe, device: torch.device, workers: int):
        self.device, self.seed, self.recipe = device, chosen.seed, chosen
        self.tickets: list[tuple[np.ndarray, int, int]] = []
        self.loader = DataLoader(
            TrainingPhotos(store, chosen),
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

    def __init__(self, store: PhotoStore, chosen: Recipe, device: torch.device, used: np.ndarray):
        self.device, self.recipe = device, chosen
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


def scoring_photos(
    store: PhotoStore, positions: np.ndarray, size: int, device: torch.device, batch_size: int = 128
) -> Iterator[torch.Tensor]:
    """Photos (batch, 3, size, size) in 0…1 on the device, unchanged, in the order asked for."""
    keep_freed_memory(device)
    for start in range(0, len(positions), batch_size):
        pixels = store.pixels[positions[start : start + batch_size]]
        if size != pixels.shape[1]:
            pixels = np.stack([resize(photo, size, size) for photo in pixels])
        photos = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
        yield photos.permute(0, 3, 1, 2).float().div_(255)


def set_seed(seed: int, device: torch.device) -> None:
    """Seed what draws on a device; `torch.manual_seed` without CUDA costs a millisecond each time.

    (It formats a stack trace, in case CUDA is initialized later and the seeding fails then.)
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@functools.cache
def keep_freed_memory(device: torch.device) -> bool:
    """Have the C library keep what it frees while the CPU computes; true where that was possible.

    glibc gives every large block back to the kernel at once, and each step of a network asks for
    the same blocks again, page by page of zeros: half the time of a training step on two cores.
    The price is that memory in use stays at its peak. Source: mallopt(3).
    """
    if device.type != "cpu":
        return False
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows, musl: another allocator
        return False
    return bool(mallopt(m_mmap_max, 0) and mallopt(m_trim_threshold, 2**31 - 1))
