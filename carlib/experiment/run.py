"""The folder that one training leaves behind.

`recipe.json`, `data.json` (which photos), `metrics.csv`, `last.safetensors`, where dev chooses
`best.safetensors`, TensorBoard events, `finished.json` at the end, `state.safetensors` while it can
be resumed, and where asked for an `epoch-….safetensors` with what was said of val after each epoch.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from carlib.data.catalog import Catalog
from carlib.errors import RecipeError, RunError
from carlib.experiment.recipe import Recipe, recipe_from_json
from carlib.files import (
    NUMBER,
    checked,
    digits_of,
    load_tensors,
    read_file,
    save_tensors,
    write_atomically,
)
from carlib.models.backbones import local_weights
from carlib.paths import file_name, runs_root

if TYPE_CHECKING:
    import torch


# Files that are written into the folder, as a kill can leave them.
HALF_WRITTEN = re.compile(
    r"((recipe|data|finished)\.json|metrics\.csv|(best|best\.next|last|state|epoch-\d+)\.safetensors)"
    r"\..*\.tmp"
)


@dataclass(frozen=True)
class Run:
    """One training: a recipe on a catalog, and the folder that keeps what came of it."""

    folder: Path
    recipe: Recipe

    @classmethod
    def of(cls, recipe: Recipe, catalog: Catalog, folder: Path | str | None = None) -> Run:
        """The run folder that belongs to this recipe, seed and photos, whether it exists or not.

        Its key holds the recipe's hash and the catalog's fingerprint, so other photos under the
        same names, or one that was replaced, have a run of their own. A folder given by name that
        already holds another recipe or other photos is refused.
        """
        data = begun_with(recipe, catalog)
        key = hashlib.sha256(f"{recipe.hash}{data['fingerprint']}".encode()).hexdigest()[:8]
        named = file_name(recipe.name, catalog.name, f"seed{recipe.seed}", key)
        run = cls(Path(folder) if folder else runs_root() / named, recipe)
        held = run._text("recipe.json", recipe_from_json, recipe)
        if held.hash != recipe.hash:
            wanted = asdict(recipe)
            differing = ", ".join(
                f"{name} {value}" for name, value in asdict(held).items()
                if name not in ("name", "note") and value != wanted[name]
            )  # fmt: skip
            raise RunError(
                f"{run.folder}: holds another recipe (it has {differing}); choose another folder"
            )
        known = run._text("data.json", _told, data)
        here = data.get("weights")  # none where a run is loaded without them
        if here and here != known.get("weights", here):
            raise RunError(
                f"{run.folder}: was begun from other pretrained weights than lie in "
                f"{local_weights(recipe.model)} now; put those back, or choose another folder"
            )
        if any(known.get(key) != data[key] for key in ("catalog", "fingerprint")):
            raise RunError(
                f"{run.folder}: was begun with another catalog or split, with other photos, or by "
                f"a version that did not look at their bytes; choose another folder"
            )
        return run

    def claim(self, catalog: Catalog) -> None:
        """Say in the folder which recipe and catalog it belongs to; sweep after a killed run."""
        for path in self.folder.glob("*.tmp"):
            if HALF_WRITTEN.match(path.name):
                path.unlink(missing_ok=True)
        write_atomically(self.folder / "recipe.json", self.recipe.to_json())
        known, told = self._text("data.json", _told, {}), begun_with(self.recipe, catalog)
        # Where the pretrained file is gone by now, which one it was is not forgotten.
        began = {key: known[key] for key in ("weights",) if key in known}
        write_atomically(self.folder / "data.json", json.dumps(began | told))

    def _text(self, name: str, parse: Callable[[str], Any], default: Any) -> Any:
        """A parsed file of the folder, the default where there is none."""
        path = self.folder / name
        try:
            return parse(read_file(path).decode()) if path.exists() else default
        except (RecipeError, OSError, ValueError) as error:
            raise RunError(f"{path}: {error}; delete the folder to train again") from None

    @property
    def kept(self) -> Path:
        """The weights that are the result, as the recipe's `keep` says."""
        return self.best if self.recipe.keep == "best" else self.last

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def next_best(self) -> Path:
        """Where the best weights wait until the state knows of them."""
        return self.folder / "best.next.safetensors"

    def settle_best(self, best_epoch: int) -> None:
        """Have the weights that wait be the best ones, if the state says so; else forget them."""
        if self.next_best.exists():
            if load_tensors(self.next_best)[1].get("epoch") == best_epoch:
                os.replace(self.next_best, self.best)
            else:
                self.next_best.unlink()

    def check_weights(self) -> None:
        """Refuse weights that are not those which the finished training ended with."""
        ended_with = self.summary.get("weights")  # not in summaries of earlier versions
        found = digits_of(read_file(self.kept)) if self.kept.exists() else ""
        if not found or found != (ended_with or found):
            what = "is another file now" if found else "is gone"
            raise RunError(
                f"{self.kept}: {what}; put back what the training ended with, or delete the "
                f"folder to train again"
            )

    @property
    def data(self) -> dict[str, str]:
        """What the folder says it learns from, as `begun_with` made it; empty before `claim`."""
        return self._text("data.json", _told, {})

    @property
    def state(self) -> Path:
        return self.folder / "state.safetensors"

    @property
    def finished(self) -> bool:
        return (self.folder / "finished.json").exists()

    @property
    def summary(self) -> dict[str, Any]:
        """What the training said when it finished: seconds, epochs, best epoch and metrics."""
        if not self.finished:
            raise RunError(f"{self.folder}: this run has not finished; train it first")
        return self._text("finished.json", _summary, None)

    def keep_epoch(self, epoch: int, logits: torch.Tensor, photos: str) -> None:
        """Keep what the network said of the val photos after an epoch, in half precision, and the
        digest of these photos in their order.
        """
        path = self.folder / f"epoch-{epoch:04d}.safetensors"
        save_tensors(path, {"logits": logits.half()}, {"photos": photos})

    def epoch_logits(self, photos: str) -> dict[str, np.ndarray]:
        """{"epochs": (epochs, photos, classes) float16} where `keep_epoch` was called of the photos
        with this digest, else {}.

        `RunError` where epochs are missing, as when the training was begun without keeping them.
        """
        files = sorted(self.folder.glob("epoch-*.safetensors"))
        looks = -(-self.summary["epochs"] // self.recipe.eval_every)
        if files and len(files) != looks:
            raise RunError(
                f"{self.folder}: keeps val logits of {len(files)} epochs of {looks}; delete the "
                f"epoch-* files, or the folder to train again"
            )
        loaded = [load_tensors(path) for path in files]
        if not loaded or any(about.get("photos") != photos for _, about in loaded):
            return {}
        return {"epochs": np.stack([tensors["logits"].numpy() for tensors, _ in loaded])}

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write `metrics.csv`, one row per epoch."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = [columns, *([row.get(key, "") for key in columns] for row in rows)]
        text = "\n".join(",".join(str(value) for value in line) for line in lines)
        write_atomically(self.folder / "metrics.csv", text + "\n")

    def history(self) -> list[dict[str, float]]:
        """The rows of `metrics.csv`, empty values left out."""
        rows = self._text("metrics.csv", _history, None)
        if rows is None:
            raise RunError(f"{self.folder / 'metrics.csv'}: this run has not ended an epoch yet")
        if self.finished and len(rows) != self.summary["epochs"]:
            raise RunError(
                f"{self.folder / 'metrics.csv'}: {len(rows)} epochs of {self.summary['epochs']}; "
                f"delete the folder to train again"
            )
        return rows


def _told(text: str) -> dict[str, Any]:
    return checked(json.loads(text), catalog=str, fingerprint=str)


def _summary(text: str) -> dict[str, Any]:
    return checked(json.loads(text), seconds=NUMBER, epochs=int, best_epoch=int, kept=dict)


def _history(text: str) -> list[dict[str, float]]:
    """Rows of numbers, one for each epoch from 1 on; `ValueError` for anything else."""
    if not text.endswith("\n"):
        raise ValueError("it is cut")
    heads, *lines = csv.reader(io.StringIO(text))
    rows = [dict(zip(heads, line, strict=True)) for line in lines]
    numbers = [{key: float(value) for key, value in row.items() if value} for row in rows]
    if [row.get("epoch") for row in numbers] != [*range(1, len(numbers) + 1)]:
        raise ValueError("its epochs are not 1, 2, 3 and so on")
    return numbers


def begun_with(recipe: Recipe, catalog: Catalog) -> dict[str, str]:
    """What a run learns from: the catalog's name, for people, and its fingerprint; and the digest
    of the pretrained weights, where they lie on this machine.
    """
    data = {"catalog": catalog.name, "fingerprint": catalog.fingerprint}
    path = local_weights(recipe.model) if recipe.weights == "pretrained" else None
    return data | ({"weights": digits_of(read_file(path))} if path else {})
