"""From a recipe to its network, before any training."""

from __future__ import annotations

import torch

from carlib.data.transforms import STATISTICS
from carlib.errors import RunError
from carlib.experiment.recipe import Recipe
from carlib.models.backbones import BACKBONES, build_backbone
from carlib.models.networks import MODELS, Embedder, build_model


def make_network(recipe: Recipe, num_classes: int, begin: bool = False) -> torch.nn.Module:
    """The network of a recipe: as training begins, pretrained where asked, or random."""
    channels = 1 if recipe.grayscale else 3
    outputs = recipe.embedding or num_classes
    if recipe.model in MODELS:
        network = build_model(recipe.model, outputs, channels)
    else:
        pretrained = begin and recipe.weights == "pretrained"
        network = build_backbone(
            recipe.model, outputs, channels, recipe.head, pretrained, recipe.pooling
        )
    return Embedder(network) if recipe.embedding else network


def statistics_of(recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that a recipe names for its photos, per channel in 0…1."""
    if recipe.statistics == "data":
        raise RunError(f"{recipe.name}: the statistics of the data are known when it trains")
    of_model = recipe.statistics == "model"
    return STATISTICS[BACKBONES[recipe.model].statistics if of_model else recipe.statistics]
