"""Kind 2: pipes, devices, folders, links, sparse giants and names that no file can have."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from toys import shape

from harness.cases import Case, Place

SPARSE = 5_000_000_000


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _link_to(target: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.symlink_to(target)
        return path

    return make


def _socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as opened:
        there = os.getcwd()
        os.chdir(path.parent)  # a socket's path must be short
        opened.bind(path.name)
        os.chdir(there)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _sparse(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(SPARSE)
    return path


def _sparse_photo(path: Path) -> Path:
    """A photo, followed by gigabytes of nothing."""
    shape(2, 1).save(path, "PNG")
    os.truncate(path, SPARSE)
    return path


def _linked_fifo(path: Path) -> Path:
    return _link_to(str(_fifo(path.with_name("pipe"))))(path)


SPECIAL: dict[str, Callable[[Path], Path]] = {
    "a pipe": _fifo,
    "a link to a pipe": _linked_fifo,
    "a link to /dev/zero": _link_to("/dev/zero"),
    "a link to /dev/full": _link_to("/dev/full"),
    "a link to /dev/null": _link_to("/dev/null"),
    "a link to /proc/self/mem": _link_to("/proc/self/mem"),
    "a link to itself": _link_to("special.png"),
    "a link to nothing": _link_to("gone.png"),
    "a socket": _socket,
    "a folder": _folder,
    "a sparse file": _sparse,
    "a sparse photo": _sparse_photo,
}


def as_photo() -> Iterator[Case]:
    """Given to every command that takes a photo."""

    def opened(here: Place, file: Path) -> object:
        from carlib.apps.predictor import open_photo

        return open_photo(file)

    ways = {
        "opened": opened,
        "predicted": lambda here, file: here.use("predict", file),
        "compared": lambda here, file: here.use("verify", _disc(here), file, allowed=(0, 1)),
        "searched for": lambda here, file: here.use("search", file, "--data", here.world.photos),
        "explained": lambda here, file: here.use("explain", file, "--out", here.folder / "a.png"),
        "shown to the demo": lambda here, file: here.world.demo.identify(str(file)),
    }
    for name, make in SPECIAL.items():
        for way, do in ways.items():
            if way in ("searched for", "explained") and name not in ("a pipe", "a sparse file"):
                continue

            def act(here: Place, make=make, do=do) -> object:
                return do(here, make(here.folder / "special.png"))

            yield Case(2, f"{name} is {way}", act, words="special.png", child=True)


def _disc(here: Place) -> Path:
    shape(2, 900).save(here.folder / "disc.png")
    return here.folder / "disc.png"


def in_a_set() -> Iterator[Case]:
    """One of a class's photos is special: it is left out by name, and the others are used."""
    for name, make in SPECIAL.items():
        if name == "a folder":
            continue

        def audited(here: Place, make=make) -> dict:
            root = here.toys()
            make(root / "red disc" / "special.png")
            told = here.cli("data", "audit", root, "--json", allowed=(0, 1))
            return json.loads(told)

        def right(found: dict) -> bool:
            bad = found["findings"]["unreadable"] + found["findings"]["missing"]
            return (found["photos"], found["usable"], bad) == (17, 16, 1)

        yield Case(2, f"{name} in an audit", audited, right, child=True)

    for name in ("a pipe", "a link to /dev/zero", "a sparse file"):

        def stored(here: Place, make=SPECIAL[name]) -> tuple[int, list[str]]:
            from carlib.data.framing import Framing
            from carlib.data.opening import open_catalog
            from carlib.data.store import PhotoStore

            root = here.toys()
            make(root / "red disc" / "special.png")
            store = PhotoStore.open(open_catalog(root).with_val(), Framing(16), progress=False)
            return len(store.rows), list(store.left_out)

        yield Case(2, f"{name} among photos to learn from", stored,
                   lambda found: found == (16, ["red disc/special.png"]), child=True)  # fmt: skip


def beside_photos() -> Iterator[Case]:
    """A file that describes photos is a pipe, or has no end."""
    layouts = {
        "catalog.csv": lambda here: here.toys(),
        "catalog.json": _catalog,
        "anno_train.csv": _by_split,
        "devkit/cars_meta.mat": _devkit,
        "devkit/cars_train_annos.mat": _devkit,
        "train.parquet": lambda here: here.folder / "set",
    }
    for file, layout in layouts.items():
        for name in ("a pipe", "a link to /dev/zero", "a sparse file"):

            def act(here: Place, file=file, layout=layout, make=SPECIAL[name]) -> object:
                root = layout(here)
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).unlink(missing_ok=True)
                make(root / file)
                return here.cli("data", "show", root)

            words = file.rpartition("/")[2].partition("_")[0]
            right = (lambda told: "16" in told) if file == "catalog.csv" else None
            right = (lambda _: True) if file == "anno_train.csv" else right
            yield Case(2, f"{name} called {file}", act, right, words if right is None else "",
                       refusable=True, child=True)  # fmt: skip


def _catalog(here: Place) -> Path:
    from carlib.data.opening import open_catalog

    root = here.toys()
    open_catalog(root).to_csv(root / "catalog.csv")
    return root


def _by_split(here: Place) -> Path:
    root = here.toys("set/train")
    return root.parent


def _devkit(here: Place) -> Path:
    import trees

    return trees.devkit(here.folder / "set")


def of_a_run() -> Iterator[Case]:
    """A file that carlib wrote itself has become something else."""

    def predicted(here: Place, file: Path) -> object:
        return here.cli("predict", _disc(here), "--model", file)

    for name, make in SPECIAL.items():
        yield Case(2, f"{name} as a checkpoint",
                   lambda here, make=make: predicted(here, make(here.folder / "special.png")),
                   words="special.png", child=True)  # fmt: skip

    def evaluated(here: Place, name: str, make: Callable[[Path], Path]) -> object:
        run = here.folder / "run"
        shutil.copytree(here.world.run.folder, run)
        (run / name).unlink()
        make(run / name)
        return here.cli("evaluate", run, "--data", here.world.photos)

    for file in ("finished.json", "metrics.csv"):
        for name in ("a pipe", "a sparse file", "a link to /dev/zero"):

            def act(here: Place, file=file, make=SPECIAL[name]) -> object:
                return evaluated(here, file, make)

            yield Case(2, f"{name} called {file}", act, words=file, child=True)

    def gallery(here: Place, make: Callable[[Path], Path]) -> object:
        from carlib.retrieval.gallery import Gallery

        (here.folder / "gallery").mkdir()
        make(here.folder / "gallery" / "gallery.json")
        return Gallery.load(here.folder / "gallery")

    def record(here: Place, make: Callable[[Path], Path]) -> object:
        from carlib.experiment.record import read_record

        return read_record(make(here.folder / "record.json"))

    for what, do in (("gallery.json", gallery), ("record.json", record)):
        for name in ("a pipe", "a sparse file", "a link to /dev/zero"):
            yield Case(2, f"{name} called {what}",
                       lambda here, do=do, make=SPECIAL[name]: do(here, make),
                       words="gallery" if "gallery" in what else what, child=True)  # fmt: skip


def impossible() -> Iterator[Case]:
    """Names that no file has."""
    names = {"of 300 letters": "a" * 300 + ".png", "below a file": "disc.png/photo.png",
             "with a zero byte": "a\0b.png", "of nothing": ""}  # fmt: skip

    def opened(here: Place, file: str) -> object:
        from carlib.apps.predictor import open_photo

        return open_photo(file)

    ways = {
        "opened": opened,
        "predicted": lambda here, file: here.use("predict", file),
        "as a data set": lambda here, file: here.cli("data", "show", file),
        "as a checkpoint": lambda here, file: here.cli("predict", _disc(here), "--model", file),
    }
    for name, file in names.items():
        for way, do in ways.items():

            def act(here: Place, file=file, do=do) -> object:
                _disc(here)
                return do(here, f"{here.folder}/{file}" if file else file)

            words = "" if "\0" in file or not file else file[:20]
            yield Case(2, f"a name {name} {way}", act, words=words, child=True)


def cases() -> Iterator[Case]:
    yield from as_photo()
    yield from in_a_set()
    yield from beside_photos()
    yield from of_a_run()
    yield from impossible()
