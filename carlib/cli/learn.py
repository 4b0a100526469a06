"""Commands that make records: `train`, `evaluate`, `compare`, `study`, `recipes`, `report`."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carlib.cli.base import AsJson, DataOption, app, opened, say, show_table, tell_notes
from carlib.cli.records import print_comparison, print_maps, print_score, print_views, tell
from carlib.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carlib.data.catalog import Catalog
    from carlib.experiment.checkpoint import Checkpoint
    from carlib.experiment.recipe import Recipe
    from carlib.experiment.record import Record
    from carlib.experiment.run import Run


@app.command("train")
def train_command(
    recipe_name: Annotated[
        str, typer.Argument(metavar="RECIPE", help="See `carlib recipes`; if omitted, it asks.")
    ] = "",
    data: DataOption = "showroom",
    seeds: Annotated[
        int, typer.Option(min=1, help="Train this many seeds, from the recipe's seed on.")
    ] = 1,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field; can be repeated."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of a changed recipe; by default it says what was changed.")
    ] = "",
    on_laptop: Annotated[
        bool, typer.Option("--quick", help="A trial: a dozen epochs at 64 pixels.")
    ] = False,
    profile: Annotated[bool, typer.Option(help="Write a trace of twenty steps.")] = False,
    keep_epochs: Annotated[bool, typer.Option(help="Keep the val logits of every epoch.")] = False,
    classes: Annotated[
        int,
        typer.Option(min=0, help="Learn only the first N classes; compare photos of the others."),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a recipe, or resume its training; score it on val and write the record.

    Without a recipe, at a terminal, it asks what to train and shows the command for next time.
    """
    if not recipe_name:
        recipe_name, data, change = _asked_for()
    from carlib.evaluation.evaluate import evaluate
    from carlib.experiment.registry import get_recipe, quick
    from carlib.files import made
    from carlib.paths import results_root
    from carlib.training.loop import load_or_train

    base = quick(get_recipe(recipe_name)) if on_laptop else get_recipe(recipe_name)
    recipe = _named(base.variant(**_changes(change or [])), name, base)
    catalog = _divided(data)
    made(results_root())  # hours before something is written there
    learned = _first_classes(catalog, classes)
    options = {"profile": profile, "keep_epochs": keep_epochs, "progress": not as_json}
    for seed in range(recipe.seed, recipe.seed + seeds):
        checkpoint, run = load_or_train(recipe.but(seed=seed), learned, say=_to_stderr, **options)
        if classes or recipe.embedding:
            _compare(checkpoint, catalog, run, as_json)
        else:
            tell(evaluate(checkpoint, catalog, "val", run), print_score, as_json)


@app.command("evaluate")
def evaluate_command(
    checkpoint_path: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            help="A run (folder or name) or checkpoint file; by default the published one.",
        ),
    ] = None,
    data: DataOption = "showroom",
    split: Annotated[
        str, typer.Option(help="Split to score; use of 'test' is noted in a ledger.")
    ] = "val",
    views: Annotated[
        bool, typer.Option("--views", help="Score the mean over views, and its gain.")
    ] = False,
    maps: Annotated[
        int, typer.Option(min=0, help="Test heat maps of N photos instead: are they true?")
    ] = 0,
    layer: Annotated[str, typer.Option(help="Layer for maps; by default the last.")] = "",
    method: Annotated[
        list[str] | None,
        typer.Option(help="A kind of map to test; can be repeated; by default all."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="A measure of maps to take; can be repeated; by default all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a checkpoint on any data set of the same classes and write the record."""
    from carlib.evaluation.evaluate import evaluate, evaluate_views

    checkpoint, run = opened(checkpoint_path)
    catalog = _divided(data)
    if maps:
        asked = {"methods": method, "measures": measure, "layer": layer}
        record = _map_record(checkpoint, catalog, split, maps, asked)
        show = print_maps
    elif views:
        record, show = evaluate_views(checkpoint, catalog, split), print_views
    else:
        record, show = evaluate(checkpoint, catalog, split, run), print_score
    tell(record, show, as_json)


def _map_record(
    checkpoint: Checkpoint, catalog: Catalog, split: str, count: int, asked: dict[str, Any]
) -> Record:
    """Heat maps of `count` photos, compared with all that the catalog knows of these."""
    from carlib.data.masks import known_masks
    from carlib.explain.faithfulness import score_maps
    from carlib.explain.scored_images import see

    seen = see(checkpoint, catalog, split, count)
    masks = known_masks(catalog, seen.rows, seen.framing)
    asked = {name: value for name, value in asked.items() if value}  # else every one
    record = score_maps(checkpoint, catalog, seen, *masks, **asked)
    if catalog.extras.counterfactuals and checkpoint.recipe.crop == "whole":
        record.extra["truth"] = _truth_rows(checkpoint, count, asked)
    return record


def _truth_rows(checkpoint: Checkpoint, count: int, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Heat maps of `count` cars that are drawn again with other parts."""
    from carlib.explain.counterfactual import TUNING, truth_of
    from carlib.explain.questions import Questions

    side, names = checkpoint.recipe.scored_size, checkpoint.class_names
    scored, tuning = (Questions.draw(count, side, seed, class_names=names) for seed in (0, TUNING))
    findings = truth_of(
        checkpoint, scored, tuning, asked.get("methods", ()), asked.get("layer", "")
    )
    return findings.rows()


@app.command("compare")
def compare_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run (folder or name), a checkpoint file, or a recipe (untrained).",
        ),
    ],
    data: DataOption = "showroom",
    classes: Annotated[
        int,
        typer.Option(min=0, help="For a recipe: compare photos of the classes after the first N."),
    ] = 0,
    points: Annotated[
        list[str] | None,
        typer.Option(help="plain, centered, whitened, within or softened; can be repeated."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the embeddings with the records.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score how a network compares photos: neighbors, and pairs of classes it never learned."""
    from carlib.experiment.checkpoint import Checkpoint
    from carlib.experiment.registry import RECIPES, get_recipe

    catalog = _divided(data)
    if what in RECIPES and not Path(what).exists():
        learned = _first_classes(catalog, classes)
        begun = Checkpoint.begin(get_recipe(what), learned)
        _compare(begun, catalog, None, as_json, points, keep)
    else:
        checkpoint, run = opened(Path(what))
        _compare(checkpoint, catalog, run, as_json, points, keep)


@app.command("study")
def study_command(
    question: Annotated[
        str,
        typer.Argument(
            metavar="imbalance|leak|unknown|leads|trials|axes",
            help="imbalance: what helps rare classes; leak: what copies on both sides win; "
            "unknown: are cars noticed that were never learned; leads: what one change to a "
            "recipe brings; trials: which rate suits each loss; axes: how to compare features.",
        ),
    ],
    data: DataOption = "showroom",
    recipe_name: Annotated[
        str, typer.Option("--recipe", help="The recipe to train; for 'trials' each that has some.")
    ] = "",
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of seeds, for 'imbalance' and 'leak'.")
    ] = 3,
) -> None:
    """Train a recipe many times with one thing changed, and write the results as a record."""
    from carlib.experiment.registry import get_recipe
    from carlib.retrieval.trials import TRIALS, axes_study, trials_study
    from carlib.training.ablations import imbalance_study, leak_study, unknown_study
    from carlib.training.leads import leads_study

    usual = {"leads": "lite0_cpu", "axes": "lite0_cpu_long"}.get(question, "lite0_frozen")
    catalog, base = _divided(data), get_recipe(recipe_name or usual)
    if question == "imbalance":
        record = imbalance_study(catalog, base, seeds=range(seeds), say=say)
    elif question == "leak":
        record = leak_study(catalog, base, seeds=range(seeds))
    elif question == "unknown":
        held_out = max(1, min(20, catalog.num_classes // 4))
        record = unknown_study(catalog, base, held_out)
    elif question == "axes":
        record = axes_study(catalog, base)
    elif question == "leads":
        record = leads_study(catalog, base, say=say)
    elif question == "trials":  # a record for each loss, as it comes
        for name in [recipe_name] if recipe_name else TRIALS:
            say(trials_study(catalog, name, say=say).write())
        return
    else:
        raise RecipeError(
            f"unknown study {question!r}; known: imbalance, leak, unknown, leads, trials, axes"
        )
    say(record.write())


@app.command("recipes")
def recipes_command(
    lacking: Annotated[
        bool,
        typer.Option("--missing", help="Commands for those without a record, most wanted first."),
    ] = False,
) -> None:
    """List the named recipes."""
    from carlib.experiment.registry import RECIPES

    if lacking:
        from carlib.experiment.record import load_records
        from carlib.report.missing import orders

        say("\n".join(orders(load_records())) or "every recipe has a record")
        return
    rows = [
        {"name": name, "model": recipe.model, "side": recipe.size, "epochs": recipe.epochs,
         "what it is": recipe.note}
        for name, recipe in RECIPES.items()
    ]  # fmt: skip
    show_table(rows, title="recipes")


@app.command("report")
def report_command(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 if something is stale.")
    ] = False,
) -> None:
    """Make figures, report.pdf, README's table and the model card from the records here."""
    from carlib.report.build import build_report, check_report

    if check:
        stale = check_report()
        typer.echo(
            "\n".join([*stale, "run: carlib report"] if stale else ["all as the records say"])
        )
        raise typer.Exit(1 if stale else 0)
    for path in build_report():
        typer.echo(path)


def _divided(data: str) -> Catalog:
    """A data set with its val photos; names what is in its folder but not a photo."""
    from carlib.data.opening import open_catalog

    catalog = open_catalog(data).with_val()
    tell_notes(catalog)
    return catalog


def _asked_for() -> tuple[str, str, list[str]]:
    """Recipe, data and changes from questions; an error if no person can answer."""
    from carlib.cli.ask import ask_training, at_a_terminal

    if not at_a_terminal():
        raise RecipeError("say which recipe to train; `carlib recipes` lists them")
    asked = ask_training()
    if asked.cache:
        os.environ["CARLIB_CACHE"] = asked.cache
    say(f"the same without questions:\n  {asked.command}")
    return asked.recipe, asked.data, list(asked.changes)


def _first_classes(catalog: Catalog, classes: int) -> Catalog:
    """The catalog of the first `classes` classes, or of all for 0."""
    if classes and not 2 <= classes <= catalog.num_classes:
        raise RecipeError(f"--classes {classes}: from 2 to the {catalog.num_classes} there are")
    return catalog.select_classes(range(classes)) if classes else catalog


def _changes(settings: list[str]) -> dict[str, Any]:
    """`field=value` pairs as recipe fields; a value that is not JSON is taken as a word."""
    changes = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}: write it as field=value, such as epochs=10")
        try:
            changes[field] = json.loads(value)
        except json.JSONDecodeError:
            changes[field] = value
    return changes


def _named(changed: Recipe, name: str, base: Recipe) -> Recipe:
    """A changed recipe under a new name, or as it is if no name is given."""
    from carlib.experiment.registry import RECIPES

    if not name:
        return changed
    if changed.method == base.method:
        raise RecipeError(
            f"--name {name}: nothing of {base.name} was changed; add --set, or drop it"
        )
    if name in RECIPES or name.removesuffix("_quick") in RECIPES:
        raise RecipeError(f"--name {name}: is the name of another recipe; choose another")
    return changed.but(name=name)


def _to_stderr(words: str) -> None:
    say(words, err=True)


def _compare(
    checkpoint: Checkpoint,
    catalog: Catalog,
    run: Run | None,
    as_json: bool,
    points: Sequence[str] | None = None,
    keep: bool = False,
) -> None:
    """Write the records of neighbors, and of pairs if there are classes that were not learned.

    A network that learned to compare is also scored by its output below the last layer; each in
    every way of `carlib.retrieval.axes`, or in those named.
    """
    from carlib.retrieval.axes import WAYS
    from carlib.retrieval.ranking import score_retrieval
    from carlib.retrieval.verification import has_protocol, score_verification

    networks = [checkpoint]
    if checkpoint.recipe.embedding:
        networks.append(checkpoint.below_head())
    for network, way in itertools.product(networks, points or WAYS):
        for record in score_retrieval(network, catalog, run, way, keep):
            tell(record, print_comparison, as_json)
        if has_protocol(network, catalog):
            record = score_verification(network, catalog, run, points=way, keep=keep)
            tell(record, print_comparison, as_json)
