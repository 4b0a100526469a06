"""Every named recipe, each a few lines of difference from another one."""

from __future__ import annotations

import dataclasses
import difflib

from carlib.errors import RecipeError
from carlib.experiment.recipe import Recipe
from carlib.models.backbones import BACKBONES
from carlib.models.freezing import rescaled

RECIPES: dict[str, Recipe] = {}


def _add(name: str, base: str | None = None, **changes: object) -> None:
    start = RECIPES[base] if base else Recipe()
    RECIPES[name] = start.but(name=name, **changes)


def get_recipe(name: str, **changes: object) -> Recipe:
    """A named recipe, with some fields changed; `RecipeError` lists near names."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3) or list(RECIPES)
        raise RecipeError(f"unknown recipe {name!r}; known: {', '.join(near)}")
    return RECIPES[name].but(**changes) if changes else RECIPES[name]


# The three plain CNNs of study S3. Its first two had 133 million weights in their linear layers and
# photos of 224 px; ours are small relatives, to see such a network learn. The third reached .723
# there only because augmented copies of the same photo lay on both sides of its split.
_add("cnn3", note="three convolutions, smaller than S3's", model="cnn3",
     augment="none", size=96, smoothing=0.0, optimizer="adam", lr=1e-3, weight_decay=0.0,
     schedule="constant", epochs=40, clip=0.0)  # fmt: skip
_add("cnn4", "cnn3", note="four convolutions, smaller than S3's", model="cnn4")
_add("cnn_advanced", "cnn3", note="S3's gray network, leak removed",
     model="cnn_advanced", grayscale=True, size=160, augment="study3", optimizer="adamw",
     weight_decay=0.01, schedule="plateau", dev=0.1, keep="best")  # fmt: skip

# Study S1: its method, our split, the best weights really restored, and dev in the place of the
# test photos that stopped its training.
_add("s1", note="S1: residual network, MixUp, balanced sampling", model="simple_resnet_s1",
     size=224, store_size=256, augment="study1", mixup=0.4, mix_probability=0.5,
     sampler="balanced", smoothing=0.05, lr=1e-3, weight_decay=1e-4, epochs=70, batch_size=32,
     monitor="loss", patience=5, min_change=1e-3, cycle_momentum=True, clip=0.0, dev=0.1,
     keep="best")  # fmt: skip

# Study S0: two networks, two losses. The learning rate is the peak of its one-cycle (10 × 2e-4).
_add("resnet_ce", note="S0: SimpleResNet, cross-entropy", model="simple_resnet",
     size=224, augment="compcars", crop="box", margin=0.1, smoothing=0.1, lr=2e-3,
     weight_decay=2e-5, warmup=0.3, cycle_momentum=True, epochs=45, batch_size=64,
     clip=0.0)  # fmt: skip
_add("resnet_focal", "resnet_ce", note="S0: SimpleResNet, focal loss", loss="focal",
     smoothing=0.0)  # fmt: skip
_add("resnet_large_ce", "resnet_ce", note="S0: SimpleResNetLarge, cross-entropy",
     model="simple_resnet_large")  # fmt: skip
_add("resnet_large_focal", "resnet_focal", note="S0: SimpleResNetLarge, focal loss",
     model="simple_resnet_large")  # fmt: skip

# Ours. Paint carries no information, so photos are grey; crops make 6,600 photos go further; the
# side grows during training because early epochs learn as much from small photos.
_add("scratch_best", note="ours, from scratch, on a GPU",
     model="simple_resnet", size=192, eval_size=224, store_size=256, start_size=96,
     augment="strong", grayscale=True, mixup=0.2, cutmix=1.0, mix_probability=0.5, lr=2e-3,
     weight_decay=0.05, epochs=300, batch_size=128, ema=0.999, eval_every=5)  # fmt: skip
_add("scratch_cpu", "scratch_best", note="ours, from scratch",
     model="simple_resnet_half", size=160, eval_size=192, store_size=192, start_size=96,
     grow_until=0.8, augment="scratch_cpu", mixup=0.0, cutmix=1.0, mix_probability=0.3, epochs=150,
     batch_size=64, eval_every=5)  # fmt: skip

# Transfer: what the earlier studies did with weights from ImageNet. Where a study gave no number of
# epochs for a stage, the stage has that of its neighbor.
_add("resnet50_frozen", note="S3: ResNet-50, frozen", model="resnet50",
     weights="pretrained", statistics="model", plan="head", size=224, augment="none", smoothing=0.0,
     optimizer="adam", weight_decay=0.0, schedule="step", epochs=10, batch_size=32,
     clip=0.0)  # fmt: skip
_add("resnet50_frozen_augmented", "resnet50_frozen", note="S3: ResNet-50, frozen, augmented photos",
     augment="study3", store_size=256)  # fmt: skip
_add("resnet50_tuned", "resnet50_frozen_augmented", note="S3: ResNet-50, head first, then all",
     head="dropout", plan="head:5:1 all:5:0.1")  # fmt: skip
_add("densenet121_progressive", "resnet50_frozen_augmented", model="densenet121",
     note="S3: DenseNet-121, block after block",
     plan="head:4:1 features.denseblock4:3:0.5 features.denseblock3:3:0.1")  # fmt: skip
_add("efficientnet_b3", note="S4: EfficientNet-B3, two learning rates", model="efficientnet_b3",
     weights="pretrained", statistics="model", head="norm_dropout", size=224, store_size=256,
     augment="study4", smoothing=0.0, lr=1e-3, body_lr=0.1, weight_decay=5e-4, schedule="step",
     epochs=20, batch_size=32, patience=5, dev=0.1, clip=0.0)  # fmt: skip
# Study S2 scored the middle 224 of 256 px; here photos are squashed, as everywhere.
_add("efficientnetv2", note="S2: EfficientNetV2-S, MixUp or CutMix",
     model="efficientnetv2_rw_s", weights="pretrained", statistics="model", head="light_dropout",
     size=224, store_size=256, augment="study2", mixup=0.4, cutmix=1.0, sampler="balanced", lr=3e-4,
     weight_decay=1e-5, schedule="cosine", warmup=0.0, epochs=25, batch_size=32,
     monitor="macro_f1", patience=7, dev=0.1, keep="best", clip=0.0)  # fmt: skip
_add(
    "efficientnetv2_mlp",
    "efficientnetv2",
    note="S2: EfficientNetV2-S with a hidden layer",
    head="mlp",
    schedule="plateau",
)
_add("resnet18_ce", "resnet_ce", note="S0: ResNet-18, cross-entropy",
     model="resnet18", weights="pretrained", statistics="model")  # fmt: skip
_add("resnet18_focal", "resnet18_ce", note="S0: ResNet-18, focal loss",
     loss="focal", smoothing=0.0)  # fmt: skip
_add("inception_ce", "resnet18_ce", note="S0: InceptionV3, cross-entropy",
     model="inception_v3", size=299)  # fmt: skip
_add("inception_focal", "resnet18_focal", note="S0: InceptionV3, focal loss",
     model="inception_v3", size=299)  # fmt: skip

# Ours: everything learns from the first step; photos are squashed, and a little larger when scored
# than when trained on, as crops enlarge what they show (Touvron 2019, arXiv:1906.06423).
_add("lite0", note="ours, fine-tuned, on a GPU",
     model="efficientnet_lite0", weights="pretrained", statistics="model", size=256, eval_size=288,
     store_size=320, augment="transfer", mixup=0.2, cutmix=1.0, mix_probability=0.5, lr=1e-3,
     epochs=60, batch_size=64, ema=0.998, eval_every=5)  # fmt: skip
_add("lite2", "lite0", note="ours, fine-tuned, Lite2, on a GPU", model="efficientnet_lite2",
     size=288, eval_size=320)  # fmt: skip
# Photos are kept larger than they are trained on, so that a crop of half of one is still sharp.
# Small at first and larger later costs as much as 128 px throughout. Weights are averaged over some
# eight hundredths of the steps: over a quarter, drawn cars lost three points.
_add("lite0_cpu", "lite0", note="ours, fine-tuned, 12 epochs",
     size=160, eval_size=192, store_size=256, start_size=96, grow_until=0.8, mixup=0.0,
     mix_probability=0.3, epochs=12, ema=0.0, eval_every=2)  # fmt: skip
_add("lite0_cpu_long", "lite0_cpu", note="ours, fine-tuned, 24 epochs",
     size=224, eval_size=256, start_size=128, mixup=0.2, mix_probability=0.5, epochs=24, ema=0.995,
     eval_every=1)  # fmt: skip
# The next larger body but one for less than the smaller one's time: the first two of its seven
# stages, where maps are largest, cost two fifths of a step and are left as ImageNet made them.
# Among classes never seen it found no more, see the records.
_add("lite2_cpu_long", "lite0_cpu_long", note="ours, 24 epochs, Lite2, first stages kept",
     model="efficientnet_lite2", plan="blocks.2", eval_size=288, store_size=288)  # fmt: skip
_add("lite2_cpu_whole", "lite0_cpu_long", note="ours, fine-tuned, 24 epochs, Lite2",
     model="efficientnet_lite2")  # fmt: skip
# The methods of studies S2, S3 and S4 (head, freezing, schedule, augmentation, loss) on a body
# whose weights an installable package carries: at 160 px, at their epochs and at ours.
LITE0 = {"model": "efficientnet_lite0", "size": 160, "eval_size": 192, "store_size": 256}
_add("s2_lite0", "efficientnetv2", note="S2's method on our body", **LITE0)
_add("s3_lite0", "resnet50_tuned", note="S3's method on our body", **LITE0)
_add("s4_lite0", "efficientnet_b3", note="S4's method on our body", **LITE0)
for _name in ("s2_lite0", "s3_lite0", "s4_lite0"):
    _base, _epochs = RECIPES[_name], RECIPES["lite0_cpu_long"].epochs
    _add(f"{_name}_{_epochs}", _name, note=f"{_base.note}, {_epochs} epochs",
         epochs=_epochs, plan=rescaled(_base.plan, _epochs), patience=0,
         step_epochs=round(_base.step_epochs * _epochs / _base.epochs))  # fmt: skip
_add("years", "lite0_cpu", note="two years of a drawn car, fine-tuned", crop="box", margin=0.1,
     augment="light", size=192, eval_size=0, start_size=0, store_size=224, cutmix=0.0, epochs=16,
     batch_size=32)  # fmt: skip
# A minute or two each: several of them are held against what is known of drawn cars.
_add("fronts", note="two fronts of a drawn car, from scratch",
     model="simple_resnet_quarter", augment="light", store_size=112, smoothing=0.05, lr=3e-3,
     epochs=20, batch_size=32, eval_every=4)  # fmt: skip
_add("fronts_half", "fronts", note="two fronts, from scratch, twice as wide",
     model="simple_resnet_half", epochs=10, eval_every=2)  # fmt: skip
_add("fronts_lite0", "fronts", note="two fronts, fine-tuned", model="efficientnet_lite0",
     weights="pretrained", statistics="model", lr=1e-3, epochs=6, eval_every=2)  # fmt: skip
_add("lite0_frozen", note="ours, frozen body, linear layer",
     model="efficientnet_lite0", weights="pretrained", statistics="model", plan="head", size=224,
     augment="none", smoothing=0.0, lr=3e-3, weight_decay=0.01, epochs=40,
     batch_size=64)  # fmt: skip

# Networks that compare, with the photos and epochs of lite0_cpu. What a loss learns itself has to
# move much faster than the network (Kim 2020).
_add("lite0_contrastive", "lite0_cpu", note="ours, contrastive loss", embedding=512,
     loss="contrastive", sampler="per_class", smoothing=0.0, cutmix=0.0)  # fmt: skip
_add("lite0_triplet", "lite0_contrastive", note="ours, semi-hard triplets",
     loss="triplet")  # fmt: skip
_add("lite0_multi_similarity", "lite0_contrastive", note="ours, multi-similarity loss",
     loss="multi_similarity")  # fmt: skip
_add("lite0_proxy_anchor", "lite0_contrastive", note="ours, proxy-anchor loss",
     loss="proxy_anchor", proxy_lr=100.0)  # fmt: skip
_add("lite0_arcface", "lite0_contrastive", note="ours, ArcFace", loss="arcface",
     proxy_lr=100.0)  # fmt: skip

# Verification as study S0 did it: pairs at random, contrastive loss with margin 1. All embeddings
# here have length one; S0's EfficientNet left its own as they came.
_add("siamese_resnet18", "resnet18_ce", note="S0: Siamese ResNet-18", size=192,
     head="bn_neck", embedding=512, loss="contrastive", sampler="pairs", smoothing=0.0, lr=2e-4,
     schedule="plateau", step_factor=0.5, cycle_momentum=False, dev=0.1,
     keep="best")  # fmt: skip
_add("siamese_resnet50", "siamese_resnet18", note="S0: Siamese ResNet-50",
     model="resnet50", head="projection")  # fmt: skip
_add("siamese_efficientnet", "siamese_resnet18", note="S0: Siamese EfficientNet-B0",
     model="efficientnet_b0", head="linear")  # fmt: skip
_add("siamese_scratch", "siamese_resnet18", note="S0: Siamese SimpleResNet, from scratch",
     model="simple_resnet", weights="random", statistics="imagenet", head="linear")  # fmt: skip
_add("siamese_lite0", "lite0_contrastive", note="S0's Siamese method on our body",
     head="bn_neck", sampler="pairs", lr=2e-4, weight_decay=2e-5, schedule="plateau",
     step_factor=0.5, epochs=45, eval_every=3, dev=0.1, keep="best")  # fmt: skip


def quick(recipe: Recipe, epochs: int = 0, size: int = 64) -> Recipe:
    """The same method on a laptop's budget: few epochs, photos as small as the network takes, a new
    name.

    Twelve epochs, unless told otherwise, and six of the large network, whose steps take three times
    as long: a budget is time.
    """
    epochs = min(recipe.epochs, epochs or (6 if recipe.model == "simple_resnet_large" else 12))
    backbone = BACKBONES.get(recipe.model)
    size = min(max(size, backbone.smallest if backbone else 0), recipe.size)
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}_quick",
        epochs=epochs,
        plan=rescaled(recipe.plan, epochs),
        size=size,
        eval_size=0,
        start_size=0,
        store_size=size if recipe.augment == "none" else size * 9 // 8,
        patience=0,
        eval_every=1,
    )
