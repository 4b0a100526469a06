"""What something was computed on and by: processor, versions, commit, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path, PureWindowsPath
from typing import Any

import carlib
from carlib.paths import source_tree
from carlib.runtime import cores, the_device

LIBRARIES = ("torch", "torchvision", "timm", "albumentations", "accelerate", "numpy", "carlib")


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in GiB, and GPU (None without one)."""
    import torch

    memory, device = memory_gib(), the_device()
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"cpu": _cpu_name(), "cores": cores(), "memory_gib": memory, "gpu": gpu}


def memory_gib() -> int | None:
    """Memory of this machine in GiB; None where the system does not tell, as Windows."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, OSError, ValueError):
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
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
    return subprocess.run(
        command, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.strip()


def command_line() -> str:
    """The command that is running, as it is typed in a checkout; without this machine's paths."""
    first, *others = sys.argv
    return f"{_program(first)} {shlex.join(map(_without_folders, others))}".strip()


def _without_folders(argument: str) -> str:
    option = argument.startswith("--")
    name, equals, value = argument.partition("=") if option else ("", "", argument)
    return f"{name}{equals}{_last(value)}" if any(mark in value for mark in "/\\") else argument


def _program(script: str) -> str:
    """`python -m carlib` is carlib; a script is named with its folder, as python is told."""
    path = PureWindowsPath(script)
    if path.name == "__main__.py":
        path = path.parent
    return f"python {path.parent.name}/{path.name}" if path.suffix == ".py" else path.name


def _last(path: str) -> str:
    return PureWindowsPath(path).name  # which knows both slashes
