"""Thresholds keep the precision that was wished for, and topics with few pairs lean on everybody's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.evaluation.decisions import Decisions, decide, measure
from t2t.evaluation.interval import Interval
from t2t.evaluation.thresholds import LEAST_CALLED, PSEUDO_PAIRS, Thresholds, choose, wilson
from tests.helpers.decisions import pairs_of, scored

pytestmark = pytest.mark.unit


def test_the_overall_threshold_is_the_lowest_that_keeps_the_precision() -> None:
    pairs = pairs_of([0.9 - i / 100 for i in range(20)], [1] * 10 + [0] * 10)
    overall = choose(pairs, "human", 0.8).overall
    # Twelve of which ten are right are 0.83, thirteen are 0.77.
    assert (overall.called, overall.precision, overall.recall) == (12, 10 / 12, 1.0)
    assert overall.threshold == pytest.approx(0.785, abs=1e-6)  # halfway to the next one
    assert (overall.low, overall.high) == pytest.approx(wilson(10 / 12, 12))


def test_one_lucky_pair_is_no_precision() -> None:
    pairs = pairs_of([0.99, *(0.5 - i / 100 for i in range(29))], [1] + [0, 1] * 14 + [0])
    found = choose(pairs, "human", 0.9)
    assert found.overall.threshold is None
    assert found.best is not None
    assert found.best < 0.6
    assert found.of(["t0", "anything"]).tolist() == [np.inf, np.inf]
    assert measure(pairs, found, 20).called == 0


def test_of_fewer_pairs_than_are_enough_no_topic_is_a_yes() -> None:
    pairs = pairs_of([0.9 - i / 100 for i in range(LEAST_CALLED - 1)], [1] * (LEAST_CALLED - 1))
    found = choose(pairs, "human", 0.8)
    assert found.of(["t0", "anything"]).tolist() == [np.inf, np.inf]


def test_equal_scores_are_called_together() -> None:
    pairs = pairs_of([0.7] * 12 + [0.2] * 12, [1] * 11 + [0] + [0] * 12)
    overall = choose(pairs, "human", 0.9).overall
    assert (overall.called, overall.threshold) == (12, pytest.approx(0.45, abs=1e-6))


def test_a_topic_without_pairs_has_the_overall_threshold_and_one_with_many_its_own() -> None:
    # Topic 0 is right above 0.3, topic 1 above 0.8; topic 2 was never looked at.
    generator = np.random.default_rng(0)
    score = generator.random(4000)
    topic = generator.integers(0, 2, 4000)
    positive = score > np.where(topic == 0, 0.3, 0.8)
    pairs = pairs_of(score.tolist(), positive.astype(int).tolist(), topic.tolist(), topics=3)
    found = choose(pairs, "human", 0.95)
    first, second, third = found.of(["t0", "t1", "t2"])
    assert first == pytest.approx(0.27, abs=0.03)
    assert second == pytest.approx(0.79, abs=0.03)
    assert third == found.overall.threshold
    assert first < third
    assert found.topics["t0"].own > 0.99


def test_a_topic_with_two_positives_stays_near_the_overall_threshold() -> None:
    many = scored(300, 20, 1)
    lucky = pairs_of([0.55, 0.5, 0.1], [1, 1, 0], [20, 20, 20], topics=21)
    names = (*many.topics, "t20")
    both = pairs_of(
        [*many.score.tolist(), *lucky.score.tolist()],
        [*many.target.astype(int).tolist(), 1, 1, 0],
        [*many.topic.tolist(), 20, 20, 20],
        topics=len(names),
    )
    found = choose(both, "human", 0.8)
    # By its own two pairs it would be 0.3, and it would be right in all of them.
    assert found.topics["t20"].threshold == pytest.approx(found.overall.threshold, abs=0.02)


def test_a_topic_whose_high_scores_are_wrong_is_asked_for_more() -> None:
    many = scored(300, 20, 1)
    wrong = 6
    both = pairs_of(
        [*many.score.tolist(), *[0.97] * wrong],
        [*many.target.astype(int).tolist(), *[0] * wrong],
        [*many.topic.tolist(), *[20] * wrong],
        topics=21,
    )
    found = choose(both, "human", 0.8)
    assert found.topics["t20"].threshold is not None
    assert found.topics["t20"].threshold > 0.97


@pytest.mark.parametrize("wished", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("samples", [60, 600])
def test_on_other_samples_the_precision_holds(samples: int, wished: float) -> None:
    reached = []
    for seed in range(5):
        found = choose(scored(samples, 30, 2 * seed), "human", wished)
        reached.append(measure(scored(samples, 30, 2 * seed + 1), found, 0).precision.value)
    assert np.mean(reached) == pytest.approx(wished, abs=0.05)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 2)), min_size=1, max_size=60),
    wished=st.sampled_from([0.3, 0.6, 0.9]),
)
def test_a_topics_threshold_keeps_the_precision_of_its_pairs_and_the_imagined_ones(rows: list, wished: float) -> None:
    pairs = pairs_of([r[0] / 8 for r in rows], [int(r[1]) for r in rows], [r[2] for r in rows], topics=3)
    found = choose(pairs, "human", wished)
    for name, threshold in found.topics.items():
        if threshold.threshold is None:
            continue
        above = pairs.score >= threshold.threshold
        own = above & (pairs.topic == pairs.topics.index(name))
        # What is imagined is the precision of at least ten pairs, equal scores together.
        lowest = np.sort(pairs.score)[-min(max(int(above.sum()), LEAST_CALLED), len(pairs.score))]
        everybody = pairs.positive[pairs.score >= lowest].mean()
        shrunk = (pairs.positive[own].sum() + PSEUDO_PAIRS * everybody) / (own.sum() + PSEUDO_PAIRS)
        assert own.sum() == 0 or shrunk >= wished - 1e-9
        assert threshold.called == own.sum()


def test_what_a_round_leaves_is_read_as_it_was_written() -> None:
    found = decide(scored(50, 10, 0), scored(50, 10, 1), "human", 0.8, 50)
    again = Decisions.model_validate_json(found.model_dump_json())
    assert again == found
    assert again.thresholds.of(["t3", "new"]).tolist() == found.thresholds.of(["t3", "new"]).tolist()
    empty = decide(scored(50, 10, 0), pairs_of([0.1], [0]), "human", 0.8, 50)
    read = Decisions.model_validate_json(empty.model_dump_json())
    assert np.isnan(read.test.precision.value)
    assert "precision" not in read.metrics()
    assert isinstance(Thresholds.model_validate_json(found.thresholds.model_dump_json()), Thresholds)


def test_precision_recall_and_f1_are_counted_with_intervals_over_groups() -> None:
    pairs = scored(80, 10, 3)
    found = choose(scored(80, 10, 4), "human", 0.7)
    alone = measure(pairs, found, 300)
    called = pairs.score >= found.of(pairs.topics)[pairs.topic]
    right = (called & pairs.positive).sum()
    assert alone.called == called.sum()
    assert alone.precision.value == pytest.approx(right / called.sum())
    assert alone.recall.value == pytest.approx(right / pairs.positive.sum())
    assert alone.f1.value == pytest.approx(2 * right / (called.sum() + pairs.positive.sum()))
    for value in (alone.precision, alone.recall, alone.f1):
        assert value.low < value.value < value.high
    grouped = measure(pairs.in_groups([f"g{i // 20}" for i in range(80)]), found, 300)
    assert grouped.precision.value == alone.precision.value
    assert isinstance(grouped.precision, Interval)
    assert np.isnan(measure(pairs, found, 0).precision.low)


def test_wilsons_interval() -> None:
    low, high = wilson(0.8, 100)
    assert (round(low, 3), round(high, 3)) == (0.711, 0.867)
    assert wilson(1.0, 3)[0] == pytest.approx(0.4385, abs=1e-3)
