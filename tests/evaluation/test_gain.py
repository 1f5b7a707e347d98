"""What students are taught of weak teachers: further from the usual than people believe it, by one factor for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from t2t.data.scales import Scale, apply_scales, read_scales, scale_of, write_scales
from t2t.evaluation.scales import LEAST_GAIN, MOST_GAIN, SPREAD, fit_scales, gain_of, scales_of
from t2t.training.matrix import LabelMatrix
from tests.evaluation.test_scales import LOGITS, ROWS, TRUTH, coded, rows_of, shared

pytestmark = pytest.mark.unit

DRAW = np.random.default_rng(5)
PRIOR = 0.1


def believed(spread: float, rows: int = 4000) -> tuple[Scale, np.ndarray]:
    """A scale, and raw confidences whose logits on it have that standard deviation."""
    raw = np.linspace(0.001, 0.999, 64)
    away = np.linspace(-2, 2, 64)
    confidence = DRAW.uniform(0.001, 0.999, rows)
    factor = spread / np.interp(confidence, raw, away).std()
    return scale_of(raw, expit(logit(PRIOR) + factor * away)), confidence


@pytest.mark.parametrize(
    ("spreads", "expected"),
    [
        ([2.2, 2.0], 1.0),
        ([SPREAD / 1.05], 1.0),  # too little to be worth it
        ([SPREAD / 2], 2.0),
        ([SPREAD / 2] * 3, 2.0),
        ([SPREAD / 100], MOST_GAIN),  # that know nothing: only chance would be enlarged
        ([0.1, 2.5], 1.0),  # one that is worthless beside a good one: the root of the mean of squares
    ],
)
def test_the_factor_brings_the_logits_of_all_rows_to_that_of_ranks(spreads: list[float], expected: float) -> None:
    made = {f"t{i}": believed(spread) for i, spread in enumerate(spreads)}
    found = gain_of(
        {name: scale for name, (scale, _) in made.items()}, {name: said for name, (_, said) in made.items()}
    )
    assert found == pytest.approx(expected, rel=0.02)
    assert found == 1.0 or LEAST_GAIN <= found <= MOST_GAIN


def test_nobody_who_says_anything_has_no_factor() -> None:
    assert gain_of({}, {}) == 1.0


def test_what_is_taught_is_that_many_times_as_far_from_the_usual_and_can_be_undone() -> None:
    scale, said = believed(0.5)
    strong = scale.model_copy(update={"gain": 3.0, "usual": float(logit(PRIOR))})
    taught = strong.taught(said)
    np.testing.assert_allclose(
        logit(taught.astype(float)) - logit(PRIOR),
        3 * (logit(scale.apply(said).astype(float)) - logit(PRIOR)),
        atol=1e-3,
    )
    np.testing.assert_allclose(strong.invert(taught), said, atol=1e-4)
    assert taught.dtype == strong.invert(taught).dtype == np.float32
    # People believe what they believed, and a factor of one is nothing at all.
    np.testing.assert_array_equal(strong.apply(said), scale.apply(said))
    np.testing.assert_array_equal(scale.taught(said), scale.apply(said))


def test_a_turned_teacher_is_taught_turned() -> None:
    scale, said = believed(0.5)
    turned = scale.turn().model_copy(update={"gain": 2.0, "usual": float(logit(PRIOR))})
    taught = turned.taught(said)
    assert np.corrcoef(said, taught)[0, 1] < -0.5
    np.testing.assert_allclose(turned.invert(taught), said, atol=1e-4)


def test_the_file_of_scales_says_nothing_of_a_factor_of_one(tmp_path: Path) -> None:
    scale, _ = believed(0.5)
    strong = scale.model_copy(update={"gain": 2.0, "usual": -2.0})
    write_scales(tmp_path / "scales.json", {"a": scale, "b": strong})
    assert read_scales(tmp_path / "scales.json") == {"a": scale, "b": strong}
    assert (tmp_path / "scales.json").read_text().count("gain") == 1


def test_rows_are_taught_and_averages_are_believed() -> None:
    scale, said = believed(0.5, rows=6)
    said = said.astype(np.float32)
    strong = scale.model_copy(update={"gain": 2.0, "usual": float(logit(PRIOR))})
    teacher = np.array([0, 1, 1, 0, 1, 0])
    taught = apply_scales(said, teacher, {1: strong}, taught=True)
    np.testing.assert_array_equal(taught[teacher == 1], strong.taught(said[teacher == 1]))
    np.testing.assert_array_equal(taught[teacher == 0], said[teacher == 0])
    columns = (np.zeros(6, np.int32), np.ones(6, np.int16), said)
    matrix = LabelMatrix(("s",), ("topic",), ("human", "a"), np.array([0, 6]), *columns)
    np.testing.assert_array_equal(matrix.scaled({"a": strong}).confidence, scale.apply(said))
    np.testing.assert_array_equal(matrix.scaled({"a": strong}, taught=True).confidence, strong.taught(said))


def test_all_teachers_of_a_round_have_one_factor_and_keep_what_each_is_worth_beside_the_others() -> None:
    truth = (DRAW.random(2000) < PRIOR).astype(np.float64)
    said = {
        name: expit(logit(PRIOR) + slope * (truth - PRIOR) + DRAW.normal(size=2000) * 1.5).astype(np.float32)
        for name, slope in (("weak", 0.8), ("weaker", 0.3))
    }
    plain = fit_scales(said, {name: shared(values, truth) for name, values in said.items()}, PRIOR)
    gain = gain_of(plain, said)
    assert 1 < gain <= MOST_GAIN
    spread = {name: float(logit(scale.apply(said[name]).astype(float)).std()) for name, scale in plain.items()}
    taught = {
        name: scale.model_copy(update={"gain": gain, "usual": float(logit(PRIOR))}).taught(said[name]).astype(float)
        for name, scale in plain.items()
    }
    assert spread["weak"] > spread["weaker"]
    assert logit(taught["weak"]).std() / logit(taught["weaker"]).std() == pytest.approx(
        spread["weak"] / spread["weaker"], rel=0.02
    )


def test_a_rounds_scales_have_it_where_they_are_asked_for_it() -> None:
    noisy = 0.3 * LOGITS + 2 * DRAW.normal(size=ROWS)
    labels, groups = coded({"human": rows_of(TRUTH), "a": rows_of(expit(noisy))}), np.arange(ROWS // 3)
    plain, strong, given = (scales_of(labels, groups, gain=gain) for gain in (1.0, None, 1.5))
    assert {scale.gain for scale in plain.values()} == {1.0}
    assert strong["a"].gain > 1
    assert {scale.gain for scale in given.values()} == {1.5}
    assert [scale.common for scale in strong.values()] == [scale.common for scale in plain.values()]
