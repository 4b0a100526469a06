"""The one style of all figures.

The colors are Okabe and Ito's, which the color-blind can tell apart; line styles and hatches repeat
what the color says, for readers in grey.
"""

from __future__ import annotations

import base64
import functools
import io
import re
from collections.abc import Callable

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, SKY, PURPLE, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000",
)  # fmt: skip
COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
SHAPE = re.compile(r" \([^)]*\)( uint8)?")  # of arrays, in a docstring
LONGEST = 300  # letters about the panels of a figure
STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "svg.hashsalt": "carlib",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in our style, and close the figure so that a notebook shows it once, in words as well.

    The words, for readers who cannot see it, are `figure.alt`; Jupyter keeps them with the picture.
    """
    what = SHAPE.sub("", " ".join((draw.__doc__ or "").split("\n\n")[0].split())).replace("`", "")

    @functools.wraps(draw)
    def drawn(*args, **options) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*args, **options)
        plt.close(figure)
        figure.alt = in_words(figure, what)
        figure._repr_mimebundle_ = functools.partial(_with_words, figure)
        return figure

    return drawn


def printed(draw: Callable[..., Figure | None]) -> Callable[..., bytes | None]:
    """Make a drawing of records an SVG for print: small type, outlines for letters, no date."""

    @functools.wraps(draw)
    def drawn(*args) -> bytes | None:
        small = {
            "font.size": 7,
            "axes.titlesize": 7.5,
            "legend.fontsize": 6.5,
            "axes.linewidth": 0.6,
        }
        with matplotlib.rc_context(STYLE | small | {"svg.fonttype": "path"}):
            figure = draw(*args)
            if figure is None:
                return None
            file = io.BytesIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
        return file.getvalue()

    return drawn


def in_words(figure: Figure, what: str) -> str:
    """What a figure shows: what kind it is, then of every panel title, axes and legend."""
    panels = []
    for ax in figure.axes:
        axes = [label for label in (ax.get_xlabel(), ax.get_ylabel()) if label]
        parts = [ax.get_title(loc) for loc in ("left", "center", "right")]
        parts += [" against ".join(reversed(axes))]
        if legend := ax.get_legend():
            parts.append(", ".join(text.get_text() for text in legend.get_texts()))
        panels.append(": ".join(" ".join(part.split()) for part in parts if part))
    told = "; ".join(dict.fromkeys(panel for panel in panels if panel))
    return " ".join(filter(None, [what, told[:LONGEST] + "…" * (len(told) > LONGEST)]))


def _with_words(figure: Figure, **_: object) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What Jupyter shows of a figure: the picture as PNG, and its words."""
    file = io.BytesIO()
    with plt.rc_context(STYLE):
        figure.savefig(file, format="png", bbox_inches="tight")
    picture = base64.b64encode(file.getvalue()).decode("ascii")
    return {"image/png": picture, "text/plain": figure.alt}, {"image/png": {"alt": figure.alt}}


def literal(text: str) -> str:
    """A text as it is: between two dollar signs matplotlib would read a formula."""
    return str(text).replace("$", r"\$")


def short_name(name: str, width: int = 22) -> str:
    """A class name broken into lines of about `width` characters."""
    lines: list[str] = [""]
    for word in str(name).split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return literal("\n".join(lines))
