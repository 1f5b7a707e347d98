"""The picture of the maps: one line a teacher, over what it says, in its own colour."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy.special import logit

from t2t.data.scales import Scale
from t2t.evaluation.figures import GREEN, teacher_styles
from t2t.evaluation.scale_figure import scale_maps

pytestmark = pytest.mark.unit

TIMID = Scale(raw=(0.01, 0.03, 0.06), common=(0.001, 0.2, 0.99))
HARD = Scale(raw=(0, 1), common=(0.1, 0.7))
CONSTANT = Scale(raw=(0.3,), common=(0.2,), how="own")


def test_each_line_goes_over_what_its_teacher_says() -> None:
    figure = scale_maps({"timid": TIMID, "hard": HARD, "constant": CONSTANT}, {"timid": (GREEN, "--")})
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert {"timid", "hard", "constant (own distribution)", "people: stays as it is"} <= set(lines)
    x, y = lines["timid"].get_data()
    assert (to_hex(lines["timid"].get_color()), lines["timid"].get_linestyle()) == (GREEN.lower(), "--")
    np.testing.assert_allclose([x[0], x[-1]], logit([0.01, 0.06]))
    np.testing.assert_allclose([y[0], y[-1]], logit([0.001, 0.99]), rtol=1e-4)
    assert (np.diff(y) > 0).all()
    assert np.isfinite(lines["hard"].get_data()).all()
    buffer = io.BytesIO()
    figure.savefig(buffer)
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_axes_are_labeled_with_probabilities_and_reach_a_tenth_and_a_half() -> None:
    axes = scale_maps({"timid": TIMID}).axes[0]
    for low, high in (axes.get_xlim(), axes.get_ylim()):
        assert low <= logit(0.1)
        assert high >= 0
    assert "0.5" in [text.get_text() for text in axes.get_xticklabels()]


def test_styles_are_by_place_and_nothing_cannot_be_drawn() -> None:
    line = scale_maps({"a": HARD}).axes[0].lines[0]
    assert to_hex(line.get_color()) == teacher_styles(["a"])["a"][0].lower()
    with pytest.raises(ValueError, match="no scales"):
        scale_maps({})
