"""Few photos, few classes, nothing known but the class: an answer where there is one, or words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import colors, toy_recipe

from carlib import notebook
from carlib.data.catalog import Catalog, Extras
from carlib.data.opening import open_catalog
from carlib.data.pairs import LEVELS, has_pairs, make_lists, make_pairs
from carlib.data.sources import FolderSource
from carlib.errors import DataError, RunError
from carlib.experiment.checkpoint import Checkpoint
from carlib.explain.measures import inside_scores
from carlib.retrieval.embeddings import Embeddings
from carlib.retrieval.knn import choose_k, knn_table, other_neighbors
from carlib.retrieval.ranking import label_suspects, query_scores
from carlib.retrieval.verification import has_protocol, score_verification
from carlib.training.ablations import imbalance_study


def rows(*sizes: int) -> Catalog:
    """Photos that nobody opens, so many of each class."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    table = pd.DataFrame({"path": [f"{n}.jpg" for n in range(len(labels))], "label": labels})
    names = [f"c{n}" for n in range(len(sizes))]
    return Catalog.from_rows(table, names, "few", FolderSource(Path()))


def points(catalog: Catalog) -> Embeddings:
    """Every class at a place of its own."""
    vectors = np.eye(catalog.num_classes, dtype=np.float32)[catalog.labels]
    return Embeddings(vectors + 0.01, catalog.table, "net")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> notebook.Setup:
    monkeypatch.setenv("CARLIB_DATA", str(colors(tmp_path / "photos")))
    return notebook.setup()


# --- neighbors ------------------------------------------------------------------------------------


def test_neighbors_are_as_many_as_there_are() -> None:
    few = points(rows(2, 2))
    distances, positions = other_neighbors(few, 10)
    assert distances.shape == positions.shape == (4, 3)
    assert positions[:, 0].tolist() == [1, 0, 3, 2]
    assert query_scores(few)["recall_at_1"].tolist() == [1] * 4
    assert label_suspects(few).empty
    with pytest.raises(RunError, match="1 photos have no neighbors"):
        other_neighbors(points(rows(1)), 1)


def test_a_suspect_among_few_has_all_others_against_it() -> None:
    few = points(rows(4, 1))
    told = few.vectors.copy()
    told[4] = told[0]  # it looks like the first class
    suspects = label_suspects(Embeddings(told, few.table, "net"))
    assert suspects.index.tolist() == [4] and suspects["agreement"].tolist() == [1.0]


def test_no_more_neighbors_vote_than_there_are() -> None:
    few = rows(3, 3)
    table = knn_table(points(few), points(few), 2)
    assert table["k"].max() == 6 and table.query("k == 1")["accuracy"].eq(1).all()


def test_of_a_gallery_that_cannot_be_divided_the_nearest_photo_answers() -> None:
    lone = rows(1, 1, 1)
    assert choose_k(points(lone), lone) == {"metric": "cosine", "weights": "uniform", "k": 1}


# --- pairs ----------------------------------------------------------------------------------------


def test_it_can_be_asked_which_pairs_there_are() -> None:
    assert [level for level in LEVELS if has_pairs(rows(4, 4), level)] == ["medium"]
    assert not any(has_pairs(rows(2, 2), level) for level in LEVELS)  # none are left for strangers
    with pytest.raises(DataError, match="no balanced list of medium pairs"):
        make_lists(rows(2, 2), "medium", 10)


def test_lists_that_do_not_come_out_are_left_out(monkeypatch) -> None:
    def every_other(catalog: Catalog, level: str, count: int, seed: int = 0) -> pd.DataFrame:
        if seed % 2:
            raise DataError("none")
        return make_pairs(catalog, level, count, seed)

    monkeypatch.setattr("carlib.data.pairs.make_pairs", every_other)
    lists = make_lists(rows(4, 4), "medium", 4, count=2)
    assert len(lists) == 4 and lists["same"].sum() == 2


def test_pairs_of_both_kinds_are_needed_on_both_sides() -> None:
    two = rows(4, 2, 2, 2, 2)
    checkpoint = Checkpoint.begin(toy_recipe(), two.select_classes([0]))
    assert not has_protocol(checkpoint, two)
    with pytest.raises(RunError, match="too few for pairs of both kinds"):
        score_verification(checkpoint, two)
    three = rows(4, 3, 3, 3, 3)
    assert has_protocol(Checkpoint.begin(toy_recipe(), three.select_classes([0])), three)


# --- studies and maps -----------------------------------------------------------------------------


def test_two_classes_have_no_middle(tmp_path) -> None:
    few = open_catalog(colors(tmp_path / "two", classes=2, per_class=4)).with_val()
    record = imbalance_study(few, toy_recipe(epochs=1), (4.0,), (0,), say=lambda line: None)
    assert len(record.extra["rows"]) == 5
    assert all("balanced_accuracy" in row for row in record.extra["rows"])


def test_what_no_photo_shows_has_no_score() -> None:
    maps, nothing = np.ones((2, 8, 8), np.float32), np.zeros((2, 8, 8), bool)
    scores = inside_scores(maps, {"lamp": nothing, "car": ~nothing})
    assert scores["times_car_area"] == 1 and "times_lamp_area" not in scores


# --- what notebooks begin with --------------------------------------------------------------------


def test_classes_to_learn_and_classes_that_are_new(here) -> None:
    seen, unseen = notebook.learned_and_new(here.catalog)
    assert (seen.num_classes, unseen.num_classes) == (3, 3)
    seen, unseen = notebook.learned_and_new(here.catalog, new=4)
    assert seen.class_names + unseen.class_names == here.catalog.class_names
    assert (seen.num_classes, unseen.num_classes) == (2, 4)
    with pytest.raises(DataError, match="has 5 classes; 6 or more are needed: two to learn, and 4"):
        notebook.learned_and_new(here.catalog.select_classes(range(5)), new=4)


def test_some_classes_are_all_of_photographs_and_a_part_of_drawn_cars(here) -> None:
    assert here.some_classes(step=4) is here.catalog
    drawn = replace(rows(*[2] * 24), extras=Extras(publishable=True))
    assert replace(here, catalog=drawn).some_classes(4).class_names == drawn.class_names[::4]
    assert here.some_classes(4, more_val=9) is here.catalog  # nobody can draw photographs
    few = drawn.select_classes([0, 1])
    assert replace(here, catalog=few).some_classes(4) is few
    with pytest.raises(DataError, match="has one class; it takes two"):
        replace(here, catalog=rows(3)).some_classes(4)


def test_a_plan_is_stretched_over_the_epochs_that_there_are(here) -> None:
    plan = "head:1:1 all:1:0.1"
    assert here.recipe("lite0", {"epochs": 8}, plan=plan).plan == "head:4:1 all:4:0.1"
    assert here.recipe("lite0", plan=plan).plan == "head:6:1 all:6:0.1"


def test_the_smallest_profile_is_two_epochs_of_small_photos(here) -> None:
    tiny = replace(here, profile="tiny")
    short = tiny.recipe("lite0", {"epochs": 8, "size": 80}, plan="head:1:1 all:1:0.1")
    assert (short.epochs, short.size, short.plan) == (2, 32, "head:1:1 all:1:0.1")
    assert tiny.recipe("lite0", size=16, epochs=1).size == 16
