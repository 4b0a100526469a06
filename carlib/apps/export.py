"""A network for other programs: ONNX, 8-bit ONNX, and what each costs and keeps.

The exported graph holds the normalization: photos (batch, 3, side, side) float32 RGB in 0…1, framed
as the recipe frames them, come in as "photos", and logits (batch, classes) go out as "logits" (of a
network that compares: embeddings of length one). A file names its classes in its metadata.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carlib.data.catalog import Catalog
from carlib.data.store import PhotoStore
from carlib.errors import RunError, optional
from carlib.evaluation.evaluate import scored_data, scoring_of
from carlib.evaluation.metrics import bootstrap_mean, interval
from carlib.evaluation.scorer import Scorer, scoring_photos
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.files import write_atomically
from carlib.models.networks import count_flops, count_parameters, weight_bytes
from carlib.timing import medians, taking_turns

OPSET = 20
CALIBRATION = 128  # train photos from which 8-bit ranges are taken
PARITY = 1e-4  # largest difference of a logit that is called equal


def to_onnx(checkpoint: Checkpoint, path: Path | str) -> Path:
    """Write a checkpoint's network as ONNX with a dynamic batch; gives the path."""
    with optional():
        import onnxscript  # noqa: F401  (torch's exporter writes with it)

    path, scorer = Path(path), Scorer.of(checkpoint).cpu().eval()
    photos = torch.rand(2, 3, scorer.size, scorer.size)
    buffer = io.BytesIO()
    with redirect_stdout(io.StringIO()):  # the exporter chats
        program = torch.onnx.export(
            scorer, (photos,), input_names=["photos"], output_names=["logits"], dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), opset_version=OPSET,
            verbose=False,
        )  # fmt: skip
        program.save(buffer, include_initializers=True)
    write_atomically(path, _described(buffer.getvalue(), checkpoint))
    return path


def _described(graph: bytes, checkpoint: Checkpoint) -> bytes:
    """The graph with class names, recipe and checkpoint hash among its properties."""
    with optional():
        import onnx

    model = onnx.load_from_string(graph)
    about = {
        "class_names": json.dumps(checkpoint.class_names),
        "recipe": checkpoint.recipe.to_json(),
        "checkpoint": checkpoint.hash,
    }
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def to_int8(path: Path | str, checkpoint: Checkpoint, catalog: Catalog) -> Path:
    """Write `<name>.int8.onnx` beside an exported file: weights and activations in 8 bits.

    Ranges come from CALIBRATION train photos of the catalog (Jacob 2018, arXiv:1712.05877, by
    onnxruntime). The last layer stays as it is, for its few weights decide between twins.

    Activations are unsigned: with signed ones, onnxruntime's default, a third of the convolutions
    of EfficientNet-Lite0 run in single precision between conversions. One scale for all channels
    of a layer cost that network .09 of its accuracy. On x86 without VNNI sums may saturate: measure
    there (`carlib bench`) before you use the file.
    """
    with optional():
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

    path = Path(path)
    batches = iter(list(_photos(checkpoint, catalog, "train", CALIBRATION, batch_size=16)))

    class Photos(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            photos = next(batches, None)
            return None if photos is None else {"photos": photos.numpy()}

    small = path.with_suffix(".int8.onnx")
    with tempfile.TemporaryDirectory() as folder:
        ready, made = Path(folder) / "ready.onnx", Path(folder) / "made.onnx"
        # Its symbolic shapes are for transformers, and fail where embeddings are given length one.
        quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(ready), str(made), Photos(), quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8, per_channel=True,
            nodes_to_exclude=_last_layer(ready),
        )  # fmt: skip
        write_atomically(small, made.read_bytes())
    return small


def _last_layer(path: Path) -> list[str]:
    with optional():
        import onnx

    linear = [n.name for n in onnx.load(path).graph.node if n.op_type in ("Gemm", "MatMul")]
    return linear[-1:]


def session(path: Path | str) -> Callable[[np.ndarray], np.ndarray]:
    """An exported file as a function from photos (batch, 3, side, side) to outputs."""
    with optional():
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Idle threads that spin would take the processor from whoever computes next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        running = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors have no common base
        reason = str(error).splitlines()[0]
        raise RunError(f"{path}: not an ONNX file that can be run ({reason})") from None
    return lambda photos: running.run(["logits"], {"photos": photos})[0]


def parity(checkpoint: Checkpoint, path: Path | str, catalog: Catalog, count: int = 100) -> str:
    """How far the file's logits are from torch's on val photos, in words; `RunError` if too far."""
    scorer, run = Scorer.of(checkpoint).cpu().eval(), session(path)
    worst, seen = 0.0, 0
    for photos in _photos(checkpoint, catalog, "val", count):
        with torch.no_grad():
            expected = scorer(photos).numpy()
        apart = np.abs(run(photos.numpy()) - expected).max()
        worst, seen = float(np.maximum(worst, apart)), seen + len(photos)  # NaN stays NaN
    if not worst <= PARITY:
        raise RunError(f"{path}: differs from torch by {worst:.2g} on {seen} photos; not usable")
    return f"equal to torch within {worst:.1g} on {seen} photos"


def _photos(
    checkpoint: Checkpoint, catalog: Catalog, split: str, count: int, batch_size: int = 32
) -> Iterator[torch.Tensor]:
    """Photos of a split, evenly drawn over its rows, framed for the network, in batches."""
    recipe = checkpoint.recipe
    store = PhotoStore.open(catalog, recipe.framing, progress=False)
    positions = store.positions(split)
    if not len(positions):
        raise RunError(f"{catalog.name}: no photo of split {split!r} can be read")
    if count:
        positions = positions[
            np.linspace(0, len(positions) - 1, min(count, len(positions))).astype(int)
        ]
    yield from scoring_photos(store, positions, recipe.scored_size, torch.device("cpu"), batch_size)


# --- what each costs ----------------------------------------------------------------------------


def deployment_record(checkpoint: Checkpoint, catalog: Catalog, rounds: int = 15) -> Record:
    """Accuracy, size, work and speed by torch, ONNX and int8, taking turns; not written.

    Latency is the median of one photo's way through, throughput that of batches of 16; `speed`
    compares latencies with ONNX, the fastest way in single precision. Accuracy is of one view of
    the val photos, with the change against ONNX paired photo by photo.
    """
    checkpoint.recipe.must_classify()
    checkpoint.check_classes(catalog)
    scorer = Scorer.of(checkpoint).cpu().eval()
    rows, photos = _way_rows(checkpoint, catalog, scorer, rounds)
    flops = count_flops(checkpoint.model, scorer.size, scorer.channels)
    return Record(
        kind="benchmark",
        topic="deployment",
        data=scored_data(catalog, "val", photos),
        metrics={
            "accuracy": rows[0]["accuracy"],
            "int8_accuracy": rows[2]["accuracy"],
            "int8_times_onnx": rows[2]["speed"],
        },
        scoring=scoring_of(checkpoint),
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        extra={
            "rows": rows,
            "gflops": flops / 1e9,
            "side": scorer.size,
            "parameters": count_parameters(checkpoint.model),
        },
        command=command_line(),
    )


def _way_rows(
    checkpoint: Checkpoint, catalog: Catalog, scorer: Scorer, rounds: int
) -> tuple[list[dict[str, Any]], int]:
    """A row for torch, ONNX and int8 each, and of how many photos they are."""
    with tempfile.TemporaryDirectory() as folder:
        plain = to_onnx(checkpoint, Path(folder) / "network.onnx")
        small = to_int8(plain, checkpoint, catalog)
        sizes = {"torch": weight_bytes(scorer.state_dict().values()), "onnx": plain.stat().st_size,
                 "onnx int8": small.stat().st_size}  # fmt: skip

        def by_torch(photos: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return scorer(torch.from_numpy(photos)).numpy()

        ways = {"torch": by_torch, "onnx": session(plain), "onnx int8": session(small)}
        right = _right(ways, checkpoint, catalog)
        one, many = (_seconds(ways, scorer.size, batch, rounds) for batch in (1, 16))
    rows = []
    for name in ways:
        gained = right[name] - right["onnx"]
        change, draws = bootstrap_mean(gained)
        rows.append({
            "way": name, "bytes": sizes[name], "accuracy": float(right[name].mean()),
            "change": float(change), "change_interval": interval(draws),
            "ms_per_photo": 1000 * one[name], "photos_per_second": 16 / many[name],
            "speed": one["onnx"] / one[name],
        })  # fmt: skip
    return rows, len(right["torch"])


def _right(ways: dict[str, Callable], checkpoint: Checkpoint, catalog: Catalog) -> dict[str, Any]:
    """1 where the answer is right, else 0, (photos,) for every way."""
    store = PhotoStore.open(catalog, checkpoint.recipe.framing, progress=False)
    labels = store.labels[store.positions("val")]
    answers: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for photos in _photos(checkpoint, catalog, "val", 0):
        for name, run in ways.items():
            answers[name].append(run(photos.numpy()).argmax(1))
    return {
        name: (np.concatenate(batches) == labels).astype(float) for name, batches in answers.items()
    }


def _seconds(ways: dict[str, Callable], side: int, batch: int, rounds: int) -> dict[str, float]:
    """Median seconds of a batch for every way."""
    photos = np.random.default_rng(0).random((batch, 3, side, side), np.float32)
    calls = {name: partial(run, photos) for name, run in ways.items()}
    return medians(taking_turns(calls, rounds, warm_up=2))
