"""A network over a split: logits once, and the record of all that they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import center_crop

from carlib.augment import Normalize
from carlib.catalog import Catalog
from carlib.errors import RunError
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.host import command_line
from carlib.experiment.record import Record, append_to_ledger
from carlib.experiment.run import Run
from carlib.features import pooled_features, says_the_same
from carlib.loading import scoring_photos
from carlib.metrics import group_accuracy, per_class, score
from carlib.photos import PhotoStore
from carlib.processes import share, together
from carlib.recipes import Recipe
from carlib.sampling import long_tail
from carlib.trust import mcnemar, trust_metrics


def _near(photos: torch.Tensor) -> torch.Tensor:
    """The middle seven eighths of each side, enlarged to the side of the photo."""
    side = photos.shape[-1]
    middle = center_crop(photos, [side * 7 // 8])
    return F.interpolate(middle, (side, side), mode="bilinear", align_corners=False)


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # of photos in 0…1, unnormalized
    "plain": lambda photos: photos,
    "mirror": lambda photos: photos.flip(3),
    "near": _near,
    "near mirror": lambda photos: _near(photos).flip(3),
}


@torch.no_grad()
def predict_views(
    model: torch.nn.Module,
    store: PhotoStore,
    positions: np.ndarray,
    normalize: torch.nn.Module,
    size: int,
    device: torch.device,
    views: Sequence[str],
) -> torch.Tensor:
    """Logits (views, photos, classes) float32 on the CPU, in the order given; model in eval.

    Photos are normalized once, after a view has been taken of them. Several processes share them.
    """
    model.eval()
    found = []
    for photos in scoring_photos(store, share(positions), size, device):
        logits = [model(normalize(VIEWS[view](photos))) for view in views]
        found.append(torch.stack(logits, dim=1).float().cpu())
    return together(torch.cat(found), len(positions)).transpose(0, 1)


def predict(
    model: torch.nn.Module,
    store: PhotoStore,
    positions: np.ndarray,
    normalize: torch.nn.Module,
    chosen: Recipe,
    device: torch.device,
) -> torch.Tensor:
    """Logits (photos, classes) float32 on the CPU as a recipe scores: of a photo, or a pair."""
    size = chosen.scored_size
    return predict_views(model, store, positions, normalize, size, device, chosen.views).mean(0)


def logits_of(
    checkpoint: Checkpoint,
    catalog: Catalog,
    split: str,
    progress: bool = True,
    views: Sequence[str] = (),
):
    """Logits, labels and the table rows of a split: (logits, labels, rows) in catalog order.

    With `views` (names in `VIEWS`) logits are (views, photos, classes), else (photos, classes) as
    the checkpoint's recipe scores. Labels are −1 where the catalog has none.
    """
    checkpoint.check_classes(catalog)
    model, store, positions, normalize, device = ready(checkpoint, catalog, split, progress)
    chosen = checkpoint.recipe
    if views:
        size = chosen.scored_size
        logits = predict_views(model, store, positions, normalize, size, device, views)
    elif says_the_same(chosen, model):  # its features may lie ready
        with torch.no_grad():
            logits = model.classify(_features(chosen, model, store, positions, normalize, device))
            logits = logits.float().cpu()
    else:
        logits = predict(model, store, positions, normalize, chosen, device)
    return logits, store.labels[positions], store.rows[positions]


def features_of(
    checkpoint: Checkpoint, catalog: Catalog, split: str, progress: bool = True
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Pooled features (photos, dims) of a split as the recipe scores, table rows, photos' digests.

    Framed as it scores, and averaged with the mirror image's where it does.
    """
    model, store, positions, normalize, device = ready(checkpoint, catalog, split, progress)
    found = _features(checkpoint.recipe, model, store, positions, normalize, device)
    return found.cpu(), store.rows[positions], store.digests[positions]


def _features(chosen, model, store, positions, normalize, device) -> torch.Tensor:
    found = pooled_features(
        model, store, positions, normalize, chosen.scored_size, device, progress=False,
        mirror=chosen.flip_eval,
    )  # fmt: skip
    return found.of(positions)


def ready(checkpoint: Checkpoint, catalog: Catalog, split: str, progress: bool):
    """Network on its device, store, positions of a split, what normalizes its photos, the device.

    Raises `RunError` when no photo of the split can be read.
    """
    chosen = checkpoint.recipe
    part = catalog.select(split)
    # The catalog with all splits is what training decoded: the store is then there already.
    store = PhotoStore.open(catalog, chosen.framing, progress)
    positions = store.positions(split)
    if not len(positions):
        first = next(iter(store.left_out.values()), "it is empty")
        raise RunError(f"{part.name}: no photo of split {split!r} can be read; first: {first}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = checkpoint.model.to(device, memory_format=torch.channels_last)
    normalize = Normalize(checkpoint.mean, checkpoint.std, chosen.grayscale).to(device)
    return model, store, positions, normalize, device


def evaluate(
    checkpoint: Checkpoint,
    catalog: Catalog,
    split: str = "val",
    run: Run | None = None,
    command: str = "",
) -> Record:
    """Score a checkpoint on one split; the record is returned, not yet written.

    `run`, where the checkpoint came from one, adds its history and its training time. Asking for
    split "test" is noted in the ledger, whatever comes of it.
    """
    started = time.perf_counter()
    _may_be_scored(checkpoint, catalog, split)
    logits, labels, _ = logits_of(checkpoint, catalog, split)
    seconds = time.perf_counter() - started
    answers = logits.argmax(1).numpy()
    metrics = score(logits, labels, catalog)
    if len(labels) > 1:  # a temperature is fitted on other photos than those it is judged by
        metrics |= trust_metrics(logits, labels)
    chosen, training = checkpoint.recipe, run.summary if run else {}
    if "train" in catalog.split_sizes:
        trained = catalog.select("train").labels
        if chosen.imbalance > 1:
            trained = trained[long_tail(trained, chosen.imbalance, chosen.seed)]
        counts = np.bincount(trained, minlength=catalog.num_classes)
        metrics |= group_accuracy(labels, answers, counts)
    return Record(
        kind="evaluation",
        data=scored_data(catalog, split, len(labels)),
        metrics=metrics,
        scoring=scoring_of(checkpoint),
        recipe=asdict(chosen),
        checkpoint=checkpoint.told(),
        per_class=per_class(labels, answers, catalog),
        history=run.history() if run else None,
        extra={"training": training},
        timing={"train_seconds": training.get("seconds", 0.0), "evaluate_seconds": seconds},
        command=command or command_line(),
    )


def evaluate_views(
    checkpoint: Checkpoint,
    catalog: Catalog,
    split: str = "val",
    views: Sequence[str] = tuple(VIEWS),
) -> Record:
    """What the mean over several views of a photo gains (test-time augmentation); not yet written.

    The record's `gain` in accuracy over the first view alone has a 95 % interval by paired
    bootstrap over the photos, and `p_value` is McNemar's.
    """
    started = time.perf_counter()
    _may_be_scored(checkpoint, catalog, split)
    logits, labels, _ = logits_of(checkpoint, catalog, split, views=views)
    seconds = time.perf_counter() - started
    answers = [one.argmax(1).numpy() for one in logits]
    mean = logits.mean(0).argmax(1).numpy()
    compared = mcnemar(labels, answers[0], mean)
    return Record(
        kind="views",
        data=scored_data(catalog, split, len(labels)),
        scoring=scoring_of(checkpoint) | {"views": list(views)},
        metrics={
            "accuracy": float((mean == labels).mean()),
            "gain": compared["difference"],
            "gain_interval": compared["difference_interval"],
            "p_value": compared["p_value"],
        },
        recipe=asdict(checkpoint.recipe),
        checkpoint=checkpoint.told(),
        extra={
            "accuracy_by_view": {
                view: float((own == labels).mean())
                for view, own in zip(views, answers, strict=True)
            }
        },
        timing={"evaluate_seconds": seconds},
        command=command_line(),
    )


def _may_be_scored(checkpoint: Checkpoint, catalog: Catalog, split: str) -> None:
    """Refuse what has no classes to be right about; note in the ledger that test is opened."""
    if checkpoint.recipe.embedding:
        raise RunError(
            f"{checkpoint.recipe.name} compares photos and names no class; use: carlib compare"
        )
    if (catalog.select(split).labels < 0).any():
        raise RunError(f"{catalog.name}: split {split!r} has no labels, so it cannot be scored")
    if split == "test":
        entry = {"checkpoint": checkpoint.hash, "recipe": checkpoint.recipe.name}
        append_to_ledger(entry | {"catalog": catalog.name, "split_hash": catalog.split_hash(split)})


def scoring_of(checkpoint: Checkpoint) -> dict[str, object]:
    """How a checkpoint is asked, as a record says it: views, side in pixels, points compared by."""
    recipe = checkpoint.recipe
    return {"views": list(recipe.views), "size": recipe.scored_size, "points": checkpoint.points}


def scored_data(catalog: Catalog, split: str, photos: int) -> dict[str, object]:
    """What a record says of the photos that were scored."""
    return {
        "catalog": catalog.name,
        "dataset": catalog.extras.dataset,
        "fingerprint": catalog.fingerprint,
        "split": split,
        "split_hash": catalog.split_hash(split),
        "photos": photos,
        "classes": catalog.num_classes,
    }
