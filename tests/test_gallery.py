"""Galleries: the same answers as comparing everything, kept whole, and never of two networks."""

from __future__ import annotations

import json
import shutil
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest

from carlib.errors import RunError
from carlib.retrieval import gallery as galleries
from carlib.retrieval.embeddings import Embeddings, scaled
from carlib.retrieval.gallery import KINDS, Gallery
from carlib.retrieval.milvus import MilvusGallery

MAKES = ("Audi", "BMW", "Fiat")


def points(count: int = 400, dims: int = 32, seed: int = 0, network: str = "net") -> Embeddings:
    """Photos in a dozen clusters, as those of cars are."""
    generator = np.random.default_rng(seed)
    centers = generator.normal(size=(12, dims))
    labels = generator.integers(0, 12, count)
    values = centers[labels] + 0.4 * generator.normal(size=(count, dims))
    table = pd.DataFrame(
        {
            "path": [f"{seed}/{number:05d}.jpg" for number in range(count)],
            "label": pd.array(labels, "Int64"),
            "class_name": [f"car {label}" for label in labels],
            "make": [MAKES[label % 3] for label in labels],
            "model": 'it\'s a "car"',
            "year": pd.array(2000 + labels, "Int64"),
        }
    )
    return Embeddings(scaled(values), table, network)


def truth(photos: Embeddings, queries: np.ndarray, k: int) -> list[list[str]]:
    order = np.argsort(-(scaled(queries) @ photos.vectors.T), axis=1)[:, :k]
    return [list(photos.paths[row]) for row in order]


def paths_of(found: pd.DataFrame) -> list[list[str]]:
    return [list(part["path"]) for _, part in found.groupby("query")]


@pytest.mark.parametrize("kind", KINDS)
def test_search_finds_what_comparing_everything_finds(kind: str) -> None:
    photos, asked = points(), points(20, seed=1).vectors
    found = paths_of(Gallery.build(photos, kind).search(asked, k=5))
    wanted = truth(photos, asked, 5)
    share = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found, wanted, strict=True)])
    assert found == wanted if kind == "flat" else share > 0.9


@pytest.fixture(params=[*KINDS, "milvus"])
def made(request, tmp_path):
    """A gallery of every kind, with the photos in it."""
    photos = points()
    if request.param == "milvus":
        pytest.importorskip("pymilvus")
        # A name of its own: Milvus keeps what it knew of a file whose path another test gets.
        gallery = MilvusGallery.build(photos, str(tmp_path / f"{uuid4().hex}.db"))
        yield gallery, photos
        gallery.client.close()
    else:
        yield Gallery.build(photos, request.param), photos


def test_a_photo_finds_itself_until_it_is_removed(made) -> None:
    gallery, photos = made
    own = photos.paths[7]
    first = gallery.search(photos.vectors[7:8], k=1).iloc[0]
    assert first["path"] == own and first["similarity"] == pytest.approx(1, abs=1e-3)
    assert gallery.remove([own, "no such photo"]) == 1 and gallery.remove([own]) == 0
    assert len(gallery) == len(photos) - 1
    assert own not in set(gallery.search(photos.vectors[7:8], k=20)["path"])
    gallery.add(photos.select(np.array([7])))  # and can come back
    assert gallery.search(photos.vectors[7:8], k=1)["path"].tolist() == [own]


def test_what_is_added_is_found_with_all_that_is_known_of_it(made) -> None:
    gallery, photos = made
    more = points(3, seed=5)
    gallery.add(more)
    assert len(gallery) == len(photos) + 3
    first = gallery.search(more.vectors, k=2)
    first = first[first["rank"] == 1].reset_index(drop=True)
    assert first["path"].tolist() == list(more.paths)
    for column in ("label", "class_name", "make", "model", "year"):
        assert first[column].tolist() == more.table[column].tolist()


@pytest.mark.parametrize(
    "where", [{"make": "Fiat"}, {"year": [2001, 2004]}, {"make": ["Audi", "BMW"], "year": 2003}]
)
def test_filters_leave_the_nearest_of_what_they_allow(made, where) -> None:
    gallery, photos = made
    mask = np.ones(len(photos), bool)
    for column, wanted in where.items():
        mask &= photos.table[column].isin(np.atleast_1d(wanted)).to_numpy()
    asked = points(5, seed=1).vectors
    assert paths_of(gallery.search(asked, 4, where)) == truth(photos.select(mask), asked, 4)


def test_fewer_photos_than_asked_for_are_all_given(made) -> None:
    gallery, photos = made
    count = int((photos.table["year"] == 2002).sum())
    assert len(gallery.search(photos.vectors[:1], 200, {"year": 2002})) == count
    assert gallery.search(photos.vectors[:2], 3, {"make": "Trabant"}).empty


def test_points_of_another_network_are_refused(made) -> None:
    gallery, _ = made
    with pytest.raises(RunError, match="built with checkpoint net, these embeddings with other"):
        gallery.add(points(2, seed=3, network="other"))


def test_a_photo_cannot_be_there_twice(made) -> None:
    gallery, photos = made
    with pytest.raises(RunError, match="in the gallery already"):
        gallery.add(photos.select(np.array([3])))
    assert len(gallery) == len(photos)


def test_bad_questions_are_named(made) -> None:
    gallery, photos = made
    with pytest.raises(RunError, match="queries must be"):
        gallery.search(photos.vectors[:1, :5])
    with pytest.raises(RunError, match="k is 0"):
        gallery.search(photos.vectors[:1], 0)
    with pytest.raises(RunError, match="cannot filter by 'colour'"):
        gallery.search(photos.vectors[:1], 1, {"colour": "red"})


@pytest.mark.parametrize("kind", KINDS)
def test_large_filters_search_the_index_itself(kind: str, monkeypatch) -> None:
    monkeypatch.setattr(galleries, "EXACT", 0)
    photos, asked = points(), points(10, seed=1).vectors
    gallery = Gallery.build(photos, kind)
    gone = photos.table["make"] == "BMW"
    gallery.remove(photos.paths[gone])
    found = gallery.search(asked, 5)
    assert len(found) == 50 and not set(found["make"]) & {"BMW"}
    wanted = truth(photos.select(~gone.to_numpy()), asked, 5)
    pairs = zip(paths_of(found), wanted, strict=True)
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in pairs]) > 0.9


# --- on disk ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_gallery_is_the_same_gallery(kind: str, tmp_path) -> None:
    photos, asked = points(), points(10, seed=1).vectors
    gallery = Gallery.build(photos, kind)
    gallery.remove(list(photos.paths[:50]))
    again = Gallery.load(gallery.save(tmp_path / "g"), network="net")
    pd.testing.assert_frame_equal(again.search(asked, 7), gallery.search(asked, 7))
    again.add(points(5, seed=9))
    again.save(tmp_path / "g")
    assert len(list((tmp_path / "g").iterdir())) == 4  # older versions are swept away
    assert len(Gallery.load(tmp_path / "g")) == len(gallery) + 5


def test_compacting_forgets_removed_photos() -> None:
    photos, asked = points(), points(10, seed=1).vectors
    gallery = Gallery.build(photos)
    gallery.remove(list(photos.paths[::2]))
    small = gallery.compact()
    assert (len(small), small.index.ntotal) == (200, 200)
    pd.testing.assert_frame_equal(small.search(asked, 5), gallery.search(asked, 5))


def test_a_save_that_is_killed_leaves_the_gallery_before_it(tmp_path, monkeypatch) -> None:
    photos = points()
    gallery = Gallery.build(photos)
    gallery.save(tmp_path)
    gallery.add(points(5, seed=9))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(galleries, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        gallery.save(tmp_path)
    assert len(Gallery.load(tmp_path)) == len(photos)


def test_another_checkpoint_or_a_damaged_file_is_refused(tmp_path) -> None:
    folder = Gallery.build(points()).save(tmp_path / "g")
    with pytest.raises(RunError, match="built with checkpoint net, not new"):
        Gallery.load(folder, network="new")
    with pytest.raises(RunError, match="build the gallery first"):
        Gallery.load(tmp_path / "nowhere")
    cut = shutil.copytree(folder, tmp_path / "cut")
    index = cut / json.loads((cut / "gallery.json").read_text(encoding="utf-8"))["index"]
    index.write_bytes(index.read_bytes()[:1000])
    with pytest.raises(RunError, match="damaged gallery"):
        Gallery.load(cut)


def test_a_milvus_gallery_stays_where_it_is(tmp_path) -> None:
    pytest.importorskip("pymilvus")
    address, photos = str(tmp_path / "cars.db"), points()
    with pytest.raises(RunError, match="no gallery 'cars' there"):
        MilvusGallery(address)
    MilvusGallery.build(photos, address).client.close()
    again = MilvusGallery(address, network="net")
    assert len(again) == len(photos)
    assert again.search(photos.vectors[:1], 1)["path"].tolist() == [photos.paths[0]]
    with pytest.raises(RunError, match="is a gallery 'cars' already"):
        MilvusGallery.build(photos, address)
    with pytest.raises(RunError, match="not new"):
        MilvusGallery(address, network="new")
    again.drop()
    with pytest.raises(RunError, match="no gallery"):
        MilvusGallery(address)


def test_too_small_or_unknown_galleries_are_refused() -> None:
    with pytest.raises(RunError, match="unknown kind"):
        Gallery.build(points(), "annoy")
    with pytest.raises(RunError, match="at least one photo"):
        Gallery.build(points(0))
    with pytest.raises(RunError, match="16 photos or more"):
        Gallery.build(points(10), "ivf_pq")
