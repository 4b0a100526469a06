"""Where the bytes of a photo come from: a folder of files, or the parquet files of the Hub.

A source is small and picklable, so that the workers of a DataLoader can each have their own.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from carlib.errors import PhotoError
from carlib.files import check_regular, read_file

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PARQUET_MARK = ".parquet#"
Stamp = tuple[int, int, int, int]  # a file's bytes, mtime_ns, ctime_ns and inode


class PhotoSource(Protocol):
    """Reads photos by the `path` column of a catalog."""

    root: Path

    def read(self, path: str) -> bytes:
        """The encoded photo; raises PhotoError naming it when it cannot be read."""
        ...

    def size(self, path: str) -> int:
        """Bytes the encoded photo takes, -1 when it is missing."""
        ...

    def stamp(self, path: str) -> Stamp | None:
        """What changes whenever the photo's bytes may have, without reading them; None: missing.

        The inode changes when a file is replaced, and ctime cannot be set back as mtime can.
        """
        ...


def file_stamp(path: Path | str) -> Stamp | None:
    """The stamp of a regular file, None when there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


class FolderSource:
    """Photos as files; `path` is relative to root, with forward slashes."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"FolderSource({str(self.root)!r})"

    def read(self, path: str) -> bytes:
        try:
            return read_file(self.root / path)
        except OSError as error:
            raise PhotoError(
                f"{self.root / path}: cannot be read ({error.strerror}). Restore the photo, or "
                f"leave it out; `carlib data audit` lists all such photos."
            ) from error

    def size(self, path: str) -> int:
        stamp = self.stamp(path)
        return -1 if stamp is None else stamp[0]

    def stamp(self, path: str) -> Stamp | None:
        return file_stamp(os.path.join(self.root, path))


class ParquetSource:
    """Photos inside parquet files: `path` is "file#photo", the photo a name or a row number.

    A row group is decoded as a whole, so reading in the order of the rows is fast and reading at
    random is not; the photo cache does the former. The last few groups are kept.
    """

    groups_kept = 4

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._reset()

    def __repr__(self) -> str:
        return f"ParquetSource({str(self.root)!r})"

    def __getstate__(self) -> dict:
        return {"root": self.root}

    def __setstate__(self, state: dict) -> None:
        self.root = state["root"]
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()  # photos are decoded by several threads
        self._files: dict[str, tuple[Stamp | None, pq.ParquetFile]] = {}
        self._rows: dict[str, dict[str, int]] = {}
        self._groups: OrderedDict[tuple[str, int], pa.Array] = OrderedDict()

    def read(self, path: str) -> bytes:
        data = self._value(path)
        if data is None:
            raise PhotoError(
                f"{self.root / path}: no such photo, or no bytes in its row. Download the file "
                f"again, or leave the photo out; `carlib data audit` lists all such photos."
            )
        return data

    def size(self, path: str) -> int:
        try:
            data = self._value(path)
        except PhotoError:
            return -1
        return -1 if data is None else len(data)

    def stamp(self, path: str) -> Stamp | None:
        """That of the file that holds the photo."""
        return file_stamp(os.path.join(self.root, _file_and_photo(path)[0]))

    def photo_names(self, file: str) -> list[str]:
        """Names of a file's photos in row order.

        The names stored beside the bytes where every row has its own, else row numbers.
        """
        with self._damage_told(file):
            stored = self._open(file).read(columns=["image.path"]).column("image").combine_chunks()
            names = stored.field("path").to_pylist()
        if None in names or len(set(names)) < len(names):
            return [f"{row:06d}" for row in range(len(names))]
        return names

    def _open(self, file: str) -> pq.ParquetFile:
        """The file as it is now: one that was replaced since is opened again."""
        import pyarrow.parquet as pq

        now, (then, opened) = file_stamp(self.root / file), self._files.get(file, (None, None))
        if opened is not None and now == then:
            return opened
        self._rows.pop(file, None)
        for key in [key for key in self._groups if key[0] == file]:
            del self._groups[key]
        with self._damage_told(file):
            check_regular(self.root / file)
            opened = pq.ParquetFile(self.root / file)
        self._files[file] = now, opened
        return opened

    @contextlib.contextmanager
    def _damage_told(self, file: str) -> Iterator[None]:
        """A file can be whole at its ends and damaged in between, so every read may fail."""
        import pyarrow as pa

        try:
            yield
        except (OSError, ValueError, pa.ArrowException) as error:
            raise PhotoError(
                f"{self.root / file}: cannot be read as parquet ({error}). Download it again."
            ) from error

    def _value(self, path: str) -> bytes | None:
        """Bytes of one photo, None where the file has no such row or the row no bytes."""
        with self._lock:
            return self._find(path)

    def _find(self, path: str) -> bytes | None:
        file, photo = _file_and_photo(path)
        metadata = self._open(file).metadata
        if file not in self._rows:
            self._rows[file] = {name: row for row, name in enumerate(self.photo_names(file))}
        row = self._rows[file].get(photo)
        if row is None:
            return None
        group = 0
        while row >= metadata.row_group(group).num_rows:
            row -= metadata.row_group(group).num_rows
            group += 1
        return self._row_group(file, group)[row].as_py()

    def _row_group(self, file: str, group: int) -> pa.Array:
        key = (file, group)
        if key not in self._groups:
            with self._damage_told(file):
                table = self._open(file).read_row_group(group, columns=["image.bytes"])
                self._groups[key] = table.column("image").combine_chunks().field("bytes")
            if len(self._groups) > self.groups_kept:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


def _file_and_photo(path: str) -> tuple[str, str]:
    """The two parts of "file#photo"."""
    stem, _, photo = path.rpartition(PARQUET_MARK)
    return stem + PARQUET_MARK[:-1], photo
