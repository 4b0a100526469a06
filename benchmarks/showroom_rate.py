"""How fast the showroom draws: photos per second on one core, by size.

    python benchmarks/showroom_rate.py [--photos 300]

Meshes are built before the clock starts (a tenth of a second per class, once). The time is that of
the processor, not the wall clock, so that other programs on the machine do not count; both go into
the record. The aim is 60 photos per second at 128 pixels.
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

SIZES = (64, 128, 224)
ROUNDS = 5
AIM = {"size": 128, "photos_per_second": 60}


def rates(size: int, photos: int) -> tuple[float, float]:
    """Photos per second of processor time and of wall time, photos spread over all classes."""
    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(photos):
        draw_photo(number % len(CARS), number, size=size)
    return photos / (time.process_time() - cpu), photos / (time.perf_counter() - wall)


def measure(photos: int) -> Record:
    """Rates by size, the sizes taking turns; the record is not written yet."""
    cv2.setNumThreads(1)
    for label in range(len(CARS)):
        draw_photo(label, 0, size=min(SIZES))
    rounds = [{size: rates(size, photos) for size in SIZES} for _ in range(ROUNDS)]
    cpu = {f"{size} px": [one[size][0] for one in rounds] for size in SIZES}
    wall = {f"{size} px": [one[size][1] for one in rounds] for size in SIZES}
    return Record(
        kind="benchmark",
        topic="showroom_rate",
        data={"catalog": "showroom", "version": SHOWROOM_VERSION, "photos": photos},
        metrics={f"{size} photos/s": statistics.median(values) for size, values in cpu.items()},
        extra={"rounds": ROUNDS, "rates": cpu, "wall_rates": wall, "aim": AIM,
               "opencv": cv2.__version__},
        command=command_line(),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=300, help="photos per size and round")
    record = measure(parser.parse_args(arguments).photos)
    for size, values in record.extra["rates"].items():
        median, wall = (
            statistics.median(values),
            statistics.median(record.extra["wall_rates"][size]),
        )
        print(f"{size:7s} {median:6.1f} photos/s of processor time, {wall:6.1f} by the clock")
    print(record.write())
    return record


if __name__ == "__main__":
    main()
