"""The watch on confirmation bias: each measure against its definition, and the bounds against hand-made collapses."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2t.data.labels import LABEL_SCHEMA
from t2t.evaluation.collapse import collapse
from t2t.evaluation.config import WatchConfig
from t2t.evaluation.watch import (
    agreement,
    class_shares,
    confidence_entropy,
    flips,
    normalised_entropy,
    self_share,
    shared_pairs,
    stability_index,
    watch,
    watch_student,
)

pytestmark = pytest.mark.unit

TOPICS = [f"topic {i}" for i in range(20)]


def table(rows: list[tuple[str, str, float]], teacher: str = "self") -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    ids = [teacher] * len(rows)
    return pa.table([list(columns[0]), list(columns[1]), ids, list(columns[2])], schema=LABEL_SCHEMA)


def grid(confidence: np.ndarray) -> pa.Table:
    """Labels of every (sample, topic) pair: confidence [samples, topics]."""
    samples, topics = confidence.shape
    return pa.table(
        [
            np.repeat([f"clip {i}" for i in range(samples)], topics),
            np.tile(TOPICS[:topics], samples),
            np.repeat("self", samples * topics),
            confidence.ravel().astype(np.float32),
        ],
        schema=LABEL_SCHEMA,
    )


def scores(samples: int = 100, seed: int = 0) -> np.ndarray:
    """Confidences of a healthy student: mostly low, a few high, the high ones spread over the topics."""
    generator = np.random.default_rng(seed)
    return generator.beta(0.3, 2.0, (samples, len(TOPICS)))


HEALTHY = scores()


def test_the_share_of_self_training_rows_counts_the_campaigns_own_students_only():
    rows = {"human": 10, "vendor": 20, "demo-self-0": 50, "demo-self-1": 20}
    assert self_share(rows, ["demo-self-0", "demo-self-1"]) == 0.7
    assert self_share(rows, []) == 0.0
    assert self_share({}, ["demo-self-0"]) == 0.0


PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")), unique=True)


@given(PAIRS, PAIRS)
def test_shared_pairs_are_those_that_a_join_finds(first, second):
    left = table([(sample, topic, i / 20) for i, (sample, topic) in enumerate(first)])
    right = table([(sample, topic, 1 - i / 20) for i, (sample, topic) in enumerate(second)])
    joined = left.to_pandas().merge(right.to_pandas(), on=["sample_id", "topic"])
    a, b = shared_pairs(left, right)
    assert sorted(zip(a, b, strict=True)) == sorted(zip(joined["confidence_x"], joined["confidence_y"], strict=True))


def test_shared_pairs_come_in_the_order_in_which_the_second_names_its_samples_and_topics():
    """Sums go by it, and so do the last digits of what the watch says; how names are stored does not matter."""
    left = table([(s, t, 0.1) for s in "abc" for t in "xyz"])
    right = table([("c", "z", 0.3), ("a", "x", 0.1), ("c", "x", 0.2), ("b", "y", 0.4), ("a", "z", 0.5)])
    # By sample as c, a, b were named, then by topic as z, x, y were.
    assert shared_pairs(left, right)[1].tolist() == pytest.approx([0.3, 0.2, 0.5, 0.1, 0.4])
    names = pa.array(["b", "a", "c"])
    coded = pa.DictionaryArray.from_arrays(pa.array([2, 1, 2, 0, 1]), names)
    again = right.set_column(0, "sample_id", coded)
    assert shared_pairs(left, again)[1].tolist() == shared_pairs(left, right)[1].tolist()


def test_tables_in_many_blocks_count_as_one():
    whole = grid(HEALTHY)
    blocks = pa.concat_tables([whole.slice(start, 7) for start in range(0, len(whole), 7)])
    assert agreement(blocks, whole) == pytest.approx(1.0)
    assert flips(blocks, whole) == {"pairs": len(whole), "flips": 0.0, "change": 0.0}


def test_agreement_is_spearmans_rank_correlation_with_ties():
    first = HEALTHY.round(1)
    second = np.clip(HEALTHY + np.random.default_rng(1).normal(0, 0.2, HEALTHY.shape), 0, 1).round(1)
    expected = pd.Series(first.ravel()).corr(pd.Series(second.ravel()), method="spearman")
    assert 0.3 < expected < 0.95
    assert agreement(grid(first), grid(second)) == pytest.approx(expected, abs=1e-6)
    # Ranks only: any other scale of the same order agrees wholly.
    assert agreement(grid(HEALTHY), grid(HEALTHY**3)) == pytest.approx(1.0)
    assert agreement(grid(HEALTHY), grid(1 - HEALTHY)) == pytest.approx(-1.0)


def test_agreement_needs_ten_shared_pairs_and_two_that_vary():
    few = grid(HEALTHY[:1, :9])
    assert np.isnan(agreement(few, grid(HEALTHY)))
    assert not np.isnan(agreement(grid(HEALTHY[:1, :10]), grid(HEALTHY)))
    assert np.isnan(agreement(grid(np.full_like(HEALTHY, 0.3)), grid(HEALTHY)))
    assert np.isnan(agreement(grid(HEALTHY), table([])))


def test_flips_count_shared_pairs_that_changed_sides():
    before = table([("a", "x", 0.4), ("a", "y", 0.6), ("b", "x", 0.5), ("b", "y", 0.9), ("c", "x", 0.9)])
    now = table([("b", "x", 0.25), ("a", "x", 0.5), ("a", "y", 0.75), ("b", "y", 0.9), ("d", "x", 0.1)])
    found = flips(now, before)
    assert found["pairs"] == 4
    assert found["flips"] == 0.5
    assert found["change"] == pytest.approx((0.25 + 0.1 + 0.15 + 0.0) / 4)
    assert flips(now, table([])) == {"pairs": 0.0}


def test_the_stability_index_is_the_sum_over_the_previous_ones_deciles():
    before = np.arange(1, 101) / 100
    now = np.concatenate([np.full(50, 0.05), np.full(50, 0.95)])
    p = (np.array([50, 0, 0, 0, 0, 0, 0, 0, 0, 50]) + 0.5) / 105
    q = np.full(10, 10.5 / 105)
    assert stability_index(now, before) == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert stability_index(before, before) == 0.0
    assert stability_index(before[::-1], before) == 0.0


def test_a_common_confidence_has_a_bin_of_its_own():
    constant = np.full(100, 0.3)
    assert stability_index(constant, constant) == 0.0
    # Both sides of it are seen, though all of its deciles are the same number.
    assert stability_index(np.full(100, 0.2), constant) > 1
    assert stability_index(np.full(100, 0.4), constant) > 1


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60),
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60),
)
def test_the_stability_index_is_finite_and_never_negative(now, before):
    value = stability_index(np.array(now, np.float32), np.array(before, np.float32))
    assert np.isfinite(value)
    assert value >= 0


def test_class_shares_are_of_the_positives():
    labels = table([(str(i), "x", 0.9) for i in range(3)] + [("0", "y", 0.5), ("1", "y", 0.49), ("0", "other", 1.0)])
    found = class_shares(labels, ["x", "y", "z"]).set_index("topic")
    assert found["labels"].to_dict() == {"x": 3, "y": 2, "z": 0}
    assert found["positives"].to_dict() == {"x": 3, "y": 1, "z": 0}
    assert found["share"].to_dict() == {"x": 0.75, "y": 0.25, "z": 0.0}


def test_with_fewer_positives_than_topics_the_confidence_counts():
    labels = table([("0", "x", 0.9), ("1", "x", 0.1), ("0", "y", 0.3), ("0", "z", 0.7)])
    assert class_shares(labels, ["x", "y", "z"])["share"].tolist() == pytest.approx([0.5, 0.15, 0.35])
    assert class_shares(table([]), ["x", "y"])["share"].tolist() == [0.5, 0.5]


def test_entropies_run_from_nought_to_one():
    assert normalised_entropy(np.array([5, 5, 5, 5])) == pytest.approx(1.0)
    assert normalised_entropy(np.array([9, 0, 0])) == 0.0
    assert normalised_entropy(np.array([0.5, 0.5, 0, 0])) == pytest.approx(0.5)
    assert normalised_entropy(np.array([7])) == 1.0
    assert confidence_entropy(np.full(50, 0.3)) == 0.0
    assert confidence_entropy(np.linspace(0, 1, 2000)) == pytest.approx(1.0, abs=1e-3)


def watched(confidence: np.ndarray, previous: np.ndarray | None = HEALTHY) -> dict[str, float]:
    labels = grid(confidence)
    outside = {"vendor": grid(HEALTHY), "silent": table([])}
    before = None if previous is None else grid(previous)
    return watch(labels, class_shares(labels, TOPICS), outside.items(), before, before)


def test_what_cannot_be_measured_is_absent_and_nothing_is_nan():
    first = watched(HEALTHY, previous=None)
    assert {"labels", "agreement", "agreement/vendor", "class_share", "confidence_entropy"} <= set(first)
    assert not {"agreement/silent", "agreement_previous", "flips", "psi", "psi_first"} & set(first)
    later = watched(scores(seed=1))
    assert {"agreement_previous", "pairs", "flips", "change", "psi", "psi_first"} <= set(later)
    constant = watched(np.full_like(HEALTHY, 0.3))
    assert "agreement" not in constant
    assert constant["distinct"] == 1
    for found in (first, later, constant):
        assert all(np.isfinite(value) for value in found.values())


def test_the_mean_agreement_is_over_outside_teachers_that_can_be_compared():
    labels, shares = grid(HEALTHY), class_shares(grid(HEALTHY), TOPICS)
    outside = {"same": grid(HEALTHY), "opposite": grid(1 - HEALTHY[:10]), "none": table([])}
    found = watch(labels, shares, outside.items(), None, None)
    assert found["agreement/same"] == pytest.approx(1.0)
    assert found["agreement/opposite"] == pytest.approx(-1.0)
    assert found["agreement"] == pytest.approx(0.0, abs=1e-5)
    assert found["outside_pairs"] == 2000 + 200


ONE_TOPIC = np.where(np.arange(len(TOPICS)) == 3, 0.9, 0.01) + HEALTHY / 100


def test_healthy_students_are_within_the_default_bounds():
    noisy = np.clip(HEALTHY + np.random.default_rng(2).normal(0, 0.1, HEALTHY.shape), 0, 1)
    for confidence in (HEALTHY, noisy, HEALTHY**2):
        assert collapse(watched(confidence), WatchConfig(), "demo-self-1") is None
    assert collapse({"self_share": 0.9}, WatchConfig(), "demo-self-1") is None


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        (np.full_like(HEALTHY, 0.3), "all 2,000 confidences of demo-self-1 are the same"),
        (
            scores(seed=9),
            "rank correlation of demo-self-1 with the outside teachers is .*, below watch.min_agreement 0.05",
        ),
        (
            ONE_TOPIC,
            r"normalised entropy of 0.000 \(the largest share is 100.0% on 'topic 3'\), below watch.min_entropy",
        ),
        (1 - (1 - HEALTHY) / 50, "drifted from the previous .* index of .*, above watch.max_psi 5"),
    ],
)
def test_collapsed_students_are_found_by_the_default_bounds(confidence, expected):
    bounds = WatchConfig()
    if "entropy" in expected:
        bounds = WatchConfig(min_agreement=None)
    why = collapse(watched(confidence), bounds, "demo-self-1", "topic 3")
    assert why is not None
    assert why.startswith("collapse: ")
    assert re.search(expected, why), why


def test_each_bound_can_be_turned_off():
    off = WatchConfig(min_agreement=None, min_entropy=None, max_psi=None)
    for confidence in (np.full_like(HEALTHY, 0.3), scores(seed=9), ONE_TOPIC, 1 - (1 - HEALTHY) / 50):
        assert collapse(watched(confidence), off, "demo-self-1") is None


def test_agreement_is_judged_where_there_are_pairs_enough():
    found = {"labels": 320.0, "distinct": 320.0, "agreement": -0.2, "outside_pairs": 999.0}
    assert collapse(found, WatchConfig(), "t") is None
    assert collapse({**found, "outside_pairs": 1000.0}, WatchConfig(), "t") is not None


def test_a_student_is_held_against_the_previous_and_the_first_of_its_campaign():
    tables = {"vendor": grid(HEALTHY), "s0": grid(HEALTHY), "s1": grid(HEALTHY / 2), "s2": grid(HEALTHY / 2)}
    found, shares = watch_student(tables.__getitem__, "s2", ["vendor"], ["s0", "s1"], TOPICS)
    assert found["psi"] == 0.0
    assert found["change"] == 0.0
    assert found["psi_first"] > 0.1
    assert shares["topic"].tolist() == TOPICS
    alone, _ = watch_student(tables.__getitem__, "s0", ["vendor"], [], TOPICS)
    assert "psi" not in alone
    silent, _ = watch_student({"s0": table([])}.__getitem__, "s0", [], [], TOPICS)
    assert silent == {"labels": 0.0}
    assert collapse(silent, WatchConfig(), "s0") is None
