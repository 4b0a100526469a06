"""Errors a user can act on: each message names the thing at fault and what to do about it.

The command line prints them without a traceback; anything else that escapes is a bug of ours.
"""

from __future__ import annotations


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


def shown(text: object) -> str:
    """Text as it is, but for what a terminal would obey, such as colors: that is spelled out."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode()
        for c in str(text)
    )
