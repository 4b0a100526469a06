"""One training loop for every recipe.

Read it from `train` downwards. All randomness is a function of (seed, epoch, step), never of a
generator that remembers: so what a run does after being killed and resumed is, to the last bit on
a CPU, what it would have done anyway.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from carlib.augment import Mixing, Normalize
from carlib.catalog import Catalog
from carlib.errors import RunError
from carlib.evaluation import predict
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.network import make_network, statistics_of
from carlib.experiment.run import Run, trained_data
from carlib.features import FeatureLoader, Features, joined, pooled_features, says_the_same
from carlib.files import load_tensors, save_tensors, write_atomically
from carlib.loading import keep_freed_memory, make_loader, set_seed
from carlib.losses import make_loss, make_metric_loss
from carlib.metrics import quick_metrics, quick_retrieval
from carlib.models import count_parameters
from carlib.photos import PhotoStore
from carlib.plans import let_learn, parse_plan, phase_at
from carlib.processes import without_gpus
from carlib.recipes import Recipe
from carlib.sampling import Batches, long_tail, seed_of

if TYPE_CHECKING:
    from accelerate import Accelerator

AUXILIARY = 0.4  # weight of an auxiliary classifier's loss (Szegedy 2016, arXiv:1512.00567)
NAN_CHECK = 50  # steps between two looks at the loss; each look waits for the GPU


def load_or_train(
    chosen: Recipe,
    catalog: Catalog,
    folder: Path | str | None = None,
    *,
    say: Callable[[str], None] = print,
    **options,
):
    """Load the checkpoint of this recipe and catalog, or train it; says aloud which of the two.

    Returns `(checkpoint, run)`. Options go to `train`.
    """
    run = Run.of(chosen, catalog, folder)
    if run.finished:
        say(f"loaded {run.folder.name} (trained earlier; delete the folder to train again)")
    else:
        begun = "resuming" if run.state.exists() else "training"
        say(f"{begun} {run.folder.name}")
        run = train(chosen, catalog, folder, **options)
    checkpoint = Checkpoint.load(run.best)
    checkpoint.check_classes(catalog)
    return checkpoint, run


def train(
    chosen: Recipe,
    catalog: Catalog,
    folder: Path | str | None = None,
    *,
    progress: bool = True,
    profile: bool = False,
    workers: int | None = None,
    reuse_features: bool = True,
) -> Run:
    """Train a recipe on the splits "train" and "val" of a catalog, resuming what was begun.

    Gives the finished run; its `best.safetensors` holds the weights of the best val epoch.
    `profile` writes a trace of twenty steps for TensorBoard; without `reuse_features` a frozen body
    sees its photos anew in every epoch, for the same result. Raises `RunError` when the loss is no
    longer finite, when the folder is in use, or when memory does not suffice for a single photo.
    """
    run = Run.of(chosen, catalog, folder)
    if run.finished:
        return run
    run.folder.mkdir(parents=True, exist_ok=True)
    accelerator = make_accelerator(chosen)
    main = accelerator.is_main_process  # of several processes that train together, one locks
    try:
        with FileLock(run.folder / "lock", timeout=0) if main else contextlib.nullcontext():
            if main:
                run.claim(catalog)
            Trainer(run, catalog, accelerator, progress, workers, reuse_features).fit(profile)
    except Timeout:
        raise RunError(f"{run.folder}: another process is training here; wait for it") from None
    accelerator.wait_for_everyone()
    return run


# --- the loop -----------------------------------------------------------------------------------


@dataclass
class Progress:
    """All that must survive a kill besides tensors. Everything here is plain JSON."""

    epoch: int = 0  # epochs completed
    step: int = 0  # optimizer steps completed
    best: float = -math.inf  # best monitored value so far, larger is better
    best_epoch: int = -1
    bar: float = -math.inf  # what an improvement is measured from: `best`, small steps left out
    stale: int = 0  # epochs without improvement, for early stopping
    drops: int = 0  # plateau: learning-rate drops so far
    since_drop: int = 0  # plateau: epochs without improvement since the last drop
    accumulate: int = 1  # pieces a batch is divided into
    seconds: float = 0.0  # time spent, over all sessions of this run
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Holds one training's pieces together; `fit` is the loop, the rest are its steps."""

    def __init__(
        self,
        run: Run,
        catalog: Catalog,
        accelerator: Accelerator,
        progress: bool = False,
        workers: int | None = None,
        reuse_features: bool = True,
    ) -> None:
        self.run, self.recipe = run, run.recipe
        self.show = progress and accelerator.is_main_process
        self.accelerator, self.device = accelerator, accelerator.device
        keep_freed_memory(self.device)
        self.store = PhotoStore.open(catalog, self.recipe.framing, progress)
        self.used = self.store.positions("train")
        self.held_out = self.store.positions("val")
        for split, positions in (("train", self.used), ("val", self.held_out)):
            if not len(positions):
                raise RunError(f"{catalog.name}: no photo in split {split!r}; split it first")
        if self.recipe.imbalance > 1:
            labels = self.store.labels[self.used]
            self.used = self.used[long_tail(labels, self.recipe.imbalance, self.recipe.seed)]
        labels = self.store.labels[self.used]
        self.batches = Batches(
            labels, min(self.recipe.batch_size, len(labels)), self.recipe.seed, self.recipe.sampler,
            self.recipe.per_class,
        )  # fmt: skip
        self.class_names, self.data = catalog.class_names, trained_data(catalog)
        mean, std = self._statistics()
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.normalize = Normalize(mean, std, self.recipe.grayscale).to(self.device)
        self.raw_loss = self._make_loss(np.bincount(labels, minlength=catalog.num_classes))
        self.mixing = (
            Mixing(self.recipe.mixup, self.recipe.cutmix, self.recipe.mix_probability,
                   catalog.num_classes)
            if self.recipe.mixup or self.recipe.cutmix
            else None
        )  # fmt: skip
        self.done = Progress(accumulate=self.recipe.accumulate)
        self.features = self._make_network(catalog.num_classes, reuse_features)
        if self.features:
            self.loader, self.prepare = FeatureLoader(self.features), torch.nn.Identity()
        else:
            self.loader = make_loader(self.store, self.used, self.recipe, self.device, workers)
            self.prepare = self.normalize
        self.phases = parse_plan(self.recipe.plan, self.recipe.epochs)

    def _statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation that photos are normalized by, per channel in 0…1."""
        if self.recipe.statistics == "data":
            return self.store.statistics(self.used)
        return statistics_of(self.recipe)

    def _make_loss(self, counts: np.ndarray) -> torch.nn.Module:
        """The objective, for classes with `counts` training photos each."""
        chosen = self.recipe
        if not chosen.embedding:
            return make_loss(chosen.loss, counts, chosen.smoothing, chosen.gamma).to(self.device)
        set_seed(seed_of(chosen.seed, 5), self.device)  # some begin with a random point per class
        pairs = chosen.sampler == "pairs"
        loss = make_metric_loss(
            chosen.loss, len(counts), chosen.embedding, pairs, chosen.pair_margin
        )
        return loss.to(self.device)

    def _make_network(self, num_classes: int, reuse_features: bool) -> Features | None:
        """The network and its optimizer, as begun or resumed; features where its body is frozen."""
        from timm.utils import ModelEmaV3

        set_seed(seed_of(self.recipe.seed), self.device)
        model = make_network(self.recipe, num_classes, begin=not self.run.state.exists())
        model = model.to(self.device)
        model = model.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(self.recipe, model, self.raw_loss)
        self.raw = model
        reuse = reuse_features and says_the_same(self.recipe, model)
        learner = torch.nn.Sequential(model.dropout, model.head) if reuse else model
        self.model, self.optimizer = self.accelerator.prepare(learner, optimizer)
        learns = any(True for _ in self.raw_loss.parameters())
        self.loss = self.accelerator.prepare(self.raw_loss) if learns else self.raw_loss
        if self.recipe.compile:
            self.model = torch.compile(self.model)
        self.ema = (
            ModelEmaV3(model, decay=self.recipe.ema, use_warmup=True) if self.recipe.ema else None
        )
        self._resume()
        return self._features() if reuse else None

    def _features(self) -> Features:
        """What the frozen body says of all photos of train and val."""
        size = self.recipe.scored_size
        # Split by split and of all their photos: so scoring, and runs on part of train, find them.
        parts = [
            pooled_features(
                self.raw, self.store, self.store.positions(split), self.normalize, size,
                self.device, self.show,
            )
            for split in ("train", "val")
        ]  # fmt: skip
        found = joined(parts)
        if not self.done.epoch:
            self.done.seconds = found.seconds
        return found

    @property
    def scored(self) -> torch.nn.Module:
        """The network that is scored and kept: the averaged one where there is one."""
        return self.ema.module if self.ema else self.raw

    def fit(self, profile: bool = False) -> None:
        """Epochs until the recipe's end, early stopping, or an error; then the summary."""
        with self._board() as board:
            while self.done.epoch < self.recipe.epochs and not self._should_stop():
                started = time.perf_counter()
                row = {"epoch": self.done.epoch + 1, "lr": self.lr(self.done.step)}
                row |= self._train_epoch(self.done.epoch, profile and self.done.epoch == 0)
                self.done.epoch += 1
                if self.done.epoch % self.recipe.eval_every == 0 or self._is_last():
                    row |= self._validate()
                row["seconds"] = time.perf_counter() - started
                self.done.seconds += row["seconds"]
                self._keep(row)
                for key, value in row.items() if board else ():
                    board.add_scalar(key, value, self.done.epoch)
                self._say(row)
        self._finish()

    def _board(self):
        """TensorBoard's writer; what a killed session wrote of the next epoch is taken back."""
        from torch.utils.tensorboard import SummaryWriter

        if not self.accelerator.is_main_process:
            return contextlib.nullcontext()
        return SummaryWriter(self.run.folder / "tensorboard", purge_step=self.done.epoch + 1)

    def _is_last(self) -> bool:
        return self.done.epoch >= self.recipe.epochs

    def _should_stop(self) -> bool:
        return 0 < self.recipe.patience <= self.done.stale

    def _train_epoch(self, epoch: int, profile: bool) -> dict[str, float]:
        let_learn(self.raw, phase_at(self.phases, epoch).part)
        batches = self.batches.epoch(epoch)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        shares = [batch[rank::world] for batch in batches]
        mixes = self.mixing and epoch < self.recipe.mix_until * self.recipe.epochs
        labels = self.store.labels[self.used]
        totals = torch.zeros(3, device=self.device)  # loss × photos, correct, photos
        bar = tqdm(total=len(shares), desc=f"epoch {epoch + 1}/{self.recipe.epochs}", leave=False,
                   disable=not self.show)  # fmt: skip
        photos_of = self.loader.epoch(epoch, [self.used[share] for share in shares])
        with bar, _profiler(self.run.folder if profile else None) as tick:
            for step, (photos, share) in enumerate(zip(photos_of, shares, strict=True)):
                targets = torch.from_numpy(labels[share]).to(self.device)
                photos = self.prepare(photos)
                if mixes:
                    seed = seed_of(self.recipe.seed, epoch, step, 2)
                    photos, targets = self.mixing(photos, targets, seed)
                totals += self._step(photos, targets, seed_of(self.recipe.seed, epoch, step, 3))
                if step % NAN_CHECK == 0 or step == len(shares) - 1:
                    self._check(totals)
                bar.update()
                tick()
        loss, correct, seen = self.accelerator.reduce(totals).tolist()
        return {
            "train_loss": loss / seen,
            "train_accuracy": correct / seen,
            "size": self.recipe.size_at(epoch),
        }

    def _step(self, photos: torch.Tensor, targets: torch.Tensor, seed: int) -> torch.Tensor:
        """One optimizer step; halves the pieces and tries again when memory runs out."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.done.step) * group["lr_scale"]
        while True:
            set_seed(seed, self.device)  # dropout
            with contextlib.suppress(torch.OutOfMemoryError):
                totals = self._backward(photos, targets)
                break
            self._halve_pieces(len(photos))
        if self.recipe.clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.done.step += 1
        if self.ema:
            self.ema.update(self.raw, step=self.done.step)
        return totals

    def _halve_pieces(self, photos: int) -> None:
        """Smaller pieces from now on. The error is gone by now, and with it what it held on to."""
        if self.done.accumulate >= photos:
            raise RunError("out of memory with a single photo; use a smaller size")
        self.done.accumulate = min(2 * self.done.accumulate, photos)
        print(
            f"out of memory: going on with pieces of {math.ceil(photos / self.done.accumulate)} "
            f"photos, {self.done.accumulate} to a step"
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _backward(self, photos: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Gradients of a batch, piece by piece; (loss × photos, correct, photos)."""
        self.optimizer.zero_grad(set_to_none=True)
        totals = torch.zeros(3, device=self.device)
        pieces = list(zip(photos.chunk(self.done.accumulate), targets.chunk(self.done.accumulate),
                          strict=True))  # fmt: skip
        for number, (piece, wanted) in enumerate(pieces):
            last = number == len(pieces) - 1
            sync = contextlib.nullcontext() if last else self.accelerator.no_sync(self.model)
            with sync, self.accelerator.autocast():
                outputs = self.model(piece)
                logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
                loss = self.loss(logits, wanted)
                loss = loss + AUXILIARY * sum(self.loss(other, wanted) for other in auxiliary)
                self.accelerator.backward(loss * (len(piece) / len(photos)))
            with torch.no_grad():
                judge = _near_right if self.recipe.embedding else _correct
                correct = judge(logits, wanted)
                totals += torch.stack([loss.detach() * len(piece), correct, _count(piece)])
        return totals

    def lr(self, step: int) -> float:
        """Learning rate of the head at an optimizer step (0-based)."""
        peak = self.recipe.lr * phase_at(self.phases, step // len(self.batches)).factor
        if self.recipe.schedule == "plateau":
            return peak * self.recipe.step_factor**self.done.drops
        done = step / max(1, self.recipe.epochs * len(self.batches) - 1)
        return peak * lr_factor(self.recipe, done)

    def _validate(self) -> dict[str, float]:
        from accelerate.utils import broadcast_object_list

        outputs, labels = self._val_outputs(), self.store.labels[self.held_out]
        if self.recipe.embedding:
            found = quick_retrieval(outputs, labels)
        else:
            found = quick_metrics(outputs, labels, self.recipe.smoothing)
        found = broadcast_object_list([found])[0]  # several processes must agree when to stop
        self._judge(found)
        return {f"val_{key}": value for key, value in found.items()}

    @torch.no_grad()
    def _val_outputs(self) -> torch.Tensor:
        """Logits (photos, classes) or embeddings (photos, dims) of val, on the CPU."""
        if self.features:
            return self.scored.eval().classify(self.features.of(self.held_out)).float().cpu()
        return predict(
            self.scored, self.store, self.held_out, self.normalize, self.recipe, self.device
        )

    def _judge(self, found: dict[str, float]) -> None:
        """Keep the weights if this is the best val score so far; count epochs without progress."""
        value = found[self.recipe.monitor] * (-1 if self.recipe.monitor == "loss" else 1)
        if value > self.done.best or self.done.best_epoch < 0:
            self.done.best, self.done.best_epoch = value, self.done.epoch
            self._save_weights("best")
        if value > self.done.bar + self.recipe.min_change:
            self.done.bar = value
            self.done.stale = self.done.since_drop = 0
            return
        self.done.stale += self.recipe.eval_every
        self.done.since_drop += self.recipe.eval_every
        if self.done.since_drop > self.recipe.plateau_patience:
            self.done.drops, self.done.since_drop = self.done.drops + 1, 0

    # --- keeping and resuming ---

    def _save_weights(self, kept: str) -> None:
        """Keep the weights as the run's "best" or "last"."""
        about = {
            "kept": kept,
            "data": self.data,
            "recipe": self.recipe.to_json(),
            "class_names": list(self.class_names),
            "mean": self.mean,
            "std": self.std,
            "epoch": self.done.epoch,
        }
        if self.accelerator.is_main_process:
            path = self.run.best if kept == "best" else self.run.last
            save_tensors(path, self.scored.state_dict(), about)

    def _keep(self, row: dict[str, float]) -> None:
        self.done.history.append(row)
        if not self.accelerator.is_main_process:
            return
        tensors = {f"model.{k}": v for k, v in self.raw.state_dict().items()}
        if self.ema:
            tensors |= {f"ema.{k}": v for k, v in self.ema.module.state_dict().items()}
        tensors |= {f"loss.{k}": v for k, v in self.raw_loss.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in values.items()
                        if v is not None}  # fmt: skip
        scaler = self.accelerator.scaler  # of gradients in half precision, fp16 alone
        about = {"done": vars(self.done), "scaler": scaler.state_dict() if scaler else None}
        save_tensors(self.run.state, tensors, about)
        self.run.write_history(self.done.history)

    def _resume(self) -> None:
        if not self.run.state.exists():
            return
        tensors, about = load_tensors(self.run.state)
        self.done = Progress(**about["done"])
        self.raw.load_state_dict(_under(tensors, "model."))
        self.raw_loss.load_state_dict(_under(tensors, "loss."))
        if self.accelerator.scaler and about.get("scaler"):
            self.accelerator.scaler.load_state_dict(about["scaler"])
        if self.ema:
            self.ema.module.load_state_dict(_under(tensors, "ema."))
        # Fused optimizers walk through memory, so what they remember must lie as the weights do
        # (channels last); a file keeps values, not strides.
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _under(tensors, "optimizer.").items():
            index, name = key.split(".", 1)
            like = weights[int(index)]
            fits = value.shape == like.shape
            value = torch.empty_like(like, dtype=value.dtype).copy_(value) if fits else value
            state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _check(self, totals: torch.Tensor) -> None:
        if not torch.isfinite(totals[0]):
            raise RunError(
                f"{self.run.folder}: the loss is no longer a number at step {self.done.step}; "
                f"lower lr ({self.recipe.lr}), set clip, or use precision 'no'. "
                f"The last whole epoch is kept."
            )

    def _finish(self) -> None:
        self._save_weights("last")
        if not self.accelerator.is_main_process:
            return
        photos = self.done.step * self.batches.batch_size
        best = next(r for r in self.done.history if r["epoch"] == self.done.best_epoch)
        summary = {
            "epochs": self.done.epoch,
            "best_epoch": self.done.best_epoch,
            "best": {k: v for k, v in best.items() if k.startswith("val_")},
            "seconds": self.done.seconds,
            "photos_seen": photos,
            "parameters": count_parameters(self.raw),
            "left_out": self.store.left_out,
        }
        write_atomically(self.run.folder / "finished.json", json.dumps(summary, indent=1))
        self.run.state.unlink(missing_ok=True)

    def _say(self, row: dict[str, float]) -> None:
        if not self.show:
            return
        shown = f"epoch {row['epoch']:3d}  loss {row['train_loss']:.3f}"
        if "val_accuracy" in row:
            shown += (
                f"  val accuracy {row['val_accuracy']:.3f}  (best epoch {self.done.best_epoch})"
            )
        tqdm.write(f"{shown}  {row['seconds']:.0f} s")


def make_accelerator(chosen: Recipe) -> Accelerator:
    """Device, processes and precision, as `accelerate launch` or the environment have them."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    precision = chosen.precision
    if precision == "auto":
        there = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        precision = "bf16" if there else "no"
    AcceleratorState._reset_state()  # else the first run's precision is every later one's
    return Accelerator(mixed_precision=precision, cpu=without_gpus())


def make_optimizer(
    chosen: Recipe, model: torch.nn.Module, loss: torch.nn.Module | None = None
) -> torch.optim.Optimizer:
    """The optimizer of a recipe, for a network and what its loss learns.

    No weight decay on biases and norms, nor on a loss's points: their length is their own affair.
    """
    groups = parameter_groups(chosen, model)
    if learned := list(loss.parameters()) if loss else []:
        groups.append({"params": learned, "weight_decay": 0.0, "lr_scale": chosen.proxy_lr})
    if chosen.optimizer == "sgd":
        return torch.optim.SGD(groups, chosen.lr, momentum=0.9, nesterov=True, fused=True)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[chosen.optimizer]
    return kind(groups, chosen.lr, fused=True)  # one pass over the weights instead of a dozen


def parameter_groups(chosen: Recipe, model: torch.nn.Module) -> list[dict[str, Any]]:
    """Parameters by weight decay and by `lr_scale`, their learning rate relative to the head's."""
    if (chosen.body_lr, chosen.layer_decay) == (1.0, 1.0):
        rest, groups = list(model.parameters()), []
    else:
        from timm.optim import param_groups_layer_decay

        groups = param_groups_layer_decay(
            model.body, chosen.weight_decay, layer_decay=chosen.layer_decay
        )
        for group in groups:
            group["lr_scale"] *= chosen.body_lr
        of_body = set(map(id, model.body.parameters()))
        rest = [p for p in model.parameters() if id(p) not in of_body]
    for decay, part in (
        (chosen.weight_decay, [p for p in rest if p.ndim > 1]),
        (0.0, [p for p in rest if p.ndim <= 1]),
    ):
        groups.append({"params": part, "weight_decay": decay, "lr_scale": 1.0})
    return groups


def lr_factor(chosen: Recipe, done: float) -> float:
    """Learning rate relative to its peak when a share `done` (0…1) of the steps is behind.

    "one_cycle" (Smith 2018, arXiv:1803.09820) starts at 1/25 and ends at nothing, both ways along
    a cosine; "cosine" warms up linearly; "step" drops every `step_epochs`.
    """
    if chosen.schedule == "constant":
        return 1.0
    if chosen.schedule == "step":
        return chosen.step_factor ** int(done * chosen.epochs / chosen.step_epochs)
    rising = done / chosen.warmup if chosen.warmup and done < chosen.warmup else 1.0
    if rising < 1.0:
        if chosen.schedule == "cosine":
            return max(rising, 0.01)
        return 0.04 + 0.96 * (1 - math.cos(math.pi * rising)) / 2
    falling = (done - chosen.warmup) / max(1e-9, 1 - chosen.warmup)
    return max(1e-4, (1 + math.cos(math.pi * min(1.0, falling))) / 2)


def _correct(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Photos classified right; on a mixed batch, the share of each photo that its answer covers."""
    answers = logits.argmax(1)
    if targets.ndim == 1:
        return (answers == targets).float().sum()
    return targets.gather(1, answers[:, None]).float().sum()


def _near_right(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Photos whose nearest other photo of the batch is of their class."""
    similarity = (embeddings @ embeddings.T).fill_diagonal_(-2.0)
    return (labels[similarity.argmax(1)] == labels).float().sum()


def _count(piece: torch.Tensor) -> torch.Tensor:
    return torch.tensor(float(len(piece)), device=piece.device)


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


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
