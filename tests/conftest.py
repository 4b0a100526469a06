"""What every test may ask for: private folders, one thread, and a toy data set.

The toy photos are colored shapes: four classes that a small network learns in a few seconds.
"""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its version
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toys import by_class, toy_catalog

from carlib.data.catalog import Catalog

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Caches, runs and records of a test lie in its own folder, never in the user's.

    A test in which a command was saved by its last net alone has found an error of ours.
    """
    for part in ("cache", "runs", "results"):
        monkeypatch.setenv(f"CARLIB_{part.upper()}", str(tmp_path / part))
    yield tmp_path
    assert not list((tmp_path / "cache" / "errors").glob("*.log"))


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per class of drawn shapes: 4 classes × 24 photos of 48 × 40 px."""
    return by_class(tmp_path_factory.mktemp("toys") / "shapes")


@pytest.fixture
def toys(toy_root: Path) -> Catalog:
    """The toy catalog, its photos divided into 80 train and 16 val."""
    return toy_catalog(toy_root)
