"""Kind 3: photos and folders that a data set has and nobody is told of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import trees
from toys import shape

from harness.cases import Case, Place
from harness.photos import encoded

# Endings of photos: read, or counted and named.
ENDINGS = {"jfif": "JPEG", "JPG": "JPEG", "jpe": "JPEG", "avif": "AVIF", "tif": "TIFF",
           "tiff": "TIFF", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "heic": None, "heif": None,
           "mpo": "MPO", "jp2": "JPEG2000", "dng": None, "": "JPEG"}  # fmt: skip


def _bytes(ending: str) -> bytes:
    kind = ENDINGS[ending]
    return encoded(shape(2, 77), kind) if kind else b"\0\0\0\x18ftypheic\0\0\0\0mif1" + b"\0" * 50


def _photos(told: str) -> int:
    """How many photos `data show` counts."""
    line = next(line for line in told.splitlines() if "photos" in line.split())
    return int("".join(c for c in line if c.isdigit()))


def endings() -> Iterator[Case]:
    for ending in ENDINGS:
        file = f"other.{ending}" if ending else "other"

        def shown(here: Place, ending=ending, file=file) -> str:
            here.toys()
            here.write(f"set/red disc/{file}", _bytes(ending))
            return here.cli("data", "show", here.folder / "set", both=True)

        def right(told: str, file=file, ending=ending) -> bool:
            return _photos(told) == 17 or file in told or (bool(ending) and f".{ending}" in told)

        yield Case(3, f"a photo called {file} is shown", shown, right)

        def audited(here: Place, ending=ending, file=file) -> str:
            here.toys()
            here.write(f"set/red disc/{file}", _bytes(ending))
            return here.cli("data", "audit", here.folder / "set", allowed=(0, 1), both=True)

        def named(told: str, file=file, ending=ending) -> bool:
            of_all = "17 photos" in told or "17 of 17" in told
            return of_all or file in told or (bool(ending) and f".{ending}" in told)

        yield Case(3, f"a photo called {file} is audited", audited, named)

        def alone(here: Place, ending=ending) -> str:
            here.toys()
            for number in range(3):
                here.write(f"set/other/{number}.{ending}", _bytes(ending))
            return here.cli("data", "show", here.folder / "set", both=True)

        def whole(told: str) -> bool:
            return _photos(told) == 19

        yield Case(3, f"a class of {ending or 'bare'} files alone", alone, whole, "other",
                   refusable=True)  # fmt: skip


def folders() -> Iterator[Case]:
    """A folder beside train and test that is no split we know: read, or named."""
    for name in ("dev", "val2", "Val", "holdout", "eval", "testing", "extra", "TEST", "train2"):

        def act(here: Place, name=name) -> str:
            here.toys("set/train", per_class=3)
            here.toys(f"set/{name}", per_class=2)
            return here.cli("data", "show", here.folder / "set", both=True)

        def right(told: str, name=name) -> bool:
            return _photos(told) == 20 or name in told

        yield Case(3, f"a folder {name} beside train", act, right)

    for depth in (1, 2, 3):

        def wrapped(here: Place, depth=depth) -> str:
            here.toys("/".join(["set", *["inner"] * depth]))
            return here.cli("data", "show", here.folder / "set", both=True)

        yield Case(3, f"photos {depth} folders deep", wrapped,
                   lambda told: _photos(told) == 16 and "red disc" not in told.split("by make")[0]
                   and _classes(told) == 4)  # fmt: skip

    def loose(here: Place) -> str:
        here.toys()
        shape(2, 5).save(here.folder / "set" / "loose.png")
        return here.cli("data", "show", here.folder / "set", both=True)

    yield Case(3, "a photo beside the class folders", loose, lambda told: "loose.png" in told)

    def deeper(here: Place) -> str:
        here.toys()
        (here.folder / "set/red disc/more").mkdir()
        shape(2, 5).save(here.folder / "set/red disc/more/deep.png")
        return here.cli("data", "show", here.folder / "set", both=True)

    yield Case(3, "a folder inside a class", deeper,
               lambda told: _photos(told) == 17 or "more" in told)  # fmt: skip


def _classes(told: str) -> int:
    line = next(line for line in told.splitlines() if "classes" in line.split())
    return int("".join(c for c in line if c.isdigit()))


JUNK = {
    "zero bytes": b"",
    "saved web pages": b"<!DOCTYPE html><html><body>403 Forbidden</body></html>",
    "one damaged photo": encoded(shape(1, 1), "PNG")[:200],
}


def junk() -> Iterator[Case]:
    """Files that cannot be read are no copies of each other, and stop nothing."""
    for name, data in JUNK.items():

        def spread(here: Place, data=data) -> Path:
            here.toys("set/train")
            here.toys("set/test", per_class=2)
            for where in ("train/red disc", "train/blue bar", "test/green ring"):
                here.write(f"set/{where}/junk.png", data)
            return here.folder / "set"

        def audited(here: Place, spread=spread) -> dict:
            return json.loads(here.cli("data", "audit", spread(here), "--json", allowed=(0, 1)))

        def right(found: dict) -> bool:
            counts = found["findings"]
            # the toys of test are the first two of train, so 8 photos are copies of 8
            return counts["exact copy"] == 16 and counts["copies differ in label"] == 0

        yield Case(3, f"{name} are no copies", audited, right)

        def trained(here: Place, spread=spread) -> str:
            return _train(here, spread(here))

        yield Case(3, f"{name} in a training are told", trained,
                   lambda told: "junk.png" in told or "left out" in told)  # fmt: skip

        def lost(here: Place, data=data) -> str:
            here.toys()
            for number in range(3):
                here.write(f"set/lost/{number}.png", data)
            return here.cli("data", "audit", here.folder / "set", allowed=(0, 1), both=True)

        yield Case(3, f"a class of {name}", lost,
                   lambda told: "lost" in told and "16 of 19" in told)  # fmt: skip

        def lost_training(here: Place, data=data) -> str:
            here.toys()
            for number in range(3):
                here.write(f"set/lost/{number}.png", data)
            return _train(here, here.folder / "set")

        yield Case(3, f"a class of {name} in a training", lost_training,
                   lambda told: "lost" in told, "lost", refusable=True)  # fmt: skip


def _train(here: Place, data: Path) -> str:
    """What somebody at the terminal reads of a short training, errors and notes too."""
    import contextlib
    import io

    words = io.StringIO()
    with contextlib.redirect_stderr(words):
        from typer.testing import CliRunner

        from carlib.cli import app

        done = CliRunner().invoke(app, ["train", "cnn3", "--data", str(data), "--set", "size=16",
                                        "--set", "epochs=1", "--set", "batch_size=8"])  # fmt: skip
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code:
        from harness.cases import Refused

        raise Refused(done.stderr)
    return done.output + done.stderr + words.getvalue()


def parquet() -> Iterator[Case]:
    labels = [0, 1, 2] * 3
    names = {
        "data/train-00000-of-00001-0123456789abcdef.parquet": "train",
        "data/Train.parquet": "train",
        "Train.parquet": "train",
        "default/train/0000.parquet": "train",
        "train/0000.parquet": "train",
        "data/validation-00000-of-00001-0123456789abcdef.parquet": "val",
        "default/test/0000.parquet": "test",
        "train.PARQUET": "train",
    }
    for name, split in names.items():

        def act(here: Place, name=name) -> str:
            trees.parquet(here.folder / "set" / name, labels)
            return here.cli("data", "show", here.folder / "set", both=True)

        def right(told: str, split=split) -> bool:
            return f"split {split} 9" in " ".join(told.replace("│", " ").split())

        odd = name.endswith("PARQUET")
        yield Case(3, f"parquet as {name}", act, right, name if odd else "", refusable=odd)

    def bare(here: Place) -> str:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        images = [{"bytes": None, "path": f"{n}.jpg"} for n in range(6)]
        table = pa.table({"image": pa.array(images, kind), "label": pa.array([0, 1] * 3)})
        (here.folder / "set").mkdir()
        pq.write_table(table, here.folder / "set" / "train.parquet")
        return here.cli("data", "show", here.folder / "set", both=True)

    yield Case(3, "parquet of paths without bytes", bare, lambda told: "bytes" in told,
               "bytes", refusable=True)  # fmt: skip


def cases() -> Iterator[Case]:
    yield from endings()
    yield from folders()
    yield from junk()
    yield from parquet()
