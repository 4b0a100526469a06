"""Do the notebooks' assertions hold with another seed and another number of threads?

python tools/assertions.py [SEED…] [NAME…]   seeds 1 to 4 and all notebooks, unless told (a name
                                              such as 05_siamese); writes a record of all notebooks

Prose that the next machine contradicts teaches distrust. So what a notebook claims of a training on
drawn cars stands in an assertion, and here every assertion is tried with other seeds, odd ones on
one thread and even ones on two. One that fails stops nothing: it is counted.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import tempfile
from pathlib import Path

import nbformat

from notebooks import notebooks, stamp

SEEDS = (1, 2, 3, 4)
BEGIN = """\
HELD = []


def held(true, claim):
    HELD.append([claim, bool(true)])"""
END = "import json\nprint(json.dumps(HELD))"


class Counted(ast.NodeTransformer):
    """Has each assertion of a cell note whether it holds."""

    def visit_Assert(self, node: ast.Assert) -> ast.Expr:
        claim = ast.Constant(ast.unparse(node.test))
        call = ast.Call(ast.Name("held", ast.Load()), [node.test, claim], [])
        return ast.copy_location(ast.Expr(call), node)


def counted(source: str, seed: int) -> str:
    """A cell whose assertions are counted; the set-up cell, which has none, gets the seed."""
    if "import carlib\n" in source:
        return source.replace("here = carlib.setup()", f"here = carlib.setup(seed={seed})")
    return ast.unparse(ast.fix_missing_locations(Counted().visit(ast.parse(source))))


def claims(path: Path, seed: int) -> list[tuple[str, bool]]:
    """What a notebook asserts, in order, and whether it holds with a seed."""
    from nbclient import NotebookClient

    notebook = stamp(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = counted(cell.source, seed)
    cells = [nbformat.v4.new_code_cell(part) for part in (BEGIN, END)]
    notebook.cells = [cells[0], *notebook.cells, cells[1]]
    where = {"metadata": {"path": path.parent}}
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources=where).execute()
    return json.loads(notebook.cells[-1].outputs[-1].text.splitlines()[-1])


def main(*words: str) -> int:
    """Try notebooks with every seed, tell what failed, and write the record."""
    from carlib.experiment.host import command_line
    from carlib.experiment.record import Record

    seeds = [int(word) for word in words if word.isdigit()] or SEEDS
    named = [word for word in words if not word.isdigit()]
    asked = [one for one in notebooks() if not named or any(map(one.name.startswith, named))]
    tried: dict[str, int] = {}
    failed = []
    os.environ |= {"CARLIB_DATA": "showroom", "CARLIB_PROFILE": "quick"}
    for seed in seeds:
        threads = 2 - seed % 2
        with tempfile.TemporaryDirectory() as home:
            places = {f"CARLIB_{what}": str(Path(home) / what) for what in ("RUNS", "CACHE")}
            os.environ |= places | {"OMP_NUM_THREADS": str(threads)}
            for path in asked:
                found = claims(path, seed)
                tried[path.stem] = tried.get(path.stem, 0) + len(found)
                broken = [claim for claim, true in found if not true]
                failed += [{"notebook": path.stem, "seed": seed, "threads": threads, "claim": one}
                           for one in broken]  # fmt: skip
                print(f"{path.name}, seed {seed}: {len(broken)} of {len(found)} fail", flush=True)
                print("".join(f"  {claim}\n" for claim in broken), end="", flush=True)
    record = Record(
        kind="benchmark",
        topic="assertions",
        data={"catalog": "showroom", "dataset": "showroom"},
        metrics={"assertions": sum(tried.values()), "failed": len(failed)},
        extra={"tried": tried, "failed": failed, "seeds": [*seeds]},
        command=command_line(),
    )
    if not named:
        record.write()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
