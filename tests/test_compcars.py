"""CompCars' tree, whole and odd: what the reader says of it, and pairs made and read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
from layouts import write_compcars

from carlib.data.catalog import Catalog
from carlib.data.opening import open_catalog
from carlib.data.pairs import LEVELS, make_pairs, pair_rows
from carlib.data.readers import compcars
from carlib.data.readers.pair_list import read_pairs
from carlib.data.sources import FolderSource
from carlib.errors import DataError
from carlib.showroom import CARS
from carlib.showroom.camera import VIEWPOINTS


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The drawn cars as CompCars: 288 photos of 24 models and 8 makes."""
    return write_compcars(tmp_path_factory.mktemp("compcars") / "tree", size=32)


@pytest.fixture
def tree(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(whole, tmp_path / "tree")


def test_classification_is_a_class_per_model_with_all_that_is_known(whole) -> None:
    cat = open_catalog(whole)
    assert cat.name == "compcars-classification" and cat.num_classes == 24
    assert len(cat) == 6 * len(CARS) and set(cat.split_sizes) == {"train", "test"}
    models = dict.fromkeys((car.make, car.model) for car in CARS)
    assert cat.class_names == tuple(f"{make} {model}" for make, model in models)
    assert set(zip(cat.table["make"], cat.table["model"], strict=True)) == set(models)
    year = cat.table["path"].str.split("/").str[4]
    assert cat.table["year"].isna().equals(year == "unknown") and (year == "unknown").any()
    assert cat.table["viewpoint"].isna().sum() == len(cat) // 10
    assert set(cat.table["viewpoint"].dropna()) == set(VIEWPOINTS) == set(compcars.VIEWPOINTS)
    assert cat.table["body"].notna().all() and "SUV" in set(cat.table["body"])


def test_boxes_count_from_zero_and_end_one_past(whole) -> None:
    cat = open_catalog(whole / "data")  # the folder inside does as well
    row = cat.table.iloc[0]
    label = (whole / "data" / "label" / Path(row["path"]).relative_to("image")).with_suffix(".txt")
    x1, y1, x2, y2 = map(int, label.read_text(encoding="utf-8").split()[2:])
    assert row[["x1", "y1", "x2", "y2"]].to_list() == [x1 - 1, y1 - 1, x2, y2]
    assert cat.source.read(row["path"])[:2] == b"\xff\xd8"


def test_verification_keeps_models_apart(whole) -> None:
    cat = open_catalog(f"{whole}#verification")
    train, test = (cat.select(split) for split in ("train", "test"))
    assert cat.name == "compcars-verification"
    assert not set(train.labels) & set(test.labels)
    for level in LEVELS:
        pairs = compcars.read_pairs(whole, level)
        rows = pair_rows(pairs, cat)
        assert (cat.table["split"].to_numpy()[rows] == "test").all()
        labels = cat.labels[rows]
        assert ((labels[:, 0] == labels[:, 1]) == pairs["same"]).all()


def test_parts_and_the_surveillance_set_are_catalogs_too(whole) -> None:
    lamps = open_catalog(f"{whole}#headlight")
    assert lamps.name == "compcars-headlight" and lamps.table["path"].str.contains("/1/").all()
    assert lamps.source.read(lamps.table["path"][0])[:2] == b"\xff\xd8"
    front = open_catalog(f"{whole}#surveillance")
    assert front.name == "compcars-surveillance" and set(front.table["viewpoint"]) == {"front"}
    assert set(front.class_names) <= set(open_catalog(whole).class_names)
    assert set(front.split_sizes) == {"train", "test"}
    alone = open_catalog(whole / "sv_data")
    assert alone.class_names == front.class_names and len(alone) == len(front)
    with pytest.raises(DataError, match="lists of dashboard are empty"):
        open_catalog(f"{whole}#dashboard")


def test_makes_can_be_the_classes_of_any_catalog(whole) -> None:
    makes = open_catalog(whole).by("make")
    assert open_catalog(f"{whole}#make") == open_catalog(f"{whole}#classification#make") == makes
    assert makes.class_names == tuple(sorted({car.make for car in CARS}))
    assert makes.name == "compcars-classification-make"
    assert (makes.table["class_name"] == makes.table["make"]).all()
    years = open_catalog(whole).by("year")
    assert len(years) < len(makes) and years.table["year"].notna().all()
    with pytest.raises(DataError, match="cannot make classes of 'viewpoint'"):
        makes.by("viewpoint")


def test_attributes_are_read_and_zero_is_unknown(whole) -> None:
    found = compcars.read_attributes(whole)
    assert len(found) == 24 and found.loc[6].drop("type").isna().all()
    assert found["maximum_speed"].dropna().between(150, 300).all()
    assert found["type"].notna().all()


# --- odd trees ---


def test_windows_line_ends_and_blank_lines_change_nothing(tree, whole) -> None:
    for file in (tree / "data" / "train_test_split").rglob("*.txt"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    for file in (tree / "data" / "label").rglob("*.txt"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert open_catalog(tree).fingerprint == open_catalog(whole).fingerprint
    assert compcars.read_pairs(tree, "easy").equals(compcars.read_pairs(whole, "easy"))


def test_absent_photos_keep_their_rows_and_are_named_by_the_audit(tree) -> None:
    from carlib.data.audit import audit

    paths = open_catalog(tree).table["path"][:2]
    for path in paths:
        (tree / path).unlink()
    cat = open_catalog(tree)
    assert set(paths) <= set(cat.table["path"])
    assert set(paths) <= set(audit(cat).findings["path"])
    label = tree / "data" / "label" / Path(paths[0]).relative_to("data/image").with_suffix(".txt")
    label.unlink()
    row = open_catalog(tree).table.set_index("path").loc[paths[0]]
    assert row[["viewpoint", "x1", "y2"]].isna().all()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("train_test_split/classification/train.txt", None, "train.txt: not there"),
        ("train_test_split/classification/train.txt", "a/b/c.jpg\n", "is no photo of the release"),
        ("train_test_split/classification/train.txt", "1/999/2010/x.jpg\n", "no model_id 999"),
        ("misc/make_model_name.mat", "nonsense", "cannot be read"),
        ("misc/make_model_name.mat", None, "make_model_name.mat: not there"),
        ("misc/attributes.txt", "speed\n1\n", "no columns model_id and type"),
    ],
)
def test_what_is_damaged_is_named(tree, file, text, said) -> None:
    path = tree / "data" / file
    path.unlink()
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        open_catalog(tree)


def test_a_label_file_that_is_none_is_named(tree) -> None:
    label = next((tree / "data" / "label").rglob("*.txt"))
    label.write_text("-1\n1\n3 four\n", encoding="utf-8")
    with pytest.raises(DataError, match=label.name):
        open_catalog(tree)


def test_empty_lists_leave_a_split_out_or_say_so(tree) -> None:
    lists = tree / "data" / "train_test_split" / "classification"
    (lists / "test.txt").write_text("", encoding="utf-8")
    assert set(open_catalog(tree).split_sizes) == {"train"}
    (lists / "train.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="lists of classification are empty"):
        open_catalog(tree)


def test_photos_somewhere_else_and_unknown_tasks_are_refused(tree) -> None:
    with pytest.raises(DataError, match="no task 'racing'; known: classification, verification"):
        open_catalog(f"{tree}#racing")
    shutil.move(tree / "data" / "image", tree / "pictures")
    (tree / "data" / "image").mkdir()
    with pytest.raises(DataError, match="none of the 288 listed photos is there"):
        open_catalog(tree)


def test_a_task_of_a_data_set_that_has_one_only_is_refused(toy_root) -> None:
    with pytest.raises(DataError, match="has one task only; leave out '#verification'"):
        open_catalog(f"{toy_root}#verification")


def test_models_of_one_name_stay_two_classes(tree) -> None:
    file = tree / "data" / "misc" / "make_model_name.mat"
    names = scipy.io.loadmat(file)
    models = names["model_names"].ravel()
    models[1], models[2] = models[0], np.empty(0, "U1")
    scipy.io.savemat(file, {"make_names": names["make_names"], "model_names": names["model_names"]})
    cat = open_catalog(tree)
    assert cat.num_classes == 24
    first, second, third = cat.class_names[:3]
    assert first.endswith("(1)") and second.endswith("(2)") and third.endswith("model 3")


# --- pairs ---


def cars(per_model: int = 8, viewpoints: bool = True) -> Catalog:
    """Three makes of three models each, seen from two sides."""
    rows = [
        {"path": f"{model}-{photo}.jpg", "label": model, "make": f"make {model // 3}",
         "viewpoint": ("front", "rear")[photo % 2] if viewpoints else pd.NA}
        for model in range(9) for photo in range(per_model)
    ]  # fmt: skip
    names = [f"car {model}" for model in range(9)]
    return Catalog.from_rows(pd.DataFrame(rows), names, "cars", FolderSource(Path()))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("viewpoints", [True, False])
def test_lists_are_balanced_and_show_no_photo_twice(level, viewpoints) -> None:
    catalog = cars(viewpoints=viewpoints)
    pairs = make_pairs(catalog, level)
    assert len(pairs) > 15 and pairs["same"].mean() == 0.5
    photos = pairs[["a", "b"]].to_numpy().ravel()
    assert len(set(photos)) == len(photos)
    table = catalog.table.set_index("path")
    a, b = (table.loc[pairs[side]].reset_index() for side in ("a", "b"))
    assert ((a["label"] == b["label"]) == pairs["same"]).all()
    if level == "easy" and viewpoints:
        assert (a["viewpoint"] == b["viewpoint"]).all()
    if level == "easy" and not viewpoints:
        assert (a["make"] != b["make"])[~pairs["same"]].all()
    if level == "hard":
        assert (a["make"] == b["make"])[~pairs["same"]].all()


def test_the_seed_decides_and_the_order_of_the_rows_does_not() -> None:
    catalog = cars()
    mixed = Catalog(
        catalog.table.sample(frac=1, random_state=1), catalog.class_names, "cars", catalog.source
    )
    first = make_pairs(catalog, "hard", seed=3)
    assert first.equals(make_pairs(mixed, "hard", seed=3))
    assert not first.equals(make_pairs(catalog, "hard", seed=4))
    assert len(make_pairs(catalog, "medium", count=10)) == 10


def test_one_large_class_and_classes_of_one_photo_are_handled() -> None:
    labels = np.repeat(np.arange(6), (50, 1, 1, 1, 4, 4))
    rows = pd.DataFrame({"path": [f"{n}.jpg" for n in range(len(labels))], "label": labels})
    catalog = Catalog.from_rows(rows, [f"c {n}" for n in range(6)], "cars", FolderSource(Path()))
    pairs = make_pairs(catalog, "medium")
    rows = pair_rows(pairs, catalog)
    same = labels[rows[:, 0]] == labels[rows[:, 1]]
    assert (same == pairs["same"]).all() and len(pairs) >= 6


def test_where_no_list_can_be_made_the_reason_is_told() -> None:
    with pytest.raises(DataError, match="unknown difficulty 'impossible'"):
        make_pairs(cars(), "impossible")
    lone = cars(per_model=1)
    with pytest.raises(DataError, match="no balanced list of medium pairs: 0 pairs of one class"):
        make_pairs(lone, "medium")
    one_each = cars().select_classes([0, 3, 6])
    with pytest.raises(DataError, match="makes of two classes"):
        make_pairs(one_each, "hard")


def test_lists_are_read_line_by_line(tmp_path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text("a.jpg b.jpg 1\n\na.jpg c.jpg 0\n", encoding="utf-8")
    pairs = pd.DataFrame({"a": ["a.jpg"] * 2, "b": ["b.jpg", "c.jpg"], "same": [True, False]})
    assert read_pairs(file).equals(pairs)
    file.write_text("a.jpg b.jpg 1\na.jpg b.jpg yes\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"pairs.txt, line 2: expected two photos and 0 or 1"):
        read_pairs(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path / "nowhere.txt")


def test_photos_that_a_catalog_lacks_are_counted_and_named() -> None:
    catalog = cars()
    pairs = make_pairs(catalog, "medium")
    pairs.loc[0, "a"] = "stranger.jpg"
    with pytest.raises(DataError, match=r"are not there, such as stranger\.jpg"):
        pair_rows(pairs, catalog)
