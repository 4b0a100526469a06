"""Which recipes have no record yet, the commands that make them, and what those cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carlib.experiment.cost import DEVICES, STANFORD_CARS, seconds_on, training_flops
from carlib.experiment.recipe import Recipe
from carlib.experiment.record import Record
from carlib.experiment.registry import RECIPES
from carlib.experiment.tables import STANFORD, evaluations, shown_name

# What claims rest on takes three seeds.
THREE_SEEDS = ("scratch_best", "scratch_cpu", "lite0", "lite2", "lite0_cpu", "lite0_cpu_long")
PHOTOS, CLASSES = STANFORD_CARS
DRAWN = {"years": "showroom#years"} | dict.fromkeys(
    ("fronts", "fronts_half", "fronts_lite0"), "showroom#counterfactual"
)  # recipes for drawn cars, and which
CPU = "2 CPU cores"  # the device whose rate records have measured
# What of a recipe its operations depend on.
COSTS = ("model", "head", "grayscale", "size", "start_size", "grow_until", "epochs")


def command(name: str) -> str:
    """The one command that makes the record of a row."""
    recipe = RECIPES[name]
    half = f" --classes {CLASSES // 2}" if recipe.embedding else ""
    data = DRAWN.get(name, "PATH")
    return f"carlib train {name} --data {data}{half}" + (
        " --seeds 3" if name in THREE_SEEDS else ""
    )


def missing(records: Sequence[Record]) -> list[str]:
    """Names of the recipes without a record; first those that changed since they were run."""
    older, never = _lacking(records)
    return [*older, *never]


def _lacking(records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """Recipes that have changed since they were run, and recipes that never were."""
    about = [r for r in records if r.recipe and _shows(r) and _of_its_data(r)]
    run = {record.recipe["name"] for record in about if shown_name(record) in RECIPES}
    run |= _trained_in_benchmarks(records)
    older = {record.recipe["name"] for record in about} - run
    never = [name for name in RECIPES if name not in run | older]
    return [name for name in RECIPES if name in older], never


def too_few_seeds(records: Sequence[Record]) -> list[str]:
    """Recipes that have records as they are, of fewer than the three seeds that claims take."""
    seeds = {name: {r.recipe["seed"] for r in evaluations(records) if shown_name(r) == name}
             for name in THREE_SEEDS}  # fmt: skip
    return [name for name, found in seeds.items() if 0 < len(found) < 3]


def _shows(record: Record) -> bool:
    """Whether a record is what a recipe was made for: names, or else neighbors.

    A network that learned to name half of the classes leaves the question of all open.
    """
    return record.kind in (("retrieval",) if record.recipe["embedding"] else ("evaluation", "maps"))


def _trained_in_benchmarks(records: Sequence[Record]) -> set[str]:
    """Recipes as they are now that a benchmark trained, by their methods' hashes in its extra."""
    told = [record.extra.get("recipes", {}) for record in records if record.kind == "benchmark"]
    return {name for one in told for name, method in one.items()
            if name in RECIPES and RECIPES[name].method == method}  # fmt: skip


def _of_its_data(record: Record) -> bool:
    drawn = record.recipe["name"] in DRAWN
    return record.data.get("dataset") == ("showroom" if drawn else STANFORD)


def flops(recipe: Recipe) -> float:
    """Operations of a recipe's training on Stanford Cars, of half the classes where it compares."""
    part = 2 if recipe.embedding else 1
    seeds = 3 if recipe.name in THREE_SEEDS else 1
    return seeds * training_flops(recipe, PHOTOS // part, CLASSES // part)


def rates(records: Sequence[Record]) -> dict[str, float]:
    """Operations a second of whole trainings of each model on CPU cores, as records have measured.

    Networks differ by far in what they get of a processor, so this beats any device's promise.
    """
    found = {}
    for record in evaluations(records):
        recipe = Recipe(**{key: record.recipe[key] for key in COSTS if key in record.recipe})
        seconds = record.timing.get("train_seconds")
        if seconds and not record.recipe.get("plan") and not record.hardware["gpu"]:
            found[recipe.model] = training_flops(recipe, PHOTOS, CLASSES) / seconds
    return found


def _rate(model: str, measured: Mapping[str, float]) -> float | None:
    """Operations a second of a model's training, or the slowest of its kind's: depthwise networks
    get a fraction of what others do.
    """
    kind = "efficientnet"
    relatives = [rate for name, rate in measured.items() if name.startswith(kind)]
    if not model.startswith(kind):
        return measured.get(model)
    return measured.get(model, min(relatives, default=None))


def orders(records: Sequence[Record]) -> list[str]:
    """Lines for a shell: of every missing recipe what it costs, as a comment, and its command.

    Wanted most are those whose place older records hold, then those of too few seeds, then what
    costs least. Hours are estimates by operations alone, on CPU cores as measured where a record of
    the model or its kind is there; a small network gets less of a GPU, so it takes longer.
    """
    lines, measured, few = [], rates(records), too_few_seeds(records)
    cost = {name: flops(RECIPES[name]) for name in [*missing(records), *few]}
    older, never = (sorted(names, key=cost.get) for names in _lacking(records))
    for name in [*older, *sorted(few, key=cost.get), *never]:
        recipe = RECIPES[name]
        seconds = {device.name: seconds_on(device, cost[name]) for device in DEVICES.values()}
        if rate := _rate(recipe.model, measured):
            seconds[CPU] = cost[name] / rate
        hours = ", ".join(f"{device} {_hours(value)}" for device, value in seconds.items())
        lines += [f"# {recipe.note}: {cost[name] / 1e12:,.0f} TFLOP; hours, at least: {hours}",
                  command(name)]  # fmt: skip
    return lines


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f}" if seconds > 180 else "under 0.1"
