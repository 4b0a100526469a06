"""A named experiment as data: one flat, frozen dataclass and one registry.

A recipe says everything that decides a result except the data set, so two runs of the same recipe
and seed on the same catalog end in the same weights on a CPU.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from carlib.augment import preset
from carlib.backbones import BACKBONES, HEADS
from carlib.errors import RecipeError
from carlib.losses import LOSSES, METRIC_LOSSES
from carlib.models import MODELS
from carlib.photos import Framing
from carlib.plans import parse_plan, rescaled
from carlib.sampling import SAMPLERS

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
    augment: str = "standard"  # a preset of carlib.augment
    augment_on: str = "auto"  # "cpu" (albumentations), "gpu" (kornia), "auto" (gpu where there is)
    mixup: float = 0.0  # alpha of MixUp; 0: off
    cutmix: float = 0.0  # alpha of CutMix; 0: off
    mix_probability: float = 1.0  # share of the batches that are mixed
    mix_until: float = 1.0  # share of the epochs after which mixing stops

    # network and objective
    model: str = "simple_resnet"  # a name in carlib.models or carlib.backbones
    weights: str = "random"  # a backbone's: "random" or "pretrained"
    head: str = "linear"  # on a backbone: a name in carlib.backbones.HEADS
    plan: str = (
        ""  # which part learns when, see carlib.plans; "head": a frozen body; "": all, always
    )
    embedding: int = 0  # numbers per photo of a network that compares photos; 0: a classifier
    loss: str = "cross_entropy"  # a name in carlib.losses; those that compare need an embedding
    pair_margin: float = 1.0  # of contrastive loss: distance (0…2) asked of different classes
    smoothing: float = 0.1  # label smoothing
    gamma: float = 2.0  # focal exponent
    sampler: str = "shuffle"  # a name in carlib.sampling: shuffle, balanced, per_class, pairs
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
    warmup: float = 0.1  # share of the steps with rising learning rate (one_cycle and cosine)
    step_epochs: int = 7  # step: epochs between two drops
    step_factor: float = 0.1  # step and plateau: what a drop multiplies by
    plateau_patience: int = 3  # plateau: epochs without improvement before a drop
    clip: float = 1.0  # largest gradient norm; 0: no clipping
    ema: float = 0.0  # decay of averaged weights per step; 0: off
    precision: str = "auto"  # "no", "fp16", "bf16", or "auto": bf16 on a GPU that has it, else no
    compile: bool = False  # torch.compile the network

    # stopping and choosing
    monitor: str = "accuracy"  # val metric that chooses the best weights: accuracy, macro_f1,
    # loss; for an embedding accuracy is Recall@1 among val photos, and map_at_r is the other
    patience: int = 0  # epochs without improvement before stopping; 0: never stop early
    min_change: float = 0.0  # smaller improvements do not count
    eval_every: int = 1  # epochs between two looks at val
    flip_eval: bool = False  # score, or compare by, the mean of a photo and its mirror image
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"size": 8, "epochs": 1, "batch_size": 1, "accumulate": 1, "eval_every": 1,
                 "embedding": 0, "per_class": 1}  # fmt: skip
        for field, value in least.items():
            if getattr(self, field) < value:
                raise RecipeError(f"{field} is {getattr(self, field)}; it must be {value} or more")
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
        if self.sampler == "pairs" and self.loss != "contrastive":
            raise RecipeError("sampler 'pairs' feeds two photos at a time, to loss 'contrastive'")
        if not 0 < self.pair_margin <= 2:
            raise RecipeError(
                f"pair_margin is {self.pair_margin}; points of length one are 0…2 apart"
            )
        if self.imbalance < 1:
            raise RecipeError(f"imbalance is {self.imbalance}; it must be 1 (none) or more")
        if self.embedding and (self.mixup or self.cutmix):
            raise RecipeError("mixup and cutmix mix classes; a loss that compares photos needs one")
        parse_plan(self.plan, self.epochs)
        if self.model in MODELS:
            self._ask_no_backbone()

    def _ask_no_backbone(self) -> None:
        """A network trained from scratch has no weights, head, plan or statistics to choose."""
        plain = {"weights": "random", "head": "linear", "plan": "", "body_lr": 1.0,
                 "layer_decay": 1.0}  # fmt: skip
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
        varied = self.augment != "none" or self.mixup or self.cutmix or self.flip_eval
        return self.plan == "head" and not varied and self.size_at(0) == self.scored_size

    @property
    def kept_size(self) -> int:
        """Side at which photos are kept decoded, pixels."""
        return self.store_size or max(self.size, self.scored_size)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views of a photo whose mean is scored, see `carlib.evaluation.VIEWS`."""
        return ("plain", "mirror") if self.flip_eval else ("plain",)

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
    defaults = {f.name: f.default for f in fields(Recipe)}
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
    """A recipe from the JSON that `Recipe.to_json` wrote."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecipeError(f"not a recipe: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError("not a recipe: expected a JSON object of fields")
    return recipe_from_dict(values)


RECIPES: dict[str, Recipe] = {}


def _add(name: str, base: str | None = None, **changes: object) -> None:
    start = RECIPES[base] if base else Recipe()
    RECIPES[name] = start.but(name=name, **changes)


def recipe(name: str, **changes: object) -> Recipe:
    """A named recipe, with some fields changed; `RecipeError` lists near names."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3) or list(RECIPES)
        raise RecipeError(f"unknown recipe {name!r}; known: {', '.join(near)}")
    return RECIPES[name].but(**changes) if changes else RECIPES[name]


# The three plain CNNs of study S3. The third reached .723 there only because augmented copies of
# the same photo lay on both sides of its split.
_add("cnn3", note="S3: three convolutions, nothing else", model="cnn3", augment="none",
     size=96, smoothing=0.0, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="constant",
     epochs=40, clip=0.0)  # fmt: skip
_add("cnn4", "cnn3", note="S3: four convolutions, batch norm, dropout", model="cnn4",
     augment="light")  # fmt: skip
_add("cnn_advanced", "cnn3", note="S3: greyscale, global pooling, AdamW (leak removed)",
     model="cnn_advanced", grayscale=True, size=160, augment="study3", optimizer="adamw",
     weight_decay=0.01, schedule="plateau")  # fmt: skip

# Study S1: its method, our split, and the best weights really restored.
_add("s1", note="S1: from scratch with MixUp and balanced sampling", model="simple_resnet_s1",
     size=224, store_size=256, augment="study1", mixup=0.4, mix_probability=0.5,
     sampler="balanced", smoothing=0.05, lr=1e-3, weight_decay=1e-4, epochs=70, batch_size=32,
     monitor="loss", patience=5, min_change=1e-3)  # fmt: skip

# Study S0: two networks, two losses. The learning rate is the peak of its one-cycle (10 × 2e-4).
_add("resnet_ce", note="S0: SimpleResNet, cross-entropy with smoothing", model="simple_resnet",
     size=224, augment="compcars", crop="box", margin=0.1, smoothing=0.1, lr=2e-3,
     weight_decay=2e-5, warmup=0.3, epochs=45, batch_size=64, clip=0.0)  # fmt: skip
_add("resnet_focal", "resnet_ce", note="S0: SimpleResNet, focal loss, no smoothing", loss="focal",
     smoothing=0.0)  # fmt: skip
_add("resnet_large_ce", "resnet_ce", note="S0: SimpleResNetLarge, cross-entropy",
     model="simple_resnet_large")  # fmt: skip
_add("resnet_large_focal", "resnet_focal", note="S0: SimpleResNetLarge, focal loss",
     model="simple_resnet_large")  # fmt: skip

# Ours. Paint carries no information, so photos are grey; crops make 6,600 photos go further; the
# side grows during training because early epochs learn as much from small photos.
_add("scratch_best", note="ours on a GPU: grey, crops, MixUp and CutMix, long one-cycle, EMA",
     model="simple_resnet", size=192, eval_size=224, store_size=256, start_size=96,
     augment="strong", grayscale=True, mixup=0.2, cutmix=1.0, mix_probability=0.5, mix_until=0.9,
     lr=2e-3, weight_decay=0.05, epochs=300, batch_size=128, ema=0.999, eval_every=5,
     flip_eval=True)  # fmt: skip
_add("scratch_cpu", "scratch_best", note="ours on two CPU cores",
     model="simple_resnet_half", size=96, eval_size=0, store_size=128, start_size=64,
     augment="scratch_cpu", mixup=0.0, cutmix=1.0, mix_probability=0.3, mix_until=0.8, epochs=90,
     batch_size=64, eval_every=2)  # fmt: skip

# Transfer: what the earlier studies did with weights from ImageNet. Where a study gave no number of
# epochs for a stage, the stage has that of its neighbor.
_add("resnet50_frozen", note="S3: ResNet-50, frozen, linear", model="resnet50",
     weights="pretrained", statistics="model", plan="head", size=224, augment="none", smoothing=0.0,
     optimizer="adam", weight_decay=0.0, schedule="constant", epochs=10, batch_size=32,
     clip=0.0)  # fmt: skip
_add("resnet50_frozen_augmented", "resnet50_frozen", note="S3: the same on augmented photos",
     augment="study3", store_size=256)  # fmt: skip
_add("resnet50_tuned", "resnet50_frozen_augmented", note="S3: ResNet-50, head first, then all",
     head="dropout", plan="head:5:1 all:5:0.1")  # fmt: skip
_add("densenet121_progressive", "resnet50_frozen_augmented", model="densenet121",
     note="S3: DenseNet-121, block after block",
     plan="head:4:1 features.denseblock4:3:0.5 features.denseblock3:3:0.1")  # fmt: skip
_add("efficientnet_b3", note="S4: EfficientNet-B3, two learning rates", model="efficientnet_b3",
     weights="pretrained", statistics="model", head="norm_dropout", size=224, store_size=256,
     augment="study4", smoothing=0.0, lr=1e-3, body_lr=0.1, weight_decay=5e-4, schedule="step",
     epochs=20, batch_size=32, patience=5, clip=0.0)  # fmt: skip
_add("efficientnetv2", note="S2: EfficientNetV2-S, MixUp or CutMix, balanced sampling",
     model="efficientnetv2_rw_s", weights="pretrained", statistics="model", head="dropout",
     size=224, store_size=256, augment="study2", mixup=0.4, cutmix=1.0, sampler="balanced", lr=3e-4,
     weight_decay=1e-5, schedule="cosine", warmup=0.0, epochs=25, batch_size=32,
     monitor="macro_f1", patience=7, clip=0.0)  # fmt: skip
_add("resnet18_ce", "resnet_ce", note="S0: ResNet-18 fine-tuned, cross-entropy with smoothing",
     model="resnet18", weights="pretrained", statistics="model")  # fmt: skip
_add("resnet18_focal", "resnet18_ce", note="S0: ResNet-18 fine-tuned, focal loss, no smoothing",
     loss="focal", smoothing=0.0)  # fmt: skip
_add("inception_ce", "resnet18_ce", note="S0: InceptionV3 and its auxiliary head, cross-entropy",
     model="inception_v3", size=299)  # fmt: skip
_add("inception_focal", "resnet18_focal", note="S0: InceptionV3 and its auxiliary head, focal loss",
     model="inception_v3", size=299)  # fmt: skip

# Ours: everything learns from the first step; photos are squashed, and a little larger when scored
# than when trained on, as crops enlarge what they show (Touvron 2019, arXiv:1906.06423).
_add("lite0", note="ours on a GPU: EfficientNet-Lite0, all of it from the first step",
     model="efficientnet_lite0", weights="pretrained", statistics="model", size=256, eval_size=288,
     store_size=320, augment="transfer", mixup=0.2, cutmix=1.0, mix_probability=0.5, mix_until=0.9,
     lr=1e-3, epochs=60, batch_size=64, ema=0.999, eval_every=5)  # fmt: skip
_add("lite2", "lite0", note="the same with EfficientNet-Lite2", model="efficientnet_lite2",
     size=288, eval_size=320)  # fmt: skip
# Photos are kept larger than they are trained on, so that a crop of half of one is still sharp.
# Small at first and larger later costs as much as 128 px throughout.
_add("lite0_cpu", "lite0", note="ours on two CPU cores", size=160, eval_size=192, store_size=256,
     start_size=96, grow_until=0.8, mixup=0.0, mix_probability=0.3, epochs=12, ema=0.0,
     eval_every=2, flip_eval=True)  # fmt: skip
_add("lite0_cpu_long", "lite0_cpu", note="ours on two CPU cores, more epochs", mixup=0.2,
     grow_until=0.6, mix_probability=0.5, epochs=20, ema=0.998, eval_every=4)  # fmt: skip
_add("years", "lite0_cpu", note="which of two years? for showroom#years", crop="box", margin=0.1,
     augment="light", size=192, eval_size=0, start_size=0, store_size=224, cutmix=0.0, epochs=16,
     batch_size=32, flip_eval=False)  # fmt: skip
_add("lite0_frozen", note="frozen EfficientNet-Lite0, linear head on features computed once",
     model="efficientnet_lite0", weights="pretrained", statistics="model", plan="head", size=224,
     augment="none", smoothing=0.0, lr=3e-3, weight_decay=0.01, epochs=40,
     batch_size=64)  # fmt: skip

# Networks that compare, with the photos and epochs of lite0_cpu. What a loss learns itself has to
# move much faster than the network (Kim 2020).
_add("lite0_contrastive", "lite0_cpu", note="embedding, contrastive loss", embedding=512,
     loss="contrastive", sampler="per_class", smoothing=0.0, cutmix=0.0)  # fmt: skip
_add("lite0_triplet", "lite0_contrastive", note="embedding, triplets mined semi-hard",
     loss="triplet")  # fmt: skip
_add("lite0_multi_similarity", "lite0_contrastive", note="embedding, multi-similarity loss",
     loss="multi_similarity")  # fmt: skip
_add("lite0_proxy_anchor", "lite0_contrastive", note="embedding, a point per class",
     loss="proxy_anchor", proxy_lr=100.0)  # fmt: skip
_add("lite0_arcface", "lite0_contrastive", note="embedding, angular margin", loss="arcface",
     proxy_lr=100.0)  # fmt: skip

# Verification as study S0 did it: pairs at random, contrastive loss with margin 1. All embeddings
# here have length one; S0's EfficientNet left its own as they came.
_add("siamese_resnet18", "resnet18_ce", note="S0: Siamese ResNet-18, contrastive", size=192,
     head="bn_neck", embedding=512, loss="contrastive", sampler="pairs", smoothing=0.0, lr=2e-4,
     schedule="plateau", step_factor=0.5)  # fmt: skip
_add("siamese_resnet50", "siamese_resnet18", note="S0: Siamese ResNet-50 with a projection",
     model="resnet50", head="projection")  # fmt: skip
_add("siamese_efficientnet", "siamese_resnet18", note="S0: Siamese EfficientNet-B0",
     model="efficientnet_b0", head="linear")  # fmt: skip
_add("siamese_scratch", "siamese_resnet18", note="S0: Siamese SimpleResNet, random weights",
     model="simple_resnet", weights="random", statistics="imagenet", head="linear")  # fmt: skip
_add("siamese_lite0", "lite0_contrastive", note="S0's method with Lite0 on two CPU cores",
     head="bn_neck", sampler="pairs", lr=2e-4, weight_decay=2e-5, schedule="plateau",
     step_factor=0.5)  # fmt: skip


def quick(chosen: Recipe, epochs: int = 0, size: int = 64) -> Recipe:
    """The same method on a laptop's budget: few epochs, small photos, a new name.

    Twelve epochs, unless told otherwise, and six of the large network, whose steps take three times
    as long: a budget is time.
    """
    epochs = min(chosen.epochs, epochs or (6 if chosen.model == "simple_resnet_large" else 12))
    size = min(size, chosen.size)
    return dataclasses.replace(
        chosen,
        name=f"{chosen.name}_quick",
        epochs=epochs,
        plan=rescaled(chosen.plan, epochs),
        size=size,
        eval_size=0,
        start_size=0,
        store_size=size if chosen.augment == "none" else size * 9 // 8,
        patience=0,
        eval_every=1,
    )
