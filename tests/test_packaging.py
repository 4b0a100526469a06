"""What is handed on: a wheel with all that carlib reads, an archive whose tests run."""

from __future__ import annotations

import email
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from test_repository import ROOT, tracked
from typer.testing import CliRunner

from carlib.cli import app
from carlib.errors import EXTRAS, CarlibError, MissingPackage, optional
from carlib.report import build as report

BUILD = "import sys; from setuptools import build_meta as b; b.build_{kind}(sys.argv[1])"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository, elsewhere: building leaves things behind."""
    there = {d.name: d.version for d in importlib.metadata.distributions()}
    if int(there.get("setuptools", "0").split(".")[0]) < 77:
        pytest.skip('needs setuptools 77, the first that knows `license = "MIT"`')
    root = tmp_path_factory.mktemp("source")
    for path in tracked():
        target = root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return root


def built(source: Path, kind: str) -> Path:
    """A wheel or an sdist of the source."""
    out = source.parent / kind
    command = [sys.executable, "-c", BUILD.format(kind=kind), str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    (file,) = out.iterdir()
    return file


def test_the_wheel_has_all_that_carlib_reads(source: Path) -> None:
    with zipfile.ZipFile(built(source, "wheel")) as wheel:
        names = set(wheel.namelist())
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(wheel.read(about))
    ours = {path.relative_to(ROOT).as_posix() for path in tracked()}
    assert {name for name in ours if name.startswith("carlib/")} <= names  # the model card too
    assert "carlib/data/cars196.md" in names
    assert said["License-Expression"] == "MIT" and said.get_all("License-File") == ["LICENSE"]
    assert not [name for name in names if name.startswith(("tests/", "tools/"))]


def test_the_source_archive_is_the_repository_and_its_tests_run(source: Path) -> None:
    with tarfile.open(built(source, "sdist")) as archive:
        archive.extractall(source.parent / "unpacked", filter="data")
    (root,) = (source.parent / "unpacked").iterdir()
    missing = [p for path in tracked() if not (root / (p := path.relative_to(ROOT))).is_file()]
    assert missing == []
    tests = (f"tests/test_{name}.py" for name in ("class_names", "repository", "losses"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(root), "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# --- packages that only some need -----------------------------------------------------------------


def test_every_optional_package_is_named_with_its_extra(monkeypatch) -> None:
    for package, extra in EXTRAS.items():
        monkeypatch.setitem(sys.modules, package, None)
        said = rf"{package}.*pip install 'carlib\[{extra}\]'"
        with pytest.raises(MissingPackage, match=said), optional():
            __import__(package)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), optional():
        __import__("no_such_package")


def test_the_extras_are_those_of_pyproject() -> None:
    import tomllib

    from test_repository import canonical

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package, extra in EXTRAS.items():
        brought = {canonical(line) for line in project["optional-dependencies"][extra]}
        assert package.replace("_", "-") in brought


@pytest.mark.parametrize("package", ["typst", "pypdf"])
def test_the_report_names_what_it_needs(package, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(report, "figures", lambda _: [])
    if package == "pypdf":
        monkeypatch.setattr(report, "typeset", lambda *_: b"another")
    done = CliRunner().invoke(app, ["report", "--check"])
    assert done.exit_code == 2 and f"this needs {package};" in done.output
    assert "pip install 'carlib[report]'" in done.output
    with pytest.raises(CarlibError, match=package):  # to those who call it from Python too
        report.check_report()
