"""From bytes on disk to uint8 pixels in memory: decode, crop, resize, keep.

Decoding a JPEG costs more than a small network's forward pass, so every photo is decoded once and
kept in a memory-mapped file (`PhotoStore`). Pixels are always RGB, whatever the file holds.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from carlib.catalog import Catalog, boxes_of
from carlib.digests import UNREADABLE, digest_of
from carlib.errors import DataError, PhotoError
from carlib.paths import cache_root, file_name

cv2.setNumThreads(1)  # one photo per thread; nested pools only fight over the cores

LARGEST = 100_000_000  # pixels: more than cameras take; a small file can claim any number
CHUNK = 256  # photos per check sum: small enough to find damage, large enough to be quick


def decode_photo(data: bytes, name: str, upright: bool = False) -> np.ndarray:
    """Decode an image file to RGB, shape (height, width, 3), uint8.

    Greyscale, palette, CMYK and alpha are converted; of an animation the first picture is taken.
    The camera's orientation tag is not applied, since the data sets' boxes are in stored pixels,
    unless asked for `upright`. Raises `PhotoError` naming the file.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > LARGEST:
                raise Image.DecompressionBombError
            if upright:
                image = ImageOps.exif_transpose(image)
            if "transparency" in image.info:  # Pillow warns about a palette with alpha otherwise
                return np.asarray(image.convert("RGBA").convert("RGB"))
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise PhotoError(f"{name}: not an image file; remove it or fetch it again") from None
    except Image.DecompressionBombError:  # Pillow's own, or ours, which is stricter
        most = f"{LARGEST // 1_000_000} megapixels"
        raise PhotoError(f"{name}: claims more than {most}; make it smaller") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise PhotoError(f"{name}: damaged image ({error}); remove it or fetch it again") from error


@dataclass(frozen=True)
class Framing:
    """How a photo becomes a square: which part of it, and how it is fitted.

    `crop` is "whole" or "box" (the car's box, grown by `margin` of its width and height on every
    side, kept inside the photo). `fit` is "squash" (both sides stretched to the square) or
    "letterbox" (aspect kept, padded with grey).
    """

    size: int
    crop: str = "whole"
    margin: float = 0.0
    fit: str = "squash"

    def __post_init__(self) -> None:
        if self.size < 8:
            raise DataError(f"photo size {self.size} px is too small; use 8 or more")
        if self.crop not in ("whole", "box"):
            raise DataError(f"unknown crop {self.crop!r}; use 'whole' or 'box'")
        if self.fit not in ("squash", "letterbox"):
            raise DataError(f"unknown fit {self.fit!r}; use 'squash' or 'letterbox'")

    def region(self, width: int, height: int, box: tuple[float, ...] | None):
        """The kept part of a photo as 0-based half-open (x1, y1, x2, y2), inside the photo."""
        if self.crop == "whole" or box is None or np.isnan(box).any():
            return 0, 0, width, height
        x1, y1, x2, y2 = box
        grow_x, grow_y = self.margin * (x2 - x1), self.margin * (y2 - y1)
        left, top = max(0, round(x1 - grow_x)), max(0, round(y1 - grow_y))
        right, bottom = min(width, round(x2 + grow_x)), min(height, round(y2 + grow_y))
        return (
            (left, top, right, bottom) if right > left and bottom > top else (0, 0, width, height)
        )

    def apply(self, photo: np.ndarray, box: tuple[float, ...] | None = None) -> np.ndarray:
        """Frame one photo: (height, width, 3) uint8 in, (size, size, 3) uint8 out."""
        left, top, right, bottom = self.region(photo.shape[1], photo.shape[0], box)
        part = photo[top:bottom, left:right]
        x, y, width, height = self._place(part.shape[1], part.shape[0])
        square = np.full((self.size, self.size, 3), 128, np.uint8)
        square[y : y + height, x : x + width] = resize(part, width, height)
        return square

    def apply_to_mask(self, mask: np.ndarray, box: tuple[float, ...] | None = None) -> np.ndarray:
        """Frame a mask of ids: (height, width) uint8 in, (size, size) uint8 out, 0 in the padding.

        Every pixel takes the id that lies at its middle, since ids have no mean.
        """
        left, top, right, bottom = self.region(mask.shape[1], mask.shape[0], box)
        part = mask[top:bottom, left:right]
        x, y, width, height = self._place(part.shape[1], part.shape[0])
        square = np.zeros((self.size, self.size), np.uint8)
        square[y : y + height, x : x + width] = cv2.resize(
            part, (width, height), interpolation=cv2.INTER_NEAREST_EXACT
        )
        return square

    def undo(
        self, heat: np.ndarray, width: int, height: int, box: tuple[float, ...] | None = None
    ) -> np.ndarray:
        """Carry a map of the framed square back to the photo: (side, side) → (height, width).

        float32, zero where the network saw nothing of the photo. The map may have any side.
        """
        left, top, right, bottom = self.region(width, height, box)
        square = replace(self, size=max(8, heat.shape[0]))
        heat = cv2.resize(heat.astype(np.float32), (square.size, square.size))
        x, y, inner_width, inner_height = square._place(right - left, bottom - top)
        part = heat[y : y + inner_height, x : x + inner_width]
        photo = np.zeros((height, width), np.float32)
        photo[top:bottom, left:right] = cv2.resize(part, (right - left, bottom - top))
        return photo

    def _place(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Where a part of a photo lies in the square: left, top, width, height."""
        if self.fit == "squash":
            return 0, 0, self.size, self.size
        scale = self.size / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        return (self.size - width) // 2, (self.size - height) // 2, width, height


def resize(photo: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize with area averaging when shrinking, so that no detail turns into aliasing."""
    shrinking = width * height < photo.shape[0] * photo.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(photo, (width, height), interpolation=method)


@dataclass(frozen=True)
class PhotoStore:
    """Every usable photo of a catalog, framed, as one uint8 array (photos, size, size, 3).

    `pixels[i]` belongs to row `rows[i]` of the catalog, and `digests[i]` to the bytes it was
    decoded from; rows whose photo cannot be read are left out and named in `left_out` (path →
    reason), never replaced by something else. `key` says what is in the store: other photos or
    another framing have another.
    """

    catalog: Catalog
    framing: Framing
    pixels: np.ndarray
    rows: np.ndarray
    left_out: dict[str, str]
    digests: np.ndarray
    key: str

    @classmethod
    def open(cls, catalog: Catalog, framing: Framing, progress: bool = True) -> PhotoStore:
        """Map the store of this catalog and framing, building it first when missing or damaged.

        A photo that was replaced or repaired since makes another store. Several processes may call
        this at once: one builds under a file lock, the others wait. Raises `DataError` when no
        photo can be read, or when one changes while it is.
        """
        folder = cache_root() / "photos"
        folder.mkdir(parents=True, exist_ok=True)
        digests = catalog.digests
        key = _key(catalog.fingerprint_of(digests), framing)
        stem = folder / file_name(catalog.name, f"{framing.size}px", key)
        with FileLock(f"{stem}.lock"):
            meta = _read_meta(stem)
            if meta is None:
                meta = _build(stem, catalog, framing, digests, progress)
        rows = np.asarray(meta["rows"], np.int64)
        shape = (len(rows), framing.size, framing.size, 3)
        pixels = np.memmap(f"{stem}.u8", np.uint8, "r", shape=shape) if len(rows) else None
        if pixels is None:
            first = next(iter(meta["left_out"].items()), ("the catalog", "is empty"))
            raise DataError(f"{catalog.name}: no photo can be read; first: {': '.join(first)}")
        return cls(catalog, framing, pixels, rows, meta["left_out"], digests[rows], key)

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
        sample = positions[:: max(1, len(positions) // 1000)]
        pixels = self.pixels[sample].reshape(-1, 3) / 255.0
        return pixels.mean(0), pixels.std(0)


def _key(fingerprint: str, framing: Framing) -> str:
    return hashlib.sha256(f"v2|{fingerprint}|{framing}".encode()).hexdigest()[:16]


def _read_meta(stem: Path) -> dict | None:
    """The store's description if it is whole: every chunk's check sum must agree."""
    try:
        meta = json.loads(Path(f"{stem}.json").read_text())
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
        os.replace(temporary, f"{stem}.u8")
        _write_text(Path(f"{stem}.json"), json.dumps(meta))
        return meta
    finally:
        temporary.unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _framed(
    catalog: Catalog, framing: Framing, progress: bool
) -> Iterator[tuple[np.ndarray | PhotoError, str]]:
    """Framed photos and their bytes' digests, in the order of the rows.

    Decoded in threads: Pillow and OpenCV release the lock.
    """
    paths = catalog.table["path"].tolist()
    boxes = boxes_of(catalog.table)

    def frame(row: int) -> tuple[np.ndarray | PhotoError, str]:
        digest = UNREADABLE
        try:
            data = catalog.source.read(paths[row])
            digest = digest_of(data)
            return framing.apply(decode_photo(data, paths[row]), tuple(boxes[row])), digest
        except PhotoError as error:
            return error, digest
        except OSError as error:
            return PhotoError(f"{paths[row]}: cannot be read ({error.strerror or error})"), digest

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(total=len(paths), desc="decoding", unit="photo", disable=not progress)
        for start in range(0, len(paths), CHUNK):  # in chunks, so that memory stays bounded
            for result in pool.map(frame, range(start, min(start + CHUNK, len(paths)))):
                bar.update()
                yield result
        bar.close()
