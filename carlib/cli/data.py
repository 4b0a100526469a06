"""`carlib data …`: look at a data set, check it, write it as one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carlib.cli.base import AsJson, DataPath, app, say, show_table, tell_notes

if TYPE_CHECKING:
    import pandas as pd

    from carlib.data.audit import Audit
    from carlib.data.catalog import Catalog

data_app = typer.Typer(no_args_is_help=True, help="Get, look at and check a data set.")
app.add_typer(data_app, name="data")
ValFraction = Annotated[
    float,
    typer.Option(
        "--val-fraction", help="Hold out this share of 'train' as 'val' first, as training does."
    ),
]


@data_app.command("audit")
def data_audit(
    path: DataPath,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the findings here.")] = None,
    as_json: AsJson = False,
    val_fraction: ValFraction = 0.0,
    record: Annotated[bool, typer.Option("--record", help="Also write the record.")] = False,
) -> None:
    """Find bad photos and copies; exit code 1 if copies are on both sides of a split."""
    from carlib.data.audit import audit

    catalog = _open(path, val_fraction)
    result = audit(catalog, progress=not as_json)
    if csv is not None:
        result.to_csv(csv)
    if as_json:
        typer.echo(json.dumps(result.summary(), indent=1))
    else:
        _print_audit(catalog, result, csv)
    if record:
        from carlib.experiment.audits import audit_record

        say(f"record: {audit_record(result, catalog).write()}", err=True)
    raise typer.Exit(1 if result.leaks else 0)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="stanford_cars|compcars")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder; by default data/NAME in the checkout.")
    ] = None,
    source: Annotated[str, typer.Option("--from", metavar="hub|kaggle", help="Source.")] = "hub",
) -> None:
    """Download a data set, resuming where a download stopped, and check the files."""
    from carlib.data.download import fetch
    from carlib.paths import checkout

    folder = to or checkout() / "data" / name
    say(f"{folder}: {fetch(name, folder, source)}")


@data_app.command("export")
def data_export(
    path: DataPath,
    csv: Annotated[Path, typer.Option("--csv", help="The file to write.")],
    val_fraction: ValFraction = 0.0,
) -> None:
    """Write the catalog as CSV, with a small JSON beside it; every command accepts it as PATH."""
    catalog = _open(path, val_fraction)
    catalog.to_csv(csv)
    say(f"{csv}: {catalog}")


@data_app.command("show")
def data_show(path: DataPath, val_fraction: ValFraction = 0.0) -> None:
    """Print what is in a data set: splits, classes, makes, models, years, bodies, boxes."""
    catalog = _open(path, val_fraction)
    show_table(_facts(catalog), title=f"{catalog.name} ({catalog.fingerprint})")
    for column in ("body", "make"):
        show_table(_counts(column, catalog), title=f"by {column}")


def _open(path: str, val_fraction: float) -> Catalog:
    from carlib.data.opening import open_catalog

    catalog = open_catalog(path)
    tell_notes(catalog)
    return catalog.stratified_split(val_fraction) if val_fraction else catalog


def _facts(catalog: Catalog) -> list[dict[str, object]]:
    table = catalog.table
    facts: dict[str, object] = {"photos": len(catalog)}
    facts |= {f"  split {split}": count for split, count in catalog.split_sizes.items()}
    facts["classes"] = catalog.num_classes
    per_class = table["label"].value_counts()
    if len(per_class):
        facts["photos per class"] = [int(per_class.min()), int(per_class.max())]
    for column in ("make", "model", "body", "year", "viewpoint"):
        facts[f"{column}s" if column != "body" else "bodies"] = table[column].nunique()
    facts["photos without label"] = int(table["label"].isna().sum())
    boxed = table[table["x1"].notna()]
    facts["photos with a box"] = len(boxed)
    if len(boxed):
        for side, lengths in (
            ("width", boxed["x2"] - boxed["x1"]),
            ("height", boxed["y2"] - boxed["y1"]),
        ):
            facts[f"box {side}, px"] = [int(lengths.min()), int(lengths.max())]
    return [{"what": what, "how many": value} for what, value in facts.items()]


def _counts(column: str, catalog: Catalog) -> list[dict[str, object]]:
    """Classes and photos per value of a column, most photos first."""
    groups = catalog.table.groupby(catalog.table[column].fillna("not stated"))
    rows = [
        {column: str(value), "classes": int(part["label"].nunique()), "photos": len(part)}
        for value, part in groups
    ]
    return sorted(rows, key=lambda line: (-line["photos"], line[column]))


def _print_audit(catalog: Catalog, result: Audit, csv: Path | None, shown: int = 10) -> None:
    findings, summary = result.findings, result.summary()
    rows = [
        {"finding": finding, "photos": count,
         "for example": ", ".join(findings["path"][findings["finding"] == finding].head(2))}
        for finding, count in result.counts.items()
    ]  # fmt: skip
    show_table(rows, title=f"{catalog.name}: {len(catalog):,} photos")
    typer.echo(
        f"{summary['usable']:,} of {summary['photos']:,} photos can be used; "
        f"{summary['copy_groups']} groups of copies."
    )
    per_class = result.class_counts.sum(axis="columns").sort_values(kind="stable")
    ends = [*per_class.head(3).items(), *per_class.iloc[3:].tail(3).items()]
    rows = [{"class": name, "photos": int(count)} for name, count in ends]
    show_table(rows, title="smallest and largest classes")
    _print_leaks(result.copies(), shown)
    say(f"All findings: {csv}" if csv else "All findings, photo by photo: add --csv FILE.")


def _print_leaks(copies: pd.DataFrame, shown: int) -> None:
    leaking = copies[copies["leaks"]]
    if not len(leaking):
        typer.echo("No copies across splits.")
        return
    rows = [
        {"copies": "\n".join(line.paths), "splits": ", ".join(line.splits), "kind": line.kind}
        for line in leaking.head(shown).itertuples()
    ]
    show_table(rows, title="copies across splits")
    if len(leaking) > shown:
        typer.echo(f"... and {len(leaking) - shown} groups more.")
    typer.echo("A split leaks: photos of train or val have copies in another split.")
