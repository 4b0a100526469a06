"""Kind 5: names that climb out of folders, and words that a terminal would obey."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from toys import by_class, shape

from harness.cases import Case, Place, environment

ESCAPING = ("../../evil", "/abs/evil", "..", ".", "a/../../evil", "..\\..\\evil", "evil\0x",
            "~/evil", "evil\nx", "e" * 300, "CON", "-rf", "évil ☃", "")  # fmt: skip
MARKED = ("[red]car[/red]", "[/]", "[bold", "car [2012]", "[link=http://a.example]car[/link]",
          "[[car]]", "car\\[x]", ":car:", "100% [b]")  # fmt: skip
OBEYED = ("\x1b[31mcar", "car\x1b]0;title\x07", "car\x1b[2J", "a\rcar", "a\bcar", "\u202ecar")


def _catalog(here: Place, name: object, classes: list[str] | None = None) -> Path:
    """A catalog of toys under a name, its classes renamed."""
    from carlib.data.opening import open_catalog

    root = by_class(here.folder / "inner/set", 4)
    open_catalog(root).to_csv(root / "catalog.csv")
    about = json.loads((root / "catalog.json").read_text(encoding="utf-8"))
    about["name"] = name
    (root / "catalog.json").write_text(json.dumps(about), encoding="utf-8")
    return root


def _written(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def paths() -> Iterator[Case]:
    """Whatever a catalog, a recipe or a record is called, its files lie below their roots."""
    for name in ESCAPING:
        for what in ("catalog", "recipe"):

            def act(here: Place, name=name, what=what) -> set[Path]:
                roots = here.folder / "inner/roots"
                root = _catalog(here, name if what == "catalog" else "set")
                before = _written(here.folder)
                asked = ["train", "cnn3", "--data", root, "--set", "epochs=1", "--set", "size=16"]
                asked += ["--name", name] if what == "recipe" else []
                with environment(CARLIB_RUNS=roots / "runs", CARLIB_CACHE=roots / "cache",
                                 CARLIB_RESULTS=roots / "results"):  # fmt: skip
                    here.cli(*asked)
                new = _written(here.folder) - before
                assert not list(Path("/abs").glob("*")) if Path("/abs").exists() else True
                return {p for p in new if not p.is_relative_to(roots)}

            yield Case(5, f"a {what} called {name[:20]!r}", act, lambda out: out == set(),
                       refusable=True)  # fmt: skip

    for name in ESCAPING[:5]:

        def recorded(here: Place, name=name) -> bool:
            from carlib.experiment.record import Record

            results = here.folder / "inner/results"
            path = Record("toy", {}, {}, name=name).write(results)
            return path.resolve().parent == results.resolve() and path.is_file()

        yield Case(5, f"a record called {name!r}", recorded, bool, refusable=True)

        def kept(here: Place, name=name) -> set[Path]:
            from carlib.data.framing import Framing
            from carlib.data.opening import open_catalog
            from carlib.data.store import PhotoStore

            root, cache = _catalog(here, name), here.folder / "inner/cache"
            before = _written(here.folder)
            with environment(CARLIB_CACHE=cache):
                PhotoStore.open(open_catalog(root), Framing(16), progress=False)
            return {p for p in _written(here.folder) - before if not p.is_relative_to(cache)}

        yield Case(5, f"a cache of a catalog called {name!r}", kept, lambda out: out == set(),
                   refusable=True)  # fmt: skip


def _renamed(here: Place, word: str) -> Path:
    """Toys one of whose classes has another name."""
    root = here.toys()
    (root / "red disc").rename(root / word)
    return root


def _plain(told: str) -> str:
    return " ".join(told.replace("│", " ").split())


def shown() -> Iterator[Case]:
    """Brackets are shown as they are."""
    for word in MARKED:
        if "/" not in word:
            for command in (("data", "audit"), ("data", "export")):

                def act(here: Place, word=word, command=command) -> str:
                    root = _renamed(here, word)
                    more = ("--csv", here.folder / "out.csv") if "export" in command else ()
                    told = here.cli(*command, root, *more, allowed=(0, 1))
                    return (here.folder / "out.csv").read_text(encoding="utf-8") if more else told

                yield Case(5, f"class {word} in {' '.join(command)}", act,
                           lambda told, word=word: word in _plain(told))  # fmt: skip

            def searched(here: Place, word=word) -> str:
                shape(2, 9).save(here.folder / "disc.png")
                return here.use("search", here.folder / "disc.png", "--data",
                                _renamed(here, word), "--top", "16")  # fmt: skip

            yield Case(5, f"class {word} in search", searched,
                       lambda told, word=word: told.count(word) >= 4)  # fmt: skip

        def named(here: Place, word=word) -> str:
            root = _catalog(here, word)
            return here.cli("data", "show", root)

        yield Case(5, f"catalog {word} in data show", named, lambda told, w=word: w in told)

        def guessed(here: Place, word=word) -> str:
            shape(2, 9).save(here.folder / "disc.png")
            about, tensors = _read(here.world.network)
            about["class_names"] = [word, *about["class_names"][1:]]
            _write(here.folder / "a.safetensors", tensors, about)
            return here.cli("predict", here.folder / "disc.png", "--model",
                            here.folder / "a.safetensors")  # fmt: skip

        yield Case(5, f"class {word} in predict", guessed, lambda told, w=word: w in told)


def photos() -> Iterator[Case]:
    """And so are they in the name of a photo."""

    def photo(here: Place) -> str:
        file = here.folder / "a [red]b[0] [b.png"
        shape(2, 9).save(file)
        found = here.use("predict", file)
        return found + here.use("search", file, "--data", here.world.photos)

    yield Case(5, "a photo called [red]", photo, lambda told: told.count("a [red]b[0] [b.png") == 2)

    def noted(here: Place) -> str:
        return here.cli("predict", here.folder / "[red]gone[red].png")

    yield Case(5, "a missing photo called [red]", noted, words="[red]gone[red].png")


def _read(file: Path) -> tuple[dict, dict]:
    from safetensors import safe_open

    with safe_open(str(file), "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return json.loads(opened.metadata()["carlib"]), tensors


def _write(file: Path, tensors: dict, about: dict) -> None:
    from safetensors.torch import save_file

    save_file(tensors, str(file), {"carlib": json.dumps(about)})


def obeyed() -> Iterator[Case]:
    """Words that would color, clear or turn a terminal around never reach it raw."""

    def harmless(told: str) -> bool:
        return not any(c in told for c in "\x1b\x07\b\r\u202e") and "car" in told

    for word in OBEYED:
        commands = {
            "data show": lambda here, word: here.cli("data", "show", _catalog(here, word)),
            "data audit": lambda here, word: here.cli("data", "audit", _renamed(here, word),
                                                      allowed=(0, 1)),
            "search": lambda here, word: here.use("search", _file(here, "a.png"), "--data",
                                                  _renamed(here, word), "--top", "16"),
            "predict": lambda here, word: here.use("predict", _file(here, word + ".png")),
        }  # fmt: skip
        for name, do in commands.items():
            yield Case(5, f"{word!r} in {name}", lambda here, do=do, word=word: do(here, word),
                       harmless)  # fmt: skip

        def missing(here: Place, word=word) -> str:
            return here.cli("predict", here.folder / f"{word}.png", "--model", here.world.network)

        yield Case(5, f"{word!r} in an error", missing, words="car")


def _file(here: Place, name: str) -> Path:
    shape(2, 9).save(here.folder / name)
    return here.folder / name


def hashes() -> Iterator[Case]:
    """A folder whose name holds a hash, with and without words that choose."""
    for name in ("ha#sh", "#", "a#b#c", "make#make", "x#", "data#model"):
        for words in ("", "#make"):

            def act(here: Place, name=name, words=words) -> str:
                from carlib.data.opening import open_catalog

                folder = here.folder / name
                for number, car in enumerate(("BMW X5 SUV 2007", "Audi TTS Coupe 2012")):
                    (folder / car).mkdir(parents=True)
                    shape(number, 1).save(folder / car / "a.png")
                return open_catalog(f"{folder}{words}").class_names

            wanted = ("Audi", "BMW") if words else ("Audi TTS Coupe 2012", "BMW X5 SUV 2007")
            yield Case(5, f"a folder {name} opened as {name}{words}", act,
                       lambda found, wanted=wanted: found == wanted)  # fmt: skip


def cases() -> Iterator[Case]:
    yield from paths()
    yield from shown()
    yield from photos()
    yield from obeyed()
    yield from hashes()
