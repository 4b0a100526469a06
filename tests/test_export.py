"""A network for other programs: the exported files say what torch says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_catalog, toy_recipe

from carlib.apps.export import deployment_record, parity, session, to_int8, to_onnx
from carlib.errors import RunError
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import Checkpoint
from carlib.training.loop import load_or_train


@pytest.fixture(scope="module")
def trained(toy_root, tmp_path_factory):
    catalog = toy_catalog(toy_root)
    with pytest.MonkeyPatch.context() as patch:
        for part in ("cache", "runs", "results"):
            patch.setenv(f"CARLIB_{part.upper()}", str(tmp_path_factory.mktemp(part)))
        recipe = toy_recipe(epochs=6)
        return load_or_train(recipe, catalog, progress=False)[0], catalog


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    return to_onnx(trained[0], tmp_path_factory.mktemp("onnx") / "toy.onnx")


@pytest.mark.parametrize("batch", [1, 2, 17])
def test_any_batch_gives_what_torch_gives(trained, exported, batch: int) -> None:
    photos = torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = Scorer.of(trained[0])(photos).numpy()
    np.testing.assert_allclose(session(exported)(photos.numpy()), expected, atol=1e-4)


def test_the_file_names_its_classes(trained, exported) -> None:
    import onnx

    about = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert tuple(json.loads(about["class_names"])) == trained[0].class_names
    assert about["checkpoint"] == trained[0].hash


def test_parity_is_told_and_asked_for(trained, exported, tmp_path) -> None:
    checkpoint, catalog = trained
    assert "on 16 photos" in parity(checkpoint, exported, catalog)
    other = Checkpoint.begin(toy_recipe(seed=5), catalog)
    with pytest.raises(RunError, match=r"toy\.onnx: differs from torch by"):
        parity(other, exported, catalog)
    broken = Checkpoint.begin(toy_recipe(), catalog)
    next(broken.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(RunError, match="differs from torch by nan"):
        parity(broken, exported, catalog)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("simple_resnet_half", {}),
        ("efficientnet_lite0", {"weights": "random"}),
        ("resnet18", {"weights": "random", "embedding": 8, "loss": "contrastive", "head": "bn_neck",
                      "sampler": "per_class"}),
    ],
)  # fmt: skip
def test_networks_of_the_project_can_be_exported(toys, tmp_path, model: str, more: dict) -> None:
    recipe = toy_recipe(model=model, size=32, store_size=0, grayscale=model.startswith("s"), **more)
    checkpoint = Checkpoint.begin(recipe, toys)
    file = to_onnx(checkpoint, tmp_path / "n.onnx")
    assert "equal to torch" in parity(checkpoint, file, toys)
    kinds = kinds_as_run(to_int8(file, checkpoint, toys), tmp_path)
    assert "QLinearConv" in kinds and "Conv" not in kinds  # around floats all is converted twice


def kinds_as_run(file: Path, folder: Path) -> set[str]:
    """Kinds of nodes that onnxruntime makes of a file."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "as_run.onnx")
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(folder / "as_run.onnx").graph.node}


def test_eight_bits_are_smaller_and_nearly_as_good(trained, exported) -> None:
    checkpoint, catalog = trained
    small = to_int8(exported, checkpoint, catalog)
    assert small.name == "toy.int8.onnx" and small.stat().st_size < 0.5 * exported.stat().st_size
    record = deployment_record(checkpoint, catalog, rounds=2)
    assert [row["way"] for row in record.extra["rows"]] == ["torch", "onnx", "onnx int8"]
    plain, same, eight = (row["accuracy"] for row in record.extra["rows"])
    assert same == plain and abs(eight - plain) <= 0.13  # two photos of sixteen
    assert record.extra["rows"][1]["change_interval"] == [0, 0]


def test_what_is_no_onnx_file_is_named(tmp_path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(RunError, match=r"broken\.onnx: not an ONNX file"):
        session(path)
