"""What all commands share: the application, its errors in words, options, and tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from carlib.errors import CarlibError, shown
from carlib.files import unforeseen

if TYPE_CHECKING:
    from carlib.data.catalog import Catalog
    from carlib.experiment.checkpoint import Checkpoint
    from carlib.experiment.run import Run


def say(text: object, err: bool = False) -> None:
    """Print a line that may hold names that users chose."""
    typer.echo(shown(text), err=err)


def tell_notes(catalog: Catalog) -> None:
    """Print to stderr what is in a data set's folder but not among its photos."""
    for note in catalog.notes:
        say(f"note: {catalog.name}: {note}", err=True)


def complain(error: object) -> None:
    """Print an error."""
    typer.secho(f"error: {shown(error)}", err=True, fg="red")


# The base of errors in how a command is called; click's, of which typer may have a copy.
USAGE = next(kind for kind in typer.BadParameter.__mro__ if kind.__bases__ == (Exception,))


def caught(error: Exception) -> typer.Exit:
    """The last net: an unforeseen error as one line, with its traceback in a file."""
    complain(unforeseen(error))
    return typer.Exit(3)


class _ErrorsInWords(TyperGroup):
    """Prints an error that carlib raised on purpose as a message, without a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any("\0" in word for word in args):  # not every version of typer expects one in a path
            raise typer.BadParameter("a word holds a zero byte, which no name of a file can")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CarlibError as error:
            complain(error)
            raise typer.Exit(2) from error
        except (typer.Exit, typer.Abort, USAGE, BrokenPipeError):  # as commands end
            raise
        except Exception as error:
            raise caught(error) from error


app = typer.Typer(
    name="carlib",
    cls=_ErrorsInWords,
    no_args_is_help=True,
    add_completion=False,
    help="Fine-grained car recognition: data, training, evaluation, report.",
)

DataPath = Annotated[
    str, typer.Argument(metavar="PATH", help="Folder of a data set, a catalog.csv, or 'showroom'.")
]
DataOption = Annotated[
    str, typer.Option("--data", metavar="PATH", help="A data set's folder or file, or 'showroom'.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def opened(path: Path | None) -> tuple[Checkpoint, Run | None]:
    """A checkpoint, and its run if the path is the folder of a finished run.

    Without a path, the published network.
    """
    from carlib.experiment.checkpoint import PUBLISHED, Checkpoint
    from carlib.experiment.run import Run
    from carlib.paths import run_called

    if path is None:
        return Checkpoint.load(PUBLISHED), None
    path = run_called(path)
    checkpoint = Checkpoint.load(path)
    run = Run(path, checkpoint.recipe)
    return checkpoint, run if path.is_dir() and run.finished else None


def writable(path: Path) -> Path:
    """A path that a command will write to; refused before any work if it cannot be written."""
    if not os.path.isdir(path.parent):
        raise CarlibError(f"{path}: there is no folder {path.parent}; make it first")
    if os.path.isdir(path):
        raise CarlibError(f"{path}: is a folder; give the name of a file")
    return path


def show_table(rows: Sequence[Mapping[str, Any]], *columns: str, title: str = "") -> None:
    """Print rows as a table, see `carlib.report.tables`."""
    from rich.console import Console

    from carlib.report.tables import Table

    Console().print(Table.of(rows, *columns, title=title).rich())
