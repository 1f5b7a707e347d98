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

from t2t.evaluation import figures

pytestmark = pytest.mark.unit

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


def test_rounds_that_do_not_count_are_hollow() -> None:
    table = pd.DataFrame({"round": [0, 1, 2], "pr_auc": [0.3, 0.4, 0.2], "status": ["passed", "rejected", "passed"]})
    axes = figures.rounds(table).axes[0]
    (hollow,) = [c for c in axes.collections if str(c.get_label()).startswith("does not count")]
    assert np.asarray(hollow.get_offsets()).tolist() == [[1.0, 0.4]]
    assert to_hex(hollow.get_facecolor()[0]) == figures.PAPER.lower()


def test_teachers_keep_their_colours_and_a_narrow_picture_has_its_legend_below() -> None:
    styles = figures.teacher_styles(["gone", "a", "b"])
    curves = {"student": curve(0.9), "b": curve(0.3), "a": curve(0.2)}
    figure = figures.pr_curves(curves, "", styles=styles, notes={"a": "40% of pairs"}, below=True)
    axes = figure.axes[0]
    colours = {str(line.get_label()).split("  ")[1]: to_hex(line.get_color()) for line in axes.lines[:3]}
    assert colours == {"student": figures.BLUE.lower(), "a (40% of pairs)": figures.GREEN.lower(), "b": "#cc79a7"}
    assert axes.get_legend() is None
    assert figure.legends[0].get_texts()[0].get_text() == "0.900  student"
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y1 < axes.get_window_extent().y0
    assert png(figure).startswith(b"\x89PNG")


def test_differences_stand_one_under_the_other_with_their_intervals() -> None:
    table = pd.DataFrame({"name": ["a", "b"], "value": [0.1, -0.2], "low": [0.0, -0.3], "high": [0.2, -0.1]})
    axes = figures.differences(table, "gain", figures.teacher_styles(["b"])).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    lines = [(np.asarray(line.get_xdata()).tolist(), to_hex(line.get_color())) for line in axes.lines[:4]]
    grey, first = figures.GREY.lower(), figures.VERMILION.lower()
    assert lines == [([0.0, 0.2], grey), ([0.1], grey), ([-0.3, -0.1], first), ([-0.2], first)]
    with pytest.raises(ValueError, match="no differences"):
        figures.differences(table[:0], "gain")


def test_pyplot_is_not_imported() -> None:
    code = "import sys, t2t.evaluation.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_several_seeds_are_a_line_with_a_band() -> None:
    seeds = {"round": [0, 1], "seeds": [3, 3], "pr_auc": [0.3, 0.4], "lowest": [0.2, 0.35], "highest": [0.45, 0.5]}
    (axes,) = figures.rounds(pd.DataFrame(seeds)).axes
    band, _ = axes.collections
    points = band.get_paths()[0].vertices
    assert {(x, y) for x, y in np.asarray(points).round(6).tolist()} == {(0, 0.2), (1, 0.35), (0, 0.45), (1, 0.5)}
    assert legend(axes) == ["all topics, mean of 3 seeds (band: lowest to highest)"]
