"""Kind 4: options and recipe fields of impossible values, refused before any work."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from toys import shape

from harness.cases import Case, Place, anything

NAN, INF = math.nan, math.inf
# What no recipe may say, field by field, and what it may just say.
BAD: dict[str, tuple[object, ...]] = {
    "size": (0, 7, -1, 10**6), "eval_size": (-1, 7, 10**6), "start_size": (-1, 3, 10**6),
    "store_size": (-1, 5, 10**6), "grow_until": (-0.1, 1.5, NAN, INF),
    "margin": (-1.0, NAN, INF), "mixup": (-1.0, NAN, INF), "cutmix": (-0.5, NAN, INF),
    "mix_probability": (-0.1, 1.1, NAN), "mix_until": (-0.1, 1.1, NAN), "embedding": (-1, 10**7),
    "pair_margin": (0.0, 2.5, NAN), "smoothing": (-0.1, 1.0, 5.0, NAN), "gamma": (-1.0, NAN, INF),
    "per_class": (0, -1), "imbalance": (0.5, NAN, INF), "epochs": (0, -1, 10**9),
    "batch_size": (0, -1, 10**9), "accumulate": (0, -1), "lr": (-1.0, 0.0, NAN, INF),
    "body_lr": (-1.0, NAN, INF), "proxy_lr": (-1.0, NAN, INF), "layer_decay": (-0.1, 1.5, NAN),
    "weight_decay": (-0.1, NAN, INF), "warmup": (-0.1, 1.5, NAN), "step_epochs": (0, -1),
    "step_factor": (-0.1, 2.0, NAN), "plateau_patience": (-1,), "clip": (-1.0, NAN, INF),
    "ema": (-0.1, 1.0, 1.5, NAN), "patience": (-1,), "min_change": (-1.0, NAN, INF),
    "eval_every": (0, -1), "dev": (-0.1, 0.6, NAN), "norm_until": (-0.1, 1.1, NAN),
    "seed": (-1, 2**70),
}  # fmt: skip
GOOD: dict[str, tuple[object, ...]] = {
    "size": (8, 1024), "eval_size": (0, 8), "start_size": (0, 8), "store_size": (0, 8),
    "grow_until": (0.6, 1.0), "margin": (0.0, 0.5), "mixup": (0.0, 2.0), "cutmix": (0.0, 1),
    "mix_probability": (0.0, 1.0), "mix_until": (0.0, 1.0), "embedding": (0,),
    "pair_margin": (0.1, 2.0), "smoothing": (0.0, 0.9), "gamma": (0.0, 5.0), "per_class": (1, 64),
    "imbalance": (1.0, 500.0), "epochs": (1, 1000), "batch_size": (1, 4096), "accumulate": (1, 64),
    "lr": (1e-9, 10.0), "body_lr": (0.0, 10.0), "proxy_lr": (1.0, 1000.0),
    "layer_decay": (0.5, 1.0), "weight_decay": (0.0, 0.5), "warmup": (0.0, 0.5),
    "step_epochs": (1, 90), "step_factor": (0.1, 1.0), "plateau_patience": (0, 10),
    "clip": (0.0, 10.0), "ema": (0.0, 0.9999), "patience": (0,), "min_change": (0.0, 0.1),
    "eval_every": (1, 10), "dev": (0.0, 0.5), "norm_until": (0.0, 1.0), "seed": (0, 2**31),
}  # fmt: skip
OF_TYPE = {"epochs": ("three", None, [1], 1.5, True), "lr": ("fast", None, [0.1], True),
           "grayscale": ("yes", 1, None), "model": (3, None, "resnet_of_mine"),
           "augment": (1, "wild"), "loss": ("mse", 0), "sampler": ("best",), "fit": ("zoom",),
           "crop": ("car",), "optimizer": ("lion",), "schedule": ("linear",),
           "statistics": ("mine",), "precision": ("fp8",), "monitor": ("val_loss",),
           "weights": ("imagenet",), "head": ("big",), "plan": ("head:x:1", "head:5:1 all"),
           "nonsense": (1,), "note": (5,)}  # fmt: skip


def fields() -> Iterator[Case]:
    """Through the library, on a recipe that uses every field."""

    def changed(here: Place, field: str, value: object) -> object:
        from carlib.experiment.registry import get_recipe

        return getattr(get_recipe("lite0_cpu").but(**{field: value}), field)

    for field, values in BAD.items():
        for value in values:
            yield Case(4, f"recipe {field}={value}",
                       lambda here, f=field, v=value: changed(here, f, v), words=field)  # fmt: skip
    for field, values in OF_TYPE.items():
        for value in values:
            words = "augmentation" if value == "wild" else field
            yield Case(4, f"recipe {field}={value!r} of no such kind",
                       lambda here, f=field, v=value: changed(here, f, v), words=words)  # fmt: skip
    for field, values in GOOD.items():
        for value in values:
            yield Case(4, f"recipe {field}={value} is taken",
                       lambda here, f=field, v=value: changed(here, f, v),
                       lambda found, v=value: found == v)  # fmt: skip


def settings() -> Iterator[Case]:
    """Through the command line, where `NaN` is a number too."""
    for setting in ("lr=-1", "lr=NaN", "lr=Infinity", "lr=1e999", "seed=-1", "mixup=-1", "ema=1.5",
                    "patience=-1", "step_epochs=0", "smoothing=5", "epochs=", "epochs=1e3",
                    "size=1000000", "batch_size=0", "warmup=2", "clip=-1", "epochs"):  # fmt: skip

        def act(here: Place, setting=setting) -> str:
            return here.cli("train", "cnn3", "--data", here.toys(), "--set", setting, "--set",
                            "weight_decay=0.1")  # fmt: skip

        yield Case(4, f"train --set {setting}", act, words=setting.split("=")[0], child=True)


def trainings() -> Iterator[Case]:
    """Sizes and batches that a network may be unable to take: trained, or refused by name."""
    models = ("cnn3", "cnn4", "cnn_advanced", "simple_resnet_s1", "simple_resnet_half",
              "efficientnet_lite0")  # fmt: skip
    changes = {
        "size=8": "size",
        "batch_size=1": "batch",
        "batch_size=3,accumulate=2": "accumulate",
        "batch_size=2,accumulate=64": "accumulate",
    }
    for model in models:
        for change, words in changes.items():

            def act(here: Place, model=model, change=change) -> str:
                asked = [f"model={model}", "epochs=1", *change.split(",")]
                asked += [] if "size=8" in asked else ["size=16"]
                if model == "cnn_advanced":
                    asked.append("grayscale=true")
                words = [word for one in asked for word in ("--set", one)]
                return here.cli("train", "cnn3", "--data", here.toys(per_class=2), *words, "--json")

            def right(told: str) -> bool:
                return json.loads(told)["metrics"]["accuracy"] >= 0

            yield Case(4, f"train {model} with {change}", act, right, words, refusable=True)


def _disc(here: Place) -> str:
    shape(2, 900).save(here.folder / "disc.png")
    return str(here.folder / "disc.png")


def _filled(here: Place, command: tuple[str, ...]) -> list[str]:
    """A command whose places in braces are real ones."""
    places = {
        "{disc}": lambda: _disc(here),
        "{toys}": lambda: str(here.toys()),
        "{network}": lambda: str(here.world.network),
        "{photos}": lambda: str(here.world.photos),
    }
    return [
        places[w]() if w in places else w.replace("{folder}", str(here.folder)) for w in command
    ]


def commands() -> Iterator[Case]:
    """Options of commands, each refused in words that name it."""
    toys = "{toys}"
    train = ("train", "cnn3", "--set", "epochs=1", "--set", "size=16", "--data", toys)
    evaluate = ("evaluate", "{network}", "--data", "{photos}")
    predict = ("predict", "{disc}", "--model", "{network}")
    search = ("search", "{disc}", "--model", "{network}", "--data", "{photos}")
    explain = ("explain", "{disc}", "--model", "{network}", "--out", "{folder}/a.png")
    audit, export = ("data", "audit", toys), ("export", "--model", "{network}", "--data", toys)
    refused = {
        "seeds": [(*train, "--seeds", n) for n in ("0", "-1", "1.5", "many")],
        "classes": [(*train, "--classes", n) for n in ("-1", "99", "1")],
        "maps": [(*evaluate, "--maps", n) for n in ("-1", "x")],
        "split": [(*evaluate, "--split", n) for n in ("", "trian", "TEST")],
        "layer": [(*evaluate, "--maps", "2", "--layer", "nowhere")],
        "method": [(*evaluate, "--maps", "2", "--method", "Grad"), (*explain, "--method", "X")],
        "measure": [(*evaluate, "--maps", "2", "--measure", "iou")],
        "box": [(*predict, "--box", n) for n in ("0.4,0.4,0.6,0.6", "nan,0,10,10", "1,2,3",
                "5,5,5,9", "-1,0,9,9", "0,0,999,999", "a,b,c,d", "0,0,inf,9", "0,0,1,1,1",
                "30,30,10,10")] + [(*explain, "--box", "0.1,0.1,0.9,0.9")],
        "top": [(*predict, "--top", n) for n in ("0", "-5", "x")] + [(*search, "--top", "0")],
        "port": [("demo", "--model", "{network}", "--data", toys, "--port", n)
                 for n in ("99999", "-1", "0", "x")],
        "where": [(*search, "--where", n) for n in ("year=²", "year=abc", "make", "year=",
                  "year=99999999999999999999999")],
        "val": [(*audit, "--val-fraction", n) for n in ("nan", "-0.1", "1", "2", "x")],
        "filter": [(*search, "--where", n) for n in ("color=red", "=x")],
        "missing": [(*export, "--out", "{folder}/missing/x.onnx"),
                    (*explain[:-1], "{folder}/missing/a.png")],
        "a.xyz": [("explain", "{disc}", "--model", "{network}", "--out", "{folder}/a.xyz")],
        "x.txt": [("data", "export", toys, "--csv", "{folder}/x.txt")],
        "recipe": [("train", "cnn33", "--data", toys), ("train", "", "--data", toys)],
        "study": [("study", "luck", "--data", toys)],
        "class": [(*explain, "--class", "red disk")],
        "lite0": [(*train, "--name", "lite0")],
        "kittens": [("data", "fetch", "kittens", "--to", "{folder}/k")],
        "--set": [("train", "cnn3", "--data", toys, "--set", "epochs")],
    }  # fmt: skip
    for words, several in refused.items():
        for command in several:

            def act(here: Place, command=command) -> str:
                return here.cli(*_filled(here, command))

            shown = " ".join(w for w in command if "{" not in w or "/" in w)
            yield Case(4, shown, act, words=words, child="port" in shown)


def allowed() -> Iterator[Case]:
    """Options at the edge of what can be done, which are done."""

    def boxed(here: Place) -> dict:
        file = _disc(here)
        told = here.use("predict", file, "--box", "0,0,48,40", "--json")
        return json.loads(told)[file]

    yield Case(4, "a box around the whole photo", boxed, lambda found: len(found["guesses"]) == 4)

    def many(here: Place) -> dict:
        file = _disc(here)
        return json.loads(here.use("predict", file, "--top", "9999", "--json"))[file]

    yield Case(4, "more guesses than classes", many, lambda found: len(found["guesses"]) == 4)

    def everything(here: Place) -> list:
        told = here.use("search", _disc(here), "--data", here.world.photos, "--top", "9999",
                        "--json")  # fmt: skip
        return json.loads(told[told.index("[") :])

    yield Case(4, "more neighbors than photos", everything, lambda found: len(found) == 96)

    def nothing(here: Place) -> str:
        return here.use("search", _disc(here), "--data", here.world.photos, "--where",
                        "make=Audi", "--json")  # fmt: skip

    yield Case(4, "a filter that nothing meets", nothing, lambda told: "[" in told)
    for fraction in ("0", "0.5", "0.99"):

        def divided(here: Place, fraction=fraction) -> str:
            return here.cli("data", "show", here.toys(), "--val-fraction", fraction)

        yield Case(4, f"data show --val-fraction {fraction}", divided, anything)


def cases() -> Iterator[Case]:
    yield from fields()
    yield from settings()
    yield from trainings()
    yield from commands()
    yield from allowed()
