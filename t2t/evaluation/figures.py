"""The pictures of a campaign: PR curves of a round (paper, figure 5), PR-AUC round by round, differences.

Figures are made with matplotlib's object-oriented interface: no pyplot, no global state, no display needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import chance, curve

# Okabe and Ito's palette, told apart by people with any colour vision; its yellow is too pale for lines.
BLUE, VERMILION, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY, GRID, PAPER = "#000000", "#6B6B6B", "#E3E3E3", "#FFFFFF"
# The student is blue in every picture; a teacher has one of these.
TEACHERS = (VERMILION, GREEN, PINK, ORANGE, SKY)
DASHES = ("-", "--", ":")
DPI = 160
# Rounds whose numbers have room below the axis; of more every second, third and so on has one.
MOST_TICKS = 30
SMALLEST_SPAN = 0.1
# Inches of a picture that has its legend beside it, and of one that has it below, for narrow pages; of a legend's line.
WIDE, NARROW, LINE = 8.4, 5.6, 0.21

Curve = tuple[np.ndarray, np.ndarray, float]
Style = tuple[str, str]
"""Colour and dashes of a line."""


def teacher_styles(teachers: Iterable[str]) -> dict[str, Style]:
    """Each teacher's colour and dashes, by its place: the same list gives the same ones in every picture."""
    return dict(zip(teachers, cycle([(colour, dashes) for dashes in DASHES for colour in TEACHERS]), strict=False))


def axes_of(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches, and its axes, in the style of all pictures here."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=10)
    return figure, axes


def _legend(figure: Figure, axes: Axes, below: bool, title: str = "") -> Legend:
    """The legend beside the axes, or below them."""
    look: dict[str, Any] = {"title": title, "frameon": False, "fontsize": 10, "title_fontsize": 10, "alignment": "left"}
    if below:
        return figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", **look)
    return axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), **look)


def pr_curves(
    curves: Mapping[str, Curve],
    title: str,
    student: str | None = None,
    chance: float | None = None,
    styles: Mapping[str, Style] | None = None,
    notes: Mapping[str, str] | None = None,
    below: bool = False,
) -> Figure:
    """PR curves of the student (thick) and of each teacher (thin) on human labels, PR-AUC in the legend.

    Args:
        curves: name -> (precision [T], recall [T], PR-AUC), as `t2t.evaluation.metrics.curve` gives them.
        student: which of them is the student; the first one by default.
        chance: share of positive pairs; by default the student's precision where everything is called positive.
        styles: of the teachers, as `teacher_styles` gives them; by their place in `curves` by default.
        notes: what the legend says of a curve after its name.
        below: a narrow picture with the legend under it.
    Raises:
        ValueError: `curves` is empty, or `student` is none of them.
    """
    if not curves:
        raise ValueError("no curves to draw")
    student = next(iter(curves)) if student is None else student
    if student not in curves:
        raise ValueError(f"{student!r} is none of the curves: {', '.join(curves)}")
    figure, axes = axes_of(NARROW, 4.4 + LINE * (len(curves) + 2)) if below else axes_of(WIDE, 4.8)
    # A colour belongs to a name by its place, so that it stays when the order of merit changes.
    style_of = teacher_styles(name for name in curves if name != student) | dict(styles or {})
    for name, (precision, recall, value) in sorted(curves.items(), key=lambda item: -np.nan_to_num(item[1][2])):
        colour, dashes = (BLUE, "-") if name == student else style_of[name]
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
            label=f"{value:.3f}  {name}" + (f" ({notes[name]})" if notes and name in notes else ""),
        )
    if chance is None:
        precision, recall, _ = curves[student]
        chance = float(np.min(precision[recall == np.max(recall)]))
    axes.axhline(chance, color=GREY, linestyle=(0, (1, 2)), linewidth=1.5, label=f"{chance:.3f}  chance")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xlabel("recall", fontsize=11)
    axes.set_ylabel("precision", fontsize=11)
    axes.set_title(title, fontsize=13, loc="left")
    for text in _legend(figure, axes, below, "PR-AUC").get_texts():
        if text.get_text().endswith(f"  {student}"):
            text.set_fontweight("bold")
    return figure


def rounds(
    table: pd.DataFrame,
    title: str = "",
    references: Mapping[str, float] | None = None,
    styles: Mapping[str, Style] | None = None,
    below: bool = False,
) -> Figure:
    """PR-AUC by round: overall with its 95 % interval, on seen and unseen topics, the best round marked.

    Args:
        table: one row a round: `round`, `pr_auc`, and where known `pr_auc_low`, `pr_auc_high`, `pr_auc_seen`,
            `pr_auc_unseen`, `champion` (bool), and `status`: rounds that did not pass are hollow; of a campaign with
            several `seeds` their means, and as a band `lowest` to `highest`.
        references: further levels to compare with, such as the best teacher's own PR-AUC.
        styles: of the references; pink dashes by default.
        below: a narrow picture with the legend under it.
    Raises:
        ValueError: `table` has no row.
    """
    if table.empty:
        raise ValueError("no rounds to draw")
    table = table.sort_values("round")
    k = table["round"].to_numpy(int)
    overall = table["pr_auc"].to_numpy(float)
    figure, axes = axes_of(NARROW, 4.4 + LINE * (5 + len(references or {}))) if below else axes_of(WIDE, 4.4)
    label = "all topics"
    label += _spread(axes, table, k, overall)
    axes.plot(k, overall, color=BLUE, linewidth=3, marker="o", markersize=7, label=label, zorder=3)
    if "status" in table and (out := (table["status"] != "passed").to_numpy()).any():
        label = "does not count: rejected, retracted or waiting"
        axes.scatter(k[out], overall[out], s=60, facecolor=PAPER, edgecolor=BLUE, linewidth=2, zorder=4, label=label)
    # Set a little aside, so that their marks do not hide the interval's ends; no colour, since those are the teachers'.
    for column, colour, dashes, marker, aside in (("seen", GREY, "--", "s", 0.05), ("unseen", INK, ":", "^", -0.05)):
        if f"pr_auc_{column}" in table and table[f"pr_auc_{column}"].notna().any():
            values = table[f"pr_auc_{column}"].to_numpy(float)
            axes.plot(
                k + aside, values, color=colour, linestyle=dashes, linewidth=2, marker=marker, label=f"{column} topics"
            )
    for name, value in (references or {}).items():
        colour, dashes = (styles or {}).get(name, (PINK, "--"))
        axes.axhline(value, color=colour, linestyle=dashes, linewidth=1.5, label=f"{name} ({value:.3f})")
    _mark_champion(axes, table, k, overall)
    axes.set_xticks(k[:: -(-len(k) // MOST_TICKS)])
    axes.margins(x=0.08, y=0.16)
    bottom, top = axes.get_ylim()
    # A single round, or rounds that hardly differ, must not look like a mountain range.
    if top - bottom < SMALLEST_SPAN:
        axes.set_ylim((top + bottom - SMALLEST_SPAN) / 2, (top + bottom + SMALLEST_SPAN) / 2)
    axes.set_xlabel("round", fontsize=11)
    axes.set_ylabel("PR-AUC on human labels", fontsize=11)
    axes.set_title(title, fontsize=13, loc="left")
    _legend(figure, axes, below)
    return figure


def _spread(axes: Axes, table: pd.DataFrame, k: np.ndarray, overall: np.ndarray) -> str:
    """Draws the intervals and the seeds' band where there are some; returns what they are, for the line's label."""
    label = ""
    if {"pr_auc_low", "pr_auc_high"} <= set(table.columns) and table["pr_auc_low"].notna().any():
        label += " (95 % interval)"
        low, high = table["pr_auc_low"].to_numpy(float), table["pr_auc_high"].to_numpy(float)
        axes.errorbar(k, overall, (overall - low, high - overall), fmt="none", ecolor=BLUE, elinewidth=1.5, capsize=5)
    if {"lowest", "highest"} <= set(table.columns):
        label += f", mean of {table['seeds'].max()} seeds (band: lowest to highest)"
        _band(axes, k, table["lowest"].to_numpy(float), table["highest"].to_numpy(float))
    return label


def _band(axes: Axes, k: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """What seeds reach; a single round has no band, and so each has a line across it."""
    axes.fill_between(k, low, high, color=BLUE, alpha=0.2, linewidth=0, zorder=2)
    axes.vlines(k, low, high, color=BLUE, alpha=0.5, linewidth=1.5, zorder=2)


def _mark_champion(axes: Axes, table: pd.DataFrame, k: np.ndarray, overall: np.ndarray) -> None:
    """A star and a number at the best round, if there is one."""
    if "champion" in table and table["champion"].any():
        best = table["champion"].to_numpy(bool)
        axes.scatter(k[best], overall[best], s=330, marker="*", color=ORANGE, edgecolor=INK, zorder=5, label="champion")
        axes.annotate(
            f"{overall[best][0]:.3f}", (k[best][0], overall[best][0]), (0, 15), textcoords="offset points",
            ha="center", fontsize=11, fontweight="bold", zorder=6,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip


def differences(table: pd.DataFrame, label: str, styles: Mapping[str, Style] | None = None) -> Figure:
    """Differences with their 95 % intervals, one under the other, beside a line at zero.

    Args:
        table: columns `name`, `value`, `low`, `high`, from the top down.
        label: of the axis of the differences.
        styles: colours by name; grey where there is none.
    Raises:
        ValueError: `table` has no row.
    """
    if table.empty:
        raise ValueError("no differences to draw")
    figure, axes = axes_of(NARROW, 0.8 + 0.38 * len(table))
    for place, row in enumerate(table.to_dict("records")):
        colour, _ = (styles or {}).get(row["name"], (GREY, "-"))
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot(row["value"], place, color=colour, marker="o", markersize=8)
    axes.axvline(0, color=INK, linewidth=1.2)
    axes.set_yticks(range(len(table)), [str(name) for name in table["name"]])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label, fontsize=11)
    return figure


def pr_picture(
    pairs: Pairs,
    identity: str,
    scores: Mapping[str, np.ndarray],
    title: str = "",
    styles: Mapping[str, Style] | None = None,
    below: bool = False,
) -> Figure:
    """A student's PR curve against each teacher's own (paper, figure 5).

    Args:
        pairs: scored by the student, asked as `identity`.
        scores: each teacher's confidences for these pairs, float [P], NaN where it gave none: its curve is of the pairs
            that it has, and a teacher that has none is left out.
        styles, below: as for `pr_curves`.
    """
    curves, notes = {f"student, asked as {identity}": curve(pairs)}, {}
    for name, score in scores.items():
        covered = ~np.isnan(score)
        if covered.any():
            curves[name] = curve(pairs.where(covered).with_score(score[covered]))
            if not covered.all():
                notes[name] = f"{covered.mean():.0%} of pairs"
    return pr_curves(curves, title, chance=chance(pairs), styles=styles, notes=notes, below=below)
