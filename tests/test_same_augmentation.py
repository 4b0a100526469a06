"""On the CPU and on the GPU a preset draws from the same distributions.

Photos whose red tells the column and whose green tells the row say, once they are augmented, where
each pixel came from: so the matrix of every crop and move is read from what a pipeline returns,
whatever library made it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from carlib.data.transforms import PRESETS, Preset, cpu_pipeline, gpu_pipeline

pytest.importorskip("kornia")

SIDE = 48  # pixels
DRAWS = 2_000
LEVELS = 255 / (SIDE - 1)  # per pixel
# Deviations that chance gives to the difference of two samples of DRAWS: a mean's is
# √(2 / DRAWS) = 0.03 of the standard deviation; four of them are let pass, and more of moments
# of second order, whose tails are longer.
MEAN, SECOND = 0.13, 0.16

# Larger than any preset, so that the order shows in which moves are put together. Middles stay in.
LARGE = Preset(rotation=50, zoom=0.3, shear=(30, 12))
PARTS = {
    "zoom": Preset(zoom=0.1),
    "shear along the width": Preset(shear=(10, 0)),
    "shear along the height": Preset(shear=(0, 10)),
    "shift": Preset(shift=0.1),
    "order of moves": LARGE,
}
MOVING = {name: wanted for name, wanted in PRESETS.items() if wanted.moves or wanted.crop[0] < 1}


def augmented(backend: str, wanted: Preset, photo: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """The photo (h, w, 3) uint8 augmented many times: (draws, h, w, 3) in 0…255."""
    size = len(photo)
    if backend == "cpu":
        return cpu_pipeline(wanted, size)([photo] * draws, seed=1).astype(np.float32)
    batch = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
    made = gpu_pipeline(wanted, size)(batch.expand(draws, -1, -1, -1), 2)
    return 255 * made.permute(0, 2, 3, 1).numpy()


def matrices(backend: str, wanted: Preset) -> np.ndarray:
    """Matrices (draws, 6), row by row, from a pixel of the result to where it was in the photo.

    Both are counted from the middle. Read from the middle of the result, where nothing mirrored is.
    """
    wanted = Preset(
        crop=wanted.crop, rotation=wanted.rotation, shift=wanted.shift, zoom=wanted.zoom,
        shear=wanted.shear, affine=wanted.affine,
    )  # fmt: skip
    rows, columns = np.mgrid[:SIDE, :SIDE]
    ramps = np.stack([columns, rows, rows], axis=-1) * LEVELS
    made = augmented(backend, wanted, ramps.round().astype(np.uint8))
    part = slice(SIDE * 3 // 8, SIDE * 5 // 8)
    middle = (SIDE - 1) / 2
    x, y = columns[part, part].ravel() - middle, rows[part, part].ravel() - middle
    places = made[:, part, part, :2].reshape(DRAWS, -1, 2) / LEVELS - middle
    design = np.stack([x, y, np.ones_like(x)], axis=-1)
    found = np.linalg.pinv(design) @ places  # least squares: (draws, 3, 2)
    return found.transpose(0, 2, 1).reshape(DRAWS, 6)


def differ(one: np.ndarray, other: np.ndarray) -> list[str]:
    """In which of mean, standard deviation and correlation two samples (draws, values) differ."""
    still = 5e-3 * np.ones(one.shape[1])  # what rounding to 256 levels moves
    still[2::3] = 0.1  # pixels
    scale = np.maximum(np.maximum(one.std(0), other.std(0)), still)
    centered = [(sample - sample.mean(0)) / scale for sample in (one, other)]
    second = [part.T @ part / len(part) for part in centered]
    found = {
        "mean": np.abs(one.mean(0) - other.mean(0)) / scale > MEAN,
        "standard deviation": np.abs(one.std(0) - other.std(0)) / scale > SECOND,
        "covariance": np.abs(second[0] - second[1]) > 2 * SECOND,
    }
    return [name for name, wrong in found.items() if wrong.any()]


@pytest.mark.parametrize("name", [*MOVING, *PARTS])
def test_crops_and_moves_have_the_same_moments(name):
    wanted = MOVING.get(name) or PARTS[name]
    assert differ(matrices("cpu", wanted), matrices("gpu", wanted)) == []


WRONG = {  # what the other backend might do instead
    "shear along the other axis": (Preset(shear=(10, 0)), Preset(shear=(0, 10))),
    "shear along one axis of two": (Preset(shear=(5, 5)), Preset(shear=(5, 0))),
    "less shear": (Preset(shear=(5, 2)), Preset(shear=(5, 3))),
    "no zoom": (Preset(zoom=0.1), Preset()),
    "moves more often": (replace(LARGE, affine=0.3), replace(LARGE, affine=0.4)),
    "crops more": (Preset(crop=(0.5, 1.0)), Preset(crop=(0.4, 1.0))),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_distributions_are_told_apart(case):
    one, other = WRONG[case]
    assert differ(matrices("cpu", one), matrices("gpu", other)) != []


@pytest.mark.parametrize("wrong", ["zoom together", "shear before rotation"])
def test_other_matrices_are_told_apart(wrong, monkeypatch):
    import kornia.augmentation as K

    from carlib.data import kornia_steps

    wanted = LARGE if wrong == "shear before rotation" else Preset(zoom=0.1)
    if wrong == "shear before rotation":  # kornia's own order
        own = K.RandomAffine.compute_transformation
        monkeypatch.setattr(kornia_steps.Affine, "compute_transformation", own)
    else:
        right = kornia_steps.Affine.compute_transformation

        def together(self, input, params, flags):
            scale = params["scale"][:, :1].expand(-1, 2)
            return right(self, input, params | {"scale": scale}, flags)

        monkeypatch.setattr(kornia_steps.Affine, "compute_transformation", together)
    assert differ(matrices("cpu", wanted), matrices("gpu", wanted)) != []


def test_only_the_width_is_sheared_where_one_number_is_given():
    """Study 1 used torchvision's RandomAffine(shear=10)."""
    for backend in ("cpu", "gpu"):
        found = matrices(backend, replace(Preset(), shear=PRESETS["study1"].shear))
        along_width, along_height = found[:, 1].std(), found[:, 3].std()
        assert 0.08 < along_width < 0.12, "tan(10°) / √3 = 0.102"
        assert along_height < 2e-3


def blurred_peaks(backend: str, wanted: Preset) -> np.ndarray:
    """What a 3×3 blur leaves of a white pixel on black, (draws, 1), in 0…255."""
    photo = np.zeros((9, 9, 3), np.uint8)
    photo[4, 4] = 255
    return augmented(backend, Preset(blur=wanted.blur, sigma=wanted.sigma), photo)[:, 4, 4, :1]


@pytest.mark.parametrize("name", [name for name, wanted in PRESETS.items() if wanted.blur])
def test_blurs_are_as_strong_and_as_frequent(name):
    wanted = PRESETS[name]
    assert differ(blurred_peaks("cpu", wanted), blurred_peaks("gpu", wanted)) == []
    weaker = replace(wanted, blur=1.0, sigma=(wanted.sigma[0], wanted.sigma[1] / 2))
    assert differ(blurred_peaks("cpu", replace(wanted, blur=1.0)), blurred_peaks("gpu", weaker))


def erased(backend: str, probability: float) -> np.ndarray:
    """Width, height and middle of what is erased, (draws, 4) in pixels; zeros where nothing is."""
    made = augmented(backend, Preset(erasing=probability), np.zeros((SIDE, SIDE, 3), np.uint8))
    gone = made[..., 0] > 0
    along_x, along_y = gone.any(1), gone.any(2)
    place = np.arange(SIDE)
    middles = [np.where(s.any(1), s @ place / s.sum(1).clip(1), 0) for s in (along_x, along_y)]
    return np.stack([along_x.sum(1), along_y.sum(1), *middles], axis=-1).astype(float)


@pytest.mark.parametrize("probability", [1.0, 0.25])
def test_erased_rectangles_have_the_same_moments(probability):
    assert differ(erased("cpu", probability), erased("gpu", probability)) == []
    assert differ(erased("cpu", probability), erased("gpu", 0.6)) != []
