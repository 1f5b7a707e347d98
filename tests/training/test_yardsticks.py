"""Yardsticks by hand, what is left out and why, and the sentence that says whether the student is worth having."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score

from t2t.data.pairs import Pairs
from t2t.data.scales import Scale
from t2t.evaluation.metrics import bootstrap
from t2t.evaluation.standing import Compared, Own, SplitYardsticks, Yardstick, Yardsticks, verdict
from t2t.training.baselines import human_rows
from t2t.training.baselines.base import Heard
from t2t.training.yardsticks import MAKERS, Bench, of_samples, yardsticks

pytestmark = pytest.mark.unit

NAN = float("nan")
TOPICS = ("red", "green", "blue")


def made(samples: int, seed: int, noise: dict[str, float], student: float = 1.0) -> Heard:
    """A split with three topics, two samples a group; teachers and the student see the truth through noise, and a
    sample's embedding has the truth of each topic in a number of its own."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(-0.8, 1, (samples, 3))
    sample, topic = np.repeat(np.arange(samples), 3), np.tile(np.arange(3), samples)

    def seen(noise: float) -> np.ndarray:
        return expit(2 * (truth.ravel() + noise * generator.normal(size=samples * 3))).astype(np.float32)

    pairs = Pairs(
        tuple(f"s{i}" for i in range(samples)),
        TOPICS,
        sample,
        topic,
        (truth.ravel() > 0).astype(np.float32),
        seen(student),
        np.arange(samples) // 2,
    )
    frames = np.concatenate([truth, generator.normal(size=(samples, 2)), np.ones((samples, 1))], axis=1)
    return Heard(pairs, {name: seen(noise[name]) for name in noise}, frames.astype(np.float32))


def bench(student: float = 1.0, scales: dict[str, Scale] | None = None, **noise: float) -> Bench:
    splits = [made(80, seed, noise, student) for seed in (1, 2, 3)]
    return Bench(*splits, scales=scales or {})


def scores(of: Bench, name: str) -> np.ndarray:
    """A yardstick's scores on test."""
    rival = MAKERS[name]()
    rival.fit(of.known)
    return rival.predict(of.test.blind())


def named(found: SplitYardsticks) -> dict[str, Yardstick]:
    return {one.name: one for one in found.yardsticks}


def mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of two of whom one or both may be silent."""
    return np.where(np.isnan(a), b, np.where(np.isnan(b), a, (a + b) / 2))


def silenced(heard: Heard, name: str, rows: np.ndarray | slice) -> Heard:
    score = heard.raw[name].copy()
    score[rows] = NAN
    return replace(heard, raw={**heard.raw, name: score})


def test_the_averages_are_those_of_numpy_over_whom_speaks():
    scale = Scale(raw=(0.0, 0.5, 1.0), common=(0.01, 0.2, 0.9))
    of = bench(scales={"a": scale}, a=0.5, b=1.0)
    of = replace(of, test=silenced(silenced(of.test, "a", slice(0, 6)), "b", slice(3, 9)))
    a, b = of.test.raw["a"].astype(float), of.test.raw["b"].astype(float)
    raw = mean(a, b)
    common = mean(logit(np.interp(a, scale.raw, scale.common)), logit(b))
    np.testing.assert_allclose(scores(of, "average, raw"), raw, rtol=1e-5)
    np.testing.assert_allclose(scores(of, "average, common scale"), common, rtol=1e-4, atol=1e-5)
    # Nobody speaks of pairs 3 to 5: they count for neither side.
    found = named(yardsticks(of, frozenset(), resamples=100).test)["average, raw"].overall
    assert found is not None
    assert found.pairs == 237
    spoken = ~np.isnan(raw)
    positive = of.test.pairs.positive[spoken]
    own = average_precision_score(positive, of.test.pairs.score[spoken])
    assert found.pr_auc == pytest.approx(average_precision_score(positive, raw[spoken]), abs=1e-5)
    assert found.difference == pytest.approx(own - found.pr_auc, abs=1e-5)


def test_the_best_teacher_is_chosen_on_validation_among_those_that_cover_it():
    of = bench(a=0.2, b=0.8, c=2.0)
    found = yardsticks(of, frozenset(), resamples=100)
    best = named(found.test)["best teacher"]
    assert best.words == "the best teacher (a)"
    assert best.models == 1
    np.testing.assert_array_equal(scores(of, "best teacher"), of.test.raw["a"])
    # Of 24 of 240 pairs it may be silent, and of no more.
    nearly = replace(of, validation=silenced(of.validation, "a", slice(0, 24)))
    np.testing.assert_array_equal(scores(nearly, "best teacher"), of.test.raw["a"])
    fewer = replace(of, validation=silenced(of.validation, "a", slice(0, 25)))
    np.testing.assert_array_equal(scores(fewer, "best teacher"), of.test.raw["b"])


def test_stacking_finds_the_better_teacher_and_the_one_that_says_the_opposite():
    of = bench(good=0.3, noise=30.0)
    stacked = named(yardsticks(of, frozenset(), resamples=100).test)
    good = average_precision_score(of.test.pairs.positive, of.test.raw["good"])
    one, average = stacked["stacking on human rows"].overall, stacked["average, raw"].overall
    assert one is not None
    assert average is not None
    assert one.pr_auc == pytest.approx(good, abs=0.03)
    assert average.pr_auc < good - 0.1

    def turned(heard: Heard) -> Heard:
        return replace(heard, raw={"good": 1 - heard.raw["good"]})

    # The other way round it orders the pairs alike.
    opposite = Bench(turned(of.train), turned(of.validation), turned(of.test), {})
    order = np.argsort(scores(opposite, "stacking on human rows"), kind="stable")
    assert np.all(np.diff(of.test.raw["good"][order]) >= -1e-5)


def test_stacking_learns_what_a_teachers_silence_says():
    of = bench(a=1.0)

    def silent_on_negatives(heard: Heard) -> Heard:
        return silenced(heard, "a", ~heard.pairs.positive)

    told = Bench(*(silent_on_negatives(heard) for heard in (of.train, of.validation, of.test)), {})
    score = scores(told, "stacking on human rows")
    positive = told.test.pairs.positive
    assert not np.isnan(score).any()
    assert score[positive].min() > score[~positive].max()


def test_peoples_rows_alone_learn_each_topic_that_has_both_answers_and_put_the_others_last():
    of = bench(a=1.0)
    rows = ~((of.train.pairs.topic == 2) & of.train.pairs.positive)
    # People never saw a blue one in training.
    of = replace(of, train=replace(of.train, pairs=of.train.pairs.where(rows), raw={"a": of.train.raw["a"][rows]}))
    score, pairs = scores(of, "human rows alone"), of.test.pairs
    for topic in (0, 1):
        at = pairs.topic == topic
        assert average_precision_score(pairs.positive[at], score[at]) > 0.9
    assert (score[pairs.topic == 2] == score.min()).all()
    assert (score[pairs.topic != 2] > score.min()).all()


def test_rows_that_are_left_out_do_not_move_a_topic_against_the_others(monkeypatch: pytest.MonkeyPatch):
    heard = made(3000, 5, {})
    rows = np.flatnonzero(heard.pairs.topic == 0)
    # So noisy that topics cannot be told apart without an error.
    x = heard.frames[:, :5] + np.random.default_rng(6).normal(size=(3000, 5))
    whole = human_rows._linear(x, heard.pairs, rows, 1.0)
    monkeypatch.setattr(human_rows, "MOST_ROWS", 800)
    part = human_rows._linear(x, heard.pairs, rows, 1.0)
    # 400 of each are kept; were it not moved back, the intercept would be off by more than 1.
    assert np.log((heard.pairs.positive[rows] == 0).mean() / heard.pairs.positive[rows].mean()) > 1
    assert part[-1] == pytest.approx(whole[-1], abs=0.2)
    assert np.corrcoef(part[:-1], whole[:-1])[0, 1] > 0.99


def test_differences_are_paired_and_those_of_equal_scores_are_zero():
    of = bench(a=1.0)
    score = of.test.pairs.score
    of = replace(of, test=replace(of.test, raw={"a": score}))
    found = named(yardsticks(of, frozenset(), resamples=100, seed=3).test)["best teacher"].overall
    assert found is not None
    assert (found.difference, found.difference_low, found.difference_high) == (0, 0, 0)
    assert found.standing == "equal"
    low, high = np.nanpercentile(bootstrap(of.test.pairs, 100, 3), [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_unseen_topics_count_in_the_whole_only():
    found = yardsticks(bench(a=1.0), frozenset({"blue"}), resamples=100)
    one = named(found.test)["best teacher"]
    assert one.overall is not None
    assert one.seen is not None
    assert (one.overall.pairs, one.seen.pairs) == (240, 160)


def test_without_teachers_there_are_peoples_rows_alone():
    found = yardsticks(bench(), frozenset(), resamples=100)
    assert list(named(found.test)) == ["human rows alone"] == list(named(found.validation))
    assert set(found.left_out.values()) == {"there is no outside teacher"}


def test_one_teacher_is_its_own_average():
    found = yardsticks(bench(a=1.0), frozenset(), resamples=100)
    assert list(named(found.test)) == ["best teacher", "stacking on human rows", "human rows alone"]
    assert set(found.left_out) == {"average, raw", "average, common scale"}


def test_a_teacher_that_never_speaks_gives_nothing_to_compare():
    of = bench(a=1.0, mute=1.0)
    everything = slice(None)
    of = Bench(*(silenced(heard, "mute", everything) for heard in (of.train, of.validation, of.test)), {})
    np.testing.assert_allclose(scores(of, "average, raw"), of.test.raw["a"], rtol=1e-6)
    np.testing.assert_array_equal(scores(of, "best teacher"), of.test.raw["a"])
    assert not np.isnan(scores(of, "stacking on human rows")).any()


def without_positives(heard: Heard) -> Heard:
    return replace(heard, pairs=replace(heard.pairs, target=np.zeros_like(heard.pairs.target)))


def emptied(heard: Heard) -> Heard:
    none = np.zeros(len(heard.pairs.sample), bool)
    return replace(heard, pairs=heard.pairs.where(none), raw={name: raw[none] for name, raw in heard.raw.items()})


@pytest.mark.parametrize("spoil", [without_positives, emptied])
@pytest.mark.filterwarnings("error")
def test_degenerate_data_give_fewer_yardsticks(spoil):
    of = bench(a=1.0, b=1.0)
    found = yardsticks(replace(of, train=spoil(of.train)), frozenset(), resamples=100)
    assert list(named(found.test)) == ["average, raw", "average, common scale", "best teacher"]
    found = yardsticks(replace(of, validation=spoil(of.validation)), frozenset(), resamples=100)
    assert list(named(found.test)) == [
        "average, raw",
        "average, common scale",
        "stacking on human rows",
        "human rows alone",
    ]
    assert all(one.overall is None and one.seen is None for one in found.validation.yardsticks)
    assert found.validation.student is None
    assert "cannot be measured" in verdict("validation", found.validation)
    found = yardsticks(replace(of, test=spoil(of.test)), frozenset(TOPICS), resamples=100)
    assert found.test.student_seen is None
    assert Yardsticks.model_validate_json(found.model_dump_json()) == found


def test_too_many_topics_are_left_to_others_and_samples_are_drawn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(human_rows, "MOST_TOPICS", 2)
    found = yardsticks(bench(a=1.0), frozenset(), resamples=100)
    assert found.left_out["human rows alone"] == "there are 3 topics, and it is measured up to 2"
    pairs = made(80, 1, {}).pairs
    pairs = pairs.where(pairs.sample != 7)
    few, again = of_samples(pairs, 10), of_samples(pairs, 10)
    assert (len(few.sample_ids), len(few.sample)) == (10, 30)
    assert few.sample_ids == again.sample_ids
    assert few.groups is not None
    keys = {(pairs.sample_ids[s], t): y for s, t, y in zip(pairs.sample, pairs.topic, pairs.target, strict=True)}
    for s, t, y in zip(few.sample, few.topic, few.target, strict=True):
        assert keys[few.sample_ids[s], t] == y
        assert few.groups[s] == int(few.sample_ids[s][1:]) // 2
    assert len(of_samples(pairs).sample_ids) == 79


# -- the sentence -------------------------------------------------------------------------------------------------


def stand(words: str, difference: float, models: int) -> Yardstick:
    low, high = difference - 0.01, difference + 0.01
    compared = Compared(
        pairs=9, pr_auc=0.5, low=0.4, high=0.6, difference=difference, difference_low=low, difference_high=high
    )
    return Yardstick(name=words, words=words, detail="", models=models, overall=None, seen=compared)


OWN = Own(pr_auc=0.694, low=0.6, high=0.8)
AVERAGE, BEST, HUMAN = "the teachers' raw average", "the best teacher (v)", "a linear model on human rows alone"


@pytest.mark.parametrize(
    ("stands", "expected"),
    [
        (
            [(AVERAGE, 0.05, 3), (BEST, 0.1, 1)],
            "is clearly above every yardstick, the nearest being the teachers' raw average (+0.050 [+0.040, +0.060]): "
            "it is worth having.",
        ),
        (
            [(HUMAN, 0.05, 0)],
            "is clearly above its only yardstick, a linear model on human rows alone (+0.050 [+0.040, +0.060]): it is "
            "worth having.",
        ),
        (
            [(AVERAGE, -0.02, 3), (BEST, 0.1, 1), (HUMAN, 0.0, 0)],
            "is clearly below the teachers' raw average (-0.020 [-0.030, -0.010]); not told apart from a linear model "
            "on human rows alone (+0.000 [-0.010, +0.010]); clearly above the best teacher (v). The teachers' raw "
            "average is better, and costs 3 models at inference: where quality counts the student is not worth having.",
        ),
        (
            [(AVERAGE, 0.0, 3), (BEST, 0.1, 1), (HUMAN, 0.1, 0)],
            "is not told apart from the teachers' raw average (+0.000 [-0.010, +0.010]); clearly above the best "
            "teacher (v) and a linear model on human rows alone. The teachers' raw average is as good, as far as these "
            "pairs tell, and costs 3 models at inference: the student is worth having where one model is to do their "
            "work.",
        ),
        (
            [(AVERAGE, 0.0, 3), (BEST, 0.0, 1)],
            "is not told apart from the teachers' raw average (+0.000 [-0.010, +0.010]) and the best teacher (v) "
            "(+0.000 [-0.010, +0.010]). The best teacher (v) is as good, as far as these pairs tell, and costs 1 "
            "model at inference: the student is worth having only where it is cheaper than that.",
        ),
        (
            [(HUMAN, 0.0, 0)],
            "is not told apart from a linear model on human rows alone (+0.000 [-0.010, +0.010]). A linear model on "
            "human rows alone is as good, as far as these pairs tell, and needs no teacher: the student is not shown "
            "to be worth having.",
        ),
        (
            [(HUMAN, -0.05, 0), (AVERAGE, -0.02, 3)],
            "is clearly below a linear model on human rows alone (-0.050 [-0.060, -0.040]) and the teachers' raw "
            "average (-0.020 [-0.030, -0.010]). A linear model on human rows alone is better, and needs no teacher: "
            "the student is not worth having.",
        ),
        ([], "has no yardstick beside it: whether it is worth having cannot be told."),
    ],
)
def test_the_sentence_says_plainly_whether_the_student_is_worth_having(stands, expected):
    found = SplitYardsticks(student=OWN, student_seen=OWN, yardsticks=tuple(stand(*one) for one in stands))
    assert verdict("test", found) == f"On test the student (PR-AUC 0.694 on seen topics) {expected}"
