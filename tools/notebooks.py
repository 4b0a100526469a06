"""Keep the notebooks in step with the repository: stamp what is generated, run, save clean.

python tools/notebooks.py stamp   badges and set-up cells from pyproject.toml, README's list, and
                                  from the committed records tables and running times
python tools/notebooks.py check   exit code 1 if a stamp is out of date
python tools/notebooks.py run     stamp, execute from top to bottom, save with outputs
python tools/notebooks.py time    the same, and write the record of what each took
"""

from __future__ import annotations

import os
import re
import sys
import time
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 600  # seconds for one cell on the drawn cars; real photos have none
KEPT_METADATA = {"kernelspec", "language_info"}
FROM_RECORDS = re.compile(
    r"(full_scale\w*|studies)\([^()]*\)"
)  # a cell that shows records, no more
TIMED = "notebooks-showroom"  # the record of running times and memory

SETUP = """\
import sys

if "google.colab" in sys.modules:  # Colab keeps its own torch and numpy
    !git clone -q --depth 1 {repository}
    %cd -q {folder}
    %pip install -q .

import carlib

here = carlib.setup()"""


def address() -> dict[str, str]:
    """Where the project is published, from the one place that knows."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["carlib"]


def badge(path: Path) -> str:
    """The Markdown of a notebook's Colab badge."""
    where = address()
    slug = where["repository"].removeprefix("https://github.com/")
    target = f"https://colab.research.google.com/github/{slug}/blob/{where['branch']}"
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({image})]({target}/notebooks/{path.name})"


def setup_code() -> str:
    """The source that every set-up cell begins with."""
    repository = address()["repository"]
    return SETUP.format(repository=repository, folder=repository.rsplit("/", 1)[-1])


def stamp(path: Path) -> nbformat.NotebookNode:
    """The notebook with all that is generated renewed, in cells that were run or not.

    That is the badge (second line of the first cell), the running time below it, the set-up cell,
    and the tables made from records.
    """
    notebook = nbformat.read(path, as_version=4)
    title, _, rest = notebook.cells[0].source.split("\n", 2)
    notebook.cells[0].source = "\n".join([title, badge(path), timed(rest, path)])
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    _, _, own = first.source.partition("here = carlib.setup()")
    first.source = setup_code() + own
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.outputs and FROM_RECORDS.fullmatch(cell.source):
            renew(cell)
    return notebook


def timed(text: str, path: Path) -> str:
    """The text with time and memory on drawn cars, as they were recorded."""
    from carlib.records import read_record

    file = ROOT / "data" / "results" / f"{TIMED}.json"
    record = read_record(file) if file.exists() else None
    if record is None or path.stem not in record.metrics:
        return text
    seconds, memory = record.metrics[path.stem], record.extra["memory_gib"][path.stem]
    spent = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
    row = rf"\1 {spent} | {memory:.1f} GiB |"
    return re.sub(r"(?m)^(\| 2 CPU cores \| drawn cars[^|]*\|)[^|]*\|[^|]*\|", row, text)


def renew(cell: nbformat.NotebookNode) -> None:
    """Show the records as they are now; a table that is right already stays untouched."""
    import carlib.notebook

    table = eval(cell.source, vars(carlib.notebook))
    shown = cell.outputs[0].data
    if shown.get("text/html") != table._repr_html_():
        shown.update({"text/html": table._repr_html_(), "text/plain": table.to_string()})


def notebooks() -> list[Path]:
    """All notebooks, in order."""
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def readme() -> str:
    """README.md with its list of notebooks renewed: a row per notebook, title and badge."""
    from carlib.report import fill

    rows = ["| notebook | on Colab |", "|---|---|"]
    for path in notebooks():
        title = nbformat.read(path, as_version=4).cells[0].source.split("\n")[0].lstrip("# ")
        rows.append(f"| [{title}](notebooks/{path.name}) | {badge(path)} |")
    return fill((ROOT / "README.md").read_text(), "notebooks", "\n".join(rows))


def run(path: Path) -> tuple[float, float]:
    """Execute a notebook and save it with outputs; seconds, and the most memory in GiB."""
    from nbclient import NotebookClient

    held = []
    notebook = stamp(path)
    limit = None if os.environ.get("CARLIB_DATA") else TIME_LIMIT
    client = NotebookClient(
        notebook,
        timeout=limit,
        kernel_name="python3",
        resources={"metadata": {"path": path.parent}},
        on_cell_executed=lambda **_: held.append(peak(client.km.provisioner.pid)),
    )
    started = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - started
    clean(notebook)
    nbformat.write(notebook, path)
    return seconds, max(held)


def peak(process: int) -> float:
    """The most memory that a running process has held, in GiB; 0 where Linux does not tell."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 2**20


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what changes on every run without meaning: timestamps, progress bars, widgets."""
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in KEPT_METADATA}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if not _is_noise(out)]


def _is_noise(output: nbformat.NotebookNode) -> bool:
    widget = "application/vnd.jupyter.widget-view+json"
    return output.get("name") == "stderr" or widget in output.get("data", {})


def write_times(took: dict[str, tuple[float, float]]) -> None:
    """The record of how long the notebooks took on the drawn cars, and of their memory."""
    from carlib.records import Record, command_line

    seconds, memory = ({name: pair[part] for name, pair in took.items()} for part in (0, 1))
    Record("benchmark", TIMED, {"catalog": "showroom"}, metrics=seconds,
           extra={"memory_gib": memory}, command=command_line()).write()  # fmt: skip


def main(command: str) -> int:
    """Do what the command says for every notebook; gives the exit code."""
    if command == "time" and os.environ.get("CARLIB_DATA"):
        sys.exit("the record is of the drawn cars; unset CARLIB_DATA")
    stale, took = 0, {}
    for path in notebooks():
        if command in ("run", "time"):
            took[path.stem] = run(path)
            print("{}: {:.0f} s, {:.1f} GiB".format(path.name, *took[path.stem]), flush=True)
        elif command == "stamp":
            nbformat.write(stamp(path), path)
        elif command == "check" and stamp(path) != nbformat.read(path, as_version=4):
            what = "badge, set-up cell, costs or a table of records is out of date"
            print(f"{path.name}: {what}; run: tools/notebooks.py stamp")
            stale = 1
    if command == "time":
        write_times(took)
        return main("stamp")
    if command != "check":
        (ROOT / "README.md").write_text(readme())
    elif readme() != (ROOT / "README.md").read_text():
        print("README.md: its list of notebooks is out of date; run: tools/notebooks.py stamp")
        stale = 1
    return stale


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("stamp", "check", "run", "time"):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
