"""Diagrams of boxes and arrows: what a network or a method is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from carlib.plots.style import BLACK, BLUE, SKY, styled


@styled
def flow(
    boxes: Mapping[str, tuple[str, float, float]],
    arrows: Sequence[tuple[str, str] | tuple[str, str, float]],
    title: str = "",
    size: tuple[float, float] = (8, 1.5),
) -> Figure:
    """Boxes joined by arrows, for a diagram that stands beside the formula or code it explains.

    `boxes` are by key (label, x, y) in units of one's own; `arrows` go from key to key, in an arc
    where a third number says how far it bends (1: half a circle). `size` is in inches.
    """
    figure, ax = plt.subplots(figsize=size)
    look = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": BLUE, "lw": 1.3}
    drawn = {
        key: ax.text(x, y, label, ha="center", va="center", fontsize=8, bbox=look)
        for key, (label, x, y) in boxes.items()
    }
    for start, end, *bend in arrows:
        line = {
            "arrowstyle": "-|>", "color": SKY if bend else BLACK, "lw": 2 if bend else 1,
            "connectionstyle": f"arc3,rad={-bend[0] if bend else 0}", "shrinkA": 2, "shrinkB": 2,
            "patchA": drawn[start].get_bbox_patch(), "patchB": drawn[end].get_bbox_patch(),
        }  # fmt: skip
        places = {"xy": boxes[end][1:], "xytext": boxes[start][1:]}
        ax.annotate("", arrowprops=line, **places)
    xs, ys = ([box[part] for box in boxes.values()] for part in (1, 2))
    above = 2 * max((bend for _, _, *bends in arrows for bend in bends), default=0)
    ax.set(title=title, xlim=(min(xs) - 0.6, max(xs) + 0.6))
    ax.set(ylim=(min(ys) - 0.5, max(ys) + 0.5 + above))
    ax.axis("off")
    return figure
