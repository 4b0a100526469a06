"""`carlib data …`: look at a data set, check it, write it as one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carlib.cli.base import AsJson, DataPath, app, table_of

if TYPE_CHECKING:
    from rich.table import Table

    from carlib.audit import Audit
    from carlib.catalog import Catalog

data_app = typer.Typer(no_args_is_help=True, help="Look at a data set: audit, export, show.")
app.add_typer(data_app, name="data")
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
    as_json: AsJson = False,
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
        from carlib.audit import audit_record

        typer.echo(f"record: {audit_record(found, catalog).write()}", err=True)
    raise typer.Exit(1 if found.leaks else 0)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="stanford_cars|compcars")],
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder; else data/NAME of the checkout.")
    ] = None,
    source: Annotated[
        str, typer.Option("--from", metavar="hub|kaggle", help="Where from.")
    ] = "hub",
) -> None:
    """Fetch a data set, going on where a cut download stopped, and check what arrived."""
    from carlib.fetch import fetch
    from carlib.paths import checkout

    folder = to or checkout() / "data" / name
    typer.echo(f"{folder}: {fetch(name, folder, source)}")


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


def _open(path: str, val_fraction: float) -> Catalog:
    from carlib.catalog import open_catalog

    catalog = open_catalog(path)
    return catalog.stratified_split(val_fraction) if val_fraction else catalog


def _facts(catalog: Catalog) -> Table:
    rows = catalog.table
    facts = table_of(f"{catalog.name} ({catalog.fingerprint})", "what", "how many")
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
    table = table_of(f"by {column}", column, "classes", "photos")
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
    table = table_of(f"{catalog.name}: {len(catalog):,} photos", "finding", "photos", "for example")
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
    table = table_of("smallest and largest classes", "class", "photos")
    for name, count in [*per_class.head(3).items(), *per_class.iloc[3:].tail(3).items()]:
        table.add_row(escape(name), str(count))
    console.print(table)
    copies = found.copies()
    leaking = copies[copies["leaks"]]
    if len(leaking):
        table = table_of("copies across splits", "copies", "splits", "kind")
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
