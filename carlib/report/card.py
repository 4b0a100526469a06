"""The model card of the published network (Mitchell 2019, arXiv:1810.03993), from its record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from carlib.data.class_names import parse_name
from carlib.experiment.checkpoint import PUBLISHED
from carlib.experiment.record import Record, the_one
from carlib.experiment.tables import changes, machine

CARD = Path("carlib") / "data" / PUBLISHED.with_suffix(".md").name  # in the repository
TEXT = Path("report") / "model_card.md"  # with places for the numbers


def model_card(root: Path, records: Sequence[Record]) -> str | None:
    """The card in Markdown, or nothing where no network was published; `root` is the repository."""
    record = the_one(records, "published")
    if record is None:
        return None
    use, metrics = record.extra["use"], record.metrics
    training = record.extra["training"]
    study = the_one(records, "study", "unknown", record.data.get("dataset"))
    worst = sorted(record.per_class, key=lambda c: (c["recall"], -c["photos"], c["class"]))[:5]
    text = (root / TEXT).read_text(encoding="utf-8")
    return text.format(
        name=PUBLISHED.stem,
        classes=record.data["classes"],
        model=record.recipe["model"],
        recipe=f"{'an earlier form of ' * bool(changes(record))}recipe `{record.recipe['name']}`",
        epochs=record.recipe["epochs"],
        catalog=record.data["catalog"],
        minutes=training["seconds"] / 60,
        hardware=machine(record),
        bytes=record.extra["bytes"],
        hash=record.checkpoint["hash"],
        photos=record.data["photos"],
        split_hash=record.data["split_hash"],
        scores="\n".join(_scores(metrics)),
        groups="\n".join(_groups(record)),
        worst="; ".join(
            f"{c['class']} ({round(c['recall'] * c['photos'])} of {c['photos']})" for c in worst
        ),
        ece=metrics["ece"],
        ece_calibrated=metrics["ece_calibrated"],
        passed=100 * record.extra["known_share"],
        pairs=use["decision"]["pairs"],
        threshold=use["decision"]["threshold"],
        unknown=_unknown(study),
        views=_views(record.scoring.get("views", ["plain"])),
        chosen=_chosen(record),
        costs=_costs(records, record.checkpoint["hash"]),
        train_photos=record.extra["train_photos"],
        per_class=record.extra["train_photos"] / record.data["classes"],
        **{key: use[key] for key in ("temperature", "known_from", "trained_as")},
    )


def _views(views: Sequence[str]) -> str:
    if list(views) == ["plain"]:
        return "One view of each, as `carlib predict` looks."
    return "Each was looked at plain and mirrored, while `carlib predict` looks once."


def _chosen(record: Record) -> str:
    by_val = record.recipe.get("chosen_on") == "val"
    return "The epoch and the thresholds were" if by_val else "The thresholds were"


def _scores(metrics: dict) -> list[str]:
    shown = {"accuracy": "top-1", "top3": "top-3", "top5": "top-5", "macro_f1": "macro F1",
             "make_accuracy": "make", "model_accuracy": "make and model"}  # fmt: skip
    rows = []
    for key, name in shown.items():
        ends = metrics.get(f"{key}_interval")
        between = f" ({ends[0]:.3f}–{ends[1]:.3f})" if ends else ""
        rows.append(f"| {name} | {metrics[key]:.3f}{between} |")
    surest = metrics["accuracy_at_80"]
    return [*rows, f"| top-1 of the surest 80 % | {surest:.3f} |"]


def _groups(record: Record) -> list[str]:
    """Recall by body, most photos first."""
    photos, right = defaultdict(int), defaultdict(float)
    for row in record.per_class:
        body = parse_name(row["class"]).body or "not stated"
        photos[body] += row["photos"]
        right[body] += row["recall"] * row["photos"]
    order = sorted(photos, key=lambda body: (-photos[body], body))
    return [f"| {body} | {photos[body]} | {right[body] / photos[body]:.3f} |"
            for body in order if photos[body]]  # fmt: skip


def _costs(records: Sequence[Record], checkpoint: str) -> str:
    """Size and speed by torch, ONNX and int8, as `carlib bench` measured this very checkpoint."""
    measured = [r for r in records if r.topic == "deployment"]
    measured = [r for r in measured if r.checkpoint["hash"] == checkpoint]
    if not measured:
        return "Not measured yet: `carlib bench --data PATH`."
    record, extra = measured[0], measured[0].extra
    lines = [
        f"{extra['parameters']:,} parameters, {extra['gflops']:.2f} GFLOPs for one view of a photo "
        f"of {extra['side']} pixels, on {machine(record)}. Accuracy is of one view of val.",
        "",
        "| way | MB | val accuracy | one photo, ms | photos/s | speed (ONNX is 1) |",
        "|---|---|---|---|---|---|",
    ]
    latency = {row["way"]: row["ms_per_photo"] for row in extra["rows"]}
    for row in extra["rows"]:
        lines.append(
            f"| {row['way']} | {row['bytes'] / 1e6:.1f} | {row['accuracy']:.3f} | "
            f"{row['ms_per_photo']:.1f} | {row['photos_per_second']:.0f} | "
            f"{latency['onnx'] / row['ms_per_photo']:.1f} |"
        )
    change, (low, high) = (extra["rows"][-1][key] for key in ("change", "change_interval"))
    accuracy = f"{change:+.3f} ({low:+.3f} to {high:+.3f})".replace("-", "−")
    told = f"One photo at a time. int8 changes the accuracy of single precision by {accuracy}."
    return "\n".join([*lines, "", told])


def _unknown(study: Record | None) -> str:
    if study is None:
        return ""
    best = max(study.extra["rows"], key=lambda row: row["auroc"])
    return (
        f" Take it as a hint: for another network, a frozen body that learned all but "
        f"{len(study.extra['held_out'])} of the classes, the best of several scores told photos of "
        f"those from others with an AUROC of only {best['auroc']:.2f} (.5 is guessing)."
    )
