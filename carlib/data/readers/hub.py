"""The Hub's copy: parquet files with the columns `image` {bytes, path} and `label`.

One split per file name, "<split>-00000-of-00001.parquet": train, test, and in
tanganke/stanford_cars seven corrupted test sets (contrast, gaussian_noise, ...).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from carlib.data.catalog import Catalog, recognized
from carlib.data.class_names import canonical_order, stanford_class_names, true_name
from carlib.data.readers import class_folders
from carlib.data.sources import ParquetSource
from carlib.data.table import SPLITS
from carlib.errors import DataError
from carlib.files import check_regular

LOOKS_FOR = (
    "parquet files of the Hub: data/<split>-00000-of-00001.parquet with the columns image and label"
)

MOST_CLASSES = 1_000_000  # more is a damaged label
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?:-[0-9a-f]+)?")


def detect(root: Path) -> bool:
    """True for a parquet file, and for a folder holding some, unless it is one of class folders
    and the files hold no photos.
    """
    files = _files(root)
    if root.is_file() or not files:
        return bool(files)
    return any(map(_may_hold_photos, files)) or not class_folders.detect(root)


def _may_hold_photos(file: Path) -> bool:
    try:
        check_regular(file)
        return "image" in pq.read_schema(file).names
    except (OSError, pa.ArrowInvalid):
        return False


def read(root: Path) -> Catalog:
    """Read labels and photo names; the photos themselves stay in the files until asked for."""
    files = _files(root)
    folder = root.parent if root.is_file() else root
    if not root.is_file():
        _check_shards(files)
    source = ParquetSource(folder)
    parts, names = [], None
    for file in files:
        columns, names_here = _labels(file)
        if names is not None and names_here != names:
            raise DataError(
                f"{file}: its class names differ from those of {files[0]}. Keep the files of one "
                f"data set in a folder."
            )
        names = names_here
        relative = file.relative_to(folder).as_posix()
        columns["path"] = [f"{relative}#{photo}" for photo in source.photo_names(relative)]
        columns["split"] = _split(file)
        parts.append(columns)
    rows = pd.concat(parts, ignore_index=True)
    stated = names or _names_of_labels(files[0], rows["label"])
    class_names = canonical_order(true_name(name) for name in stated)
    rows["label"] = _relabel(files, rows["label"], stated, class_names)
    name = recognized(class_names).dataset or folder.resolve().name
    return Catalog.from_rows(rows, class_names, name, source)


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix == ".parquet" else []
    layouts = ("data/*", "*", "*/*", "*/*/*")  # the last two: train/0000, default/train/0000
    found = (sorted(root.glob(f"{layout}.parquet")) for layout in layouts)
    return next((files for files in found if files), [])


def _split(file: Path) -> str:
    match = _SHARD.fullmatch(file.stem)
    split = match["split"] if match else file.parent.name if file.stem.isdigit() else file.stem
    return SPLITS.get(split.lower(), split)


def _check_shards(files: list[Path]) -> None:
    """A split in parts must be whole: half a download would pass for a small data set."""
    there = [(file, match) for file in files if (match := _SHARD.fullmatch(file.stem))]
    parts = {(match["split"], int(match["number"])) for _, match in there}
    for file, match in there:
        for number in range(int(match["total"])):
            if (match["split"], number) not in parts:
                part = f"{match['split']}-{number:05d}-of-{match['total']}.parquet"
                raise DataError(f"{file.parent / part}: missing. Download it as well.")


def _labels(file: Path) -> tuple[pd.DataFrame, tuple[str, ...] | None]:
    """The labels of a file, and its class names where its metadata states them."""
    try:
        check_regular(file)
        schema = pq.read_schema(file)
        _check_columns(file, schema)
        labels = pq.read_table(file, columns=["label"]).column("label")
        photos = len(labels) - _without_bytes(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{file}: cannot be read as parquet ({error}). Download it again."
        ) from error
    if labels.null_count or not len(labels):
        raise DataError(f"{file}: it has no rows, or rows without a label. Download it again.")
    if not photos:
        raise DataError(
            f"{file}: names photos and holds no bytes of them. Fetch it with its images."
        )
    names = _stated_names(schema.metadata or {})
    if names and len(set(names)) < len(names):
        raise DataError(f"{file}: names a class twice. Correct its metadata, or remove them.")
    return pd.DataFrame({"label": labels.to_numpy()}), names


def _without_bytes(file: Path) -> int:
    """How many of a file's rows have no photo, as its footer says."""
    footer, rows = pq.read_metadata(file), 0
    for group in range(footer.num_row_groups):
        columns = (footer.row_group(group).column(n) for n in range(footer.num_columns))
        told = next(column for column in columns if column.path_in_schema == "image.bytes")
        rows += told.statistics.null_count if told.is_stats_set else 0
    return rows


def _check_columns(file: Path, schema: pa.Schema) -> None:
    image = schema.field("image").type if "image" in schema.names else None
    parts = {field.name for field in image} if pa.types.is_struct(image or pa.null()) else set()
    label = schema.field("label").type if "label" in schema.names else pa.null()
    whole = {"bytes", "path"} <= parts and pa.types.is_integer(label)
    encoded = whole and image.field("bytes").type
    if not whole or not (pa.types.is_binary(encoded) or pa.types.is_large_binary(encoded)):
        held = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise DataError(
            f"{file}: expected the columns image {{bytes, path}} and label (integer), found "
            f"{held}. Rename the columns, or export the data set as 'imagefolder'."
        )


def _stated_names(metadata: Mapping[bytes, bytes]) -> tuple[str, ...] | None:
    """Class names as the datasets library writes them into the schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = features["label"]["names"]
        told = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return tuple(names) if told else None
    except (KeyError, TypeError, ValueError):
        return None


def _names_of_labels(file: Path, labels: pd.Series) -> tuple[str, ...]:
    """Names for files that state none: exactly 0..195 is Stanford Cars, others stay numbers."""
    if set(labels) == set(range(len(stanford_class_names()))):
        return stanford_class_names()
    last = max(int(labels.max()), 0)
    if last > MOST_CLASSES:
        raise DataError(f"{file}: has label {last}; no data set has so many classes. Correct it.")
    return tuple(f"class {label}" for label in range(last + 1))


def _relabel(
    files: list[Path], labels: pd.Series, stated: tuple[str, ...], class_names: tuple[str, ...]
) -> np.ndarray:
    """Labels by our order of the classes, wherever the files sorted theirs otherwise."""
    wrong = labels[(labels < 0) | (labels >= len(stated))]
    if len(wrong):
        raise DataError(
            f"{files[0].parent}: row {wrong.index[0]} has label {wrong.iloc[0]}, outside "
            f"0..{len(stated) - 1}. Are the files of one data set?"
        )
    place = {name: label for label, name in enumerate(class_names)}
    return np.array([place[true_name(name)] for name in stated])[labels.to_numpy()]
