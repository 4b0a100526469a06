"""Errors a user can act on: each message names the thing at fault and what to do about it.

The command line prints them without a traceback; anything else that escapes is a bug of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

EXTRAS = {  # package that a part of carlib needs → extra that brings it
    "gradio": "demo", "onnx": "export", "onnxruntime": "export", "onnxscript": "export",
    "kagglehub": "fetch", "kornia": "gpu", "milvus_lite": "milvus", "pymilvus": "milvus",
    "pypdf": "report", "typst": "report",
}  # fmt: skip


class CarlibError(Exception):
    """Base of every error that carlib raises on purpose."""


class DataError(CarlibError):
    """A data set is missing, incomplete, or not in a layout we know."""


class PhotoError(CarlibError):
    """One photo cannot be used: missing, truncated, not an image."""


class RecipeError(CarlibError):
    """A recipe is unknown, or a field of it is."""


class RunError(CarlibError):
    """A run cannot start, continue or be read back."""


class WeightsError(CarlibError):
    """Pretrained weights are nowhere to be found, or are not what they should be."""


class MissingPackage(CarlibError):
    """A package is not installed that only some need; the message names the extra that has it."""


@contextlib.contextmanager
def optional() -> Iterator[None]:
    """Around the import of a package that only an extra brings: a missing one is said in words.

    What is in no extra was never left out on purpose, and its error goes on as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingPackage(
            f"this needs {package}; install it with: pip install 'carlib[{EXTRAS[package]}]'"
        ) from None


def shown(text: object) -> str:
    """Text as it is, but for what a terminal would obey, such as colors: that is spelled out."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode()
        for c in str(text)
    )
