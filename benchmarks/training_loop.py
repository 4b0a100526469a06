"""How fast the training loop is, side by side with the fastest and the usual way.

    python benchmarks/training_loop.py [--data showroom] [--recipe scratch_cpu] [--size 64] ...

Four loops train the same network with the same optimizer, clipping and weight averaging:

  carlib    our loop, photos from the decoded store, everything that the recipe asks for
  random    a bare loop on one random batch that lies ready: what the hardware allows
  folder    a bare loop on torchvision's ImageFolder, transforms and DataLoader: the usual way
  timm      a bare loop on timm's data set, transforms, loader and prefetcher: its script's way

They take turns, so that a busy machine hurts all of them alike; medians and ratios over the rounds
go into a record. Aims: carlib / random at least .9 on a CPU and .95 on a GPU, carlib / folder and
carlib / timm at least 1.5.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from carlib.data.catalog import Catalog
from carlib.data.opening import open_catalog
from carlib.data.sources import FolderSource
from carlib.data.transforms import preset
from carlib.experiment.host import command_line
from carlib.experiment.network import make_network
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe
from carlib.runtime import precision_on
from carlib.timing import medians, ratios, taking_turns
from carlib.training.epoch import train_one_epoch
from carlib.training.optimizer import make_optimizer
from carlib.training.parts import Parts, make_accelerator, make_parts, open_loader
from carlib.training.state import TrainState

AIMS = {"carlib / random": {"cpu": 0.9, "gpu": 0.95}, "carlib / folder": {"cpu": 1.5, "gpu": 1.5},
        "carlib / timm": {"cpu": 1.5, "gpu": 1.5}}  # fmt: skip


class BareLoop:
    """Forward, backward, clip, step, average: the least that trains this recipe."""

    def __init__(self, recipe: Recipe, num_classes: int, device: torch.device) -> None:
        from timm.utils import ModelEmaV3

        self.recipe, self.device = recipe, device
        model = make_network(recipe, num_classes).to(device, memory_format=torch.channels_last)
        self.model, self.optimizer = model.train(), make_optimizer(recipe, model)
        self.ema = ModelEmaV3(model, decay=recipe.ema) if recipe.ema else None
        self.loss = torch.nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}
        kind = half.get(precision_on(device, recipe.precision))
        self.autocast = torch.autocast(device.type, kind, enabled=kind is not None)
        self.scaler = torch.amp.GradScaler(device.type, enabled=kind is torch.float16)

    def epoch(self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> int:
        """Train on normalized photos and labels; the number of photos."""
        seen = 0
        for photos, labels in batches:
            photos = photos.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            self.optimizer.zero_grad(set_to_none=True)
            with self.autocast:
                loss = self.loss(self.model(photos), labels)
            self.scaler.scale(loss).backward()
            if self.recipe.clip:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.ema:
                self.ema.update(self.model)
            seen += len(photos)
        return seen


def carlib_epochs(parts: Parts) -> Callable[[], int]:
    """One epoch of our own loop per call; gives the number of photos."""

    state = TrainState()

    def epoch() -> int:
        state.epoch = 0
        train_one_epoch(parts, state)
        return len(parts.batches) * parts.batches.batch_size

    return epoch


def random_epochs(recipe: Recipe, catalog: Catalog, device: torch.device, steps: int):
    """Epochs of as many steps on one random batch on the device."""
    loop = BareLoop(recipe, catalog.num_classes, device)
    channels = 1 if recipe.grayscale else 3
    shape = (recipe.batch_size, channels, recipe.size, recipe.size)
    photos = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(catalog.num_classes, (recipe.batch_size,), device=device)
    return lambda: loop.epoch((photos, labels) for _ in range(steps))


def folder_epochs(
    recipe: Recipe, catalog: Catalog, device: torch.device, workers: int, folder: Path
):
    """Epochs of torchvision's ImageFolder and transforms over the same photos."""
    as_class_folders(catalog.select("train"), folder)
    loader = DataLoader(
        datasets.ImageFolder(str(folder), usual_transforms(recipe)),
        recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )
    loop = BareLoop(recipe, catalog.num_classes, device)
    return lambda: loop.epoch(iter(loader))


def usual_transforms(recipe: Recipe) -> transforms.Compose:
    """What a recipe's preset is in torchvision's transforms."""
    wanted = preset(recipe.augment)
    steps: list = [transforms.Resize((recipe.size, recipe.size))]
    if wanted.crop != (1.0, 1.0):
        steps = [transforms.RandomResizedCrop(recipe.size, wanted.crop)]
    steps.append(transforms.RandomHorizontalFlip(wanted.flip))
    if wanted.moves:
        scale = (1 - wanted.zoom, 1 + wanted.zoom)
        shear = [end for most in wanted.shear for end in (-most, most)]
        move = transforms.RandomAffine(wanted.rotation, (wanted.shift, wanted.shift), scale, shear)
        steps.append(transforms.RandomApply([move], wanted.affine))
    if wanted.colors:
        jitter = transforms.ColorJitter(
            wanted.brightness, wanted.contrast, wanted.saturation, wanted.hue
        )
        steps.append(transforms.RandomApply([jitter], wanted.color))
    if wanted.blur:
        steps.append(transforms.RandomApply([transforms.GaussianBlur(3)], wanted.blur))
    if recipe.grayscale:
        steps.append(transforms.Grayscale())
    elif wanted.gray:
        steps.append(transforms.RandomGrayscale(wanted.gray))
    channels = 1 if recipe.grayscale else 3
    steps += [transforms.ToTensor(), transforms.Normalize([0.5] * channels, [0.25] * channels)]
    if wanted.erasing:
        steps.append(transforms.RandomErasing(wanted.erasing, (0.02, 0.2)))
    return transforms.Compose(steps)


def as_class_folders(catalog: Catalog, folder: Path) -> None:
    """Lay photos out as ImageFolder wants them: links where they are files, else copies."""
    for path, label in zip(catalog.table["path"], catalog.labels, strict=True):
        target = folder / f"{label:04d}" / path.replace("/", "_").replace("#", "_")
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(catalog.source, FolderSource):
            target.symlink_to((catalog.root / path).resolve())
        else:
            target.write_bytes(catalog.source.read(path))


def timm_epochs(recipe: Recipe, catalog: Catalog, device: torch.device, workers: int, folder: Path):
    """Epochs of what timm's training script does: its data set, transforms, loader and prefetcher.

    The script's loop itself is forward, backward, clip, step and average, as ours is bare.
    """
    from timm.data import create_dataset, create_loader

    wanted, gray = preset(recipe.augment), recipe.grayscale
    shape = (1 if gray else 3, recipe.size, recipe.size)
    loader = create_loader(
        create_dataset("", str(folder), input_img_mode="L" if gray else "RGB"),
        shape,
        recipe.batch_size,
        is_training=True,
        use_prefetcher=device.type == "cuda",
        scale=wanted.crop,
        hflip=wanted.flip,
        color_jitter=None if gray else (wanted.brightness, wanted.contrast, wanted.saturation),
        re_prob=wanted.erasing,
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
        num_workers=workers,
        persistent_workers=workers > 0,  # older releases ask for them always
        device=device,
    )
    loop = BareLoop(recipe, catalog.num_classes, device)
    return lambda: loop.epoch(iter(loader))


def finished(epoch: Callable[[], int], device: torch.device) -> Callable[[], int]:
    """The epoch, until the GPU is through with it."""

    def call() -> int:
        photos = epoch()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return photos

    return call


def limited(catalog: Catalog, photos: int) -> Catalog:
    """At most so many training photos, spread over the classes, and one val photo per class."""
    catalog = catalog if "val" in catalog.split_sizes else catalog.stratified_split()
    table = catalog.table
    place = table.groupby(["split", "label"]).cumcount()
    train = (table["split"] == "train") & (place < max(2, -(-photos // catalog.num_classes)))
    return catalog.select(train | ((table["split"] == "val") & (place < 1)))


def compare(catalog: Catalog, recipe: Recipe, rounds: int, workers: int | None) -> Record:
    """Run the loops in turn; the record is not written yet."""
    with tempfile.TemporaryDirectory() as name:
        accelerator = make_accelerator(recipe)
        device = accelerator.device
        parts = make_parts(recipe, catalog, accelerator)
        open_loader(parts, workers)
        steps = len(parts.batches)
        folder, theirs = Path(name) / "photos", 2 if workers is None else workers
        loops = {
            "carlib": carlib_epochs(parts),
            "random": random_epochs(recipe, catalog, device, steps),
            "folder": folder_epochs(recipe, catalog, device, theirs, folder),
            "timm": timm_epochs(recipe, catalog, device, theirs, folder),
        }
        calls = {name: finished(epoch, device) for name, epoch in loops.items()}
        photos = {name: call() for name, call in calls.items()}  # warmed up, and counted
        seconds = taking_turns(calls, rounds, warm_up=0)
    per_photo = {name: [s / photos[name] for s in spent] for name, spent in seconds.items()}
    rates = {name: [1 / value for value in values] for name, values in per_photo.items()}
    compared = ratios(per_photo, "carlib")
    kind = "gpu" if device.type == "cuda" else "cpu"
    return Record(
        kind="benchmark",
        topic="training_loop",
        scoring={"device": kind},
        data={"catalog": catalog.name, "fingerprint": catalog.fingerprint, "split": "train",
              "photos": len(parts.train)},
        metrics={f"{name}_photos_per_second": value for name, value in medians(rates).items()}
        | medians(compared),
        recipe=vars(recipe),
        extra={"rounds": rounds, "steps": steps, "workers": workers, "rates": rates,
               "ratios": compared, "aims": {k: v[kind] for k, v in AIMS.items()},
               "threads": torch.get_num_threads()},
        command=command_line(),
    )  # fmt: skip


def show(record: Record) -> None:
    """Print the medians as a table."""
    for name in record.extra["rates"]:
        print(f"{name:8s} {record.metrics[f'{name}_photos_per_second']:8.1f} photos/s")
    for name, aim in record.extra["aims"].items():
        low, high = min(record.extra["ratios"][name]), max(record.extra["ratios"][name])
        print(f"{name}: {record.metrics[name]:.2f}  ({low:.2f} to {high:.2f}; aim {aim})")


def main(arguments: list[str] | None = None) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="showroom", help="a data set, as `open_catalog` takes it")
    parser.add_argument("--recipe", default="scratch_cpu")
    parser.add_argument("--size", type=int, help="side of the photos, instead of the recipe's")
    parser.add_argument("--batch-size", type=int, help="instead of the recipe's")
    parser.add_argument("--precision", default="auto", help="on a CPU: bf16, else in full")
    parser.add_argument("--photos", type=int, default=512, help="training photos per round")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds of each loop")
    parser.add_argument(
        "--workers",
        type=int,
        help="loader processes of carlib and folder; else carlib chooses and folder has 2",
    )
    options = parser.parse_args(arguments)
    changes = {"size": options.size, "batch_size": options.batch_size,
               "precision": options.precision}  # fmt: skip
    recipe = get_recipe(options.recipe, start_size=0, **{k: v for k, v in changes.items() if v})
    if options.size:
        recipe = recipe.but(eval_size=0, store_size=options.size * 4 // 3)
    catalog = limited(open_catalog(options.data), options.photos)
    recipe = recipe.but(batch_size=min(recipe.batch_size, catalog.split_sizes["train"]))
    record = compare(catalog, recipe, options.rounds, options.workers)
    show(record)
    print(record.write())
    return record


if __name__ == "__main__":
    main()
