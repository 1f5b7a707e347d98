"""The picture of the maps to the common scale: where each teacher's confidences lie once they are brought there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit, logit  # type: ignore[import-untyped]

from t2t.data.scales import Scale
from t2t.evaluation.figures import GREY, LINE, NARROW, Style, axes_of, teacher_styles

# What lies closer to 0 or 1 is drawn here, at the edge.
EDGE = 1e-6
TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
POINTS = 200


def scale_maps(scales: Mapping[str, Scale], styles: Mapping[str, Style] | None = None) -> Figure:
    """Raw confidence against common scale, both on logit axes, one line a teacher over the range of what it says.

    Args:
        scales: of the teachers. styles: as `t2t.evaluation.figures.teacher_styles` gives them; by place by default.
    Raises:
        ValueError: there is no scale.
    """
    if not scales:
        raise ValueError("no scales to draw")
    figure, axes = axes_of(NARROW, 4.4 + LINE * (len(scales) + 1))
    looks = teacher_styles(scales) | dict(styles or {})
    for name, scale in scales.items():
        colour, dashes = looks[name]
        low, high = _place(np.array([scale.raw[0], scale.raw[-1]]))
        # Between knots a map is straight in raw confidences, and so it is bent on these axes; its ends are its own.
        x = np.linspace(low, high, POINTS) if len(scale.raw) > 1 else np.array([low])
        raw = expit(x)
        raw[[0, -1]] = scale.raw[0], scale.raw[-1]
        label = name if scale.how == "people" else f"{name} (own distribution)"
        axes.plot(x, _place(scale.apply(raw)), color=colour, linestyle=dashes, linewidth=2, label=label, zorder=3)
        axes.plot(x[[0, -1]], _place(scale.apply(raw[[0, -1]])), ".", color=colour, markersize=7, zorder=3)
    _axes(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=10)
    return figure


def _place(confidence: np.ndarray) -> np.ndarray:
    """Where confidences are drawn, float64: their logits, within the edges."""
    found: np.ndarray = logit(np.clip(confidence.astype(np.float64), EDGE, 1 - EDGE))
    return found


def _axes(axes: Axes) -> None:
    """Ticks in probabilities, as far as the lines reach, and people's line: what stays as it is."""
    axes.margins(0.04)
    places = [float(logit(tick)) for tick in TICKS]
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_ticks(places, [f"{tick:g}" for tick in TICKS])
        axis.set_view_interval(min(low, places[3]), max(high, places[4]), ignore=True)
    axes.tick_params(axis="x", labelsize=9)
    ends = [float(logit(EDGE)), float(logit(1 - EDGE))]
    limits = axes.get_xlim(), axes.get_ylim()
    axes.plot(ends, ends, color=GREY, linestyle=(0, (1, 2)), linewidth=1.5, label="people: stays as it is", zorder=2)
    axes.set(xlim=limits[0], ylim=limits[1])
    axes.set_xlabel("raw confidence", fontsize=11)
    axes.set_ylabel("on the common scale", fontsize=11)
