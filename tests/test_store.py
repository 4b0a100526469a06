"""From bytes to pixels: decoding, framing, and a store that is whole or built again."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toys import HEIGHT, WIDTH, build_store, by_class, shape, toy_catalog

from carlib.data.catalog import Catalog
from carlib.data.framing import Framing
from carlib.data.images import decode_photo
from carlib.data.sources import FolderSource
from carlib.data.store import PhotoStore
from carlib.errors import DataError, PhotoError, RunError
from carlib.paths import cache_root


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_pixels_are_rgb_whatever_the_file_holds(mode):
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG", "F": "TIFF"}.get(mode, "PNG")
    base = Image.new("L", (WIDTH, HEIGHT), 200) if mode in ("I;16", "F") else shape(2, 0)
    photo = decode_photo(encoded(base.convert(mode), kind), "x")
    assert photo.shape == (HEIGHT, WIDTH, 3) and photo.dtype == np.uint8
    if mode in ("P", "RGB", "RGBA"):
        red, green, blue = (int(v) for v in photo[HEIGHT // 2, WIDTH // 2])
        assert red > 200 and green < 80 and blue < 80


def test_transparent_palette_photo_is_decoded_without_a_warning(recwarn):
    image = shape(1, 0).convert("P")
    data = encoded(image, "PNG", transparency=b"\x00" * 10)
    assert decode_photo(data, "x").shape == (HEIGHT, WIDTH, 3)
    assert not recwarn.list


def test_the_orientation_tag_is_ignored_where_a_box_is_in_stored_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by a quarter"
    data = encoded(shape(0, 0), "JPEG", exif=exif)
    assert decode_photo(data, "x", upright=False).shape == (HEIGHT, WIDTH, 3)
    assert decode_photo(data, "x").shape == (WIDTH, HEIGHT, 3)


def bad_files() -> dict[str, bytes]:
    jpeg = encoded(shape(0, 0).resize((200, 150)), "JPEG")
    return {
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "head only.jpg": jpeg[:30],
        "text.jpg": b"<html>404 not found</html>",
        "empty.jpg": b"",
        "zeros.png": b"\x00" * 500,
        "cut.png": encoded(shape(0, 0))[:-900],
    }


@pytest.mark.parametrize("name", bad_files())
def test_damaged_file_is_named(name):
    with pytest.raises(PhotoError, match=rf"{name}: .*(fetch|remove)"):
        decode_photo(bad_files()[name], name)


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_random_damage_decodes_or_is_named_but_never_crashes(kind):
    data = encoded(shape(1, 3), kind)
    generator = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data[: generator.integers(8, len(data) + 1)])
        for place in generator.integers(0, len(broken), 6):
            broken[place] = generator.integers(0, 256)
        try:
            assert decode_photo(bytes(broken), "x.jpg").shape[2] == 3
        except PhotoError as error:
            assert "x.jpg" in str(error)


# --- framing ------------------------------------------------------------------------------------


def numbered(width: int = 100, height: int = 60) -> np.ndarray:
    """Every pixel says where it is: red its column, green its row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], axis=2).astype(np.uint8)


def test_box_crop_keeps_exactly_the_box():
    photo = Framing(32, "box").apply(numbered(), (10, 20, 42, 52))
    assert (photo == numbered()[20:52, 10:42]).all()


def test_margin_grows_the_box_on_every_side_and_stays_inside():
    framing = Framing(48, "box", margin=0.1)
    assert framing.region(100, 60, (20, 10, 60, 50)) == (16, 6, 64, 54)
    assert (framing.apply(numbered(), (20, 10, 60, 50)) == numbered()[6:54, 16:64]).all()
    assert framing.region(100, 60, (2, 1, 100, 60)) == (0, 0, 100, 60)


@pytest.mark.parametrize("box", [None, (np.nan,) * 4, (200.0, 10.0, 240.0, 50.0)])
def test_without_a_usable_box_the_whole_photo_is_kept(box):
    assert Framing(16, "box").region(100, 60, box) == (0, 0, 100, 60)


def test_squash_fills_the_square_and_letterbox_pads_with_grey():
    photo = np.full((20, 40, 3), 255, np.uint8)
    assert (Framing(40).apply(photo) == 255).all()
    boxed = Framing(40, fit="letterbox").apply(photo)
    assert (boxed[10:30] == 255).all()
    assert (boxed[:10] == 128).all() and (boxed[30:] == 128).all()


@pytest.mark.parametrize("height, width", [(1, 300), (300, 1), (1, 1), (7, 9)])
@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_odd_photos_are_framed_too(height, width, fit):
    photo = Framing(16, fit=fit).apply(np.full((height, width, 3), 9, np.uint8))
    assert photo.shape == (16, 16, 3) and (photo == 9).any()


@pytest.mark.parametrize(
    "wrong, named", [({"crop": "car"}, "car"), ({"fit": "pad"}, "pad"), ({"size": 4}, "4 px")]
)
def test_wrong_framing_is_named(wrong, named):
    with pytest.raises(DataError, match=named):
        Framing(**({"size": 32} | wrong))


# --- the store ----------------------------------------------------------------------------------


def open_store(catalog: Catalog, framing: Framing | None = None) -> PhotoStore:
    return PhotoStore.open(catalog, framing or Framing(24), progress=False)


def store_file(ending: str) -> Path:
    (path,) = (cache_root() / "photos").glob(f"*.{ending}")
    return path


def test_store_holds_what_decoding_and_framing_give(toys):
    framing = Framing(24, fit="letterbox")
    store = open_store(toys, framing)
    assert store.pixels.shape == (len(toys), 24, 24, 3) and not store.left_out
    for row in (0, 30, len(toys) - 1):
        path = toys.table["path"][row]
        assert (
            store.pixels[row] == framing.apply(decode_photo(toys.source.read(path), path))
        ).all()
    assert (store.labels == toys.labels).all()
    assert (store.positions("val") == np.flatnonzero(toys.table["split"] == "val")).all()


def test_store_crops_to_each_photos_own_box(tmp_path):
    shape(0, 0).save(tmp_path / "a.png")
    rows = pd.DataFrame(
        {"path": ["a.png"], "label": [0], "x1": [8], "y1": [4], "x2": [40], "y2": [36]}
    )
    catalog = Catalog.from_rows(rows, ["car"], "one", FolderSource(tmp_path))
    assert (
        open_store(catalog, Framing(32, "box")).pixels[0] == np.array(shape(0, 0))[4:36, 8:40]
    ).all()


def test_bad_photos_are_left_out_by_name_and_never_replaced(tmp_path):
    root = by_class(tmp_path / "shapes", per_class=5)
    catalog = toy_catalog(root, 0.2)
    names = {
        "blue bar/0001.png": bad_files()["truncated.jpg"],
        "green ring/1002.png": bad_files()["text.jpg"],
        "red disc/2003.png": None,
    }
    for name, data in names.items():
        (root / name).unlink()
        if data is not None:
            (root / name).write_bytes(data)
    store = open_store(catalog)
    assert set(store.left_out) == set(names)
    assert all(Path(name).name in reason for name, reason in store.left_out.items())
    kept = catalog.table["path"][store.rows].tolist()
    assert len(store.pixels) == len(kept) == len(catalog) - 3 and not set(kept) & set(names)
    for position in (0, 7, len(kept) - 1):  # positions shift, photos and labels stay together
        data = catalog.source.read(kept[position])
        assert (store.pixels[position] == Framing(24).apply(decode_photo(data, "x"))).all()
    assert (store.labels == catalog.labels[store.rows]).all()
    again = open_store(catalog)
    assert again.left_out == store.left_out and (again.rows == store.rows).all()


def test_catalog_without_a_readable_photo_is_an_error_that_names_the_first(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    rows = pd.DataFrame({"path": ["a.jpg"], "label": [0]})
    catalog = Catalog.from_rows(rows, ["car"], "none", FolderSource(tmp_path))
    with pytest.raises(DataError, match=r"no photo can be read.*a\.jpg"):
        open_store(catalog)


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def wrong_json(path: Path) -> None:
    path.write_text(json.dumps([1, 2, 3]), encoding="utf-8")


@pytest.mark.parametrize(
    "ending, damage",
    [("u8", flip_byte), ("u8", cut), ("u8", os.unlink), ("json", cut), ("json", wrong_json),
     ("json", os.unlink)],
)  # fmt: skip
def test_damaged_store_is_built_again(toys, ending, damage):
    good = np.array(open_store(toys).pixels)
    damage(store_file(ending))
    assert (open_store(toys).pixels == good).all()


def test_whole_store_is_not_built_again(toys, monkeypatch):
    open_store(toys)
    monkeypatch.setattr("carlib.data.store._build", lambda *a: pytest.fail("built again"))
    open_store(toys)


def test_other_framing_and_other_rows_have_stores_of_their_own(toys):
    open_store(toys)
    open_store(toys, Framing(24, fit="letterbox"))
    open_store(toys.select("val"))
    assert len(list((cache_root() / "photos").glob("*.u8"))) == 3


def test_two_processes_at_once_make_one_whole_store(toy_root, toys):
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(2), spawn.Queue()
    processes = [
        spawn.Process(target=build_store, args=(str(toy_root), start, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=900) for _ in processes]
    for process in processes:
        process.join(900)
        assert process.exitcode == 0
    pixels = open_store(toys, Framing(64)).pixels
    assert found == [(pixels.shape, int(pixels.sum(dtype=np.int64)))] * 2
    assert not list((cache_root() / "photos").glob("*.tmp"))


def test_full_disk_leaves_no_half_store(toys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("carlib.data.store.os.replace", full)
        with pytest.raises(RunError, match="No space"):
            open_store(toys)
    assert not list((cache_root() / "photos").glob("*.tmp"))
    assert len(open_store(toys).pixels) == len(toys)


def test_statistics_are_those_of_the_pixels(toys):
    store = open_store(toys)
    mean, std = store.statistics(np.arange(len(store.pixels)))
    flat = np.asarray(store.pixels).reshape(-1, 3) / 255
    assert np.allclose(mean, flat.mean(0)) and np.allclose(std, flat.std(0))


def test_store_travels_to_other_processes_without_its_bytes(toys):
    store = open_store(toys, Framing(64))
    sent = pickle.dumps(store)
    assert len(sent) < store.pixels.nbytes / 10
    assert (pickle.loads(sent).pixels == store.pixels).all()


def test_photos_in_another_order_have_a_store_of_their_own(tmp_path):
    cat = toy_catalog(by_class(tmp_path / "toys", per_class=3))
    other = Catalog(cat.table.iloc[::-1], cat.class_names, cat.name, cat.source)
    assert cat.fingerprint == other.fingerprint  # the same photos
    one, two = (PhotoStore.open(some, Framing(16), progress=False) for some in (cat, other))
    np.testing.assert_array_equal(one.pixels, two.pixels[::-1])
    assert one.labels.tolist() == two.labels.tolist()[::-1]


def test_catalogs_that_differ_in_labels_share_what_was_decoded(tmp_path):
    cat = toy_catalog(by_class(tmp_path / "toys", per_class=3))
    other = Catalog(cat.table.assign(split="train"), cat.class_names, cat.name, cat.source)
    one, two = (PhotoStore.open(some, Framing(16), progress=False) for some in (cat, other))
    assert one.key == two.key and one.pixels.filename == two.pixels.filename


def test_mean_and_deviation_are_those_of_all_pixels(tmp_path):
    cat = toy_catalog(by_class(tmp_path / "toys", per_class=3))
    store = PhotoStore.open(cat, Framing(16), progress=False)
    mean, deviation = store.statistics(np.arange(5))
    pixels = store.pixels[:5].reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(deviation, pixels.std(0), rtol=1e-9)
