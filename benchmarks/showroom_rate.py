"""How fast the showroom draws: photos per second on one core, by size.

    python benchmarks/showroom_rate.py [--photos 300] [--json data/results/showroom_rate.json]

Meshes are built before the clock starts (a tenth of a second per class, once). The time is that of
the processor, not the wall clock, so that other programs on the machine do not count; both are
printed. The aim is 60 photos per second at 128 pixels.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import cv2
import numpy as np

from carlib.showroom import CARS, SHOWROOM_VERSION, draw_photo

SIZES = (64, 128, 224)


def measure(size: int, photos: int) -> dict[str, float]:
    """Rates of drawing `photos` photos spread over all classes."""
    for label in range(len(CARS)):
        draw_photo(label, 0, size=size)
    cpu, wall = time.process_time(), time.perf_counter()
    for i in range(photos):
        draw_photo(i % len(CARS), i, size=size)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "size": size,
        "photos": photos,
        "photos_per_second": round(photos / cpu, 1),
        "photos_per_second_wall": round(photos / wall, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=300, help="photos per size")
    parser.add_argument("--json", type=Path, help="write a record here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows = [measure(size, options.photos) for size in SIZES]
    for row in rows:
        print(
            f"{row['size']:4d} px  {row['photos_per_second']:6.1f} photos/s of processor time, "
            f"{row['photos_per_second_wall']:6.1f} by the clock"
        )
    if options.json:
        record = {
            "benchmark": "showroom_rate",
            "showroom_version": SHOWROOM_VERSION,
            "rows": rows,
            "machine": platform.processor() or platform.machine(),
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "opencv": cv2.__version__,
            },
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"record: {options.json}")


if __name__ == "__main__":
    main()
