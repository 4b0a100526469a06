"""Keep the notebooks in step with the repository: stamp what is generated, run, save clean.

python tools/notebooks.py stamp   badges and set-up cells from pyproject.toml, README's list, and
                                  from the committed records tables and running times
python tools/notebooks.py check   exit code 1 if a stamp is out of date
python tools/notebooks.py run     stamp, execute from top to bottom, save with outputs
python tools/notebooks.py time    the same, and write the record of what each took

Where CARLIB_DATA names other data than the drawn cars, `run` executes copies in a folder of runs/,
which git ignores: the committed notebooks only ever show drawn cars.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
TIME_LIMIT = 1800  # seconds for one cell on the drawn cars, against hangs; real photos have none
KEPT_METADATA = {"kernelspec", "language_info"}
FROM_RECORDS = re.compile(r"full_scale\([^()]*\)")  # a cell that shows records, no more
FOLDED = re.compile(r"<details>.*?</details>", re.DOTALL)
FENCED = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
TIMED = "notebooks"  # topic of the record of running times and memory

SETUP = """\
import sys

if "google.colab" in sys.modules:  # Colab keeps its own torch and numpy
    %cd -q /content
    !test -d {folder} || git clone -q --depth 1 {repository}
    %cd -q {folder}
    %pip install -q ".[gpu,weights]"

import carlib

here = carlib.setup()"""

DATA = """\
# @title Photographs instead of drawn cars (optional)
data = ""  # @param ["", "stanford-cars"] {"allow-input": true}
keep_runs_on_drive = False  # @param {"type": "boolean"}

# "stanford-cars" comes from the Hugging Face hub, about 2 GB; a path opens photos of your own.
if data or keep_runs_on_drive:
    here = carlib.setup(data=data, drive=keep_runs_on_drive)"""


def address() -> dict[str, str]:
    """Where the project is published, from the one place that knows."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["carlib"]


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

    That is the badge (second line of the first cell), the running times below it, the set-up cell,
    the form that asks for other data (tagged "data"), and the tables made from records.
    """
    notebook = nbformat.read(path, as_version=4)
    title, _, rest = notebook.cells[0].source.split("\n", 2)
    notebook.cells[0].source = "\n".join([title, badge(path), timed(rest, path)])
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    _, _, imports = first.source.partition("here = carlib.setup()")
    first.source = setup_code() + imports
    for cell in notebook.cells:
        if "data" in cell.metadata.get("tags", []):
            cell.source = DATA
        if cell.cell_type == "code" and cell.outputs and FROM_RECORDS.fullmatch(cell.source):
            renew(cell)
    return notebook


def timed(text: str, path: Path) -> str:
    """The text with time and memory on drawn cars, as they were recorded, and the time that a T4
    would train on photographs, by estimate.
    """
    from carlib.experiment.record import load_records, the_one

    record = the_one(load_records(ROOT / "data" / "results"), "benchmark", TIMED)
    if record is None or path.stem not in record.metrics:
        return text
    seconds, memory = record.metrics[path.stem], record.extra["memory_gib"][path.stem]
    row = rf"\1 {spent(seconds)} | {memory:.1f} GiB |"
    text = re.sub(r"(?m)^(\| 2 CPU cores \| drawn cars[^|]*\|)[^|]*\|[^|]*\|", row, text)
    gpu = record.extra.get("t4_seconds", {}).get(path.stem)
    row = rf"| one T4 \1 ≈ {spent(gpu or 0)} of training, an estimate from FLOPs | |"
    return re.sub(r"(?m)^\| one T4 (\|[^|]*\|).*$", row, text) if gpu else text


def spent(seconds: float) -> str:
    """Seconds, or minutes where they are many."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


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


def layout() -> str:
    """A line for every package and file of carlib: the first sentence of what it says of itself."""
    lines = ["```"]
    files = (ROOT / "carlib").rglob("*.py")
    for path in sorted(files, key=lambda path: (path.parent, path.name)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        words = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
        sentence = re.split(r"\. (?=[A-Z])", words)[0].rstrip(".")
        package = path.name == "__init__.py"
        name = f"{path.parent.relative_to(ROOT)}/" if package else f"  {path.name}"
        lines.append(f"{name:22s} {sentence}")
    return "\n".join([*lines, "```"])


def readme() -> str:
    """README.md renewed: a row per notebook, title and badge, and a line per file of carlib."""
    from carlib.report.build import fill

    rows = ["| notebook | on Colab |", "|---|---|"]
    for path in notebooks():
        title = nbformat.read(path, as_version=4).cells[0].source.split("\n")[0].lstrip("# ")
        rows.append(f"| [{title}](notebooks/{path.name}) | {badge(path)} |")
    text = fill((ROOT / "README.md").read_text(encoding="utf-8"), "notebooks", "\n".join(rows))
    return fill(fill(text, "layout", layout()), "reliability", reliability())


def reliability() -> str:
    """What came of the bad and edge inputs that `python tests/harness --record` tried."""
    from carlib.experiment.record import load_records, the_one

    record = the_one(load_records(ROOT / "data" / "results"), "benchmark", "reliability")
    if record is None:
        return ""
    heads = [head for head in record.metrics if head != "tried"]
    lines = [
        "| kind of input | tried | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 2) + "|",
    ]
    rows = record.extra["kinds"] | {"all": record.metrics}
    for kind, counts in rows.items():
        tried = sum(counts[head] for head in heads)
        numbers = (f"{int(number):,}" for number in (tried, *(counts[head] for head in heads)))
        lines.append(f"| {kind} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def copies_folder() -> Path | None:
    """Where copies are executed on the data that CARLIB_DATA names; None for the drawn cars.

    The folder is named after what the data are, so two data sets of one name have two.
    """
    data = os.environ.get("CARLIB_DATA") or "showroom"
    if data == "showroom":
        return None
    from carlib.data.opening import open_catalog
    from carlib.paths import file_name, runs_root

    folder, mark, words = data.partition("#") if not Path(data).exists() else (data, "", "")
    if Path(folder).exists():  # kernels run in notebooks/, where a relative path is another
        data = os.environ["CARLIB_DATA"] = f"{Path(folder).resolve()}{mark}{words}"
    catalog = open_catalog(data).with_val()
    return runs_root() / "notebooks" / file_name(catalog.name, catalog.fingerprint[:8])


def solutions(notebook: nbformat.NotebookNode) -> list[str]:
    """The code of the folded solutions below the exercises, one piece per solution."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    pieces = ("\n".join(FENCED.findall(folded)) for folded in FOLDED.findall(text))
    return [code for code in pieces if code]


def run(path: Path, target: Path, solve: bool = False) -> tuple[float, float, float]:
    """Execute a notebook and save it with outputs as `target`; seconds, the most memory in GiB, and
    how long its trainings would take a T4 on photographs, in seconds by estimate.

    A copy is saved even where a cell fails, with the error in it; a committed notebook is not. With
    `solve` the solutions of the exercises are run below the last cell, and not saved.
    """
    from nbclient import NotebookClient

    held = []
    notebook = stamp(path)
    asked = [*(solutions(notebook) if solve else []), 'here.seconds_on("T4")']  # not saved
    kept = len(notebook.cells)
    notebook.cells += map(nbformat.v4.new_code_cell, asked)
    copied = target != path
    client = NotebookClient(
        notebook,
        timeout=None if copied else TIME_LIMIT,
        kernel_name="python3",
        resources={"metadata": {"path": path.parent}},
        on_cell_executed=lambda **_: held.append(peak(client.km.provisioner.pid)),
    )
    started = time.perf_counter()
    try:
        client.execute()
    except Exception:
        if copied:
            del notebook.cells[kept:]
            nbformat.write(notebook, target)
        raise
    seconds = time.perf_counter() - started
    estimate = float(notebook.cells[-1].outputs[0].data["text/plain"])
    del notebook.cells[kept:]
    clean(notebook)
    nbformat.write(notebook, target)
    return seconds, max(held), estimate


def peak(process: int) -> float:
    """The most memory that a running process has held, in GiB; 0 where Linux does not tell."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
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


def write_times(took: dict[str, tuple[float, float, float]]) -> None:
    """The record of how long the notebooks took on the drawn cars, of memory, and of estimates."""
    from carlib.experiment.host import command_line
    from carlib.experiment.record import Record

    seconds, memory, on_t4 = (
        {name: costs[part] for name, costs in took.items()} for part in range(3)
    )
    Record(
        kind="benchmark",
        topic=TIMED,
        data={"catalog": "showroom", "dataset": "showroom"},
        metrics=seconds,
        extra={"memory_gib": memory, "t4_seconds": on_t4},
        command=command_line(),
    ).write()


def execute() -> dict[str, tuple[float, float, float]]:
    """Execute every notebook, or its copy, in order: what `run` says of each, by name.

    Copies find what was trained before. The committed ones start with nothing, as a reader does:
    what they show and how long they took is not what this machine happened to have.
    """
    folder = copies_folder()
    if folder is None:
        with tempfile.TemporaryDirectory() as nothing:
            os.environ |= {"CARLIB_RUNS": f"{nothing}/runs", "CARLIB_CACHE": f"{nothing}/cache"}
            return _execute(None)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"executing copies in {folder}", flush=True)
    return _execute(folder)


def _execute(folder: Path | None) -> dict[str, tuple[float, float, float]]:
    took = {}
    for path in notebooks():
        took[path.stem] = run(path, path if folder is None else folder / path.name)
        said = "{}: {:.0f} s, {:.1f} GiB, {:.0f} s on a T4"
        print(said.format(path.name, *took[path.stem]), flush=True)
    return took


def stale() -> list[str]:
    """What is not as a stamp would leave it, in words."""
    outdated = [
        f"{path.name}: badge, set-up cell, costs or a table of records is out of date"
        for path in notebooks()
        if stamp(path) != nbformat.read(path, as_version=4)
    ]
    if readme() != (ROOT / "README.md").read_text(encoding="utf-8"):
        outdated.append("README.md: its list of notebooks or files is out of date")
    return outdated


def stamp_all() -> None:
    """Stamp the notebooks and the README's list of them."""
    for path in notebooks():
        nbformat.write(stamp(path), path)
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")


def main(command: str) -> int:
    """Do what the command says for every notebook; gives the exit code."""
    if command == "check":
        outdated = stale()
        print("".join(f"{line}; run: tools/notebooks.py stamp\n" for line in outdated), end="")
        return 1 if outdated else 0
    if command == "time" and copies_folder() is not None:
        sys.exit("the record is of the drawn cars; unset CARLIB_DATA")
    took = execute() if command in ("run", "time") else {}
    if command == "time":
        write_times(took)
    if command != "run" or copies_folder() is None:
        stamp_all()
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("stamp", "check", "run", "time"):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
