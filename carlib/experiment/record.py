"""One finished evaluation or benchmark as a JSON file under data/results.

Tables, figures and the report read records and nothing else, and reading one needs no torch. What a
record is about is its `identity`: which recipe, photos, split, weights and way of scoring. Its file
name follows from that, and nothing is ever parsed back out of a name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from carlib.distributed import is_main
from carlib.errors import RunError
from carlib.experiment.host import commit, hardware, versions
from carlib.files import checked, digits_of, made, read_json, write_atomically, writing
from carlib.paths import file_name, outputs_of, results_root

DATA = ("fingerprint", "split", "split_hash")  # what identifies the photos that were scored
SHAPE = {"kind": str, "data": dict, "metrics": dict, "outputs_file": NoneType} | {
    name: (kind, NoneType)
    for kind, names in {
        str: ("topic", "recipe_hash", "method", "commit", "command", "made", "name", "outputs"),
        dict: ("scoring", "recipe", "checkpoint", "extra", "timing", "hardware", "versions"),
        list: ("per_class", "history"),
    }.items()
    for name in names
}
# What identifies the weights of a recipe: trained again on these photos, they are the same thing.
WEIGHTS = ("kept", "trained_on")


@dataclass(frozen=True)
class Record:
    """What one evaluation, study, audit or benchmark found."""

    kind: str  # "evaluation", "benchmark", "audit" …
    data: dict[str, Any]  # catalog name, fingerprint, split, split hash, number of photos
    metrics: dict[str, Any]  # numbers; intervals as [low, high] under "<name>_interval"
    topic: str = ""  # what of its kind: "search" among benchmarks, "unseen" classes of retrieval
    scoring: dict[str, Any] = field(default_factory=dict)  # how: views, side of a photo, layer …
    recipe: dict[str, Any] | None = None
    recipe_hash: str = ""  # of the recipe with its seed, see `Recipe.hash`
    method: str = ""  # of the recipe without its seed, see `Recipe.method`
    checkpoint: dict[str, Any] | None = None  # as `Checkpoint.told` says
    per_class: list[dict[str, Any]] | None = None
    history: list[dict[str, float]] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=hardware)
    versions: dict[str, str] = field(default_factory=versions)
    commit: str = field(default_factory=commit)
    command: str = ""
    made: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    name: str = ""  # of the file without ending; follows from the rest where it is not given
    outputs: str = ""  # digits of the file that this was computed from, "" where none is kept
    # That file, of a record that is not written yet: see `carlib.experiment.outputs`.
    outputs_file: bytes = field(default=b"", repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.outputs_file:
            object.__setattr__(self, "outputs", digits_of(self.outputs_file))
        if self.recipe is not None and not self.recipe_hash:
            from carlib.experiment.recipe import hash_of

            object.__setattr__(self, "recipe_hash", hash_of(self.recipe))
            object.__setattr__(self, "method", hash_of(self.recipe, without=("seed",)))
        if not self.name:
            object.__setattr__(self, "name", self._file_name())

    @property
    def identity(self) -> dict[str, Any]:
        """What this record is about; two records of equal identity are one thing, scored twice."""
        told = self.checkpoint or {}
        weights = [told.get(key, "") for key in WEIGHTS]
        if told and not told.get("trained_on"):  # nothing else says which weights these are
            weights.append(told["hash"])
        return {
            "kind": self.kind,
            "topic": self.topic,
            "scoring": plain(self.scoring),
            "recipe": self.recipe_hash,
            "weights": weights,
            "data": [self.data.get(key, "") for key in DATA],
        }

    def _file_name(self) -> str:
        """For people what it is about in words, and the digits that tell it from all others."""
        recipe, weights = self.recipe or {}, self.checkpoint or {}
        kept = weights.get("kept", "")
        digits = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:8]
        how = (
            "" if kept in (recipe.get("keep", "best"), self.kind) else kept,
            self.scoring.get("points", ""),
        )
        seed = f"seed{recipe['seed']}" if "seed" in recipe and weights else ""
        where = (self.data.get("catalog", ""), seed)
        return file_name(self.kind, self.topic, recipe.get("name", ""), *how, *where, digits)

    def write(self, folder: Path | None = None) -> Path:
        """Write the record as JSON into the results folder and give its path.

        Its outputs are written first, under a name that follows from their content, so that a kill
        between the two files leaves the earlier record with what belongs to it. Of several
        processes the main one writes. What was scored again takes the place of its earlier record;
        `RunError` where the file holds the record of something else, or one that keeps outputs
        which this one lacks.
        """
        folder = folder or results_root()
        path = folder / f"{self.name}.json"
        if path.name != f"{self.name}.json":
            raise RunError(f"{self.name!r} is no name of a record: it leads out of {folder}")
        values = {key: value for key, value in vars(self).items() if key != "outputs_file"}
        try:
            text = json.dumps(plain(values), indent=1, allow_nan=False)
        except ValueError:
            raise RunError(
                f"{self.name}: a value is not a finite number; see its metrics"
            ) from None
        if is_main():
            made(folder)
            earlier = self._replaced(path)
            if self.outputs_file:
                kept = made(outputs_of(folder)) / f"{self.outputs}.safetensors"
                write_atomically(kept, self.outputs_file)
            write_atomically(path, text + "\n")
            if earlier not in ("", self.outputs) and not _is_used(earlier, folder):
                (outputs_of(folder) / f"{earlier}.safetensors").unlink(missing_ok=True)
        return path

    def _replaced(self, path: Path) -> str:
        """Outputs of the record that this one takes the place of; `RunError` where it may not."""
        if not path.exists():
            return ""
        earlier = read_record(path)
        if odd := self._differs_from(earlier):
            raise RunError(
                f"{path}: is the record of something else ({', '.join(odd)} differ); it stays. "
                f"Give this one another name"
            )
        if earlier.outputs and not self.outputs:
            raise RunError(
                f"{path}: keeps outputs, which would be lost; it stays. Keep them (--keep), or "
                f"delete it first"
            )
        return earlier.outputs

    def _differs_from(self, other: Record) -> list[str]:
        mine, theirs = self.identity, other.identity
        return [key for key in mine if mine[key] != theirs[key]]


def _is_used(outputs: str, folder: Path) -> bool:
    """Does a record of the folder belong to this file of outputs?"""
    mark = f'"outputs": "{outputs}"'.encode()
    return any(mark in path.read_bytes() for path in folder.glob("*.json"))


def load_records(folder: Path | None = None, kind: str | None = None) -> list[Record]:
    """All records of a folder, by name; those of one kind if asked."""
    records = [read_record(path) for path in sorted((folder or results_root()).glob("*.json"))]
    return [r for r in records if kind is None or r.kind == kind]


def read_record(path: Path) -> Record:
    """One record; `RunError` names a file that is not one."""
    try:
        return Record(**checked(read_json(path), **SHAPE))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError) as error:  # no JSON, no text, no object of these fields
        raise RunError(f"{path}: not a record ({error}); delete it, and make it again") from None


def the_one(
    records: Sequence[Record], kind: str, topic: str = "", dataset: str | None = None
) -> Record | None:
    """The record of a kind and topic (of a data set, see `Catalog.extras`), None where none is.

    Raises `RunError` where there are several, so that none is taken for another.
    """
    matching = [
        record
        for record in records
        if (record.kind, record.topic) == (kind, topic)
        and dataset in (None, record.data.get("dataset"))
    ]
    if len(matching) > 1:
        names = " and ".join(record.name for record in matching)
        raise RunError(f"several records say the same: {names}; keep one of them")
    return matching[0] if matching else None


def judged_by(history: Sequence[Mapping[str, float]]) -> str:
    """Which photos the epochs of a history were scored on: "dev", which may choose, or "val"."""
    return "dev" if any("dev_loss" in row or "dev_accuracy" in row for row in history) else "val"


def append_to_ledger(entry: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Note that a test split was opened: one JSON line, appended, never rewritten."""
    folder = folder or results_root()
    path = made(folder) / "test_ledger.jsonl"
    try:
        line = json.dumps(plain(dict(entry)), allow_nan=False) + "\n"
    except ValueError:
        raise RunError(f"{path}: a value is not a finite number: {entry}") from None
    if is_main():
        with writing(path), path.open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            cut = end and file.read(1) != b"\n"  # by a kill, or a disk that was full
            try:
                file.write(("\n" * bool(cut) + line).encode())
            except OSError:
                file.truncate(end)
                raise
    return path


def plain(value: Any) -> Any:
    """As JSON has it, numbers with six significant digits: enough for every table, and no noise in
    the diffs.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value
