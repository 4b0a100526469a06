"""Tries cases and says what came of each: the table, and every case that failed."""

from __future__ import annotations

import importlib
import os
import pickle
import resource
import select
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cases import KINDS, Case, NetUsed, Place, Refused, World

MODULES = ("photos", "formats", "files", "sets", "options", "names", "numbers", "foreign",
           "described", "disk", "small", "net")  # fmt: skip
VERDICTS = ("clear error", "right", "wrong", "traceback", "hang")
FAILURES = VERDICTS[2:]
LIMIT = float(os.environ.get("CARLIB_HARNESS_LIMIT", "60"))  # seconds, of a case that hangs
SLOWEST = 10  # cases whose seconds are told
MEMORY = 2_500_000_000  # bytes that a case in a process of its own may take more


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    kind: int
    name: str
    verdict: str  # one of VERDICTS
    detail: str = ""
    seconds: float = 0.0


class Hang(BaseException):
    """The time is over."""


def all_cases() -> list[Case]:
    """Every case of every module; names are unique."""
    found = [
        case
        for module in MODULES
        for case in importlib.import_module(f"{__package__}.{module}").cases()
    ]
    twice = [name for name, count in Counter(c.name for c in found).items() if count > 1]
    assert not twice, twice
    return sorted(found, key=lambda case: case.kind)


def tried(cases: Iterable[Case], world: World) -> Iterator[Outcome]:
    """The outcome of every case, one after the other."""
    for case in cases:
        folder = Path(tempfile.mkdtemp(dir=world.root, prefix="case-"))
        place = Place(world, folder)
        began = time.perf_counter()
        found = in_child(case, place) if case.child else outcome(case, place)
        yield replace(found, seconds=time.perf_counter() - began)
        shutil.rmtree(folder, ignore_errors=True)


def outcome(case: Case, place: Place) -> Outcome:
    """Try a case here and now."""
    from carlib.errors import CarlibError

    def told(verdict: str, detail: object = "") -> Outcome:
        return Outcome(case.kind, case.name, verdict, " ".join(str(detail).split())[:300])

    with warnings.catch_warnings(record=True) as leaked, time_limit():
        warnings.simplefilter("always")
        try:
            answer = case.act(place)
        except (CarlibError, Refused) as error:
            return told(*judged_error(case, str(error)))
        except NetUsed as error:
            return told("traceback", error)
        except Hang:
            return told("hang")
        except BaseException as error:
            return told("traceback", f"{type(error).__name__}: {error}")
    if pillow := [w for w in leaked if "PIL" in w.filename or "Decompression" in str(w.category)]:
        return told("wrong", f"a warning of Pillow leaks: {pillow[0].message}")
    if case.right is None:
        return told("wrong", f"must be refused, but was answered: {shown(answer)}")
    return told("right") if case.right(answer) else told("wrong", f"answer: {shown(answer)}")


def shown(answer: object) -> str:
    """An answer in a few words."""
    shape = getattr(answer, "shape", None)
    return f"array of {shape}" if shape else " ".join(repr(answer).split())


def judged_error(case: Case, message: str) -> tuple[str, str]:
    """Whether a refusal is one, and in words that help."""
    if case.right is not None and not case.refusable:
        return "wrong", f"refused: {message}"
    if "Traceback" in message or "\x1b" in message or not message.strip():
        return "wrong", f"no sentence: {message!r}"
    if case.words.casefold() not in " ".join(message.split()).casefold():
        return "wrong", f"does not name {case.words!r}: {message}"
    return "clear error", message


@contextmanager
def time_limit() -> Iterator[None]:
    """Raises `Hang` in whatever waits too long."""

    def over(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_child(case: Case, place: Place) -> Outcome:
    """Try a case in a copy of this process, which is killed when its time is over."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _bound_memory()
            os.write(writing, pickle.dumps(outcome(case, place)))
        finally:
            os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], LIMIT + 5)
    data = os.read(reading, 65536) if ready else None
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if data is None:
        return Outcome(case.kind, case.name, "hang")
    return pickle.loads(data) if data else Outcome(case.kind, case.name, "traceback", "died")


def _bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def table(results: Sequence[Outcome]) -> str:
    """Tried, and what came of it, a row per kind."""
    heads = ("tried", *VERDICTS)
    rows = [f"{'':38}" + "".join(f"{head:>13}" for head in heads)]
    for kind, about in [*KINDS.items(), (0, "all")]:
        own = [r for r in results if kind in (0, r.kind)]
        counts = Counter(r.verdict for r in own)
        numbers = (len(own), *(counts[verdict] for verdict in VERDICTS))
        title = f"{kind:2} {about}" if kind else "   all"
        rows.append(f"{title:38}" + "".join(f"{number:13}" for number in numbers))
    return "\n".join(rows)


def failures(results: Iterable[Outcome]) -> list[str]:
    """A line for every case that failed."""
    return [
        f"{r.kind:2} {r.verdict:10} {r.name}: {r.detail}" for r in results if r.verdict in FAILURES
    ]


def record(results: Sequence[Outcome]) -> None:
    """Write what came of all cases among the committed records, for README."""
    from carlib.experiment.record import Record

    rows = {
        about: {v: sum(r.verdict == v for r in results if r.kind == kind) for v in VERDICTS}
        for kind, about in KINDS.items()
    }
    metrics = {"tried": float(len(results))}
    metrics |= {v: float(sum(row[v] for row in rows.values())) for v in VERDICTS}
    Record(
        kind="benchmark",
        topic="reliability",
        data={"catalog": "made by the harness", "dataset": "made by the harness"},
        metrics=metrics,
        extra={"kinds": rows},
        command="python tests/harness --record",
    ).write(Path(__file__).resolve().parents[2] / "data" / "results")


def main(words: Sequence[str]) -> int:
    """Try all cases, or those whose kind or part of name is given, and print what came of them.

    With `--record`, and nothing else, the counts are written among the records as well.
    """
    kept = list(words) == ["--record"]
    words = [] if kept else words
    numbers = {int(word) for word in words if word.isdigit()}
    parts = [word for word in words if not word.isdigit()]
    chosen = [
        case
        for case in all_cases()
        if (not numbers or case.kind in numbers)
        and (not parts or any(part in case.name for part in parts))
    ]
    with tempfile.TemporaryDirectory() as folder:
        results = list(tried(chosen, World(Path(folder))))
    slow = sorted(results, key=lambda r: -r.seconds)[:SLOWEST]
    print("\n".join(f"{r.seconds:6.1f} s  {r.name}" for r in slow))
    print("\n".join(["", *failures(results), "", table(results)]))
    if kept:
        record(results)
    return 1 if failures(results) else 0
