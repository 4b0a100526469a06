"""The catalog: its table, fingerprint, splits and CSV."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import trees
from hypothesis import given, settings
from hypothesis import strategies as st

from carlib.data.catalog import Catalog
from carlib.data.opening import open_catalog
from carlib.data.sources import FolderSource
from carlib.data.splits import copy_groups
from carlib.data.table import COLUMNS, photo_stem
from carlib.errors import DataError, PhotoError

NAMES = ("Acura RL Sedan 2012", "Jaguar XK XKR 2012", "zebra")


def catalog(sizes=(10, 25, 2), root="photos", names=NAMES, split="train") -> Catalog:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    paths = [f"{i:04d}.jpg" for i in range(len(labels))]
    rows = pd.DataFrame({"path": paths, "label": labels, "split": split})
    return Catalog.from_rows(rows, names, "cars", FolderSource(root))


def shuffled(cat: Catalog, seed: int = 0) -> Catalog:
    table = cat.table.sample(frac=1, random_state=seed)
    return Catalog(table, cat.class_names, cat.name, cat.source)


def paths(cat: Catalog, split: str) -> set[str]:
    return set(cat.select(split).table["path"])


def test_rows_tell_what_the_names_state_and_nothing_more():
    table = catalog((1, 1, 1)).table
    assert tuple(table.columns) == COLUMNS
    assert table.loc[0, ["make", "model", "year", "body"]].to_list() == [
        "Acura",
        "RL",
        2012,
        "Sedan",
    ]
    assert table.loc[1, "body"] is pd.NA and table.loc[1, "make"] == "Jaguar"
    assert table.loc[2, ["make", "model", "year", "body", "viewpoint", "x1"]].isna().all()
    assert table.loc[2, "class_name"] == "zebra"


def test_stated_values_win_over_those_of_the_name():
    rows = pd.DataFrame({"path": ["a.jpg"], "label": [0], "year": [1999], "viewpoint": ["rear"]})
    row = Catalog.from_rows(rows, NAMES, "cars", FolderSource(".")).table.iloc[0]
    assert (row["year"], row["viewpoint"], row["make"]) == (1999, "rear", "Acura")


def test_unlabelled_photos_are_allowed():
    rows = pd.DataFrame(
        {"path": ["a.jpg", "b.jpg"], "label": [0, None], "split": ["train", "test"]}
    )
    cat = Catalog.from_rows(rows, NAMES, "cars", FolderSource("."))
    assert cat.labels.tolist() == [0, -1] and cat.labels.dtype == np.int64
    assert cat.table.loc[1, ["label", "class_name", "make"]].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": [0, 3]}, "b.jpg has label 3, outside 0..2"),
        ({"label": [0, -1]}, "b.jpg has label -1"),
        ({"path": ["a.jpg", "a.jpg"]}, "a.jpg is listed twice"),
        ({"path": ["a.jpg", None]}, "row 1 has no path"),
        ({"x1": [0, 5], "y1": [0, 0], "x2": [9, 5], "y2": [9, 9]}, "b.jpg has the box"),
        ({"x1": [0, 5]}, "a.jpg has the box"),
    ],
)
def test_rows_that_cannot_be(change, message):
    rows = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "label": [0, 1], **change})
    with pytest.raises(DataError, match=message):
        Catalog.from_rows(rows, NAMES, "cars", FolderSource("."))


def test_class_names_must_differ():
    with pytest.raises(DataError, match="twice"):
        catalog((1, 1), names=("a", "a"))


def test_a_table_with_other_columns_is_refused():
    with pytest.raises(DataError, match="exactly the columns"):
        Catalog(pd.DataFrame({"path": ["a.jpg"]}), NAMES, "cars", FolderSource("."))


def test_select_by_split_and_mask():
    cat = catalog().stratified_split(0.2)
    assert set(cat.select("val").table["split"]) == {"val"}
    assert cat.select(cat.labels == 1).labels.tolist() == [1] * 25
    assert cat.select("val").class_names == cat.class_names
    assert cat.select("val").table.index.tolist() == list(range(len(cat.select("val"))))
    with pytest.raises(DataError, match=r"no split 'test'; its splits are: train, val"):
        cat.select("test")
    with pytest.raises(DataError, match="truth values for 37 photos"):
        cat.select(np.ones(3, dtype=bool))


def test_selected_classes_are_counted_from_zero():
    cat = catalog().stratified_split(0.2)
    last, first = cat.num_classes - 1, 0
    two = cat.select_classes([last, first])
    assert two.class_names == (cat.class_names[last], cat.class_names[first])
    assert two.num_classes == 2 and set(two.labels) == {0, 1}
    for label, old in enumerate((last, first)):
        now, then = two.select(two.labels == label).table, cat.select(cat.labels == old).table
        pd.testing.assert_frame_equal(now.drop(columns="label"), then.drop(columns="label"))
    for wrong in ([0, 0], [-1], [cat.num_classes]):
        with pytest.raises(DataError, match="give different labels from 0 to"):
            cat.select_classes(wrong)


def test_fingerprint_ignores_order_and_nothing_else():
    cat = catalog()
    assert len(cat.fingerprint) == 16
    assert shuffled(cat).fingerprint == cat.fingerprint == catalog(root="elsewhere").fingerprint
    seen = {cat.fingerprint}
    for column in COLUMNS:
        table = cat.table.copy()
        boxed = {"x1": 1, "y1": 1, "x2": 9, "y2": 9}
        if column in boxed:
            table.loc[0, list(boxed)] = list((boxed | {column: 5}).values())
        else:
            table.loc[0, column] = 1 if column in ("label", "year") else "changed"
        seen.add(Catalog(table, cat.class_names, cat.name, cat.source).fingerprint)
    assert len(seen) == 1 + len(COLUMNS)
    assert catalog(names=("x", *NAMES[1:])).fingerprint not in seen


def test_fingerprint_and_split_are_pinned():
    """Records and caches depend on these values: a change of them is a change of the protocol."""
    cat = catalog()
    assert cat.fingerprint == "2c3ef2cd70f3da68"
    split = cat.stratified_split(groups=range(len(cat)))
    assert sorted(paths(split, "val")) == ["0002.jpg", "0023.jpg", "0025.jpg", "0035.jpg"]
    assert split.split_hash("val") == "4006af36ded14eae"


def test_split_hash_sees_stems_and_labels_only():
    rows = {"label": [0, 1], "split": "test"}
    one = Catalog.from_rows(
        pd.DataFrame({"path": ["t/1.jpg", "t/2.jpg"], **rows}), NAMES, "a", FolderSource(".")
    )
    other = Catalog.from_rows(
        pd.DataFrame({"path": ["data/t.parquet#1.png", "data/t.parquet#2.png"], **rows}),
        NAMES,
        "b",
        FolderSource("."),
    )
    assert one.split_hash("test") == other.split_hash("test")
    relabelled = Catalog.from_rows(one.table.assign(label=[1, 0]), NAMES, "a", FolderSource("."))
    assert relabelled.split_hash("test") != one.split_hash("test")
    assert photo_stem("data/t.parquet#folder/00012.jpg") == "00012"
    assert photo_stem("C#/x.y.jpg") == "x.y"


def test_split_takes_a_share_of_every_class():
    split = catalog((10, 25, 2, 1), names=(*NAMES, "lone")).stratified_split(0.2)
    assert np.bincount(split.select("val").labels, minlength=4).tolist() == [2, 5, 1, 0]
    assert split.split_sizes == {"train": 30, "val": 8}
    nothing = catalog().stratified_split(0.0)
    assert nothing.split_sizes == {"train": 37}


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    fraction=st.floats(0, 0.9),
    seed=st.integers(0, 5),
)
def test_split_does_not_depend_on_the_order_of_the_rows(sizes, fraction, seed):
    cat = catalog(sizes)
    groups = dict(zip(cat.table["path"], np.arange(len(cat)) // 2, strict=True))
    one = cat.stratified_split(fraction, seed, groups=[groups[p] for p in cat.table["path"]])
    mixed = shuffled(cat, seed)
    two = mixed.stratified_split(fraction, seed, groups=[groups[p] for p in mixed.table["path"]])
    assert one.fingerprint == two.fingerprint
    sides = pd.DataFrame({"group": one.table["path"].map(groups), "split": one.table["split"]})
    assert sides.drop_duplicates()["group"].is_unique
    assert cat.split_sizes == {"train": len(cat)}, "the catalog itself must not change"


def test_seeds_give_different_splits():
    splits = {frozenset(paths(catalog().stratified_split(seed=seed), "val")) for seed in range(5)}
    assert len(splits) == 5


def test_split_touches_train_only_and_once():
    cat = catalog((6, 6))
    table = cat.table.assign(split=["train", "test"] * 6)
    cat = Catalog(table, NAMES, "cars", cat.source)
    split = cat.stratified_split(0.3)
    assert paths(split, "test") == paths(cat, "test")
    with pytest.raises(DataError, match="val split already"):
        split.stratified_split()
    with pytest.raises(DataError, match="no labelled photo of 'train'"):
        cat.select("test").stratified_split()
    with pytest.raises(DataError, match="val_fraction is 1"):
        cat.stratified_split(1.0)
    with pytest.raises(DataError, match="groups has 3 entries"):
        cat.stratified_split(groups=[1, 2, 3])


def test_copies_stay_together_without_being_asked(tmp_path):
    trees.devkit(tmp_path, per_class=20)
    folder = tmp_path / "cars_train"
    for i in range(1, 59, 2):  # every second photo becomes a copy of its neighbor
        (folder / f"{i + 1:05d}.jpg").write_bytes((folder / f"{i:05d}.jpg").read_bytes())
    (folder / "00060.jpg").unlink()
    cat = open_catalog(tmp_path)
    groups = copy_groups(cat.digests)
    assert (groups[:58:2] == groups[1:58:2]).all() and len(set(groups)) == 31
    split = cat.stratified_split(0.3)
    sides = pd.DataFrame({"group": groups, "split": split.table["split"]})
    assert sides.drop_duplicates()["group"].is_unique and split.split_sizes["val"] > 10


def test_unseen_classes():
    split = catalog().unseen_class_split(1)
    assert set(split.select("train").labels) == {0} and set(split.select("unseen").labels) == {1, 2}
    assert catalog().unseen_class_split().split_sizes == {"train": 35, "unseen": 2}
    with pytest.raises(DataError, match="between 1 and 2"):
        catalog().unseen_class_split(3)


def test_csv_round_trip_keeps_everything(tmp_path):
    cat = open_catalog(trees.devkit(tmp_path / "set")).stratified_split(0.25)
    inside = open_catalog(cat.to_csv(tmp_path / "set" / "catalog.csv").parent)
    outside = open_catalog(cat.to_csv(tmp_path / "elsewhere" / "split.csv"))
    for back in (inside, outside):
        assert back == cat and back.fingerprint == cat.fingerprint and back.name == cat.name
        assert back.table.dtypes.equals(cat.table.dtypes)
        assert back.source.read(back.table["path"][0]) == cat.source.read(cat.table["path"][0])
    moved = (tmp_path / "set").rename(tmp_path / "moved")
    assert open_catalog(moved).source.size(cat.table["path"][0]) > 0


def test_csv_keeps_odd_names_and_classes_without_photos(tmp_path):
    names = ("NA", 'say "so", twice', "none here", "Škoda Octavia 2019")
    rows = pd.DataFrame({"path": ["a,b.jpg", "NaN.jpg", "c.jpg"], "label": [0, 1, 3]})
    cat = Catalog.from_rows(rows, names, "odd", FolderSource(tmp_path))
    assert open_catalog(cat.to_csv(tmp_path / "catalog.csv")) == cat


def test_csv_alone_is_enough_when_every_class_has_a_row(tmp_path):
    cat = open_catalog(trees.devkit(tmp_path))
    cat.to_csv(tmp_path / "catalog.csv").with_suffix(".json").unlink()
    back = open_catalog(tmp_path)
    assert back.class_names == cat.class_names and back.fingerprint == cat.fingerprint
    assert back.name == tmp_path.name


def test_csv_wants_its_ending(tmp_path):
    with pytest.raises(DataError, match="written as"):
        catalog().to_csv(tmp_path / "catalog.json")


def test_sources_can_travel_and_name_what_is_missing(tmp_path):
    trees.parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [0, 1, 2])
    trees.devkit(tmp_path / "kit")
    for root in (tmp_path, tmp_path / "kit"):
        cat = open_catalog(root)
        source = pickle.loads(pickle.dumps(cat.source))
        path = cat.table["path"][1]
        assert source.read(path) == cat.source.read(path) == trees.photo(1)
        assert source.size(path) == len(trees.photo(1))
        absent = path.replace("00002", "99999")
        assert source.size(absent) == -1
        with pytest.raises(PhotoError, match=r"99999\.jpg"):
            source.read(absent)


def test_a_catalog_says_what_it_is():
    assert repr(catalog()) == "Catalog('cars': 37 photos of 3 classes; train 37)"
    assert catalog() == catalog() and catalog() != shuffled(catalog())
    assert len({catalog(), catalog()}) == 1
