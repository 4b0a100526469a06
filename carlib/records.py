"""What a run leaves behind: a folder while it lives, one JSON record when it has been scored.

Run folder: `recipe.json`, `metrics.csv`, `best.safetensors`, `last.safetensors`, TensorBoard
events, and `state.safetensors` while it can still be resumed. Tables, figures and the report read
records and nothing else. No file is ever a pickle.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from carlib.augment import STATISTICS
from carlib.backbones import BACKBONES, build_backbone
from carlib.catalog import Catalog
from carlib.errors import RecipeError, RunError
from carlib.models import MODELS, BelowHead, Embedder, build_model
from carlib.paths import results_root, runs_root
from carlib.processes import is_main
from carlib.recipes import Recipe, recipe_from_json

if TYPE_CHECKING:
    from carlib.audit import Audit

PUBLISHED = Path(__file__).parent / "data" / "cars196.safetensors"  # what everyone has
LIBRARIES = ("torch", "torchvision", "timm", "albumentations", "accelerate", "numpy", "carlib")


# --- files that are whole or not there ----------------------------------------------------------


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that a kill or a full disk leaves the old one, never half a new one."""
    data = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); free some space") from error
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Save tensors with a JSON description in the safetensors header."""
    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, to_safetensors(ready, {"carlib": json.dumps(about)}))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors and description; `RunError` names a file that is missing, cut or foreign."""
    try:
        with safe_open(str(path), "pt") as file:
            about = (file.metadata() or {}).get("carlib")
            if about is None:
                raise RunError(f"{path}: not written by carlib; give a checkpoint of a carlib run")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(about)  # noqa: SIM118
    except FileNotFoundError:
        raise RunError(f"{path}: no such checkpoint; train first, or give another path") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: damaged or no safetensors file ({error}); train again") from None


# --- checkpoints --------------------------------------------------------------------------------


@dataclass
class Checkpoint:
    """Weights with all that is needed to use them: recipe, class names, normalization."""

    model: torch.nn.Module
    recipe: Recipe
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hash: str
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> Checkpoint:
        """Rebuild the network of a checkpoint file, in eval mode on the CPU.

        Raises `RunError` when the file is not a checkpoint or its weights do not fit its recipe.
        """
        path = Path(path)
        path = path / "best.safetensors" if path.is_dir() else path
        tensors, about = load_tensors(path)
        missing = {"recipe", "class_names", "mean", "std"} - about.keys()
        if missing:
            raise RunError(f"{path}: holds no {', '.join(sorted(missing))}; not a checkpoint")
        try:
            chosen = recipe_from_json(about["recipe"])
        except RecipeError as error:
            raise RunError(f"{path}: its recipe is not one of this version ({error})") from None
        names = tuple(about["class_names"])
        model = make_network(chosen, len(names))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise RunError(
                f"{path}: weights do not fit model {chosen.model!r}; was the network edited since? "
                f"({str(error).splitlines()[1].strip()})"
            ) from None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return cls(model.eval(), chosen, names, about["mean"], about["std"], digest, about)

    @classmethod
    def begin(cls, chosen: Recipe, catalog: Catalog) -> Checkpoint:
        """The network of a recipe before any training: as pretrained, or random by the seed."""
        mean, std = statistics_of(chosen)
        with torch.random.fork_rng():
            torch.manual_seed(chosen.seed)
            model = make_network(chosen, catalog.num_classes, begin=True).eval()
        digest = hashlib.sha256()
        for value in model.state_dict().values():
            digest.update(value.contiguous().numpy().tobytes())
        return cls(model, chosen, catalog.class_names, mean, std, digest.hexdigest()[:16])

    def below_head(self) -> Checkpoint:
        """The same network compared by what lies below its last layer, under a name of its own."""
        chosen = self.recipe.but(name=f"{self.recipe.name}_features")
        return replace(self, model=BelowHead(self.model), recipe=chosen, hash=f"{self.hash}-below")

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


def statistics_of(chosen: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that a recipe names for its photos, per channel in 0…1."""
    if chosen.statistics == "data":
        raise RunError(f"{chosen.name}: the statistics of the data are known when it trains")
    own = chosen.statistics == "model"
    return STATISTICS[BACKBONES[chosen.model].statistics if own else chosen.statistics]


def make_network(chosen: Recipe, num_classes: int, begin: bool = False) -> torch.nn.Module:
    """The network of a recipe: as training begins, pretrained where asked, or random."""
    channels = 1 if chosen.grayscale else 3
    outputs = chosen.embedding or num_classes
    if chosen.model in MODELS:
        network = build_model(chosen.model, outputs, channels)
    else:
        pretrained = begin and chosen.weights == "pretrained"
        network = build_backbone(chosen.model, outputs, channels, chosen.head, pretrained)
    return Embedder(network) if chosen.embedding else network


# --- runs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One training: a recipe on a catalog, and the folder that keeps what came of it."""

    folder: Path
    recipe: Recipe

    @classmethod
    def of(cls, chosen: Recipe, catalog: Catalog, folder: Path | str | None = None) -> Run:
        """The run folder that belongs to this recipe, seed and catalog, whether it exists or not.

        A folder given by name that already holds another recipe or catalog is refused.
        """
        key = hashlib.sha256(f"{chosen.hash}{catalog.fingerprint}".encode()).hexdigest()[:8]
        named = f"{chosen.name}-{catalog.name}-seed{chosen.seed}-{key}"
        run = cls(Path(folder) if folder else runs_root() / named, chosen)
        if run._text("recipe.json", recipe_from_json, chosen).hash != chosen.hash:
            raise RunError(f"{run.folder}: holds another recipe; choose another folder")
        if run._text("data.json", json.loads, _data(catalog)) != _data(catalog):
            raise RunError(
                f"{run.folder}: was begun with another catalog or split; choose another folder"
            )
        return run

    def claim(self, catalog: Catalog) -> None:
        """Say in the folder which recipe and catalog it belongs to; sweep after a killed run."""
        for half_written in self.folder.glob("*.tmp"):
            half_written.unlink()
        write_atomically(self.folder / "recipe.json", self.recipe.to_json())
        write_atomically(self.folder / "data.json", json.dumps(_data(catalog)))

    def _text(self, name: str, parse: Callable[[str], Any], default: Any) -> Any:
        """A parsed file of the folder, the default where there is none."""
        path = self.folder / name
        try:
            return parse(path.read_text()) if path.exists() else default
        except (RecipeError, ValueError) as error:
            raise RunError(f"{path}: {error}; delete the folder to train again") from None

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def state(self) -> Path:
        return self.folder / "state.safetensors"

    @property
    def finished(self) -> bool:
        return (self.folder / "finished.json").exists()

    @property
    def summary(self) -> dict[str, Any]:
        """What the training said when it finished: seconds, epochs, best epoch and metrics."""
        path = self.folder / "finished.json"
        if not path.exists():
            raise RunError(f"{self.folder}: this run has not finished; train it first")
        return json.loads(path.read_text())

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write `metrics.csv`, one row per epoch."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = [columns, *([row.get(key, "") for key in columns] for row in rows)]
        text = "\n".join(",".join(str(value) for value in line) for line in lines)
        write_atomically(self.folder / "metrics.csv", text + "\n")

    def history(self) -> list[dict[str, float]]:
        """The rows of `metrics.csv`, empty values left out."""
        path = self.folder / "metrics.csv"
        if not path.exists():
            raise RunError(f"{path}: no such file; this run has not ended an epoch yet")
        with path.open() as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def _data(catalog: Catalog) -> dict[str, str]:
    return {"catalog": catalog.name, "fingerprint": catalog.fingerprint}


# --- records ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """One finished evaluation or benchmark, as committed under data/results."""

    kind: str  # "evaluation", "benchmark", "audit" …
    name: str  # file name without ending, such as "scratch_cpu-stanford-cars-seed0-val"
    data: dict[str, Any]  # catalog name, fingerprint, split, split hash, number of photos
    metrics: dict[str, Any]  # numbers; intervals as [low, high] under "<name>_interval"
    recipe: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None
    per_class: list[dict[str, Any]] | None = None
    history: list[dict[str, float]] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=lambda: hardware())
    versions: dict[str, str] = field(default_factory=lambda: versions())
    commit: str = field(default_factory=lambda: commit())
    command: str = ""
    made: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    def write(self, folder: Path | None = None) -> Path:
        """Write the record as JSON into the results folder and give its path.

        Of several processes the main one writes.
        """
        folder = folder or results_root()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        try:
            text = json.dumps(_rounded(asdict(self)), indent=1, allow_nan=False)
        except ValueError:
            raise RunError(
                f"{self.name}: a value is not a finite number; see its metrics"
            ) from None
        if is_main():
            write_atomically(path, text + "\n")
        return path


def load_records(folder: Path | None = None, kind: str | None = None) -> list[Record]:
    """All records of a folder, by name; those of one kind if asked."""
    records = [read_record(path) for path in sorted((folder or results_root()).glob("*.json"))]
    return [r for r in records if kind is None or r.kind == kind]


def read_record(path: Path) -> Record:
    """One record; `RunError` names a file that is not one."""
    try:
        return Record(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:  # no JSON, no text, no object of these fields
        raise RunError(f"{path}: not a record ({error}); make it again") from None


def audit_record(found: Audit, catalog: Catalog) -> Record:
    """The record of an audit: its summary as metrics, photos per class and split as an extra."""
    copies = found.copies()
    return Record(
        kind="audit",
        name=f"audit-{catalog.name}",
        data={
            "catalog": catalog.name,
            "fingerprint": catalog.fingerprint,
            "photos": len(catalog),
            "classes": catalog.num_classes,
            "split_hashes": {name: catalog.split_hash(name) for name in catalog.split_sizes},
        },
        metrics=found.summary(),
        extra={
            "class_counts": [
                {"class": name, **counts}
                for name, counts in found.class_counts.to_dict(orient="index").items()
            ],
            "copy_groups": {
                "exact": int((copies["kind"] == "exact").sum()),
                "near": int((copies["kind"] == "near").sum()),
                "across splits": int(copies["leaks"].sum()),
            },
        },
        command=command_line(),
    )


def append_to_ledger(entry: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Note that a test split was opened: one JSON line, appended, never rewritten."""
    folder = folder or results_root()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "test_ledger.jsonl"
    if is_main():
        with path.open("a") as file:
            file.write(json.dumps(_rounded(dict(entry))) + "\n")
    return path


def _rounded(value: Any) -> Any:
    """Six significant digits: enough for every table, and no noise in the diffs."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_rounded(item) for item in value]
    return value


def hardware() -> dict[str, Any]:
    """What this was computed on: processor, cores, memory in GiB, GPU."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "memory_gib": round(memory), "gpu": gpu}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The checkout's commit, "+" added when files differ from it; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(here, "status", "--porcelain", "--", str(here)) else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def command_line() -> str:
    """The command that is running, without this machine's paths."""
    return " ".join(
        [Path(sys.argv[0]).name, *(Path(a).name if "/" in a else a for a in sys.argv[1:])]
    )
