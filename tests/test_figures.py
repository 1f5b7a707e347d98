"""The pictures: what is drawn, with which marks, and that nothing needs a display or leaves state behind."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from t2t import figures

RECALL = np.array([1.0, 0.5, 0.0])


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue()


def curve(value: float, chance: float = 0.1) -> figures.Curve:
    return np.array([chance, value, 1.0]), RECALL, value


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_the_student_is_thick_and_the_legend_is_ordered_by_pr_auc() -> None:
    figure = figures.pr_curves({"student": curve(0.4), "weak": curve(0.2), "strong": curve(0.5)}, "round 0")
    axes = figure.axes[0]
    assert legend(axes) == ["0.500  strong", "0.400  student", "0.200  weak", "0.100  chance"]
    widths = {line.get_label(): line.get_linewidth() for line in axes.lines}
    assert widths["0.400  student"] > 1.5 * max(widths["0.500  strong"], widths["0.200  weak"])
    assert axes.get_title(loc="left") == "round 0"
    assert png(figure).startswith(b"\x89PNG")


def test_every_curve_can_be_told_apart() -> None:
    names = ["student", *(f"teacher-{i}" for i in range(12))]
    axes = figures.pr_curves({name: curve(0.5 - i / 50) for i, name in enumerate(names)}, "").axes[0]
    looks = {(to_hex(line.get_color()), str(line.get_linestyle())) for line in axes.lines}
    assert len(looks) == len(names) + 1


def test_a_teachers_colour_does_not_depend_on_its_rank() -> None:
    def colours(a: float, b: float) -> dict[str, str]:
        axes = figures.pr_curves({"student": curve(0.9), "a": curve(a), "b": curve(b)}, "").axes[0]
        return {str(line.get_label()).split()[-1]: to_hex(line.get_color()) for line in axes.lines}

    assert colours(0.2, 0.3) == colours(0.3, 0.2)


def test_a_nan_curve_is_drawn_last_and_wrong_names_are_refused() -> None:
    axes = figures.pr_curves({"silent": curve(float("nan")), "student": curve(0.4)}, "", student="student").axes[0]
    assert legend(axes)[1] == "nan  silent"
    with pytest.raises(ValueError, match="none of the curves"):
        figures.pr_curves({"a": curve(0.1)}, "", student="b")
    with pytest.raises(ValueError, match="no curves"):
        figures.pr_curves({}, "")


def test_rounds_are_in_order_with_interval_champion_and_references() -> None:
    table = pd.DataFrame(
        {
            "round": [1, 0],
            "pr_auc": [0.4, 0.3],
            "pr_auc_low": [0.35, 0.25],
            "pr_auc_high": [0.45, 0.36],
            "pr_auc_seen": [0.5, 0.4],
            "pr_auc_unseen": [np.nan, np.nan],
            "champion": [True, False],
        }
    )
    figure = figures.rounds(table, "campaign", {"best teacher": 0.323})
    axes = figure.axes[0]
    assert legend(axes) == ["all topics (95 % interval)", "seen topics", "best teacher (0.323)", "champion"]
    overall = next(line for line in axes.lines if line.get_label() == "all topics (95 % interval)")
    assert np.asarray(overall.get_xdata()).tolist() == [0, 1]
    assert np.asarray(overall.get_ydata()).tolist() == [0.3, 0.4]
    star = next(c for c in axes.collections if c.get_label() == "champion")
    assert np.asarray(star.get_offsets()).tolist() == [[1.0, 0.4]]
    assert [t.get_text() for t in axes.texts] == ["0.400"]
    assert png(figure).startswith(b"\x89PNG")


def test_one_round_without_an_interval_has_a_sober_scale() -> None:
    axes = figures.rounds(pd.DataFrame({"round": [0], "pr_auc": [0.3]})).axes[0]
    bottom, top = axes.get_ylim()
    assert top - bottom == pytest.approx(figures.SMALLEST_SPAN)
    assert legend(axes) == ["all topics"]
    with pytest.raises(ValueError, match="no rounds"):
        figures.rounds(pd.DataFrame({"round": [], "pr_auc": []}))


def test_pyplot_is_not_imported() -> None:
    code = "import sys, t2t.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
