"""A photo is its bytes: digests of photos, remembered so that they cost a look at the disk.

Names lie: two folders hold other pictures under the same names, and a photo is repaired or replaced
under its old one. So whatever is kept of photos (decoded pixels, features, runs, galleries) is kept
under digests of their bytes. Reading every byte again each time would take minutes for a large data
set; a digest is therefore remembered with what the file system says of the file, and taken anew
when any of it changes. Where a catalog's photos lie, the memory is one JSON file in the cache;
losing it costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from carlib.data.sources import PhotoSource, Stamp
from carlib.errors import PhotoError, RunError
from carlib.files import made, read_json, write_atomically
from carlib.paths import cache_root
from carlib.runtime import cores

UNREADABLE = ""  # stands where a photo is missing or cannot be read
# A file that was written within the last moments can be written again without its times changing:
# kernels count them in ticks of some milliseconds, some file systems in seconds (git calls such
# files racy). Its digest is good now, but is not remembered.
SETTLED_NS = 2_000_000_000
MANY = 5_000  # photos to read, from which on a bar is shown


def digest_of(data: bytes) -> str:
    """The identity of a photo: 32 hex digits over its bytes (SHA-256, cut)."""
    return hashlib.sha256(data).hexdigest()[:32]


def photo_digests(source: PhotoSource, paths: Iterable[str]) -> np.ndarray:
    """The digest of every photo, (photos,) of str; UNREADABLE where one cannot be read.

    The source is asked for every photo's stamp each time, so a photo that was replaced or repaired
    is seen at once; only photos whose stamp is new are read.
    """
    paths = list(paths)
    memory = _memory_file(source)
    known = _remembered(memory)
    stamps = [source.stamp(path) for path in paths]
    digests = np.full(len(paths), UNREADABLE, object)
    unknown = []
    for row, (path, stamp) in enumerate(zip(paths, stamps, strict=True)):
        entry = known.get(path)
        if entry is not None and stamp is not None and tuple(entry[:-1]) == stamp:
            digests[row] = entry[-1]
        elif stamp is not None:
            unknown.append(row)
    if unknown:
        began = time.time_ns()
        digests[unknown] = _read(source, [paths[row] for row in unknown])
        fresh = {
            paths[row]: [*stamps[row], digests[row]]
            for row in unknown
            if digests[row] != UNREADABLE and _settled(stamps[row], began)
        }
        _remember(memory, fresh)
    return digests


def _settled(stamp: Stamp, now: int) -> bool:
    _, modified, changed, _ = stamp
    return max(modified, changed) < now - SETTLED_NS


def _read(source: PhotoSource, paths: list[str]) -> list[str]:
    def one(path: str) -> str:
        try:
            return digest_of(source.read(path))
        except PhotoError:
            return UNREADABLE

    with ThreadPoolExecutor(cores()) as pool:  # hashing lets go of the interpreter
        hidden = True if len(paths) < MANY else None  # None: shown at a terminal alone
        return list(tqdm(pool.map(one, paths), "reading", len(paths), unit="photo", disable=hidden))


def _memory_file(source: PhotoSource) -> Path:
    where = hashlib.sha256(str(Path(source.root).resolve()).encode()).hexdigest()[:16]
    return cache_root() / "digests" / f"{where}.json"


def _remembered(file: Path) -> dict[str, list]:
    """Path → stamp and digest; empty where nothing is remembered, or what is there is damaged."""
    try:
        known = read_json(file)
        return {p: e for p, e in known.items() if isinstance(e, list) and len(e) == 5}
    except (OSError, ValueError, AttributeError):
        return {}


def _remember(file: Path, fresh: dict[str, list]) -> None:
    """Add to the memory; of two writers the later wins, and the other reads its photos again."""
    if not fresh:
        return
    with contextlib.suppress(OSError, RunError):  # a cache that cannot be written only costs time
        made(file.parent)
        text = json.dumps(_remembered(file) | fresh, ensure_ascii=False, separators=(",", ":"))
        write_atomically(file, text)
