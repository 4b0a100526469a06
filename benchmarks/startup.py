"""How long one waits before anything happens: imports and `carlib --help`, in fresh processes.

    python benchmarks/startup.py [--rounds 10]

Beside them stand an empty Python and `import torch`, which nobody here can make faster. They take
turns. The aim is help in half a second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from common import tell

from carlib.experiment.host import command_line
from carlib.experiment.record import Record
from carlib.timing import medians, taking_turns

AIM = {"carlib --help": 0.5}  # seconds
WAYS = {
    "python": ["-c", "pass"],
    "import carlib": ["-c", "import carlib"],
    "carlib --help": ["-m", "carlib", "--help"],
    "import torch": ["-c", "import torch"],
    "import carlib.training": ["-c", "import carlib.training.loop"],
}


def measure(rounds: int) -> Record:
    """Median seconds of every way; the record is not written yet."""

    def start(arguments: list[str]) -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    seconds = taking_turns({k: lambda v=v: start(v) for k, v in WAYS.items()}, rounds)
    return Record(
        kind="benchmark",
        topic="startup",
        data={},
        metrics=medians(seconds),
        extra={"rounds": rounds, "seconds": seconds, "aim": AIM},
        command=command_line(),
    )


def main(arguments: list[str] | None = None) -> Record:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    record = measure(parser.parse_args(arguments).rounds)
    return tell(record)


if __name__ == "__main__":
    main()
