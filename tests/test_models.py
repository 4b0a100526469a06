"""The networks: as large as the studies say, and working at any size of photo."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from carlib.errors import RecipeError
from carlib.models.networks import MODELS, build_model, count_flops, count_parameters

PARAMETERS = [  # model, classes, channels, parameters that the studies report
    ("simple_resnet", 431, 3, 11_397_615),
    ("simple_resnet", 75, 3, 11_214_987),
    ("simple_resnet_large", 431, 3, 33_493_911),
    ("simple_resnet_large", 75, 3, 33_265_715),
    ("simple_resnet_s1", 196, 3, 11_277_060),
    ("cnn_advanced", 196, 1, 621_956),
]


@pytest.mark.parametrize("name, classes, channels, parameters", PARAMETERS)
def test_parameter_counts_are_those_of_the_studies(name, classes, channels, parameters):
    with torch.device("meta"):  # shapes without memory
        assert count_parameters(build_model(name, classes, channels)) == parameters


def test_half_width_costs_a_quarter_of_the_parameters():
    with torch.device("meta"):
        half, whole = (
            count_parameters(build_model(n, 196)) for n in ("simple_resnet_half", "simple_resnet")
        )
    assert 0.24 < half / whole < 0.26


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_every_network_learns_at_two_sizes(name, channels):
    torch.manual_seed(0)
    model = build_model(name, 5, channels)
    for size in (32, 48):
        photos = torch.randn(2, channels, size, size)
        logits = model(photos)
        assert logits.shape == (2, 5)
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 4])).backward()
    model.eval()
    with torch.no_grad():
        features = model.features(photos)
        assert features.shape == (2, model.num_features)
        assert torch.equal(model.head(features), model(photos))  # no dropout when scoring
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert not without


def test_residual_blocks_of_the_smooth_network_start_as_the_identity():
    model = build_model("simple_resnet_half", 5)
    assert all(
        (m.norm2.weight == 0).all() for m in model.modules() if type(m).__name__ == "BasicBlock"
    )


def test_same_seed_same_weights():
    def weights() -> torch.Tensor:
        torch.manual_seed(3)
        return torch.cat([p.flatten() for p in build_model("cnn4", 5).parameters()])

    assert torch.equal(weights(), weights())


def test_unknown_model_lists_the_known():
    with pytest.raises(RecipeError, match=r"'resnet999'; known: .*simple_resnet_large"):
        build_model("resnet999", 5)


def test_operations_are_counted_for_one_photo_and_leave_the_network_as_it_was():
    """A 3×3 convolution of 3 → 8 channels on 10×10 pixels, then 8 → 2: by hand."""
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    assert count_flops(layers, 10) == 2 * (10 * 10 * 8 * 3 * 9 + 8 * 2)
    assert layers.training
    with torch.device("meta"):
        assert count_flops(build_model("cnn3", 5), 32) > count_flops(build_model("cnn3", 5), 16)
