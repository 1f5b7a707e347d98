"""Pictures that answer the mouse: what page.js is told of a figure's curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from t2t.commands.page.pictures import svg


@dataclass(frozen=True)
class Line:
    """What one curve has at each place where it can be asked: its name, a CSS colour, values in the figure's own units
    (NaN where it has none), and what is said of each (the value with three digits where there is no text)."""

    name: str
    colour: str
    values: Sequence[float]
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A figure as SVG, and as JSON what page.js shows of it (`answer` there)."""

    svg: Markup
    hover: str


def answering(figure: Figure, name: str, x: Sequence[float], titles: Sequence[str], lines: Sequence[Line]) -> Picture:
    """A figure of one pair of axes, as an SVG element that says what its curves are at some places.

    Args:
        name: as for `svg`.
        x: the places, rising, in the axes' units. titles: what is said of each.
        lines: each with as many values as there are places.
    """
    markup = svg(figure, name)  # lays the figure out; where the axes lie is known only then
    axes = figure.axes[0]
    across = _places(figure, axes, np.asarray(x, float), np.full(len(x), axes.get_ylim()[0]))[:, 0]
    ends = _places(figure, axes, np.full(2, axes.get_xlim()[0]), np.asarray(axes.get_ylim()))[:, 1]
    told = []
    for line in lines:
        values = np.asarray(line.values, float)
        heights = _places(figure, axes, np.asarray(x, float), values)[:, 1]
        inside = np.isfinite(values) & (heights >= ends.min() - 1) & (heights <= ends.max() + 1)
        texts = line.texts or [f"{value:.3f}" if np.isfinite(value) else "" for value in values]
        heights_or_none = [round(float(y), 1) if at else None for y, at in zip(heights, inside, strict=True)]
        told.append({"name": line.name, "colour": line.colour, "y": heights_or_none, "text": list(texts)})
    content = {"x": [round(float(place), 1) for place in across], "titles": list(titles), "lines": told}
    content |= {"top": round(float(ends.min()), 1), "bottom": round(float(ends.max()), 1)}
    return Picture(markup, json.dumps(content, separators=(",", ":")))


def _places(figure: Figure, axes: Axes, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where points of the axes lie in the figure's SVG, whose unit is 1/72 inch from the upper left: float [P, 2]."""
    pixels = axes.transData.transform(np.column_stack([x, y])) * (72.0 / figure.dpi)
    placed: np.ndarray = np.column_stack([pixels[:, 0], figure.get_figheight() * 72.0 - pixels[:, 1]])
    return placed
