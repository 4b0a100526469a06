"""One training loop for every recipe.

Read it from `train` downwards; an epoch is in `carlib.training.epoch`, what it works with in
`carlib.training.parts`. All randomness is a function of (seed, epoch, step), never of a generator
that remembers: so what a run does after being killed and resumed is, to the last bit on a CPU, what
it would have done anyway.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from carlib.data.catalog import Catalog
from carlib.distributed import all_agree
from carlib.errors import RunError
from carlib.evaluation.metrics import quick_metrics, quick_retrieval
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.outputs import LARGEST
from carlib.experiment.recipe import Recipe
from carlib.experiment.run import Run
from carlib.files import digits_of, made, read_file, save_tensors, write_atomically, writing
from carlib.models.networks import count_parameters
from carlib.runtime import as_trained, prepare_process
from carlib.training.epoch import lr_at, train_one_epoch
from carlib.training.loaders import workers_may_end
from carlib.training.parts import Parts, make_accelerator, make_parts, open_loader
from carlib.training.precision import settle_precision
from carlib.training.state import TrainState, load_state, save_state

if TYPE_CHECKING:
    from accelerate import Accelerator


def load_or_train(
    recipe: Recipe,
    catalog: Catalog,
    folder: Path | str | None = None,
    *,
    say: Callable[[str], None] = print,
    **options,
) -> tuple[Checkpoint, Run]:
    """Load the checkpoint of this recipe and catalog, or train it; says aloud which of the two.

    Options go to `train`.
    """
    run = Run.of(recipe, catalog, folder)
    if run.finished:
        run.check_weights()
        say(f"loaded {run.folder.name} (trained earlier; delete the folder to train again)")
    else:
        begun = "resuming" if run.state.exists() else "training"
        say(f"{begun} {run.folder.name}")
        run = train(recipe, catalog, folder, **options)
    for note in left_out(run.summary):
        say(note)
    checkpoint = Checkpoint.load(run.kept)
    checkpoint.check_classes(catalog)
    return checkpoint, run


def left_out(summary: dict) -> list[str]:
    """What a training was asked to learn and could not, in lines for the reader."""
    notes = []
    if photos := summary.get("left_out"):
        path, why = next(iter(photos.items()))
        notes.append(f"{len(photos)} photos were left out, such as {path} ({why})")
    if names := summary.get("untaught"):
        notes.append(f"{len(names)} classes had no photo to learn from: {', '.join(names[:5])}")
    return notes


def train(
    recipe: Recipe,
    catalog: Catalog,
    folder: Path | str | None = None,
    *,
    progress: bool = True,
    profile: bool = False,
    workers: int | None = None,
    reuse_features: bool = True,
    keep_epochs: bool = False,
) -> Run:
    """Train a recipe on split "train" of a catalog, resuming what was begun.

    Where the recipe keeps dev photos back, they choose; else val is looked at and nothing chosen.
    Gives the finished run; the weights at its `kept` are the result. `profile` writes a trace of
    twenty steps for TensorBoard; without `reuse_features` a frozen body sees its photos anew in
    every epoch, for the same result; `keep_epochs` has the run keep the val logits of every epoch.
    Raises `RunError` when the loss is no longer finite, when the folder is in use, or when memory
    does not suffice for a single photo.
    """
    run = Run.of(recipe, catalog, folder)
    if run.finished:
        return run
    if keep_epochs:
        _check_epochs(recipe, catalog)
    made(run.folder)
    accelerator = make_accelerator(recipe)
    prepare_process(accelerator.device, one_size=recipe.size_at(0) == recipe.size)
    main = accelerator.is_main_process  # of several processes that train together, one locks
    show = progress and main
    try:
        with contextlib.ExitStack() as locks:
            with writing(run.folder):
                if main:
                    locks.enter_context(FileLock(run.folder / "lock", timeout=0))
            run = Run.of(recipe, catalog, run.folder)  # another process may have ended it meanwhile
            if all_agree(run.finished):
                return run
            if main:
                run.claim(catalog)
            parts, state = begin(run, catalog, accelerator, show, reuse_features, workers)
            if main and parts.about["data"]["fingerprint"] != run.data["fingerprint"]:
                raise RunError(f"{catalog.name}: photos changed meanwhile; start again")
            parts.keep_epochs = keep_epochs
            with workers_may_end():
                fit(run, parts, state, show, profile)
    except Timeout:
        raise RunError(f"{run.folder}: another process is training here; wait for it") from None
    accelerator.wait_for_everyone()
    return run


def begin(
    run: Run,
    catalog: Catalog,
    accelerator: Accelerator,
    show: bool = False,
    reuse_features: bool = True,
    workers: int | None = None,
) -> tuple[Parts, TrainState]:
    """All that a training works with, and where it is: at its start, or as its state has it."""
    recipe, begun = run.recipe, run.state.exists()
    parts = make_parts(
        recipe, catalog, accelerator, begin=not begun, reuse_features=reuse_features, progress=show
    )
    state = TrainState(accumulate=recipe.accumulate)
    state = load_state(run.state, parts) if begun else state
    if accelerator.is_main_process:
        run.settle_best(state.best_epoch)
    spent = open_loader(parts, workers, show)
    state.seconds = state.seconds or spent
    settle_precision(parts, state, show)
    return parts, state


def _check_epochs(recipe: Recipe, catalog: Catalog) -> None:
    """Refuse to keep logits that there are not, or too many for one file, before hours of work."""
    recipe.must_classify()
    looks = -(-recipe.epochs // recipe.eval_every)
    size = 2 * catalog.split_sizes.get("val", 0) * catalog.num_classes * looks
    if size > LARGEST:
        raise RunError(
            f"val logits of every epoch would take {size:,} bytes of {LARGEST:,}; look at val less "
            f"often (eval_every), or keep none"
        )


def fit(
    run: Run, parts: Parts, state: TrainState, show: bool = False, profile: bool = False
) -> None:
    """Epochs until the recipe's end, early stopping, or an error; then the summary."""
    recipe = parts.recipe
    with _board(run, parts, state) as board:
        while state.epoch < recipe.epochs and not 0 < recipe.patience <= state.stale:
            started = time.perf_counter()
            row = {"epoch": state.epoch + 1, "lr": lr_at(parts, state)}
            with _profiler(run.folder if profile and state.epoch == 0 else None) as after_step:
                row |= train_one_epoch(parts, state, show, after_step)
            state.epoch += 1
            _share_statistics(parts)
            if state.epoch % recipe.eval_every == 0 or state.epoch >= recipe.epochs:
                row |= validate(run, parts, state)
            row["seconds"] = time.perf_counter() - started
            state.seconds += row["seconds"]
            keep(run, parts, state, row)
            for key, value in row.items() if board else ():
                board.add_scalar(key, value, state.epoch)
            say(row, state, show)
    finish(run, parts, state)


def _share_statistics(parts: Parts) -> None:
    """Give all processes the main one's batch-norm statistics, which are what is saved.

    Each scores a part of the photos: what is said of an epoch is then said of one network.
    """
    if parts.accelerator.num_processes > 1:
        from accelerate.utils import broadcast

        for network in {id(network): network for network in (parts.network, parts.scored)}.values():
            for values in network.buffers():
                values.copy_(broadcast(values))


def validate(run: Run, parts: Parts, state: TrainState) -> dict[str, float]:
    """Score dev, or val where there is none, and keep the weights that dev finds best so far."""
    from accelerate.utils import broadcast_object_list

    outputs, labels = outputs_at(parts, parts.judged), parts.labels[parts.judged]
    if parts.keep_epochs:
        val = outputs if parts.judge == "val" else outputs_at(parts, parts.store.positions("val"))
        if parts.accelerator.is_main_process:
            rows = parts.store.rows[parts.store.positions("val")]
            run.keep_epoch(state.epoch, val, parts.store.catalog.photos_digest(rows))
    if parts.recipe.embedding:
        metrics = quick_retrieval(outputs, labels)
    else:
        metrics = quick_metrics(outputs, labels, parts.recipe.smoothing)
    metrics = broadcast_object_list([metrics])[0]  # several processes must agree when to stop
    judge(run, parts, state, metrics)
    return {f"{parts.judge}_{key}": value for key, value in metrics.items()}


@torch.no_grad()
def outputs_at(parts: Parts, positions: np.ndarray) -> torch.Tensor:
    """Logits (photos, classes) or embeddings (photos, dims) of photos of dev or val, on the CPU."""
    if parts.features:
        with as_trained(parts.device, parts.recipe.precision):
            return parts.scored.eval().classify(parts.features.of(positions)).float().cpu()
    return parts.scorer(parts.scored).predict(parts.store, positions)


def judge(run: Run, parts: Parts, state: TrainState, metrics: dict[str, float]) -> None:
    """Note the best score so far, keeping its weights if asked; count epochs without progress."""
    recipe = parts.recipe
    value = metrics[recipe.monitor] * (-1 if recipe.monitor == "loss" else 1)
    value = -math.inf if math.isnan(value) else value  # which nothing would be better than
    if value > state.best or state.best_epoch < 0:
        state.best, state.best_epoch = value, state.epoch
        if recipe.keep == "best":
            save_weights(run, parts, state, "best")
    if value > state.bar + recipe.min_change:
        state.bar = value
        state.stale = state.since_drop = 0
        return
    state.stale += recipe.eval_every
    state.since_drop += recipe.eval_every
    if state.since_drop > recipe.plateau_patience:
        state.drops, state.since_drop = state.drops + 1, 0


def save_weights(run: Run, parts: Parts, state: TrainState, kept: str) -> None:
    """Write the scored network as the run's "last" checkpoint, or as what becomes its "best" with
    the state that knows of it.
    """
    if parts.accelerator.is_main_process:
        path = run.next_best if kept == "best" else run.last
        about = parts.about | {"kept": kept, "epoch": state.epoch}
        save_tensors(path, parts.scored.state_dict(), about)


def keep(run: Run, parts: Parts, state: TrainState, row: dict[str, float]) -> None:
    """Write the epoch's row, and all that is needed to go on from here."""
    state.history.append({key: value for key, value in row.items() if math.isfinite(value)})
    if parts.accelerator.is_main_process:
        save_state(run.state, parts, state)
        run.settle_best(state.best_epoch)
        run.write_history(state.history)


def finish(run: Run, parts: Parts, state: TrainState) -> None:
    """Write the last weights and the summary; the state is not needed any more."""
    save_weights(run, parts, state, "last")
    if not parts.accelerator.is_main_process:
        return
    run.write_history(state.history)  # a kill may have come between the last state and it
    kept_epoch = state.best_epoch if parts.recipe.keep == "best" else state.epoch
    kept = next(row for row in state.history if row["epoch"] == kept_epoch)
    summary = {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "kept_epoch": kept_epoch,
        "kept": {k: v for k, v in kept.items() if k.startswith(("val_", "dev_"))},
        "seconds": state.seconds,
        "train_photos": len(parts.train),
        "weights": digits_of(read_file(run.kept)),
        "photos_seen": state.step * parts.batches.batch_size,
        "parameters": count_parameters(parts.network),
        "precision": state.precision | {"choice": parts.precision},
        "left_out": parts.left_out,
        "untaught": [
            name
            for label, name in enumerate(parts.about["class_names"])
            if label not in parts.labels[parts.train]
        ],
    }
    write_atomically(run.folder / "finished.json", json.dumps(summary, indent=1))
    run.state.unlink(missing_ok=True)


def say(row: dict[str, float], state: TrainState, show: bool) -> None:
    """A line for whoever watches."""
    if not show:
        return
    shown = f"epoch {row['epoch']:3d}  loss {row['train_loss']:.3f}"
    for judge in (judge for judge in ("dev", "val") if f"{judge}_accuracy" in row):
        accuracy = row[f"{judge}_accuracy"]
        shown += f"  {judge} accuracy {accuracy:.3f}  (best epoch {state.best_epoch})"
    tqdm.write(f"{shown}  {row['seconds']:.0f} s")


def _board(run: Run, parts: Parts, state: TrainState):
    """TensorBoard's writer; what a killed session wrote of the next epoch is taken back."""
    if not parts.accelerator.is_main_process:
        return contextlib.nullcontext()
    # TensorBoard's own switch; else it imports TensorFlow where there is one, as on Colab.
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(run.folder / "tensorboard", purge_step=state.epoch + 1)


@contextlib.contextmanager
def _profiler(folder: Path | None):
    """Twenty steps traced for TensorBoard when a folder is given; yields what to call per step."""
    if folder is None:
        yield lambda: None
        return
    from torch.profiler import profile, schedule, tensorboard_trace_handler

    handler = tensorboard_trace_handler(str(folder / "profile"))
    steps = schedule(wait=1, warmup=2, active=20, repeat=1)
    with profile(schedule=steps, on_trace_ready=handler) as prof:
        yield prof.step
