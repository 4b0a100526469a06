"""Augmentation described once, built twice: on the CPU (albumentations) or on the GPU (kornia).

A preset says *what* may happen to a photo. `cpu_pipeline` turns uint8 photos into uint8 photos,
in a loader's worker or where the loop runs; `gpu_pipeline` turns a float batch that already lies
on the GPU. Both draw from the same distributions, albumentations' where the libraries differ, and
by a photo's place in the whole batch, of which they may be given a part: so a batch looks the same
however many processes share it.
MixUp and CutMix work on whole batches and come from timm (`Mixing`). `Normalize` is the last
step before the network, in training and in scoring alike.
"""

from __future__ import annotations

import importlib.util
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F

from carlib.errors import RecipeError
from carlib.seeding import set_seed

STATISTICS = {  # mean and standard deviation of red, green and blue in 0…1
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as OpenCV and Pillow use


@dataclass(frozen=True)
class Preset:
    """What may happen to a training photo. Zero switches a part off."""

    crop: tuple[float, float] = (1.0, 1.0)  # share of the area a random resized crop keeps
    flip: float = 0.0  # probability of a mirror image
    rotation: float = 0.0  # degrees, either way
    shift: float = 0.0  # share of the width and height
    zoom: float = 0.0  # affine scale within 1 ± zoom, drawn apart for width and height
    shear: tuple[float, float] = (0.0, 0.0)  # degrees along the width and the height, either way
    affine: float = 1.0  # probability of zoom, rotation, shear and shift together, in this order
    brightness: float = 0.0  # factor within 1 ± this; with no saturation and hue: share of white
    contrast: float = 0.0  # factor within 1 ± this, about the mean; the same: about black
    saturation: float = 0.0  # factor within 1 ± this
    hue: float = 0.0  # share of the color circle, either way
    color: float = 1.0  # probability of the four above together
    blur: float = 0.0  # probability of a 3×3 Gaussian blur
    sigma: tuple[float, float] = (0.5, 3.0)  # its standard deviation, in pixels
    gray: float = 0.0  # probability of a greyscale photo
    erasing: float = 0.0  # probability of one erased rectangle, 2–20 % of the area

    @property
    def moves(self) -> bool:
        return bool(self.rotation or self.shift or self.zoom or any(self.shear))

    @property
    def colors(self) -> bool:
        return bool(self.brightness or self.contrast or self.saturation or self.hue)


PRESETS = {
    "none": Preset(),
    "light": Preset(crop=(0.8, 1.0), flip=0.5, brightness=0.2),
    "standard": Preset(
        crop=(0.5, 1.0), flip=0.5, rotation=5, affine=0.3, brightness=0.3, contrast=0.3,
        saturation=0.3, hue=0.05, color=0.8, gray=0.1,
    ),
    "strong": Preset(
        crop=(0.35, 1.0), flip=0.5, rotation=10, shift=0.05, shear=(5, 5), affine=0.5,
        brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, color=0.8, blur=0.1, gray=0.2,
        erasing=0.25,
    ),
    # Greyscale input makes color moves pointless; brightness and contrast are look-ups, so cheap.
    "scratch_cpu": Preset(
        crop=(0.4, 1.0), flip=0.5, rotation=6, affine=0.3, brightness=0.3, contrast=0.3,
        erasing=0.1,
    ),
    # The five studies. What they say nothing of is torchvision's default (how strong a blur is) or
    # ours: mirrored borders where torchvision leaves black ones; at most a fifth of a photo erased,
    # in grey, where torchvision erases up to a third, in black.
    # S0 (CompCars): resize, flip, brightness and contrast (always here; how often is not said), a
    # rare small affine move.
    "compcars": Preset(
        flip=0.5, rotation=10, shift=0.05, zoom=0.1, shear=(5, 2), affine=0.3, brightness=0.2,
        contrast=0.2,
    ),
    # S1 (from scratch, 224 px). RandomAffine with one number shears along the width alone, and
    # GaussianBlur blurs every photo. Rotation and shear are one move here, interpolated once.
    "study1": Preset(
        crop=(0.8, 1.0), flip=0.5, rotation=15, shift=0.1, shear=(10, 0), brightness=0.2,
        contrast=0.2, saturation=0.2, hue=0.1, blur=1.0, sigma=(0.1, 2.0), gray=0.1, erasing=0.3,
    ),
    # S2 (EfficientNetV2).
    "study2": Preset(
        crop=(0.7, 1.0), flip=0.5, rotation=15, brightness=0.4, contrast=0.4, saturation=0.4,
        hue=0.2, blur=0.15, sigma=(0.1, 2.0),
    ),
    # S3: crop, flip, rotation, jitter, erasing, of which no numbers are told: these are S1's, but
    # for a rarer erasing.
    "study3": Preset(
        crop=(0.8, 1.0), flip=0.5, rotation=15, brightness=0.2, contrast=0.2, saturation=0.2,
        hue=0.1, erasing=0.2,
    ),
    # S4 (EfficientNet-B3); "jitter .3" is taken to leave the hue alone.
    "study4": Preset(
        crop=(0.8, 1.0), flip=0.5, rotation=25, brightness=0.3, contrast=0.3, saturation=0.3,
    ),
    # Fine-tuning begins with features that know color and pose: crops and light are enough.
    "transfer": Preset(crop=(0.5, 1.0), flip=0.5, brightness=0.3, contrast=0.3),
}  # fmt: skip


def preset(name: str) -> Preset:
    """A preset by name; `RecipeError` lists the names there are."""
    if name not in PRESETS:
        raise RecipeError(f"unknown augmentation {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def cpu_pipeline(wanted: Preset, size: int) -> Callable[..., np.ndarray]:
    """(photos (part, h, w, 3) uint8, seed, places) → photos (part, size, size, 3) uint8.

    What is drawn for a photo follows from the seed and its place in the batch (0, 1, … unless
    `places` says otherwise), whatever process runs it, and whatever it ran before: so a resumed run
    sees exactly the photos that the uninterrupted one would have seen.
    """
    # No longer maintained, and its successor is AGPL: it stays, and no other module knows it.
    import albumentations as A

    pipeline = A.Compose(_cpu_steps(wanted, size))
    # One generator for all steps. `set_random_seed` would give each step a copy of the same: then
    # only photos that are flipped are ever turned, and only those turned erased.
    arrays, numbers = np.random.PCG64(), random.Random()
    pipeline.set_random_state(np.random.Generator(arrays), numbers)

    def run(
        photos: Iterable[np.ndarray], seed: int, places: Iterable[int] | None = None
    ) -> np.ndarray:
        begin, made = np.random.PCG64(seed).state, []
        numbered = zip(itertools.count() if places is None else places, photos, strict=False)
        for place, photo in numbered:
            arrays.state = begin
            arrays.advance(int(place) << 64)  # far enough from the numbers of other photos
            numbers.seed(f"{seed} {place}")
            made.append(pipeline(image=photo)["image"])
        return np.stack(made)

    return run


def _cpu_steps(wanted: Preset, size: int) -> list:
    """What albumentations does to a photo, in this order."""
    import albumentations as A
    import cv2

    steps: list = []
    if wanted.crop != (1.0, 1.0):
        steps.append(A.RandomResizedCrop((size, size), scale=wanted.crop, ratio=(0.75, 1.333)))
    else:
        steps.append(A.Resize(size, size, interpolation=cv2.INTER_AREA))
    if wanted.flip:
        steps.append(A.HorizontalFlip(p=wanted.flip))
    if wanted.moves:
        steps.append(
            A.Affine(
                rotate=_either_way(wanted.rotation),
                translate_percent=_either_way(wanted.shift),
                scale=_around_one(wanted.zoom),
                shear={"x": _either_way(wanted.shear[0]), "y": _either_way(wanted.shear[1])},
                border_mode=cv2.BORDER_REFLECT_101,
                p=wanted.affine,
            )
        )
    if wanted.saturation or wanted.hue:
        steps.append(
            A.ColorJitter(
                brightness=_around_one(wanted.brightness),
                contrast=_around_one(wanted.contrast),
                saturation=_around_one(wanted.saturation),
                hue=_either_way(wanted.hue),
                p=wanted.color,
            )
        )
    elif wanted.colors:  # no saturation, no hue: a look-up table does, four times faster
        steps.append(A.RandomBrightnessContrast(wanted.brightness, wanted.contrast, p=wanted.color))
    if wanted.blur:
        steps.append(A.GaussianBlur((3, 3), wanted.sigma, p=wanted.blur))
    if wanted.gray:
        steps.append(A.ToGray(p=wanted.gray))
    if wanted.erasing:
        steps.append(A.Erasing(scale=(0.02, 0.2), ratio=(0.3, 3.3), fill=128, p=wanted.erasing))
    return steps


def for_gpu(wanted: Preset) -> bool:
    """Whether `gpu_pipeline` can be built here: all but a plain resize needs kornia."""
    return wanted == Preset() or importlib.util.find_spec("kornia") is not None


def gpu_pipeline(wanted: Preset, size: int) -> Callable[..., torch.Tensor]:
    """(photos (part, 3, h, w) in 0…1, seed, places, whole) → photos (part, 3, size, size) in 0…1.

    The photos are those at `places` of a batch of `whole`, or a batch themselves, and what is drawn
    for them follows from the seed and these. Needs kornia (`pip install 'carlib[gpu]'`) where
    anything is drawn at all.
    """
    if not for_gpu(wanted):
        raise RecipeError("augmenting on the GPU needs kornia; pip install 'carlib[gpu]'")
    steps = _gpu_steps(wanted, size)

    def run(
        photos: torch.Tensor, seed: int, places: np.ndarray | None = None, whole: int = 0
    ) -> torch.Tensor:
        set_seed(seed, photos.device)
        if wanted.crop == (1.0, 1.0):
            photos = F.interpolate(photos, (size, size), mode="bilinear", antialias=True)
        photos = photos.contiguous()  # kornia's blur asked for it before 0.9
        for step in steps:
            shape = torch.Size((whole or len(photos), *photos.shape[1:]))
            drawn = step.forward_parameters(shape)  # of the whole batch, on the CPU
            photos = step(photos, params=drawn if places is None else _rows(drawn, places))
        return photos

    return run


def _rows(drawn: dict[str, torch.Tensor], places: np.ndarray) -> dict[str, torch.Tensor]:
    """What was drawn for some places of a batch, of what kornia drew for all of it."""
    chosen = drawn["batch_prob"] > 0.5
    rows = torch.from_numpy(places)
    # Before 0.9, kornia draws for chosen photos alone: row 0 belongs to the first of them.
    of_chosen = (chosen.cumsum(0) - 1)[rows][chosen[rows]]
    for_all = ("order", "forward_input_shape")
    return {
        name: values
        if name in for_all
        else values[rows if len(values) == len(chosen) else of_chosen]
        for name, values in drawn.items()
    }


def _gpu_steps(wanted: Preset, size: int) -> list[torch.nn.Module]:
    """What kornia does to a photo, in this order; nothing of it where only the size changes."""
    if wanted == Preset():
        return []
    import kornia.augmentation as K

    from carlib.data.kornia_steps import Affine, Erasing

    steps: list[torch.nn.Module] = []
    if wanted.crop != (1.0, 1.0):  # pixels are areas, as for OpenCV, so corners do not align
        crop = K.RandomResizedCrop((size, size), wanted.crop, (0.75, 1.333), align_corners=False)
        steps.append(crop)
    if wanted.flip:
        steps.append(K.RandomHorizontalFlip(p=wanted.flip))
    if wanted.moves:
        zoom, (along_x, along_y) = _around_one(wanted.zoom), map(_either_way, wanted.shear)
        steps.append(
            Affine(
                degrees=wanted.rotation,
                translate=(wanted.shift, wanted.shift),
                scale=(*zoom, *zoom),
                shear=(*along_x, *along_y),
                padding_mode="reflection",
                align_corners=True,  # about the middle of the outer pixels, as BORDER_REFLECT_101
                p=wanted.affine,
            )
        )
    if wanted.saturation or wanted.hue:
        steps.append(
            K.ColorJitter(
                wanted.brightness, wanted.contrast, wanted.saturation, wanted.hue, p=wanted.color
            )
        )
    elif wanted.colors:  # contrast · photo + brightness, as the look-up table on the CPU
        contrast, brightness = _around_one(wanted.contrast), _around_one(wanted.brightness)
        steps.append(K.RandomContrast(contrast, clip_output=False, p=wanted.color))
        steps.append(K.RandomBrightness(brightness, p=wanted.color))
    if wanted.blur:
        steps.append(K.RandomGaussianBlur((3, 3), wanted.sigma, p=wanted.blur))
    if wanted.gray:
        steps.append(K.RandomGrayscale(p=wanted.gray))
    if wanted.erasing:
        steps.append(Erasing((0.02, 0.2), (0.3, 3.3), value=0.5, p=wanted.erasing))
    return steps


def _either_way(most: float) -> tuple[float, float]:
    return -most, most


def _around_one(spread: float) -> tuple[float, float]:
    return 1 - spread, 1 + spread


class Mixing:
    """MixUp (Zhang 2018) and CutMix (Yun 2019) on a batch, by timm.

    Photo k is mixed with the k-th from the end, all by one share or box that the seed decides: so a
    part of a batch that holds both of every two is mixed as the whole is. Called with an even
    number of photos (batch, 3, h, w), labels (batch,) and a seed; gives the mixed photos and the
    soft targets (batch, classes), unsmoothed: smoothing is the loss's affair, and the train
    accuracy is scored against what the batch really holds.
    """

    def __init__(self, mixup: float, cutmix: float, probability: float, num_classes: int) -> None:
        from timm.data import Mixup

        self._mix = Mixup(mixup, cutmix, prob=probability, label_smoothing=0.0,
                          num_classes=num_classes)  # fmt: skip

    def __call__(self, photos: torch.Tensor, labels: torch.Tensor, seed: int):
        if len(labels) < 2:
            return photos, F.one_hot(labels, self._mix.num_classes).float()
        # timm draws from NumPy's global state, so that is what must be set and put back.
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            return self._mix(photos, labels)
        finally:
            np.random.set_state(state)  # noqa: NPY002


def as_floats(photos: torch.Tensor) -> torch.Tensor:
    """Photos (batch, h, w, 3) uint8 → (batch, 3, h, w) in 0…1."""
    return photos.permute(0, 3, 1, 2).float().div_(255)


class Normalize(torch.nn.Module):
    """From photos in 0…1 to what the network expects: grey if wanted, mean 0, deviation 1.

    A convolution of one pixel does it all in one pass over the photos, several times as fast on a
    CPU as a sum, a difference and a quotient.
    """

    def __init__(self, mean, std, grayscale: bool = False) -> None:
        super().__init__()
        mean, std = np.asarray(mean), np.asarray(std)
        weight = np.eye(3)
        if grayscale:  # the luma of the mean; the mean of the deviations, as channels agree
            weight = np.array([GRAY])
            mean, std = weight @ mean, std.mean(keepdims=True)
        weight, bias = weight / std[:, None], -mean / std
        self.register_buffer("weight", torch.tensor(weight[..., None, None], dtype=torch.float32))
        self.register_buffer("bias", torch.tensor(bias, dtype=torch.float32))

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Photos (batch, 3, h, w) in 0…1 → (batch, 1 or 3, h, w), channels last."""
        photos = F.conv2d(photos, self.weight, self.bias)
        return photos.contiguous(memory_format=torch.channels_last)


def describe(name: str) -> dict[str, object]:
    """The parts of a preset that do something, for tables."""
    plain = asdict(Preset())
    return {key: value for key, value in asdict(preset(name)).items() if value != plain[key]}
