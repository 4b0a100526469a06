"""carlib: the library under six notebooks about telling 196 cars apart."""

__version__ = "0.1.0"
