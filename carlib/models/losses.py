"""One classification objective whose parts can be switched on one at a time.

Cross-entropy with label smoothing; the focal factor of Lin 2017 (arXiv:1708.02002); class weights
by the effective number of photos of Cui 2019 (arXiv:1901.05555); logits adjusted by the class
prior of Menon 2021 (arXiv:2007.07314). Written once over soft targets, so that each of them also
works on MixUp and CutMix batches, and no comparison of two is confounded by a third.

Losses that compare photos are those of pytorch-metric-learning (Musgrave 2020, arXiv:2008.09164),
each with the miner that its authors pair it with.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from carlib.errors import RecipeError

LOSSES = ("cross_entropy", "focal", "class_balanced", "logit_adjusted")  # of logits
METRIC_LOSSES = ("contrastive", "triplet", "multi_similarity", "proxy_anchor", "arcface")


class ClassificationLoss(nn.Module):
    """Mean over the batch of  w · (1 − p)^γ · −log p,  p = softmax(logits + τ · log prior).

    `forward(logits (batch, classes), targets)` takes labels (batch,) int64 or soft targets
    (batch, classes). With γ = 0 and neither weights nor prior it equals
    `torch.nn.functional.cross_entropy` (tested).
    """

    def __init__(
        self,
        smoothing: float = 0.0,
        gamma: float = 0.0,
        class_weight: torch.Tensor | None = None,
        log_prior: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.gamma = gamma
        self.register_buffer("class_weight", class_weight, persistent=False)
        self.register_buffer("log_prior", log_prior, persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        if self.log_prior is not None:
            logits = logits + self.log_prior
        if targets.ndim == 1:
            targets = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
        if self.smoothing:
            targets = targets * (1 - self.smoothing) + self.smoothing / logits.shape[1]
        log_p = F.log_softmax(logits, dim=1)
        terms = -targets * log_p
        if self.gamma:
            terms = terms * (1 - log_p.exp()).clamp(min=1e-12) ** self.gamma
        if self.class_weight is not None:
            terms = terms * self.class_weight
        return terms.sum(1).mean()


def make_loss(
    name: str,
    counts: np.ndarray,
    smoothing: float = 0.0,
    gamma: float = 2.0,
    beta: float = 0.999,
    tau: float = 1.0,
) -> ClassificationLoss:
    """The objective called `name`, for classes with `counts` training photos each."""
    if name == "cross_entropy":
        return ClassificationLoss(smoothing)
    if name == "focal":
        return ClassificationLoss(smoothing, gamma=gamma)
    if name == "class_balanced":
        return ClassificationLoss(smoothing, class_weight=effective_number_weights(counts, beta))
    if name == "logit_adjusted":
        prior = torch.as_tensor(np.maximum(counts, 1) / np.maximum(counts, 1).sum())
        return ClassificationLoss(smoothing, log_prior=tau * prior.log().float())
    raise RecipeError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")


class MetricLoss(nn.Module):
    """A loss over the pairs of a batch, or over photos and a learned point per class.

    `forward(embeddings (batch, dims) of length one, labels (batch,) int64)`. What it learns itself
    are its parameters; a batch without a pair to learn from gives zero.
    """

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        embeddings = embeddings.float()
        mined = self.miner(embeddings, labels) if self.miner else None
        return self.loss(embeddings, labels, mined)


class SideBySide(nn.Module):
    """The miner of sampler "pairs": photo 0 with photo 1, 2 with 3, and no others."""

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = torch.arange(0, len(labels) - 1, 2, device=labels.device)
        same = labels[first] == labels[first + 1]
        return first[same], first[same] + 1, first[~same], first[~same] + 1


def make_metric_loss(
    name: str, num_classes: int, dims: int, pairs: bool = False, pair_margin: float = 1.0
) -> MetricLoss:
    """The loss called `name` for embeddings of `dims` numbers, with its authors' constants.

    With `pairs` contrastive loss compares photos that lie side by side and no others.

    "contrastive" (Hadsell 2006) pushes different classes `pair_margin` apart, by the square of what
    is missing, with means over the pairs that are pulled and over those that are pushed; "triplet"
    (Schroff 2015, arXiv:1503.03832) has margin .2 on semi-hard triplets; "multi_similarity" (Wang
    2019, arXiv:1904.06627) its own miner; "proxy_anchor" (Kim 2020, arXiv:2003.13911) a point per
    class; "arcface" (Deng 2019, arXiv:1801.07698) a margin of 28.6 degrees.
    """
    from pytorch_metric_learning import losses, miners

    if name == "contrastive":

        class Squared(losses.ContrastiveLoss):  # the library's own hinge is linear
            def pos_calc(self, distances: torch.Tensor, margin: float) -> torch.Tensor:
                return super().pos_calc(distances, margin).square()

            def neg_calc(self, distances: torch.Tensor, margin: float) -> torch.Tensor:
                return super().neg_calc(distances, margin).square()

        loss = Squared(pos_margin=0.0, neg_margin=pair_margin)
        return MetricLoss(loss, SideBySide() if pairs else None)
    if name == "triplet":
        miner = miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard")
        return MetricLoss(losses.TripletMarginLoss(margin=0.2), miner)
    if name == "multi_similarity":
        miner = miners.MultiSimilarityMiner(epsilon=0.1)
        return MetricLoss(losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5), miner)
    if name == "proxy_anchor":
        return MetricLoss(losses.ProxyAnchorLoss(num_classes, dims, margin=0.1, alpha=32))
    if name == "arcface":
        return MetricLoss(losses.ArcFaceLoss(num_classes, dims, margin=28.6, scale=64))
    raise RecipeError(f"unknown loss {name!r}; known: {', '.join(METRIC_LOSSES)}")


def effective_number_weights(counts: np.ndarray, beta: float = 0.999) -> torch.Tensor:
    """Class weights (1 − β) / (1 − βⁿ), scaled to a mean of one; shape (classes,), float32."""
    weights = (1 - beta) / (1 - beta ** np.maximum(counts, 1))
    return torch.as_tensor(weights / weights.mean(), dtype=torch.float32)
