"""One epoch, read straight down: photos, forward, loss, backward, step.

Everything random follows from (seed, epoch, step) and never from a generator that remembers.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from carlib.distributed import gathered
from carlib.errors import RunError
from carlib.models.freezing import keep_statistics, phase_at, set_trainable
from carlib.runtime import announce
from carlib.seeding import seed_of, set_seed
from carlib.training.optimizer import learning_rate, momentum_at
from carlib.training.parts import Parts
from carlib.training.state import TrainState

AUXILIARY = 0.4  # weight of an auxiliary classifier's loss (Szegedy 2016, arXiv:1512.00567)
NAN_CHECK = 50  # steps between two looks at the loss; each look waits for the GPU


def train_one_epoch(
    parts: Parts, state: TrainState, show: bool = False, after_step: Callable[[], None] = bool
) -> dict[str, float]:
    """Show the network every training photo once; mean loss and accuracy on the way."""
    recipe, epoch, steps = parts.recipe, state.epoch, len(parts.batches)
    set_trainable(parts.network, phase_at(parts.phases, epoch).part)
    if epoch >= recipe.norm_until * recipe.epochs:
        keep_statistics(parts.network)
    totals = torch.zeros(3, device=parts.device)  # loss × photos, right answers, photos
    bar = tqdm(
        total=steps, desc=f"epoch {epoch + 1}/{recipe.epochs}", leave=False, disable=not show
    )
    with bar:
        for step, (photos, targets, whole) in enumerate(parts.epoch(epoch)):
            if parts.mixes(epoch):
                seed = seed_of(recipe.seed, epoch, step, 2)
                photos, targets = parts.mixing(photos, targets, seed)
            seed = seed_of(recipe.seed, epoch, step, 3) + parts.accelerator.process_index
            totals += train_step(parts, state, photos, targets, seed, whole)
            if step % NAN_CHECK == 0 or step == steps - 1:
                _check_finite(totals, parts, state)
            bar.update()
            after_step()
    loss, right, seen = parts.accelerator.reduce(totals).tolist()
    return {
        "train_loss": loss / seen,
        "train_accuracy": right / seen,
        "size": recipe.size_at(epoch),
    }


def train_step(
    parts: Parts,
    state: TrainState,
    photos: torch.Tensor,
    targets: torch.Tensor,
    seed: int,
    whole: int,
) -> torch.Tensor:
    """One optimizer step; halves the pieces and tries again when memory runs out.

    This process's photos (share, 3, side, side), or features (share, dims), of a batch of `whole`;
    targets (share,) or, mixed, (share, classes). Gives (loss × photos, right answers, photos).
    """
    lr = lr_at(parts, state)
    for group in parts.optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        if parts.recipe.cycle_momentum:
            done = state.step / max(1, parts.recipe.epochs * len(parts.batches) - 1)
            momentum = momentum_at(parts.recipe, done)
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum
    while True:
        set_seed(seed, parts.device)  # dropout: other masks in every process
        with _memory_may_end():
            totals = gradients(parts, photos, targets, whole, state.accumulate)
            break
        _halve_pieces(parts, state, len(photos))
    if parts.recipe.clip:
        parts.accelerator.clip_grad_norm_(parts.learner.parameters(), parts.recipe.clip)
    parts.optimizer.step()
    state.step += 1
    if parts.ema:
        parts.ema.update(parts.network, step=state.step)
    return totals


def lr_at(parts: Parts, state: TrainState) -> float:
    """Learning rate of the head at the next step."""
    return learning_rate(parts.recipe, parts.phases, state.step, len(parts.batches), state.drops)


def gradients(
    parts: Parts, photos: torch.Tensor, targets: torch.Tensor, whole: int, accumulate: int = 1
) -> torch.Tensor:
    """Gradients of a batch, in `accumulate` pieces; (loss × photos, right answers, photos).

    Processes take the mean of their gradients, so each scales its loss to make that the mean over
    the `whole` batch. Losses that compare photos compare those of a piece, of all processes.
    """
    parts.optimizer.zero_grad(set_to_none=True)
    compares, processes = bool(parts.recipe.embedding), parts.accelerator.num_processes
    judge = near_right if compares else right_answers
    totals = torch.zeros(3, device=parts.device)
    unit = 2 if parts.recipe.sampler == "pairs" else 1  # photos that no cut may part
    # What is gathered must be gathered as often in the process with the fewest photos.
    count = min(accumulate, (whole // processes if compares else len(photos)) // unit)
    spans = np.array_split(np.arange(0, len(photos), unit), max(1, count))
    cuts = [int(span[0]) for span in spans[1:]]
    pieces = zip(photos.tensor_split(cuts), targets.tensor_split(cuts), strict=True)
    for number, (piece, wanted) in enumerate(pieces, 1):
        last = number == len(spans)
        sync = contextlib.nullcontext() if last else parts.accelerator.no_sync(parts.learner)
        with sync:
            with parts.autocast():
                outputs = parts.learner(piece)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            logits, *auxiliary = (part.float() for part in outputs)  # losses are computed in full
            if compares:
                logits, wanted = gathered(logits, wanted)
            loss = parts.loss(logits, wanted)
            loss = loss + AUXILIARY * sum(parts.loss(other, wanted) for other in auxiliary)
            times = 1 if compares else processes
            parts.accelerator.backward(loss * (times * len(wanted) / whole))
        with torch.no_grad():
            seen = torch.tensor(float(len(wanted)), device=piece.device)
            totals += torch.stack([loss.detach() * seen, judge(logits, wanted), seen])
    return totals


def right_answers(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Photos classified right; on a mixed batch, the share of each photo that its answer covers."""
    answers = logits.argmax(1)
    if targets.ndim == 1:
        return (answers == targets).float().sum()
    return targets.gather(1, answers[:, None]).float().sum()


def near_right(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Photos whose nearest other photo of the batch is of their class."""
    similarity = (embeddings @ embeddings.T).fill_diagonal_(-2.0)
    return (labels[similarity.argmax(1)] == labels).float().sum()


@contextlib.contextmanager
def _memory_may_end() -> Iterator[None]:
    """Go on after the block where memory ran out in it: a GPU's, or this machine's."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        pass
    except RuntimeError as error:  # torch has no class for the machine's own memory
        if "can't allocate memory" not in str(error):
            raise


def _halve_pieces(parts: Parts, state: TrainState, photos: int) -> None:
    """Smaller pieces from now on. The error is gone by now, and with it what it held on to."""
    norms = any(isinstance(module, nn.BatchNorm1d) for module in parts.network.modules())
    # A batch norm of vectors has no statistics of one photo, and a pair has two.
    least = 2 if norms or parts.recipe.sampler == "pairs" else 1
    if photos // state.accumulate <= least:
        few = "two photos" if least == 2 else "a single photo"
        raise RunError(f"out of memory with {few}; use a smaller size")
    if parts.accelerator.num_processes > 1:  # the others wait for this one's gradients meanwhile
        raise RunError(f"out of memory; start again with accumulate={2 * state.accumulate}")
    state.accumulate = min(2 * state.accumulate, photos // least)
    announce(
        f"out of memory: going on with pieces of {math.ceil(photos / state.accumulate)} "
        f"photos, {state.accumulate} to a step"
    )
    if parts.device.type == "cuda":
        torch.cuda.empty_cache()


def _check_finite(totals: torch.Tensor, parts: Parts, state: TrainState) -> None:
    if not torch.isfinite(totals[0]):
        raise RunError(
            f"{parts.recipe.name}: the loss is no longer a number at step {state.step}; lower lr "
            f"({parts.recipe.lr}), set clip, or use precision 'no'. The last whole epoch is kept."
        )
