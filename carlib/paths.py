"""Where carlib keeps things: caches, weights, runs and records.

Four folders, each movable by an environment variable, so that a notebook on Colab, a test and a
cluster job can share one code path. In a checkout, runs and records lie in the checkout, whatever
folder a notebook was started from.
"""

from __future__ import annotations

import os
from pathlib import Path

from carlib.errors import RunError


def source_tree() -> Path | None:
    """The folder of the source that this package lies in, None when it is installed alone."""
    above = Path(__file__).resolve().parents[1]
    return above if (above / "pyproject.toml").exists() else None


def checkout() -> Path:
    """The repository that this package lies in; the current folder when it is installed alone."""
    return source_tree() or Path()


def cache_root() -> Path:
    """Folder of everything that can be made again (decoded photos, the showroom)."""
    return _folder("CARLIB_CACHE", Path("~/.cache/carlib"))


def runs_root() -> Path:
    """Folder that holds one folder per training run."""
    return _folder("CARLIB_RUNS", checkout() / "runs")


def run_called(path: Path | str) -> Path:
    """The path; or the run of that name, where nothing lies at the path and a run is called so."""
    path = Path(path)
    named = len(path.parts) == 1 and not os.path.exists(path)
    return runs_root() / path if named and os.path.isdir(runs_root() / path) else path


def results_root() -> Path:
    """Folder of the records; in a checkout, the committed `data/results`."""
    return _folder("CARLIB_RESULTS", checkout() / "data" / "results")


def outputs_of(results: Path) -> Path:
    """Folder of what networks said of the photos of some records (`carlib.experiment.outputs`).

    `outputs` beside a folder that is called `results`; any other folder of records holds it itself.
    """
    return results.parent / "outputs" if results.name == "results" else results


def weights_root() -> Path:
    """Folder in which files of pretrained weights are looked for first."""
    return _folder("CARLIB_WEIGHTS", cache_root() / "weights")


def variable_of(path: Path | str) -> str:
    """The variable that moves the folder of ours which a path lies in, "" for other people's."""
    roots = {"CARLIB_RUNS": runs_root, "CARLIB_RESULTS": results_root,
             "CARLIB_WEIGHTS": weights_root, "CARLIB_CACHE": cache_root}  # fmt: skip
    inside = (name for name, root in roots.items() if Path(path).is_relative_to(root()))
    return next(inside, "")


def file_name(*parts: object) -> str:
    """Parts joined to a name that is one file in one folder, whatever people called things.

    Letters, digits and `._+=,` stay, anything else becomes "_"; no name is hidden or climbs out.
    """
    words = ("".join(c if c.isalnum() or c in "._+=,-" else "_" for c in str(p)) for p in parts)
    cut = (word.lstrip(".").encode()[:80].decode(errors="ignore") for word in words if word)
    return "-".join(word or "_" for word in cut)  # file systems count bytes


def _folder(variable: str, default: Path) -> Path:
    try:
        return Path(os.environ.get(variable) or default).expanduser()
    except RuntimeError:
        raise RunError(f"this account has no home folder; name a folder in {variable}") from None
