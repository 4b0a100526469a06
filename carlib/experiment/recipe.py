"""A named experiment as data: one flat, frozen dataclass.

A recipe says everything that decides a result except the data set, so two runs of the same recipe
and seed on the same catalog end in the same weights on a CPU, where both compute in one precision.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from carlib.data.framing import Framing
from carlib.data.samplers import SAMPLERS
from carlib.data.transforms import preset
from carlib.errors import RecipeError, RunError
from carlib.models.backbones import BACKBONES, HEADS
from carlib.models.freezing import parse_plan
from carlib.models.losses import LOSSES, METRIC_LOSSES
from carlib.models.networks import MODELS

RANGES: dict[str, tuple[float, float]] = {  # what a number of a recipe may be, both ends included
    "size": (8, 4096), "eval_size": (8, 4096), "start_size": (8, 4096), "store_size": (8, 4096),
    "grow_until": (0, 1), "margin": (0, 10), "mixup": (0, 100), "cutmix": (0, 100),
    "mix_probability": (0, 1), "mix_until": (0, 1), "embedding": (0, 65_536),
    "pair_margin": (1e-6, 2), "smoothing": (0, 0.999), "gamma": (0, 100), "per_class": (1, 65_536),
    "imbalance": (1, 1e6), "epochs": (1, 100_000), "batch_size": (1, 65_536),
    "accumulate": (1, 65_536), "lr": (1e-12, 1000), "body_lr": (0, 1e6), "proxy_lr": (0, 1e6),
    "layer_decay": (0, 1), "weight_decay": (0, 100), "warmup": (0, 1), "step_epochs": (1, 100_000),
    "step_factor": (0, 1), "plateau_patience": (0, 100_000), "clip": (0, 1e6),
    "ema": (0, 0.999_999), "patience": (0, 100_000), "min_change": (0, 1e6),
    "eval_every": (1, 100_000), "dev": (0, 0.5), "norm_until": (0, 1), "seed": (0, 2**63 - 1),
}  # fmt: skip
# Fields of earlier versions, which said how to score and not how to train, and their defaults.
RETIRED = {"flip_eval": False}
OR_ZERO = ("eval_size", "start_size", "store_size")  # 0 stands for another of a recipe's sizes
LONGEST_CHANGE = 48  # characters of what was changed, in a variant's name


@dataclass(frozen=True)
class Recipe:
    """One experiment. Every field has a default; named recipes change a few of them."""

    name: str = "base"  # under this name in the registry, in the run folder and in the record
    note: str = ""  # one line for the reader: what this experiment is

    # photos
    size: int = 96  # side of a training photo, pixels
    eval_size: int = 0  # side when scored; 0: as in training
    start_size: int = 0  # side in the first epochs, growing to `size`; 0: no growing
    grow_until: float = 0.6  # share of the epochs by which the full size is reached
    store_size: int = 0  # side at which photos are kept decoded; 0: the larger of the two sizes
    crop: str = "whole"  # "whole" photo or car's "box"
    margin: float = 0.0  # share of the box added on every side
    fit: str = "squash"  # "squash" or "letterbox" into the square
    statistics: str = "imagenet"  # normalise by "imagenet", "half", "data"'s or the "model"'s own
    grayscale: bool = False  # one channel: paint says nothing about the model

    # augmentation
    augment: str = "standard"  # a preset of carlib.data.transforms
    augment_on: str = "auto"  # "cpu" (albumentations), "gpu" (kornia), "auto": gpu if both exist
    mixup: float = 0.0  # alpha of MixUp; 0: off
    cutmix: float = 0.0  # alpha of CutMix; 0: off
    mix_probability: float = 1.0  # share of the batches that are mixed
    mix_until: float = 1.0  # share of the epochs after which mixing stops

    # network and objective
    model: str = "simple_resnet"  # a name in carlib.models
    weights: str = "random"  # a backbone's: "random" or "pretrained"
    head: str = "linear"  # on a backbone: a name in carlib.models.backbones.HEADS
    pooling: str = "mean"  # of a backbone's last maps: "mean" or "gem" (generalized mean)
    # which part learns when, see carlib.models.freezing; "head": a frozen body; "": all, always
    plan: str = ""
    embedding: int = 0  # numbers per photo of a network that compares photos; 0: a classifier
    loss: str = (
        "cross_entropy"  # a name in carlib.models.losses; those that compare need an embedding
    )
    pair_margin: float = 1.0  # of contrastive loss: distance (0…2) asked of different classes
    smoothing: float = 0.1  # label smoothing
    gamma: float = 2.0  # focal exponent
    sampler: str = "shuffle"  # a name in carlib.data.samplers: shuffle, balanced, per_class, pairs
    per_class: int = 4  # photos of each class in a batch of sampler "per_class"
    imbalance: float = 1.0  # a long tail: the rarest class keeps 1/this of its training photos

    # optimization
    epochs: int = 30
    batch_size: int = 64  # photos per optimizer step, over all processes
    accumulate: int = 1  # pieces a batch is divided into when memory is short
    optimizer: str = "adamw"  # adamw, adam or sgd (Nesterov, momentum .9)
    lr: float = 1e-3  # the highest learning rate of the schedule
    body_lr: float = 1.0  # learning rate of a backbone's body relative to its head's
    proxy_lr: float = 1.0  # and that of what a loss learns itself: a point or weights per class
    layer_decay: float = 1.0  # and of each block of the body relative to the block above it
    weight_decay: float = 0.05  # not applied to biases and norms
    schedule: str = "one_cycle"  # one_cycle, cosine, step, plateau or constant
    cycle_momentum: bool = False  # one_cycle: momentum falls from .95 to .85 while the rate rises
    warmup: float = 0.1  # share of the steps with rising learning rate (one_cycle and cosine)
    step_epochs: int = 7  # step: epochs between two drops, counted anew in each phase of a plan
    step_factor: float = 0.1  # step and plateau: what a drop multiplies by
    plateau_patience: int = 3  # plateau: epochs without improvement before a drop
    clip: float = 1.0  # largest gradient norm; 0: no clipping
    ema: float = 0.0  # decay of averaged weights per step; 0: off
    norm_until: float = 1.0  # share of the epochs after which batch norms keep their statistics
    precision: str = "auto"  # "no", "fp16", "bf16", "auto": as carlib.runtime.precision_on says
    compile: bool = False  # torch.compile the network

    # stopping and choosing
    # What chooses looks at dev, a part of train; val chooses nothing and is scored at the end.
    dev: float = 0.0  # share of the training photos that are kept back to choose by
    keep: str = "last"  # which weights are the result: of the "last" epoch, or of dev's "best"
    monitor: str = "accuracy"  # metric that says which epoch is best: accuracy, macro_f1, loss; for
    # an embedding accuracy is Recall@1 among the photos looked at, and map_at_r is the other
    patience: int = 0  # epochs without improvement before stopping; 0: never stop early
    min_change: float = 0.0  # smaller improvements do not count
    eval_every: int = 1  # epochs between two looks at dev, or at val where there is no dev
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):  # 0 for 0.0: JSON would give another hash back
            value = getattr(self, field.name)
            if type(field.default) is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
        for field, (low, high) in RANGES.items():
            value = getattr(self, field)
            if not low <= value <= high and not (field in OR_ZERO and value == 0):  # NaN too
                raise RecipeError(f"{field} is {value}; it must lie between {low:g} and {high:,g}")
        preset(self.augment)
        _known("model", self.model, (*MODELS, *BACKBONES))
        _known("weights", self.weights, ("random", "pretrained"))
        _known("head", self.head, HEADS)
        _known("loss", self.loss, METRIC_LOSSES if self.embedding else LOSSES)
        _known("sampler", self.sampler, SAMPLERS)
        _known("optimizer", self.optimizer, ("adamw", "adam", "sgd"))
        _known("schedule", self.schedule, ("one_cycle", "cosine", "step", "plateau", "constant"))
        _known("statistics", self.statistics, ("imagenet", "half", "data", "model"))
        _known("augment_on", self.augment_on, ("auto", "cpu", "gpu"))
        _known("precision", self.precision, ("auto", "no", "fp16", "bf16"))
        monitored = ("accuracy", "map_at_r") if self.embedding else ("accuracy", "macro_f1", "loss")
        _known("monitor", self.monitor, monitored)
        _known("crop", self.crop, ("whole", "box"))
        _known("fit", self.fit, ("squash", "letterbox"))
        _known("keep", self.keep, ("last", "best"))
        _known("pooling", self.pooling, ("mean", "gem"))
        self._ask_something_to_choose_by()
        if self.sampler == "pairs" and self.loss != "contrastive":
            raise RecipeError("sampler 'pairs' feeds two photos at a time, to loss 'contrastive'")
        if self.embedding and (self.mixup or self.cutmix):
            raise RecipeError("mixup and cutmix mix classes; a loss that compares photos needs one")
        parse_plan(self.plan, self.epochs)
        if self.model in MODELS:
            self._ask_no_backbone()

    def _ask_something_to_choose_by(self) -> None:
        """What chooses an epoch or a rate needs photos that are neither learned nor scored."""
        chooses = {"keep 'best'": self.keep == "best", "patience": self.patience,
                   "schedule 'plateau'": self.schedule == "plateau"}  # fmt: skip
        for what in (what for what, asked in chooses.items() if asked and not self.dev):
            raise RecipeError(f"{what} chooses by photos that are kept back; set dev, such as 0.1")

    def _ask_no_backbone(self) -> None:
        """A network trained from scratch has no weights, head, plan or statistics to choose."""
        plain = {"weights": "random", "head": "linear", "pooling": "mean", "plan": "",
                 "body_lr": 1.0, "layer_decay": 1.0}  # fmt: skip
        asked = [name for name, value in plain.items() if getattr(self, name) != value]
        asked += ["statistics"] if self.statistics == "model" else []
        for name in asked:
            raise RecipeError(
                f"{name} is {getattr(self, name)!r}, which needs a backbone; {self.model} is none"
            )

    @property
    def scored_size(self) -> int:
        """Side of a photo when scored, pixels."""
        return self.eval_size or self.size

    @property
    def sees_the_same(self) -> bool:
        """A frozen body sees every photo the same way in every epoch, so once is enough."""
        varied = self.augment != "none" or self.mixup or self.cutmix or self.pooling != "mean"
        return self.plan == "head" and not varied and self.size_at(0) == self.scored_size

    @property
    def kept_size(self) -> int:
        """Side at which photos are kept decoded, pixels."""
        return self.store_size or max(self.size, self.scored_size)

    @property
    def framing(self) -> Framing:
        """How photos are cut and kept decoded."""
        return Framing(self.kept_size, self.crop, self.margin, self.fit)

    def size_at(self, epoch: int) -> int:
        """Side of the training photos in an epoch (0-based): grows in steps of 16 pixels."""
        if not self.start_size or self.start_size >= self.size:
            return self.size
        done = epoch / max(1.0, self.grow_until * self.epochs)
        if done >= 1:
            return self.size
        grown = self.start_size + (self.size - self.start_size) * done
        return max(self.start_size, int(grown) // 16 * 16)

    def but(self, **changes: object) -> Recipe:
        """A copy with some fields changed; an unknown field or a wrong type is an error."""
        return recipe_from_dict(asdict(self) | changes)

    def must_classify(self) -> None:
        """Raise `RunError` where its network compares photos: it has no classes to be asked for."""
        if self.embedding:
            raise RunError(f"{self.name} compares photos and names no class; use: carlib compare")

    def to_json(self) -> str:
        """All fields as JSON, in the order they are declared."""
        return json.dumps(asdict(self), indent=2)

    def variant(self, **changes: object) -> Recipe:
        """A copy with some fields changed, under a name of its own where that makes another method.

        The name says what was changed, such as "lite0_cpu+epochs=1", or holds digits of the changes
        where they are many.
        """
        changed = self.but(**changes)
        if changed.method == self.method:
            return changed
        words = ",".join(
            f"{name}={value}" for name, value in changes.items() if value != getattr(self, name)
        )
        if len(words) > LONGEST_CHANGE:
            words = hashlib.sha256(words.encode()).hexdigest()[:8]
        return changed.but(name=f"{self.name}+{words}")

    @property
    def hash(self) -> str:
        """16 hex digits over everything but name and note, which change nothing."""
        return hash_of(asdict(self))

    @property
    def method(self) -> str:
        """The hash without the seed: runs of one method may be averaged, others may not."""
        return hash_of(asdict(self), without=("seed",))


def hash_of(values: Mapping[str, object], without: Sequence[str] = ()) -> str:
    """16 hex digits over a recipe's fields, name, note and those in `without` left out.

    Defaults are left out too, so that a field added later leaves older recipes what they were.
    """
    defaults = RETIRED | {f.name: f.default for f in fields(Recipe)}
    content = {
        name: value
        for name, value in values.items()
        if name not in ("name", "note", *without)
        and (name not in defaults or value != defaults[name])
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _known(field: str, value: str, choices) -> None:
    if value not in choices:
        raise RecipeError(f"{field} is {value!r}; known: {', '.join(choices)}")


def recipe_from_dict(values: dict[str, object]) -> Recipe:
    """A recipe from plain values; an unknown field or a value of another type is named."""
    types = {f.name: type(f.default) for f in fields(Recipe)}
    for name, value in values.items():
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; fields are {', '.join(types)}"
            raise RecipeError(f"unknown recipe field {name!r}{hint}")
        whole_number = types[name] is float and type(value) is int
        if type(value) is not types[name] and not whole_number:
            raise RecipeError(
                f"recipe field {name!r} is {value!r}; it must be of type {types[name].__name__}"
            )
    return Recipe(**{k: types[k](v) for k, v in values.items()})


def recipe_from_json(text: str) -> Recipe:
    """A recipe from the JSON that `Recipe.to_json` wrote, in this version or an earlier one."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecipeError(f"not a recipe: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError("not a recipe: expected a JSON object of fields")
    return recipe_from_dict({name: v for name, v in values.items() if name not in RETIRED})
