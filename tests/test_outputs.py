"""What networks said: kept beside its records, read back, and enough to compute them again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import SHAPES, colors, toy_recipe
from typer.testing import CliRunner

from carlib.cli import app
from carlib.data.opening import open_catalog
from carlib.errors import RunError
from carlib.evaluation import evaluate as evaluation
from carlib.evaluation.evaluate import evaluate, logits_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.outputs import (
    LARGEST,
    Outputs,
    half,
    in_bytes,
    kept_of,
    photo_table,
    read_outputs,
)
from carlib.experiment.record import Record, load_records, plain
from carlib.experiment.resampling import class_draws, redrawn
from carlib.paths import outputs_of
from carlib.retrieval import ranking, verification
from carlib.retrieval.deciding import Decision, class_areas, curve_scores, roc, verification_scores
from carlib.training.loop import load_or_train, train

RESULTS = Path(__file__).parent.parent / "data" / "results"
OUTPUTS = outputs_of(RESULTS)
COMPUTED: dict[str, Callable[[Outputs], dict]] = {
    "evaluation": evaluation.computed,
    "published": evaluation.computed,
    "retrieval": ranking.computed,
    "verification": verification.computed,
}
TOGETHER = 25_000_000  # bytes of all committed files
KEPT = [record for record in load_records(RESULTS) if record.outputs]


def some(seed: int = 0, **changes: object) -> Outputs:
    """Logits of three photos, of which little is known."""
    rows = pd.DataFrame({"path": ["a/1.jpg", "b/2.jpg", "3.png"], "body": pd.NA, "make": "Fiat",
                         "label": pd.array([0, 1, 1], "Int64"), "model": ["500", "Panda", pd.NA],
                         "class_name": ["500", "Panda", "Panda"],
                         "year": pd.array([2012, pd.NA, pd.NA], "Int64")})  # fmt: skip
    logits = np.random.default_rng(seed).normal(size=(3, 2))
    return Outputs({"logits": half(logits)}, photo_table(rows), **changes)


def record(outputs: Outputs | None, **changes: object) -> Record:
    about = dict(kind="evaluation", name="a", data={"catalog": "toys"}, metrics={"accuracy": 0.5})
    data = kept_of(outputs) if outputs else b""
    return Record(**about | changes, outputs_file=data)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# --- the file -----------------------------------------------------------------------------------


def test_outputs_are_read_back_as_they_were(tmp_path) -> None:
    classes = pd.DataFrame({"class_name": pd.array(["500", "Panda"], "string"),
                            "train": pd.array([7, pd.NA], "Int64")})  # fmt: skip
    outputs = some(classes=classes, about={"recipe": "toy"})
    results = tmp_path / "results"
    written = record(outputs)
    written.write(results)
    assert files(tmp_path) == sorted(["a.json", f"{written.outputs}.safetensors"])
    assert (tmp_path / "outputs" / f"{written.outputs}.safetensors").exists()
    (read,) = load_records(results)
    assert read == written and len(read.outputs) == 16
    back = read_outputs(read, results)
    assert back.tensors["logits"].dtype == np.float16
    np.testing.assert_array_equal(back.tensors["logits"], outputs.tensors["logits"])
    assert back.table["stem"].tolist() == ["1", "2", "3"] and back.labels.tolist() == [0, 1, 1]
    assert back.table["model"].isna().tolist() == [False, False, True]  # missing stays missing
    assert back.table["year"].tolist() == [2012, pd.NA, pd.NA] and back.table["body"].isna().all()
    pd.testing.assert_frame_equal(back.classes, classes)
    assert back.gallery is None and back.about == {"recipe": "toy"}


def test_outputs_of_a_record_that_is_not_written_yet_are_there() -> None:
    assert read_outputs(record(some())).labels.tolist() == [0, 1, 1]


def test_outputs_lie_beside_results_and_else_with_the_records() -> None:
    assert outputs_of(Path("data/results")) == Path("data/outputs")
    assert outputs_of(Path("runs/records")) == Path("runs/records")


@pytest.mark.parametrize("harm", ["missing", "cut", "other", "folder"])
def test_a_file_that_is_not_the_records_is_named_with_the_mend(tmp_path, harm) -> None:
    written = record(some(), command="carlib evaluate toy")
    written.write(tmp_path)
    path = tmp_path / f"{written.outputs}.safetensors"
    content = path.read_bytes()
    path.unlink()
    if harm == "cut":
        path.write_bytes(content[:-1])
    elif harm == "other":
        path.write_bytes(kept_of(some(1)))
    elif harm == "folder":
        path.mkdir()
    (read,) = load_records(tmp_path)
    with pytest.raises(RunError, match=f"{written.outputs}.*score it again .carlib evaluate toy"):
        read_outputs(read, tmp_path)


@pytest.mark.parametrize("text", ["{}", '{"photos": 1, "about": {}}', "[", '{"photos": {"x": []}}'])
def test_a_safetensors_file_that_carlib_did_not_write_is_refused(text) -> None:
    from safetensors.numpy import save

    with pytest.raises(ValueError):
        Outputs.from_bytes(save({"logits": np.zeros(1)}, {"carlib": text}))
    with pytest.raises(ValueError):
        Outputs.from_bytes(b"no tensors")


def test_a_record_without_outputs_says_so() -> None:
    with pytest.raises(RunError, match=r"a: keeps no outputs; .*--keep"):
        read_outputs(record(None))


def test_what_is_not_finite_or_too_large_is_not_kept() -> None:
    with pytest.raises(RunError, match="logits are not finite"):
        Outputs({"logits": half(np.array([[1e6, 0.0]]))}, some().table)
    large = Outputs({"logits": np.zeros((LARGEST // 2, 1), np.float16)}, some().table)
    with pytest.raises(RunError, match="at most 13,000,000 are kept"):
        kept_of(large)


# --- beside its record --------------------------------------------------------------------------


def test_scored_again_a_record_replaces_its_own_file(tmp_path) -> None:
    first, second = record(some()), record(some(1))
    first.write(tmp_path)
    second.write(tmp_path)
    assert files(tmp_path) == sorted(["a.json", f"{second.outputs}.safetensors"])
    record(some(1), name="b").write(tmp_path)  # another record of the same outputs
    first.write(tmp_path)
    assert files(tmp_path) == sorted(
        ["a.json", "b.json", f"{first.outputs}.safetensors", f"{second.outputs}.safetensors"]
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (record(some(1), kind="published"), "record of something else"),
        (record(None), r"keeps outputs, which would be lost; it stays\. Keep them \(--keep\)"),
        (record(some(1), metrics={"accuracy": float("nan")}), "not a finite number"),
    ],
)
def test_a_refused_record_loses_nothing(tmp_path, other, message) -> None:
    first = record(some())
    first.write(tmp_path)
    with pytest.raises(RunError, match=message):
        other.write(tmp_path)
    assert load_records(tmp_path) == [first] and len(files(tmp_path)) == 2
    assert read_outputs(load_records(tmp_path)[0], tmp_path).labels.tolist() == [0, 1, 1]


def test_a_kill_between_the_two_files_leaves_the_earlier_record_whole(
    tmp_path, monkeypatch
) -> None:
    first = record(some())
    first.write(tmp_path)

    def killed(path: Path, data: bytes | str) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        path.write_bytes(data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("carlib.experiment.record.write_atomically", killed)
        record(some(1)).write(tmp_path)
    (read,) = load_records(tmp_path)
    assert read == first and read_outputs(read, tmp_path).labels.tolist() == [0, 1, 1]


def test_a_record_that_claims_a_file_of_its_own_in_json_is_refused(tmp_path) -> None:
    path = record(None).write(tmp_path)
    values = json.loads(path.read_text(encoding="utf-8")) | {"outputs_file": "x"}
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(RunError, match="not a record"):
        load_records(tmp_path)


# --- records are computed from them -------------------------------------------------------------


def test_an_evaluation_is_computed_from_what_it_keeps(toys) -> None:
    checkpoint, run = load_or_train(toy_recipe(), toys, progress=False)
    made = evaluate(checkpoint, toys, "val", run)
    made.write()
    (read,) = load_records()
    outputs = read_outputs(read)
    assert outputs.tensors.keys() == {"logits", "with_mirror"}
    assert outputs.tensors["logits"].shape == (16, 4)
    logits, labels, _ = logits_of(checkpoint, toys, "val")
    np.testing.assert_array_equal(outputs.tensors["logits"], half(logits))
    np.testing.assert_array_equal(outputs.labels, labels)
    stems = toys.select("val").table["path"].map(lambda path: Path(path).stem)
    assert outputs.table["stem"].tolist() == stems.tolist()
    assert outputs.classes["class_name"].tolist() == list(SHAPES)
    assert outputs.classes["train"].sum() == toys.split_sizes["train"]
    found = evaluation.computed(outputs)
    assert plain(found["metrics"]) == read.metrics and plain(found["per_class"]) == read.per_class
    exact = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)))
    told = read.metrics["loss"] + read.extra["rounding"]["loss"]
    assert told == pytest.approx(exact, abs=1e-5)


def test_drawn_cars_and_test_photos_are_not_kept(toys) -> None:
    drawn = replace(toys, extras=replace(toys.extras, publishable=True))
    checkpoint = Checkpoint.begin(toy_recipe(), toys)
    assert evaluate(checkpoint, toys).outputs and not evaluate(checkpoint, drawn).outputs
    table = toys.table.assign(split=toys.table["split"].replace("val", "test"))
    assert not evaluate(checkpoint, replace(toys, table=table), "test").outputs


@pytest.mark.parametrize("changes", [{}, {"dev": 0.2}, {"eval_every": 2}])
def test_val_logits_of_every_epoch_are_kept_when_asked_for(toys, changes) -> None:
    recipe = toy_recipe(epochs=3, **changes)
    run = train(recipe, toys, progress=False, keep_epochs=True)
    outputs = read_outputs(evaluate(Checkpoint.load(run.kept), toys, "val", run))
    epochs = outputs.tensors["epochs"]
    assert epochs.shape == (2 if "eval_every" in changes else 3, 16, 4)
    np.testing.assert_array_equal(epochs[-1], outputs.tensors["logits"])  # the last is the result
    assert (epochs[0] != epochs[-1]).any()
    next(run.folder.glob("epoch-*")).unlink()
    with pytest.raises(RunError, match=r"keeps val logits of \d epochs of"):
        evaluate(Checkpoint.load(run.kept), toys, "val", run)


def test_what_is_too_large_is_seen_before_it_is_made(toys, monkeypatch) -> None:
    monkeypatch.setattr("carlib.training.loop.LARGEST", 2 * 16 * 4 * 3 - 1)
    with pytest.raises(RunError, match="every epoch would take 384 bytes of 383"):
        train(toy_recipe(epochs=3), toys, progress=False, keep_epochs=True)
    monkeypatch.setattr(evaluation, "LARGEST", 100)  # scored all the same, and not kept
    assert not evaluate(Checkpoint.begin(toy_recipe(), toys), toys).outputs


def test_retrieval_and_verification_are_computed_from_one_file(tmp_path) -> None:
    """Four classes learned, eight compared; embeddings, pairs and both records come back."""
    data = colors(tmp_path / "set", classes=12, per_class=10)
    learned = open_catalog(data).with_val().select_classes(range(4))
    train(toy_recipe(epochs=1), learned, folder=tmp_path / "run", progress=False)
    command = ["compare", str(tmp_path / "run"), "--data", str(data), "--points", "centered"]
    done = CliRunner().invoke(app, [*command, "--keep"])
    assert done.exit_code == 0, done.output
    retrieval, verified = load_records()
    assert (retrieval.kind, verified.kind) == ("retrieval", "verification")
    assert retrieval.outputs == verified.outputs != ""
    assert retrieval.scoring["points"] == verified.scoring["points"] == "centered"
    for read in (retrieval, verified):
        found = COMPUTED[read.kind](read_outputs(read))
        assert plain(found["metrics"]) == read.metrics
        assert plain(found["per_class"]) == read.per_class
        assert all(abs(value) < 0.1 for value in read.extra["rounding"].values())
    outputs = read_outputs(verified)
    assert len(outputs.table) == retrieval.data["photos"] and outputs.tensors["medium"].ndim == 2
    assert plain(verification.computed(outputs)["extra"]["decision"]) == verified.extra["decision"]
    done = CliRunner().invoke(app, command)  # without --keep what is kept would be lost
    assert done.exit_code and "keeps outputs" in done.output


def test_same_class_retrieval_keeps_queries_and_gallery(toys) -> None:
    checkpoint, run = load_or_train(toy_recipe(epochs=1), toys, progress=False)
    (same,) = ranking.score_retrieval(checkpoint, toys, run, "within", keep=True)
    outputs = read_outputs(same)
    assert len(outputs.table) == 16 and len(outputs.gallery) == 80
    assert {name: len(values) for name, values in outputs.tensors.items()} == {
        "embeddings": 16, "gallery": 80,
    }  # fmt: skip
    assert plain(ranking.computed(outputs)["metrics"]) == plain(same.metrics)


YOUNGER = {"hamming_loss", "macro_jaccard"}  # measures that are scored since some records were made


@pytest.mark.parametrize("kept", KEPT, ids=lambda record: record.name)
def test_a_committed_record_is_computed_again_from_its_outputs(kept) -> None:
    """To the sixth digit, which the order of a sum may turn on another processor.

    There two neighbors that are equally near to the last bit may change places, so a score of
    retrieval may move by one photo.
    """
    outputs = read_outputs(kept, RESULTS)
    found = plain(COMPUTED[kept.kind](outputs))
    one = 1 / len(outputs.table) if kept.kind == "retrieval" else 0
    assert found["metrics"].keys() - kept.metrics.keys() <= YOUNGER
    for name, value in kept.metrics.items():
        assert found["metrics"][name] == pytest.approx(value, rel=2e-5, abs=max(one, 2e-6)), name
    assert [row["class"] for row in found["per_class"]] == [row["class"] for row in kept.per_class]


def test_committed_outputs_are_small_and_of_a_record() -> None:
    sizes = {path.stem: path.stat().st_size for path in OUTPUTS.glob("*")}
    assert sizes.keys() == {record.outputs for record in KEPT}
    assert max(sizes.values(), default=0) <= LARGEST and sum(sizes.values()) <= TOGETHER


# --- classes drawn anew, without the file -------------------------------------------------------


def pairs(count: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of thirty classes, some of which are told apart worse than others."""
    generator = np.random.default_rng(seed)
    same = np.arange(count) % 2 == 0
    first = generator.integers(0, 30, count)
    classes = np.stack(
        [first, np.where(same, first, (first + generator.integers(1, 30, count)) % 30)], 1
    )
    ease = generator.normal(0.4, 0.2, 30)
    similarity = 0.3 * generator.normal(size=count) + np.where(same, ease[first], 0)
    return similarity, same, classes


def test_what_classes_add_makes_the_area() -> None:
    similarity, same, classes = pairs()
    rows = class_areas(similarity, same, classes, range(30))
    area = curve_scores(roc(similarity, same))["auc"]
    named = [{f"hard_{name}": value for name, value in row.items()} for row in rows]
    assert redrawn(named, "hard_auc", np.ones((1, 30)))[0] == pytest.approx(area)
    own = sum(row["auc"] * row["pairs"] for row in rows) / sum(row["pairs"] for row in rows)
    assert own == pytest.approx(area)
    assert sum(row["other_pairs"] for row in rows) == 2 * (~same).sum()  # each is of two classes


def test_an_interval_of_classes_needs_no_pairs() -> None:
    """To first order it is that of `verification_scores`, which weighs every pair."""
    similarity, same, classes = pairs()
    decision = Decision.fit(similarity, same)
    low, high = verification_scores(similarity, same, classes, decision)["auc_interval"]
    rows = [{f"hard_{k}": v for k, v in row.items()}
            for row in class_areas(similarity, same, classes, range(30))]  # fmt: skip
    ours = np.quantile(redrawn(rows, "hard_auc", class_draws(30)), (0.025, 0.975))
    np.testing.assert_allclose(ours, (low, high), atol=0.15 * (high - low))


def test_shares_of_photos_are_redrawn_exactly() -> None:
    rows = [{"recall_at_1": 0.5, "photos": 4}, {"recall_at_1": 1.0, "photos": 1}]
    times = np.array([[1, 1], [2, 0], [0, 3]])
    np.testing.assert_allclose(redrawn(rows, "recall_at_1", times), [0.6, 0.5, 1.0])
    with pytest.raises(RunError, match="have no map_at_r"):
        redrawn(rows, "map_at_r", times)
    with pytest.raises(RunError, match="2 classes cannot be drawn"):
        redrawn(rows, "recall_at_1", times[:, :1])


@given(
    arrays(np.float32, st.tuples(st.integers(0, 30), st.integers(1, 5)),
           elements=st.floats(-1e4, 1e4, width=32)),
    st.floats(-1e3, 1e3, width=32),
)  # fmt: skip
def test_points_in_bytes_lose_one_step_once(values: np.ndarray, offset: float) -> None:
    values = values + np.float32(offset)
    kept = in_bytes(values)
    np.testing.assert_array_equal(in_bytes(kept), kept)
    if len(values):
        span = values.max(0).astype(float) - values.min(0)
        most = np.maximum(1.01 * span / 255, 2.0**-20 * np.abs(values).max(0)) + 1e-20
        assert (np.abs(kept.astype(float) - values) <= most).all()
    table = pd.DataFrame({"stem": [str(n) for n in range(len(kept))], "label": 0})
    for column in ("class_name", "make", "model", "year", "body"):
        table[column] = pd.NA
    read = Outputs.from_bytes(Outputs({"embeddings": kept}, table).to_bytes())
    np.testing.assert_array_equal(read.tensors["embeddings"], kept)
