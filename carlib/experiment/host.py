"""What something was computed on and by: processor, versions, commit, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import carlib
from carlib.paths import source_tree

LIBRARIES = ("torch", "torchvision", "timm", "albumentations", "accelerate", "numpy", "carlib")


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in GiB, and GPU (None without one)."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "memory_gib": round(memory), "gpu": gpu}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    used = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            used[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return used


def commit() -> str:
    """The checkout's commit, "+" added when files differ from it; without one, the release.

    A package that is installed into somebody's own repository is not of that repository.
    """
    here, root = Path(carlib.__file__).resolve().parent, source_tree()
    release = f"release {carlib.__version__}, no checkout"
    if root is None:
        return release
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return release
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--", str(here)) else "")
    except (OSError, subprocess.CalledProcessError):
        return release


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def command_line() -> str:
    """The command that is running, without this machine's paths."""
    return " ".join(
        [Path(sys.argv[0]).name, *(Path(a).name if "/" in a else a for a in sys.argv[1:])]
    )
