"""Weights with all that is needed to use them, in one safetensors file."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import torch

from carlib.data.catalog import Catalog
from carlib.errors import RecipeError, RunError
from carlib.experiment.network import make_network, statistics_of
from carlib.experiment.recipe import Recipe, recipe_from_json
from carlib.files import NUMBER, checked, load_tensors, shortened
from carlib.models.networks import BelowHead
from carlib.paths import run_called
from carlib.seeding import drawing_from

PUBLISHED = Path(__file__).parents[1] / "data" / "cars196.safetensors"  # what everyone has
UNTRAINED = "untrained"
ABOUT = {"recipe": str, "class_names": list, "mean": list, "std": list, "data": (dict, NoneType),
         "use": (dict, NoneType), "kept": (str, NoneType), "epoch": (int, NoneType)}  # fmt: skip
USE = {"temperature": NUMBER, "known_from": NUMBER, "decision": dict}  # of a published one
DECISION = {"threshold": NUMBER, "slope": NUMBER, "offset": NUMBER, "pairs": int}


def _check(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """`ValueError` for what would be answered with other numbers or names than a network has."""
    names, mean, std = (checked(about, **ABOUT)[key] for key in ("class_names", "mean", "std"))
    if not all(isinstance(name, str) for name in names) or not 0 < len(set(names)) == len(names):
        raise ValueError(f"class_names is {shortened(names)}")
    levels = [*mean, *std]
    if not len(mean) == len(std) == 3 or not all(type(level) in NUMBER for level in levels):
        raise ValueError(f"mean and std are {shortened(levels)}")
    if not np.isfinite(levels).all() or min(std) <= 0:
        raise ValueError(f"mean and std are {shortened(levels)}")
    if about.get("use") is not None:
        use = checked(about["use"], **USE)
        checked(use["decision"], **DECISION)
        if use["temperature"] <= 0:
            raise ValueError(f"temperature is {use['temperature']}")
    for name, values in tensors.items():
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} holds values that are no numbers")


@dataclass
class Checkpoint:
    """A network and its recipe, class names and normalization."""

    model: torch.nn.Module
    recipe: Recipe
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hash: str
    about: dict[str, Any] = field(default_factory=dict)
    points: str = ""  # what photos are compared by: "" as trained, or "features" below the head

    @classmethod
    def load(cls, path: Path | str) -> Checkpoint:
        """Rebuild the network of a checkpoint file or of a run, in eval mode on the CPU.

        A run is told by its folder, or by its name. Raises `RunError` when the file is not a
        checkpoint or its weights do not fit its recipe.
        """
        path = run_called(path)
        if os.path.isdir(path):  # a run: what dev chose, where it chose, else the last weights
            best = path / "best.safetensors"
            path = best if best.exists() else path / "last.safetensors"
        tensors, about = load_tensors(path)
        missing = {"recipe", "class_names", "mean", "std"} - about.keys()
        if missing:
            raise RunError(f"{path}: holds no {', '.join(sorted(missing))}; not a checkpoint")
        try:
            _check(tensors, about)
            recipe = recipe_from_json(about["recipe"])
        except RecipeError as error:
            raise RunError(f"{path}: its recipe is not one of this version ({error})") from None
        except ValueError as error:
            raise RunError(f"{path}: cannot be used ({error}); train again") from None
        names = tuple(about["class_names"])
        model = make_network(recipe, len(names))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise RunError(
                f"{path}: weights do not fit model {recipe.model!r}; was the network edited since? "
                f"({str(error).splitlines()[1].strip()})"
            ) from None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return cls(model.eval(), recipe, names, about["mean"], about["std"], digest, about)

    @classmethod
    def begin(cls, recipe: Recipe, catalog: Catalog) -> Checkpoint:
        """The network of a recipe before any training: as pretrained, or random by the seed."""
        mean, std = statistics_of(recipe)
        with drawing_from(recipe.seed):
            model = make_network(recipe, catalog.num_classes, begin=True).eval()
        seen = (recipe.framing, recipe.scored_size, recipe.grayscale, [*mean], [*std])
        digest = hashlib.sha256(repr(seen).encode())  # networks that see photos otherwise differ
        for value in model.state_dict().values():
            digest.update(value.contiguous().numpy().tobytes())
        about = {"kept": UNTRAINED}
        hashed = digest.hexdigest()[:16]
        return cls(model, recipe, catalog.class_names, mean, std, hashed, about)

    def below_head(self) -> Checkpoint:
        """The same network compared by what lies below its last layer."""
        return replace(
            self, model=BelowHead(self.model), hash=f"{self.hash}-below", points="features"
        )

    def told(self) -> dict[str, Any]:
        """What a record says of it: which weights these are, and which photos they learned.

        `kept` is "best" or "last" of a run's epochs, "published", or "untrained"; `trained_on` is
        the fingerprint of the catalog. Either is empty where the file does not say.
        """
        about = self.about
        kept = "published" if "use" in about else about.get("kept", "")
        trained_on = (about.get("data") or {}).get("fingerprint", "")
        return {
            "hash": self.hash,
            "epoch": about.get("epoch"),
            "kept": kept,
            "trained_on": trained_on,
        }

    def check_classes(self, catalog: Catalog) -> None:
        """Refuse a catalog of other classes, naming the first that differ."""
        if self.class_names != catalog.class_names:
            mine, theirs = set(self.class_names), set(catalog.class_names)
            odd = sorted(mine ^ theirs)[:3] or ["the same names in another order"]
            raise RunError(
                f"checkpoint knows {len(mine)} classes, {catalog.name} has {len(theirs)}; "
                f"they differ in: {', '.join(odd)}"
            )

    def learned_a_part(self, catalog: Catalog) -> bool:
        """True where it learned the first classes of a catalog, but not all."""
        known = len(self.class_names)
        return known < catalog.num_classes and self.class_names == catalog.class_names[:known]
