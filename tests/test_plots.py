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
