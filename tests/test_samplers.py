"""Batches: a pure function of seed and epoch, made from labels alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from carlib.data.catalog import Catalog
from carlib.data.samplers import Batches, long_tail
from carlib.seeding import seed_of

TAIL = np.repeat(np.arange(4), (400, 80, 16, 4))


@pytest.mark.parametrize("size", [1, 7, 100, 500])
def test_shuffle_shows_each_photo_once(size):
    batches = Batches(TAIL, size).epoch(0)
    shown = np.concatenate(batches)
    assert len(set(shown.tolist())) == len(shown) == len(TAIL) // size * size
    assert {len(batch) for batch in batches} == {size} and len(batches) == len(Batches(TAIL, size))


def test_fewer_photos_than_a_batch_make_one_batch():
    (batch,) = Batches(TAIL[:5], 64).epoch(0)
    assert sorted(batch) == [0, 1, 2, 3, 4]


def test_balanced_makes_every_class_equally_likely():
    batches = Batches(TAIL, 100, sampler="balanced")
    drawn = np.concatenate([b for epoch in range(20) for b in batches.epoch(epoch)])
    shares = np.bincount(TAIL[drawn], minlength=4) / len(drawn)
    assert len(drawn) == 10_000 and np.abs(shares - 0.25).max() < 0.02


def test_per_class_fills_a_batch_with_some_photos_of_some_classes():
    batches = Batches(TAIL, 12, sampler="per_class", per_class=4).epoch(0)
    assert len(batches) == len(TAIL) // 12
    for batch in batches:
        classes, counts = np.unique(TAIL[batch], return_counts=True)
        assert len(classes) == 3 and set(counts) == {4}
        assert len(set(batch.tolist())) == 12  # no photo twice while a class has enough


def test_per_class_repeats_the_photos_of_a_small_class_and_never_hangs():
    labels = np.array([0, 1, 1, 7])  # classes 2 to 6 have no photo
    (batch,) = Batches(labels, 8, sampler="per_class", per_class=4).epoch(0)
    assert sorted(np.unique(labels[batch], return_counts=True)[1]) == [4, 4]
    (batch,) = Batches(labels, 64, sampler="per_class").epoch(0)
    assert set(labels[batch]) == {0, 1, 7} and len(batch) == 63


def test_pairs_are_half_of_one_class_and_never_a_photo_with_itself():
    batches = Batches(TAIL, 100, sampler="pairs")
    drawn = np.concatenate([b for epoch in range(20) for b in batches.epoch(epoch)]).reshape(-1, 2)
    same = TAIL[drawn[:, 0]] == TAIL[drawn[:, 1]]
    assert 0.47 < same.mean() < 0.53 and (drawn[:, 0] != drawn[:, 1]).all()


def test_classes_of_one_photo_meet_others_and_nothing_hangs():
    alone = Batches(np.arange(5), 20, sampler="pairs").epoch(0)[0].reshape(-1, 2)
    assert (alone[:, 0] != alone[:, 1]).all()
    one = Batches(np.zeros(6, int), 6, sampler="pairs").epoch(0)[0].reshape(-1, 2)
    assert (one[:, 0] != one[:, 1]).all()


@pytest.mark.parametrize("sampler", ["shuffle", "balanced", "per_class", "pairs"])
def test_seed_and_epoch_decide_and_nothing_else(sampler):
    def epoch(seed: int, number: int) -> list[int]:
        return np.concatenate(Batches(TAIL, 50, seed, sampler).epoch(number)).tolist()

    batches = Batches(TAIL, 50, 1, sampler)
    batches.epoch(0), batches.epoch(9)
    assert np.concatenate(batches.epoch(3)).tolist() == epoch(1, 3)
    assert epoch(1, 3) != epoch(1, 4) and epoch(1, 3) != epoch(2, 3)


class Closed:
    """A source that must not be read."""

    root = "."

    def read(self, path: str) -> bytes:
        raise AssertionError(f"{path} was opened to choose a batch")

    size = read


def test_no_photo_is_opened_to_choose_one():
    rows = pd.DataFrame({"path": [f"{i}.jpg" for i in range(len(TAIL))], "label": TAIL})
    catalog = Catalog.from_rows(rows, list("abcd"), "closed", Closed())
    assert len(Batches(catalog.labels, 10, sampler="balanced").epoch(0)) == 50


def test_seeds_of_neighbours_are_far_apart():
    seeds = {seed_of(s, e, i) for s in range(5) for e in range(20) for i in range(20)}
    assert len(seeds) == 2000 and all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 2) != seed_of(2, 1) and seed_of(1, 2) == seed_of(1, 2)


def test_a_long_tail_falls_from_all_photos_to_a_share():
    labels = np.repeat(np.arange(5), 100)
    kept = long_tail(labels, 16.0, seed=3)
    counts = sorted(np.bincount(labels[kept]), reverse=True)
    assert counts == [100, 50, 25, 12, 6]
    assert (np.diff(kept) > 0).all() and (long_tail(labels, 16.0, seed=3) == kept).all()
    other = long_tail(labels, 16.0, seed=4)
    assert (np.bincount(labels[other]) != np.bincount(labels[kept])).any()


def test_a_longer_tail_is_part_of_a_shorter_one_and_leaves_no_class_out():
    labels = np.random.default_rng(0).integers(0, 9, 200)
    short, long = long_tail(labels, 10.0), long_tail(labels, 1000.0)
    assert set(long) < set(short) and set(labels[long]) == set(labels)
    assert (long_tail(labels, 1.0) == np.arange(200)).all()
