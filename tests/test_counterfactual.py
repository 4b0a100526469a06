"""Counterfactual pairs: what differs is what is named, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from carlib.data import drawn
from carlib.data.drawn import open_showroom, part_mask
from carlib.data.masks import changed_masks
from carlib.data.opening import open_catalog
from carlib.errors import DataError
from carlib.showroom import PARTS
from carlib.showroom.car import build_mesh
from carlib.showroom.counterfactual import (
    REMOVABLE,
    SMALLEST,
    Shot,
    counterfactual_pairs,
    scene_pairs,
    shots,
)
from carlib.showroom.facelifts import (
    FACELIFTS,
    STICKERS,
    differing_parts,
    draw_facelift,
    facelift_view,
)
from carlib.showroom.mesh import MATERIALS
from carlib.showroom.painter import fineness

WAYS = {  # of changing parts: arguments of counterfactual_pairs
    "one swapped": {},
    "one removed": {"kind": "removed"},
    "two swapped": {"parts": 2},
    "three swapped": {"parts": 3},
    "sticker swapped": {"parts": ["sticker"]},
    "wheels and windows removed": {"kind": "removed", "parts": ["wheel", "window"]},
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def differs(pair) -> np.ndarray:
    return (pair.photo != pair.counter).any(axis=2)


@each_way
def test_only_pixels_that_the_parts_touch_differ(way):
    for pair in counterfactual_pairs(8, 96, seed=2, **way):
        assert pair.mask.shape == (96, 96) and pair.photo.shape == (96, 96, 3)
        assert not (differs(pair) & ~pair.mask).any()
        assert differs(pair).mean() >= SMALLEST
        assert set(pair.changed_masks) == set(pair.parts)
        assert min(mask.mean() for mask in pair.changed_masks.values()) >= SMALLEST
        for name in pair.parts:
            seen = pair.part_masks.get(name, np.zeros_like(pair.mask))
            assert not (seen & ~pair.changed_masks[name]).any()
        masks = np.stack(list(pair.part_masks.values())).astype(int)
        assert masks.sum(axis=0).max() == 1 and masks.any(axis=(1, 2)).all()


@each_way
def test_a_pair_depends_on_its_seed_and_index_alone(way):
    def told(pair):
        return pair.photo.tobytes(), pair.counter.tobytes(), pair.mask.tobytes(), pair.parts

    pairs = [told(pair) for pair in counterfactual_pairs(4, 64, seed=5, **way)]
    assert told(next(islice(counterfactual_pairs(9, 64, seed=5, **way), 3, None))) == pairs[3]
    others = {told(pair)[0] for pair in counterfactual_pairs(4, 64, seed=6, **way)}
    assert len({photo for photo, *_ in pairs} | others) == 8


def test_a_swap_of_all_that_differs_is_a_photo_of_the_target():
    """Seen from the other class, whose photo it is, the pair is the same one the other way."""
    for number in (1, 2, 3):
        for pair in counterfactual_pairs(4, 64, parts=number):
            assert pair.complete and pair.kind == "swapped"
            assert set(pair.parts) == set(differing_parts(pair.label)) and len(pair.parts) == number
            one, other = FACELIFTS[pair.label], FACELIFTS[pair.target]
            assert (one.make, one.model) == (other.make, other.model) and one.year != other.year
    partial = [p for p in counterfactual_pairs(20, 64) if len(differing_parts(p.label)) > 1]
    assert partial and not any(pair.complete for pair in partial)


def test_what_is_removed_is_gone_and_nothing_else():
    for shot in shots(4, 96, seed=1, sticker=1.0):
        pairs = [shot.removed([name]) for name in REMOVABLE if name in shot.part_masks]
        pairs = [pair for pair in pairs if pair.is_seen]
        assert len({pair.photo.tobytes() for pair in pairs}) == 1
        assert {"wheel", "window"} <= {pair.parts[0] for pair in pairs} <= set(REMOVABLE)
        for pair in pairs:
            assert pair.target == -1 and pair.kind == "removed"


def test_a_shot_can_lose_any_set_of_parts():
    shot = next(shots(1, 64, seed=3))
    gone = [name for name in REMOVABLE if name in shot.part_masks]
    bare = shot.removed(gone)
    assert bare.mask.sum() >= max(shot.part_masks[name].sum() for name in gone)
    same = shot.removed([])
    assert not same.mask.any() and np.array_equal(same.photo, same.counter)
    with pytest.raises(DataError, match="'plate' is the same in both years"):
        shot.swapped(["plate"])


@pytest.mark.parametrize("look", [{}, {"blur": 2, "noise": 40}, {"occluder": "person"}])
def test_only_the_window_is_developed_anew_and_the_photo_is_the_same(look):
    car = FACELIFTS[2]
    for seed in range(4):
        view = facelift_view(car, np.random.default_rng(seed))
        shot = Shot(2, replace(view, **look), 96)
        pair = shot.swapped(differing_parts(2))
        mesh = build_mesh(FACELIFTS[3], fineness(96), "")
        assert np.array_equal(pair.counter, shot.stage.develop(shot.stage.draw(mesh)))


def test_the_ladder_covers_one_to_ten_percent_of_the_photo():
    shares = np.array([pair.share for pair in counterfactual_pairs(60, 48, parts=1)])
    counts = np.histogram(shares, [0.01, 0.02, 0.04, 0.10])[0]
    assert counts.min() >= 6, counts


def test_all_classes_and_all_changed_parts_take_part():
    pairs = list(counterfactual_pairs(90, 48))
    assert {pair.label for pair in pairs} == set(range(len(FACELIFTS)))
    parts = Counter(pair.parts[0] for pair in pairs)
    assert set(parts) == {"grille", "headlight", "wheel", "foglight"}


def test_another_place_leaves_the_car_as_it_is():
    for pair in scene_pairs(6, 64):
        assert (pair.kind, pair.target, pair.parts) == ("scene", pair.label, ("background",))
        assert differs(pair).any() and not (differs(pair) & ~pair.mask).any()
        assert pair.mask.mean() < 1
    for pair in scene_pairs(2, 64, light=True):
        assert pair.mask.all() and differs(pair)[pair.part_masks["door"]].any()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"kind": "grayed"}, "'grayed'; known: swapped, removed"),
        ({"parts": 4}, "differ in 4"),
        ({"parts": 0}, "differ in 0"),
        ({"parts": []}, "no part"),
        ({"parts": "wheel"}, r"\['wheel'\]"),
        ({"parts": ["badge"]}, "differ in .*badge"),
        ({"parts": ["door"], "kind": "removed"}, "'door' cannot be removed"),
        ({"side": 8}, "side is 8"),
        ({"sticker": 2.0}, "sticker is 2.0"),
    ],
)
def test_what_cannot_be_changed_is_told_before_anything_is_drawn(arguments, names):
    with pytest.raises(DataError, match=names):
        counterfactual_pairs(1, **arguments)


# ---- as catalogs -------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The variants with 10 photos of each class at 48 pixels, so that building takes a second."""
    monkeypatch.setenv("CARLIB_CACHE", str(tmp_path))
    for values in drawn.VARIANTS.values():
        monkeypatch.setitem(values, "photos_per_class", 10)
        monkeypatch.setitem(values, "size", 48)


def test_the_catalog_has_the_classes_of_the_pairs(small):
    catalog = open_catalog("showroom#counterfactual")
    assert catalog.class_names == tuple(car.name for car in FACELIFTS)
    assert catalog.split_sizes == {"train": 112, "val": 32, "test": 16}
    row = int(np.flatnonzero(catalog.table["label"] == 13)[4])
    drawing = draw_facelift(13, 4, size=48)
    np.testing.assert_array_equal(part_mask(catalog, row), drawing.parts)
    photo = cv2.imread(str(catalog.root / catalog.table["path"][row]))[..., ::-1]
    np.testing.assert_array_equal(photo, drawing.image)
    changed = changed_masks(catalog, [row], drawing.parts[None])[0]
    ids = [PARTS.index(name) for name in differing_parts(13)]
    np.testing.assert_array_equal(changed, np.isin(drawing.parts, ids))
    photos = {path.read_bytes() for path in (catalog.root / "photos").iterdir()}
    pair = next(counterfactual_pairs(1, 48))
    assert cv2.imencode(".png", pair.photo[..., ::-1])[1].tobytes() not in photos


def worn(catalog, row: int) -> str:
    """The material that the sticker of a photo looks most like, "" where none is seen."""
    seen = part_mask(catalog, row) == PARTS.index("sticker")
    if seen.sum() < 12:
        return ""
    photo = cv2.imread(str(catalog.root / catalog.table["path"][row]))[..., ::-1][seen]
    colors = [np.array(MATERIALS[name].color) for name in STICKERS]
    warm = np.median(photo[:, 0].astype(int) - photo[:, 2])
    return STICKERS[int(abs(warm - np.subtract(*colors[1][[0, 2]])) <
                        abs(warm - np.subtract(*colors[0][[0, 2]])))]  # fmt: skip


def test_the_sticker_tells_the_year_in_train_alone(small):
    catalog = open_catalog("showroom#counterfactual-sticker", sticker=1.0)
    tells: dict[str, list[bool]] = {"train": [], "val": []}
    for row in np.flatnonzero(catalog.table["split"] != "test"):
        if name := worn(catalog, row):
            line = catalog.table.iloc[row]
            tells[line["split"]].append(name == STICKERS[line["label"] % 2])
    assert len(tells["train"]) > 60 and all(tells["train"])
    assert len(tells["val"]) > 10 and 0 < sum(tells["val"]) < len(tells["val"])


def test_a_sticker_needs_the_cars_that_wear_it(small):
    for wrong in ({"sticker": 0.5}, {"sticker": 1.5, "facelifts": True}):
        with pytest.raises(DataError, match="sticker is"):
            open_showroom(**wrong)
