"""Reliability by bins, ECE, and the temperature that mends a student that is too sure of itself."""

from __future__ import annotations

import io

import numpy as np
import pytest

from t2t.evaluation.calibration import (
    BINS,
    at_temperature,
    calibration,
    ece,
    fit_temperature,
    reliability,
    reliability_picture,
)
from tests.helpers.decisions import pairs_of, scored

pytestmark = pytest.mark.unit


def test_bins_hold_every_pair_once_and_ece_is_their_mean_distance() -> None:
    pairs = pairs_of([0.0, 0.05, 0.5, 0.52, 1.0], [0, 1, 1, 0, 1])
    bins = reliability(pairs)
    assert [one.pairs for one in bins] == [2, 2, 1]
    assert [round(one.low * BINS) for one in bins] == [0, 7, 14]
    wanted = (2 * abs(0.5 - 0.025) + 2 * abs(0.5 - 0.51) + 1 * abs(1 - 1.0)) / 5
    assert ece(bins) == pytest.approx(wanted, abs=1e-6)
    for one in bins:
        assert one.positive_low <= one.positive <= one.positive_high


def test_a_temperature_mends_what_is_too_sure() -> None:
    sharp, even = scored(400, 20, 0, sharpness=2.0), scored(400, 20, 0, sharpness=1.0)
    hot, mild = fit_temperature(sharp), fit_temperature(even)
    # Topics differ in what their scores mean, so that some of it stays.
    assert hot == pytest.approx(2 * mild, rel=0.02)
    found = calibration(scored(400, 20, 1, sharpness=2.0), hot)
    assert found.ece_at_temperature < 0.5 * found.ece
    assert found.brier == pytest.approx(np.mean((scored(400, 20, 1, 2.0).score - scored(400, 20, 1).positive) ** 2))


def test_a_temperature_keeps_the_order_and_one_half() -> None:
    confidence = np.array([0.0, 1e-4, 0.2, 0.5, 0.9, 1.0], np.float32)
    for temperature in (0.2, 1.0, 5.0):
        mapped = at_temperature(confidence, temperature)
        assert (np.diff(mapped) >= 0).all()
        assert mapped[3] == pytest.approx(0.5)
        assert np.isfinite(mapped).all()
    np.testing.assert_allclose(at_temperature(confidence, 1.0), confidence, atol=2e-6)


def test_the_picture_has_a_point_a_bin_beside_the_diagonal() -> None:
    bins = reliability(scored(50, 10, 0))
    figure = reliability_picture(bins, "demo, round 1")
    axes = figure.axes[0]
    drawn = [np.asarray(line.get_xydata()) for line in axes.lines]
    assert any(np.array_equal(line, [[0, 0], [1, 1]]) for line in drawn)
    points = np.array([[one.confidence, one.positive] for one in bins])
    assert any(line.shape == points.shape and np.allclose(line, points) for line in drawn)
    np.testing.assert_allclose(np.asarray(axes.collections[-1].get_offsets()), points)
    assert f"{ece(bins):.3f}" in axes.get_xlabel()
    buffer = io.BytesIO()
    figure.savefig(buffer)
    assert buffer.getvalue().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no bins"):
        reliability_picture([])
