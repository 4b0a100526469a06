"""Commands for single photos and for a network in use: `predict`, `verify`, `search`, `explain`,
`demo`, `export`, `bench`, `publish`. They take the published network unless another is named.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carlib.cli.base import AsJson, DataOption, app, complain, opened, say, show_table, writable
from carlib.errors import CarlibError, PhotoError, RunError

if TYPE_CHECKING:
    from carlib.apps.predictor import Answer, Predictor

Photo = Annotated[Path, typer.Argument(metavar="PHOTO", help="Any image file.")]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help="A run (folder or name) or checkpoint file; by default the published one.",
    ),
]
BoxOption = Annotated[
    str, typer.Option("--box", metavar="X1,Y1,X2,Y2", help="Where the car is, in pixels.")
]


@app.command("predict")
def predict_command(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Image files.")],
    model: ModelOption = None,
    box: BoxOption = "",
    top: Annotated[int, typer.Option(min=1, help="How many guesses.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Name the car: the likeliest classes with calibrated probabilities, or "not a car I know".

    If a photo cannot be read, stderr says so, the others are answered, and the exit code is 2.
    """
    from carlib.apps.predictor import open_photo

    predictor, failed, answers = _predictor(model), 0, {}
    place = _box(box)
    for path in photos:
        try:
            pixels = open_photo(path, shrink=place is None)
            answers[str(path)] = predictor.identify(pixels, place, top)
        except PhotoError as error:
            complain(error)
            failed += 1
            continue
        if not as_json:
            _print_answer(path, answers[str(path)])
    if as_json:
        typer.echo(json.dumps({path: a.to_dict() for path, a in answers.items()}, indent=1))
    raise typer.Exit(2 if failed else 0)


@app.command("verify")
def verify_command(
    photo: Photo,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="The photo to compare it with.")],
    model: ModelOption = None,
    as_json: AsJson = False,
) -> None:
    """Do two photos show the same model? Exit code 0 if so, 1 if not."""
    from dataclasses import asdict

    from carlib.apps.predictor import open_photo

    verdict = _predictor(model).compare(open_photo(photo), open_photo(other))
    if as_json:
        typer.echo(json.dumps(asdict(verdict)))
    else:
        answer = "the same model" if verdict.same else "two models"
        typer.echo(
            f"{answer}: probability of the same {verdict.probability:.2f}, "
            f"similarity {verdict.similarity:.2f}"
        )
    raise typer.Exit(0 if verdict.same else 1)


@app.command("search")
def search_command(
    photo: Photo,
    data: DataOption = "showroom",
    model: ModelOption = None,
    top: Annotated[int, typer.Option(min=1, help="How many photos.")] = 8,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="COLUMN=VALUE",
            help="For example make=Audi or year=2012; can be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the photos in a data set that look most like a given photo.

    The data set's embeddings are computed once per network and kept.
    """
    from carlib.apps.predictor import open_photo
    from carlib.data.opening import open_catalog
    from carlib.retrieval.embeddings import embed
    from carlib.retrieval.gallery import Gallery

    predictor, pixels = _predictor(model), open_photo(photo)
    gallery = Gallery.build(embed(predictor.checkpoint, open_catalog(data), progress=not as_json))
    neighbors = gallery.search(predictor.embed(pixels), top, _where(where or []))
    if as_json:
        typer.echo(neighbors.to_json(orient="records", indent=1))
        return
    rows = neighbors.rename(columns={"class_name": "class"}).to_dict("records")
    show_table(rows, "similarity", "class", "path", title=f"most like {photo.name}")


@app.command("explain")
def explain_command(
    photo: Photo,
    out: Annotated[Path, typer.Option("--out", help="The picture to write, .png or .pdf.")],
    model: ModelOption = None,
    of_class: Annotated[
        str,
        typer.Option(
            "--class", help="Show what speaks for this class; by default, for the answer."
        ),
    ] = "",
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="Grad-CAM, Grad-CAM++, Layer-CAM or Eigen-CAM; repeat it for several.",
        ),
    ] = None,
    box: BoxOption = "",
) -> None:
    """Draw where the network looks, over the photo."""
    from carlib.apps.predictor import open_photo
    from carlib.plots import heat_rows

    place, out = _box(box), writable(out)
    predictor, pixels = _predictor(model), open_photo(photo, shrink=place is None)
    answer = predictor.identify(pixels, place, top=1)
    maps = {
        name: [predictor.heat(pixels, of_class, name, place)] for name in method or ["Grad-CAM"]
    }
    _save(heat_rows([pixels], maps, side=3), out)
    say(f"{out}: what speaks for {of_class or answer.names[0]}")


@app.command("demo")
def demo_command(
    model: ModelOption = None,
    data: DataOption = "showroom",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port; open on this machine only.")
    ] = 7860,
) -> None:
    """Open the web demo: identify a car, search a data set, compare two photos."""
    from carlib.apps.demo import serve

    serve(_predictor(model), data, port)


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Option("--out", help="The .onnx file to write.")],
    model: ModelOption = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Also write an 8-bit one, calibrated on train photos of --data."
        ),
    ] = False,
    data: DataOption = "showroom",
) -> None:
    """Write the network as ONNX: photos in 0…1 in, logits out, any batch; tested with torch."""
    from carlib.apps.export import parity, to_int8, to_onnx
    from carlib.data.opening import open_catalog

    out, checkpoint = writable(out), _predictor(model).checkpoint
    catalog = open_catalog(data).with_val()
    file = to_onnx(checkpoint, out)
    say(f"{file}: {file.stat().st_size:,} bytes, {parity(checkpoint, file, catalog)}")
    if int8:
        small = to_int8(file, checkpoint, catalog)
        say(f"{small}: {small.stat().st_size:,} bytes")


@app.command("bench")
def bench_command(
    model: ModelOption = None,
    data: DataOption = "showroom",
    as_json: AsJson = False,
) -> None:
    """Measure size, work and speed of a network in torch, ONNX and int8; write a record."""
    from carlib.apps.export import deployment_record
    from carlib.data.opening import open_catalog

    record = deployment_record(_predictor(model).checkpoint, open_catalog(data).with_val())
    path, rows, extra = record.write(), record.extra["rows"], record.extra
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    say(
        f"{record.name}: {extra['parameters']:,} parameters, {extra['gflops']:.2f} GFLOPs for a "
        f"photo of {extra['side']} pixels"
    )
    show_table(rows, *(name for name in rows[0] if not name.endswith("_interval")))
    say(f"record {path}")


@app.command("publish")
def publish_command(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    data: DataOption = "showroom",
    out: Annotated[
        Path | None, typer.Option("--out", help="By default, the file that `carlib predict` uses.")
    ] = None,
) -> None:
    """Write a run's network as one small file, with all that predicting needs, and its record."""
    from carlib.apps.predictor import publish
    from carlib.data.opening import open_catalog
    from carlib.experiment.checkpoint import PUBLISHED, Checkpoint

    path = writable(out or PUBLISHED)
    checkpoint, run = opened(run_path)
    if out is None and Checkpoint.load(PUBLISHED).class_names != checkpoint.class_names:
        raise RunError(
            f"{run_path}: knows other classes than the published network, which would be replaced; "
            f"name a file with --out"
        )
    record = publish(checkpoint, open_catalog(data).with_val(), run, path)
    say(
        f"{path}: {record.extra['bytes']:,} bytes, accuracy {record.metrics['accuracy']:.3f}; "
        f"record {record.write()}"
    )


def _predictor(path: Path | None) -> Predictor:
    from carlib.apps.predictor import Predictor

    return Predictor.load(path)


def _box(text: str) -> tuple[float, float, float, float] | None:
    if not text:
        return None
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        raise PhotoError(f"--box {text}: write it as x1,y1,x2,y2 in pixels") from None
    return x1, y1, x2, y2


def _where(settings: list[str]) -> dict[str, object]:
    """`column=value` pairs as a gallery's filter; the same column twice allows both values."""
    conditions: dict[str, list[object]] = {}
    for setting in settings:
        column, equals, value = setting.partition("=")
        if not equals:
            raise CarlibError(f"--where {setting}: write it as column=value, such as make=Audi")
        if column == "year" and not re.fullmatch("[0-9]{1,4}", value):
            raise CarlibError(f"--where {setting}: a year is a whole number, such as year=2012")
        conditions.setdefault(column, []).append(int(value) if column == "year" else value)
    return dict(conditions)


def _print_answer(path: Path, answer: Answer) -> None:
    unknown = "" if answer.known else ": not a car I know; the nearest would be"
    say(f"{path}{unknown}")  # as a title it would be broken to the table's width
    chances = zip(answer.names, answer.probabilities, strict=True)
    show_table([{"class": name, "probability": chance} for name, chance in chances])


def _save(figure: Any, out: Path) -> None:
    from carlib.files import write_atomically

    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=out.suffix[1:] or "png", bbox_inches="tight")
    except ValueError as error:
        raise CarlibError(f"{out}: cannot be written ({error}); give a .png or .pdf") from None
    write_atomically(out, picture.getvalue())
