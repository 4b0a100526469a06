"""carlib: the library under six notebooks about telling 196 cars apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carlib.notebook import Setup

__version__ = "0.1.0"


def setup(seed: int = 0, data: str = "", profile: str = "", drive: bool = False) -> Setup:
    """Open a notebook's data and say what runs where; see `carlib.notebook.setup`."""
    from carlib.notebook import setup

    return setup(seed, data, profile, drive)
