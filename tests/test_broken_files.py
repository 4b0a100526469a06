"""Any file, broken in any way: an error in words or an answer, never a traceback, nothing touched.

hypothesis chooses the file of a tree and the damage: cut, bytes changed, inserted or replaced, an
empty file, none at all. Two hundred cases and more over the readers, and others for what carlib
writes itself.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import write_compcars
from toys import shape, toy_recipe

from carlib.apps.predictor import open_photo
from carlib.data.catalog import Catalog
from carlib.data.framing import Framing
from carlib.data.opening import open_catalog
from carlib.data.store import PhotoStore
from carlib.errors import CarlibError
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.recipe import recipe_from_json
from carlib.experiment.record import Record, read_record
from carlib.files import save_tensors
from carlib.retrieval.embeddings import Embeddings
from carlib.retrieval.gallery import Gallery

CASES = settings(
    max_examples=50, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip


def broken(data: bytes, draw) -> bytes | None:
    """A file's bytes after some damage; None: it is gone."""
    damage = draw(st.sampled_from(["cut", "change", "insert", "random", "empty", "text", "gone"]))
    place = draw(st.integers(0, max(0, len(data) - 1)))
    noise = draw(st.binary(min_size=1, max_size=40))
    return {
        "cut": data[:place],
        "change": data[:place] + noise + data[place + len(noise) :],
        "insert": data[:place] + noise + data[place:],
        "random": noise,
        "empty": b"",
        "text": draw(st.text(max_size=30)).encode("utf-8", "surrogatepass"),
        "gone": None,
    }[damage]


def put(path: Path, data: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data)


def state_of(root: Path) -> str:
    """A hash over names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


# --- readers ------------------------------------------------------------------------------------


def devkit(root: Path) -> Path:
    return trees.devkit(root, per_class=3)


def folders(root: Path) -> Path:
    return trees.class_folders(root, per_class=3)


def hub(root: Path) -> Path:
    trees.parquet(root / "data" / "train-00000-of-00001.parquet", [0, 1, 2] * 3)
    return root


def csv(root: Path) -> Path:
    open_catalog(trees.class_folders(root / "photos", per_class=3)).to_csv(root / "catalog.csv")
    return root


def compcars(root: Path) -> Path:
    return write_compcars(root, photos_per_class=3, size=32)


LAYOUTS = {f.__name__: f for f in (devkit, folders, hub, csv, compcars)}


@pytest.fixture(scope="module", params=LAYOUTS)
def tree(request, tmp_path_factory) -> Path:
    return LAYOUTS[request.param](tmp_path_factory.mktemp(request.param) / "tree")


def use(catalog: Catalog) -> None:
    """What every command does with a data set: divide it, decode its photos."""
    store = PhotoStore.open(catalog.with_val(), Framing(16), progress=False)
    assert len(store.rows) + len(store.left_out) <= len(catalog)


@CASES
@given(data=st.data())
def test_readers(tree: Path, private_folders: Path, data) -> None:
    described = [p for p in sorted(tree.rglob("*")) if p.suffix in (".mat", ".txt", ".csv", ".json",
                                                                     ".parquet")]  # fmt: skip
    photos = sorted(p for p in tree.rglob("*") if p.suffix in (".jpg", ".png"))
    path = data.draw(st.sampled_from([*described * 3, *photos[:6]] if described else photos[:6]))
    whole = path.read_bytes()
    put(path, broken(whole, data.draw))
    before = state_of(tree)
    try:
        use(open_catalog(tree))
    except CarlibError as error:
        assert str(error).strip()
    finally:
        assert state_of(tree) == before
        put(path, whole)
        shutil.rmtree(private_folders / "cache", ignore_errors=True)


# --- what carlib writes -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A checkpoint, a gallery, a record, a recipe and a photo."""
    root = tmp_path_factory.mktemp("kept")
    catalog = open_catalog(trees.class_folders(root / "photos"))
    begun = Checkpoint.begin(toy_recipe(), catalog)
    about = {"recipe": begun.recipe.to_json(), "class_names": list(begun.class_names),
             "mean": begun.mean, "std": begun.std}  # fmt: skip
    save_tensors(root / "a.safetensors", begun.model.state_dict(), about)
    points = np.random.default_rng(0).standard_normal((len(catalog), 8)).astype(np.float32)
    Gallery.build(Embeddings(points, catalog.table, "toy")).save(root / "gallery")
    Record(kind="toy", name="record", data={}, metrics={"accuracy": 0.5}).write(root)
    (root / "recipe.json").write_text(begun.recipe.to_json(), encoding="utf-8")
    shape(2, 1).save(root / "photo.jpg")
    return root


READ = {
    "a.safetensors": Checkpoint.load,
    "gallery/gallery.json": lambda path: Gallery.load(path.parent),
    "gallery/*.faiss": lambda path: Gallery.load(path.parent),
    "gallery/*.parquet": lambda path: Gallery.load(path.parent),
    "record.json": read_record,
    "recipe.json": lambda path: recipe_from_json(
        path.read_text(errors="replace", encoding="utf-8")
    ),
    "photo.jpg": open_photo,
}


@pytest.mark.parametrize("name", READ)
@CASES
@given(data=st.data())
def test_what_carlib_wrote(kept: Path, name: str, data) -> None:
    path = next(kept.glob(name))
    whole = path.read_bytes()
    put(path, broken(whole, lambda s: data.draw(s.filter(lambda v: v != "gone"))))
    try:
        READ[name](path)
    except CarlibError as error:
        assert str(error).strip()
    finally:
        put(path, whole)
