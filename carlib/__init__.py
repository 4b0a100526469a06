"""carlib: the library under six notebooks about telling 196 cars apart."""

from __future__ import annotations

__version__ = "0.1.0"


def setup(seed: int = 0):
    """Open a notebook's data and say what runs where; see `carlib.notebook.setup`."""
    from carlib.notebook import setup

    return setup(seed)
