"""report.pdf and its figures, README's results and the model card, from the records.

Nothing here computes a result: a number in the report is a number in a record. The same records
give the same bytes, so `check_report` proves that what is committed is what the records say by
making it again.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from carlib.data.audit import MAX_RATIO, MIN_SIDE
from carlib.errors import RunError, optional
from carlib.experiment.network import make_network
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record, load_records, the_one
from carlib.experiment.tables import (
    BUDGET,
    EARLIER,
    FULL,
    NAMES,
    PLANNED,
    SHORT,
    STANFORD,
    TRANSFER,
    best,
    comparable,
    final_rows,
    retrieval_rows,
    row,
    shown_name,
    verification_rows,
)
from carlib.files import write_atomically
from carlib.models.networks import count_parameters
from carlib.paths import checkout
from carlib.report.card import CARD, model_card
from carlib.report.figures import FIGURES, KNOWS_NOTHING, figures
from carlib.report.tables import Table

ROUNDING = 2  # of 255: how far pixels of the same picture may lie apart
STUDIED = ("unknown", "imbalance", "leak")  # questions that the report answers
THREE_SEEDS = ("scratch_best", "lite0", "lite2")  # what the claims at full scale rest on


def build_report(root: Path | None = None) -> list[Path]:
    """Draw the figures, set report.pdf and fill the README's table; gives the files written.

    `root` is the repository. A figure whose record is missing is removed, and the report says
    "not run" where it would stand. Raises `RunError` when the records cannot be compared.
    """
    root = _repository(root)
    records = comparable(load_records(root / "data" / "results"))
    folder = root / "figures"
    folder.mkdir(exist_ok=True)
    for name, content in figures(records):
        (folder / name).unlink(missing_ok=True)
        if content:
            write_atomically(folder / name, content)
    written = sorted(path for path in folder.iterdir() if path.name in FIGURES)
    write_atomically(root / "report.pdf", typeset(root, records))
    readme = (root / "README.md").read_text(encoding="utf-8")
    write_atomically(root / "README.md", fill(readme, "results", results_table(records)))
    written += [root / "report.pdf", root / "README.md"]
    if card := model_card(root, records):
        (root / CARD).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(root / CARD, card)
        written.append(root / CARD)
    return written


def check_report(root: Path | None = None) -> list[str]:
    """Where figures, report.pdf or README differ from what the records say; empty if nowhere."""
    root = _repository(root)
    records = comparable(load_records(root / "data" / "results"))
    stale = []
    for name, content in figures(records):
        path = root / "figures" / name
        if not _same_picture(path.read_bytes() if path.exists() else None, content):
            stale.append(f"figures/{name}: not what the records give")
    stale += _different_lines(root / "report.pdf", typeset(root, records))
    readme = (root / "README.md").read_text(encoding="utf-8")
    for ours, theirs in _changed(readme, fill(readme, "results", results_table(records))):
        stale.append(f"README.md: says {ours!r}, the records say {theirs!r}")
    card = (root / CARD).read_text(encoding="utf-8") if (root / CARD).exists() else ""
    for ours, theirs in _changed(card, model_card(root, records) or ""):
        stale.append(f"{CARD}: says {ours!r}, the records say {theirs!r}")
    return stale


def _repository(root: Path | None) -> Path:
    """The repository with the report's text; `RunError` where there is none."""
    root = root or checkout()
    for part in ("report/report.typ", "README.md"):
        if not (root / part).exists():
            raise RunError(
                f"{root.resolve() / part}: not there; the report is made in a checkout of the "
                f"repository, with carlib installed from it: pip install -e ."
            )
    return root


# --- report.pdf ---------------------------------------------------------------------------------


def typeset(root: Path, records: Sequence[Record]) -> bytes:
    """report/report.typ as PDF. Same records and figures, same bytes: no dates, no system fonts."""
    with optional():
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
    named = {*NAMES, *(shown_name(record) for record in tops.values() if record)}
    single = {
        "audit": the_one(records, "audit", dataset=STANFORD),
        "rate": the_one(records, "benchmark", "showroom_rate"),
        "startup": the_one(records, "benchmark", "startup"),
        "books": the_one(records, "benchmark", "notebooks"),
        **{study: the_one(records, "study", study, STANFORD) for study in STUDIED},
    }
    return {
        "data": STANFORD,
        "records": [record.name for record in records],
        "figures": [name for name in FIGURES if (root / "figures" / name).exists()],
        "budget": BUDGET,
        "full": FULL,
        "transfer": TRANSFER,
        "earlier": EARLIER,
        "limits": {"side": MIN_SIDE, "ratio": MAX_RATIO},
        **{key: record.name if record else None for key, record in (tops | single).items()},
        "shown": {record.name: shown_name(record) for record in records if record.recipe},
        "short": {name: recipe.name for name, recipe in SHORT.items()},
        "rows": {name: scored for name in sorted(named) if (scored := row(records, name))},
        "final": final_rows(records),
        "knows_nothing": KNOWS_NOTHING,
        "retrieval": {key: retrieval_rows(records, key) for key in ("unseen", "same")},
        "verification": verification_rows(records),
        "commands": {name: command(name) for name in NAMES},
        "recipes": {
            name: asdict(PLANNED[name]) | {"parameters": parameters(PLANNED[name])}
            for name in NAMES
        },
    }


def command(name: str) -> str:
    """The one command that makes the record of a row."""
    for whole, short in SHORT.items():
        if name == short.name:
            return f"carlib train {whole} --quick --data PATH"
    return f"carlib train {name} --data PATH" + (" --seeds 3" if name in THREE_SEEDS else "")


def parameters(recipe: Recipe, num_classes: int = 196) -> int:
    """Trainable parameters of a recipe's network; no memory is taken to count them."""
    return _count(
        Recipe(model=recipe.model, head=recipe.head, grayscale=recipe.grayscale), num_classes
    )


@functools.cache
def _count(recipe: Recipe, num_classes: int) -> int:
    with torch.device("meta"):
        return count_parameters(make_network(recipe, num_classes))


# --- README -------------------------------------------------------------------------------------


def results_table(records: Sequence[Record]) -> str:
    """The README's table in Markdown: a row per recipe, seeds averaged; then what was not run.

    The interval is that of the first seed: 95 %, by bootstrap over the photos of val.
    """
    scored = {name: row(records, name) for name in NAMES}
    rows = [_shown(name, line) for name, line in scored.items() if line]
    text = Table(rows, {"recipe": "recipe", "note": "what it is",
                        "accuracy": "val accuracy (95 % interval)", "top5": "top-5",
                        "macro_f1": "macro F1", "training": "training"}).markdown()  # fmt: skip
    missing = [name for name, line in scored.items() if not line]
    if not missing:
        return text
    commands = [_named(name) | {"command": f"`{command(name)}`"} for name in missing]
    title = f"Not run yet: {len(missing)} recipes and their commands"
    columns = {"recipe": "recipe", "note": "what it is", "command": "command"}
    folded = f"<details><summary>{title}</summary>\n\n{Table(commands, columns).markdown()}"
    return f"{text}\n\n{folded}\n\n</details>"


def _named(name: str) -> dict[str, object]:
    return {"recipe": f"`{name}`", "note": PLANNED[name].note}


def _shown(name: str, scored: Mapping[str, Any]) -> dict[str, object]:
    low, high = scored["interval"]
    seeds = f", {scored['seeds']} seeds" if scored["seeds"] > 1 else ""
    return _named(name) | {
        "accuracy": f"{scored['accuracy']:.3f} ({low:.3f}–{high:.3f})",
        "top5": scored["top5"],
        "macro_f1": scored["macro_f1"],
        "training": f"{scored['seconds'] / 60:.0f} min, {scored['hardware']}{seeds}",
    }


def fill(text: str, name: str, content: str) -> str:
    """The text with `content` between its marks `<!-- name:begin -->` and `<!-- name:end -->`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise RunError(f"README.md: expected one pair of marks {begin} … {end}; put them back")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


# --- differences --------------------------------------------------------------------------------


def _same_picture(ours: bytes | None, theirs: bytes | None) -> bool:
    """Whether two files show the same: of PNGs the pixels, else every byte.

    Compressors differ from machine to machine, and so does the last bit of a resized pixel.
    """
    if ours is None or theirs is None or not ours.startswith(b"\x89PNG"):
        return ours == theirs
    a, b = (np.asarray(Image.open(io.BytesIO(f)).convert("RGB"), int) for f in (ours, theirs))
    return a.shape == b.shape and bool((abs(a - b) <= ROUNDING).all())


def _different_lines(path: Path, fresh: bytes) -> list[str]:
    """What a committed PDF says otherwise than a fresh one, page by page."""
    with optional():
        from pypdf import PdfReader

    if not path.exists():
        return [f"{path.name}: missing; run: carlib report"]
    if path.read_bytes() == fresh:
        return []
    pages = [PdfReader(file).pages for file in (path, io.BytesIO(fresh))]
    differences = []
    for number, pair in enumerate(itertools.zip_longest(*pages), start=1):
        texts = [page.extract_text() if page else "" for page in pair]
        for ours, theirs in _changed(*texts):
            differences.append(
                f"{path.name}, page {number}: says {ours!r}, the records say {theirs!r}"
            )
    return differences or [f"{path.name}: same words, but figures or layout differ"]


def _changed(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Pairs of lines that differ."""
    for pair in itertools.zip_longest(ours.splitlines(), theirs.splitlines(), fillvalue=""):
        if pair[0] != pair[1]:
            yield pair
