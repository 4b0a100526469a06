"""What a photo costs before the network sees it: decoding, the store, augmentation.

    python benchmarks/photos.py [--data showroom] [--recipe lite0_cpu] [--photos 512]

Every way brings the same training photos to a batch of the recipe's size, and they take turns:

  decode          read the file, decode, cut out and scale: what every epoch costs without a store
  store           the same pixels from the store, which decodes once
  albumentations  from the store, augmented as the recipe says: what every epoch costs with it
  torchvision     the same by torchvision's transforms, photo by photo from decoded pictures
  kornia          the same on the GPU, where there is one

The aims: the store at least 10 times decoding, our augmentation 1.5 times torchvision's.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from common import tell
from PIL import Image
from training_loop import limited, usual_transforms

from carlib.data.catalog import Catalog
from carlib.data.images import decode_photo
from carlib.data.opening import open_catalog
from carlib.data.store import PhotoStore
from carlib.data.table import boxes_of
from carlib.data.transforms import as_floats, cpu_pipeline, gpu_pipeline, preset
from carlib.experiment.host import command_line
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe
from carlib.runtime import the_device
from carlib.timing import medians, ratios, taking_turns

AIMS = {"store / decode": 10.0, "albumentations / torchvision": 1.5}
COMPARED = (("store", "decode"), ("albumentations", "torchvision"), ("kornia", "albumentations"))


def ways_of(store: PhotoStore, positions: np.ndarray, recipe: Recipe) -> dict:
    """Calls that bring the photos at some positions of the store to the network's door."""
    paths = store.catalog.table["path"].iloc[store.rows[positions]].tolist()
    boxes = boxes_of(store.catalog.table)[store.rows[positions]]
    pipeline = cpu_pipeline(preset(recipe.augment), recipe.size)
    usual = usual_transforms(recipe)

    def decode():
        for path, box in zip(paths, boxes, strict=True):
            photo = decode_photo(store.catalog.source.read(path), path)
            store.framing.apply(photo, tuple(box))

    def torchvision():
        for position in positions:
            usual(Image.fromarray(store.pixels[position]))

    ways = {
        "decode": decode,
        "store": lambda: np.stack([store.pixels[position] for position in positions]),
        "albumentations": lambda: pipeline([store.pixels[p] for p in positions], 0),
        "torchvision": torchvision,
    }
    device = the_device()
    if device.type == "cuda":
        augment = gpu_pipeline(preset(recipe.augment), recipe.size)
        whole = as_floats(torch.from_numpy(store.pixels[positions]).to(device))

        def kornia():
            for part in whole.split(recipe.batch_size):
                augment(part, 0)
            torch.cuda.synchronize()

        ways["kornia"] = kornia
    return ways


def measure(catalog: Catalog, recipe: Recipe, rounds: int) -> Record:
    """Photos per second of every way, and of building the store; the record is not written yet."""
    started = time.perf_counter()
    store = PhotoStore.open(catalog, recipe.framing, progress=False)
    opened = time.perf_counter() - started
    positions = store.positions("train")
    seconds = taking_turns(ways_of(store, positions, recipe), rounds)
    metrics = {f"{name} photos/s": len(positions) / s for name, s in medians(seconds).items()}
    compared = {}
    for ours, theirs in COMPARED:
        if ours in seconds:
            compared |= ratios({name: seconds[name] for name in (ours, theirs)}, ours)
    return Record(
        kind="benchmark",
        topic="photos",
        data={"catalog": catalog.name, "fingerprint": catalog.fingerprint, "split": "train",
              "photos": len(positions)},
        metrics=metrics | medians(compared),
        recipe=vars(recipe),
        extra={"rounds": rounds, "seconds": seconds, "ratios": compared, "aims": AIMS,
               "threads": torch.get_num_threads()},
        timing={"open_store_seconds": opened},
        command=command_line(),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="showroom", help="a data set, as `open_catalog` takes it")
    parser.add_argument("--recipe", default="lite0_cpu")
    parser.add_argument("--photos", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    catalog = limited(open_catalog(options.data), options.photos)
    record = measure(catalog, get_recipe(options.recipe), options.rounds)
    return tell(record)


if __name__ == "__main__":
    main()
