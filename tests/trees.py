"""Small data sets on disk in every layout that carlib reads; the photos are drawn, not taken."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
from PIL import Image

CLASSES = ("Acura RL Sedan 2012", "Acura Integra Type R 2001", "Ram C/V Cargo Van Minivan 2012")
WIDTH, HEIGHT = 96, 72

Row = tuple[str, int, tuple[int, int, int, int]]  # file, class from 1, box from 1 inclusive


def photo(seed: int, width: int = WIDTH, height: int = HEIGHT, kind: str = "JPEG") -> bytes:
    """A patchwork of 6 x 8 random colors: no two seeds look alike."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)
    return encoded(image, kind)


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=90)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def devkit_rows(per_class: int = 4, first: int = 1) -> list[Row]:
    count = per_class * len(CLASSES)
    return [(f"{first + i:05d}.jpg", i % len(CLASSES) + 1, (3, 5, 90, 70)) for i in range(count)]


def save_annotations(path: Path, rows: list[Row], labelled: bool = True, **more: list) -> None:
    """An annotation file as the devkit has it: a struct array of 1-based boxes and classes."""
    columns = {
        f"bbox_{c}": [row[2][i] for row in rows] for i, c in enumerate(("x1", "y1", "x2", "y2"))
    }
    if labelled:
        columns["class"] = [row[1] for row in rows]
    columns |= more or {"fname": [row[0] for row in rows]}
    table = np.empty((1, len(rows)), dtype=[(name, object) for name in columns])
    for name, values in columns.items():
        for i, value in enumerate(values):
            table[name][0, i] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = {"class_names": np.array([CLASSES], dtype=object)} if "test" in more else {}
    scipy.io.savemat(path, {"annotations": table, **extra})


def save_meta(path: Path, names: tuple[str, ...] = CLASSES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"class_names": np.array([names], dtype=object)})


def devkit(root: Path, per_class: int = 4, photos: str = "cars_train", kit: str = "devkit") -> Path:
    """A training split in the devkit's layout, or nested as told."""
    rows = devkit_rows(per_class)
    save_meta(root / kit / "cars_meta.mat")
    save_annotations(root / kit / "cars_train_annos.mat", rows)
    for seed, (name, _, _) in enumerate(rows):
        write(root / photos / name, photo(seed))
    return root


def class_folders(root: Path, names: tuple[str, ...] = CLASSES, per_class: int = 4) -> Path:
    """The same photos as `devkit` has, a folder per class."""
    for i in range(per_class * len(names)):
        folder = names[i % len(names)].replace("/", "-")
        write(root / folder / f"{i + 1:05d}.jpg", photo(i))
    return root


def parquet(
    file: Path, labels: list[int], names: tuple[str, ...] | None = CLASSES, stored: bool = True
) -> Path:
    """One split in the Hub's format, in row groups of 5."""
    images = [
        {"bytes": photo(i), "path": f"{i + 1:05d}.jpg" if stored else None}
        for i in range(len(labels))
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": pa.array(labels, pa.int64())})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names)}}
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=5)
    return file
