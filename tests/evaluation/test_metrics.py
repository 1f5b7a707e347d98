"""PR-AUC is scikit-learn's, its uncertainty is drawn over samples, and nothing is measured where nothing is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from t2t.data.pairs import Pairs, human_pairs, pairs_of, teacher_scores
from t2t.evaluation.metrics import (
    BLOCK,
    Evaluation,
    Interval,
    average_precision,
    bootstrap,
    curve,
    draws,
    evaluate,
    interval,
    topic_table,
)

pytestmark = pytest.mark.unit

# Few scores, so that most lists have ties.
SCORES = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]
TARGETS = [0.0, 0.25, 0.5, 1.0]
pairs_lists = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2), st.sampled_from(TARGETS), st.sampled_from(SCORES)),
    min_size=1,
    max_size=30,
)


def make_pairs(content: list[tuple[int, int, float, float]], samples: int = 5) -> Pairs:
    sample, topic, target, score = (np.array(column) for column in zip(*content, strict=True))
    return Pairs(
        tuple(f"s{i}" for i in range(samples)),
        ("red", "green", "blue"),
        sample.astype(np.int64),
        topic.astype(np.int64),
        target.astype(np.float32),
        score.astype(np.float32),
    )


def random_pairs(n: int, seed: int, samples: int = 8) -> Pairs:
    generator = np.random.default_rng(seed)
    columns = (generator.integers(0, samples, n), generator.integers(0, 3, n))
    scores = generator.choice(SCORES, n)
    return make_pairs(list(zip(*columns, generator.choice(TARGETS, n), scores, strict=True)), samples)


def labels(content: dict[tuple[str, str], float]) -> pa.Table:
    sample, topic = zip(*content, strict=True)
    return pa.table({"sample_id": sample, "topic": topic, "confidence": pa.array(content.values(), pa.float32())})


@settings(deadline=None)
@given(pairs_lists)
def test_average_precision_is_that_of_scikit_learn(content: list[tuple[int, int, float, float]]) -> None:
    pairs = make_pairs(content)
    value = average_precision(pairs)
    positive = [target >= 0.5 for _, _, target, _ in content]
    if not any(positive):
        assert np.isnan(value)
        return
    assert value == pytest.approx(average_precision_score(positive, [row[3] for row in content]), abs=1e-12)
    precision, recall, area = curve(pairs)
    assert area == value
    assert float(-np.sum(np.diff(recall) * precision[:-1])) == pytest.approx(value, abs=1e-12)


def resampled(pairs: Pairs, resamples: int, seed: int) -> list[float]:
    """What `bootstrap` says it does, one resample after the other, with copies of the drawn samples' pairs."""
    present = np.unique(pairs.sample)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = present[generator.integers(0, len(present), len(present))]
        index = np.concatenate([np.flatnonzero(pairs.sample == sample) for sample in drawn])
        positive = pairs.positive[index]
        values.append(average_precision_score(positive, pairs.score[index]) if positive.any() else np.nan)
    return values


@settings(deadline=None, max_examples=40)
@given(pairs_lists, st.integers(0, 100))
def test_the_bootstrap_is_a_plain_loop_over_drawn_samples(
    content: list[tuple[int, int, float, float]], seed: int
) -> None:
    pairs = make_pairs(content)
    np.testing.assert_allclose(bootstrap(pairs, 12, seed), resampled(pairs, 12, seed), atol=1e-12)


def test_the_bootstrap_of_many_pairs_is_that_of_scikit_learn_with_the_samples_counts_as_weights() -> None:
    generator = np.random.default_rng(0)
    n, samples = 20_000, 300
    blank = np.zeros(n)
    pairs = make_pairs([(0, 0, 0.0, 0.0)] * n, samples)
    positive = generator.random(n) < 0.1
    # Scores to three digits: some thresholds are shared by positive and negative pairs.
    score = (generator.normal(size=n) + positive).round(3).astype(np.float32)
    pairs = Pairs(pairs.sample_ids, pairs.topics, generator.integers(0, samples, n), blank.astype(int), positive, score)
    draws = np.random.default_rng(4)
    expected = []
    for _ in range(5):
        counts = np.bincount(draws.integers(0, samples, samples), minlength=samples)
        expected.append(average_precision_score(positive, score, sample_weight=counts[pairs.sample]))
    np.testing.assert_allclose(bootstrap(pairs, 5, 4), expected, rtol=0, atol=1e-12)


def test_the_bootstrap_does_not_depend_on_how_it_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = random_pairs(40, 1)
    whole = bootstrap(pairs, 50, seed=3)
    monkeypatch.setattr("t2t.evaluation.metrics.BLOCK", 7 * 40)
    np.testing.assert_array_equal(bootstrap(pairs, 50, seed=3), whole)


def test_two_students_are_measured_on_the_same_draws() -> None:
    pairs = random_pairs(40, 2)
    np.testing.assert_array_equal(bootstrap(pairs, 20, 5), bootstrap(pairs.with_score(pairs.score / 2), 20, 5))
    assert not np.array_equal(bootstrap(pairs, 20, 5), bootstrap(pairs, 20, 6))


def test_students_with_other_thresholds_are_measured_on_the_same_draws_of_groups() -> None:
    """Scores that are equal share a threshold, so that a coarse student has fewer of them than a fine one."""
    generator = np.random.default_rng(0)
    samples, n = np.arange(300), 3000
    target = (generator.random(n) < 0.5).astype(np.float32)
    fine = (target + generator.normal(size=n)).astype(np.float32)
    names, topics = tuple(f"s{i}" for i in samples), tuple(map(str, range(10)))
    pairs = Pairs(names, topics, np.repeat(samples, 10), np.tile(np.arange(10), 300), target, fine, samples // 3)
    assert target.sum() > BLOCK / 1000  # a block of a student's thresholds is smaller than all resamples
    first, second = bootstrap(pairs), bootstrap(pairs.with_score(fine.round(2)))
    assert np.corrcoef(first, second)[0, 1] > 0.99
    assert np.std(first - second) < np.std(first) / 10


def test_samples_without_pairs_are_not_drawn() -> None:
    pairs = random_pairs(30, 3)
    crowd = Pairs(tuple(f"s{i}" for i in range(1000)), pairs.topics, *(pairs.sample, pairs.topic), *two(pairs))
    np.testing.assert_array_equal(bootstrap(crowd, 20), bootstrap(pairs, 20))


def two(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    return pairs.target, pairs.score


def test_the_interval_is_the_percentiles_of_the_bootstrap_and_holds_the_value() -> None:
    pairs = random_pairs(60, 4)
    found = interval(pairs, 200, seed=1)
    low, high = np.nanpercentile(resampled(pairs, 200, 1), [2.5, 97.5])
    assert found.value == average_precision(pairs)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))
    assert found.low < found.value < found.high
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


def test_without_resamples_there_is_a_value_and_no_interval() -> None:
    found = interval(random_pairs(20, 5), resamples=0)
    assert found.value > 0
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_without_a_positive_the_value_is_nan_and_is_left_out_of_the_metrics() -> None:
    pairs = make_pairs([(0, 0, 0.0, 0.9), (1, 1, 0.25, 0.1)])
    found = evaluate(pairs, frozenset({"green"}), {"shape": np.array([0.5, 0.5], np.float32)}, resamples=10)
    assert np.isnan([found.overall.value, found.seen.value, found.unseen.value]).all()
    assert found.by_topic.positives.tolist() == [0, 0]
    assert found.by_topic.pr_auc.isna().all()
    assert found.by_teacher.empty
    assert found.metrics() == {}


def test_no_pairs_at_all_are_defined() -> None:
    pairs = make_pairs([(0, 0, 1.0, 0.5)]).where(np.array([False]))
    found = evaluate(pairs, frozenset(), resamples=10)
    assert np.isnan(found.overall.value)
    assert found.by_topic.empty
    assert found.metrics() == {}


WORLD = make_pairs(
    [
        # sample, topic, human, student
        (0, 0, 1.0, 0.9),
        (0, 1, 0.0, 0.8),
        (1, 0, 0.0, 0.2),
        (1, 1, 1.0, 0.7),
        (2, 2, 1.0, 0.1),
        (3, 2, 0.0, 0.6),
        (4, 0, 0.5, 0.3),
    ]
)


def evaluated() -> Evaluation:
    # `part` says nothing of topic blue; `dumb` speaks of one negative pair only.
    part = np.array([0.1, 0.9, 0.8, 0.2, np.nan, np.nan, 0.3], np.float32)
    dumb = np.array([np.nan, 0.4, *[np.nan] * 5], np.float32)
    return evaluate(WORLD, frozenset({"blue"}), {"part": part, "dumb": dumb}, resamples=20)


def test_seen_and_unseen_topics_are_measured_apart() -> None:
    found = evaluated()
    unseen = WORLD.topic == 2
    assert found.overall.value == average_precision_score(WORLD.positive, WORLD.score)
    assert found.seen.value == average_precision_score(WORLD.positive[~unseen], WORLD.score[~unseen])
    assert found.unseen.value == average_precision_score(WORLD.positive[unseen], WORLD.score[unseen]) == 0.5
    assert len({found.overall.value, found.seen.value, found.unseen.value}) == 3


def test_without_unseen_topics_seen_is_all_and_unseen_is_nothing() -> None:
    found = evaluate(WORLD, frozenset(), resamples=20)
    assert found.seen == found.overall
    assert np.isnan(found.unseen.value)
    assert "pr_auc_unseen" not in found.metrics()


def test_every_topic_has_its_own_row() -> None:
    frame = evaluated().by_topic.set_index("topic")
    assert frame.index.tolist() == ["red", "green", "blue"]
    assert frame.pairs.tolist() == [3, 2, 2]
    assert frame.positives.tolist() == [2, 1, 1]
    assert frame.unseen.tolist() == [False, False, True]
    assert frame.pr_auc.tolist() == [1.0, 0.5, 0.5]


@settings(deadline=None, max_examples=40)
@given(pairs_lists)
def test_the_table_of_topics_is_each_topic_measured_alone(content: list[tuple[int, int, float, float]]) -> None:
    pairs = make_pairs(content)
    table = topic_table(pairs, frozenset({"green"}))
    assert table.topic.tolist() == [name for i, name in enumerate(pairs.topics) if (pairs.topic == i).any()]
    for row in table.itertuples():
        own = pairs.where(pairs.topic == pairs.topics.index(row.topic))
        assert (row.pairs, row.positives) == (len(own.score), own.positive.sum())
        assert row.unseen == (row.topic == "green")
        np.testing.assert_allclose(row.pr_auc, average_precision(own), rtol=0, atol=1e-12)


def test_a_teacher_is_compared_with_the_student_on_the_pairs_it_covers() -> None:
    found = evaluated()
    assert found.by_teacher.teacher.tolist() == ["part"]
    row = found.by_teacher.iloc[0]
    covered = [0, 1, 2, 3, 6]
    assert row["pairs"] == 5
    assert row["pr_auc"] == average_precision_score(WORLD.positive[covered], [0.1, 0.9, 0.8, 0.2, 0.3])
    assert row["student"] == average_precision_score(WORLD.positive[covered], WORLD.score[covered])
    metrics = found.metrics()
    assert metrics["pr_auc_teacher/part"] == row["pr_auc"]
    assert metrics["pr_auc_beside/part"] == row["student"]
    assert metrics["pr_auc"] == found.overall.value
    assert (metrics["pr_auc_low"], metrics["pr_auc_high"]) == (found.overall.low, found.overall.high)
    assert all(type(value) is float for value in metrics.values())


def test_human_pairs_are_those_of_the_split_and_of_known_topics() -> None:
    human = labels(
        {("s1", "red"): 1.0, ("elsewhere", "red"): 1.0, ("s0", "blue"): 0.5, ("s0", "unknown"): 1.0, ("s1", "blue"): 0}
    )
    pairs = human_pairs(human, ["s0", "s1"], ("red", "blue"))
    assert [(pairs.sample_ids[s], pairs.topics[t]) for s, t in zip(pairs.sample, pairs.topic, strict=True)] == [
        ("s1", "red"),
        ("s0", "blue"),
        ("s1", "blue"),
    ]
    assert pairs.target.tolist() == [1.0, 0.5, 0.0]
    assert pairs.positive.tolist() == [True, True, False]
    assert np.isnan(pairs.score).all()


def test_a_teachers_scores_are_aligned_with_the_pairs_and_missing_ones_are_nan() -> None:
    given = {("s4", "red"): 0.5, ("s0", "green"): 0.25, ("s2", "red"): 0.9, ("nowhere", "red"): 0.1}
    scores = teacher_scores(WORLD, labels(given))
    np.testing.assert_array_equal(scores, np.array([np.nan, 0.25, *[np.nan] * 4, 0.5], np.float32))


def test_of_a_pair_that_is_labeled_twice_the_last_score_counts() -> None:
    table = pa.table(
        {"sample_id": ["s0", "s0"], "topic": ["red", "red"], "confidence": pa.array([0.2, 0.7], pa.float32())}
    )
    assert teacher_scores(WORLD, table)[0] == np.float32(0.7)
    assert np.isnan(teacher_scores(WORLD, table.slice(2))).all()


def test_pairs_survive_their_table() -> None:
    again = pairs_of(WORLD.table(), list(WORLD.sample_ids), WORLD.topics)
    assert (again.sample_ids, again.topics) == (WORLD.sample_ids, WORLD.topics)
    for name in ("sample", "topic", "target", "score"):
        np.testing.assert_array_equal(getattr(again, name), getattr(WORLD, name))
        assert getattr(again, name).dtype == getattr(WORLD, name).dtype


def of_groups(groups: int, each: int, seed: int = 0) -> Pairs:
    """One pair a sample; samples of a group have nearly the same score, and the same truth."""
    generator = np.random.default_rng(seed)
    sample = np.arange(groups * each)
    truth = (generator.random(groups) < 0.4).astype(np.float32).repeat(each)
    score = (generator.normal(size=groups) + truth[::each]).repeat(each) + generator.normal(size=len(sample)) * 0.01
    names = tuple(f"s{i}" for i in sample)
    return Pairs(names, ("red",), sample, np.zeros_like(sample), truth, score.astype(np.float32))


def test_samples_of_a_group_are_no_news_so_intervals_are_as_wide_as_groups_are_few() -> None:
    pairs = of_groups(40, 9)
    grouped = pairs.in_groups([f"g{i // 9}" for i in range(360)])
    alone = of_groups(40, 1)
    width = {
        name: np.diff(np.percentile(bootstrap(p, 1000), [2.5, 97.5]))[0]
        for name, p in {"samples": pairs, "groups": grouped, "one each": alone}.items()
    }
    assert width["groups"] > 2.5 * width["samples"]
    assert width["groups"] == pytest.approx(width["one each"], rel=0.2)


def test_groups_of_one_sample_are_drawn_as_samples_were() -> None:
    named = WORLD.in_groups([f"g{i}" for i in range(len(WORLD.sample_ids))])
    np.testing.assert_array_equal(bootstrap(named, 50, 3), bootstrap(WORLD, 50, 3))


def test_a_drawn_group_draws_as_many_samples_as_it_has() -> None:
    groups = np.array([0, 1, 1, 1, 2, 2, 0])
    drawn = draws(np.random.default_rng(0), 4000, groups)
    of_group = np.stack([drawn[groups == g].sum(0) for g in range(3)])
    size = np.array([2, 3, 2])[:, None]
    assert (of_group % size == 0).all()
    assert (of_group / size).sum(0).tolist() == [3.0] * 4000
    # Every sample as often as any other.
    np.testing.assert_allclose(drawn.mean(1), 1, atol=0.06)


def test_two_students_are_drawn_the_same_groups() -> None:
    pairs = of_groups(20, 3).in_groups([f"g{i // 3}" for i in range(60)])
    worse = pairs.with_score(pairs.score - 0.0)
    np.testing.assert_array_equal(bootstrap(pairs, 100, 1) - bootstrap(worse, 100, 1), np.zeros(100))
