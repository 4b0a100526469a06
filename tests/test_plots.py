"""Charts and diagrams say by name what they show."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from toys import colors

from carlib import plots
from carlib.data.opening import open_catalog


def test_a_diagram_shows_every_box_and_arrow() -> None:
    boxes = {"in": ("x", 0, 0), "sum": ("+", 1, 0), "out": ("y", 2, 0)}
    figure = plots.flow(boxes, [("in", "sum"), ("sum", "out"), ("in", "out", 0.3)], "A block")
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["x", "+", "y"]
    assert len([text for text in ax.texts if not text.get_text()]) == 3
    assert ax.get_title(loc="left") == "A block"
    with pytest.raises(KeyError, match="nowhere"):
        plots.flow(boxes, [("in", "nowhere")])


@pytest.mark.parametrize(("classes", "shown"), [(3, 3), (96, 24)])
def test_a_confusion_matrix_names_its_classes(classes: int, shown: int) -> None:
    names = tuple(f"car {label}" for label in range(classes))
    catalog = SimpleNamespace(num_classes=classes, class_names=names)
    labels = np.arange(classes)
    ax = plots.confusion_chart(labels, labels[::-1], catalog).axes[0]
    for axis in (ax.xaxis, ax.yaxis):
        written = [tick.get_text() for tick in axis.get_ticklabels()]
        assert written == list(names[:: classes // shown])
        assert axis.get_ticklocs()[1] == classes // shown + 0.5


def test_points_stand_where_their_scores_are_with_both_intervals() -> None:
    one = {"a": 0.5, "a_interval": (0.4, 0.7), "b": 2.0, "b_interval": (2.0, 2.5)}
    two = one | {"a": 0.1, "a_interval": (0.0, 0.2)}
    figure = plots.points_with_intervals(
        {"map": one, "noise": two}, ("a", "how true"), ("b", "how much"), grey=["noise"]
    )
    (ax,) = figure.axes
    assert ax.get_xlabel() == "how true, with 95 % interval" and ax.get_ylabel() == "how much"
    first, second = ax.containers
    assert (first[0].get_xydata() == [[0.5, 2.0]]).all() and second[0].get_color() == "0.6"
    assert np.allclose(first[2][0].get_segments()[0], [[0.4, 2.0], [0.7, 2.0]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["map", "noise"]
    with pytest.raises(KeyError, match="c"):
        plots.points_with_intervals({"map": one}, ("a", "a"), ("c", "c"))


def test_a_photo_that_cannot_be_read_leaves_a_gap_that_says_so(tmp_path) -> None:
    root = colors(tmp_path / "$5_^$ cars", classes=2, per_class=2)
    (root / "blue").rename(root / "$5_^$ car")
    first = sorted((root / "$5_^$ car").iterdir())[0]
    first.write_bytes(b"no photo")
    catalog = open_catalog(root)
    figure = plots.catalog_montage(catalog, range(4))
    figure.canvas.draw()  # a formula would be read here
    said = [ax.get_title() for ax in figure.axes if "cannot be read" in ax.get_title()]
    assert len(said) == 1 and sum(bool(ax.images) for ax in figure.axes) == 3
    pairs = catalog.table["path"].to_numpy().reshape(2, 2)
    plots.pair_rows(catalog, pd.DataFrame(pairs, columns=["a", "b"]).assign(same=True))
    plots.neighbors(catalog, catalog.table[:1], [catalog.table[1:]])
