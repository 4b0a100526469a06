"""What is wrong with a collection is known, and an audit finds all of it."""

from __future__ import annotations

import pytest
from toys import colors

from carlib.data.audit import audit
from carlib.data.drawn import open_showroom
from carlib.data.faults import EACH, collect
from carlib.data.opening import open_catalog
from carlib.errors import DataError


@pytest.fixture(scope="module")
def drawn():
    return open_showroom(photos_per_class=20, size=128, only=range(12))


def test_an_audit_finds_every_fault(drawn, private_folders) -> None:
    collected, planted = collect(drawn, tail=4.0)
    found = audit(collected)
    for (fault, finding), rows in planted.groupby(["fault", "finding"]):
        told = found.findings["path"][found.findings["finding"] == finding]
        assert len(rows) == EACH and set(rows["path"]) <= set(told), fault
    assert found.leaks and (~found.usable).sum() == EACH
    assert "test" not in collected.split_sizes


def test_it_has_a_long_tail_and_is_the_same_every_time(drawn, private_folders) -> None:
    (one, planted), (again, told) = (collect(drawn, seed=3, tail=4.0) for _ in range(2))
    assert one.fingerprint == again.fingerprint and planted.equals(told)
    counts = one.select("train").table["label"].value_counts()
    assert counts.max() >= 2.5 * counts.min()
    assert collect(drawn, seed=4, tail=4.0)[0].fingerprint != one.fingerprint


def test_too_few_photos_for_all_faults_are_told(tmp_path) -> None:
    with pytest.raises(DataError, match="27 photos are needed"):
        collect(open_catalog(colors(tmp_path / "few", classes=2, per_class=4)))
