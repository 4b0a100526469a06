"""Things are what they are made of: photos their bytes, runs and records their recipe and photos.

Every case here was once taken for another thing because names agreed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trees
from fakes import fake_record
from layouts import write_compcars
from toys import SHAPES, by_class, shape, toy_catalog, toy_recipe
from typer.testing import CliRunner

from carlib.cli import app
from carlib.data import digests
from carlib.data.catalog import Catalog, Extras
from carlib.data.class_names import stanford_class_names
from carlib.data.drawn import open_showroom
from carlib.data.framing import Framing
from carlib.data.opening import open_catalog
from carlib.data.sources import FolderSource
from carlib.data.store import PhotoStore
from carlib.errors import DataError, RunError
from carlib.evaluation.evaluate import evaluate
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.recipe import hash_of
from carlib.experiment.record import Record, load_records, read_record, the_one
from carlib.experiment.registry import RECIPES, get_recipe
from carlib.experiment.run import Run
from carlib.experiment.tables import by_label, evaluations, shown_name
from carlib.paths import file_name, results_root, runs_root
from carlib.report.rows import rows_of
from carlib.retrieval.axes import on_axes
from carlib.retrieval.embeddings import embed, thumbnails
from carlib.retrieval.gallery import Gallery
from carlib.retrieval.verification import has_protocol, score_verification
from carlib.training.loop import load_or_train

ROOT = Path(__file__).resolve().parents[1]
run = CliRunner().invoke


@pytest.fixture
def two_folders(tmp_path: Path) -> tuple[Path, Path]:
    """`a/cars` and `b/cars`: the same class and file names, the pictures of another class in b."""
    for name, step in (("a", 0), ("b", 1)):
        for kind, folder in enumerate(SHAPES):
            (tmp_path / name / "cars" / folder).mkdir(parents=True)
            for seed in range(12):
                picture = shape((kind + step) % len(SHAPES), seed)
                picture.save(tmp_path / name / "cars" / folder / f"{seed:03d}.png")
    return tmp_path / "a" / "cars", tmp_path / "b" / "cars"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of files that were written just now are remembered too."""
    monkeypatch.setattr(digests, "SETTLED_NS", 0)


def pixels_of(catalog: Catalog) -> np.ndarray:
    return np.array(PhotoStore.open(catalog, Framing(24), progress=False).pixels)


# --- photos ---------------------------------------------------------------------------------------


def test_other_pictures_under_the_same_names_are_another_catalog(two_folders) -> None:
    a, b = (toy_catalog(folder) for folder in two_folders)
    assert a.table.equals(b.table) and a.name == b.name
    assert a.fingerprint != b.fingerprint and a != b
    assert not (pixels_of(a) == pixels_of(b)).all()


def test_a_copy_of_the_folder_is_the_same_catalog(two_folders, tmp_path) -> None:
    a = toy_catalog(two_folders[0])
    shutil.copytree(two_folders[0], tmp_path / "copy" / "cars")
    copied = toy_catalog(tmp_path / "copy" / "cars")
    assert a == copied and a.fingerprint == copied.fingerprint
    assert Run.of(toy_recipe(), a).folder == Run.of(toy_recipe(), copied).folder


def test_search_answers_with_the_photos_of_its_own_data(two_folders) -> None:
    _, done = load_or_train(toy_recipe(epochs=2), toy_catalog(two_folders[0]))
    model = str(done.kept)
    for folder in two_folders:
        asked = folder / SHAPES[0] / "000.png"
        done = run(app, ["search", str(asked), "--data", str(folder), "--model", model, "--json"])
        assert done.exit_code == 0, done.output
        first = json.loads(done.stdout[done.stdout.index("[") :])[0]
        assert first["path"] == f"{SHAPES[0]}/000.png"
        assert first["similarity"] == pytest.approx(1, abs=1e-4)


def test_training_on_other_photos_is_another_run(two_folders) -> None:
    said: list[str] = []
    names = ["train", "cnn3", "--quick", "--set", "epochs=1", "--set", "size=16", "--data"]
    for folder in two_folders:
        done = run(app, [*names, str(folder), "--json"])
        assert done.exit_code == 0, done.output
        said.append(done.stderr)
    assert "training" in said[1] and "loaded" not in said[1]
    assert len(list(runs_root().iterdir())) == len(list(results_root().glob("*.json"))) == 2
    again = run(app, [*names, str(two_folders[1]), "--json"])
    assert "loaded" in again.stderr and len(list(results_root().glob("*.json"))) == 2


def test_frozen_features_are_those_of_the_photos(two_folders) -> None:
    frozen = toy_recipe(model="resnet18", plan="head", augment="none", size=32, store_size=32)
    points = []
    for folder in two_folders:
        catalog = toy_catalog(folder)
        points.append(embed(Checkpoint.begin(frozen, catalog), catalog, progress=False).vectors)
    assert not np.allclose(points[0], points[1])


def test_a_repaired_photo_comes_back(tmp_path) -> None:
    root = by_class(tmp_path / "shapes", per_class=6)
    bad = root / SHAPES[2] / "2003.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    catalog = toy_catalog(root)
    assert set(PhotoStore.open(catalog, Framing(24), progress=False).left_out) == {
        f"{SHAPES[2]}/2003.png"
    }
    bad.write_bytes(whole)
    for seen in (catalog, toy_catalog(root)):
        store = PhotoStore.open(seen, Framing(24), progress=False)
        assert not store.left_out and len(store.pixels) == 24


def replace_in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def replace_by_rename(path: Path, data: bytes) -> None:
    other = path.with_name("other.tmp")
    other.write_bytes(data)
    os.replace(other, path)


@pytest.mark.parametrize("put", [replace_in_place, replace_by_rename])
def test_a_replaced_photo_is_seen_even_with_its_size_and_mtime(tmp_path, settled, put) -> None:
    """In an uncompressed format any picture takes as many bytes."""
    root = tmp_path / "shapes"
    for kind, name in enumerate(SHAPES):
        (root / name).mkdir(parents=True)
        for seed in range(4):
            shape(kind, seed).save(root / name / f"{kind}{seed}.bmp")
    catalog = toy_catalog(root, 0.25)
    before, fingerprint = pixels_of(catalog), catalog.fingerprint
    photo = root / SHAPES[0] / "00.bmp"
    was = photo.stat()
    shape(2, 77).save(tmp_path / "other.bmp")
    put(photo, (tmp_path / "other.bmp").read_bytes())
    os.utime(photo, ns=(was.st_atime_ns, was.st_mtime_ns))
    now = photo.stat()
    assert (now.st_size, now.st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    assert catalog.fingerprint != fingerprint
    changed = (pixels_of(catalog) != before).any(axis=(1, 2, 3))
    assert changed.sum() == 1
    assert (
        Run.of(toy_recipe(), catalog).folder == Run.of(toy_recipe(), toy_catalog(root, 0.25)).folder
    )


def test_digests_are_remembered_and_cost_no_reading(toys, settled, monkeypatch) -> None:
    first = toys.digests
    monkeypatch.setattr(type(toys.source), "read", lambda *_: pytest.fail("read again"))
    assert (toys.digests == first).all() and len(set(first)) == len(toys)


def test_a_file_that_was_just_written_is_not_remembered(tmp_path) -> None:
    """It could be written again within one tick of the clock."""
    catalog = toy_catalog(by_class(tmp_path / "shapes", per_class=2), 0.5)
    assert set(catalog.digests) != {digests.UNREADABLE}
    assert not list((tmp_path / "cache" / "digests").glob("*.json"))


@pytest.mark.parametrize("content", ["{", "[]", '{"a.png": 3}', '{"a.png": [1, 2]}', "\0"])
def test_a_damaged_memory_is_forgotten(toys, settled, content) -> None:
    first = toys.digests
    (memory,) = (digests.cache_root() / "digests").glob("*.json")
    memory.write_text(content, encoding="utf-8")
    assert (toys.digests == first).all()


def test_a_memory_that_cannot_be_kept_costs_time_alone(toys, settled, monkeypatch) -> None:
    def full(*_):
        raise RunError("no space")

    monkeypatch.setattr(digests, "write_atomically", full)
    assert len(set(toys.digests)) == len(toys)


def test_what_is_no_regular_file_is_left_out_and_never_waited_for(tmp_path) -> None:
    root = by_class(tmp_path / "shapes", per_class=6)
    (root / SHAPES[0] / "0003.png").unlink()
    os.mkfifo(root / SHAPES[0] / "0003.png")
    catalog = toy_catalog(root)
    assert (catalog.digests == digests.UNREADABLE).sum() == 1
    left_out = PhotoStore.open(catalog, Framing(24), progress=False).left_out
    assert "no regular file" in left_out[f"{SHAPES[0]}/0003.png"]


def test_a_parquet_file_that_is_replaced_is_seen(tmp_path) -> None:
    file = trees.parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [0, 1, 2] * 4)
    catalog = open_catalog(tmp_path)
    before, fingerprint = pixels_of(catalog), catalog.fingerprint
    table = pq.read_table(file)
    order = list(range(11, -1, -1))  # the same names with each other's pictures
    bytes_ = [table["image"][row]["bytes"].as_py() for row in order]
    names = [table["image"][row]["path"].as_py() for row in range(12)]
    images = pa.array(
        [{"bytes": b, "path": n} for b, n in zip(bytes_, names, strict=True)],
        table.schema.field("image").type,
    )
    replaced = pa.table({"image": images, "label": table["label"]})
    pq.write_table(replaced.replace_schema_metadata(table.schema.metadata), file)
    assert catalog.fingerprint != fingerprint
    assert (pixels_of(catalog) == before[::-1]).all()


def test_a_photo_that_changes_while_it_is_read_makes_no_store(toys, monkeypatch) -> None:
    read = type(toys.source).read
    taken = toys.digests
    monkeypatch.setattr(type(toys), "digests", taken)
    monkeypatch.setattr(type(toys.source), "read", lambda self, path: read(self, path) + b" ")
    with pytest.raises(DataError, match="changed while it was read"):
        PhotoStore.open(toys, Framing(24), progress=False)


# --- points ---------------------------------------------------------------------------------------


def test_points_of_other_axes_or_framings_are_not_compared(two_folders) -> None:
    """Axes are fitted on photos, so they are those of the photos."""
    a, b = (toy_catalog(folder) for folder in two_folders)
    checkpoint = Checkpoint.begin(toy_recipe(), a)
    asked = embed(checkpoint, a, "val", progress=False)
    networks = [
        on_axes(checkpoint, catalog, "whitened", asked)[0][0].network for catalog in (a, b, a)
    ]
    assert networks[0] == networks[2] != networks[1]
    framings = (Framing(16), Framing(16, fit="letterbox"))
    assert len({thumbnails(a, framing).network for framing in framings}) == 2


# --- galleries ------------------------------------------------------------------------------------


def test_a_gallery_knows_its_photos_by_their_bytes(tmp_path) -> None:
    root = by_class(tmp_path / "shapes", per_class=6)
    catalog = toy_catalog(root)
    checkpoint = Checkpoint.begin(toy_recipe(), catalog)
    gallery = Gallery.build(embed(checkpoint, catalog, progress=False))
    folder = gallery.save(tmp_path / "gallery")
    assert gallery.changed(catalog) == []
    assert len(Gallery.load(folder, checkpoint.hash, catalog)) == len(catalog)
    shape(3, 500).save(root / SHAPES[1] / "1002.png")
    assert gallery.changed(catalog) == [f"{SHAPES[1]}/1002.png"]
    with pytest.raises(RunError, match=r"1 of its photos are others .*/1002\.png"):
        Gallery.load(folder, catalog=catalog)
    assert len(gallery.compact()) == len(catalog)
    assert gallery.compact().changed(catalog) == [f"{SHAPES[1]}/1002.png"]


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_of_other_photos_is_refused_by_name(two_folders, tmp_path) -> None:
    a, b = (toy_catalog(folder) for folder in two_folders)
    load_or_train(toy_recipe(epochs=1), a, tmp_path / "mine", progress=False)
    with pytest.raises(RunError, match="other photos"):
        Run.of(toy_recipe(epochs=1), b, tmp_path / "mine")


def test_a_run_from_before_photos_counted_is_refused_in_words_and_loads(toys, tmp_path) -> None:
    recipe = toy_recipe(epochs=1)
    _, done = load_or_train(recipe, toys, tmp_path / "old", progress=False)
    about = {"catalog": toys.name, "fingerprint": toys._rows_digest}  # as it was written then
    (done.folder / "data.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(RunError, match="did not look at their bytes"):
        Run.of(recipe, toys, done.folder)
    assert Checkpoint.load(done.folder).recipe == recipe


def test_a_checkpoint_says_what_it_learned_from(toys, tmp_path) -> None:
    recipe = toy_recipe(epochs=1, dev=0.2, keep="best")
    checkpoint, done = load_or_train(recipe, toys, progress=False)
    assert checkpoint.told()["trained_on"] == toys.fingerprint
    assert [Checkpoint.load(path).told()["kept"] for path in (done.best, done.last)] == [
        "best", "last",
    ]  # fmt: skip
    assert Checkpoint.begin(toy_recipe(), toys).told()["kept"] == "untrained"


@pytest.mark.parametrize("name", ["../../evil", "/abs/x", "..", ".hidden", "a/b", "a\\b", "n\0ul"])
def test_a_name_never_leaves_its_folder(toys, name, tmp_path) -> None:
    catalog = replace(toys, name=name)
    folder = Run.of(toy_recipe(name=name), catalog).folder
    assert folder.parent == runs_root() and not folder.name.startswith(".")
    pixels_of(catalog)
    written = Record("audit", {"catalog": name, "fingerprint": "f"}, {"photos": 1}).write()
    assert written.parent == results_root() and written.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "results"]


def test_file_names_stay_readable() -> None:
    assert file_name("lite0_cpu+epochs=1", "", "Škoda cars", 3) == "lite0_cpu+epochs=1-Škoda_cars-3"


# --- records --------------------------------------------------------------------------------------


def test_a_changed_recipe_has_a_name_and_a_record_of_its_own(toy_root) -> None:
    small = ["train", "cnn3", "--quick", "--data", str(toy_root), "--set", "size=16", "--json"]
    for change in ("epochs=1", "epochs=2", "epochs=1"):
        done = run(app, [*small, "--set", change])
        assert done.exit_code == 0, done.output
    names = sorted(r.recipe["name"] for r in load_records())
    assert names == ["cnn3_quick+size=16,epochs=1", "cnn3_quick+size=16,epochs=2"]


def test_changing_nothing_or_the_seed_changes_no_name() -> None:
    plain = get_recipe("lite0_cpu")
    assert plain.variant(epochs=plain.epochs) == plain
    assert plain.variant(seed=3).name == "lite0_cpu" and plain.variant(seed=3).hash != plain.hash
    assert plain.variant(epochs=1).name == "lite0_cpu+epochs=1"
    many = plain.variant(epochs=1, lr=0.5, ema=0.9, mixup=0.1, cutmix=0.2, batch_size=8)
    assert len(many.name) < 30 and many.name != plain.variant(epochs=2, lr=0.5, ema=0.9).name
    assert many.variant(epochs=2).name != many.name


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["--name", "lite0_cpu", "--set", "epochs=1"], "is the name of another recipe"),
     (["--name", "cnn3_quick", "--set", "epochs=1"], "is the name of another recipe"),
     (["--name", "mine"], "nothing of cnn3 was changed")],
)  # fmt: skip
def test_a_name_that_would_mislead_is_refused(toy_root, options, reason) -> None:
    done = run(app, ["train", "cnn3", "--data", str(toy_root), *options])
    assert done.exit_code == 2 and reason in done.stderr
    assert not runs_root().exists()


def test_the_record_of_something_else_is_never_written_over(tmp_path) -> None:
    first = fake_record()
    path = first.write(tmp_path)
    others = {
        "recipe": replace(fake_record("cnn4"), name=first.name),
        "data": replace(first, data=first.data | {"fingerprint": "b" * 16}),
        "scoring": replace(first, scoring={"views": ["plain", "mirror"]}),
        "kind": replace(first, kind="views"),
        "weights": replace(first, checkpoint=first.checkpoint | {"kept": "best"}),
    }
    for what, other in others.items():
        with pytest.raises(RunError, match=f"record of something else.*{what}"):
            other.write(tmp_path)
    assert read_record(path).metrics == first.metrics
    again = replace(first, metrics=first.metrics | {"accuracy": 0.14})  # the same thing, once more
    assert again.write(tmp_path) == path and read_record(path).metrics["accuracy"] == 0.14


def test_file_names_follow_from_what_a_record_is_about() -> None:
    plain = replace(fake_record(), name="")
    names = {
        plain.name,
        replace(plain, name="", data=plain.data | {"split_hash": "1" * 16}).name,
        replace(plain, name="", scoring={"size": 96}).name,
        replace(plain, name="", checkpoint=plain.checkpoint | {"trained_on": "b" * 16}).name,
        replace(fake_record(seed=1), name="").name,
        replace(fake_record("cnn4"), name="").name,
    }
    assert len(names) == 6
    assert replace(plain, name="", metrics={}, commit="x", command="y").name == plain.name


def test_weights_of_unknown_origin_are_told_apart_by_their_hash() -> None:
    """Of runs from before checkpoints said what they are, best and last look alike otherwise."""
    told = {"epoch": 3, "kept": "", "trained_on": ""}
    names = {
        replace(fake_record(), name="", checkpoint=told | {"hash": digit * 16}).name
        for digit in "ab"
    }
    assert len(names) == 2


def test_runs_of_two_recipes_are_never_averaged() -> None:
    long, short = get_recipe("scratch_cpu"), get_recipe("scratch_cpu").but(epochs=1, seed=1)
    one = replace(
        fake_record("scratch_cpu"), metrics={"accuracy": 0.6, "accuracy_interval": [0, 1]}
    )
    other = replace(one, name="other", recipe=asdict(short), recipe_hash="", method="")
    assert long.method != other.method == short.method
    scored = rows_of([one, other])["scratch_cpu"]
    assert (scored["seeds"], scored["epochs"]) == (1, long.epochs)
    assert shown_name(other) == "scratch_cpu (epochs=1)"  # shown as what it was
    # Under a name that the registry does not have there is no telling which is meant.
    named = [replace(r, recipe=r.recipe | {"name": "mine"}) for r in (one, other)]
    with pytest.raises(RunError, match=r"both called mine.*epochs 150 and 1"):
        by_label(named)


def test_one_seed_is_never_counted_twice() -> None:
    one = fake_record()
    other = replace(one, name="again", data=one.data | {"fingerprint": "b" * 16})
    with pytest.raises(RunError, match="one recipe and seed"):
        rows_of([one, other])


def test_several_records_of_one_thing_are_refused() -> None:
    audits = [Record("audit", {"dataset": "stanford-cars", "fingerprint": f}, {}) for f in "ab"]
    assert the_one(audits[:1], "audit") is audits[0] and the_one([], "audit") is None
    assert the_one(audits, "audit", dataset="compcars") is None
    with pytest.raises(RunError, match="several records say the same"):
        the_one(audits, "audit")


@pytest.mark.parametrize("keep", ["best", "last"])
def test_weights_that_the_recipe_does_not_keep_stay_out_of_the_table(toys, keep, tmp_path) -> None:
    recipe = toy_recipe(epochs=3, dev=0.2, keep="best")
    _, done = load_or_train(recipe, toys, progress=False)
    records = [
        evaluate(Checkpoint.load(path), toys, "val", done) for path in (done.best, done.last)
    ]
    assert records[0].name != records[1].name
    stanford = [
        replace(r, data=r.data | {"dataset": "stanford-cars"}, recipe=r.recipe | {"keep": keep})
        for r in records
    ]
    assert evaluations(stanford) == [stanford[0 if keep == "best" else 1]]


def test_a_folder_called_like_a_data_set_stays_out_of_its_tables(tmp_path) -> None:
    catalog = toy_catalog(by_class(tmp_path / "stanford-cars"))
    assert catalog.name == "stanford-cars" and catalog.extras.dataset == ""
    checkpoint = Checkpoint.begin(toy_recipe(), catalog)
    assert evaluations([evaluate(checkpoint, catalog, "val")]) == []


def test_reading_records_needs_no_torch() -> None:
    folder = str(ROOT / "data" / "results")
    code = f"""
import sys
from pathlib import Path
from carlib.experiment.record import load_records
print(len(load_records(Path({folder!r}))), "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, encoding="utf-8"
    )
    count, torch = done.stdout.split()
    assert int(count) > 50 and torch == "False", done.stderr


def test_committed_records_hold_the_hash_of_their_recipe() -> None:
    for record in load_records(ROOT / "data" / "results"):
        assert replace(record, name="").name == record.name
        if record.recipe:
            assert record.recipe_hash == hash_of(record.recipe), record.name
            assert record.method == hash_of(record.recipe, without=("seed",)), record.name


def test_committed_rows_are_of_the_registrys_recipes() -> None:
    """Or say in their name what they were."""
    for record in evaluations(load_records(ROOT / "data" / "results")):
        planned = RECIPES.get(shown_name(record))
        assert planned is None or planned.method == record.method, record.name


def test_methods_of_the_registry_differ() -> None:
    methods = [known.method for known in RECIPES.values()]
    assert len(set(methods)) == len(methods)


# --- what a data set has --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["showroom", "compcars-verification", "stanford-cars"])
def test_a_folder_may_be_called_anything(tmp_path, name) -> None:
    """It is neither drawn, nor has it part masks or official pairs."""
    root = by_class(tmp_path / name, per_class=8)
    catalog = open_catalog(root).with_val()
    assert catalog.name == name and not catalog.publishable
    assert not catalog.has_part_masks and not catalog.has_official_pairs
    checkpoint, _ = load_or_train(toy_recipe(epochs=1), catalog, progress=False)
    assert not has_protocol(checkpoint, catalog)
    done = run(app, ["evaluate", str(next(runs_root().iterdir())), "--data", str(root), "--maps",
                     "2", "--method", "Grad-CAM", "--measure", "deletion", "--json"])  # fmt: skip
    assert done.exit_code == 0, done.output


def test_other_code_draws_other_cars(monkeypatch) -> None:
    first = open_showroom(photos_per_class=3, size=32, only=(0, 1)).root
    monkeypatch.setattr("carlib.data.drawn._renderer", lambda: "other")
    assert open_showroom(photos_per_class=3, size=32, only=(0, 1)).root != first


def test_a_catalog_says_what_it_has(toys, tmp_path) -> None:
    assert not (toys.has_boxes or toys.has_viewpoints or toys.has_makes)
    cars = open_catalog(trees.devkit(tmp_path / "cars"))
    assert cars.has_boxes and cars.has_makes and not cars.has_viewpoints
    drawn = open_showroom(photos_per_class=3, size=32, only=(0, 1))
    assert drawn.publishable and drawn.has_part_masks and drawn.has_viewpoints and drawn.has_boxes
    exported = open_catalog(drawn.to_csv(tmp_path / "drawn.csv"))
    assert exported.extras == drawn.extras == open_catalog(drawn.root).extras
    assert not drawn.by("make").has_official_pairs and drawn.by("make").publishable


@pytest.mark.parametrize("extras", [[], {"publishable": "yes"}, {"unknown": True}, 3])
def test_wrong_extras_are_named(toys, tmp_path, extras) -> None:
    file = toys.to_csv(tmp_path / "toys.csv")
    about = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    file.with_suffix(".json").write_text(json.dumps(about | {"extras": extras}), encoding="utf-8")
    with pytest.raises(DataError, match="extras"):
        open_catalog(file)


def test_a_part_of_compcars_verification_classes_can_be_tried(tmp_path) -> None:
    """The network learned some models; of the others only those count that have photos."""
    write_compcars(tmp_path / "compcars", photos_per_class=3, size=32)
    catalog = open_catalog(f"{tmp_path / 'compcars'}#verification")
    assert catalog.has_official_pairs and catalog.extras.dataset == "compcars"
    seen = catalog.select_classes(range(8))
    assert not seen.has_official_pairs
    checkpoint = Checkpoint.begin(toy_recipe(), seen)
    assert has_protocol(checkpoint, catalog)
    record = score_verification(checkpoint, catalog, progress=False)
    assert record.scoring["lists"] != "official" and 0 <= record.metrics["medium_auc"] <= 1
    assert not (results_root() / "test_ledger.jsonl").exists()
    all_but_three = Checkpoint.begin(toy_recipe(), catalog.select_classes(range(12)))
    assert not has_protocol(all_but_three, catalog)  # the others have photos in test alone
    with pytest.raises(RunError, match="all but three that have two photos"):
        score_verification(all_but_three, catalog, progress=False)


def test_pairs_need_classes_of_two_photos(toys) -> None:
    table = toys.table.copy()
    kept = (table["label"] < 2) | ~table.duplicated("label")
    few = replace(toys, table=table[kept])
    assert not has_protocol(Checkpoint.begin(toy_recipe(), few.select_classes([0])), few)


def test_extras_of_a_recognized_data_set() -> None:
    names = stanford_class_names()
    rows = {"path": [f"{n}.jpg" for n in range(len(names))], "label": range(len(names))}
    cars = Catalog.from_rows(pd.DataFrame(rows), names, "anything", FolderSource("."))
    assert cars.extras == Extras(dataset="stanford-cars")
    assert cars.select_classes(range(98)).extras.dataset == "stanford-cars"
    assert cars.by("make").extras.dataset == ""
