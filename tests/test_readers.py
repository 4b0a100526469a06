"""Every layout on disk gives the same catalog, and an incomplete one an error that helps."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import trees
from trees import CLASSES

from carlib.data.catalog import Catalog
from carlib.data.class_names import stanford_class_names
from carlib.data.opening import open_catalog
from carlib.errors import DataError


def first_box(cat: Catalog) -> list[int]:
    return cat.table.loc[0, ["x1", "y1", "x2", "y2"]].to_list()


def refused(root, *parts: str) -> None:
    """Opening fails, and the message holds every part."""
    with pytest.raises(DataError) as caught:
        open_catalog(root)
    for part in parts:
        assert part in str(caught.value)


# Stanford Cars' devkit


def test_devkit_counts_from_zero_and_ends_one_past(tmp_path):
    cat = open_catalog(trees.devkit(tmp_path))
    assert cat.name == "stanford-cars" and cat.class_names == CLASSES and len(cat) == 12
    assert cat.labels.tolist() == [0, 1, 2] * 4 and cat.split_sizes == {"train": 12}
    assert first_box(cat) == [2, 4, 90, 70]
    assert cat.table.loc[0, "path"] == "cars_train/00001.jpg"
    assert cat.source.read("cars_train/00001.jpg") == trees.photo(0)


@pytest.mark.parametrize(
    ("prefix", "photos", "kit"),
    [
        ("", "cars_train", "devkit"),
        ("stanford_cars/", "cars_train", "devkit"),  # torchvision
        ("", "cars_train/cars_train", "car_devkit/devkit"),  # Kaggle
        ("stanford_cars/", "cars_train/cars_train", "cars_devkit"),
        ("", "cars_train", "."),
    ],
)
def test_devkit_nestings(tmp_path, prefix, photos, kit):
    trees.devkit(tmp_path / prefix, photos=photos, kit=kit)
    cat = open_catalog(tmp_path)
    plain = open_catalog(trees.devkit(tmp_path / "plain"))
    assert cat.table["path"][0] == f"{prefix}{photos}/00001.jpg"
    assert cat.source.read(cat.table["path"][3]) == trees.photo(3)
    pd.testing.assert_frame_equal(cat.table.drop(columns="path"), plain.table.drop(columns="path"))
    assert cat.stratified_split().split_hash("val") == plain.stratified_split().split_hash("val")


@pytest.mark.parametrize("place", ["devkit/", "", "cars_test_annos_withlabels (1).mat"])
def test_devkit_test_split_with_labels(tmp_path, place):
    trees.devkit(tmp_path)
    file = place if place.endswith(".mat") else f"{place}cars_test_annos_withlabels.mat"
    rows = trees.devkit_rows(2)
    trees.save_annotations(tmp_path / "devkit" / "cars_test_annos.mat", rows, labelled=False)
    trees.save_annotations(tmp_path / file, rows)
    trees.write(tmp_path / "cars_test" / "00001.jpg", trees.photo(50))
    cat = open_catalog(tmp_path)
    assert cat.split_sizes == {"train": 12, "test": 6}
    assert cat.select("test").labels.tolist() == [0, 1, 2] * 2
    assert cat.select("test").table["path"][0] == "cars_test/00001.jpg"


def test_devkit_test_split_without_labels(tmp_path):
    trees.devkit(tmp_path)
    rows = trees.devkit_rows(2)
    trees.save_annotations(tmp_path / "devkit" / "cars_test_annos.mat", rows, labelled=False)
    trees.write(tmp_path / "cars_test" / "cars_test" / "00001.jpg", trees.photo(50))
    test = open_catalog(tmp_path).select("test")
    assert test.labels.tolist() == [-1] * 6 and test.table["class_name"].isna().all()
    assert first_box(test) == [2, 4, 90, 70]


def test_devkit_test_split_alone(tmp_path):
    trees.save_meta(tmp_path / "devkit" / "cars_meta.mat")
    trees.save_annotations(tmp_path / "cars_test_annos_withlabels.mat", trees.devkit_rows(2))
    trees.write(tmp_path / "cars_test" / "00001.jpg", trees.photo(0))
    assert open_catalog(tmp_path).split_sizes == {"test": 6}


def test_devkit_one_photo_only(tmp_path):
    trees.save_meta(tmp_path / "devkit" / "cars_meta.mat")
    rows = [("00001.jpg", 3, (1, 1, 1, 1))]
    trees.save_annotations(tmp_path / "devkit" / "cars_train_annos.mat", rows)
    trees.write(tmp_path / "cars_train" / "00001.jpg", trees.photo(0))
    cat = open_catalog(tmp_path)
    assert cat.labels.tolist() == [2] and first_box(cat) == [0, 0, 1, 1]


def test_older_copy_with_one_annotation_file(tmp_path):
    rows = trees.devkit_rows(2)
    trees.save_annotations(
        tmp_path / "cars_annos.mat",
        rows,
        relative_im_path=[f"car_ims/{name}" for name, _, _ in rows],
        test=[0, 0, 0, 1, 1, 1],
    )
    trees.write(tmp_path / "car_ims" / "00001.jpg", trees.photo(0))
    cat = open_catalog(tmp_path)
    assert cat.split_sizes == {"train": 3, "test": 3} and cat.class_names == CLASSES
    assert cat.table["path"][0] == "car_ims/00001.jpg" and first_box(cat) == [2, 4, 90, 70]


def test_devkit_keeps_photos_that_are_listed_but_missing(tmp_path):
    trees.devkit(tmp_path)
    (tmp_path / "cars_train" / "00002.jpg").unlink()
    assert len(open_catalog(tmp_path)) == 12


def test_devkit_incomplete(tmp_path):
    root = trees.devkit(tmp_path / "a")
    (root / "devkit" / "cars_train_annos.mat").unlink()
    refused(root, "cars_train: its annotations are missing", "cars_train_annos.mat")
    root = trees.devkit(tmp_path / "b")
    shutil.rmtree(root / "devkit")
    refused(root, "no devkit/cars_meta.mat")
    root = trees.devkit(tmp_path / "c")
    shutil.rmtree(root / "cars_train")
    refused(root, "neither cars_train/ nor cars_test/")
    (root / "cars_train").mkdir()
    refused(root, "none of the 12 listed photos", "00001.jpg")


@pytest.mark.parametrize("file", ["cars_meta.mat", "cars_train_annos.mat"])
def test_devkit_damaged_files(tmp_path, file):
    path = trees.devkit(tmp_path) / "devkit" / file
    path.write_bytes(b"")
    refused(tmp_path, file, "cannot be read", "Download it again")
    path.write_bytes(b"<html>404</html>" * 20)
    refused(tmp_path, file, "cannot be read")
    scipy.io.savemat(path, {"other": np.arange(3)})
    refused(tmp_path, file, "nothing under", "other")
    scipy.io.savemat(path, {"annotations": np.empty((1, 0)), "class_names": np.empty((1, 0))})
    refused(tmp_path, file, "nothing under")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("00003.jpg", 4, (1, 1, 9, 9)), "has class 4, outside 1..3"),
        (("00003.jpg", 0, (1, 1, 9, 9)), "has class 0, outside 1..3"),
        (("00003.jpg", 1, (0, 1, 9, 9)), "has the box (0, 1, 9, 9)"),
        (("00003.jpg", 1, (9, 1, 8, 9)), "has the box (9, 1, 8, 9)"),
        (("00003.jpg", "two", (1, 1, 9, 9)), "must be whole numbers"),
    ],
)
def test_devkit_rows_that_cannot_be(tmp_path, row, message):
    trees.devkit(tmp_path)
    file = tmp_path / "devkit" / "cars_train_annos.mat"
    trees.save_annotations(file, [*trees.devkit_rows(1), row])
    refused(tmp_path, str(file), message)


def test_devkit_other_fields(tmp_path):
    trees.devkit(tmp_path)
    file = tmp_path / "devkit" / "cars_train_annos.mat"
    trees.save_annotations(file, trees.devkit_rows(1), image=["a", "b", "c"])
    refused(tmp_path, str(file), "lack ['fname']")


# A folder per class


def test_by_class_folders_agree_with_the_devkit(tmp_path):
    """All 196 names, so the labels must be the devkit's and not those of the sorted folders."""
    names = stanford_class_names()
    for place in ("plain/train", "kaggle/car_data/car_data/train"):
        trees.class_folders(tmp_path / place, names, per_class=2)
    trees.save_meta(tmp_path / "kit/devkit/cars_meta.mat", names)
    rows = [(f"{i + 1:05d}.jpg", i % 196 + 1, (1, 1, 96, 72)) for i in range(392)]
    trees.save_annotations(tmp_path / "kit/devkit/cars_train_annos.mat", rows)
    shutil.copytree(tmp_path / "plain/train" / names[0], tmp_path / "kit/cars_train")
    kit = open_catalog(tmp_path / "kit")
    for place in ("plain", "kaggle", "plain/train"):
        cat = open_catalog(tmp_path / place)
        assert (cat.name, cat.class_names) == ("stanford-cars", names)
        assert cat.split_hash("train") == kit.split_hash("train")
    assert open_catalog(tmp_path / "kaggle").table["path"][0].startswith("car_data/car_data/train/")


def test_split_folders(tmp_path):
    for split in ("train", "valid", "test"):
        trees.class_folders(tmp_path / split)
    trees.write(tmp_path / "train" / ".ipynb_checkpoints" / "x.jpg", trees.photo(0))
    trees.write(tmp_path / "readme.txt", b"hello")
    cat = open_catalog(tmp_path)
    assert cat.split_sizes == {"test": 12, "train": 12, "val": 12}
    assert cat.class_names == tuple(sorted(CLASSES)), "few Stanford classes: sorted, names mended"
    assert cat.table["x1"].isna().all() and cat.name == tmp_path.name


def test_any_image_folder(tmp_path):
    trees.class_folders(tmp_path, ("zebra", "BMW X5 SUV 2007"), per_class=3)
    trees.write(tmp_path / "zebra" / "upper.JPG", trees.photo(9))
    trees.write(tmp_path / "zebra" / "notes.txt", b"striped")
    cat = open_catalog(tmp_path)
    assert cat.class_names == ("BMW X5 SUV 2007", "zebra") and cat.split_sizes == {"train": 7}
    assert cat.table.loc[0, "make"] == "BMW" and cat.table.loc[6, "make"] is pd.NA


def test_by_class_boxes_of_kaggle(tmp_path):
    trees.class_folders(tmp_path / "car_data" / "car_data" / "train")
    file = tmp_path / "anno_train.csv"
    file.write_text("00001.jpg,3,5,90,70,1\n00002.jpg,1,1,96,72,2\n", encoding="utf-8")
    cat = open_catalog(tmp_path)
    boxes = cat.table.set_index(cat.table["path"].str[-9:])[["x1", "y1", "x2", "y2"]]
    assert boxes.loc["00001.jpg"].to_list() == [2, 4, 90, 70]
    assert boxes.loc["00003.jpg"].isna().all()
    file.write_text("00001.jpg,3,5,90,wide,1\n", encoding="utf-8")
    refused(tmp_path, "anno_train.csv", "expected rows of")
    file.write_text("00001.jpg,3,5,90,70,1\n" * 2, encoding="utf-8")
    refused(tmp_path, "anno_train.csv", "two boxes")


def test_class_folder_without_photos(tmp_path):
    trees.class_folders(tmp_path)
    (tmp_path / "empty").mkdir()
    refused(tmp_path, "empty: no photo lies directly", "move the folder away if it is no class")
    trees.write(tmp_path / "empty" / "X5" / "a.JPG", trees.photo(0))
    refused(tmp_path, "Its photos lie deeper, such as X5/a.JPG: move them up")


def test_a_name_that_is_not_text_is_named(tmp_path):
    trees.class_folders(tmp_path)
    folder = os.fsencode(tmp_path) + b"/Citro\xebn C3"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    (Path(os.fsdecode(folder)) / "a.jpg").write_bytes(trees.photo(0))
    refused(tmp_path, "is not in UTF-8", "convmv")


def test_files_of_other_things_beside_class_folders(tmp_path):
    trees.class_folders(tmp_path)
    pq.write_table(pa.table({"price": [1, 2]}), tmp_path / "prices.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / CLASSES[0].replace("/", "-") / "more.parquet")
    assert len(open_catalog(tmp_path)) == 12
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    assert len(open_catalog(tmp_path)) == 12


def test_a_folder_that_may_not_be_looked_into(tmp_path, monkeypatch):
    trees.class_folders(tmp_path)

    def locked(root):
        raise PermissionError(13, "Permission denied", str(root / "BMW"))

    monkeypatch.setattr("carlib.data.readers.class_folders.detect", locked)
    refused(tmp_path, "BMW: cannot be looked into (Permission denied)", "chmod")


def test_two_underscores_make_no_folder_vanish(tmp_path):
    trees.class_folders(tmp_path, ("__other", "car"))
    trees.write(tmp_path / "__MACOSX" / "x.jpg", trees.photo(0))
    assert open_catalog(tmp_path).class_names == ("__other", "car")


# The Hub's parquet


def test_hub_splits_and_photos(tmp_path):
    labels = [0, 1, 2] * 4
    for split in ("train", "test", "contrast", "gaussian_noise", "validation"):
        trees.parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", labels)
    cat = open_catalog(tmp_path)
    assert cat.split_sizes == dict.fromkeys(
        ("contrast", "gaussian_noise", "test", "train", "val"), 12
    )
    test = cat.select("test")
    assert test.class_names == CLASSES and test.labels.tolist() == labels
    assert test.table["path"][7] == "data/test-00000-of-00001.parquet#00008.jpg"
    for row in (11, 0, 7, 4):
        assert test.source.read(test.table["path"][row]) == trees.photo(row)


def test_hub_agrees_with_the_devkit(tmp_path):
    kit = open_catalog(trees.devkit(tmp_path / "kit", per_class=10))
    trees.parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", kit.labels.tolist())
    hub = open_catalog(tmp_path / "hub")
    for split in ("train", "val"):
        one, two = kit.stratified_split(0.2), hub.stratified_split(0.2)
        assert one.split_hash(split) == two.split_hash(split)


def test_hub_labels_follow_names_when_sorted_otherwise(tmp_path):
    names = stanford_class_names()
    stated = tuple(name.replace("/", "-") for name in sorted(names))
    labels = list(range(196))
    trees.parquet(tmp_path / "named" / "train-00000-of-00001.parquet", labels, stated)
    cat = open_catalog(tmp_path / "named")
    assert cat.class_names == names and cat.name == "stanford-cars"
    assert cat.table["class_name"].to_list() == sorted(names)
    trees.parquet(tmp_path / "bare" / "train.parquet", labels, None)
    assert open_catalog(tmp_path / "bare").table["class_name"].to_list() == list(names)


def test_hub_without_names_of_photos_or_classes(tmp_path):
    file = trees.parquet(tmp_path / "cars.parquet", [0, 2, 2], names=None, stored=False)
    for place in (file, tmp_path):
        cat = open_catalog(place)
        assert cat.table["path"].to_list() == [f"cars.parquet#{i:06d}" for i in range(3)]
        assert cat.class_names == ("class 0", "class 1", "class 2")
        assert cat.source.read("cars.parquet#000002") == trees.photo(2)
        assert cat.split_sizes == {"cars": 3}


def test_hub_incomplete(tmp_path):
    file = tmp_path / "data" / "train-00000-of-00002.parquet"
    trees.parquet(file, [0, 1, 2])
    refused(tmp_path, "train-00001-of-00002.parquet: missing", "Download it")
    trees.parquet(file.with_name("train-00001-of-00002.parquet"), [0, 1], names=("a", "b"))
    refused(tmp_path, "class names differ")
    file.with_name("train-00001-of-00002.parquet").write_bytes(b"PAR1")
    refused(tmp_path, "train-00001-of-00002.parquet", "cannot be read as parquet")


@pytest.mark.parametrize("labels", [[0, 1, 3], [0, -1, 2]])
def test_hub_label_out_of_range(tmp_path, labels):
    trees.parquet(tmp_path / "train-00000-of-00001.parquet", labels)
    refused(tmp_path, "outside 0..2")


def test_hub_other_columns(tmp_path):
    file = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({"img": [b"x"], "target": [0]}), file)
    refused(tmp_path, str(file), "expected the columns image", "img: binary, target: int64")
    pq.write_table(pa.table({"image": [b"x"], "label": [0]}), file)
    refused(tmp_path, str(file), "image: binary")
    pq.write_table(pq.read_table(trees.parquet(file, [0, 1])).slice(0, 0), file)
    refused(tmp_path, str(file), "no rows")


# A catalog as CSV


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda t: t.rename(columns={"path": "file"}), ["missing ['path']", "unknown ['file']"]),
        (lambda t: t.assign(label="one"), ["whole numbers"]),
        (lambda t: t.assign(label=7), ["has label 7, outside 0..2"]),
        (lambda t: t.assign(class_name="zebra"), ["but class_name 'zebra'"]),
        (lambda t: t.assign(x2=1), ["has the box (2, 4, 1, 70)"]),
        (lambda t: t.assign(path="same.jpg"), ["same.jpg is listed twice"]),
    ],
)
def test_csv_rows_that_cannot_be(tmp_path, change, parts):
    file = open_catalog(trees.devkit(tmp_path)).to_csv(tmp_path / "catalog.csv")
    change(pd.read_csv(file)).to_csv(file, index=False)
    refused(tmp_path, str(file), *parts)


def test_csv_damaged(tmp_path):
    file = open_catalog(trees.devkit(tmp_path)).to_csv(tmp_path / "catalog.csv")
    beside = file.with_suffix(".json")
    beside.write_text("{", encoding="utf-8")
    refused(tmp_path, str(beside), "not the JSON of a catalog")
    beside.write_text("[]", encoding="utf-8")
    refused(tmp_path, str(beside), "no JSON object")
    beside.unlink()
    pd.read_csv(file).query("label != 1").to_csv(file, index=False)
    refused(tmp_path, str(file), "one name for each of 0, 1, 2")
    file.write_text("", encoding="utf-8")
    refused(tmp_path, str(file), "cannot be read as a table")


def test_csv_of_a_parquet_catalog(tmp_path):
    trees.parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [0, 1, 2])
    cat = open_catalog(tmp_path)
    back = open_catalog(cat.to_csv(tmp_path / "lists" / "all.csv"))
    assert back == cat and back.source.read(back.table["path"][2]) == trees.photo(2)
    assert json.loads((tmp_path / "lists" / "all.json").read_text(encoding="utf-8"))["root"] == ".."


# Nothing that we know


def test_missing_and_unknown_folders_say_what_was_looked_for(tmp_path):
    refused(tmp_path / "nowhere", "no such file or folder", "showroom")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("a", encoding="utf-8")
    refused(tmp_path, "It holds: docs", "cars_meta.mat", "catalog.csv", "parquet", "<class>/*.jpg")
    refused(tmp_path / "docs" / "a.txt", "one file")


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    trees.devkit(tmp_path / "cars")
    assert len(open_catalog("~/cars")) == 12


def test_a_name_with_a_tilde_and_no_name_at_all(tmp_path, monkeypatch):
    trees.class_folders(tmp_path / "~nobody here")
    monkeypatch.chdir(tmp_path)
    assert len(open_catalog("~nobody here")) == 12
    refused("", "no data set is named")


def test_labels_and_class_names_go_together(tmp_path):
    for absent in ("label", "class_name"):
        cat = open_catalog(trees.devkit(tmp_path / absent / "kit"))
        file = cat.to_csv(tmp_path / absent / "cars.csv")
        file.with_suffix(".json").unlink()
        pd.read_csv(file).assign(**{absent: ""}).to_csv(file, index=False)
        refused(file, "label and class_name go together")


def test_a_file_of_somebody_elses_is_not_written_over(tmp_path):
    cat = open_catalog(trees.devkit(tmp_path / "kit"))
    (tmp_path / "labels.json").write_text('{"years": "of work"}', encoding="utf-8")
    with pytest.raises(DataError, match="would be lost"):
        cat.to_csv(tmp_path / "labels.csv")
    assert not (tmp_path / "labels.csv").exists()
    assert cat.to_csv(cat.to_csv(tmp_path / "cars.csv")).exists()  # its own may be
