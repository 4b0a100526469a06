"""The command line: `carlib data …`, `train`, `evaluate`, `compare`, `study`, `recipes`, `report`.

Every command imports what it needs when it runs, so that `carlib --help` answers at once. Exit
codes: 0 all well, 1 the answer is "no" (a leak, a stale report), 2 the request cannot be met.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from carlib.errors import CarlibError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from carlib.audit import Audit
    from carlib.catalog import Catalog
    from carlib.records import Checkpoint, Record, Run


class _ErrorsInWords(TyperGroup):
    """Prints an error that carlib raised on purpose as a message, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CarlibError as error:
            typer.secho(f"error: {error}", err=True, fg="red")
            raise typer.Exit(2) from error


app = typer.Typer(
    name="carlib",
    cls=_ErrorsInWords,
    no_args_is_help=True,
    add_completion=False,
    help="Fine-grained car recognition: data, training, evaluation, report.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at a data set: audit, export, show.")
app.add_typer(data_app, name="data")

DataPath = Annotated[
    str, typer.Argument(metavar="PATH", help="Folder of a data set, a catalog.csv, or 'showroom'.")
]
ValFraction = Annotated[
    float,
    typer.Option(
        "--val-fraction", help="First divide 'train' as training does: this share becomes 'val'."
    ),
]


@data_app.command("audit")
def data_audit(
    path: DataPath,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the findings here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
    val_fraction: ValFraction = 0.0,
    record: Annotated[bool, typer.Option("--record", help="Write the record too.")] = False,
) -> None:
    """Find bad photos and copies; exit code 1 when copies sit on both sides of a split."""
    from carlib.audit import audit

    catalog = _open(path, val_fraction)
    found = audit(catalog, progress=not as_json)
    if csv is not None:
        found.to_csv(csv)
    if as_json:
        typer.echo(json.dumps(found.summary(), indent=1))
    else:
        _print_audit(catalog, found, csv)
    if record:
        from carlib.records import audit_record

        typer.echo(f"record: {audit_record(found, catalog).write()}", err=True)
    raise typer.Exit(1 if found.leaks else 0)


@data_app.command("export")
def data_export(
    path: DataPath,
    csv: Annotated[Path, typer.Option("--csv", help="The file to write.")],
    val_fraction: ValFraction = 0.0,
) -> None:
    """Write the catalog as CSV (and a small JSON beside it); every command accepts it as PATH."""
    catalog = _open(path, val_fraction)
    catalog.to_csv(csv)
    typer.echo(f"{csv}: {catalog}")


@data_app.command("show")
def data_show(path: DataPath, val_fraction: ValFraction = 0.0) -> None:
    """Print what is in a data set: splits, classes, makes, models, years, bodies, boxes."""
    from rich.console import Console

    catalog = _open(path, val_fraction)
    console = Console()
    console.print(_facts(catalog))
    console.print(_counts("body", catalog))
    console.print(_counts("make", catalog))


DataOption = Annotated[
    str, typer.Option("--data", metavar="PATH", help="A data set's folder or file, or 'showroom'.")
]


@app.command("train")
def train_command(
    recipe_name: Annotated[str, typer.Argument(metavar="RECIPE", help="See `carlib recipes`.")],
    data: DataOption = "showroom",
    seeds: Annotated[int, typer.Option(help="Train this many seeds, from the recipe's on.")] = 1,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of a changed recipe, in run and record.")] = "",
    on_laptop: Annotated[
        bool, typer.Option("--quick", help="Same method, a dozen epochs at 64 pixels.")
    ] = False,
    profile: Annotated[bool, typer.Option(help="Write a trace of twenty steps.")] = False,
    classes: Annotated[
        int, typer.Option(help="Learn the first so many classes; compare photos of the others.")
    ] = 0,
) -> None:
    """Train a recipe, resuming what was begun; score it on val and write the record."""
    from carlib.catalog import open_catalog
    from carlib.evaluation import evaluate
    from carlib.recipes import quick, recipe
    from carlib.training import load_or_train

    chosen = quick(recipe(recipe_name)) if on_laptop else recipe(recipe_name)
    chosen = chosen.but(**_changes(change or []))
    chosen = chosen.but(name=name) if name else chosen
    catalog = open_catalog(data).with_val()
    learned = catalog.select_classes(range(classes)) if classes else catalog
    for seed in range(chosen.seed, chosen.seed + seeds):
        checkpoint, run = load_or_train(chosen.but(seed=seed), learned, profile=profile)
        if classes or chosen.embedding:
            _compare(checkpoint, catalog, run)
        else:
            record = evaluate(checkpoint, catalog, "val", run)
            _print_score(record, record.write())


@app.command("evaluate")
def evaluate_command(
    checkpoint_path: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, or a checkpoint file.")
    ],
    data: DataOption = "showroom",
    split: Annotated[
        str, typer.Option(help="Split to score; 'test' is noted in a ledger.")
    ] = "val",
    views: Annotated[
        bool, typer.Option("--views", help="Score the mean over views, and what it gains.")
    ] = False,
    maps: Annotated[
        int, typer.Option(help="Score heat maps of so many photos instead: are they true?")
    ] = 0,
) -> None:
    """Score a checkpoint on any catalog of the same classes and write the record."""
    from carlib.catalog import open_catalog
    from carlib.evaluation import evaluate, evaluate_views

    checkpoint, run = _opened(checkpoint_path)
    catalog = open_catalog(data).with_val()
    if maps:
        from carlib.faithfulness import score_maps

        record = score_maps(checkpoint, catalog, split, maps)
        _print_maps(record, record.write())
        return
    if views:
        record = evaluate_views(checkpoint, catalog, split)
        gain, (low, high) = record.metrics["gain"], record.metrics["gain_interval"]
        typer.echo(
            f"{record.name}: accuracy {record.metrics['accuracy']:.3f}, gain {gain:+.4f} "
            f"({low:+.4f} to {high:+.4f}); record {record.write()}"
        )
        return
    record = evaluate(checkpoint, catalog, split, run)
    _print_score(record, record.write())


@app.command("compare")
def compare_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run folder, a checkpoint file, or a recipe: its network before any training.",
        ),
    ],
    data: DataOption = "showroom",
    classes: Annotated[
        int, typer.Option(help="Of a recipe: compare photos of the classes after so many.")
    ] = 0,
) -> None:
    """Score how a network compares photos: neighbors, and pairs of classes it never learned."""
    from carlib.catalog import open_catalog
    from carlib.recipes import RECIPES, recipe
    from carlib.records import Checkpoint

    catalog = open_catalog(data).with_val()
    if what in RECIPES and not Path(what).exists():
        learned = catalog.select_classes(range(classes)) if classes else catalog
        begun = Checkpoint.begin(recipe(what).but(name=f"{what}_untrained"), learned)
        _compare(begun, catalog, None)
    else:
        checkpoint, run = _opened(Path(what))
        _compare(checkpoint, catalog, run)


@app.command("study")
def study_command(
    question: Annotated[str, typer.Argument(metavar="imbalance|unknown", help="Which study.")],
    data: DataOption = "showroom",
    recipe_name: Annotated[
        str, typer.Option("--recipe", help="What is trained, again and again.")
    ] = "lite0_frozen",
    seeds: Annotated[int, typer.Option(help="Seeds of the imbalance study.")] = 3,
) -> None:
    """Train a recipe many times with one thing changed, and write what came of it as a record."""
    from carlib.catalog import open_catalog
    from carlib.recipes import recipe
    from carlib.studies import imbalance_study, unknown_study

    catalog, base = open_catalog(data).with_val(), recipe(recipe_name)
    if question == "imbalance":
        record = imbalance_study(catalog, base, seeds=range(seeds), say=typer.echo)
    elif question == "unknown":
        record = unknown_study(catalog, base)
    else:
        raise RecipeError(f"unknown study {question!r}; known: imbalance, unknown")
    typer.echo(record.write())


@app.command("recipes")
def recipes_command() -> None:
    """List the named recipes."""
    from rich.console import Console

    from carlib.recipes import RECIPES

    table = _table("recipes", "name", "model", "side", "epochs", "what it is")
    for name, chosen in RECIPES.items():
        table.add_row(name, chosen.model, str(chosen.size), str(chosen.epochs), chosen.note)
    Console().print(table)


@app.command("report")
def report_command(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 if something is stale.")
    ] = False,
) -> None:
    """Make figures, report.pdf and the README's table from the records of this checkout."""
    from carlib.report import build_report, check_report

    if check:
        stale = check_report()
        typer.echo(
            "\n".join([*stale, "run: carlib report"] if stale else ["all as the records say"])
        )
        raise typer.Exit(1 if stale else 0)
    for path in build_report():
        typer.echo(path)


def main() -> None:
    """Entry point of the `carlib` command."""
    app()


def _open(path: str, val_fraction: float) -> Catalog:
    from carlib.catalog import open_catalog

    catalog = open_catalog(path)
    return catalog.stratified_split(val_fraction) if val_fraction else catalog


def _opened(path: Path) -> tuple[Checkpoint, Run | None]:
    """A checkpoint, and its run where the path is the folder of a finished one."""
    from carlib.records import Checkpoint, Run

    checkpoint = Checkpoint.load(path)
    run = Run(path, checkpoint.recipe)
    return checkpoint, run if path.is_dir() and run.finished else None


def _changes(settings: list[str]) -> dict[str, Any]:
    """`field=value` pairs as recipe fields; a value that is no JSON is taken as a word."""
    changes = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}: write it as field=value, such as epochs=10")
        try:
            changes[field] = json.loads(value)
        except json.JSONDecodeError:
            changes[field] = value
    return changes


def _print_score(record: Record, path: Path) -> None:
    from rich.console import Console

    metrics = record.metrics
    low, high = metrics["accuracy_interval"]
    Console().print(
        f"{record.name}: accuracy {metrics['accuracy']:.3f} ({low:.3f} to {high:.3f}), "
        f"top-5 {metrics['top5']:.3f}, macro F1 {metrics['macro_f1']:.3f}, "
        f"{record.data['photos']} photos; record {path}",
        soft_wrap=True,
    )


def _print_maps(record: Record, path: Path) -> None:
    from rich.console import Console

    names = [name for name in record.extra["rows"][0] if not name.endswith("_interval")]
    table = _table(record.name, *names)
    for row in record.extra["rows"]:
        table.add_row(row["map"], *(f"{row[name]:.3f}" for name in names[1:]))
    console = Console()
    console.print(table)
    console.print(f"record {path}", soft_wrap=True)


def _compare(checkpoint: Checkpoint, catalog: Catalog, run: Run | None) -> None:
    """Write the records of neighbors, and of pairs where classes are left that were not learned."""
    from rich.console import Console

    from carlib.retrieval import score_retrieval
    from carlib.verification import has_trial, score_verification

    def records() -> Iterator[Record]:
        yield from score_retrieval(checkpoint, catalog, run)
        if has_trial(checkpoint, catalog):
            yield score_verification(checkpoint, catalog, run)

    for record in records():
        shown = (f"{name.replace('_', ' ')} {record.metrics[name]:.3f}"
                 for name in ("accuracy", "recall_at_1", "r_precision", "map_at_r", "easy_auc",
                              "medium_auc", "hard_auc", "hard_eer")
                 if name in record.metrics)  # fmt: skip
        Console().print(
            f"{record.name}: {', '.join(shown)}, {record.data['photos']} photos; "
            f"record {record.write()}",
            soft_wrap=True,
        )


def _table(title: str, *columns: str) -> Table:
    """A table; columns named "photos", "classes" or "how many" hold numbers, set to the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        numbers = column in ("photos", "classes", "how many")
        table.add_column(column, justify="right" if numbers else "left")
    return table


def _facts(catalog: Catalog) -> Table:
    rows = catalog.table
    facts = _table(f"{catalog.name} ({catalog.fingerprint})", "what", "how many")
    facts.add_row("photos", f"{len(catalog):,}")
    for split, count in catalog.split_sizes.items():
        facts.add_row(f"  split {split}", f"{count:,}")
    facts.add_row("classes", str(catalog.num_classes))
    per_class = rows["label"].value_counts()
    if len(per_class):
        facts.add_row("photos per class", f"{per_class.min()} to {per_class.max()}")
    for column in ("make", "model", "body", "year", "viewpoint"):
        facts.add_row(f"{column}s" if column != "body" else "bodies", str(rows[column].nunique()))
    facts.add_row("photos without label", f"{int(rows['label'].isna().sum()):,}")
    facts.add_row("photos with a box", f"{int(rows['x1'].notna().sum()):,}")
    if rows["x1"].notna().any():
        widths, heights = rows["x2"] - rows["x1"], rows["y2"] - rows["y1"]
        facts.add_row("box width, px", f"{widths.min()} to {widths.max()}")
        facts.add_row("box height, px", f"{heights.min()} to {heights.max()}")
    return facts


def _counts(column: str, catalog: Catalog) -> Table:
    """Classes and photos per value of a column, most photos first."""
    table = _table(f"by {column}", column, "classes", "photos")
    for value, part in sorted(
        catalog.table.groupby(catalog.table[column].fillna("not stated")),
        key=lambda item: (-len(item[1]), item[0]),
    ):
        table.add_row(str(value), str(part["label"].nunique()), str(len(part)))
    return table


def _print_audit(catalog: Catalog, found: Audit, csv: Path | None, shown: int = 10) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    table = _table(f"{catalog.name}: {len(catalog):,} photos", "finding", "photos", "for example")
    for finding, count in found.counts.items():
        examples = found.findings["path"][found.findings["finding"] == finding]
        table.add_row(finding, str(count), escape(", ".join(examples.head(2))))
    console.print(table)

    summary = found.summary()
    console.print(
        f"{summary['usable']:,} of {summary['photos']:,} photos can be used; "
        f"{summary['copy_groups']} groups of copies."
    )
    per_class = found.class_counts.sum(axis="columns").sort_values(kind="stable")
    table = _table("smallest and largest classes", "class", "photos")
    for name, count in [*per_class.head(3).items(), *per_class.iloc[3:].tail(3).items()]:
        table.add_row(escape(name), str(count))
    console.print(table)
    copies = found.copies()
    leaking = copies[copies["leaks"]]
    if len(leaking):
        table = _table("copies across splits", "copies", "splits", "kind")
        for row in leaking.head(shown).itertuples():
            table.add_row(escape("\n".join(row.paths)), ", ".join(row.splits), row.kind)
        console.print(table)
        if len(leaking) > shown:
            console.print(f"... and {len(leaking) - shown} groups more.")
        console.print("A split leaks: photos of train or val have copies in another split.")
    else:
        console.print("No copies across splits.")
    if csv is not None:
        console.print(f"All findings: {csv}", markup=False)
    else:
        console.print("All findings, photo by photo: add --csv FILE.")
