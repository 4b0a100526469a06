"""Kind 8: full disks, and folders that cannot be written; what was there before stays whole."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

from toys import shape

from harness.cases import Case, Place, environment

PARTS = ("CARLIB_CACHE", "CARLIB_RUNS", "CARLIB_RESULTS")


@contextlib.contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _disc(here: Place) -> Path:
    file = here.folder / "disc.png"
    if not file.exists():
        shape(2, 9).save(file)
    return file


def _toys(here: Place) -> Path:
    """Toys that lie there already where a disk is full."""
    root = here.folder / "set"
    return root if root.exists() else here.toys()


def _train(here: Place) -> str:
    return here.cli("train", "cnn3", "--data", _toys(here), "--set", "epochs=1", "--set", "size=16")


def _evaluate(here: Place) -> str:
    return here.cli("evaluate", here.world.network, "--data", here.world.photos)


def _search(here: Place) -> str:
    return here.use("search", _disc(here), "--data", _toys(here))


def _audit(here: Place) -> str:
    return here.cli("data", "audit", _toys(here), "--record", allowed=(0, 1))


NEEDS: dict[str, tuple[Callable[[Place], str], tuple[str, ...]]] = {
    "train": (_train, PARTS),
    "evaluate": (_evaluate, ("CARLIB_CACHE", "CARLIB_RESULTS")),
    "search": (_search, ("CARLIB_CACHE",)),
    "audit": (_audit, ("CARLIB_RESULTS",)),
}


def _unwritable(here: Place) -> dict[str, str]:
    here.write("file", "a file")
    (here.folder / "looped").symlink_to("looped")
    return {"a file": f"{here.folder}/file", "a folder below a file": f"{here.folder}/file/below",
            "a folder that is no disk": "/proc/carlib", "a link to itself":
            f"{here.folder}/looped"}  # fmt: skip


def unwritable() -> Iterator[Case]:
    """The folder and the variable that moves it are named."""
    for command, (do, parts) in NEEDS.items():
        for part in parts:
            for place in ("a file", "a folder below a file", "a folder that is no disk",
                          "a link to itself"):  # fmt: skip

                def act(here: Place, do=do, part=part, place=place) -> str:
                    with environment(**{part: _unwritable(here)[place]}):
                        return do(here)

                yield Case(8, f"{command} where {part} is {place}", act, words=part)

    def without(here: Place) -> str:
        with environment(CARLIB_CACHE=_unwritable(here)["a file"]):
            return here.use("predict", _disc(here))

    yield Case(8, "predict needs no cache", without, lambda told: "red disc" in told)


def full() -> Iterator[Case]:
    """A disk that is full: in words, with the file or folder, and nothing half written stays."""
    for command, (do, parts) in NEEDS.items():
        for size in (0, 3000):
            if command == "audit" and size:
                continue

            def act(here: Place, do=do, size=size) -> list[str]:
                roots = {part: here.folder / "roots" / part for part in PARTS}
                with environment(**roots):
                    _toys(here), _disc(here)
                    with full_after(size):
                        return [do(here)]

            words = "CARLIB_" if parts else ""
            yield Case(8, f"{command} on a disk full after {size} bytes", act, words=words,
                       child=True)  # fmt: skip


OUTPUTS: dict[str, Callable[[Place, Path], str]] = {
    "explain --out a.png": lambda here, file: here.use("explain", _disc(here), "--out", file),
    "data export --csv a.csv": lambda here, file: here.cli("data", "export", here.toys(), "--csv",
                                                           file),
    "data audit --csv a.csv": lambda here, file: here.cli("data", "audit", here.toys(), "--csv",
                                                          file, allowed=(0, 1)),
    "publish --out a.safetensors": lambda here, file: here.cli(
        "publish", here.world.run.folder, "--data", here.world.divided, "--out", file),
}  # fmt: skip


def outputs() -> Iterator[Case]:
    """A file that a command is told to write: into impossible places, and over an old one."""
    for command, do in OUTPUTS.items():
        name = command.split()[-1]
        for place in ("below a file", "a folder", "no disk"):

            def act(here: Place, do=do, name=name, place=place) -> str:
                here.write("file", "a file")
                (here.folder / "folder" / name).mkdir(parents=True)
                where = {
                    "below a file": here.folder / "file" / name,
                    "a folder": here.folder / "folder" / name,
                    "no disk": Path("/proc/x") / name,
                }
                return do(here, where[place])

            words = {"below a file": "file", "a folder": name, "no disk": "/proc/x"}[place]
            yield Case(8, f"{command} that is {place}", act, words=words)

        def kept(here: Place, do=do, name=name) -> bool:
            """The old file is whole after a failure, and nothing lies beside it."""
            file = here.write(f"out/{name}", "the old one")
            (here.folder / "out" / "keep").touch()
            with contextlib.suppress(Exception), full_after(5):
                do(here, file)
            left = sorted(os.listdir(file.parent))
            return file.read_text(encoding="utf-8") == "the old one" and left == sorted(
                [name, "keep"]
            )

        yield Case(8, f"{command} over an old one, disk full", kept, bool)


def atomic() -> Iterator[Case]:
    """What the library writes is whole or not there, and only a full disk is called full."""

    def text(here: Place, error: int) -> object:
        from unittest import mock

        from carlib.files import write_atomically

        with mock.patch("os.replace", side_effect=OSError(error, os.strerror(error))):
            return write_atomically(here.folder / "a.txt", "words")

    import errno

    for number in (errno.EACCES, errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT):
        short = number in (errno.ENOSPC, errno.EDQUOT)
        yield Case(8, f"a file and {errno.errorcode[number]}",
                   lambda here, n=number: text(here, n),
                   words="free some space" if short else "a.txt")  # fmt: skip

    def catalog(here: Place, size: int) -> bool:
        file = here.folder / "out" / "catalog.csv"
        here.world.catalog.to_csv(file)
        before = {p.name: p.read_bytes() for p in file.parent.iterdir()}
        with contextlib.suppress(Exception), full_after(size):
            here.world.catalog.to_csv(file)
        return before == {p.name: p.read_bytes() for p in file.parent.iterdir()}

    for size in (0, 500, 2000):
        yield Case(8, f"a catalog written over, full after {size} bytes",
                   lambda here, s=size: catalog(here, s), bool)  # fmt: skip


def galleries() -> Iterator[Case]:
    """A gallery that is written over stays whole; and other files that the library writes."""

    def gallery(here: Place, size: int) -> bool:
        from carlib.retrieval.gallery import Gallery

        folder = here.world.demo.gallery.save(here.folder / "gallery")
        with contextlib.suppress(Exception), full_after(size):
            here.world.demo.gallery.save(folder)
        names = sorted(p.suffix for p in folder.iterdir())
        return len(Gallery.load(folder)) == len(here.world.demo.gallery) and len(names) <= 4

    def full_gallery(here: Place) -> object:
        with full_after(10):
            return here.world.demo.gallery.save(here.folder / "gallery")

    for size in (10, 4000):
        yield Case(8, f"a gallery written over, full after {size} bytes",
                   lambda here, s=size: gallery(here, s), bool)  # fmt: skip
    yield Case(8, "a gallery on a full disk", full_gallery, words="gallery")

    def ledger(here: Place) -> object:
        from carlib.experiment.record import append_to_ledger

        here.write("file", "")
        return append_to_ledger({"a": 1}, here.folder / "file" / "below")

    yield Case(8, "a ledger below a file", ledger, words="file")


def cases() -> Iterator[Case]:
    yield from unwritable()
    yield from full()
    yield from outputs()
    yield from atomic()
    yield from galleries()
