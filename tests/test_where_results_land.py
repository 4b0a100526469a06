"""What is executed on photographs stays out of the repository, and what is missing is said."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from toys import by_class

from carlib.data.catalog import Catalog
from carlib.data.drawn import photo_name, photo_plan
from carlib.data.sources import FolderSource
from carlib.paths import runs_root
from carlib.showroom import CARS

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


# --- committed notebooks --------------------------------------------------------------------------


def showroom_split_hashes() -> dict[str, str]:
    """Of the drawn cars as `setup` opens them; nothing is drawn for it."""
    plan = photo_plan(40, seed=0, long_tail=1.0)
    rows = pd.DataFrame(
        [(f"photos/{photo_name(label, index, 0)}.png", label, split)
         for label, index, split in plan],
        columns=["path", "label", "split"],
    )  # fmt: skip
    names = tuple(car.name for car in CARS)
    drawn = Catalog.from_rows(rows, names, "drawn", FolderSource("."))
    return {name: drawn.split_hash(name) for name in drawn.split_sizes}


def said_split_hashes(path: Path) -> dict[str, str]:
    """What a notebook's set-up cell printed about the photos it opened."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    text = "".join(out.get("text", "") for out in cells[0].outputs)
    line = next(line for line in text.splitlines() if line.startswith("photos "))
    return dict(re.findall(r"(\w+) ([0-9a-f]{16})(?:,|$)", line.split("split hashes: ")[1]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_were_executed_on_the_drawn_cars(path: Path) -> None:
    """Proven by the photos' names, which are hashes of what is drawn, and not by what data is
    called: a folder of photographs named showroom has other ones.
    """
    assert said_split_hashes(path) == showroom_split_hashes()


def test_no_cell_guards_pictures_by_hand() -> None:
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            assert 'else "photo' not in cell.source, f"{path.name}: {cell.source}"


# --- notebooks on photographs ---------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with two small notebooks, one of which shows pictures and one fails."""
    root = tmp_path / "repository"
    (root / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", root)
    blocks = ("results", "notebooks", "layout", "reliability")
    marks = "".join(f"<!-- {name}:begin -->\n<!-- {name}:end -->\n" for name in blocks)
    (root / "README.md").write_text(marks, encoding="utf-8")
    setup = "import carlib\n\nhere = carlib.setup()"
    show = "from carlib import plots\n\nplots.catalog_montage(here.catalog, [0, 1], columns=2)"
    for name, last in (("01_shows", show), ("02_fails", "print(here.no_such_thing)")):
        cells = [
            nbformat.v4.new_markdown_cell(f"# {name}\n\nText."),
            nbformat.v4.new_code_cell(setup),
            nbformat.v4.new_code_cell(last),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")
    return root


def tool(root: Path):
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROOT = root
    return module


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@x", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout


def test_photographs_never_reach_the_committed_notebooks(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder called showroom is somebody's photographs as well, and a relative path will do."""
    photos = by_class(tmp_path / "showroom", per_class=6)
    notebooks = tool(repository)
    notebooks.stamp_all()
    git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "as it was")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARLIB_DATA", "./showroom")
    with pytest.raises(Exception, match="no_such_thing"):
        notebooks.main("run")
    assert git(repository, "status", "--porcelain") == ""
    (folder,) = (runs_root() / "notebooks").iterdir()
    shown, failed = (nbformat.read(folder / f"{name}.ipynb", as_version=4)
                     for name in ("01_shows", "02_fails"))  # fmt: skip
    assert "image/png" in shown.cells[-1].outputs[-1].data  # people see their own photos
    assert failed.cells[-1].outputs[-1].output_type == "error"  # and where it stopped
    assert photos.exists()


def test_data_of_one_name_have_two_folders(tmp_path: Path, monkeypatch) -> None:
    notebooks, folders = tool(ROOT), set()
    for name in ("a", "b"):
        by_class(tmp_path / name / "cars", per_class=6 if name == "a" else 7)
        monkeypatch.setenv("CARLIB_DATA", str(tmp_path / name / "cars"))
        folders.add(notebooks.copies_folder())
    assert len(folders) == 2
    monkeypatch.setenv("CARLIB_DATA", "showroom")
    assert notebooks.copies_folder() is None
    monkeypatch.delenv("CARLIB_DATA")
    assert notebooks.copies_folder() is None


# --- without a checkout ---------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """carlib as pip installs it, inside a folder that is somebody's own git repository."""
    site = tmp_path / "theirs" / "site"
    shutil.copytree(ROOT / "carlib", site / "carlib", ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path / "theirs", "init", "-q")
    git(tmp_path / "theirs", "commit", "-q", "--allow-empty", "-m", "theirs")
    (tmp_path / "work").mkdir()
    return site


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess:
    unset = ("CARLIB_RESULTS", "CARLIB_RUNS")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True,
        cwd=site.parents[1] / "work", env=environment | {"PYTHONPATH": str(site)}, encoding="utf-8",
    )  # fmt: skip


def test_the_report_says_that_it_needs_a_checkout_and_writes_nothing(installed: Path) -> None:
    for arguments in (["report"], ["report", "--check"]):
        done = python(installed, "-m", "carlib", *arguments)
        assert done.returncode == 2 and "made in a checkout" in done.stderr
        assert "Traceback" not in done.stderr
    assert list((installed.parents[1] / "work").iterdir()) == []


def test_a_record_says_which_release_made_it(installed: Path) -> None:
    code = (
        "from carlib.experiment.host import commit; import carlib; print(carlib.__file__, commit())"
    )
    done = python(installed, "-c", code)
    assert str(installed) in done.stdout and "release 0.1.0, no checkout" in done.stdout, done


def test_tables_without_records_say_not_run(installed: Path) -> None:
    code = (
        "from carlib.notebook import full_scale\n"
        "from carlib.experiment.record import load_records, the_one\n"
        "audit = the_one(load_records(), 'audit')\n"
        "said = full_scale('accuracy', 's1')['accuracy'].iloc[0], full_scale('data').iloc[0, 0]\n"
        "print(*said, audit)"
    )
    done = python(installed, "-c", code)
    assert done.stdout.split() == ["not", "run", "not", "run", "None"], done.stderr
