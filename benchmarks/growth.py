"""How time and memory grow with the number of photos, and of classes: 1, 4 and 16 times as many.

    python benchmarks/growth.py [--data showroom] [--photos 1024]

The photos of a data set are laid out in class folders again and again, under the same classes or,
for the growth of classes, under new ones. Every size runs in a process of its own, which tells the
seconds of each step and the most memory that it held after one: reading the table, decoding to
the store, an epoch of training, scoring val. Time should grow no faster than the photos; memory,
since photos stay in a mapped file, hardly at all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import tell
from training_loop import as_class_folders, limited

from carlib.data.opening import open_catalog
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.experiment.registry import get_recipe, quick
from carlib.timing import memory

TIMES = (1, 4, 16)
STEPS = ("table", "decode", "train", "score")


def repeated(folder: Path, target: Path, times: int, classes: bool) -> None:
    """Splits of class folders so many times over: links, under old or under new classes."""
    for number in range(times):
        for path in folder.glob("*/*/*"):
            split, name = path.parent.parent.name, path.parent.name
            place = target / split / (f"{name}-{number}" if classes else name)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}-{path.name}").symlink_to(path.resolve())


def one_size(data: Path, recipe_name: str) -> dict[str, float]:
    """Seconds of every step on the photos of a folder, and the most memory in GiB."""
    from carlib.data.store import PhotoStore
    from carlib.evaluation.evaluate import evaluate
    from carlib.experiment.checkpoint import Checkpoint
    from carlib.training.loop import train

    recipe = quick(get_recipe(recipe_name), epochs=1)
    moments, held = [time.perf_counter()], [memory()]

    def step_done() -> None:
        moments.append(time.perf_counter())
        held.append(memory())

    catalog = open_catalog(str(data))
    step_done()
    PhotoStore.open(catalog, recipe.framing, progress=False)
    step_done()
    with tempfile.TemporaryDirectory() as folder:
        run = train(recipe, catalog, Path(folder) / "run", progress=False)
        step_done()
        evaluate(Checkpoint.load(run.last), catalog, "val", run)
        step_done()
    seconds = [after - before for before, after in itertools.pairwise(moments)]
    return dict(zip(STEPS, seconds, strict=True)) | {
        "memory_gib": max(held) / 2**30, "photos": len(catalog.table),
        "classes": catalog.num_classes,
    }  # fmt: skip


def measure(data: str, recipe_name: str, photos: int) -> Record:
    """Every size in a process of its own; the record is not written yet."""
    catalog = limited(open_catalog(data), photos)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        plain = Path(name) / "plain"
        for split in catalog.split_sizes:
            as_class_folders(catalog.select(split), plain / split)
        for what in ("photos", "classes"):
            for times in TIMES:
                target = Path(name) / f"{what}-{times}"
                repeated(plain, target, times, what == "classes")
                call = [sys.executable, __file__, "--one", str(target), "--recipe", recipe_name]
                done = subprocess.run(
                    call, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8"
                )
                rows.append({"of": what, "times": times} | json.loads(done.stdout.splitlines()[-1]))
                print(rows[-1], flush=True)
    metrics = {}
    for what in ("photos", "classes"):
        first, *_, last = (row for row in rows if row["of"] == what)
        for step in (*STEPS, "memory_gib"):
            metrics[f"{what}: {step}, times"] = last[step] / first[step]
    return Record(
        kind="benchmark",
        topic="growth",
        data={"catalog": catalog.name, "fingerprint": catalog.fingerprint,
              "photos": len(catalog.table)},
        metrics=metrics,
        recipe=vars(quick(get_recipe(recipe_name), epochs=1)),
        extra={"rows": rows, "times": TIMES},
        command=command_line(),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> Record | None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="showroom", help="a data set, as `open_catalog` takes it")
    parser.add_argument("--recipe", default="cnn3", help="trained for one epoch at 64 px")
    parser.add_argument("--photos", type=int, default=1024, help="of the smallest size")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(one_size(options.one, options.recipe)))
        return None
    record = measure(options.data, options.recipe, options.photos)
    return tell(record)


if __name__ == "__main__":
    main()
