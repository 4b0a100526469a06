"""Figures, report.pdf, README's results and the model card, from the records in data/results.

Nothing here computes a result: a number in the report is a number in a record. The same records
give the same bytes, so `check_report` proves that what is committed is what the records say by
making it again.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from PIL import Image

from carlib.audit import MAX_RATIO, MIN_SIDE
from carlib.card import CARD, model_card
from carlib.errors import RunError
from carlib.faithfulness import BASELINES, RANDOM
from carlib.models import count_parameters
from carlib.paths import checkout
from carlib.plots.style import BLACK, BLUE, COLORS, GREEN, LINES, ORANGE, STYLE
from carlib.recipes import RECIPES, Recipe, quick
from carlib.records import Record, load_records, make_network, write_atomically
from carlib.results import (
    STANFORD,
    Row,
    best,
    comparable,
    final_rows,
    retrieval_rows,
    row,
    verification_rows,
)
from carlib.showroom import PAINTS, draw_photo

STUDIES = ("cnn3", "cnn4", "cnn_advanced", "s1", "resnet_ce", "resnet_focal", "resnet_large_ce",
           "resnet_large_focal")  # fmt: skip
BUDGET = (*(f"{name}_quick" for name in STUDIES), "scratch_cpu")  # what two CPU cores can do
FULL = (*STUDIES, "scratch_best")  # what the recipes ask for; hours on a GPU
TRANSFER = ("lite0_frozen", "lite0_cpu", "lite0_cpu_long", "lite0", "lite2")  # ours, pretrained
EARLIER = ("resnet50_frozen", "resnet50_frozen_augmented", "resnet50_tuned",
           "densenet121_progressive", "efficientnet_b3", "efficientnetv2", "resnet18_ce",
           "resnet18_focal", "inception_ce", "inception_focal")  # fmt: skip
NAMES = (*BUDGET, *FULL, *TRANSFER, *EARLIER)
THREE_SEEDS = ("scratch_best", "lite0", "lite2")  # what the claims at full scale rest on
KNOWS_NOTHING = (RANDOM, *BASELINES)  # maps below the line
COLUMN = 3.35  # inches; figures are drawn at the width at which they are printed


def build_report(root: Path | None = None) -> list[Path]:
    """Draw the figures, set report.pdf and fill the README's table; gives the files written.

    `root` is the repository. A figure whose record is missing is removed, and the report says
    "not run" where it would stand. Raises `RunError` when the records cannot be compared.
    """
    root = root or checkout()
    records = comparable(load_records(root / "data" / "results"))
    folder = root / "figures"
    folder.mkdir(exist_ok=True)
    for name, content in figures(records):
        (folder / name).unlink(missing_ok=True)
        if content:
            write_atomically(folder / name, content)
    written = sorted(path for path in folder.iterdir() if path.name in FIGURES)
    write_atomically(root / "report.pdf", typeset(root, records))
    readme = (root / "README.md").read_text()
    write_atomically(root / "README.md", fill(readme, "results", results_table(records)))
    written += [root / "report.pdf", root / "README.md"]
    if card := model_card(root, records):
        (root / CARD).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(root / CARD, card)
        written.append(root / CARD)
    return written


def check_report(root: Path | None = None) -> list[str]:
    """Where figures, report.pdf or README differ from what the records say; empty if nowhere."""
    root = root or checkout()
    records = comparable(load_records(root / "data" / "results"))
    found = []
    for name, content in figures(records):
        path = root / "figures" / name
        if _pixels(path.read_bytes() if path.exists() else None) != _pixels(content):
            found.append(f"figures/{name}: not what the records give")
    found += _different_lines(root / "report.pdf", typeset(root, records))
    readme = (root / "README.md").read_text()
    for ours, theirs in _changed(readme, fill(readme, "results", results_table(records))):
        found.append(f"README.md: says {ours!r}, the records say {theirs!r}")
    card = (root / CARD).read_text() if (root / CARD).exists() else ""
    for ours, theirs in _changed(card, model_card(root, records) or ""):
        found.append(f"{CARD}: says {ours!r}, the records say {theirs!r}")
    return found


# --- report.pdf ---------------------------------------------------------------------------------


def typeset(root: Path, records: Sequence[Record]) -> bytes:
    """report/report.typ as PDF. Same records and figures, same bytes: no dates, no system fonts."""
    import typst

    try:
        return typst.compile(
            root / "report" / "report.typ",
            root=root,
            ignore_system_fonts=True,
            sys_inputs={"facts": json.dumps(facts(root, records))},
        )
    except typst.TypstError as error:
        raise RunError(f"report/report.typ cannot be set: {error}") from error


def facts(root: Path, records: Sequence[Record]) -> dict:
    """What Typst cannot find out: which records and figures there are, what the recipes say."""
    tops = {"best": best(records, "random"), "top": best(records, "pretrained")}
    return {
        "data": STANFORD,
        "records": [record.name for record in records],
        "figures": [name for name in FIGURES if (root / "figures" / name).exists()],
        "budget": BUDGET,
        "full": FULL,
        "transfer": TRANSFER,
        "earlier": EARLIER,
        "limits": {"side": MIN_SIDE, "ratio": MAX_RATIO},
        **{key: record.name if record else None for key, record in tops.items()},
        "rows": {name: asdict(found) for name in NAMES if (found := row(records, name))},
        "final": final_rows(records),
        "knows_nothing": KNOWS_NOTHING,
        "retrieval": {key: retrieval_rows(records, key) for key in ("unseen", "same")},
        "verification": verification_rows(records),
        "commands": {name: command(name) for name in NAMES},
        "recipes": {
            name: asdict(chosen) | {"parameters": parameters(chosen)}
            for name, chosen in zip(NAMES, map(planned, NAMES), strict=True)
        },
    }


def planned(name: str) -> Recipe:
    """The recipe of a row, whether it was run or not."""
    return RECIPES[name] if name in RECIPES else quick(RECIPES[name.removesuffix("_quick")])


def command(name: str) -> str:
    """The one command that makes the record of a row."""
    if name not in RECIPES:
        return f"carlib train {name.removesuffix('_quick')} --quick --data PATH"
    return f"carlib train {name} --data PATH" + (" --seeds 3" if name in THREE_SEEDS else "")


def parameters(chosen: Recipe, num_classes: int = 196) -> int:
    """Trainable parameters of a recipe's network; no memory is taken to count them."""
    return _count(
        Recipe(model=chosen.model, head=chosen.head, grayscale=chosen.grayscale), num_classes
    )


@functools.cache
def _count(chosen: Recipe, num_classes: int) -> int:
    with torch.device("meta"):
        return count_parameters(make_network(chosen, num_classes))


# --- README -------------------------------------------------------------------------------------


def results_table(records: Sequence[Record]) -> str:
    """The README's table in Markdown: a row per recipe, seeds averaged, "not run" where none was.

    The interval is that of the first seed: 95 %, by bootstrap over the photos of val.
    """
    lines = [
        "| recipe | what it is | val accuracy (95 % interval) | top-5 | macro F1 | training |",
        "|---|---|---|---|---|---|",
    ]
    for name in NAMES:
        cells = [f"`{name}`", planned(name).note, *_scores(row(records, name))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _scores(found: Row | None) -> list[str]:
    if found is None:
        return ["not run", "", "", ""]
    accuracy, top5, f1 = (f"{found.metrics[name]:.3f}" for name in ("accuracy", "top5", "macro_f1"))
    low, high = found.interval
    training = f"{found.seconds / 60:.0f} min, {found.hardware}"
    return [f"{accuracy} ({low:.3f}–{high:.3f})", top5, f1, training]


def fill(text: str, name: str, content: str) -> str:
    """The text with `content` between its marks `<!-- name:begin -->` and `<!-- name:end -->`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise RunError(f"README.md: expected one pair of marks {begin} … {end}; put them back")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


# --- figures ------------------------------------------------------------------------------------


def figures(records: Sequence[Record]) -> Iterator[tuple[str, bytes | None]]:
    """File name and content of every figure; no content where the record is missing."""
    for name, draw in FIGURES.items():
        yield name, draw(records)


def printed(draw: Callable[..., Figure | None]) -> Callable[..., bytes | None]:
    """Make a drawing of records an SVG for print: small type, outlines for letters, no date."""

    @functools.wraps(draw)
    def drawn(records: Sequence[Record]) -> bytes | None:
        small = {
            "font.size": 7,
            "axes.titlesize": 7.5,
            "legend.fontsize": 6.5,
            "axes.linewidth": 0.6,
        }
        with matplotlib.rc_context(STYLE | small | {"svg.fonttype": "path"}):
            figure = draw(records)
            if figure is None:
                return None
            file = io.BytesIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
        return file.getvalue()

    return drawn


@printed
def classes_figure(records: Sequence[Record]) -> Figure | None:
    """Photos per class, largest first, for every split of the audited data."""
    audit = next((r for r in records if r.name == f"audit-{STANFORD}"), None)
    if audit is None:
        return None
    counts = audit.extra["class_counts"]
    figure, ax = plt.subplots(figsize=(COLUMN, 1.35))
    for split, color, line in zip(
        audit.metrics["splits"], (BLUE, ORANGE, GREEN), LINES, strict=False
    ):
        values = sorted((row[split] for row in counts), reverse=True)
        ax.step(range(1, len(values) + 1), values, where="mid", color=color, ls=line, label=split)
    ax.set(xlabel="class, largest first", ylabel="photos", ylim=(0, None), xlim=(0, len(counts)))
    ax.legend()
    return figure


@printed
def curves_figure(records: Sequence[Record]) -> Figure | None:
    """Loss and scores of the best run from scratch, by epoch."""
    top = best(records, "random")
    if top is None or not top.history:
        return None
    panels = {
        "loss": {"train_loss": "train", "val_loss": "val"},
        "accuracy": {"train_accuracy": "train", "val_accuracy": "val", "val_top5": "val, top-5"},
    }
    figure, axes = plt.subplots(1, 2, figsize=(COLUMN, 1.75))
    for ax, (title, columns) in zip(axes, panels.items(), strict=True):
        for (column, label), color, line in zip(columns.items(), COLORS, LINES, strict=False):
            points = [(row["epoch"], row[column]) for row in top.history if column in row]
            ax.plot(*zip(*points, strict=True), color=color, ls=line, lw=1, label=label)
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].legend(loc="upper right")
    axes[1].legend(loc="lower right")
    axes[1].set_ylim(0, 1)
    return figure


def dots(
    rows: Sequence[Mapping], name: str, scores: Mapping[str, str], label: str
) -> Figure | None:
    """A line per row: its scores as marks, the 95 % interval of the first of them as a bar.

    `name` is the key of what stands before a line, `scores` are keys and what the legend says.
    """
    if not rows:
        return None
    figure, ax = plt.subplots(figsize=(COLUMN, 0.65 + 0.16 * len(rows)))
    for height, found in enumerate(reversed(rows)):
        ax.plot(found["interval"], [height, height], color=BLUE, lw=1)
        for score, color, mark in zip(scores, COLORS, "osD", strict=False):
            fill = color if color == BLUE else "white"
            said = None if height else scores[score]
            ax.plot(found[score], height, mark, ms=4, color=color, mfc=fill, label=said)
    ax.set_yticks(range(len(rows)), [found[name] for found in reversed(rows)])
    ax.set(xlabel=label, ylim=(-0.6, len(rows) - 0.4))
    ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(scores))
    return figure


@printed
def unseen_figure(records: Sequence[Record]) -> Figure | None:
    """Recall@1 with its interval and MAP@R among classes that were never seen, by loss."""
    scores = {"recall_at_1": "Recall@1", "map_at_r": "MAP@R"}
    return dots(retrieval_rows(records, "unseen"), "loss", scores, "")


@printed
def pairs_figure(records: Sequence[Record]) -> Figure | None:
    """AUC on hard pairs with its interval, and on medium and easy ones, by recipe."""
    scores = {"hard_auc": "hard", "medium_auc": "medium", "easy_auc": "easy"}
    return dots(verification_rows(records), "recipe", scores, "AUC")


@printed
def imbalance_figure(records: Sequence[Record]) -> Figure | None:
    """Balanced accuracy by imbalance factor, a line per answer to it."""
    found = next((r for r in records if r.name == f"imbalance-{STANFORD}-lite0_frozen"), None)
    if found is None:
        return None
    rows = found.extra["rows"]
    figure, ax = plt.subplots(figsize=(COLUMN, 1.6))
    answers = dict.fromkeys(row["objective"] for row in rows)
    for answer, color, line, mark in zip(answers, COLORS, LINES, "osD^v", strict=False):
        own = [row for row in rows if row["objective"] == answer]
        heights = [row["balanced_accuracy"] for row in own]
        spread = [row["balanced_accuracy_sd"] for row in own]
        ax.errorbar([row["factor"] for row in own], heights, spread, color=color, ls=line, lw=1,
                    marker=mark, ms=3, label=answer)  # fmt: skip
    factors = sorted({row["factor"] for row in rows})
    ax.set(xscale="log", xlabel="imbalance factor", ylabel="balanced accuracy")
    ax.set_xticks(factors, [f"{factor:g}" for factor in factors])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(loc="lower left")
    return figure


@printed
def scores_figure(records: Sequence[Record]) -> Figure | None:
    """Accuracy on classes, with its interval, and on makes, a line per recipe."""
    rows = [
        {"recipe": name, "interval": found.interval, **found.metrics}
        for name in NAMES
        if (found := row(records, name))
    ]
    scores = {"accuracy": "the class is right", "make_accuracy": "the make is right"}
    return dots(rows, "recipe", scores, "val accuracy")


@printed
def maps_figure(records: Sequence[Record]) -> Figure | None:
    """Insertion and ROAD of every kind of map of real photos, a mark per network."""
    found = [r for r in records if r.kind == "maps" and r.data["catalog"] == STANFORD]
    if not found:
        return None
    kinds = [row["map"] for row in found[0].extra["rows"]]
    panels = {"insertion": "insertion", "road": "ROAD"}
    figure, axes = plt.subplots(1, 2, figsize=(COLUMN, 0.75 + 0.2 * len(kinds)), sharey=True)
    for ax, (measure, title) in zip(axes, panels.items(), strict=True):
        for number, (record, color, mark) in enumerate(zip(found, COLORS, "osD^vP", strict=False)):
            for place, line in enumerate(record.extra["rows"]):
                height = len(kinds) - place + 0.22 * ((len(found) - 1) / 2 - number)
                ax.plot(line[f"{measure}_interval"], [height] * 2, color=color, lw=0.8)
                name = record.recipe["name"] if not place else None
                ax.plot(line[measure], height, mark, ms=3, color=color, label=name, lw=0)
        ax.axhline(len(KNOWS_NOTHING) + 0.5, color=BLACK, lw=0.5)
        ax.set(title=title, ylim=(0.4, len(kinds) + 0.6))
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(kinds), 0, -1), kinds)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=len(found))  # fmt: skip
    return figure


# Class, azimuth, paint and scene of each car on page one: every make, every body, all viewpoints.
SHOWN = (
    (1, 35, "blue", "street"), (31, -40, "red", "sunset"), (14, 28, "olive", "forest"),
    (25, -35, "silver", "studio"), (10, 45, "yellow", "seaside"), (36, -30, "wine", "field"),
    (38, 32, "white", "street"), (42, -38, "teal", "garage"), (13, 90, "orange", "field"),
    (18, -90, "navy", "garage"), (29, 150, "sky", "seaside"), (33, 90, "yellow", "sunset"),
    (6, -145, "green", "street"), (40, -90, "beige", "forest"), (23, 140, "grey", "studio"),
    (4, -150, "brown", "field"), (35, 0, "orange", "garage"), (16, 8, "white", "street"),
    (46, -142, "red", "seaside"), (2, 148, "violet", "studio"), (9, 180, "wine", "forest"),
    (44, 5, "silver", "street"), (27, -176, "teal", "street"), (21, 40, "silver", "sunset"),
)  # fmt: skip


def showroom_picture(
    _: Sequence[Record], columns: int = 8, width: int = 176, gap: int = 6
) -> bytes:
    """Drawn cars in a grid, as PNG of 256 colors: a fifth of the size, hardly to be told apart."""
    height = width * 3 // 4
    rows = len(SHOWN) // columns
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    plain = dict(aspect=4 / 3, elevation=7.0, distance=2.6, fill=0.86, shift=(0.0, 0.0), roll=0.0,
                 occluder=None, noise=0, blur=0, exposure=1.05)  # fmt: skip
    for number, (car, azimuth, paint, scene) in enumerate(SHOWN):
        look = plain | {"azimuth": float(azimuth), "paint": PAINTS[paint], "scene": scene}
        drawing = draw_photo(car, number, size=2 * width, **look)
        tile = Image.fromarray(drawing.image).resize((width, height), Image.Resampling.LANCZOS)
        row, column = divmod(number, columns)
        sheet.paste(tile, (column * (width + gap), row * (height + gap)))
    file = io.BytesIO()
    sheet.quantize(256).save(file, "png", optimize=True)
    return file.getvalue()


FIGURES: dict[str, Callable[[Sequence[Record]], bytes | None]] = {
    "showroom.png": showroom_picture,
    "classes.svg": classes_figure,
    "scores.svg": scores_figure,
    "curves.svg": curves_figure,
    "imbalance.svg": imbalance_figure,
    "unseen.svg": unseen_figure,
    "pairs.svg": pairs_figure,
    "maps.svg": maps_figure,
}


# --- differences --------------------------------------------------------------------------------


def _pixels(picture: bytes | None) -> bytes | None:
    """The pixels of a PNG, since compressors differ from machine to machine; an SVG as it is."""
    if picture is None or not picture.startswith(b"\x89PNG"):
        return picture
    return Image.open(io.BytesIO(picture)).convert("RGB").tobytes()


def _different_lines(path: Path, fresh: bytes) -> list[str]:
    """What a committed PDF says otherwise than a fresh one, page by page."""
    from pypdf import PdfReader

    if not path.exists():
        return [f"{path.name}: missing; run: carlib report"]
    if path.read_bytes() == fresh:
        return []
    pages = [PdfReader(file).pages for file in (path, io.BytesIO(fresh))]
    found = []
    for number, pair in enumerate(itertools.zip_longest(*pages), start=1):
        texts = [page.extract_text() if page else "" for page in pair]
        for ours, theirs in _changed(*texts):
            found.append(f"{path.name}, page {number}: says {ours!r}, the records say {theirs!r}")
    return found or [f"{path.name}: same words, but figures or layout differ"]


def _changed(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Pairs of lines that differ."""
    for pair in itertools.zip_longest(ours.splitlines(), theirs.splitlines(), fillvalue=""):
        if pair[0] != pair[1]:
            yield pair
