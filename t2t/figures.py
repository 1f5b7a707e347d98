"""The two pictures of a campaign: PR curves of a round (paper, figure 5), and PR-AUC round by round.

Figures are made with matplotlib's object-oriented interface: no pyplot, no global state, no display needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by people with any colour vision; its yellow is too pale for lines.
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6B6B6B"
TEACHERS = (VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", ":")
DPI = 160
SMALLEST_SPAN = 0.1

Curve = tuple[np.ndarray, np.ndarray, float]


def axes_of(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches, and its axes, in the style of all pictures here."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=10)
    return figure, axes


def pr_curves(
    curves: Mapping[str, Curve], title: str, student: str | None = None, chance: float | None = None
) -> Figure:
    """PR curves of the student (thick) and of each teacher (thin) on human labels, PR-AUC in the legend.

    Args:
        curves: name -> (precision [T], recall [T], PR-AUC), as `t2t.evaluation.curve` gives them.
        student: which of them is the student; the first one by default.
        chance: share of positive pairs; by default the student's precision where everything is called positive.
    Raises:
        ValueError: `curves` is empty, or `student` is none of them.
    """
    if not curves:
        raise ValueError("no curves to draw")
    student = next(iter(curves)) if student is None else student
    if student not in curves:
        raise ValueError(f"{student!r} is none of the curves: {', '.join(curves)}")
    figure, axes = axes_of(8.4, 4.8)
    # A colour belongs to a name by its place in `curves`, so that it stays when the order of merit changes.
    teachers = [name for name in curves if name != student]
    styles = dict(zip(teachers, _styles(), strict=False))
    for name, (precision, recall, value) in sorted(curves.items(), key=lambda item: -np.nan_to_num(item[1][2])):
        colour, dashes = (BLUE, "-") if name == student else styles[name]
        width, layer = (3.2, 4) if name == student else (1.5, 3)
        axes.plot(
            recall,
            precision,
            color=colour,
            linestyle=dashes,
            linewidth=width,
            zorder=layer,
            # Average precision is the area under steps, not under slanted lines between the points.
            drawstyle="steps-post",
            label=f"{value:.3f}  {name}",
        )
    if chance is None:
        precision, recall, _ = curves[student]
        chance = float(np.min(precision[recall == np.max(recall)]))
    axes.axhline(chance, color=GREY, linestyle=(0, (1, 2)), linewidth=1.5, label=f"{chance:.3f}  chance")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xlabel("recall", fontsize=11)
    axes.set_ylabel("precision", fontsize=11)
    axes.set_title(title, fontsize=13, loc="left")
    legend = axes.legend(
        title="PR-AUC", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=10, title_fontsize=10
    )
    legend.set_alignment("left")
    for text in legend.get_texts():
        if text.get_text().endswith(f"  {student}"):
            text.set_fontweight("bold")
    return figure


def _styles() -> cycle[tuple[str, str]]:
    return cycle([(colour, dashes) for dashes in DASHES for colour in TEACHERS])


def rounds(table: pd.DataFrame, title: str = "", references: Mapping[str, float] | None = None) -> Figure:
    """PR-AUC by round: overall with its 95 % interval, on seen and unseen topics, the best round marked.

    Args:
        table: one row a round: `round`, `pr_auc`, and where known `pr_auc_low`, `pr_auc_high`, `pr_auc_seen`,
            `pr_auc_unseen`, and `champion` (bool).
        references: further levels to compare with, such as the best teacher's own PR-AUC.
    Raises:
        ValueError: `table` has no row.
    """
    if table.empty:
        raise ValueError("no rounds to draw")
    table = table.sort_values("round")
    k = table["round"].to_numpy(int)
    overall = table["pr_auc"].to_numpy(float)
    figure, axes = axes_of(8.4, 4.4)
    label = "all topics"
    if {"pr_auc_low", "pr_auc_high"} <= set(table.columns) and table["pr_auc_low"].notna().any():
        label += " (95 % interval)"
        low, high = table["pr_auc_low"].to_numpy(float), table["pr_auc_high"].to_numpy(float)
        axes.errorbar(k, overall, (overall - low, high - overall), fmt="none", ecolor=BLUE, elinewidth=1.5, capsize=5)
    axes.plot(k, overall, color=BLUE, linewidth=3, marker="o", markersize=7, label=label, zorder=3)
    # Set a little aside, so that their marks do not hide the interval's ends.
    for column, colour, dashes, marker, aside in (
        ("seen", GREEN, "--", "s", 0.05),
        ("unseen", VERMILION, ":", "^", -0.05),
    ):
        if f"pr_auc_{column}" in table and table[f"pr_auc_{column}"].notna().any():
            values = table[f"pr_auc_{column}"].to_numpy(float)
            axes.plot(
                k + aside, values, color=colour, linestyle=dashes, linewidth=2, marker=marker, label=f"{column} topics"
            )
    for (name, value), (colour, gaps) in zip((references or {}).items(), _reference_styles(), strict=False):
        axes.axhline(value, color=colour, linestyle=gaps, linewidth=1.3, label=f"{name} ({value:.3f})")
    if "champion" in table and table["champion"].any():
        best = table["champion"].to_numpy(bool)
        axes.scatter(
            k[best], overall[best], s=330, marker="*", color="#E69F00", edgecolor="black", zorder=5, label="champion"
        )
        axes.annotate(
            f"{overall[best][0]:.3f}", (k[best][0], overall[best][0]), (0, 15), textcoords="offset points",
            ha="center", fontsize=11, fontweight="bold", zorder=6,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip
    axes.set_xticks(k)
    axes.margins(x=0.08, y=0.16)
    bottom, top = axes.get_ylim()
    # A single round, or rounds that hardly differ, must not look like a mountain range.
    if top - bottom < SMALLEST_SPAN:
        axes.set_ylim((top + bottom - SMALLEST_SPAN) / 2, (top + bottom + SMALLEST_SPAN) / 2)
    axes.set_xlabel("round", fontsize=11)
    axes.set_ylabel("PR-AUC on human labels", fontsize=11)
    axes.set_title(title, fontsize=13, loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=10)
    return figure


def _reference_styles() -> cycle[tuple[str, tuple[int, tuple[int, ...]]]]:
    return cycle([(GREY, (0, (6, 3))), ("black", (0, (1, 2))), ("#CC79A7", (0, (4, 2, 1, 2)))])
