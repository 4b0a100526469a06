"""What Windows, macOS and odd accounts lack or forbid: its absence is met, or said in words."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from carlib.data.framing import Framing
from carlib.data.store import PhotoStore
from carlib.errors import CarlibError, RunError
from carlib.experiment.host import command_line, hardware
from carlib.experiment.record import append_to_ledger
from carlib.files import load_tensors, made, save_tensors, write_atomically
from carlib.paths import cache_root, results_root, runs_root

ROOT = Path(__file__).resolve().parents[1]


# --- what is missing ------------------------------------------------------------------------------


def test_a_system_that_does_not_tell_its_memory_has_a_record(monkeypatch) -> None:
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    assert hardware()["memory_gib"] is None
    assert hardware()["cores"] >= 1


def test_cores_are_those_that_this_process_may_use(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert hardware()["cores"] == 1  # as after `taskset -c 3`
    monkeypatch.delattr(os, "sched_getaffinity")  # as on Windows and macOS
    assert hardware()["cores"] == os.cpu_count()


def test_a_system_without_proc_names_its_processor(monkeypatch) -> None:
    def absent(path: Path, **_: object) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", absent)
    assert isinstance(hardware()["cpu"], str)


def test_the_command_is_kept_without_folders_of_windows(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [r"C:\Tools\carlib", "evaluate", r"D:\data\cars", "C:/x/y"])
    assert command_line() == "carlib evaluate cars y"


def test_an_account_without_a_home_is_told_what_to_set(monkeypatch) -> None:
    def homeless(path: Path) -> Path:
        if str(path).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return path

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert cache_root().is_absolute()  # it is named, nobody asks for the home
    monkeypatch.delenv("CARLIB_CACHE")
    with pytest.raises(CarlibError, match="CARLIB_CACHE"):
        cache_root()


# --- what is forbidden ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable, root", [("CACHE", cache_root), ("RUNS", runs_root), ("RESULTS", results_root)]
)
def test_a_folder_that_cannot_be_made_names_the_variable(
    tmp_path, monkeypatch, variable, root
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv(f"CARLIB_{variable}", str(tmp_path / "file" / "inside"))
    with pytest.raises(RunError, match=rf"cannot be written .*; set CARLIB_{variable} to another"):
        made(root() / "part")


def test_photos_and_records_name_the_variable(toys, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    for variable, call in (
        ("CARLIB_CACHE", lambda: PhotoStore.open(toys, Framing(24), progress=False)),
        ("CARLIB_RESULTS", lambda: append_to_ledger({})),
    ):
        monkeypatch.setenv(variable, str(tmp_path / "file" / variable))
        with pytest.raises(RunError, match=f"set {variable} to"):
            call()


def test_a_file_that_is_open_elsewhere_is_said_so(tmp_path, monkeypatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Access is denied")

    write_atomically(tmp_path / "a", "old")
    monkeypatch.setattr(os, "replace", refused)  # as Windows does
    with pytest.raises(RunError, match=r"a: cannot be written \(Access.*; end what has it open"):
        write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what is mapped")
def test_no_file_is_mapped_that_will_be_replaced(toys, tmp_path, monkeypatch) -> None:
    """Windows would refuse: tensors that were read, and the store while it is put in place."""

    def mapped(path: Path) -> bool:
        return str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")

    path = tmp_path / "state.safetensors"
    save_tensors(path, {"x": torch.zeros(100_000)}, {})
    tensors, _ = load_tensors(path)
    assert len(tensors["x"]) == 100_000 and not mapped(path)
    renamed, replace = [], os.replace

    def watched(old: Path, new: Path) -> None:
        assert not mapped(old) and not mapped(new)
        renamed.append(Path(new).suffix)
        replace(old, new)

    monkeypatch.setattr(os, "replace", watched)
    pixels = PhotoStore.open(toys, Framing(24), progress=False).pixels
    assert ".u8" in renamed and isinstance(pixels, np.memmap)


# --- what differs ---------------------------------------------------------------------------------


def test_text_is_read_and_written_as_utf8() -> None:
    """Else it is as the locale says, on Windows something else than UTF-8."""
    found = []
    for folder in ("carlib", "tools", "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [f"{path.relative_to(ROOT)}:{line}" for line in without_encoding(tree)]
    assert found == []


def without_encoding(tree: ast.AST) -> Iterator[int]:
    """Lines of calls that read or write text, or what another program says, as the locale says."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {keyword.arg for keyword in call.keywords}
        if not given & {"encoding", None} and _is_of_text(call):
            yield call.lineno


def _is_of_text(call: ast.Call) -> bool:
    plain = isinstance(call.func, ast.Name)  # open(file, mode); else file.open(mode)
    name = call.func.id if plain else getattr(call.func, "attr", "")
    if name != "open":
        text = any(k.arg == "text" for k in call.keywords)
        return text or name in ("read_text", "write_text")
    given = [*call.args[1 if plain else 0 :][:1], *(k.value for k in call.keywords)]
    mode = next((part.value for part in given if isinstance(part, ast.Constant)), None)
    if mode is None:  # without one it is text; Image.open and the like name what they open
        return plain or not (call.args or call.keywords)
    return isinstance(mode, str) and set(mode) <= set("rwaxt+")


def test_the_search_for_encodings_finds_them() -> None:
    bad = 'p.open()\np.open("w")\nopen(f)\nopen(f, "a")\np.read_text()\nrun(c, text=True)'
    good = 'p.open("rb")\nopen(f, "wb")\np.open(encoding="utf-8")\nImage.open(f)\nrun(c)\nf(**k)'
    assert list(without_encoding(ast.parse(bad))) == [1, 2, 3, 4, 5, 6]
    assert list(without_encoding(ast.parse(good))) == []
