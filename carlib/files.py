"""Files that are whole or not there, and tensors in files that run no code.

No file of carlib is ever a pickle: tensors are safetensors with a description in their header.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carlib.errors import RunError

if TYPE_CHECKING:
    import torch


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that a kill or a full disk leaves the old one, never half a new one.

    Text is written as UTF-8. Raises `RunError` naming the file where that cannot be done.
    """
    data = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        mend = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise RunError(f"{path}: cannot be written ({error.strerror}){mend}") from error
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Save tensors with a JSON description in the safetensors header."""
    from safetensors.torch import save

    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(ready, {"carlib": json.dumps(about)}))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors and description; `RunError` names a file that is missing, cut or foreign."""
    from safetensors import SafetensorError, safe_open

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
