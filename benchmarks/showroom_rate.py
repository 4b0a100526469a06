"""How fast the showroom draws: photos per second on one core by size, and counterfactual pairs.

    python benchmarks/showroom_rate.py [--photos 300]

Meshes are built before the clock starts (a tenth of a second per class, once). The time is that of
the processor, not the wall clock, so that other programs on the machine do not count; both go into
the record. The aim is 60 photos per second at 128 pixels, and as many pairs that differ in a part.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2

from carlib.data.drawn import SHOWROOM_VERSION
from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.showroom import CARS, draw_photo
from carlib.showroom.counterfactual import counterfactual_pairs

SIZES = (64, 128, 224)
ROUNDS = 5
AIM = {"size": 128, "photos_per_second": 60, "pairs_per_second": 60}
PAIRS = "128 px pairs"


def draw(what: int | str, count: int) -> None:
    """Photos of a size, spread over all classes, or pairs that differ in one part."""
    if what == PAIRS:
        for _ in counterfactual_pairs(count, AIM["size"]):
            pass
    else:
        for number in range(count):
            draw_photo(number % len(CARS), number, size=what)


def rates(what: int | str, count: int) -> tuple[float, float]:
    """How many per second of processor time and of wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    draw(what, count)
    return count / (time.process_time() - cpu), count / (time.perf_counter() - wall)


def measure(photos: int) -> Record:
    """Rates by size, the sizes taking turns; the record is not written yet."""
    cv2.setNumThreads(1)
    for label in range(len(CARS)):
        draw_photo(label, 0, size=min(SIZES))
    draw(PAIRS, photos)
    named = {f"{size} px photos": size for size in SIZES} | {PAIRS: PAIRS}
    rounds = [{name: rates(what, photos) for name, what in named.items()} for _ in range(ROUNDS)]
    cpu, wall = ({name: [one[name][which] for one in rounds] for name in named} for which in (0, 1))
    return Record(
        kind="benchmark",
        topic="showroom_rate",
        data={"catalog": "showroom", "version": SHOWROOM_VERSION, "photos": photos},
        metrics={f"{name}/s": statistics.median(values) for name, values in cpu.items()},
        extra={"rounds": ROUNDS, "rates": cpu, "wall_rates": wall, "aim": AIM,
               "opencv": cv2.__version__},
        command=command_line(),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=300, help="per size and round; as many pairs")
    record = measure(parser.parse_args(arguments).photos)
    for name, values in record.extra["rates"].items():
        wall = statistics.median(record.extra["wall_rates"][name])
        print(f"{name:13s} {statistics.median(values):6.1f} a second of processor time, "
              f"{wall:6.1f} by the clock")  # fmt: skip
    print(record.write())
    return record


if __name__ == "__main__":
    main()
