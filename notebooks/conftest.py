"""Tell at the end of `make test` how long each notebook took, and fail when one is too slow."""

from __future__ import annotations

from collections import defaultdict

BUDGET = 600  # seconds per notebook on two busy cores; idle ones take a third of it

_seconds: dict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report):
    """Add up the cells of a notebook."""
    _seconds[report.nodeid.split("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter):
    """Print a line per notebook."""
    for name, seconds in sorted(_seconds.items()):
        terminalreporter.write_line(f"{name}: {seconds:.0f} s of {BUDGET} s")


def pytest_sessionfinish(session, exitstatus):
    """A notebook over its budget is a failure."""
    if exitstatus == 0 and any(seconds > BUDGET for seconds in _seconds.values()):
        session.exitstatus = 1
