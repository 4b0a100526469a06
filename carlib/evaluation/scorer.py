"""A network and all that it takes to ask it: normalization, side of a photo, device.

Logits, features, embeddings, heat maps, exports and single photos come from one `Scorer`, so that a
photo is normalized in one place, once, and every network is asked about one view of it: the photo
as it is. Other views (test-time augmentation) are asked for by name. Photos are
(batch, 3, side, side) in 0…1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.functional import center_crop

from carlib.data.images import resize
from carlib.data.store import PhotoStore
from carlib.data.transforms import Normalize, as_floats
from carlib.distributed import all_gather, shard
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.recipe import Recipe
from carlib.runtime import as_trained, prepare_process, the_device

Ask = Callable[[torch.Tensor], torch.Tensor]


def _near(photos: torch.Tensor) -> torch.Tensor:
    """The middle seven eighths of each side, enlarged to the side of the photo."""
    side = photos.shape[-1]
    middle = center_crop(photos, [side * 7 // 8])
    return F.interpolate(middle, (side, side), mode="bilinear", align_corners=False)


VIEWS: dict[str, Ask] = {  # of photos in 0…1, not normalized yet
    "plain": lambda photos: photos,
    "mirror": lambda photos: photos.flip(3),
    "near": _near,
    "near mirror": lambda photos: _near(photos).flip(3),
}


class Scorer(nn.Module):
    """A network that takes photos as they are, at the side its recipe scores."""

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe
        self.normalize = Normalize(mean, std, recipe.grayscale)
        self.size, self.channels = recipe.scored_size, 1 if recipe.grayscale else 3
        self.to(device or the_device(), memory_format=torch.channels_last)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Scorer:
        """A checkpoint's, ready to be asked; half precision is widened, on a copy, because
        gradients would vanish in it.
        """
        network = checkpoint.model
        if any(values.dtype != torch.float32 for values in network.parameters()):
            network = copy.deepcopy(network).float()
        return cls(network.eval(), checkpoint.recipe, checkpoint.mean, checkpoint.std)

    @property
    def device(self) -> torch.device:
        return self.normalize.weight.device

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes), of a network that compares embeddings (batch, dims)."""
        photos = self.normalize(photos)
        with self.as_trained():
            return self.network(photos).float()

    def features(self, photos: torch.Tensor) -> torch.Tensor:
        """Pooled features (batch, num_features)."""
        photos = self.normalize(photos)
        with self.as_trained():
            return self.network.features(photos).float()

    def embed(self, photos: torch.Tensor) -> torch.Tensor:
        """Embeddings (batch, dims) of length one."""
        return self.network.embed(self.features(photos))

    def as_trained(self):
        """Around a question to the network: the precision of its training, on a GPU."""
        return as_trained(self.device, self.recipe.precision)

    @torch.no_grad()
    def predict(
        self, store: PhotoStore, positions: np.ndarray, views: Sequence[str] = ()
    ) -> torch.Tensor:
        """Logits (photos, classes) float32 on the CPU, in the order given; network in eval.

        With `views` (names in `VIEWS`) they are (views, photos, classes). Several processes share
        the photos, each is scored once.
        """
        self.network.eval()
        batches = [
            torch.stack([self(VIEWS[view](photos)) for view in views or ("plain",)], 1).cpu()
            for photos in scoring_photos(store, shard(positions), self.size, self.device)
        ]
        logits = all_gather(torch.cat(batches), len(positions)).transpose(0, 1)
        return logits if views else logits[0]


def scoring_photos(
    store: PhotoStore, positions: np.ndarray, size: int, device: torch.device, batch_size: int = 0
) -> Iterator[torch.Tensor]:
    """Photos (batch, 3, size, size) in 0…1 on the device, unchanged, in the order asked for.

    Without a `batch_size` it is what suits the device: on CPUs few at once, whose layers fit the
    cache (at 256 px a third faster than 128 at once, and two gigabytes less).
    """
    prepare_process(device)
    batch_size = batch_size or (16 if device.type == "cpu" else 128)
    for start in range(0, len(positions), batch_size):
        pixels = store.pixels[positions[start : start + batch_size]]
        if size != pixels.shape[1]:
            pixels = np.stack([resize(photo, size, size) for photo in pixels])
        photos = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
        yield as_floats(photos)
