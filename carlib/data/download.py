"""Getting the data sets: Stanford Cars from the Hugging Face Hub or Kaggle, CompCars by hand.

A download that was cut goes on where it stopped. What has arrived is checked: files against the
Hub's own hashes, the whole by its photos and classes; a file that fails is deleted and named, so
that the next call fetches it alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from carlib.data.catalog import Catalog
from carlib.data.opening import open_catalog
from carlib.errors import DataError, optional

HUB = "tanganke/stanford_cars"
HUB_FILES = ("data/train-*.parquet", "data/test-*.parquet")
KAGGLE = "cyizhuo/stanford-cars-by-classes-folder"
STANFORD = {"train": 8144, "test": 8041}  # photos
CLASSES = 196
BY_HAND = {
    "stanford_cars": (
        "Stanford Cars can be fetched by hand on a machine with a network:\n"
        f"  hf download {HUB} --repo-type dataset --include 'data/train-*' 'data/test-*' "
        "--local-dir FOLDER\n"
        f"  or https://www.kaggle.com/datasets/{KAGGLE}, unpacked in FOLDER\n"
        "then: carlib data audit FOLDER"
    ),
    "compcars": (
        "CompCars is given to researchers who sign its agreement:\n"
        "  http://mmlab.ie.cuhk.edu.hk/datasets/comp_cars/\n"
        "Unpack it (7z x data.zip, with all its parts and the password) so that data/ and sv_data/ "
        "lie in FOLDER, then: carlib data fetch compcars --to FOLDER"
    ),
}


def fetch(name: str, folder: Path | str, source: str = "hub") -> Catalog:
    """Fetch a data set into a folder, or check the one that lies there, and open it.

    `name` is "stanford_cars" (`source` "hub" or "kaggle") or "compcars", which can only be checked.
    Raises `DataError` with the way by hand when nothing can be reached, or naming what is missing
    or damaged.
    """
    folder = Path(folder).expanduser()
    if name == "compcars":
        if not (folder / "data" / "image").is_dir():
            raise DataError(f"{folder}: CompCars is not here.\n{BY_HAND[name]}")
        return check(open_catalog(folder))
    if name != "stanford_cars":
        raise DataError(f"unknown data set {name!r}; known: stanford_cars, compcars")
    ways: dict[str, Callable[[Path], None]] = {"hub": from_hub, "kaggle": from_kaggle}
    if source not in ways:
        raise DataError(f"unknown source {source!r}; known: {', '.join(ways)}")
    ways[source](folder)
    return check(open_catalog(folder), STANFORD, CLASSES)


def from_hub(folder: Path) -> None:
    """The parquet files of the Hub, resumed where cut, each compared with the Hub's sha256."""
    from huggingface_hub import HfApi, snapshot_download

    mirror = os.environ.get("HF_ENDPOINT")  # the Hub's own variable, else its address
    try:
        snapshot_download(
            HUB, repo_type="dataset", local_dir=folder, allow_patterns=HUB_FILES, endpoint=mirror
        )
        about = HfApi(mirror).dataset_info(HUB, files_metadata=True)
    except Exception as error:  # the library's, its transport's, the disk's: no common base
        raise _unreachable("the Hugging Face Hub", error) from None
    for file in about.siblings:
        path = folder / file.rfilename
        if file.lfs is not None and path.is_file() and _sha256(path) != file.lfs.sha256:
            path.unlink()
            raise DataError(f"{path}: arrived damaged and was deleted; fetch again")


def from_kaggle(folder: Path) -> None:
    """The by-class copy of Kaggle, which needs no account, moved into the folder."""
    with optional():
        import kagglehub

    try:
        arrived = Path(kagglehub.dataset_download(KAGGLE))
    except Exception as error:  # kagglehub's errors have no common base
        raise _unreachable("Kaggle", error) from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(arrived, folder, dirs_exist_ok=True)


def check(
    catalog: Catalog, expected: dict[str, int] | None = None, classes: int | None = None
) -> Catalog:
    """The catalog, when it has as many photos and classes as it should and every file is there."""
    photos = {name: catalog.split_sizes.get(name, 0) for name in expected or {}}
    if expected and photos != expected:
        raise DataError(f"{catalog.root}: has {photos} photos, not {expected}; fetch again")
    if classes and catalog.num_classes != classes:
        raise DataError(f"{catalog.root}: has {catalog.num_classes} classes, not {classes}")
    absent = [path for path in catalog.table["path"] if catalog.source.size(path) <= 0]
    if absent:
        raise DataError(
            f"{catalog.root}: {len(absent)} of {len(catalog)} listed photos are missing, first "
            f"{absent[0]}; unpack or fetch again"
        )
    return catalog


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreachable(who: str, error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DataError(
        f"{who} cannot be reached ({reason[:200]}).\n{BY_HAND['stanford_cars']}\n"
        "What has arrived stays; the same command goes on from there."
    )
