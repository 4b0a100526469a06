"""One classification objective whose parts can be switched on one at a time.

Cross-entropy with label smoothing; the focal factor of Lin 2017 (arXiv:1708.02002); class weights
by the effective number of photos of Cui 2019 (arXiv:1901.05555); logits adjusted by the class
prior of Menon 2021 (arXiv:2007.07314). Written once over soft targets, so that each of them also
works on MixUp and CutMix batches, and no comparison of two is confounded by a third.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from carlib.errors import RecipeError

LOSSES = ("cross_entropy", "focal", "class_balanced", "logit_adjusted")


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
            terms = terms * (1 - log_p.exp()).clamp(min=0) ** self.gamma
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


def effective_number_weights(counts: np.ndarray, beta: float = 0.999) -> torch.Tensor:
    """Class weights (1 − β) / (1 − βⁿ), scaled to a mean of one; shape (classes,), float32."""
    weights = (1 - beta) / (1 - beta ** np.maximum(counts, 1))
    return torch.as_tensor(weights / weights.mean(), dtype=torch.float32)
