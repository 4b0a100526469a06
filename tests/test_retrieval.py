"""Neighbors and their scores, against scikit-learn and pytorch-metric-learning."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from toys import by_class, toy_catalog, toy_recipe
from typer.testing import CliRunner

from carlib.cli import app
from carlib.data.catalog import Catalog
from carlib.data.framing import Framing
from carlib.errors import RunError
from carlib.evaluation.evaluate import features_of
from carlib.experiment.checkpoint import Checkpoint
from carlib.experiment.outputs import in_bytes
from carlib.experiment.record import load_records
from carlib.plots import bars_with_intervals
from carlib.plots import class_map as class_map_figure
from carlib.plots import neighbors as neighbor_figure
from carlib.retrieval.axes import WAYS, Axes, on_axes
from carlib.retrieval.embeddings import (
    Embeddings,
    effective_rank,
    embed,
    scaled,
    thumbnails,
)
from carlib.retrieval.gallery import Gallery
from carlib.retrieval.knn import choose_k, knn_record, knn_table, neighbors, other_neighbors, votes
from carlib.retrieval.ranking import (
    class_map,
    label_suspects,
    mean_scores,
    query_scores,
    retrieval_scores,
    score_retrieval,
    score_table,
)
from carlib.training.loop import load_or_train, train


def photos(sizes=(12, 9, 5, 2, 1), dims: int = 8, seed: int = 0, noise: float = 1.2) -> Embeddings:
    """Photos of classes of unequal size, whose clusters overlap."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centers = np.random.default_rng(99).normal(size=(len(sizes), dims))
    values = centers[labels] + noise * generator.normal(size=(len(labels), dims))
    table = pd.DataFrame(
        {
            "path": [f"{seed}-{row}.jpg" for row in range(len(labels))],
            "label": pd.array(labels, "Int64"),
            "class_name": [f"car {label}" for label in labels],
            "make": "Fiat",
            "body": "Coupe",
        }
    )
    return Embeddings(values.astype(np.float32), table, "net")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbors_are_those_of_scikit_learn(metric: str) -> None:
    gallery, queries = photos().vectors, photos(seed=1).vectors
    theirs = NearestNeighbors(metric=metric, algorithm="brute").fit(gallery).kneighbors(queries, 6)
    ours = neighbors(gallery, queries, 6, metric)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    np.testing.assert_array_equal(ours[1], theirs[1])


def test_a_photo_is_not_its_own_neighbor_even_among_copies() -> None:
    values = np.ones((6, 3), np.float32)
    copies = Embeddings(values, photos((6,)).table, "net")
    distances, found = other_neighbors(copies, 3)
    assert found.shape == distances.shape == (6, 3)
    assert not (found == np.arange(6)[:, None]).any()


def test_bad_galleries_and_queries_are_named() -> None:
    values = photos().vectors
    with pytest.raises(RunError, match="unknown metric 'manhattan'"):
        neighbors(values, values, 1, "manhattan")
    with pytest.raises(RunError, match="equal dims"):
        neighbors(values, values[:, :3], 1)
    with pytest.raises(RunError, match="has no 30 neighbors"):
        neighbors(values, values, 30)
    with pytest.raises(RunError, match="do not fit"):
        Embeddings(values[:3], photos().table, "net")
    with pytest.raises(RunError, match="not finite"):
        Embeddings(values * np.inf, photos().table, "net")


# --- kNN classification ---


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("k", [1, 4, 7])
def test_votes_are_those_of_scikit_learn(weights: str, k: int) -> None:
    gallery, queries = photos(), photos(seed=1)
    queries = Embeddings(
        np.vstack([queries.vectors[:-2], gallery.vectors[:2]]), queries.table, "net"
    )  # the last two are copies
    theirs = KNeighborsClassifier(k, weights=weights, algorithm="brute")
    theirs.fit(gallery.vectors, gallery.labels)
    distances, found = theirs.kneighbors(queries.vectors)  # ours are compared with these above
    ours = votes(distances, gallery.labels[found], 5, weights)
    np.testing.assert_allclose(ours, theirs.predict_proba(queries.vectors), atol=1e-4)


def test_the_table_has_every_k_metric_and_weighting() -> None:
    gallery, queries = photos((40, 40, 40)), photos((20, 20, 20), seed=1)
    table = knn_table(gallery, queries, 3, ks=(1, 5))
    assert len(table) == 8 and table["accuracy"].between(0, 1).all()
    theirs = KNeighborsClassifier(5, metric="cosine", algorithm="brute")
    theirs.fit(gallery.vectors, gallery.labels)
    row = table.query("metric == 'cosine' and weights == 'uniform' and k == 5").iloc[0]
    assert row["accuracy"] == pytest.approx(theirs.score(queries.vectors, queries.labels))


# --- retrieval ---


@pytest.mark.parametrize("alone", [True, False])
def test_scores_are_those_of_pytorch_metric_learning(alone: bool) -> None:
    calculators = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    queries, gallery = photos(), None if alone else photos(seed=1)
    calculator = calculators.AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count", device=torch.device("cpu"),
    )  # fmt: skip
    vectors, labels = torch.from_numpy(scaled(queries.vectors)), torch.from_numpy(queries.labels)
    if gallery is None:
        theirs = calculator.get_accuracy(vectors, labels)
    else:
        theirs = calculator.get_accuracy(
            vectors, labels, torch.from_numpy(scaled(gallery.vectors)),
            torch.from_numpy(gallery.labels),
        )  # fmt: skip
    ours = query_scores(queries, gallery).mean()
    assert ours["recall_at_1"] == pytest.approx(theirs["precision_at_1"])
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"])
    assert ours["map_at_r"] == pytest.approx(theirs["mean_average_precision_at_r"])


def test_a_query_alone_in_its_class_is_not_scored() -> None:
    asked = photos()
    scores = query_scores(asked)
    assert scores.isna().all(axis=1).to_numpy().tolist() == (asked.labels == 4).tolist()
    with pytest.raises(RunError, match="no query has another photo"):
        mean_scores(query_scores(photos((1, 1, 1))), np.arange(3))


def test_scores_lie_in_order_and_their_intervals_around_them() -> None:
    found = retrieval_scores(photos((12, 9, 5, 4, 4)))
    recalls = [found[f"recall_at_{k}"] for k in (1, 2, 4, 8)]
    assert recalls == sorted(recalls) and 0 <= found["map_at_r"] <= found["r_precision"] <= 1
    for name in ("recall_at_1", "map_at_r"):
        low, high = found[f"{name}_interval"]
        assert low <= found[name] <= high and low < high
    assert 1 <= found["effective_rank"] <= 8


def test_perfect_and_hopeless_embeddings() -> None:
    table = photos((4, 4)).table
    labels = table["label"].to_numpy(int)
    perfect = Embeddings(np.eye(2, dtype=np.float32)[labels], table, "net")
    assert (query_scores(perfect).to_numpy() == 1).all()
    pairs = np.repeat(np.eye(4, dtype=np.float32), 2, axis=0)  # each photo beside a stranger
    strangers = table.assign(label=pd.array([0, 1] * 4, "Int64"))
    assert (query_scores(Embeddings(pairs, strangers, "net"))["recall_at_1"] == 0).all()


# --- embeddings ---


def test_whitening_leaves_no_direction_larger_than_another() -> None:
    values = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    values *= [9, 5, 3, 1, 1, 0.5]
    found = Axes.fit(values, "whitened", most=4)
    spread = ((values - found.mean) @ found.axes).std(0)
    np.testing.assert_allclose(spread, 1, atol=0.01)
    theirs = PCA(4, whiten=True).fit_transform(values)
    ours = (values - found.mean) @ found.axes
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-3)
    made = found.apply(Embeddings(values, photos((500,)).table, "net"))
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    assert Axes.fit(values[:4], "whitened").axes.shape == (6, 3)  # as many as four photos have


def test_softened_points_are_rooted_and_half_whitened() -> None:
    """Axes within classes are divided by the fourth root of their variance, and all are kept."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 30)
    values = (draw.random((40, 8))[labels] + 0.2 * draw.random((1200, 8))).astype(np.float32)
    found = Axes.fit(values, "softened", labels)
    roots = np.sqrt(values) / np.linalg.norm(np.sqrt(values), axis=1, keepdims=True)
    points = (roots - roots.mean(0)) @ found.axes
    means = np.stack([points[labels == label].mean(0) for label in range(40)])
    inside = np.linalg.eigvalsh(np.cov((points - means[labels]).T))
    before = np.stack([roots[labels == label].mean(0) for label in range(40)])
    expected = np.linalg.eigvalsh(np.cov((roots - before[labels]).T)) ** 0.5
    np.testing.assert_allclose(inside[1:], expected[1:], rtol=0.05)
    told = found.apply(Embeddings(values, photos((1200,)).table, "net")).vectors
    np.testing.assert_allclose(told, points / np.linalg.norm(points, axis=1)[:, None], atol=1e-5)


def test_axes_along_which_photos_do_not_differ_are_not_stretched() -> None:
    """Copies and dead features leave fewer directions than photos and dims would allow."""
    values = np.repeat(np.random.default_rng(0).normal(size=(20, 30)), 2, axis=0)
    values[:, 6:] = 0
    found = Axes.fit(values.astype(np.float32), "whitened")
    assert found.axes.shape == (30, 6) and np.abs(found.axes).max() < 10
    assert Axes.fit(np.ones((5, 3)), "whitened").axes.shape == (3, 1)  # all photos are alike


def test_within_whitening_makes_classes_round() -> None:
    """What photos of one class differ by is the same along all axes; what classes do, is not."""
    asked = photos((400, 300, 300), dims=6)
    values = asked.vectors * np.array([3, 2, 2, 1, 1, 0.7], np.float32)
    found = Axes.fit(values, "within", asked.labels)
    points = (values - found.mean) @ found.axes
    means = np.stack([points[asked.labels == label].mean(0) for label in range(3)])
    inside = points - means[asked.labels]
    np.testing.assert_allclose(np.cov(inside.T), np.eye(6), atol=0.1)
    assert (np.diff(points.var(0)) < 0).all()


@pytest.mark.parametrize("way", ["plain", "centered"])
def test_fewer_axes_keep_the_angles(way: str) -> None:
    """Points that lie near a plane keep their angles on the two axes of it."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(300, 2)) @ generator.normal(size=(2, 9)) + 3
    values += 0.01 * generator.normal(size=values.shape)
    most = 3 if way == "plain" else 2  # the plane does not go through zero
    found, whole = (Axes.fit(values, way, most=count) for count in (most, 9))
    asked = Embeddings(values.astype(np.float32), photos((300,)).table, "net")
    few, all_of_them = (axes.apply(asked).vectors for axes in (found, whole))
    assert few.shape == (300, most) and all_of_them.shape == (300, 9)
    np.testing.assert_allclose(few @ few.T, all_of_them @ all_of_them.T, atol=0.05)
    assert Axes.fit(values[:4], way, most=5).axes.shape == (9, 9)  # too few photos to choose by


def test_axes_are_fitted_on_train_photos_of_learned_classes(toys) -> None:
    learned = toys.select_classes([0, 1])
    checkpoint = Checkpoint.begin(toy_recipe(), learned)
    known = embed(checkpoint, learned, "train", progress=False)
    asked = embed(checkpoint, toys, "val", progress=False)
    networks = {asked.network}
    for way in [*WAYS][1:]:
        (kept,), (exact,) = on_axes(checkpoint, toys, way, asked)
        axes = Axes.fit(known.vectors, way, known.labels)
        np.testing.assert_allclose(exact.vectors, axes.apply(asked).vectors, atol=1e-5)
        assert (kept.vectors == in_bytes(exact.vectors)).all()
        networks.add(exact.network)
    assert len(networks) == len(WAYS)  # points of other axes are not compared
    (kept,), (exact,) = on_axes(checkpoint, toys, "plain", asked)
    assert exact is asked and kept.vectors.dtype == np.float32
    with pytest.raises(RunError, match="unknown points 'white'; known: plain, centered"):
        on_axes(checkpoint, toys, "white", asked)


def test_a_network_is_compared_below_its_last_layer(toys) -> None:
    recipe = toy_recipe().but(embedding=8, loss="proxy_anchor", sampler="per_class")
    checkpoint = Checkpoint.begin(recipe, toys)
    below = checkpoint.below_head()
    assert below.points == "features" and below.hash != checkpoint.hash
    points, features = (embed(one, toys, "val", progress=False) for one in (checkpoint, below))
    raw = embed(checkpoint, toys, "val", unit=False, progress=False)
    np.testing.assert_allclose(features.vectors, scaled(raw.vectors), atol=1e-5)
    assert points.vectors.shape[1] == 8


def test_the_rank_tells_a_collapsed_embedding() -> None:
    values = np.random.default_rng(0).normal(size=(300, 16))
    assert effective_rank(values) > 14
    assert effective_rank(values[:, :1] * np.ones((1, 16))) == pytest.approx(1)
    assert effective_rank(np.ones((5, 3))) == pytest.approx(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("retrieval")
        patch.setenv("CARLIB_CACHE", str(folder / "cache"))
        catalog = toy_catalog(by_class(folder / "photos"))
        run = train(toy_recipe(epochs=6), catalog, folder / "run", progress=False)
        yield Checkpoint.load(run.kept), catalog


def test_embeddings_keep_the_order_of_the_catalog(trained) -> None:
    checkpoint, catalog = trained
    found = embed(checkpoint, catalog, progress=False)
    assert list(found.paths) == list(catalog.table["path"])
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    own, rows, _ = features_of(checkpoint, catalog, "val", progress=False)
    val = embed(checkpoint, catalog, "val", unit=False, progress=False)
    np.testing.assert_array_equal(val.vectors, own.numpy()[np.argsort(rows)])
    assert val.network == checkpoint.hash and set(val.table["split"]) == {"val"}


def test_k_is_chosen_without_the_photos_that_are_scored(trained) -> None:
    checkpoint, catalog = trained
    gallery = embed(checkpoint, catalog, "train", unit=False, progress=False)
    queries = embed(checkpoint, catalog, "val", unit=False, progress=False)
    chosen = choose_k(gallery, catalog)
    record = knn_record(gallery, queries, catalog, checkpoint)
    assert record.extra["chosen"] == {key: chosen[key] for key in ("metric", "weights", "k")}
    row = pd.DataFrame(record.extra["rows"]).query(
        "metric == @chosen['metric'] and weights == @chosen['weights'] and k == @chosen['k']"
    )
    assert record.metrics["accuracy"] == pytest.approx(row["accuracy"].iloc[0])
    assert record.metrics["accuracy"] > 0.5 and record.data["photos"] == len(queries)
    precision, recall, f1 = (
        record.metrics[f"macro_{key}"] for key in ("precision", "recall", "f1")
    )
    assert min(precision, recall) > 0.5 and f1 <= (precision + recall) / 2
    assert record.timing.keys() == {"fit_seconds", "predict_seconds"}


def test_a_plain_backbone_embeds_without_any_training(trained) -> None:
    _, catalog = trained
    recipe = toy_recipe(model="resnet18", statistics="model")
    plain, again = (Checkpoint.begin(recipe, catalog) for _ in range(2))
    other = Checkpoint.begin(recipe.but(seed=1), catalog)
    assert plain.hash == again.hash != other.hash
    found = embed(plain, catalog, "val", progress=False)
    assert found.vectors.shape == (catalog.split_sizes["val"], 512)
    np.testing.assert_array_equal(found.vectors, embed(again, catalog, "val").vectors)
    with pytest.raises(RunError, match="known when it trains"):
        Checkpoint.begin(recipe.but(statistics="data"), catalog)


def test_thumbnails_are_the_pixels_of_small_copies(trained) -> None:
    _, catalog = trained
    found = thumbnails(catalog, Framing(8))
    assert found.vectors.shape == (len(catalog), 8 * 8 * 3) and found.network.startswith("pixels-")
    np.testing.assert_allclose(found.vectors.sum(1), 0, atol=1e-4)
    assert list(found.paths) == list(catalog.table["path"])


def test_scores_of_several_embeddings_make_a_table_and_bars() -> None:
    scores = {name: retrieval_scores(photos(seed=seed)) for seed, name in enumerate("ab")}
    table = score_table(scores)
    assert table.index.tolist() == ["a", "b"]
    assert table.loc["b", "recall_at_1"] == scores["b"]["recall_at_1"]
    ax = bars_with_intervals(scores, "recall_at_1", reference="a").axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    for bar, line, name in zip(ax.patches, ax.collections[0].get_segments(), "ba", strict=True):
        assert bar.get_width() == pytest.approx(scores[name]["recall_at_1"])
        assert line[:, 0].tolist() == pytest.approx(scores[name]["recall_at_1_interval"])
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert set(dashed[0].get_xdata()) == {scores["a"]["recall_at_1"]}


def test_neighbors_are_drawn_in_frames_that_say_right_or_wrong(trained) -> None:
    checkpoint, catalog = trained
    found = embed(checkpoint, catalog, "val", progress=False)
    rows = Gallery.build(found).search(found.vectors[:2], k=4)
    parts = [part for _, part in rows.groupby("query")]
    figure = neighbor_figure(catalog, found.table.iloc[:2], parts)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 2 * 5
    colors = {ax.spines["top"].get_edgecolor() for ax in shown}
    assert 2 <= len(colors) <= 3
    assert class_map_figure(class_map(found)).axes


# --- looking ---


def test_a_wrong_label_is_suspected_and_no_other() -> None:
    clean = photos((20, 20, 20), noise=0.1)
    labels = clean.labels.copy()
    wrong = 7
    labels[wrong] = (labels[wrong] + 1) % 3
    table = clean.table.assign(
        label=pd.array(labels, "Int64"), class_name=[f"car {label}" for label in labels]
    )
    found = label_suspects(Embeddings(clean.vectors, table, "net"))
    assert list(found.index) == [wrong] and found["agreement"].tolist() == [1.0]
    assert found["says"].tolist() == [f"car {clean.labels[wrong]}"]
    assert found["nearest"].iloc[0] in set(clean.paths)
    assert label_suspects(clean).empty


def test_the_map_has_every_class_once() -> None:
    found = class_map(photos((12, 9, 5, 4)))
    assert found["photos"].tolist() == [12, 9, 5, 4] and found[["x", "y"]].notna().all(axis=None)
    pd.testing.assert_frame_equal(found, class_map(photos((12, 9, 5, 4))))
    with pytest.raises(RunError, match="three classes"):
        class_map(photos((5, 5)))


# --- the command ---


def test_a_run_is_scored_on_the_classes_it_learned_and_on_those_it_never_saw(
    toys,
) -> None:
    whole, run = load_or_train(toy_recipe(), toys, progress=False)
    same, knn = score_retrieval(whole, toys, run)
    assert (same.kind, same.topic, knn.kind) == ("retrieval", "same", "knn")
    assert same.data["split"] == "val" and same.metrics["recall_at_1"] > 0.5
    assert same.extra["gallery"] == toys.split_sizes["train"]

    seen = toys.select_classes([0, 1])
    half, run = load_or_train(toy_recipe(), seen, progress=False)
    (unseen,) = score_retrieval(half, toys, run)
    others = int((toys.labels >= 2).sum())
    assert unseen.data["split"] == "unseen"
    assert unseen.data["photos"] == unseen.extra["gallery"] == others
    assert (unseen.extra["trained_classes"], unseen.extra["scored_classes"]) == (2, 2)

    with pytest.raises(RunError, match="they differ in"):
        score_retrieval(whole, seen)


def test_test_photos_are_never_among_those_of_unseen_classes(toys) -> None:
    table = toys.table.assign(split=["test" if row % 3 else "train" for row in range(len(toys))])
    some = Catalog(table, toys.class_names, toys.name, toys.source)
    found = some.unseen_classes(2)
    kept = toys.table["path"][(toys.labels >= 2) & (np.arange(len(toys)) % 3 == 0)]
    assert set(found.table["path"]) == set(kept) and set(found.split_sizes) == {"unseen"}
    assert found.num_classes == 2


def test_the_command_trains_on_some_classes_and_retrieves_among_the_others(
    tmp_path,
) -> None:
    data = by_class(tmp_path / "photos")
    done = CliRunner().invoke(
        app, ["train", "cnn3", "--quick", "--data", str(data), "--classes", "2",
              "--set", "epochs=1", "--set", "size=16"]
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Recall@1" in done.output
    records = load_records(tmp_path / "results")
    assert {record.scoring["points"] for record in records} == {"", *[*WAYS][1:]}
    named = "retrieval-unseen-cnn3_quick+epochs=1,size=16-"
    assert all(record.name.startswith(named) for record in records)
    assert sum("-within-photos-" in record.name for record in records) == 1
