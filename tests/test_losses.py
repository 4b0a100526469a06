"""The objective: each part against its definition, and all parts off against PyTorch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from carlib.errors import RecipeError
from carlib.models.losses import (
    LOSSES,
    METRIC_LOSSES,
    effective_number_weights,
    make_loss,
    make_metric_loss,
)

COUNTS = np.array([100, 50, 10, 5, 1])


def problem(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (16, 5), labels (16,) and soft targets (16, 5)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(16, 5, generator=generator)
    labels = torch.randint(5, (16,), generator=generator)
    return logits, labels, torch.rand(16, 5, generator=generator).softmax(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_plain_equals_pytorchs_cross_entropy(smoothing, soft):
    logits, labels, shares = problem()
    targets = shares if soft else labels
    mine = make_loss("cross_entropy", COUNTS, smoothing)(logits, targets)
    assert torch.allclose(mine, F.cross_entropy(logits, targets, label_smoothing=smoothing))


def test_labels_equal_their_one_hot_targets():
    logits, labels, _ = problem()
    for name in LOSSES:
        loss = make_loss(name, COUNTS, 0.1)
        assert torch.allclose(loss(logits, labels), loss(logits, F.one_hot(labels, 5).float()))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_without_focus_is_cross_entropy(smoothing):
    logits, labels, shares = problem()
    for targets in (labels, shares):
        focal = make_loss("focal", COUNTS, smoothing, gamma=0.0)(logits, targets)
        plain = make_loss("cross_entropy", COUNTS, smoothing)(logits, targets)
        assert torch.equal(focal, plain)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_is_lin_2017(gamma):
    logits, labels, _ = problem()
    p = logits.softmax(1)[torch.arange(16), labels]
    by_hand = (-((1 - p) ** gamma) * p.log()).mean()
    assert torch.allclose(make_loss("focal", COUNTS, gamma=gamma)(logits, labels), by_hand)


def test_focal_of_a_sure_answer_has_finite_gradients():
    logits = torch.tensor([[100.0, 0, 0, 0, 0]], requires_grad=True)
    for gamma in (0.5, 2.0):
        make_loss("focal", COUNTS, gamma=gamma)(logits, torch.tensor([0])).backward()
        assert logits.grad.isfinite().all()


def test_class_balanced_weights_are_cui_2019():
    beta = 0.999
    weights = effective_number_weights(COUNTS, beta)
    effective = torch.tensor([(1 - beta**n) / (1 - beta) for n in COUNTS.tolist()])
    assert torch.allclose(weights * effective / (weights * effective)[0], torch.ones(5))
    assert float(weights.mean()) == pytest.approx(1)
    logits, labels, _ = problem()
    each = F.cross_entropy(logits, labels, reduction="none")
    mine = make_loss("class_balanced", COUNTS, beta=beta)(logits, labels)
    assert torch.allclose(mine, (weights[labels] * each).mean())


def test_logit_adjusted_is_menon_2021():
    logits, labels, _ = problem()
    prior = torch.tensor(COUNTS / COUNTS.sum())
    for tau in (0.5, 1.0):
        by_hand = F.cross_entropy(logits + tau * prior.log().float(), labels)
        mine = make_loss("logit_adjusted", COUNTS, tau=tau)(logits, labels)
        assert torch.allclose(mine, by_hand)


@pytest.mark.parametrize("name", LOSSES)
def test_a_class_without_photos_does_no_harm(name):
    logits, labels, _ = problem()
    logits.requires_grad_()
    loss = make_loss(name, np.array([0, 50, 10, 5, 1]))(logits, labels)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_half_precision_logits_are_scored_in_single():
    logits, labels, _ = problem()
    assert make_loss("focal", COUNTS)(logits.bfloat16(), labels).dtype == torch.float32


def test_unknown_loss_lists_the_known():
    with pytest.raises(RecipeError, match="'hinge'; known: cross_entropy, focal"):
        make_loss("hinge", COUNTS)


# --- losses that compare photos ---


def pairs(spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve photos of three classes, round three points that lie at right angles."""
    labels = torch.arange(12) % 3
    noise = spread * torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    return F.normalize(torch.eye(8)[labels] + noise).requires_grad_(), labels


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_losses_that_compare_prefer_classes_that_lie_together(name):
    torch.manual_seed(0)
    loss = make_metric_loss(name, 3, 8)
    if name in ("proxy_anchor", "arcface"):  # their points, where the classes are
        (points,) = loss.parameters()
        with torch.no_grad():
            points.copy_(torch.eye(8)[:3].reshape(points.shape) if name == "proxy_anchor"
                         else torch.eye(8)[:3].T)  # fmt: skip
    together, apart = pairs(0.05), pairs(1.0)
    assert loss(*together) < loss(*apart)
    loss(*apart).backward()
    assert apart[0].grad.isfinite().all() and apart[0].grad.abs().sum() > 0


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_a_batch_without_a_pair_does_no_harm(name):
    embeddings = F.normalize(torch.ones(1, 8)).requires_grad_()
    loss = make_metric_loss(name, 3, 8)(embeddings, torch.zeros(1, dtype=torch.int64))
    loss.backward()
    assert loss.isfinite()


def test_contrastive_squares_what_is_missing_to_margin_one():
    angle = torch.tensor([0.0, 0.3, 0.8])  # the third photo is a stranger, nearer than the margin
    points = torch.stack([angle.cos(), angle.sin()], dim=1)
    near, far = (points[0] - points[1]).norm(), [(points[i] - points[2]).norm() for i in (0, 1)]
    wanted = near**2 + sum((1 - d) ** 2 for d in far) / 2
    mine = make_metric_loss("contrastive", 2, 2)(points, torch.tensor([0, 0, 1]))
    assert float(mine) == pytest.approx(float(wanted), abs=1e-4)
    apart = make_metric_loss("contrastive", 2, 2, pair_margin=0.3)(points, torch.tensor([0, 0, 1]))
    assert float(apart) == pytest.approx(float(near**2), abs=1e-4)  # strangers are far enough


def test_only_losses_with_a_point_per_class_learn_something():
    learned = {n: sum(p.numel() for p in make_metric_loss(n, 5, 8).parameters())
               for n in METRIC_LOSSES}  # fmt: skip
    assert {n for n, count in learned.items() if count} == {"proxy_anchor", "arcface"}
    assert learned["proxy_anchor"] == learned["arcface"] == 40
    with pytest.raises(RecipeError, match="'hinge'; known: contrastive, triplet"):
        make_metric_loss("hinge", 5, 8)


def test_side_by_side_compares_neighbors_only():
    points = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    near = [(points[i] - points[i + 1]).norm() for i in (0, 2, 4)]
    wanted = (near[0] ** 2 + near[2] ** 2) / 2 + (1 - near[1]).clamp(min=0) ** 2
    mine = make_metric_loss("contrastive", 3, 4, pairs=True)(points, labels)
    assert float(mine) == pytest.approx(float(wanted), abs=1e-4)
