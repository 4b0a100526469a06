"""Kind 7, what others wrote: catalogs, lists, .mat and parquet files that describe photos."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
import trees

from harness.cases import Case, Place


def _catalog(here: Place) -> Path:
    from carlib.data.opening import open_catalog

    root = here.toys()
    open_catalog(root).to_csv(root / "catalog.csv")
    return root


def _use(here: Place, root: Path) -> str:
    """What every command does with a data set: divide it, look at its photos."""
    return here.cli("data", "audit", root, "--val-fraction", "0.25", allowed=(0, 1))


ABOUT: dict[str, object] = {
    "name of a number": {"name": 5}, "name of a list": {"name": ["a"]}, "root of a number":
    {"root": 5}, "root of a list": {"root": ["."]}, "root of nothing": {"root": None},
    "root with a zero byte": {"root": "a\0b"}, "class names as text": {"class_names": "abcd"},
    "class names of numbers": {"class_names": [1, 2, 3, 4]}, "class names as number":
    {"class_names": 4}, "class names as object": {"class_names": {"a": 1}}, "nested class names":
    {"class_names": [["a"]]}, "class names of nothing": {"class_names": [None] * 4},
    "class names twice": {"class_names": ["blue bar"] * 4}, "extras of a list": {"extras": [1]},
    "extras of tomorrow": {"extras": {"tomorrow": 1}}, "extras of a number":
    {"extras": {"dataset": 5}}, "a root that is gone": {"root": "gone"},
}  # fmt: skip


def told() -> Iterator[Case]:
    """The JSON beside a catalog."""
    for name, change in ABOUT.items():

        def act(here: Place, change=change) -> str:
            root = _catalog(here)
            about = json.loads((root / "catalog.json").read_text(encoding="utf-8")) | change
            (root / "catalog.json").write_text(json.dumps(about), encoding="utf-8")
            return _use(here, root)

        gone = name == "a root that is gone"
        harmless = gone or name == "root of nothing"
        yield Case(7, f"a catalog with {name}", act, (lambda told: "16" in told) if harmless
                   else None, "" if gone else "catalog", refusable=harmless)  # fmt: skip
    for name, data in (("a list", b"[]"), ("null", b"null"), ("binary", b"\x80\xff"), ("empty",
                       b""), ("too deep", b"[" * 5000 + b"]" * 5000)):  # fmt: skip

        def whole(here: Place, data=data) -> str:
            root = _catalog(here)
            (root / "catalog.json").write_bytes(data)
            return _use(here, root)

        yield Case(7, f"a catalog.json that is {name}", whole, words="catalog.json")


def _lines(change: Callable[[list[str]], list[str]]) -> Callable[[bytes], bytes]:
    return lambda data: "\n".join(change(data.decode().splitlines())).encode()


def _cell(column: str, value: str) -> Callable[[bytes], bytes]:
    """The table with one cell of the first row changed."""

    def change(lines: list[str]) -> list[str]:
        place, words = lines[0].split(",").index(column), lines[1].split(",")
        words[place] = value
        return [lines[0], ",".join(words), *lines[2:]]

    return _lines(change)


TABLES: dict[str, Callable[[bytes], bytes]] = {
    "zero bytes inside": lambda data: data.replace(b"disc", b"di\0sc", 1), "in UTF-16":
    lambda data: data.decode().encode("utf-16"), "binary": lambda data: b"\x80\xff\0" * 99,
    "a quote left open": _cell("path", '"a'), "a row too long": _lines(lambda x: [*x, x[1] + ",9"]),
    "a label of words": _cell("label", "first"), "a label of 10^30": _cell("label", "1" + "0" * 30),
    "a label of -1": _cell("label", "-1"), "a label of 99": _cell("label", "99"),
    "half a label": _cell("label", "0.5"), "a year of words": _cell("year", "new"),
    "a box of one side": _cell("x1", "5"), "a path twice": _lines(lambda x: [*x, x[1]]),
    "no path": _cell("path", ""), "no split": _cell("split", ""), "heads alone":
    _lines(lambda x: x[:1]), "a column less": _lines(lambda x: [y.rpartition(",")[0] for y in x]),
    "a column more": _lines(lambda x: [f"{y},z" for y in x]), "another class name":
    _cell("class_name", "car"),
}  # fmt: skip


def tables() -> Iterator[Case]:
    for name, change in TABLES.items():

        def act(here: Place, change=change) -> str:
            root = _catalog(here)
            file = root / "catalog.csv"
            file.write_bytes(change(file.read_bytes()))
            return _use(here, root)

        yield Case(7, f"a catalog.csv with {name}", act, None if name != "zero bytes inside" else
                   (lambda told: "16" in told), "", refusable=True)  # fmt: skip

    def byte_order(here: Place) -> str:
        file = _catalog(here) / "catalog.csv"
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
        return _use(here, file)

    yield Case(7, "a catalog.csv saved by Excel", byte_order, lambda told: "16 of 16" in told)


def mats() -> Iterator[Case]:
    """The devkit's files with names that lead elsewhere, and of other shapes."""
    names = {"absolute names": "/etc/passwd", "names that climb": "../../../etc/passwd",
             "a name of 300 letters": "a" * 300, "an empty name": "", "a name with a zero byte":
             "a\0b.jpg"}  # fmt: skip
    for name, photo in names.items():

        def act(here: Place, photo=photo) -> str:
            root = trees.devkit(here.folder / "set")
            rows = [(photo, *row[1:]) if n == 0 else row
                    for n, row in enumerate(trees.devkit_rows())]  # fmt: skip
            trees.save_annotations(root / "devkit/cars_train_annos.mat", rows)
            return _use(here, root)

        yield Case(7, f"a devkit with {name}", act, lambda told: "11 of 12" in told,
                   refusable=True)  # fmt: skip
    shapes = {
        "numbers as names": {"annotations": np.arange(9)},
        "text": {"annotations": "none"},
        "nothing": {},
        "another table": {"other": np.zeros((2, 2))},
    }
    for name, values in shapes.items():

        def odd(here: Place, values=values) -> str:
            root = trees.devkit(here.folder / "set")
            scipy.io.savemat(root / "devkit/cars_train_annos.mat", values)
            return _use(here, root)

        yield Case(7, f"annotations of {name}", odd, words="cars_train_annos.mat")

    for name, boxes in (("10^18", (1, 1, 10**18, 5)), ("-5", (-5, 1, 5, 5)), ("0", (5, 5, 5, 2))):

        def boxed(here: Place, boxes=boxes) -> str:
            root = trees.devkit(here.folder / "set")
            rows = [(row[0], row[1], boxes) for row in trees.devkit_rows()]
            trees.save_annotations(root / "devkit/cars_train_annos.mat", rows)
            return _use(here, root)

        yield Case(7, f"boxes of {name}", boxed, lambda told: "box outside" in told,
                   "cars_train_annos.mat", refusable=True)  # fmt: skip


def parquets() -> Iterator[Case]:
    """Labels, names and columns of the Hub's files."""
    labels = {"10^8": [0, 1, 10**8], "2^62": [0, 1, 2**62], "-1": [0, 1, -1]}
    for name, values in labels.items():
        for stated in (True, False):

            def act(here: Place, values=values, stated=stated) -> str:
                file = here.folder / "set/train.parquet"
                trees.parquet(file, values, trees.CLASSES if stated else None)
                return here.cli("data", "show", here.folder / "set")

            yield Case(7, f"a parquet label of {name}, {'with' if stated else 'without'} names",
                       act, words="label", child=True)  # fmt: skip

    def odd(here: Place, columns: dict) -> str:
        (here.folder / "set").mkdir()
        pq.write_table(pa.table(columns), here.folder / "set/train.parquet")
        return here.cli("data", "show", here.folder / "set")

    tables = {
        "of bytes alone": {"image": [b"x"], "label": [0]},
        "of words as labels": {"image": [{"bytes": b"x", "path": "a"}], "label": ["a"]},
        "of halves as labels": {"image": [{"bytes": b"x", "path": "a"}], "label": [0.5]},
        "without labels": {"image": [{"bytes": b"x", "path": "a"}]},
        "of other columns": {"a": [1]},
        "of empty labels": {"image": [{"bytes": b"x", "path": "a"}] * 2, "label": [0, None]},
        "of no rows": {"image": pa.array([], pa.struct([("bytes", pa.binary()),
                       ("path", pa.string())])), "label": pa.array([], pa.int64())},
        "of text as bytes": {"image": [{"bytes": "x", "path": "a"}], "label": [0]},
    }  # fmt: skip
    for name, columns in tables.items():
        yield Case(7, f"a parquet {name}", lambda here, c=columns: odd(here, c),
                   words="train.parquet")  # fmt: skip


def parquet_bytes() -> Iterator[Case]:
    """Files that are no parquet, and names that are none."""
    for name, data in (("empty", b""), ("text", b"rows"), ("its magic alone", b"PAR1"),
                       ("zeros", b"\0" * 500), ("both ends alone", b"PAR1" + b"\xff" * 40 +
                        b"PAR1")):  # fmt: skip

        def file(here: Place, data=data) -> str:
            return here.cli("data", "show", here.write("set/train.parquet", data))

        yield Case(7, f"a parquet that is {name}", file, words="train.parquet")

    def names(here: Place, stated: object) -> str:
        path = trees.parquet(here.folder / "set/train.parquet", [0, 1, 2], None)
        about = {"info": {"features": {"label": {"names": stated}}}}
        table = pq.read_table(path).replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(table, path)
        return here.cli("data", "show", here.folder / "set")

    for name, stated in (
        ("a word", "abc"),
        ("numbers", [1, 2, 3]),
        ("twice", ["a", "a", "b"]),
        ("nothing", []),
        ("a number", 3),
        ("nested", [["a"], ["b"], ["c"]]),
    ):
        yield Case(7, f"parquet names: {name}", lambda here, s=stated: names(here, s),
                   lambda told: "class" in told, "train.parquet", refusable=True)  # fmt: skip


def lists() -> Iterator[Case]:
    """Boxes of Kaggle's copy."""
    rows = {"of words": "a.jpg,left,1,2,3,4\n", "too short": "a.jpg,1\n", "binary": "\0\0\0",
            "empty": "", "of halves": "a.jpg,0.5,1,2,3,4\n", "twice": "0000.png,1,1,9,9,1\n" * 2,
            "of nothing inside": "0000.png,9,9,3,3,1\n"}  # fmt: skip
    for name, text in rows.items():

        def act(here: Place, text=text) -> str:
            here.toys("set/train")
            here.write("set/anno_train.csv", text)
            return _use(here, here.folder / "set")

        right = (lambda told: "16 of 16" in told) if name == "empty" else None
        yield Case(7, f"boxes {name}", act, right, "" if right else
                   ("box" if "inside" in name else "anno_train.csv"), refusable=True)  # fmt: skip


def cases() -> Iterator[Case]:
    yield from told()
    yield from tables()
    yield from mats()
    yield from parquets()
    yield from parquet_bytes()
    yield from lists()
