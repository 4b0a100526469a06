"""Charts and diagrams say by name what they show."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from carlib import plots


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
