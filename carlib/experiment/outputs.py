"""What a network said of photos, as a small file that records are computed from.

A reader without the photos can analyse it as if the network had just been asked: logits in half
precision or embeddings in bytes, and which photos they are of, but no pixel. A file is named after
the first digits of its SHA-256, which its records hold, so two records of the same points share one
file and none can be about other numbers than it was computed from. Reading one needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load, save

from carlib.data.catalog import Catalog
from carlib.data.table import DTYPES, labels_of, photo_stem
from carlib.errors import RunError
from carlib.experiment.record import Record
from carlib.files import digits_of, read_file
from carlib.paths import outputs_of, results_root

LARGEST = 13_000_000  # bytes of one file
POINTS = ("embeddings", "gallery")  # tensors that a file keeps in bytes
PHOTO = ("label", "class_name", "make", "model", "year", "body")  # and the file's stem
CLASS = ("class_name", "make", "model", "year", "body")
TYPES = DTYPES | {"stem": "string", "train": "Int64"}


@dataclass(frozen=True)
class Outputs:
    """Tensors, and which photos their rows are of."""

    # "with_mirror" (photos,) int16, answers of the mean with the mirror image;
    # "logits" (photos, classes) and "epochs" (epochs, photos, classes), float16; "embeddings"
    # (photos, dims) and "gallery" (photos, dims), float32 as `in_bytes` rounds them (float16 in
    # older files); and pairs of photos by difficulty, "fitting", "easy" … (pairs, 2) int32, rows of
    # the embeddings
    tensors: Mapping[str, np.ndarray]
    table: pd.DataFrame  # a row per photo: stem, label and PHOTO; what is unknown is missing
    gallery: pd.DataFrame | None = None  # the same of the gallery's photos
    classes: pd.DataFrame | None = None  # a row per label: CLASS, `train` (photos learned from)
    about: Mapping[str, object] = field(default_factory=dict)  # whose they are, for people

    def __post_init__(self) -> None:
        for name, values in self.tensors.items():
            if not np.isfinite(values).all():
                raise RunError(f"{name} are not finite in half precision: the network has diverged")

    @property
    def labels(self) -> np.ndarray:
        """Labels int64 (photos,), −1 where unknown."""
        return labels_of(self.table)

    def to_bytes(self) -> bytes:
        """The file's content: safetensors with the tables in its header."""
        tables = {"photos": self.table, "gallery": self.gallery, "classes": self.classes}
        about = {name: _told(table) for name, table in tables.items() if table is not None}
        text = json.dumps({"about": dict(self.about), **about})
        ready: dict[str, np.ndarray] = {}
        for name, values in self.tensors.items():
            ready |= _packed(name, values) if name in POINTS else {name: values}
        return save({n: np.ascontiguousarray(v) for n, v in ready.items()}, {"carlib": text})

    @classmethod
    def from_bytes(cls, data: bytes) -> Outputs:
        """What `to_bytes` made; `ValueError` for anything else."""
        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            told = json.loads(header["__metadata__"]["carlib"])
            names = ("photos", "gallery", "classes")
            table, gallery, classes = (_table(told[name]) if name in told else None
                                       for name in names)  # fmt: skip
            return cls(_unpacked(tensors), table, gallery, classes, told["about"])
        except (SafetensorError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no outputs of carlib ({error})") from None


def half(values: np.ndarray) -> np.ndarray:
    """In half precision, as outputs are kept; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float16)


def in_bytes(values: np.ndarray) -> np.ndarray:
    """Points (photos, dims) float32 as outputs keep them: in each dim the nearest of 256 evenly
    spaced values between its smallest and its largest.
    """
    values = np.asarray(values, np.float32)
    step = _steps(values)
    return np.rint(values / step) * step


def _steps(values: np.ndarray) -> np.ndarray:
    """Spacing of each dim's values, (dims,) float32, powers of two: so nothing is lost by rounding
    twice.
    """
    if not len(values) or not np.isfinite(values).all():
        return np.ones(values.shape[1], np.float32)  # `Outputs` says what is wrong with them
    low, high = values.min(0).astype(float), values.max(0).astype(float)
    least = np.maximum(np.abs(values).max(0) * 2.0**-22, 2.0**-100)  # that float32 can tell apart
    step = np.exp2(np.ceil(np.log2(np.maximum((high - low) / 255, least))))
    step = np.where(np.rint(high / step) - np.rint(low / step) > 255, 2 * step, step)
    return step.astype(np.float32)


def _packed(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Points as a file has them: a byte per number, and per dim its step and where it begins."""
    if values.dtype == np.float16:  # an older file's
        return {name: values}
    step = _steps(values)
    steps = np.rint(values / step).astype(np.int32)
    low = steps.min(0) if len(steps) else np.zeros(values.shape[1], np.int32)
    return {name: (steps - low).astype(np.uint8), f"{name}.low": low, f"{name}.step": step}


def _unpacked(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A file's tensors with points as numbers again."""
    found = {name: values for name, values in tensors.items() if "." not in name}
    for name in POINTS:
        if f"{name}.step" in tensors:
            steps = found[name].astype(np.int32) + tensors[f"{name}.low"]
            found[name] = steps.astype(np.float32) * tensors[f"{name}.step"]
    return found


def photo_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a catalog as outputs tell them: who is on a photo, and its file's stem."""
    stems = pd.Series([photo_stem(path) for path in rows["path"]], dtype="string")
    return pd.concat([stems.rename("stem"), rows[list(PHOTO)].reset_index(drop=True)], axis=1)


def class_table(catalog: Catalog) -> pd.DataFrame:
    """A catalog's classes, one row per label: name, make, model, year, body (missing where
    unknown), as the first photo of the class has them.
    """
    first = catalog.table.dropna(subset=["label"]).drop_duplicates("label").set_index("label")
    table = first[list(CLASS)].reindex(range(catalog.num_classes)).reset_index(drop=True)
    return table.assign(class_name=pd.array(catalog.class_names, "string"))


def kept_of(outputs: Outputs) -> bytes:
    """Outputs as a record takes them; `RunError` where the file would be larger than LARGEST."""
    data = outputs.to_bytes()
    if len(data) > LARGEST:
        raise RunError(
            f"outputs of {len(outputs.table):,} photos would take {len(data):,} bytes; at most "
            f"{LARGEST:,} are kept: score fewer photos, or keep none"
        )
    return data


def read_outputs(record: Record, folder: Path | None = None) -> Outputs:
    """What a record was computed from; `folder` holds the record, the results folder by default.

    Raises `RunError` where the record keeps none, or its file is missing, cut or another one.
    """
    if not record.outputs:
        raise RunError(f"{record.name}: keeps no outputs; score it again, and keep them (--keep)")
    path = outputs_of(folder or results_root()) / f"{record.outputs}.safetensors"
    mend = f"fetch it again, or score it again ({record.command or 'see its record'})"
    try:
        data = record.outputs_file or read_file(path)
        if digits_of(data) != record.outputs:
            raise RunError(f"{path}: not what {record.name} was computed from; {mend}")
        return Outputs.from_bytes(data)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); {mend}") from None
    except ValueError as error:
        raise RunError(f"{path}: {error}; {mend}") from None


def _told(table: pd.DataFrame) -> dict[str, list]:
    """A table as JSON: of every column its values, once each, and which of them a row has."""
    columns = {name: pd.factorize(table[name]) for name in table}
    return {name: [values.tolist(), codes.tolist()] for name, (codes, values) in columns.items()}


def _table(told: dict[str, list]) -> pd.DataFrame:
    """What `_told` told; code −1 is a missing value."""
    columns = {name: pd.Series(values, dtype=TYPES[name]).reindex(codes).array
               for name, (values, codes) in told.items()}  # fmt: skip
    return pd.DataFrame(columns)
