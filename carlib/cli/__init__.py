"""The command line: `carlib data …`, `train`, `evaluate`, `predict`, `demo` and the others.

Every command imports what it needs when it runs, so `carlib --help` answers at once. Exit codes:
0 all is well; 1 the answer is "no" (a leak, two models, a stale report); 2 the request cannot be
met, and one line on stderr says why; 3 a fault in carlib, with its traceback in a file.
"""

from __future__ import annotations

import os
import sys

from carlib.cli import data, learn, use  # noqa: F401  (each adds its commands)
from carlib.cli.base import app


def main() -> None:
    """Entry point of the `carlib` command; of several processes, only the main one prints."""
    for stream in (sys.stdout, sys.stderr):  # a sign that a terminal cannot show ends nothing
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (until the process ends)
    app()
