"""Features computed once: the same result as the long way, and kept only for who asked for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import toy_recipe

from carlib.data.framing import Framing
from carlib.data.store import PhotoStore
from carlib.evaluation import features
from carlib.evaluation.evaluate import evaluate
from carlib.evaluation.features import joined, pooled_features
from carlib.evaluation.scorer import Scorer, scoring_photos
from carlib.experiment.checkpoint import Checkpoint
from carlib.files import load_tensors
from carlib.models.backbones import build_backbone
from carlib.paths import cache_root
from carlib.training import loop
from carlib.training.loop import train

CPU = torch.device("cpu")
FROZEN = dict(
    model="resnet18", plan="head", augment="none", size=32, store_size=36, epochs=3, lr=1e-2
)


@pytest.fixture
def counted(monkeypatch):
    """How many photos have gone through a body to make features."""
    seen = []

    def counting(store, positions, size, device):
        seen.append(len(positions))
        return scoring_photos(store, positions, size, device)

    monkeypatch.setattr(features, "scoring_photos", counting)
    return seen


@pytest.mark.parametrize("head", ["linear", "norm_dropout"])
def test_a_head_learns_on_features_what_it_learns_on_photos(toys, tmp_path, head):
    """Dropout too: it draws from the same seeds, whatever came before the head."""
    recipe = toy_recipe(**FROZEN, head=head)
    long = train(recipe, toys, tmp_path / "long", progress=False, reuse_features=False)
    short = train(recipe, toys, tmp_path / "short", progress=False)
    a, b = load_tensors(long.last)[0], load_tensors(short.last)[0]
    assert a.keys() == b.keys()
    for name in a:
        assert torch.allclose(a[name].float(), b[name].float(), atol=1e-3), name
    losses = [[row["val_loss"] for row in run.history()] for run in (long, short)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3) and losses[0][-1] < losses[0][0]


def test_a_killed_head_goes_on_where_it_was(toys, tmp_path, monkeypatch):
    recipe = toy_recipe(**FROZEN)
    whole = train(recipe, toys, tmp_path / "whole", progress=False)
    validate = loop.validate

    def killed(run, parts, state):
        if state.epoch == 2:
            raise KeyboardInterrupt
        return validate(run, parts, state)

    monkeypatch.setattr(loop, "validate", killed)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, toys, tmp_path / "killed", progress=False)
    monkeypatch.setattr(loop, "validate", validate)
    resumed = train(recipe, toys, tmp_path / "killed", progress=False)
    a, b = load_tensors(whole.last)[0], load_tensors(resumed.last)[0]
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("changes", [
    {"augment": "light"}, {"plan": ""}, {"mixup": 0.2}, {"pooling": "gem"}, {"eval_size": 36},
])  # fmt: skip
def test_photos_that_change_are_seen_anew(toys, counted, changes):
    train(toy_recipe(**(FROZEN | {"epochs": 1} | changes)), toys, progress=False)
    assert not counted


def store_and_scorer(toys, **changes):
    store = PhotoStore.open(toys, Framing(32), progress=False)
    torch.manual_seed(0)
    asked = toy_recipe(**(FROZEN | changes))
    return store, Scorer(build_backbone("resnet18", 4), asked, (0.5,) * 3, (0.5,) * 3, CPU)


def test_features_are_computed_once_for_these_weights_and_photos(toys, counted):
    store, scorer = store_and_scorer(toys)
    positions = np.array([5, 3, 8])
    first = pooled_features(scorer, store, positions, progress=False)
    again = pooled_features(scorer, store, positions, progress=False)
    assert counted == [3] and torch.equal(first.values, again.values)
    assert again.seconds == first.seconds > 0
    with torch.no_grad():
        photos = next(scoring_photos(store, positions, 32, CPU))
        scorer.network.eval()
        wanted = scorer.features(photos)
    assert torch.allclose(first.of(positions), wanted, rtol=1e-3, atol=1e-5)  # half precision

    with torch.no_grad():
        scorer.network.body.conv1.weight.mul_(1.01)
    pooled_features(scorer, store, positions, progress=False)
    _, other = store_and_scorer(toys, eval_size=28)
    pooled_features(other, store, positions, progress=False)
    pooled_features(other, store, positions[:2], progress=False)
    assert counted == [3, 3, 3, 2]


def test_damaged_features_are_computed_again(toys, counted):
    store, scorer = store_and_scorer(toys)
    positions = np.arange(4)
    first = pooled_features(scorer, store, positions, progress=False)
    for file in (cache_root() / "features").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-7])
    again = pooled_features(scorer, store, positions, progress=False)
    assert len(counted) == 2 and torch.equal(first.values, again.values)


def test_the_checkpoint_of_a_head_is_a_whole_network(toys):
    run = train(toy_recipe(**FROZEN), toys, progress=False)
    model = Checkpoint.load(run.kept).model
    with torch.no_grad():
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    assert run.summary["seconds"] > sum(row["seconds"] for row in run.history())


def test_joined_features_are_found_by_position(toys):
    store, scorer = store_and_scorer(toys)
    train, val = store.positions("train"), store.positions("val")
    parts = [pooled_features(scorer, store, split, progress=False) for split in (val, train)]
    whole = joined(parts)
    some = np.array([val[1], train[5], train[0]])
    wanted = torch.cat([parts[0].of(val[1:2]), parts[1].of(train[[5, 0]])])
    assert torch.equal(whole.of(some), wanted) and len(whole.values) == len(toys)
    assert whole.seconds == parts[0].seconds + parts[1].seconds


def test_scoring_a_frozen_network_finds_what_training_computed(toys, counted):
    run = train(toy_recipe(**FROZEN), toys, progress=False)
    assert sorted(counted) == [16, 80]
    evaluate(Checkpoint.load(run.kept), toys, "val")
    train(toy_recipe(**FROZEN, head="mlp", imbalance=4.0), toys, progress=False)
    assert len(counted) == 2
