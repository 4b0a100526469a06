"""Networks trained from scratch: three plain CNNs and residual networks, one registry.

Every network takes photos (batch, channels, height, width), has a `num_features`, and gives its
pooled features by `features(x)` and its logits by calling it, whatever the size of the photos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from carlib.errors import RecipeError

MODELS: dict[str, Callable[..., nn.Module]] = {}


def register(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Make a builder `(num_classes, in_channels) -> module` known by its function's name."""
    MODELS[function.__name__] = function
    return function


def build_model(name: str, num_classes: int, in_channels: int = 3) -> nn.Module:
    """Build a registered network with random weights; `RecipeError` lists the known names."""
    if name not in MODELS:
        raise RecipeError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name](num_classes, in_channels)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def weight_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes that some tensors take, such as the values of a state dict."""
    return sum(value.numel() * value.element_size() for value in tensors)


def count_flops(model: nn.Module, size: int, channels: int = 3) -> int:
    """Multiplications and additions for one photo of `size` pixels, by torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    like = next(model.parameters())
    photo = torch.zeros(1, channels, size, size, dtype=like.dtype, device=like.device)
    learning = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(photo)
    model.train(learning)
    return counter.get_total_flops()


class Classifier(nn.Module):
    """A stem-to-pool `body`, then dropout and a linear layer."""

    def __init__(
        self, body: nn.Module, num_features: int, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.body = body
        self.num_features = num_features
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_features, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled features, shape (batch, num_features)."""
        return self.body(x)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes) of pooled features (batch, num_features)."""
        return self.head(self.dropout(features))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings (batch, dims) of length one, of pooled features (batch, num_features)."""
        return nn.functional.normalize(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, classes)."""
        return self.classify(self.features(x))


class Embedder(Classifier):
    """A network that compares: its head gives a point where a classifier's gives logits.

    `forward` gives embeddings (batch, dims) of length one. Takes over the parts of a classifier
    that was built with as many outputs as the embedding has numbers.
    """

    def __init__(self, network: Classifier) -> None:
        nn.Module.__init__(self)
        self.body, self.num_features = network.body, network.num_features
        self.dropout, self.head = network.dropout, network.head

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings (batch, dims) of length one, of pooled features (batch, num_features)."""
        return nn.functional.normalize(self.classify(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embed(self.features(x))


class BelowHead(Embedder):
    """A network that was trained to compare, by what lies below its last layer.

    What a loss is told about, it fits to the classes it is told about; the layer before has seen
    the same photos and forgets less of what tells others apart (Roth 2020, arXiv:2002.08473;
    Bordes 2022, arXiv:2206.13378).
    """

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings (batch, num_features) of length one: the pooled features themselves."""
        return nn.functional.normalize(features)


# --- plain CNNs ---------------------------------------------------------------------------------


def conv_block(inputs: int, outputs: int, norm: bool = True) -> nn.Sequential:
    """3×3 convolution, batch norm if wanted, ReLU, halving of the resolution."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1)]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.ReLU(inplace=True), nn.MaxPool2d(2))


@register
def cnn3(num_classes: int, in_channels: int = 3) -> Classifier:
    """Three convolutions, then two linear layers on a 4×4 map: what a first tutorial builds."""
    body = nn.Sequential(
        conv_block(in_channels, 32, norm=False),
        conv_block(32, 64, norm=False),
        conv_block(64, 128, norm=False),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128 * 16, 256),
        nn.ReLU(inplace=True),
    )
    return initialized(Classifier(body, 256, num_classes, dropout=0.0))


@register
def cnn4(num_classes: int, in_channels: int = 3) -> Classifier:
    """Four convolutions with batch norm, and dropout before each of the two linear layers."""
    body = nn.Sequential(
        conv_block(in_channels, 32),
        conv_block(32, 64),
        conv_block(64, 128),
        conv_block(128, 256),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(256 * 16, 512),
        nn.ReLU(inplace=True),
    )
    return initialized(Classifier(body, 512, num_classes, dropout=0.5))


@register
def cnn_advanced(num_classes: int, in_channels: int = 1) -> Classifier:
    """Study S3's third network: 32-64-128-256, global average pool, 512 units, dropout .5.

    Greyscale by default; 621,956 parameters at 196 classes.
    """
    body = nn.Sequential(
        conv_block(in_channels, 32),
        conv_block(32, 64),
        conv_block(64, 128),
        conv_block(128, 256),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(256, 512),
        nn.BatchNorm1d(512),
        nn.ReLU(inplace=True),
    )
    return initialized(Classifier(body, 512, num_classes, dropout=0.5))


# --- residual networks --------------------------------------------------------------------------


class BasicBlock(nn.Module):
    """Two 3×3 convolutions added to a shortcut (He 2016, arXiv:1512.03385).

    The shortcut is the identity where shapes allow, else a 1×1 convolution; `smooth` puts an
    average pool before it, so that no pixel is skipped (He 2019, arXiv:1812.01187).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, smooth: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            pool = [nn.AvgPool2d(stride, ceil_mode=True)] if smooth and stride > 1 else []
            step = 1 if pool else stride
            self.shortcut = nn.Sequential(
                *pool, nn.Conv2d(inputs, outputs, 1, step, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def _stem(in_channels: int, width: int) -> list[nn.Module]:
    """7×7/2 convolution and 3×3/2 max-pool: a quarter of the resolution."""
    return [
        nn.Conv2d(in_channels, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]


def residual_network(
    num_classes: int,
    in_channels: int = 3,
    stem: int = 64,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (2, 2, 2, 2),
    dropout: float = 0.3,
    smooth: bool = False,
) -> Classifier:
    """Stem, stages of basic blocks (each but the first halves the resolution), average pool.

    `smooth` pools in the shortcuts and starts every block as the identity (last batch norm at
    zero; Goyal 2017, arXiv:1706.02677).
    """
    layers = _stem(in_channels, stem)
    inputs = stem
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(BasicBlock(inputs, width, stride, smooth=smooth))
            inputs = width
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return initialized(Classifier(body, inputs, num_classes, dropout), zero_last=smooth)


def initialized(model: Classifier, zero_last: bool = False) -> Classifier:
    """The network with convolutions as He 2015 (arXiv:1502.01852) begins them; with `zero_last`
    every residual block begins as the identity.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if zero_last:
        for module in model.modules():
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.norm2.weight)
    return model


@register
def simple_resnet(num_classes: int, in_channels: int = 3) -> Classifier:
    """SimpleResNet of study S0: ResNet-18's layout, dropout .3; 11,397,615 parameters at 431."""
    return residual_network(num_classes, in_channels)


@register
def simple_resnet_large(num_classes: int, in_channels: int = 3) -> Classifier:
    """SimpleResNetLarge of study S0: 3-4-6-3 blocks at 80…640; 33,493,911 parameters at 431."""
    return residual_network(
        num_classes, in_channels, 40, (80, 160, 320, 640), (3, 4, 6, 3), dropout=0.4
    )


@register
def simple_resnet_s1(num_classes: int, in_channels: int = 3) -> Classifier:
    """The network of study S1: ResNet-18's layout, dropout .5; 11,277,060 parameters at 196."""
    return residual_network(num_classes, in_channels, dropout=0.5)


@register
def simple_resnet_half(num_classes: int, in_channels: int = 3) -> Classifier:
    """SimpleResNet at half its width, with smooth shortcuts: a quarter of the work.

    The better use of a small budget: what the narrow layers save pays for larger photos and more
    epochs.
    """
    return residual_network(
        num_classes, in_channels, 32, (32, 64, 128, 256), dropout=0.2, smooth=True
    )


@register
def simple_resnet_quarter(num_classes: int, in_channels: int = 3) -> Classifier:
    """SimpleResNet at a quarter of its width: for drawn cars, a dozen classes and a minute."""
    return residual_network(
        num_classes, in_channels, 16, (16, 32, 64, 128), dropout=0.1, smooth=True
    )
