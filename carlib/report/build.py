"""report.pdf and its figures, README's results and the model card, from the records.

Nothing here computes a result: a number in the report is a number in a record. The same records
give the same bytes, so `check_report` proves that what is committed is what the records say by
making it again.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from carlib.errors import RunError, optional
from carlib.experiment.record import Record, load_records
from carlib.experiment.tables import comparable
from carlib.files import write_atomically
from carlib.paths import checkout
from carlib.report.card import CARD, model_card
from carlib.report.facts import facts
from carlib.report.figures import FIGURES, figures
from carlib.report.intervals import with_outputs
from carlib.report.missing import missing
from carlib.report.rows import retrieval_rows, rows_of, verification_rows, with_baseline
from carlib.report.tables import Table

ROUNDING = 2  # of 255: how far pixels of the same picture may lie apart
NONE = "–"  # what no record holds
COLUMNS = {  # of README's table
    "question": "", "title": "network", "score": "score (95 %)", "seeds": "seeds",
    "training": "training of one seed",
}  # fmt: skip


def build_report(root: Path | None = None) -> list[Path]:
    """Draw the figures, set report.pdf and fill the README's table; gives the files written.

    `root` is the repository. A figure whose record is missing is removed, and the report says
    "not run" where it would stand. Raises `RunError` when the records cannot be compared.
    """
    root = _repository(root)
    records = _records(root)
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
    records = _records(root)
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


def _records(root: Path) -> list[Record]:
    """The committed records, with what they keep of what networks said."""
    folder = root / "data" / "results"
    return comparable(with_outputs(load_records(folder), folder))


def _repository(root: Path | None) -> Path:
    """The repository with the report's text; `RunError` where there is none."""
    root = root or checkout()
    for part in ("report/report.typ", "README.md", "CITATION.cff"):
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


# --- README -------------------------------------------------------------------------------------


def results_table(records: Sequence[Record]) -> str:
    """The README's table in Markdown: who names cars, who finds them, who tells them apart; then
    how many recipes are missing.

    Of naming every recipe has a row, seeds averaged; of the rest the best network, and the best of
    those that learned no car.
    """
    lines = []
    for question, score, rows in (
        ("Which of 196 cars is it? Accuracy", "accuracy", list(rows_of(records).values())),
        ("Which photo shows the same car, of cars never seen? Recall@1", "recall_at_1",
         with_baseline(retrieval_rows(records, "unseen"))),
        ("The same model, or another of its make? AUC, cars never seen", "hard_auc",
         with_baseline(verification_rows(records))),
    ):  # fmt: skip
        asked = [question, *[""] * len(rows)]
        lines += [
            _shown(row, score) | {"question": first}
            for row, first in zip(rows, asked, strict=False)
        ]
    text = Table(lines, COLUMNS).markdown()
    lacking = len(missing(records))
    if not lacking:
        return text
    recipes = f"{lacking} recipes have" if lacking > 1 else "One recipe has"
    return (
        f"{text}\n\n{recipes} no record yet; `carlib recipes --missing` lists the commands that "
        f"make them, with what each costs."
    )


def _shown(row: Mapping[str, Any], score: str) -> dict[str, object]:
    """A row of scores as README shows it."""
    ends = row["interval"]
    between = f"{ends[0]:.3f}–{ends[1]:.3f}" if ends else NONE
    mirrored = " with mirror image" if row.get("one_view", 0) is None else ""
    timed = row["trained"] and row["seconds"]
    return {
        "title": row["title"],
        "score": f"{row[score]:.3f} ({between}){mirrored}",
        "seeds": row["seeds"],
        "training": f"{row['seconds'] / 60:.0f} min, {row['hardware']}" if timed else NONE,
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
