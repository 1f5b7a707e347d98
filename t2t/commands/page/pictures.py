"""Figures as SVG for a page: its colours and its fonts, light and dark."""

from __future__ import annotations

import io

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from t2t.evaluation import figures

# What the pictures' colours are called in page.css, which has another shade of some of them for dark pages.
COLOURS = {
    figures.BLUE: "student",
    figures.VERMILION: "vermilion",
    figures.GREEN: "green",
    figures.PINK: "pink",
    figures.ORANGE: "orange",
    figures.SKY: "sky",
    figures.INK: "ink",
    figures.GREY: "grey",
    figures.GRID: "grid",
    figures.PAPER: "paper",
}


def css(colour: str) -> str:
    """A colour of `t2t.evaluation.figures` as the page's style sheet has it."""
    return f"var(--{COLOURS[colour]})"


def svg(figure: Figure, name: str) -> Markup:
    """A figure as an SVG element; Matplotlib escapes the texts in it.

    Args:
        name: unlike that of the page's other pictures, so that their ids differ; letters and `-`.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # Text stays text, in the page's font; ids come from the content, so that the same campaign gives the same page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour in COLOURS:
        text = text.replace(colour.lower(), css(colour))
    for before in (' id="', "url(#", 'href="#'):
        text = text.replace(before, f"{before}{name}-")
    return Markup(text)
