"""More than a thousand bad and edge inputs: an answer that is right or an error in words, always.

`python tests/harness` prints the table of what came of them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from harness.cases import KINDS, World
from harness.run import FAILURES, all_cases, failures, table, tried

from carlib.experiment.record import load_records, the_one

ROOT = Path(__file__).resolve().parents[1]
CASES = all_cases()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    with pytest.MonkeyPatch.context() as patch:
        for name in World.VARIABLES:
            patch.setenv(name, "")  # put back when the module is done
        yield World(tmp_path_factory.mktemp("world"))


def test_every_kind_is_tried_often() -> None:
    counts = Counter(case.kind for case in CASES)
    assert set(counts) == set(KINDS) and min(counts.values()) >= 25
    assert len(CASES) >= 600


def test_readme_counts_these_cases() -> None:
    """The record from which README has its table: `python tests/harness --record` renews it."""
    made = the_one(load_records(ROOT / "data" / "results"), "benchmark", "reliability")
    assert made.metrics["tried"] == len(CASES)
    assert all(made.metrics[verdict] == 0 for verdict in FAILURES)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_wrong_no_traceback_no_hang(kind: int, world: World, monkeypatch) -> None:
    for name, value in world.variables.items():
        monkeypatch.setenv(name, value)
    results = list(tried([case for case in CASES if case.kind == kind], world))
    print(table(results))
    assert failures(results) == []
