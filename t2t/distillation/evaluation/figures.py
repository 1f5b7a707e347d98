"""The pictures of a distillation's evaluation: encoders beside one another, and how they fall when cut down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from t2t.distillation.evaluation.table import CONCATENATION, Curve, EvaluationTable, TaskFacts
from t2t.evaluation.figures import BLUE, GREY, LINE, NARROW, Style, axes_of, teacher_styles


def styles(table: EvaluationTable) -> dict[str, Style]:
    """Colour and dashes of each encoder, the same in every picture: the student blue, all teachers together grey."""
    teachers = list(dict.fromkeys(row.encoder for row in table.rows if row.role == "teacher"))
    return {table.student: (BLUE, "-"), CONCATENATION: (GREY, "--"), **teacher_styles(teachers)}


def beside(table: EvaluationTable, facts: TaskFacts) -> Figure:
    """Each encoder's numbers on a dataset with their 95 % intervals: k-NN by k, and the probe."""
    by_encoder, look = table.of(facts.dataset), styles(table)
    names = [row.measure for row in by_encoder[table.student]]
    figure, axes = axes_of(NARROW, 3.6 + LINE * (len(by_encoder) + 1))
    width = 0.6 / max(len(by_encoder), 1)
    for i, (encoder, rows) in enumerate(by_encoder.items()):
        x = np.arange(len(names)) + (i - (len(by_encoder) - 1) / 2) * width
        values = np.array([[row.value.value, row.value.low, row.value.high] for row in rows]).T
        colour, _ = look[encoder]
        errors = np.nan_to_num(np.abs(values[1:] - values[0]))
        axes.errorbar(x, values[0], errors, fmt="o", color=colour, markersize=6, elinewidth=1.8, label=encoder)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel(f"{facts.metric} on test", fontsize=11)
    axes.set_title(f"{facts.dataset}, 95 % intervals", fontsize=13, loc="left", parse_math=False)
    _below(figure)
    return figure


def falling(curves: Sequence[Curve], label: str, metric: str, title: str, look: Mapping[str, Style]) -> Figure:
    """Encoders' curves by how much is left or taken away, with 95 % bands.

    Args:
        curves: of one dataset. label: of the axis of their places. look: of each encoder, as `styles` gives them.
    Raises:
        ValueError: there is no curve.
    """
    if not curves:
        raise ValueError("no curves to draw")
    figure, axes = axes_of(NARROW, 3.6 + LINE * (len(curves) + 1))
    for curve in curves:
        colour, dashes = look.get(curve.encoder, (GREY, "-"))
        x = [place for place, _ in curve.points]
        value, low, high = ([getattr(at, end) for _, at in curve.points] for end in ("value", "low", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(x, value, color=colour, linestyle=dashes, linewidth=2.2, marker="o", markersize=4,
                  label=curve.encoder)  # fmt: skip
    if max(place for curve in curves for place, _ in curve.points) > 1:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel(label, fontsize=11)
    axes.set_ylabel(f"{metric} on test", fontsize=11)
    axes.set_title(title, fontsize=13, loc="left", parse_math=False)
    _below(figure)
    return figure


def _below(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=10)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names are other people's
