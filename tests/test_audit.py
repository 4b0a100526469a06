"""The audit names what is wrong and nothing else, and its exit code tells of leaks."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import trees
from PIL import Image, ImageOps
from typer.testing import CliRunner

from carlib.cli import app
from carlib.data.audit import FINDINGS, MAX_RATIO, MIN_SIDE, audit
from carlib.data.catalog import Catalog
from carlib.data.near_copies import join_near_copies, thumbnail
from carlib.data.opening import open_catalog
from carlib.data.sources import FolderSource
from carlib.experiment.audits import audit_record
from carlib.showroom import draw_photo


def smooth(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A landscape of soft hills: as a photo, it keeps its looks when scaled or cropped a little."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def build(root, photos: dict[str, bytes | None]) -> Catalog:
    """A catalog of photos named "split/class/stem.jpg"; None is listed but missing."""
    for name, data in photos.items():
        if data is not None:
            trees.write(root / name, data)
    parts = [name.split("/") for name in photos]
    names = sorted({part[1] for part in parts})
    rows = pd.DataFrame(
        {
            "path": list(photos),
            "label": [names.index(part[1]) for part in parts],
            "split": [part[0] for part in parts],
        }
    )
    return Catalog.from_rows(rows, names, "cars", FolderSource(root))


def sound(count: int = 4, split: str = "train") -> dict[str, bytes]:
    return {f"{split}/a/{i}.jpg": trees.encoded(smooth(i)) for i in range(count)}


def found(cat: Catalog) -> dict[str, set[str]]:
    table = audit(cat).findings
    return {name: set(part["path"]) for name, part in table.groupby("finding")}


def test_a_sound_set_has_no_findings(tmp_path):
    cat = build(tmp_path, sound(30))
    report = audit(cat)
    assert report.counts == dict.fromkeys(FINDINGS, 0)
    assert report.usable.all() and not report.leaks and len(report.copies()) == 0
    assert report.fingerprint == cat.fingerprint
    assert report.photos[["width", "height"]].iloc[0].to_list() == [160, 120]


def test_each_fault_is_named(tmp_path):
    good = trees.encoded(smooth(1))
    grey = smooth(2).convert("L")
    cat = build(
        tmp_path,
        {
            **sound(1),
            "train/a/missing.jpg": None,
            "train/a/cut.jpg": good[: len(good) // 2],
            "train/a/empty.jpg": b"",
            "train/a/page.jpg": b"<html>404 Not Found</html>",
            "train/b/grey.jpg": trees.encoded(grey),
            "train/b/grey_in_rgb.jpg": trees.encoded(smooth(3).convert("L").convert("RGB")),
            "train/b/tiny.jpg": trees.encoded(smooth(4, MIN_SIDE + 20, MIN_SIDE - 1)),
            "train/b/wide.jpg": trees.encoded(smooth(5, round(100 * MAX_RATIO) + 1, 100)),
            "train/b/tall.jpg": trees.encoded(smooth(6, 100, round(100 * MAX_RATIO) + 1)),
        },
    )
    assert found(cat) == {
        "missing": {"train/a/missing.jpg"},
        "unreadable": {"train/a/cut.jpg", "train/a/empty.jpg", "train/a/page.jpg"},
        "greyscale": {"train/b/grey.jpg", "train/b/grey_in_rgb.jpg"},
        "tiny": {"train/b/tiny.jpg"},
        "odd shape": {"train/b/wide.jpg", "train/b/tall.jpg"},
    }
    report = audit(cat)
    left = cat.select(report.usable)
    assert len(left) == len(cat) - 4 and len(report.photos) == len(cat)
    bad = report.photos[~report.usable]
    assert all(path in error for path, error in zip(bad["path"], bad["error"], strict=True))


def test_boxes_that_leave_the_photo(tmp_path):
    cat = build(tmp_path, sound(3))
    table = cat.table.assign(x1=0, y1=0, x2=[160, 161, 10], y2=[120, 120, 121])
    cat = Catalog(table, cat.class_names, cat.name, cat.source)
    assert found(cat) == {"box outside": {"train/a/1.jpg", "train/a/2.jpg"}}


def altered(image: Image.Image) -> dict[str, bytes]:
    width, height = image.size
    cropped = image.crop((2, 1, width - 1, height - 2))
    return {
        "saved again": trees.encoded(image, "WEBP"),
        "scaled": trees.encoded(image.resize((width * 2, height * 2))),
        "cropped": trees.encoded(cropped),
        "darker": trees.encoded(image.point(lambda level: level * 0.8)),
        "grey": trees.encoded(image.convert("L")),
        "mirrored": trees.encoded(ImageOps.mirror(image)),
    }


@pytest.mark.parametrize("change", altered(smooth(0)))
def test_near_copies_are_found(tmp_path, change):
    copy = altered(smooth(0))[change]
    report = audit(build(tmp_path, {**sound(12), "train/a/copy.jpg": copy}))
    near = report.findings[report.findings["finding"] == "near copy"]
    assert set(near["path"]) == {"train/a/0.jpg", "train/a/copy.jpg"}
    assert report.copies()["kind"].to_list() == ["near"] and not report.leaks
    assert report.groups[0] == report.groups[12]


def test_exact_copies_with_two_labels(tmp_path):
    photos = sound(3)
    cat = build(tmp_path, {**photos, "train/b/copy.jpg": photos["train/a/0.jpg"]})
    pair = {"train/a/0.jpg", "train/b/copy.jpg"}
    assert found(cat) == {"exact copy": pair, "copies differ in label": pair}
    row = audit(cat).copies().iloc[0]
    assert (row["kind"], row["classes"], row["leaks"]) == ("exact", ["a", "b"], False)
    assert audit_record(audit(cat), cat).extra["differing_labels"] == [["a", "b"]]


@pytest.mark.parametrize(
    ("one", "other", "leaks"),
    [
        ("train", "val", True),
        ("train", "test", True),
        ("val", "test", True),
        ("contrast", "val", True),
        ("test", "contrast", False),  # the Hub's corrupted test sets are copies by design
        ("train", "train", False),
    ],
)
def test_what_counts_as_a_leak(tmp_path, one, other, leaks):
    photos = {
        f"{one}/a/x.jpg": trees.encoded(smooth(0)),
        f"{other}/a/y.jpg": trees.encoded(smooth(0)),
    }
    report = audit(build(tmp_path, photos))
    assert report.leaks is leaks and report.counts["exact copy"] == 2
    assert report.counts["copies across splits"] == (2 if leaks else 0)


def test_groups_of_the_audit_mend_a_split(tmp_path):
    photos = sound(20)
    photos |= {f"train/a/copy{i}.jpg": trees.encoded(smooth(i), "WEBP") for i in range(20)}
    cat = build(tmp_path, photos)
    assert audit(cat.stratified_split(0.3)).leaks, "copies that differ in bytes are not grouped"
    split = cat.stratified_split(0.3, groups=audit(cat).groups)
    assert not audit(split).leaks and split.split_sizes["val"] == 12


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    """200 photos of 40 drawn cars, 96 px wide."""
    return [draw_photo(i // 5, i % 5, seed=5, size=96).image for i in range(200)]


def cut(photo: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """A photo without these shares of its width and height at its edges."""
    height, width = photo.shape[:2]
    rows = slice(round(top * height), height - round(bottom * height))
    return photo[rows, round(left * width) : width - round(right * width)]


def saved(photo: np.ndarray, quality: int) -> np.ndarray:
    coded = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


COPIES = {  # what may have been done to a copy, and how many of 60 must be found
    "mirrored": (lambda photo: saved(photo[:, ::-1], 80), 57),
    "cropped by 3 % at every edge": (lambda photo: cut(photo, 0.03, 0.03, 0.03, 0.03), 54),
    "cropped by 3 % at a corner": (lambda photo: cut(photo, 0.03, 0, 0, 0.03), 54),
    "mirrored and cropped": (lambda photo: cut(photo[:, ::-1], 0.03, 0.03, 0, 0), 54),
    "saved again": (lambda photo: saved(photo, 30), 57),
    "scaled": (lambda photo: cv2.resize(photo, None, fx=1.7, fy=1.6), 57),
    "darker": (lambda photo: (photo * 0.6).astype(np.uint8), 57),
}


@pytest.mark.parametrize("change", COPIES)
def test_copies_of_drawn_cars_are_found(drawn, change):
    alter, at_least = COPIES[change]
    copies = [thumbnail(np.ascontiguousarray(alter(photo))) for photo in drawn[:60]]
    thumbnails = np.stack([*map(thumbnail, drawn[:60]), *copies])
    groups = join_near_copies(np.arange(120), thumbnails)
    assert (groups[:60] == groups[60:]).sum() >= at_least
    assert len(np.unique(groups)) >= 60, "photos of different cars were joined"


def test_different_photos_of_drawn_cars_are_no_copies(drawn):
    groups = join_near_copies(np.arange(200), np.stack([thumbnail(photo) for photo in drawn]))
    assert (groups == np.arange(200)).all()


def test_photos_without_contrast_are_no_copies_of_each_other():
    plain = np.stack([np.full((64, 64), level, np.uint8) for level in (0, 9, 128, 128, 255)])
    assert (join_near_copies(np.arange(5), plain) == np.arange(5)).all()


def test_near_copies_join_groups_of_exact_copies(drawn):
    one, other = thumbnail(drawn[0]), thumbnail(drawn[1])
    mirrored = np.ascontiguousarray(one[:, ::-1])
    groups = join_near_copies(np.array([7, 7, 3, 5]), np.stack([one, one, other, mirrored]))
    assert groups[0] == groups[1] == groups[3] != groups[2] == 3
    assert len(join_near_copies(np.arange(1), one[None])) == 1


def test_class_counts_list_empty_classes_too(tmp_path):
    photos = {**sound(3), "test/b/1.jpg": trees.encoded(smooth(50))}
    cat = build(tmp_path, photos)
    cat = Catalog(cat.table, (*cat.class_names, "none"), cat.name, cat.source)
    counts = audit(cat).class_counts
    assert counts.columns.to_list() == ["train", "test"]
    assert counts.to_numpy().tolist() == [[3, 0], [0, 1], [0, 0]]


def test_parquet_is_audited_too(tmp_path):
    trees.parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [0, 1, 2])
    assert audit(open_catalog(tmp_path)).usable.all()


# The command line


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_audit_command_exit_codes(tmp_path):
    trees.class_folders(tmp_path / "cars" / "train")
    sound_run = run("data", "audit", tmp_path / "cars")
    assert sound_run.exit_code == 0 and "No copies across splits" in sound_run.output
    trees.class_folders(tmp_path / "cars" / "test")
    leak = run("data", "audit", tmp_path / "cars", "--csv", tmp_path / "out" / "findings.csv")
    assert leak.exit_code == 1 and "A split leaks" in leak.output
    table = pd.read_csv(tmp_path / "out" / "findings.csv")
    assert set(table["finding"]) == {"exact copy", "copies across splits"} and len(table) == 48
    wrong = run("data", "audit", tmp_path / "nowhere")
    assert wrong.exit_code == 2 and "no such file or folder" in wrong.output
    assert "Traceback" not in wrong.output


def test_audit_command_prints_json(tmp_path):
    trees.devkit(tmp_path)
    (tmp_path / "cars_train" / "00002.jpg").unlink()
    result = run("data", "audit", tmp_path, "--json")
    summary = json.loads(result.stdout)
    assert result.exit_code == 0 and summary["findings"]["missing"] == 1
    assert (summary["photos"], summary["usable"], summary["classes"]) == (12, 11, 3)


def test_audit_command_divides_first_when_asked(tmp_path):
    trees.class_folders(tmp_path, ("a",), per_class=10)
    for i in range(10):
        again = io.BytesIO((tmp_path / "a" / f"{i + 1:05d}.jpg").read_bytes())
        trees.write(tmp_path / "a" / f"copy{i}.jpg", trees.encoded(Image.open(again), "WEBP"))
    assert run("data", "audit", tmp_path).exit_code == 0
    assert run("data", "audit", tmp_path, "--val-fraction", "0.3").exit_code == 1


def test_export_and_show_commands(tmp_path):
    trees.devkit(tmp_path / "cars")
    file = tmp_path / "lists" / "cars.csv"
    assert run("data", "export", tmp_path / "cars", "--csv", file).exit_code == 0
    assert open_catalog(file) == open_catalog(tmp_path / "cars")
    shown = run("data", "show", file, "--val-fraction", "0.25")
    assert shown.exit_code == 0
    for word in ("stanford-cars", "split val", "Acura", "Minivan", "not stated"):
        assert word in shown.output
    assert run("data", "export", tmp_path / "cars", "--csv", tmp_path / "x.txt").exit_code == 2


def test_help_needs_no_heavy_import():
    import subprocess
    import sys

    code = "import sys, carlib.cli; print(sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.strip() == "[]"


def test_a_damaged_page_in_a_parquet_file_is_a_fault_of_its_photos(tmp_path):
    """The file opens, since its ends are whole; the audit names the photos and goes on."""
    file = trees.parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [0, 1, 2] * 4)
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    data = bytearray(file.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 8] = b"\xff" * 8
    file.write_bytes(data)
    found = audit(open_catalog(tmp_path))
    lost = int((~found.usable).sum())
    assert 0 < lost < 12  # those of the other row groups are well
    assert lost in found.counts.values()
