"""Photos decoded once and kept: every one framed, in a memory-mapped file.

Decoding a JPEG costs more than a small network's forward pass. Pixels are always RGB, whatever the
file holds.
"""

from __future__ import annotations

import glob
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm.auto import tqdm

from carlib.data.catalog import Catalog
from carlib.data.digests import UNREADABLE, digest_of
from carlib.data.framing import Framing
from carlib.data.images import decode_photo
from carlib.data.table import boxes_of, digest_of_lines
from carlib.errors import DataError, PhotoError
from carlib.files import made, read_json, write_atomically, writing
from carlib.paths import cache_root, file_name
from carlib.runtime import cores, one_thread_a_photo

CHUNK = 256  # photos per check sum: small enough to find damage, large enough to be quick


@dataclass(frozen=True)
class PhotoStore:
    """Every usable photo of a catalog, framed, as one uint8 array (photos, size, size, 3).

    `pixels[i]` belongs to row `rows[i]` of the catalog, and `digests[i]` to the bytes it was
    decoded from; rows whose photo cannot be read are left out and named in `left_out` (path →
    reason), never replaced by something else. `key` says what is in the store: other photos or
    another framing have another, and so have the same photos in another order.
    """

    catalog: Catalog
    framing: Framing
    pixels: np.ndarray
    rows: np.ndarray
    left_out: dict[str, str]
    digests: np.ndarray
    key: str
    fingerprint: str  # the catalog's, with the photos as they were decoded

    @classmethod
    def open(cls, catalog: Catalog, framing: Framing, progress: bool = True) -> PhotoStore:
        """Map the store of this catalog and framing, building it first when missing or damaged.

        A photo that was replaced or repaired since makes another store. Several processes may call
        this at once: one builds under a file lock, the others wait. Raises `DataError` when no
        photo can be read, or when one changes while it is.
        """
        folder = made(cache_root() / "photos")
        digests = catalog.digests
        key = _key(catalog, digests, framing)
        stem = folder / file_name(catalog.name, f"{framing.size}px", key)
        with writing(folder), FileLock(f"{stem}.lock"):
            meta = _read_meta(stem)
            if meta is None:
                meta = _build(stem, catalog, framing, digests, progress)
        rows = np.asarray(meta["rows"], np.int64)
        shape = (len(rows), framing.size, framing.size, 3)
        pixels = np.memmap(f"{stem}.u8", np.uint8, "r", shape=shape) if len(rows) else None
        if pixels is None:
            first = next(iter(meta["left_out"].items()), ("the catalog", "is empty"))
            raise DataError(f"{catalog.name}: no photo can be read; first: {': '.join(first)}")
        return cls(
            catalog, framing, pixels, rows, meta["left_out"], digests[rows], key,
            catalog.fingerprint_of(digests),
        )  # fmt: skip

    def __getstate__(self) -> dict:
        """A worker process maps the file again, instead of being sent all its bytes."""
        return vars(self) | {"pixels": (self.pixels.filename, self.pixels.shape)}

    def __setstate__(self, state: dict) -> None:
        file, shape = state["pixels"]
        vars(self).update(state, pixels=np.memmap(file, np.uint8, "r", shape=shape))

    @property
    def labels(self) -> np.ndarray:
        """0-based labels of the kept photos, int64, −1 where the catalog has none."""
        return self.catalog.labels[self.rows]

    def positions(self, split: str) -> np.ndarray:
        """Positions (not catalog rows) of the kept photos of one split."""
        return np.flatnonzero((self.catalog.table["split"] == split).to_numpy(bool)[self.rows])

    def statistics(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the red, green and blue of some photos, within 0…1."""
        pixels = self.pixels[positions[:: max(1, len(positions) // 1000)]].reshape(-1, 3)
        counts = [np.bincount(channel, minlength=256) for channel in pixels.T]
        shares, levels = np.stack(counts) / max(1, len(pixels)), np.arange(256) / 255
        mean = shares @ levels
        return mean, np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))


def _key(catalog: Catalog, digests: np.ndarray, framing: Framing) -> str:
    """16 hex digits over the photos in the order of their rows, their boxes, and the framing.

    Labels and splits are not in it: catalogs that differ in those share one store.
    """
    boxes = boxes_of(catalog.table).tolist()
    rows = zip(catalog.table["path"], digests, boxes, strict=True)
    return digest_of_lines([f"v4|{framing}", *(f"{p}|{d}|{box}" for p, d, box in rows)])


def _read_meta(stem: Path) -> dict | None:
    """The store's description if it is whole: every chunk's check sum must agree."""
    try:
        meta = read_json(f"{stem}.json")
        if Path(f"{stem}.u8").stat().st_size != meta["bytes"]:
            return None
        sums = _check_sums(np.memmap(f"{stem}.u8", np.uint8, "r"), meta["chunk_bytes"])
        return meta if sums == meta["check_sums"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_sums(flat: np.ndarray, chunk: int) -> list[int]:
    return [zlib.crc32(flat[start : start + chunk]) for start in range(0, len(flat), chunk)]


def _build(
    stem: Path, catalog: Catalog, framing: Framing, digests: np.ndarray, progress: bool
) -> dict:
    for half_written in stem.parent.glob(f"{glob.escape(stem.name)}.*.tmp"):  # by killed processes
        half_written.unlink(missing_ok=True)
    temporary = Path(f"{stem}.{os.getpid()}.tmp")
    rows, left_out, written = [], {}, 0
    try:
        with temporary.open("wb") as file:
            for row, (result, digest) in enumerate(_framed(catalog, framing, progress)):
                if digest != digests[row]:
                    raise DataError(
                        f"{catalog.root / catalog.table['path'].iloc[row]}: changed while it was "
                        f"read; start again when nothing writes to the folder"
                    )
                if isinstance(result, PhotoError):
                    left_out[catalog.table["path"].iloc[row]] = str(result)
                else:
                    written += file.write(result.tobytes())
                    rows.append(row)
        chunk = CHUNK * framing.size**2 * 3
        flat = np.memmap(temporary, np.uint8, "r") if written else np.empty(0, np.uint8)
        meta = {"bytes": written, "chunk_bytes": chunk, "check_sums": _check_sums(flat, chunk)}
        meta |= {"rows": rows, "left_out": left_out}
        del flat  # Windows renames no file that is mapped
        with writing(f"{stem}.u8"):
            os.replace(temporary, f"{stem}.u8")
        write_atomically(Path(f"{stem}.json"), json.dumps(meta))
        return meta
    finally:
        temporary.unlink(missing_ok=True)


def _framed(
    catalog: Catalog, framing: Framing, progress: bool
) -> Iterator[tuple[np.ndarray | PhotoError, str]]:
    """Framed photos and their bytes' digests, in the order of the rows.

    Decoded in threads: Pillow and OpenCV release the lock.
    """
    paths = catalog.table["path"].tolist()
    boxes = boxes_of(catalog.table)

    one_thread_a_photo()

    def frame(row: int) -> tuple[np.ndarray | PhotoError, str]:
        digest = UNREADABLE
        try:
            data = catalog.source.read(paths[row])
            digest = digest_of(data)
            free = bool(np.isnan(boxes[row]).all())  # a box is in stored pixels
            photo = decode_photo(data, paths[row], upright=free, shrink=free)
            return framing.apply(photo, tuple(boxes[row])), digest
        except PhotoError as error:
            return error, digest

    with ThreadPoolExecutor(cores()) as pool:
        bar = tqdm(total=len(paths), desc="decoding", unit="photo", disable=not progress)
        for start in range(0, len(paths), CHUNK):  # in chunks, so that memory stays bounded
            for result in pool.map(frame, range(start, min(start + CHUNK, len(paths)))):
                bar.update()
                yield result
        bar.close()
