"""What must hold for the repository as a whole: its files, floors, pins and notebooks."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
import pytest

from carlib.report.tables import HEADINGS

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (  # of carlib, from the ground up
    ("errors", "paths", "timing", "distributed", "files", "runtime", "seeding", "showroom"),
    ("data", "models"),
    ("experiment",),
    ("evaluation",),
    ("training",),
    ("retrieval", "explain", "plots"),
    ("apps", "report"),
    ("notebook", "cli", "__main__", "__init__"),
)
CORE = {"data", "models", "experiment", "evaluation", "training"}  # what notebooks teach with
FLOOR = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
LARGEST = 13_000_000  # bytes
MAGICS = {"%cd", "%pip", "!test"}  # what the set-up cell may call
LONGEST_CELL = 30  # lines
LONGEST_FILE = 400
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@functools.cache
def tracked() -> list[Path]:
    """Files that git knows; the test is skipped outside a checkout."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        pytest.skip("no git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of carlib as (full name, syntax tree)."""
    for path in sorted((ROOT / "carlib").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of all modules that a piece of code imports, inside functions too.

    Of `from a import b` both a and a.b, as b may be a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# --- files --------------------------------------------------------------------------------------


def test_no_path_of_a_machine_is_committed() -> None:
    homes = re.compile(rb"/(?:root|home|Users)/[\w.]|[A-Z]:\\\\?Users")
    here = str(ROOT).encode() + b"/"
    for path in tracked():
        content = path.read_bytes()
        found = homes.search(content) if b"\0" not in content else None
        assert found is None, f"{path.relative_to(ROOT)}: {found.group()!r}"
        assert here not in content, f"{path.relative_to(ROOT)} names this checkout"


def test_no_file_is_large() -> None:
    large = [f"{path.relative_to(ROOT)}" for path in tracked() if path.stat().st_size > LARGEST]
    assert large == []


def test_no_photographs_are_committed() -> None:
    """Pictures live in figures/, where carlib.report draws them, and tools/screenshot.py one."""
    endings = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"}
    pictures = [path for path in tracked() if path.suffix.lower() in endings]
    assert [str(path.relative_to(ROOT)) for path in pictures] == [
        "figures/demo.png",
        "figures/heat.png",
        "figures/showroom.png",
    ]


# --- code ---------------------------------------------------------------------------------------


def test_imports_point_down_the_floors() -> None:
    """A package imports from its own floor or below, and no two modules import each other."""
    graph: dict[str, set[str]] = {}
    known = {name for name, _ in modules()}
    for module, tree in modules():
        for other in imports(tree):
            if (
                other not in known or other == module or "carlib" in (other, module)
            ):  # which holds the version alone
                continue
            here, there = (name.split(".")[1] for name in (module, other))
            assert FLOOR[there] <= FLOOR[here], f"{module} imports {other} above it"
            if here != there:
                assert not (FLOOR[there] == FLOOR[here] and {here, there} & CORE), (module, other)
            graph.setdefault(module, set()).add(other)
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_renderer_knows_nothing_of_carlib() -> None:
    for module, tree in modules():
        if module.startswith("carlib.showroom"):
            outside = {name for name in imports(tree) if name.startswith("carlib.")}
            assert all(n.startswith(("carlib.showroom", "carlib.errors")) for n in outside), module


def test_files_can_be_read_in_one_go() -> None:
    for path in sorted((ROOT / "carlib").rglob("*.py")):
        assert path.read_text(encoding="utf-8").count("\n") <= LONGEST_FILE, path


def test_every_public_function_has_a_docstring() -> None:
    bare = []
    for module, tree in modules():
        public = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        public = [n for n in public if not n.name.startswith("_")]
        bare += [f"{module}: {n.name}" for n in public if not ast.get_docstring(n)]
        bare += [] if ast.get_docstring(tree) else [module]
    assert bare == []


# --- dependencies -------------------------------------------------------------------------------


def canonical(requirement: str) -> str:
    """The name of a requirement, as registries compare it."""
    return re.split(r"[\s<>=!~\[;]", requirement)[0].lower().replace("_", "-")


@functools.cache
def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    return {canonical(requirement) for part in wanted for requirement in part}


def test_every_dependency_is_pinned_exactly() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert declared() <= {canonical(line) for line in pins}


def test_every_import_is_declared() -> None:
    owners = importlib.metadata.packages_distributions()
    folders = ("tests", "benchmarks", "tools")
    scripts = [path for folder in folders for path in (ROOT / folder).glob("*")]
    ours = {"carlib", *(path.stem for path in scripts), "google"}  # the last is on Colab alone
    missing = set()
    for folder in ("carlib", "tests", "tools", "benchmarks", "notebooks"):
        for path in (ROOT / folder).rglob("*.py"):
            names = {
                name.split(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")))
            }
            for name in names - sys.stdlib_module_names - ours:
                if not declared() & {canonical(owner) for owner in owners.get(name, ())}:
                    missing.add(f"{path.relative_to(ROOT)}: {name}")
    assert missing == set()


def test_the_colab_line_leaves_torch_and_numpy_alone() -> None:
    """`pip install .` where both are there already, as on Colab, brings no other version."""
    # Not by `find_spec`: to look for pip is enough to break setuptools in this process.
    if not {"pip", "setuptools"} <= {d.name for d in importlib.metadata.distributions()}:
        pytest.skip("needs pip and setuptools")
    command = "-m pip install --dry-run --no-build-isolation --quiet --no-input --report - ."
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    brought = {item["metadata"]["name"].lower() for item in json.loads(done.stdout)["install"]}
    assert "carlib" in brought
    assert not brought & {"torch", "torchvision", "numpy"}


# --- notebooks ----------------------------------------------------------------------------------


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@each_notebook
def test_cells_were_run_once_from_top_to_bottom(path: Path) -> None:
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_no_cell_ended_in_an_error(path: Path) -> None:
    kinds = {out.output_type for cell in code_cells(path) for out in cell.outputs}
    assert "error" not in kinds


@each_notebook
def test_pictures_are_told_in_words_too(path: Path) -> None:
    outputs = [out for cell in code_cells(path) for out in cell.outputs]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert pictures and all(out.metadata["image/png"]["alt"] for out in pictures)


@each_notebook
def test_tables_fit_a_page(path: Path) -> None:
    """Seven columns and the index have room beside each other, under names that people read."""
    outputs = [out.get("data", {}) for cell in code_cells(path) for out in cell.outputs]
    pages = [out["text/html"] for out in outputs if "<thead>" in out.get("text/html", "")]
    assert pages
    for page in pages:
        names = re.findall(r"<th>(.*?)</th>", page.partition("</tr>")[0])
        assert len(names) <= 8 and not set(names) & set(HEADINGS), names


@each_notebook
def test_magics_are_known_and_stand_in_the_setup_cell(path: Path) -> None:
    """nbval lets an unknown magic pass unseen."""
    for number, cell in enumerate(code_cells(path)):
        called = {line.split()[0] for line in cell.source.splitlines() if _is_magic(line)}
        assert called <= (MAGICS if number == 0 else set()), f"{path.name}, code cell {number + 1}"


def _is_magic(line: str) -> bool:
    return line.lstrip().startswith(("%", "!"))


@each_notebook
def test_cells_are_short(path: Path) -> None:
    for number, cell in enumerate(code_cells(path), start=1):
        lines = len(cell.source.splitlines())
        assert lines <= LONGEST_CELL, f"{path.name}, code cell {number}: {lines} lines"


def notebooks_tool():
    spec = importlib.util.spec_from_file_location("notebooks_tool", ROOT / "tools/notebooks.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@each_notebook
def test_exercises_have_solutions_that_python_can_read(path: Path) -> None:
    """That they run is tested with everything else on a folder of one's own photographs."""
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    _, heading, below = text.partition("\n## Exercises\n")
    if not heading:
        pytest.skip("no exercises yet")
    asked = re.findall(r"^\*\*\d+\. ", below, re.MULTILINE)
    solved = notebooks_tool().solutions(notebook)
    assert len(asked) >= 3 and len(solved) == len(asked)
    for code in solved:
        compile(code, path.name, "exec")


def test_stamps_are_up_to_date(monkeypatch) -> None:
    """Badges, set-up cells and lists are what pyproject says, tables what the records say."""
    monkeypatch.delenv("CARLIB_RESULTS")
    assert notebooks_tool().main("check") == 0


def test_a_changed_digit_in_a_record_is_found_in_the_notebook(
    monkeypatch, tmp_path, capsys
) -> None:
    changed = tmp_path / "data" / "results"  # beside the outputs that records keep
    shutil.copytree(ROOT / "data", tmp_path / "data")
    record = next(changed.glob("knn-*.json"))
    values = json.loads(record.read_text(encoding="utf-8"))
    values["metrics"]["accuracy"] -= 0.1
    record.write_text(json.dumps(values), encoding="utf-8")
    monkeypatch.setenv("CARLIB_RESULTS", str(changed))
    assert notebooks_tool().main("check") == 1
    assert "04_retrieval.ipynb: badge, set-up cell, costs or a table" in capsys.readouterr().out


def test_the_citation_names_this_repository() -> None:
    where = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["carlib"][
        "repository"
    ]
    assert f"repository-code: {where}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
