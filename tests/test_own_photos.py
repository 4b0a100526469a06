"""Every notebook on photographs of somebody's own: what the data do not have is said, not missed.

`make test` runs a small folder without boxes, makes and sides under profile "tiny", and there the
solutions of the exercises as well: with two epochs of small photos each of them is quick. With
`CARLIB_PATHS=all` (make test-paths) come the solutions on drawn cars, other sizes, the layouts that
data sets are handed around in, and the photographs that CARLIB_PHOTOS names, if it does.
"""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nbformat
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import write_compcars, write_devkit
from nbclient.exceptions import CellExecutionError
from toys import colored, colors

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
OPENED = tuple(f"CARLIB_{part}" for part in ("CACHE", "RUNS", "RESULTS"))
ALL = os.environ.get("CARLIB_PATHS") == "all"
only_with_all = pytest.mark.skipif(not ALL, reason="make test-paths")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six notebooks share what they decode, as they do at home."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def tiny(private: Path, private_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARLIB_PROFILE", "tiny")
    for name in OPENED:
        monkeypatch.setenv(name, str(private / name.lower()))


def kept() -> dict[str, bytes]:
    """All files beside the committed notebooks."""
    files = (path for path in (ROOT / "notebooks").rglob("*") if "__pycache__" not in path.parts)
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def executed(tool: ModuleType, path: Path, target: Path) -> str:
    """What a copy of the notebook printed; nothing is written beside the original."""
    before = kept()
    tool.run(path, target, solve=True)
    assert kept() == before
    cells = [c for c in nbformat.read(target, as_version=4).cells if c.cell_type == "code"]
    outputs = [out for cell in cells for out in cell.outputs]
    assert all(cell.execution_count for cell in cells)
    assert not [out for out in outputs if out.output_type == "error"]
    return "".join(out.get("text", "") for out in outputs)


@pytest.fixture
def run(tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], str]:
    """Execute a copy of a notebook on data, and give what it printed."""

    def on(path: Path, data: Path) -> str:
        monkeypatch.setenv("CARLIB_DATA", str(data))
        return executed(tool, path, tmp_path / path.name)

    return on


# --- in `make test` -------------------------------------------------------------------------------

SAID = {  # what a folder of class folders cannot be asked
    "01_data_exploration": (
        "No class name tells a make", "from which side", "Nobody has marked where the cars are",
    ),
    "02_simple_resnet": ("Class names tell no make",),
    "03_transfer_learning": (),
    "04_retrieval": ("Makes are not known",),
    "05_siamese_verification": ("No easy and no hard pairs", "from which side"),
    "06_grad_cam": ("in which parts these classes differ", "which pixel belongs to which part"),
}  # fmt: skip


def untidy(root: Path) -> Path:
    """Photos as people have them: one is damaged, one lies under two names, a price is a class."""
    if not root.exists():
        colors(root)
        (root / "blue").rename(root / "$5_^$ blue")
        sorted((root / "$5_^$ blue").iterdir())[0].write_bytes(b"not a photo")
        shutil.copy(sorted((root / "red").iterdir())[1], root / "white" / "copy.jpg")
    return root


@each_notebook
def test_a_small_folder_of_ones_own(run, private: Path, path: Path) -> None:
    said = run(path, untidy(private / "photos"))
    for sentence in SAID[path.stem]:
        assert sentence in said


def test_a_solution_that_does_not_run_is_found(tool, private: Path, tmp_path: Path, monkeypatch):
    cells = [
        nbformat.v4.new_markdown_cell("# Cars\n\nText."),
        nbformat.v4.new_code_cell("import carlib\n\nhere = carlib.setup()"),
        nbformat.v4.new_markdown_cell(
            "<details><summary>Solution</summary>\n\n```python\nhere.no_such_thing\n```\n\n</details>"
        ),
    ]
    path, target = tmp_path / "one.ipynb", tmp_path / "copy.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    monkeypatch.setenv("CARLIB_DATA", str(untidy(private / "photos")))
    tool.run(path, target)
    with pytest.raises(CellExecutionError, match="no_such_thing"):
        tool.run(path, target, solve=True)
    assert len(nbformat.read(target, as_version=4).cells) == len(cells)


# --- in `make test-paths` -------------------------------------------------------------------------


@only_with_all
@each_notebook
def test_solutions_on_drawn_cars(tool, path: Path, tmp_path: Path, monkeypatch) -> None:
    """As a student runs them, where the data say all that exercises ask."""
    monkeypatch.delenv("CARLIB_PROFILE")
    monkeypatch.setenv("CARLIB_DATA", "showroom")
    executed(tool, path, tmp_path / path.name)


def few_photos(root: Path) -> Path:
    return colors(root, classes=2, per_class=3)


def a_lone_photo(root: Path) -> Path:
    colors(root, classes=3)
    for photo in sorted((root / "blue").iterdir())[1:]:
        photo.unlink()
    return root


def with_splits(root: Path) -> Path:
    for split, number in (("train", 6), ("val", 2), ("test", 2)):
        colors(root / split, per_class=number, seed=len(split))
    return root


def grey(root: Path) -> Path:
    return colors(root, mode="L")


def hub(root: Path) -> Path:
    """A parquet file with the Hub's columns, which have no boxes."""
    (root / "data").mkdir(parents=True)
    images, labels = [], []
    for label in range(8):
        for number in range(8):
            data = io.BytesIO()
            colored(label, number).save(data, "JPEG")
            images.append({"bytes": data.getvalue(), "path": f"{label}-{number}.jpg"})
            labels.append(label)
    table = pa.table({"image": images, "label": labels})
    pq.write_table(table, root / "data" / "train-00000-of-00001.parquet")
    return root


def compcars(root: Path) -> Path:
    return write_compcars(root, photos_per_class=6, size=64)


def devkit(root: Path) -> Path:
    return write_devkit(root, photos_per_class=6, size=64)


def photographs(root: Path) -> Path:
    if not os.environ.get("CARLIB_PHOTOS"):
        pytest.skip("CARLIB_PHOTOS names no photographs")
    return Path(os.environ["CARLIB_PHOTOS"])


FEW = {few_photos: ("04", "05"), a_lone_photo: ("04", "05")}  # too few classes for these
WRITERS = (few_photos, a_lone_photo, with_splits, grey, hub, compcars, devkit, photographs)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Data of every kind, each written once."""
    there: dict[str, Path] = {}

    def write(writer: Callable[[Path], Path]) -> Path:
        name = writer.__name__
        if name not in there:
            there[name] = writer(tmp_path_factory.mktemp(name) / "cars")
        return there[name]

    return write


@only_with_all
@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
@each_notebook
def test_other_data(run, written, writer: Callable[[Path], Path], path: Path) -> None:
    data = written(writer)
    if path.stem[:2] not in FEW.get(writer, ()):
        run(path, data)
        return
    with pytest.raises(CellExecutionError, match=r"has \d classes; \d or more are needed"):
        run(path, data)


@only_with_all
def test_one_class_cannot_be_told_from_another(run, tmp_path: Path) -> None:
    data = colors(tmp_path / "photos", classes=1)
    run(NOTEBOOKS[0], data)
    with pytest.raises(CellExecutionError, match="has one class; it takes two"):
        run(NOTEBOOKS[1], data)
