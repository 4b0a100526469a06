"""How records are told at the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from carlib.cli.base import say, show_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from carlib.experiment.record import Record


def tell(record: Record, show: Callable[[Record, Path], None], as_json: bool) -> None:
    """Write a record and show it; as JSON, one line each, with the record's path."""
    path = record.write()
    if as_json:
        typer.echo(json.dumps({"record": str(path), "metrics": record.metrics}))
    else:
        show(record, path)


def print_score(record: Record, path: Path) -> None:
    """Accuracy with its interval, and what goes with it, in a line."""
    metrics = record.metrics
    low, high = metrics["accuracy_interval"]
    say(
        f"{record.name}: accuracy {metrics['accuracy']:.3f} ({low:.3f} to {high:.3f}), "
        f"top-5 {metrics['top5']:.3f}, macro F1 {metrics['macro_f1']:.3f}, "
        f"{record.data['photos']} photos; record {path}"
    )


def print_views(record: Record, path: Path) -> None:
    """What more views of a photo gain, in a line."""
    gain, (low, high) = record.metrics["gain"], record.metrics["gain_interval"]
    say(
        f"{record.name}: accuracy {record.metrics['accuracy']:.3f}, gain {gain:+.4f} "
        f"({low:+.4f} to {high:+.4f}); record {path}"
    )


def print_maps(record: Record, path: Path) -> None:
    """Measures of heat maps, and how far each method is ahead of the best blind map."""
    for rows in (record.extra["rows"], record.extra.get("truth")):
        if rows:
            show_table(rows, *(name for name in rows[0] if not name.endswith("_interval")))
    ahead = [
        {"measure": row["measure"], "map": row["map"], "better than": row["than"],
         "by": row["difference"], "95 %": row["difference_interval"]}
        for row in record.extra["ahead"]
    ]  # fmt: skip
    show_table(ahead)
    say(f"record {path}")


def print_comparison(record: Record, path: Path) -> None:
    """How well a network finds neighbors or tells pairs apart, in a line."""
    from carlib.report.tables import heading

    shown = (f"{heading(name)} {record.metrics[name]:.3f}"
             for name in ("accuracy", "recall_at_1", "r_precision", "map_at_r", "easy_auc",
                          "medium_auc", "hard_auc", "hard_eer")
             if name in record.metrics)  # fmt: skip
    say(f"{record.name}: {', '.join(shown)}, {record.data['photos']} photos; record {path}")
