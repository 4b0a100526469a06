"""Kind 7, what carlib wrote itself, cut or changed: checkpoints, runs, galleries, records."""

from __future__ import annotations

import copy
import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from toys import shape

from harness.cases import Case, Place
from harness.names import _read, _write


def _predict(here: Place, model: Path) -> str:
    shape(2, 9).save(here.folder / "disc.png")
    return here.cli("predict", here.folder / "disc.png", "--model", model)


def _described(**changes: object) -> Callable[[dict, dict], None]:
    """A change of what a checkpoint says of itself."""

    def change(about: dict, tensors: dict) -> None:
        about.update(changes)

    return change


def _recipe(**changes: object) -> Callable[[dict, dict], None]:
    def change(about: dict, tensors: dict) -> None:
        about["recipe"] = json.dumps(json.loads(about["recipe"]) | changes)

    return change


def _tensors(do: Callable[[dict, str], object]) -> Callable[[dict, dict], None]:
    """A change of one weight, named."""

    def change(about: dict, tensors: dict) -> None:
        do(tensors, next(n for n, v in tensors.items() if v.ndim > 1))

    return change


CHANGES: dict[str, Callable[[dict, dict], object]] = {
    "class names of numbers": _described(class_names=[1, 2, 3, 4]),
    "a number of classes": _described(class_names=4),
    "no class names": _described(class_names=[]),
    "one word as class names": _described(class_names="abcd"),
    "class names twice": _described(class_names=["a", "a", "b", "c"]),
    "too few class names": _described(class_names=["a", "b"]),
    "class names of nothing": _described(class_names=None),
    "class names by number": _described(class_names={"0": "a", "1": "b", "2": "c", "3": "d"}),
    "nested class names": _described(class_names=[["a"], ["b"], ["c"], ["d"]]),
    "a recipe of nothing": _described(recipe=None),
    "a recipe as object": _described(recipe={"model": "cnn3"}),
    "a recipe as list": _described(recipe="[]"),
    "half a recipe": _described(recipe='{"model": "cnn3"'),
    "a recipe of another model": _recipe(model="cnn4"),
    "a recipe of no model": _recipe(model="cnn33"),
    "a recipe with a field of tomorrow": _recipe(tomorrow=1),
    "a recipe of size -5": _recipe(size=-5),
    "a recipe of size 10^9": _recipe(size=10**9),
    "a recipe of 10^8 numbers": _recipe(embedding=10**8),
    "a recipe of words": _recipe(size="large"),
    "data of nothing": _described(data=None),
    "data as list": _described(data=[1]),
    "an epoch in words": _described(epoch={"a": 1}, kept=[1]),
    "a weight less": _tensors(lambda t, n: t.pop(n)),
    "a weight more": _tensors(lambda t, n: t.update(more=torch.ones(3))),
    "a weight of another shape": _tensors(lambda t, n: t.update({n: t[n][:1].clone()})),
    "a weight turned": _tensors(lambda t, n: t.update({n: t[n].flatten().clone()})),
    "weights of whole numbers": _tensors(lambda t, n: t.update({n: (t[n] * 9).to(torch.int8)})),
    "weights of truth values": _tensors(lambda t, n: t.update({n: t[n] > 0})),
    "no weights": lambda about, tensors: tensors.clear(),
}
HARMLESS = ("data of nothing", "data as list", "an epoch in words", "weights of whole numbers",
            "weights of truth values")  # fmt: skip


def changed_checkpoints() -> Iterator[Case]:
    for name, change in CHANGES.items():

        def act(here: Place, change=change) -> str:
            about, tensors = _read(here.world.network)
            about = copy.deepcopy(about)
            change(about, tensors)
            _write(here.folder / "odd.safetensors", tensors, about)
            return _predict(here, here.folder / "odd.safetensors")

        harmless = name in HARMLESS
        yield Case(7, f"a checkpoint with {name}", act, (lambda told: "disc" in told) if harmless
                   else None, "odd.safetensors", refusable=harmless, child=True)  # fmt: skip

    for name in ("data of nothing", "data as list", "an epoch in words"):

        def scored(here: Place, change=CHANGES[name]) -> str:
            about, tensors = _read(here.world.network)
            about.pop("use")
            change(about, tensors)
            _write(here.folder / "odd.safetensors", tensors, about)
            return here.cli("evaluate", here.folder / "odd.safetensors", "--data",
                            here.world.photos)  # fmt: skip

        yield Case(7, f"evaluate a checkpoint with {name}", scored, lambda told: "accuracy" in told,
                   "odd.safetensors", refusable=True)  # fmt: skip


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("data.pkl", pickle.dumps({"a": 1}))
    return buffer.getvalue()


def _safetensors(head: object, body: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


FOREIGN: dict[str, bytes] = {
    "nothing": b"", "text": b"weights", "a pickle": pickle.dumps({"model": [1, 2]}),
    "a file of torch": _zip(), "zeros": b"\0" * 4096, "a head without end": b"\xff" * 64,
    "a head of 2^40 bytes": struct.pack("<Q", 2**40) + b"{}", "a head of no JSON":
    _safetensors(b"{not json"), "a list as head": _safetensors([1, 2]),
    "tensors that lie outside": _safetensors({"a": {"dtype": "F32", "shape": [9], "data_offsets":
                                                    [0, 36]}}),
    "no description": _safetensors({}), "a description of nothing":
    _safetensors({"__metadata__": {"carlib": "null"}}), "a description that is a list":
    _safetensors({"__metadata__": {"carlib": "[1]"}}), "a description that is a number":
    _safetensors({"__metadata__": {"carlib": "5"}}), "an empty description":
    _safetensors({"__metadata__": {"carlib": "{}"}}), "a description cut":
    _safetensors({"__metadata__": {"carlib": '{"recipe": "'}}), "a deep description":
    _safetensors({"__metadata__": {"carlib": "[" * 5000 + "]" * 5000}}),
}  # fmt: skip


def foreign_checkpoints() -> Iterator[Case]:
    for name, data in FOREIGN.items():
        yield Case(7, f"a checkpoint of {name}", lambda here, data=data: _predict(
            here, here.write("odd.safetensors", data)), words="odd.safetensors")  # fmt: skip
    for share in (0.01, 0.2, 0.5, 0.9, 0.999):

        def act(here: Place, share=share) -> str:
            data = here.world.network.read_bytes()
            return _predict(here, here.write("odd.safetensors", data[: int(len(data) * share)]))

        yield Case(7, f"a checkpoint cut at {share:.1%}", act, words="odd.safetensors")


def _run(here: Place, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A finished run, one of whose files is another."""
    folder = here.folder / "run"
    shutil.copytree(here.world.run.folder, folder)
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    return folder


def _json(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(change(json.loads(data))).encode()


def _without(key: str) -> Callable[[bytes], bytes]:
    return _json(lambda values: {k: v for k, v in values.items() if k != key})


RUNS: dict[str, dict[str, Callable[[bytes], bytes]]] = {
    "finished.json": {
        "empty": lambda data: b"", "cut": lambda data: data[: len(data) // 2],
        "a list": lambda data: b"[]", "a number": lambda data: b"5", "binary":
        lambda data: b"\x80\xff\0" * 99, "without seconds": _without("seconds"),
        "in words": _json(lambda v: v | {"seconds": "long"}), "of NaN":
        _json(lambda v: v | {"seconds": float("nan")}),
    },
    "metrics.csv": {
        "empty": lambda data: b"", "binary": lambda data: b"\x80\xff\0\n" * 99,
        "cut in the middle": lambda data: data[: len(data) * 2 // 3],
        "a row short": lambda data: b"\n".join(data.splitlines()[:-1]) + b"\n",
        "a row long": lambda data: data + b"1,2,3,4,5,6,7,8,9,10,11,12,13\n",
        "in words": lambda data: data.replace(b"\n1,", b"\none,"), "heads alone":
        lambda data: data.splitlines()[0] + b"\n", "a page":
        lambda data: b"<!DOCTYPE html>\n<html></html>\n",
        "of NaN": lambda data: data.replace(b"\n1,", b"\nnan,"),
    },
}  # fmt: skip


def runs() -> Iterator[Case]:
    for file, changes in RUNS.items():
        for name, change in changes.items():

            def act(here: Place, file=file, change=change) -> str:
                run = _run(here, file, change)
                return here.cli("evaluate", run, "--data", here.world.photos)

            yield Case(7, f"a run with {file} {name}", act, words=file)
    for file in ("recipe.json", "data.json", "finished.json"):
        for name, data in (("empty", b""), ("a list", b"[]"), ("binary", b"\x80\xff"), ("null",
                           b"null")):  # fmt: skip

            def again(here: Place, file=file, data=data) -> object:
                from carlib.training.loop import load_or_train

                folder = _run(here, file, lambda _: data)
                recipe = here.world.checkpoint.recipe
                return load_or_train(recipe, here.world.catalog, folder, say=str)[1].summary

            yield Case(7, f"{file} {name} in a run to load", again, words="run")


def _opened(here: Place, change: Callable[[Path], object]) -> object:
    from carlib.retrieval.gallery import Gallery

    folder = here.folder / "gallery"
    here.world.demo.gallery.save(folder)
    change(folder)
    found = Gallery.load(folder)
    return found.search(torch.ones(1, found.index.d).numpy(), 3)


def galleries() -> Iterator[Case]:
    """A gallery's description, index or table of other hands."""

    def said(**changes: object) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            about = json.loads((folder / "gallery.json").read_text(encoding="utf-8")) | changes
            (folder / "gallery.json").write_text(json.dumps(about), encoding="utf-8")

        return change

    def text(data: bytes) -> Callable[[Path], object]:
        return lambda folder: (folder / "gallery.json").write_bytes(data)

    def swapped(pattern: str, data: bytes) -> Callable[[Path], object]:
        return lambda folder: next(folder.glob(pattern)).write_bytes(data)

    changes = {
        "a list": text(b"[]"), "null": text(b"null"), "binary": text(b"\x80\xff"), "empty":
        text(b""), "no index": said(index=None), "an index elsewhere": said(index="../../a.faiss"),
        "a numbered table": said(table=5), "a kind of tomorrow": said(kind="annoy"),
        "another kind": said(kind="ivf_pq"), "no network": said(network=None), "an absolute index":
        said(index="/dev/null"), "an index of text": swapped("*.faiss", b"index"), "an index of "
        "zeros": swapped("*.faiss", b"\0" * 999), "a table of text": swapped("*.parquet", b"rows"),
    }  # fmt: skip
    for name, change in changes.items():
        yield Case(7, f"a gallery with {name}", lambda here, c=change: _opened(here, c),
                   words="gallery", child=True)  # fmt: skip


def gallery_tables() -> Iterator[Case]:
    """A gallery whose table belongs to other points."""

    def short(folder: Path) -> None:
        import pandas as pd

        file = next(folder.glob("*.parquet"))
        pd.read_parquet(file).iloc[:5].to_parquet(file)

    def other(folder: Path) -> None:
        import pandas as pd

        pd.DataFrame({"a": range(96)}).to_parquet(next(folder.glob("*.parquet")))

    for name, change in (("a short table", short), ("a table of other columns", other)):
        yield Case(7, f"a gallery with {name}", lambda here, c=change: _opened(here, c),
                   words="gallery")  # fmt: skip


RECORDS = {"empty": b"", "null": b"null", "a list": b"[]", "a word": b'"x"', "binary": b"\x80\xff",
           "another object": b'{"a": 1}', "cut": b'{"kind": "evaluation", "data": {',
           "numbers": b'{"kind": 1, "data": 2, "metrics": 3}', "lists":
           b'{"kind": "evaluation", "data": [], "metrics": []}', "no text as name":
           b'{"kind": "a", "data": {}, "metrics": {}, "name": ["x"]}', "a recipe of words":
           b'{"kind": "a", "data": {}, "metrics": {}, "recipe": "x"}'}  # fmt: skip


def records() -> Iterator[Case]:
    for name, data in RECORDS.items():

        def read(here: Place, data=data) -> object:
            from carlib.experiment.record import load_records

            here.write("records/odd.json", data)
            return load_records(here.folder / "records")

        yield Case(7, f"a record that is {name}", read, words="odd.json")


def cases() -> Iterator[Case]:
    yield from changed_checkpoints()
    yield from foreign_checkpoints()
    yield from runs()
    yield from galleries()
    yield from gallery_tables()
    yield from records()
