"""Pooled features of a whole data set, computed once and kept.

A frozen body says the same about the same photo in every epoch, so its head can train on what it
said: one pass over the photos instead of one per epoch, and none for the next head.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from tqdm.auto import tqdm

from carlib.data.store import PhotoStore
from carlib.distributed import all_agree, all_gather, is_main, shard
from carlib.errors import RunError
from carlib.evaluation.scorer import Scorer, scoring_photos
from carlib.experiment.recipe import Recipe
from carlib.files import load_tensors, made, save_tensors, writing
from carlib.models.networks import Classifier
from carlib.paths import cache_root, file_name
from carlib.runtime import scoring_precision


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


def says_the_same(recipe: Recipe, model: torch.nn.Module) -> bool:
    """Whether this network's features of a photo never change while the recipe is trained.

    A network with more than a head on its body (InceptionV3's auxiliary one) needs the photos.
    """
    return recipe.sees_the_same and type(model) is Classifier


def joined(parts: Sequence[Features]) -> Features:
    """Features of several splits as one; no photo may be in two of them."""
    positions = np.concatenate([part.positions for part in parts])
    order = np.argsort(positions)
    values = torch.cat([part.values for part in parts])[torch.from_numpy(order)]
    return Features(values, positions[order], sum(part.seconds for part in parts))


def pooled_features(
    scorer: Scorer, store: PhotoStore, positions: np.ndarray, progress: bool = True
) -> Features:
    """Features of the photos at `positions`, on the scorer's device, from the cache when it has
    them.

    The cache knows the photos by the store's key (their bytes and framing) and side, the network by
    its weights. Of several processes that ask by chance one computes and the others wait; those
    that were started together share the photos.
    """
    positions = np.sort(positions)
    folder = made(cache_root() / "features")
    key = _key(scorer, store, positions)
    path = folder / f"{file_name(store.catalog.name, key)}.safetensors"
    with writing(path), FileLock(f"{path}.lock") if is_main() else contextlib.nullcontext():
        kept = _kept(path)
        if all_agree(kept is not None):
            tensors, about = kept
        else:
            started = time.perf_counter()
            values = all_gather(_compute(scorer, store, shard(positions), progress), len(positions))
            # Half precision: a head learns the same from it, and a million photos take 2.5 GB.
            tensors = {"values": values.half()}
            seconds = time.perf_counter() - started
            about = {"seconds": seconds, "check_sum": _check_sum(tensors["values"])}
            if is_main():
                save_tensors(path, tensors, about)
    return Features(tensors["values"].to(scorer.device).float(), positions, about["seconds"])


def _kept(path: Path) -> tuple[dict, dict] | None:
    with contextlib.suppress(RunError):  # not there, or cut
        tensors, about = load_tensors(path)
        if about.get("check_sum") == _check_sum(tensors["values"]):
            return tensors, about
    return None


def _check_sum(values: torch.Tensor) -> int:
    return zlib.crc32(values.numpy())


@torch.no_grad()
def _compute(
    scorer: Scorer, store: PhotoStore, positions: np.ndarray, progress: bool
) -> torch.Tensor:
    learning = scorer.network.training
    scorer.network.eval()
    bar = tqdm(total=len(positions), desc="features", unit="photo", disable=not progress)
    batches = []
    with bar:
        for photos in scoring_photos(store, positions, scorer.size, scorer.device):
            batches.append(scorer.features(photos).float().cpu())
            bar.update(len(photos))
    scorer.network.train(learning)
    return torch.cat(batches)


def _key(scorer: Scorer, store: PhotoStore, positions: np.ndarray) -> str:
    seen = f"v5|{store.key}|{scorer.size}"
    precision = scoring_precision(scorer.device, scorer.recipe.precision)
    seen += f"|{precision}" if precision != "no" else ""
    digest = hashlib.sha256(seen.encode())
    digest.update(positions.tobytes())
    for part in (scorer.normalize, scorer.network.body):
        for name, value in part.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
