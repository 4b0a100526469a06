"""Records: written whole, read back, and free of noise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from carlib.errors import RunError
from carlib.experiment.host import command_line
from carlib.experiment.record import Record, append_to_ledger, load_records, read_record
from carlib.files import load_tensors, save_tensors, write_atomically


def record(name: str = "a", **changes) -> Record:
    plain = dict(kind="evaluation", name=name, data={"catalog": "toys"}, metrics={"accuracy": 0.5})
    return Record(**(plain | changes))


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    first = record(metrics={"accuracy": 0.123456, "accuracy_interval": [0.1, 0.2]}, history=[{}])
    path = first.write(tmp_path)
    assert path == tmp_path / "a.json" and read_record(path) == first
    assert first.hardware["cores"] >= 1 and first.versions["torch"] and first.made.endswith("Z")


def test_records_are_loaded_by_name_and_kind(tmp_path):
    assert load_records(tmp_path / "nothing yet") == []
    for name, kind in (("b", "evaluation"), ("a", "benchmark"), ("c", "evaluation")):
        record(name, kind=kind).write(tmp_path)
    assert [r.name for r in load_records(tmp_path)] == ["a", "b", "c"]
    assert [r.name for r in load_records(tmp_path, "evaluation")] == ["b", "c"]


def test_results_go_where_the_environment_says(private_folders):
    assert record().write().parent == private_folders / "results"
    assert [r.name for r in load_records()] == ["a"]


def test_numbers_keep_six_digits_and_stay_json(tmp_path):
    metrics = {"a": np.float64(1 / 3), "b": 1234567.8, "c": [np.float32(0.1), 2], "d": np.int64(3)}
    text = record(metrics=metrics).write(tmp_path).read_text(encoding="utf-8")
    assert json.loads(text)["metrics"] == {"a": 0.333333, "b": 1234570, "c": [0.1, 2], "d": 3}


def test_a_number_that_json_does_not_know_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"bad: .*not a finite number"):
        record("bad", metrics={"kappa": float("nan")}).write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "[1]", '{"kind": "x"}', '{"surprise": 1}', "{"])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "odd.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"odd\.json: not a record"):
        load_records(tmp_path)


def test_the_ledger_only_grows(tmp_path):
    for number in range(3):
        path = append_to_ledger({"checkpoint": f"c{number}"}, tmp_path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["checkpoint"] for line in lines] == ["c0", "c1", "c2"]


def test_tensors_come_back_with_their_description(tmp_path):
    tensors = {"a": torch.arange(6).view(2, 3).T, "b": torch.tensor(1.5), "c": torch.tensor(7)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"epoch": 3, "best": float("-inf")})
    back, about = load_tensors(tmp_path / "x.safetensors")
    assert about == {"epoch": 3, "best": float("-inf")}
    assert all(torch.equal(back[k], tensors[k]) for k in tensors) and back["b"].shape == ()


def test_a_file_is_whole_or_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomically(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(RunError, match="No space left"):
        patch.setattr("carlib.files.os.fsync", full)
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old" and len(list(tmp_path.iterdir())) == 1


def test_the_command_is_kept_without_this_machines_folders(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/opt/bin/carlib", "evaluate", "/data/cars", "--split=val"])
    assert command_line() == "carlib evaluate cars --split=val"
    typed = ["carlib", "train", "lite0_cpu", "--data=/data/cars", "--set", "plan=head:5 all:5"]
    monkeypatch.setattr("sys.argv", typed)
    assert command_line() == "carlib train lite0_cpu --data=cars --set 'plan=head:5 all:5'"
    odd = ["carlib", "x", "--data=/data/a=b/cars", "/data/my a=b/My Cars", "/data/photo=2.jpg"]
    monkeypatch.setattr("sys.argv", odd)
    assert command_line() == "carlib x --data=cars 'My Cars' photo=2.jpg"


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("/opt/bin/carlib", "carlib x"),
        ("/usr/lib/python3/carlib/__main__.py", "carlib x"),  # python -m carlib
        ("/srv/cars/benchmarks/search.py", "python benchmarks/search.py x"),
        (r"C:\cars\tools\notebooks.py", "python tools/notebooks.py x"),
    ],
)
def test_the_command_is_kept_as_it_is_typed(program: str, typed: str, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", [program, "x"])
    assert command_line() == typed
