"""Run the notebooks as Colab would, without Colab: its packages, its set-up, its habits.

python tools/colab.py [NOTEBOOK…]   all six where none is named

Packages of `colab_pins.txt` (Colab's GPU image, as its makers publish it, as far as carlib could
touch them) are installed for Python 3.13 in a folder of their own. Above them lies an environment
that begins empty and takes what the set-up cell installs, so whatever it would change is seen; any
change is a failure. `google.colab` is a stub, numpy is imported first as Colab does, the set-up
cell runs twice, and the project's address leads to this checkout, which is cloned into /content
anew, in the place of an older clone. There is no GPU in this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat

from notebooks import ROOT, address, notebooks

PINS = ROOT / "tools" / "colab_pins.txt"
WORK = ROOT / "build" / "colab"
BASE, ABOVE, HOME = WORK / "base", WORK / "above", WORK / "home"
CONTENT = Path("/content")  # where Colab's notebooks run
RUNNER = """\
import sys
import nbformat
from nbclient import NotebookClient
source, target = sys.argv[1:]
notebook = nbformat.read(source, 4)
client = NotebookClient(notebook, timeout=1800, kernel_name="python3",
                        resources={"metadata": {"path": "/content"}})
try:
    client.execute()
finally:
    nbformat.write(notebook, target)
"""


def python(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / "bin" / "python"


def call(*command: object, **more: str) -> str:
    """Run a command with variables of its own; what it printed, or its words and the end."""
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | more,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
    return done.stdout


def colabs_python() -> str:
    """A Python 3.13 that runs: what stands on the path may be a signpost to nothing, as pyenv's."""
    interpreter = shutil.which(os.environ.get("PYTHON313", "python3.13"))
    about = "import sys; sys.exit(sys.version_info[:2] != (3, 13))"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if interpreter is None or subprocess.run([interpreter, "-c", about], **quiet).returncode:
        sys.exit(
            f"Colab has Python 3.13, and {interpreter or 'python3.13'} is none that runs; name "
            "one: PYTHON313=/path/to/python3.13 make test-colab"
        )
    return interpreter


def make_base() -> None:
    """Colab's packages, installed once; made again when the pins change."""
    pins, stamp = PINS.read_text(encoding="utf-8"), BASE / "pins.txt"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == pins:
        return
    interpreter = colabs_python()
    shutil.rmtree(BASE, ignore_errors=True)
    call(interpreter, "-m", "venv", BASE)
    call(python(BASE), "-m", "pip", "install", "-q", "uv")
    install = (python(BASE), "-m", "uv", "pip", "install", "-q", "--python", python(BASE))
    call(*install, "-r", PINS)
    stamp.write_text(pins, encoding="utf-8")


def make_above() -> Path:
    """An empty environment over Colab's, with the stub of `google.colab`; its packages' folder."""
    shutil.rmtree(ABOVE, ignore_errors=True)
    call(python(BASE), "-m", "venv", "--without-pip", ABOVE)
    (packages,) = ABOVE.glob("lib/python*/site-packages")
    (below,) = BASE.glob("lib/python*/site-packages")
    (packages / "colab.pth").write_text(f"{below}\n", encoding="utf-8")
    stub = packages / "google" / "colab"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("", encoding="utf-8")
    return packages


def versions() -> dict[str, str]:
    """What is installed, as the upper environment sees it."""
    listed = call(python(ABOVE), "-m", "pip", "list", "--format=freeze")
    return dict(line.split("==") for line in listed.splitlines() if "==" in line)


def as_on_colab(path: Path) -> nbformat.NotebookNode:
    """A notebook whose kernel has imported what Colab's has, and whose set-up cell runs twice."""
    notebook = nbformat.read(path, as_version=4)
    first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    begun = nbformat.v4.new_code_cell("import google.colab, numpy")
    again = nbformat.v4.new_code_cell(notebook.cells[first].source)
    notebook.cells[first:first] = [begun, again]
    return notebook


def environment() -> dict[str, str]:
    """A home of its own, and the project's address leading to this checkout's last commit."""
    HOME.mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(HOME),
        "PATH": f"{ABOVE / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.file://{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": address()["repository"],
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
        "JUPYTER_PATH": str(ABOVE / "share" / "jupyter"),
    }


def main(names: list[str]) -> int:
    """Run the notebooks in one machine, one after the other; 1 where a package was changed."""
    if not CONTENT.is_dir() or not os.access(CONTENT, os.W_OK):
        sys.exit(f"notebooks on Colab run in {CONTENT}; make that folder, writable, and call again")
    # A clone that an earlier call left would be taken for this one: set-up clones only once.
    shutil.rmtree(CONTENT / address()["repository"].rsplit("/", 1)[-1], ignore_errors=True)
    make_base()
    make_above()
    before, more = versions(), environment()
    call(python(ABOVE), "-m", "ipykernel", "install", "--prefix", ABOVE, **more)
    for path in notebooks():
        if names and path.stem not in names:
            continue
        source, target = WORK / path.name, WORK / f"ran-{path.name}"
        nbformat.write(as_on_colab(path), source)
        started = time.perf_counter()
        call(python(ABOVE), "-c", RUNNER, source, target, **more)
        print(f"{path.name}: {time.perf_counter() - started:.0f} s", flush=True)
    after = versions()
    changed = [name for name in before if after.get(name) != before[name]]
    print(f"{len(before)} packages before; changed: {', '.join(changed) or 'none'}")
    print("new:", ", ".join(sorted(after.keys() - before.keys())))
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
