"""Files that end, files that are whole or not there, and tensors in files that run no code.

No file of carlib is ever a pickle: tensors are safetensors with a description in their header.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carlib.errors import CarlibError, RunError
from carlib.paths import cache_root, variable_of

if TYPE_CHECKING:
    import torch


LARGEST = 1_000_000_000  # bytes of a file that is read whole
NUMBER = (int, float)


def read_file(path: Path | str) -> bytes:
    """The bytes of a regular file of LARGEST at most.

    Anything else, such as a pipe or a device, may never end: it is an `OSError` whose `strerror`
    says so, as any other reason does.
    """
    size = check_regular(path)
    if size > LARGEST:
        raise OSError(errno.EFBIG, f"{size:,} bytes, more than {LARGEST:,}")
    with open(path, "rb") as file:
        return file.read(size + 2**20)  # a little more, since files of /proc say 0


def read_json(path: Path | str) -> Any:
    """What a JSON file holds; `ValueError` for one that is none, `OSError` as of `read_file`."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        return json.loads(read_file(path), parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def checked(values: Any, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """A JSON object with values of these kinds; `ValueError` names the first that is none.

    Numbers are finite, truth values are none. What may be absent has `NoneType` among its types.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{shortened(values)} is no JSON object")
    for name, kind in kinds.items():
        value = values.get(name)
        odd = isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value))
        odd |= isinstance(value, str) and "\0" in value
        if odd or not isinstance(value, kind):
            raise ValueError(f"{name} is {shortened(value)}")
    return values


def shortened(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]} …"


def check_regular(path: Path | str) -> int:
    """The bytes of a regular file, unread; `OSError` for anything else."""
    try:
        found = os.stat(path)
    except ValueError:
        raise OSError(errno.EINVAL, "no file has such a name") from None
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "no regular file")
    return found.st_size


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """What cannot be written in here becomes a `RunError` that names the path and the mend."""
    try:
        yield
    except TimeoutError:  # of a lock, which is somebody else's affair
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = ["free some space"] if full else []
        if isinstance(error, PermissionError) and Path(path).is_file():  # on Windows it is in use
            mend.append("end what has it open")
        mend += [f"set {name} to another folder"] if (name := variable_of(path)) else []
        why = [f"{path}: cannot be written ({error.strerror})", *mend]
        raise RunError("; ".join(why)) from error


def made(folder: Path) -> Path:
    """A folder that is there from now on; `RunError` where it cannot be."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that a kill or a full disk leaves the old one, never half a new one.

    Text is written as UTF-8. Raises `RunError` naming the file where that cannot be done.
    """
    data = data.encode() if isinstance(data, str) else data
    # Machines that share a folder may give two processes one number.
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(3).hex()}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def unforeseen(error: Exception) -> str:
    """A sentence about an error that nobody foresaw; its traceback goes to a file that it names."""
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    log = cache_root() / "errors" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        write_atomically(made(log.parent) / log.name, "".join(traceback.format_exception(error)))
        where = f"the traceback is in {log}"
    except CarlibError as other:
        where = f"its traceback could not be kept ({other})"
    return f"unexpected error {what}; {where}. Please report it to the authors, with that file."


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Save tensors with a JSON description in the safetensors header."""
    from safetensors.torch import save

    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(ready, {"carlib": json.dumps(about)}))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors and description; `RunError` names a file that is missing, cut or foreign."""
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(str(path), "pt") as file:
            about = json.loads((file.metadata() or {}).get("carlib", "null"))
            if not isinstance(about, dict):
                raise RunError(f"{path}: not written by carlib; give a checkpoint of a carlib run")
            # Copied: a file that is mapped could not be written again on Windows.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, about  # noqa: SIM118
    except FileNotFoundError:
        raise RunError(f"{path}: no such checkpoint; train first, or give another path") from None
    except (SafetensorError, OSError, ValueError, RecursionError, MemoryError) as error:
        why = getattr(error, "strerror", None) or error
        raise RunError(f"{path}: damaged or no safetensors file ({why}); train again") from None


def has_keys(path: Path, *keys: str) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        return set(keys) <= set(read_json(path))
    except (OSError, ValueError, TypeError):
        return False


def portable(root: Path, folder: Path) -> str:
    """A path as written into a file of `folder`: relative where one holds the other, so that both
    can move.
    """
    root, folder = root.resolve(), folder.resolve()
    if root.is_relative_to(folder) or folder.is_relative_to(root):
        return Path(os.path.relpath(root, folder)).as_posix()
    return root.as_posix()


def digits_of(data: bytes) -> str:
    """16 hex digits over the bytes of a file."""
    return hashlib.sha256(data).hexdigest()[:16]
