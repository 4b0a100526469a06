"""Does carlib run with the lowest versions that pyproject.toml allows, and with the newest?

python tools/versions.py lowest [PYTHON]   every direct dependency at its lower bound
python tools/versions.py newest [PYTHON]   everything at its newest release

Each makes an environment of its own in build/, installs carlib with all its extras and runs the
unit tests there; words after the interpreter go to pytest. The pins of requirements.txt are what
`make test` runs with. uv makes the environments, as pip cannot resolve downwards; where no GPU is
meant, UV_TORCH_BACKEND=cpu spares gigabytes of CUDA.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESOLUTION = {"lowest": "lowest-direct", "newest": "highest"}
# What is committed was drawn with the pins; other releases draw and set it a little differently.
PINNED = ("tests/test_report.py::test_committed_report_is_what_the_records_say",)
QUIET = {
    "OMP_NUM_THREADS": "1",  # a process per core and one thread in each, as `make unit`
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def main(which: str, python: str = sys.executable, *words: str) -> int:
    """Make the environment and run the tests in it; gives pytest's exit code."""
    started = time.perf_counter()
    binaries = make_environment(which, python)
    print(f"{which}: environment made in {time.perf_counter() - started:.0f} s", flush=True)
    started = time.perf_counter()
    left_out = [f"--deselect={test}" for test in PINNED]
    command = [binaries / "pytest", "tests", *left_out, *(words or ("--numprocesses=auto",))]
    code = subprocess.run(command, cwd=ROOT, env=QUIET | os.environ).returncode
    print(f"{which}: tests took {time.perf_counter() - started:.0f} s", flush=True)
    return code


def make_environment(which: str, python: str) -> Path:
    """An environment with carlib and all its extras in build/; gives the folder of its programs."""
    place = ROOT / "build" / f"versions-{which}"
    pins = place.with_suffix(".txt")  # kept, to say what was tried
    place.parent.mkdir(exist_ok=True)
    uv("venv", "--clear", "--python", python, str(place))
    inside = ("--python", str(place))
    uv(
        "pip", "compile", *inside, "--all-extras", "--resolution", RESOLUTION[which], "--upgrade",
        "--no-annotate", "--output-file", str(pins), "pyproject.toml",
    )  # fmt: skip
    uv("pip", "sync", *inside, str(pins))
    uv("pip", "install", *inside, "--no-deps", "--editable", ".")
    return place / "bin"


def uv(*arguments: str) -> None:
    """Run uv in the repository; end in words where it is missing or fails."""
    program = shutil.which(
        "uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if program is None:
        sys.exit("this needs uv; install it with: pip install uv")
    if subprocess.run([program, "--quiet", *arguments], cwd=ROOT).returncode:
        sys.exit(f"uv {' '.join(arguments[:2])} failed, see above")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in RESOLUTION:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
