"""Everything that one training works with, built in one place.

Building reads no run folder and resumes nothing; that is the loop's affair.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from carlib.data.catalog import Catalog
from carlib.data.samplers import Batches, long_tail
from carlib.data.splits import choose_val, copy_groups
from carlib.data.store import PhotoStore
from carlib.data.transforms import Mixing, Normalize
from carlib.distributed import places
from carlib.errors import RecipeError, RunError
from carlib.evaluation.features import Features, joined, pooled_features, says_the_same
from carlib.evaluation.scorer import Scorer
from carlib.experiment.network import make_network, statistics_of
from carlib.experiment.recipe import Recipe
from carlib.models.freezing import Phase, parse_plan, set_trainable
from carlib.models.losses import make_loss, make_metric_loss
from carlib.runtime import half_precision, precision_on, the_device
from carlib.seeding import seed_of, set_seed
from carlib.training.loaders import FeatureLoader, make_loader
from carlib.training.optimizer import make_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator
    from timm.utils import ModelEmaV3


@dataclass
class Parts:
    """One training's data, network, objective and optimizer."""

    recipe: Recipe
    accelerator: Accelerator
    store: PhotoStore
    labels: np.ndarray  # of every photo of the store
    train: np.ndarray  # positions in the store of the photos to learn from
    judged: np.ndarray  # and of those that each epoch is scored on
    judge: str  # which those are: "dev", which may choose, or "val", which chooses nothing
    left_out: dict[str, str]  # paths of photos that are neither, and why
    batches: Batches  # of positions in `train`
    mean: tuple[float, ...]
    std: tuple[float, ...]
    network: torch.nn.Module  # as it is saved
    learner: torch.nn.Module  # as it is called to learn: shared out, compiled, or its head alone
    ema: ModelEmaV3 | None  # the averaged copy of the network
    objective: torch.nn.Module  # the loss, as it is saved
    loss: torch.nn.Module  # and as it is called
    optimizer: torch.optim.Optimizer
    phases: tuple[Phase, ...]
    mixing: Mixing | None
    about: dict[str, Any]  # what every checkpoint says of recipe, classes, normalization and data
    on_features: bool  # a frozen body's features are learned from, computed once
    precision: str  # in which the network learns: "no", "fp16" or "bf16"
    loader: Any = None  # asked for an epoch's batches; `open_loader` sets these three
    prepare: torch.nn.Module = field(default_factory=torch.nn.Identity)  # photos before the network
    features: Features | None = None
    keep_epochs: bool = False  # the run keeps the val logits of every epoch

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def scored(self) -> torch.nn.Module:
        """The network that is scored and kept: the averaged one where there is one."""
        return self.ema.module if self.ema else self.network

    def scorer(self, network: torch.nn.Module) -> Scorer:
        """A network, asked as the recipe scores it."""
        return Scorer(network, self.recipe, self.mean, self.std, self.device)

    def autocast(self) -> AbstractContextManager:
        """Around what the network computes while it learns."""
        return half_precision(self.device, self.precision)

    def mixes(self, epoch: int) -> bool:
        """Whether the batches of an epoch are mixed."""
        return self.mixing is not None and epoch < self.recipe.mix_until * self.recipe.epochs

    def epoch(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """This process's share of every batch of an epoch: photos (share, 3, side, side) ready for
        the network, or features (share, dims), and labels (share,), on the device; and how many
        photos the whole batch has.
        """
        batches = [self.train[batch] for batch in self.batches.epoch(epoch)]
        if mixed := self.mixes(epoch):  # photos are mixed in twos, so an odd one is left out
            batches = [batch[: max(1, len(batch) // 2 * 2)] for batch in batches]
        share = functools.partial(places, mixed=mixed)
        for photos, batch in zip(self.loader.epoch(epoch, batches, share), batches, strict=True):
            labels = torch.from_numpy(self.labels[batch[share(len(batch))]])
            yield self.prepare(photos), labels.to(self.device), len(batch)


def make_parts(
    recipe: Recipe,
    catalog: Catalog,
    accelerator: Accelerator,
    *,
    begin: bool = True,
    reuse_features: bool = True,
    progress: bool = False,
) -> Parts:
    """The parts of a training, all but the loader; see `open_loader`.

    Without `begin` nothing pretrained is fetched: weights will be read from a state. Raises
    `RunError` where train or val has no photo.
    """
    store = PhotoStore.open(catalog, recipe.framing, progress)
    photos = _divided(store, recipe)
    known = store.labels[photos["train"]]
    size = min(recipe.batch_size, len(known))
    statistics = (
        store.statistics(photos["train"]) if recipe.statistics == "data" else statistics_of(recipe)
    )
    mean, std = (tuple(map(float, values)) for values in statistics)
    counts = np.bincount(known, minlength=catalog.num_classes)
    objective = _objective(recipe, counts, accelerator.device)
    return Parts(
        recipe=recipe,
        accelerator=accelerator,
        store=store,
        labels=store.labels,
        **photos,
        batches=Batches(known, size, recipe.seed, recipe.sampler, recipe.per_class),
        mean=mean,
        std=std,
        objective=objective,
        phases=parse_plan(recipe.plan, recipe.epochs),
        mixing=_mixing(recipe, catalog.num_classes),
        precision=precision_on(accelerator.device, recipe.precision),
        about={
            "data": {"catalog": catalog.name, "fingerprint": store.fingerprint},
            "recipe": recipe.to_json(),
            "class_names": list(catalog.class_names),
            "mean": mean,
            "std": std,
        },
        **_network(
            recipe, catalog.num_classes, objective, accelerator, size, begin, reuse_features
        ),
    )


def _divided(store: PhotoStore, recipe: Recipe) -> dict[str, Any]:
    """Which photos are learned from and which are looked at, by the names that `Parts` has."""
    train, judged, left_out = _labelled(store)
    if recipe.imbalance > 1:
        train = train[long_tail(store.labels[train], recipe.imbalance, recipe.seed)]
    if recipe.dev:
        train, judged = kept_back(store, train, recipe.dev)
    judge = "dev" if recipe.dev else "val"
    return {"train": train, "judged": judged, "judge": judge, "left_out": left_out}


def kept_back(store: PhotoStore, train: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Training positions without dev's, and dev's: a share of every class, copies together.

    The same photos for every seed, so that what seeds say of a choice can be compared.
    """
    paths = store.catalog.table["path"].iloc[store.rows[train]].tolist()
    groups = copy_groups(store.digests[train])
    dev = choose_val(paths, store.labels[train], groups, share, seed=1)
    if not dev.any() or dev.all():
        raise RunError(
            f"{store.catalog.name}: no class has photos enough to keep some back (dev {share:g})"
        )
    return train[~dev], train[dev]


def _labelled(store: PhotoStore) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Positions of train and val, and the photos that are neither: unreadable, or without label."""
    catalog, train, val = store.catalog, store.positions("train"), store.positions("val")
    if (store.labels[val] < 0).any():
        raise RunError(f"{catalog.name}: a photo of split 'val' has no label; leave it out")
    bare = store.rows[train[store.labels[train] < 0]]
    train = train[store.labels[train] >= 0]
    for split, positions in (("train", train), ("val", val)):
        if split not in catalog.split_sizes and split == "val":
            raise RunError(
                f"{catalog.name}: no photo is kept back as val; divide it (with_val). Where "
                f"no class has two different photos, add some, or a folder val/"
            )
        if not len(positions):
            raise RunError(
                f"{catalog.name}: no photo with a label in split {split!r} can be read; it has "
                f"{catalog.split_sizes}"
            )
    return (
        train,
        val,
        store.left_out | dict.fromkeys(catalog.table["path"].iloc[bare], "has no label"),
    )


def open_loader(parts: Parts, workers: int | None = None, progress: bool = False) -> float:
    """Set the parts' loader: of augmented photos, or of a frozen body's features.

    Gives the seconds that computing the features took, 0.0 for photos.
    """
    if not parts.on_features:
        parts.loader = make_loader(parts.store, parts.train, parts.recipe, parts.device, workers)
        parts.prepare = Normalize(parts.mean, parts.std, parts.recipe.grayscale).to(parts.device)
        return 0.0
    # Split by split and of all their photos: so scoring, and runs on part of train, find them.
    scorer, positions = parts.scorer(parts.network), parts.store.positions
    parts.features = joined(
        [pooled_features(scorer, parts.store, positions(s), progress) for s in ("train", "val")]
    )
    parts.loader = FeatureLoader(parts.features)
    return parts.features.seconds


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Device, processes and precision, as `accelerate launch` or the environment have them.

    On a CPU it is told of no half precision: bf16 needs no scaler, and accelerate would make the
    network answer in it too, where `scoring_precision` says otherwise.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs

    device = the_device()
    precision = precision_on(device, recipe.precision)
    AcceleratorState._reset_state()  # else the first run's precision is every later one's
    frozen = DistributedDataParallelKwargs(find_unused_parameters=bool(recipe.plan))
    on_cpu = device.type == "cpu"
    return Accelerator(
        mixed_precision="no" if on_cpu else precision, cpu=on_cpu, kwargs_handlers=[frozen]
    )


def _objective(recipe: Recipe, counts: np.ndarray, device: torch.device) -> torch.nn.Module:
    """The loss, for classes with `counts` training photos each."""
    if not recipe.embedding:
        return make_loss(recipe.loss, counts, recipe.smoothing, recipe.gamma).to(device)
    set_seed(seed_of(recipe.seed, 5), device)  # some begin with a random point per class
    pairs = recipe.sampler == "pairs"
    loss = make_metric_loss(recipe.loss, len(counts), recipe.embedding, pairs, recipe.pair_margin)
    return loss.to(device)


def _network(
    recipe: Recipe,
    num_classes: int,
    objective: torch.nn.Module,
    accelerator: Accelerator,
    size: int,
    begin: bool,
    reuse_features: bool,
) -> dict[str, Any]:
    """The network and what is made of it, by the names that `Parts` has for them."""
    from timm.utils import ModelEmaV3

    set_seed(seed_of(recipe.seed), accelerator.device)
    network = make_network(recipe, num_classes, begin=begin)
    _check_shapes(recipe, network, size // accelerator.num_processes)
    network = network.to(accelerator.device).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(recipe, network, objective)
    on_features = reuse_features and says_the_same(recipe, network)
    learner = torch.nn.Sequential(network.dropout, network.head) if on_features else network
    learner, optimizer = accelerator.prepare(learner, optimizer)
    learns = any(True for _ in objective.parameters())
    # With power 1 the first steps are a plain mean, and the decay asked for is reached: with timm's
    # 2/3 a decay of .999 would take 31,000 steps.
    ema = (
        ModelEmaV3(network, decay=recipe.ema, use_warmup=True, warmup_power=1.0)
        if recipe.ema
        else None
    )
    return {
        "network": network,
        "learner": torch.compile(learner) if recipe.compile else learner,
        "ema": ema,
        "loss": accelerator.prepare(objective) if learns else objective,
        "optimizer": optimizer,
        "on_features": on_features,
    }


def _check_shapes(recipe: Recipe, network: torch.nn.Module, batch: int) -> None:
    """Refuse a side or a piece of a batch that the network cannot take, before anything is learned.

    Asked of a copy that has shapes and no numbers, so it costs next to nothing.
    """
    shapes, channels = copy.deepcopy(network).to("meta"), 1 if recipe.grayscale else 3
    phases = parse_plan(recipe.plan, recipe.epochs)
    photos = torch.arange(max(1, batch))
    pieces = {len(piece) for piece in photos.tensor_split(min(recipe.accumulate, len(photos)))}

    def take(photos: int, side: int, shapes: torch.nn.Module = shapes) -> str:
        try:
            shapes(torch.zeros(photos, channels, side, side, device="meta"))
        except torch.OutOfMemoryError:  # the loop takes smaller pieces then
            return ""
        except (RuntimeError, ValueError, AssertionError) as error:  # timm asserts
            return str(error).splitlines()[0]
        return ""

    def takes(side: int) -> str:
        """Why the network cannot learn from two photos of a side, or nothing."""
        return take(2, side, shapes.eval()) or take(2, side, shapes.train())

    for side in sorted({recipe.size_at(0), recipe.size, recipe.scored_size}):
        if why := takes(side):
            least = next((more for more in range(side, 600) if not takes(more)), 0)
            wanted = f"; the next side that it takes is {least} px" if least else ""
            raise RecipeError(f"size {side} is too small for {recipe.model}{wanted} ({why})")
        for part in {phase.part for phase in phases}:
            set_trainable(shapes, part)
            if why := take(min(pieces), side):
                raise RecipeError(
                    f"batch_size {batch} and accumulate {recipe.accumulate} leave a piece of "
                    f"{min(pieces)} photo, which {recipe.model} cannot learn from ({why})"
                )


def _mixing(recipe: Recipe, num_classes: int) -> Mixing | None:
    if not (recipe.mixup or recipe.cutmix):
        return None
    return Mixing(recipe.mixup, recipe.cutmix, recipe.mix_probability, num_classes)
