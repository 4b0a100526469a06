"""Kind 10: an error that nobody foresaw is one line, and its traceback lies in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from toys import shape

from harness.cases import NET, Case, Place, environment

ERRORS = (ValueError("odd value"), RuntimeError("line one\nline two"), KeyError("key"),
          ZeroDivisionError("division"), AssertionError(), RecursionError("too deep"),
          MemoryError(), OSError(5, "Input/output error", "disc.png"), IndexError("[red]x[/red]"),
          AttributeError("\x1b[31mno such"), TypeError("x" * 5000), NotImplementedError(),
          UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), StopIteration())  # fmt: skip
WHERE = {  # what fails inside, and the command that a user gave
    "carlib.apps.predictor.Predictor.identify": "predict",
    "carlib.data.opening.open_catalog": "show",
    "carlib.evaluation.evaluate.evaluate": "evaluate",
}


def _words(here: Place, command: str) -> list[str]:
    shape(2, 9).save(here.folder / "disc.png")
    return {
        "predict": ["predict", f"{here.folder}/disc.png", "--model", f"{here.world.network}"],
        "show": ["data", "show", f"{here.world.photos}"],
        "evaluate": ["evaluate", f"{here.world.network}", "--data", f"{here.world.photos}"],
    }[command]


def caught() -> Iterator[Case]:
    for error in ERRORS:
        for place, command in WHERE.items():

            def act(here: Place, error=error, place=place, command=command) -> tuple:
                from typer.testing import CliRunner

                from carlib.cli import app

                log = here.folder / "log"
                with mock.patch(place, side_effect=error), environment(CARLIB_CACHE=log):
                    done = CliRunner().invoke(app, _words(here, command))
                if not isinstance(done.exception, SystemExit):
                    raise done.exception
                return done.exit_code, done.stderr, here.folder

            def right(found: tuple, error=error) -> bool:
                code, told, folder = found
                lines = [line for line in told.splitlines() if line.strip()]
                logs = [p for p in folder.rglob("*.log") if p.is_file()]
                return (
                    code not in (0, 1)
                    and len(lines) <= 3
                    and NET in told
                    and type(error).__name__ in told
                    and "\x1b[31mno" not in told
                    and len(told) < 2000
                    and len(logs) == 1
                    and "Traceback" in logs[0].read_text(encoding="utf-8")
                    and str(logs[0]) in told
                )

            yield Case(10, f"{type(error).__name__} in {command}", act, right)


def without_a_log() -> Iterator[Case]:
    """Where no log can be written, the line still says what was wrong."""

    def act(here: Place) -> str:
        from typer.testing import CliRunner

        from carlib.cli import app

        here.write("file", "")
        where, error = "carlib.apps.predictor.Predictor.identify", ValueError("odd")
        with mock.patch(where, side_effect=error), environment(CARLIB_CACHE=here.folder / "file"):
            done = CliRunner().invoke(app, _words(here, "predict"))
        if not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.stderr

    yield Case(10, "an error where no log can be written", act,
               lambda told: NET in told and "ValueError" in told)  # fmt: skip


def interrupted() -> Iterator[Case]:
    """Ctrl-C, and a reader that left, are no errors of ours and leave no log."""
    for error in (KeyboardInterrupt(), BrokenPipeError(32, "Broken pipe")):

        def act(here: Place, error=error) -> tuple[int, str, list[Path]]:
            from typer.testing import CliRunner

            from carlib.cli import app

            where = "carlib.apps.predictor.Predictor.identify"
            with mock.patch(where, side_effect=error), environment(CARLIB_CACHE=here.folder):
                done = CliRunner().invoke(app, _words(here, "predict"))
            if not isinstance(done.exception, SystemExit):
                raise done.exception
            return done.exit_code, done.stderr, list(here.folder.rglob("*.log"))

        yield Case(10, f"{type(error).__name__} in predict", act, lambda found: found[0] != 0
                   and "Traceback" not in found[1] and NET not in found[1]
                   and not found[2])  # fmt: skip


def in_a_process() -> Iterator[Case]:
    """The same in a process of its own, as a user starts it."""

    def act(here: Place) -> tuple[int, str]:
        import subprocess
        import sys

        code = ("import carlib.data.opening as o, sys\n"
                "def bad(*_, **__): raise ValueError('odd')\n"
                "o.open_catalog = bad\nfrom carlib.cli import main\n"
                "sys.argv = ['carlib', 'data', 'show', 'showroom']\nmain()\n")  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8",
                              env=os.environ | {"CARLIB_CACHE": str(here.folder)})  # fmt: skip
        return done.returncode, done.stderr

    def right(found: tuple[int, str]) -> bool:
        code, told = found
        return code not in (0, 1) and "Traceback" not in told and "ValueError" in told

    yield Case(10, "an error in a process", act, right)


def cases() -> Iterator[Case]:
    yield from caught()
    yield from without_a_log()
    yield from interrupted()
    yield from in_a_process()
