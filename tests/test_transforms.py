"""Augmentation: one description, two builders, and batches that say honestly what they hold."""

from __future__ import annotations

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from toys import shape

from carlib.data.images import resize
from carlib.data.transforms import (
    GRAY,
    PRESETS,
    STATISTICS,
    Mixing,
    Normalize,
    Preset,
    cpu_pipeline,
    describe,
    for_gpu,
    gpu_pipeline,
    preset,
)
from carlib.errors import RecipeError

try:
    import kornia  # noqa: F401
except ImportError:
    BACKENDS = ("cpu",)
else:
    BACKENDS = ("cpu", "gpu")


def photos(count: int = 8, size: int = 48) -> np.ndarray:
    """Toy photos (count, size, size, 3) uint8."""
    return np.stack([np.array(shape(i % 4, i).resize((size, size))) for i in range(count)])


def batch(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def augmented(backend: str, wanted: Preset, size: int, pixels: np.ndarray, seed: int = 0):
    """Photos (count, 3, size, size) in 0…1 from either builder."""
    if backend == "gpu":
        return gpu_pipeline(wanted, size)(batch(pixels), seed)
    run = cpu_pipeline(wanted, size)
    made = run(pixels, seed)
    assert made.dtype == np.uint8 and made.shape == (len(pixels), size, size, 3)
    return batch(made)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_photos_of_the_size_and_repeats_itself(backend, name):
    for size in (32, 56):
        made = augmented(backend, preset(name), size, photos())
        assert made.shape == (8, 3, size, size) and made.dtype == torch.float32
        assert made.min() >= 0 and made.max() <= 1 and made.isfinite().all()
        assert torch.equal(made, augmented(backend, preset(name), size, photos()))
        if name != "none":
            assert not torch.equal(made, augmented(backend, preset(name), size, photos(), seed=99))


@pytest.mark.parametrize("name", ["none", "strong"])
def test_a_pipelines_past_does_not_matter(name):
    run, other = cpu_pipeline(preset(name), 32), cpu_pipeline(preset(name), 32)
    for seed in range(5):
        run(photos()[:1], seed)
    assert (run(photos()[1:3], 7) == other(photos()[1:3], 7)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_a_plain_resize(backend):
    pixels = photos()
    plain = batch(np.stack([resize(p, 24, 24) for p in pixels]))
    made = augmented(backend, preset("none"), 24, pixels)
    assert (made - plain).abs().mean() < (1e-6 if backend == "cpu" else 0.02)


@pytest.mark.parametrize("backend", BACKENDS)
def test_input_photos_are_left_alone(backend):
    pixels = photos()
    before = pixels.copy()
    augmented(backend, preset("strong"), 48, pixels)
    assert (pixels == before).all()


PARTS = {  # each part alone, strong and certain, so that its effect shows
    "flip": Preset(flip=1.0),
    "move": Preset(rotation=20, shift=0.1, zoom=0.1, shear=(5, 5)),
    "crop": Preset(crop=(0.3, 0.6)),
    "light": Preset(brightness=0.4),
    "contrast": Preset(contrast=0.4),
    "light and contrast": Preset(brightness=0.3, contrast=0.3),
    "jitter": Preset(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    "gray": Preset(gray=1.0),
    "blur": Preset(blur=1.0),
    "erasing": Preset(erasing=1.0),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("part", [*PARTS, "strong", "none"])
def test_a_part_of_a_batch_looks_as_in_the_whole(backend, part):
    """Whoever makes it, so that processes which share a batch see what one alone would see."""
    wanted, pixels, places = PARTS.get(part) or preset(part), photos(9), np.array([1, 4, 5, 8])
    wanted = replace(wanted, flip=0.5, affine=0.5, color=0.5 if part == "light" else wanted.color)
    whole = augmented(backend, wanted, 40, pixels)[places]
    if backend == "gpu":
        own = gpu_pipeline(wanted, 40)(batch(pixels[places]), 0, places, len(pixels))
    else:
        own = batch(cpu_pipeline(wanted, 40)(pixels[places], 0, places))
    assert torch.allclose(own, whole, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_copies_of_one_photo_all_differ(backend):
    made = augmented(backend, preset("standard"), 40, np.repeat(photos(1), 8, 0))
    assert len({photo.numpy().tobytes() for photo in made}) == 8


def test_kornia_is_needed_only_where_something_is_drawn(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "kornia", None)
    assert for_gpu(preset("none")) and not for_gpu(preset("light"))
    assert gpu_pipeline(preset("none"), 24)(batch(photos(2)), 0).shape == (2, 3, 24, 24)
    with pytest.raises(RecipeError, match=r"pip install 'carlib\[gpu\]'"):
        gpu_pipeline(preset("light"), 24)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_does_something(backend, part):
    pixels = photos()
    changed = (augmented(backend, PARTS[part], 48, pixels) - batch(pixels)).abs().mean((1, 2, 3))
    assert (changed > 1e-3).float().mean() >= 0.75  # a white square has no color to lose


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_do_what_they_say(backend):
    pixels = photos()
    flipped = augmented(backend, PARTS["flip"], 48, pixels)
    assert torch.allclose(flipped, batch(pixels).flip(3), atol=1e-6)
    gray = augmented(backend, PARTS["gray"], 48, pixels)
    luma = (batch(pixels) * torch.tensor(GRAY).view(1, 3, 1, 1)).sum(1)
    assert all((gray[:, channel] - luma).abs().max() < 0.01 for channel in range(3))
    blurred = augmented(backend, PARTS["blur"], 48, pixels)
    assert (blurred.diff(dim=3).abs().mean() < 0.9 * batch(pixels).diff(dim=3).abs().mean()).all()
    erased = (augmented(backend, PARTS["erasing"], 48, pixels) - batch(pixels)).abs().amax(1) > 0
    assert (erased.float().mean((1, 2)) < 0.25).all()


@pytest.mark.skipif("gpu" not in BACKENDS, reason="kornia is not installed")
@pytest.mark.parametrize("part", PARTS)
def test_both_builders_agree_on_average(part):
    """Mean, contrast and size of the change, over many draws; the two are not the same code."""
    pixels = photos(128)
    moments = {}
    for backend in BACKENDS:
        made = augmented(backend, PARTS[part], 48, pixels)
        change = (made - batch(pixels)).abs().mean()
        moments[backend] = torch.stack([made.mean(), made.std((1, 2, 3)).mean(), change])
    assert (moments["cpu"] - moments["gpu"]).abs().max() < 0.05, moments


def test_parts_are_drawn_independently_of_each_other():
    """Of the photos that are flipped, as many are turned grey as of the others."""
    photo = np.zeros((8, 8, 3), np.uint8)
    photo[:, :4] = (255, 0, 0)
    run = cpu_pipeline(Preset(flip=0.5, gray=0.5), 8)
    made = run([photo] * 400, 0)
    flipped = np.array([m[0, 0].max() == 0 for m in made])
    gray = np.array([(m[..., 0] == m[..., 1]).all() for m in made])
    assert abs(gray[flipped].mean() - 0.5) < 0.12 and abs(gray[~flipped].mean() - 0.5) < 0.12


def test_unknown_preset_lists_the_known():
    with pytest.raises(RecipeError, match="unknown augmentation 'heavy'; known: none, light"):
        preset("heavy")


def test_describe_names_only_what_is_on():
    assert describe("none") == {}
    assert describe("light") == {"crop": (0.8, 1.0), "flip": 0.5, "brightness": 0.2}


# --- normalization ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATISTICS)
def test_normalized_photos_have_mean_zero_and_deviation_one(name):
    mean, std = STATISTICS[name]
    noise = torch.randn(4, 3, 64, 64) * torch.tensor(std).view(1, 3, 1, 1)
    made = Normalize(mean, std)(noise + torch.tensor(mean).view(1, 3, 1, 1))
    assert made.dtype == torch.float32
    assert made.mean((0, 2, 3)).abs().max() < 0.05
    assert (made.std((0, 2, 3)) - 1).abs().max() < 0.05


def test_statistics_of_a_data_set_keep_single_precision():
    made = Normalize(np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.2, 0.2]))(torch.rand(2, 3, 8, 8))
    assert made.dtype == torch.float32


def test_greyscale_is_one_channel_of_luma():
    mean, std = STATISTICS["imagenet"]
    normalize = Normalize(mean, std, grayscale=True)
    pixels = photos(2)
    made = normalize(batch(pixels))
    assert made.shape == (2, 1, 48, 48)
    by_opencv = np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in pixels]) / 255
    back = made[:, 0] * float(np.mean(std)) + float(np.dot(GRAY, mean))
    assert np.abs(back.numpy() - by_opencv).max() < 0.01


# --- mixing -------------------------------------------------------------------------------------


def mixed(mixup: float, cutmix: float, seed: int = 3, count: int = 8, probability: float = 1.0):
    labels = torch.arange(count) % 4
    return Mixing(mixup, cutmix, probability, 4)(batch(photos(count)), labels, seed)


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mixed_targets_are_shares_that_sum_to_one(alphas):
    made, targets = mixed(*alphas)
    assert made.shape == (8, 3, 48, 48) and targets.shape == (8, 4)
    assert torch.allclose(targets.sum(1), torch.ones(8)) and targets.min() >= 0
    assert made.min() >= 0 and made.max() <= 1


def test_mixup_targets_say_what_the_pixels_hold():
    plain = torch.zeros(2, 3, 8, 8)
    plain[1] = 1
    made, targets = Mixing(1.0, 0.0, 1.0, 2)(plain.clone(), torch.tensor([0, 1]), 5)
    assert torch.allclose(made.mean((1, 2, 3)), targets[:, 1], atol=1e-6)
    made, targets = Mixing(0.0, 1.0, 1.0, 2)(plain.clone(), torch.tensor([0, 1]), 5)
    assert torch.allclose(made.mean((1, 2, 3)), targets[:, 1], atol=1e-6)
    assert set(made.unique().tolist()) <= {0.0, 1.0}


def test_same_seed_same_mix_and_numpys_global_state_is_left_alone():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = mixed(0.4, 1.0), mixed(0.4, 1.0), mixed(0.4, 1.0, seed=4)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_only_the_wanted_share_of_batches_is_mixed():
    hard = [bool((mixed(0.4, 0.0, seed, probability=0.5)[1].max(1)[0] == 1).all())
            for seed in range(60)]  # fmt: skip
    assert 15 <= sum(hard) <= 45


def test_a_photo_alone_is_not_mixed():
    made, targets = mixed(0.4, 0.0, count=1)
    assert len(made) == 1 and targets.tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0)])
def test_twos_are_mixed_alike_in_whatever_part_they_are(alphas):
    """The third and the third from the end alone, as in all of the batch."""
    labels, pixels = torch.arange(8) % 4, batch(photos(8))
    whole, targets = Mixing(*alphas, 1.0, 4)(pixels.clone(), labels, 9)
    part, of_part = Mixing(*alphas, 1.0, 4)(pixels[[2, 5]], labels[[2, 5]], 9)
    assert torch.equal(part, whole[[2, 5]]) and torch.equal(of_part, targets[[2, 5]])
