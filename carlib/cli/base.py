"""What all commands share: the application, its errors in words, options, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from carlib.errors import CarlibError

if TYPE_CHECKING:
    from carlib.experiment.checkpoint import Checkpoint
    from carlib.experiment.run import Run


EXTRAS = {"gradio": "demo", "onnx": "export", "onnxruntime": "export", "onnxscript": "export",
          "kagglehub": "fetch", "kornia": "gpu", "pymilvus": "milvus"}  # fmt: skip


class _ErrorsInWords(TyperGroup):
    """Prints an error that carlib raised on purpose as a message, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CarlibError as error:
            typer.secho(f"error: {error}", err=True, fg="red")
            raise typer.Exit(2) from error
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").split(".")[0])
            if extra is None:
                raise
            typer.secho(
                f"error: this needs {error.name}; install it with: pip install 'carlib[{extra}]'",
                err=True, fg="red",
            )  # fmt: skip
            raise typer.Exit(2) from error


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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def opened(path: Path | None) -> tuple[Checkpoint, Run | None]:
    """A checkpoint, and its run where the path is the folder of a finished one.

    Without a path it is the published network.
    """
    from carlib.experiment.checkpoint import PUBLISHED, Checkpoint
    from carlib.experiment.run import Run

    if path is None:
        return Checkpoint.load(PUBLISHED), None
    checkpoint = Checkpoint.load(path)
    run = Run(path, checkpoint.recipe)
    return checkpoint, run if path.is_dir() and run.finished else None


def show_table(rows: Sequence[Mapping[str, Any]], *columns: str, title: str = "") -> None:
    """Print rows as a table, see `carlib.report.tables`."""
    from rich.console import Console

    from carlib.report.tables import Table

    Console().print(Table.of(rows, *columns, title=title).rich())
