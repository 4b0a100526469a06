"""Photos on their way to the network: augmented on the CPU or on the GPU, or as they are.

Both training loaders are asked for an epoch's batches by position, and for which places of each are
this process's share; they give float photos on the device. Neither remembers anything between
epochs: what a photo looks like follows from (seed, epoch, step) and its place in the batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from carlib.data.store import PhotoStore
from carlib.data.transforms import as_floats, cpu_pipeline, for_gpu, gpu_pipeline, preset
from carlib.errors import RunError
from carlib.evaluation.features import Features
from carlib.experiment.recipe import Recipe
from carlib.runtime import cores, one_thread_a_photo
from carlib.seeding import seed_of

Share = Callable[[int], np.ndarray]  # from the size of a batch to a process's places in it
FOR_NETWORK, LEAST_FOR_NETWORK = 0.4, 4 * 2**30  # of a GPU's memory: a share, and bytes
CHUNK = 1024  # photos copied to a GPU at a time


def make_loader(
    store: PhotoStore,
    used: np.ndarray,
    recipe: Recipe,
    device: torch.device,
    workers: int | None = None,
) -> CpuLoader | GpuLoader:
    """The loader that a recipe asks for; `used` are the positions of the training photos."""
    on_gpu = device.type == "cuda"
    wanted = recipe.augment_on
    if wanted == "auto":
        wanted = "gpu" if on_gpu and for_gpu(preset(recipe.augment)) else "cpu"
        if on_gpu and wanted == "cpu":
            warnings.warn(
                "photos are augmented on the CPU, which is slower: the GPU needs kornia, "
                "pip install 'carlib[gpu]'",
                stacklevel=2,
            )
    if workers is None:  # on a CPU, a worker needs a core that the network does not
        workers = min(4, cores()) if on_gpu else min(1, cores() // 4)
    if wanted == "gpu":
        return GpuLoader(store, recipe, device, used, workers)
    return CpuLoader(store, recipe, device, workers)


def in_order(count: int) -> np.ndarray:
    """All places of a batch: the share of a process that is alone."""
    return np.arange(count)


class TrainingPhotos(Dataset):
    """Batches of uint8 photos, augmented or as they are kept; stateless, as a ticket says all:
    (positions, side, seed, places), or positions alone.
    """

    def __init__(self, store: PhotoStore, recipe: Recipe) -> None:
        self.store, self.recipe = store, recipe
        self._pipelines: dict[int, Any] = {}

    def __getitem__(self, ticket: Any) -> torch.Tensor:
        """Photos (batch, size, size, 3) uint8."""
        if isinstance(ticket, np.ndarray):
            return torch.from_numpy(np.asarray(self.store.pixels[ticket]))
        positions, size, seed, places = ticket
        one_thread_a_photo()  # in a worker process too
        if size not in self._pipelines:
            self._pipelines[size] = cpu_pipeline(preset(self.recipe.augment), size)
        photos = (np.asarray(self.store.pixels[position]) for position in positions)
        return torch.from_numpy(self._pipelines[size](photos, seed, places))


class Stream:
    """Batches on the device, made ahead by worker processes and pinned for a GPU."""

    def __init__(self, photos: Dataset, device: torch.device, workers: int) -> None:
        self.device, self.tickets = device, []
        self.loader = DataLoader(
            photos,
            batch_size=None,  # a ticket is a whole batch
            sampler=self.tickets,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
        )

    def of(self, tickets: Iterable[Any]) -> Iterator[torch.Tensor]:
        """What the tickets ask for, photos (batch, h, w, 3) uint8."""
        self.tickets[:] = tickets
        return (photos.to(self.device, non_blocking=True) for photos in self.loader)


@contextmanager
def workers_may_end() -> Iterator[None]:
    """Say in words that a worker process was killed: torch raises that wherever it hears of it."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError(
            "a process that reads photos was ended, often for want of memory; the same command "
            "goes on after the last finished epoch (with workers=0 there are no such processes)"
        ) from error


class CpuLoader:
    """Augments in worker processes (albumentations) and hands over uint8 batches."""

    def __init__(self, store: PhotoStore, recipe: Recipe, device: torch.device, workers: int):
        self.recipe = recipe
        self.stream = Stream(TrainingPhotos(store, recipe), device, workers)

    def epoch(
        self, epoch: int, batches: Sequence[np.ndarray], share: Share = in_order
    ) -> Iterator[torch.Tensor]:
        """Photos (share, 3, size, size) in 0…1 on the device, one item per batch."""
        size, tickets = self.recipe.size_at(epoch), []
        for step, positions in enumerate(batches):
            places = share(len(positions))
            seed = seed_of(self.recipe.seed, epoch, step, 1)
            tickets.append((positions[places], size, seed, places))
        return map(as_floats, self.stream.of(tickets))


class GpuLoader:
    """Augments on the GPU (kornia), where the photos lie if there is room for all of them."""

    def __init__(
        self,
        store: PhotoStore,
        recipe: Recipe,
        device: torch.device,
        used: np.ndarray,
        workers: int = 0,
    ):
        self.device, self.recipe = device, recipe
        self._pipelines: dict[int, Any] = {}
        self.pixels = None
        if len(used) * store.pixels[0].nbytes <= room_for_photos(device):
            self.where = np.full(len(store.pixels), -1)
            self.where[used] = np.arange(len(used))
            self.pixels = _copied(store.pixels, used, device)
        else:
            self.stream = Stream(TrainingPhotos(store, recipe), device, workers)

    def epoch(
        self, epoch: int, batches: Sequence[np.ndarray], share: Share = in_order
    ) -> Iterator[torch.Tensor]:
        """Photos (share, 3, size, size) in 0…1 on the device, one item per batch."""
        size = self.recipe.size_at(epoch)
        if size not in self._pipelines:
            self._pipelines[size] = gpu_pipeline(preset(self.recipe.augment), size)
        shares = [share(len(positions)) for positions in batches]
        own = [positions[places] for positions, places in zip(batches, shares, strict=True)]
        for step, photos in enumerate(self._stored(own)):
            seed = seed_of(self.recipe.seed, epoch, step, 1)
            whole = len(batches[step])
            yield self._pipelines[size](as_floats(photos), seed, shares[step], whole)

    def _stored(self, shares: list[np.ndarray]) -> Iterator[torch.Tensor]:
        """Photos (share, h, w, 3) uint8 on the device, as they are kept."""
        if self.pixels is None:
            return self.stream.of(shares)
        rows = (torch.from_numpy(self.where[positions]) for positions in shares)
        return (self.pixels[some.to(self.device)] for some in rows)


def room_for_photos(device: torch.device) -> float:
    """Bytes of a GPU's memory that photos may take: what is free, less what a network needs.

    Nothing on a CPU, which reads them from the store as well.
    """
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()  # of an earlier training in this process
    free, total = torch.cuda.mem_get_info(device)
    return free - max(FOR_NETWORK * total, LEAST_FOR_NETWORK)


def _copied(pixels: np.ndarray, used: np.ndarray, device: torch.device) -> torch.Tensor:
    """Some photos on the device, copied a few at a time: main memory may be the smaller one."""
    copy = torch.empty((len(used), *pixels.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, len(used), CHUNK):
        few = np.asarray(pixels[used[start : start + CHUNK]])
        copy[start : start + CHUNK] = torch.from_numpy(few).to(device)
    return copy


class FeatureLoader:
    """Hands over features where other loaders hand over photos."""

    def __init__(self, features: Features) -> None:
        self.features = features

    def epoch(
        self, epoch: int, batches: Sequence[np.ndarray], share: Share = in_order
    ) -> Iterator[torch.Tensor]:
        """Features (share, dims) on their device, one item per batch."""
        return (self.features.of(positions[share(len(positions))]) for positions in batches)
