"""Tell at the end of `make test` how long each notebook took.

Times are printed and never judged: a busy machine is not a failure. `tools/notebooks.py time`
records them.
"""

from __future__ import annotations

from collections import defaultdict

_seconds: dict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report):
    """Add up the cells of a notebook."""
    _seconds[report.nodeid.split("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter):
    """Print a line per notebook."""
    for name, seconds in sorted(_seconds.items()):
        terminalreporter.write_line(f"{name}: {seconds:.0f} s")
