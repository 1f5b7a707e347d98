"""What is said of a teacher before training: each remark with its number, and with what is done about it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit

from t2t.data.coding import Coded, code
from t2t.data.labels import LABEL_SCHEMA
from t2t.evaluation.scales import scales_of
from t2t.evaluation.worth import Remark, _number, _percent, remarks

pytestmark = pytest.mark.unit

SAMPLES, TOPICS = [f"s{i}" for i in range(600)], ["red", "green"]
ROWS = len(SAMPLES) * len(TOPICS)
DRAW = np.random.default_rng(11)
LOGITS = 2 * DRAW.normal(size=ROWS) - 2
TRUTH = (DRAW.random(ROWS) < expit(LOGITS)).astype(np.float64)
NOISE = DRAW.random(ROWS)


def coded(teachers: dict[str, np.ndarray], people: np.ndarray = TRUTH) -> Coded:
    """Labels, NaN where there is none; people labeled the first pairs."""
    tables = []
    for name, values in {"human": people, **teachers}.items():
        rows = np.flatnonzero(~np.isnan(values))
        columns = [pa.array([SAMPLES[row // 2] for row in rows], pa.string())]
        columns += [pa.array([TOPICS[row % 2] for row in rows], pa.string())]
        columns += [pa.array([name] * len(rows), pa.string()), pa.array(values[rows], pa.float32())]
        tables.append(pa.table(columns, schema=LABEL_SCHEMA))
    return code(tables, SAMPLES, TOPICS, ["human", *teachers])


def said(values: np.ndarray, people: np.ndarray = TRUTH, common: bool = True) -> list[Remark]:
    labels = coded({"vendor": values}, people)
    return remarks(labels, scales_of(labels, np.arange(len(SAMPLES))), common)


def one(values: np.ndarray, people: np.ndarray = TRUTH, common: bool = True) -> Remark:
    found = said(values, people, common)
    assert len(found) == 1, [str(remark) for remark in found]
    assert str(found[0]) == f"Teacher vendor {found[0].text}."
    return found[0]


def test_of_a_calibrated_teacher_there_is_nothing_to_say() -> None:
    assert said(expit(LOGITS)) == []


def test_a_timid_one() -> None:
    values = 0.01 + 0.05 * expit(LOGITS)
    remark = one(values)
    best = np.argsort(-values.astype(np.float32), kind="stable")[: min(100, int(TRUTH.sum()) // 2)]
    assert remark.kind == "timid"
    assert remark.mended
    low, high = (_number(np.float32(value)) for value in (values.min(), values.max()))
    assert f"lie between {low} and {high}, while people agree with {int(TRUTH[best].sum())} of its" in remark.text
    assert remark.text.endswith("they are brought to people's scale before training")


def test_a_loud_one() -> None:
    remark = one(expit(LOGITS * 4))
    assert (remark.kind, remark.mended) == ("loud", True)
    assert remark.text.startswith("is loud (slope 0.2")
    assert remark.text.endswith("its confidences are brought to people's scale before training")


def test_one_that_contradicts_people() -> None:
    remark = one(expit(-LOGITS))
    assert (remark.kind, remark.mended) == ("contradicts", False)
    assert "ROC-AUC 0.1" in remark.text
    assert "look whether its confidences are turned around; `t2t teachers retract vendor` takes it out" in remark.text


@pytest.mark.parametrize("seed", range(20))
def test_chance_is_no_contradiction(seed: int) -> None:
    few = np.where(np.arange(ROWS) < 100, TRUTH, np.nan)
    kinds = {remark.kind for remark in said(np.random.default_rng(seed).random(ROWS), few)}
    assert "contradicts" not in kinds


def test_one_that_is_worth_nothing() -> None:
    remark = one(NOISE)
    assert (remark.kind, remark.mended) == ("worthless", False)
    share = f"where chance has {TRUTH.mean():.3f}"
    assert remark.text.startswith("is worth nothing: it explains 0.")
    assert f"of what people say on {ROWS:,} pairs (PR-AUC " in remark.text
    assert share in remark.text
    assert "its map is nearly flat (9 in 10 of its labels lie between" in remark.text
    assert remark.text.endswith("`t2t teachers retract vendor` takes it out")


def test_one_that_says_yes_to_everything() -> None:
    found = said(0.9 + 0.1 * expit(LOGITS))
    first = found[0]
    assert (first.kind, first.mended) == ("one-sided", False)
    assert f"is one-sided: 100 % of its {ROWS:,} confidences are 0.5 or more, while people call" in first.text
    assert f"people call {100 * TRUTH.mean():.0f} % of the pairs" in first.text
    assert "becomes 0." in first.text


def test_one_that_always_says_the_same() -> None:
    remark = one(np.full(ROWS, 0.3))
    assert remark.kind == "one-sided"
    assert remark.text.startswith(f"is one-sided: all of its {ROWS:,} confidences are 0.3; its map is one number (0.")


def test_rare_positives_are_not_one_sided() -> None:
    rare = np.where(DRAW.random(ROWS) < 0.02, 0.9, 0.02)
    assert "one-sided" not in {remark.kind for remark in said(rare)}


def test_one_that_shares_nothing_with_people() -> None:
    half = np.arange(ROWS) < ROWS // 2
    remark = one(np.where(half, np.nan, expit(LOGITS)), np.where(half, TRUTH, np.nan))
    assert (remark.kind, remark.mended) == ("unshared", False)
    assert remark.text == (
        "shares no labeled pair with people: its scale comes from its own distribution; label a few of its videos"
    )


def test_one_that_people_agree_with_throughout() -> None:
    positives = TRUTH > 0
    remark = one(np.where(positives, expit(LOGITS) / 3, np.nan))
    assert remark.kind == "unshared"
    assert f"shares {int(positives.sum()):,} pairs with people, who call all of them positive" in remark.text


def test_few_positives_say_nothing() -> None:
    few = np.where(np.arange(ROWS) < 20, TRUTH, np.nan)
    assert np.nansum(few) < 10
    assert said(NOISE, few) == []


KINDS = {"timid": 0.01 + 0.05 * expit(LOGITS), "worthless": NOISE, "contradicts": expit(-LOGITS)}
KINDS |= {"loud": expit(LOGITS * 4), "one-sided": np.full(ROWS, 0.3)}


@pytest.mark.parametrize("kind", KINDS)
def test_on_raw_scales_nothing_is_done_and_it_says_so(kind: str) -> None:
    remark = one(KINDS[kind], common=False)
    assert remark.kind == kind
    assert "nothing is done: scale: raw" in remark.text
    assert "people's scale" not in remark.text
    assert "its map" not in remark.text


def test_teachers_come_in_their_order_and_some_are_passed_over() -> None:
    labels = coded(
        {"b": NOISE, "self-0": 0.05 * expit(LOGITS), "a": 0.01 + 0.05 * expit(LOGITS), "silent": np.full(ROWS, np.nan)}
    )
    scales = scales_of(labels, np.arange(len(SAMPLES)))
    found = remarks(labels, scales, but=["self-0"])
    assert [(remark.teacher, remark.kind) for remark in found] == [("b", "worthless"), ("a", "timid")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (0.5, "0.5"),
        (0.00417, "0.0042"),
        (0.99956, "0.99956"),
        (1e-9, "1e-09"),
        (1 - 1e-9, "nearly 1"),
    ],
)
def test_numbers_have_two_digits_that_say_something(value: float, text: str) -> None:
    assert _number(value) == text


def test_never_all_or_none_where_it_is_not() -> None:
    shares = (0, 0.001, 0.5, 0.999, 1)
    assert [_percent(share) for share in shares] == ["0 %", "less than 1 %", "50 %", "more than 99 %", "100 %"]
