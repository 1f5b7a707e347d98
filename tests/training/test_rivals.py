"""What every rival keeps, and what each is by hand."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score

from t2t.core.errors import T2TError
from t2t.training.baselines import METHODS, RIVALS, make_rival, rival_names
from t2t.training.baselines.balanced import BalancedAverage
from t2t.training.baselines.base import Heard, Known, LeftOut, Rival, lots
from t2t.training.baselines.best import BestTeacher, BestTeacherByTopic, CoveringTeacher
from t2t.training.baselines.dawid_skene import DawidSkene
from t2t.training.baselines.flyingsquid import accuracies
from t2t.training.baselines.human_rows import HumanRows, StandardHumanRows
from t2t.training.baselines.instance import InstanceWeighted
from t2t.training.baselines.labels import aggregate
from t2t.training.baselines.reinforced import ReinforcedSelection
from t2t.training.baselines.stacking import Stacking
from t2t.training.baselines.tuned import TunedAverage, tuned
from t2t.training.baselines.voting import threshold
from tests.helpers.training import random_matrix
from tests.training.test_yardsticks import made, silenced

WRENCH = Path(__file__).parents[3] / "shared" / "data" / "wrench" / "youtube"
NOISE = {"good": 0.4, "usual": 0.8, "poor": 1.5, "lot": 20.0}
NEEDS = {"mace": "crowdkit", "snorkel": "snorkel", "hyper-label-model": "hyperlm"}
EVERY = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None, reason=f"{NEEDS.get(name)} is missing"
        ),
    )
    for name in RIVALS
]


def world(seed: int = 0, samples: int = 100) -> tuple[Known, Heard]:
    """What is known, and test: four teachers, the second silent by lot, all of them silent on some pairs."""
    parts = []
    for i in range(4):
        heard = made(samples, 10 * seed + i, NOISE)
        generator = np.random.default_rng(i)
        heard = silenced(heard, "usual", generator.random(len(heard)) < 0.3)
        nobody = generator.random(len(heard)) < 0.1
        for name in NOISE:
            heard = silenced(heard, name, nobody)
        parts.append(heard)
    return Known(parts[0], parts[1], {}, parts[3].blind()), parts[2]


def fitted(name: str, known: Known, test: Heard) -> Any:
    rival = make_rival(name)
    rival.fit(known)
    if rival.sees_test:
        rival.look(test)
    return rival


def also(known: Known, name: str) -> Known:
    """The same with one more teacher, who says nothing."""

    def more(heard: Heard) -> Heard:
        return replace(heard, raw={**heard.raw, name: np.full(len(heard), np.nan, np.float32)})

    unlabeled = more(known.unlabeled) if known.unlabeled is not None else None
    return Known(more(known.train), more(known.validation), known.scales, unlabeled)


def check_had_or_left_out(name: str, known: Known, test: Heard) -> None:
    reason = "it is had"
    try:
        score = fitted(name, known, test).predict(test)
    except LeftOut as left_out:
        reason = str(left_out)
    else:
        assert score.shape == (len(test),)
    assert len(reason) > 8


# -- what every rival keeps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_every_rival_scores_without_the_labels_of_test_and_is_silent_where_nobody_speaks(name: str) -> None:
    known, test = world()
    rival = fitted(name, known, test)
    score = rival.predict(test)
    assert (score.dtype, score.shape) == (np.float32, (len(test),))
    assert rival.words
    assert rival.detail
    assert 0 <= rival.models <= len(NOISE)
    if rival.hears_silence:
        assert np.isfinite(score).all()
    else:
        assert np.isnan(score[~test.spoken]).all()
        assert np.isfinite(score[test.spoken]).mean() > 0.6
    finite = np.isfinite(score)
    if not rival.of_logits:
        assert score[finite].min() >= 0
        assert score[finite].max() <= 1
    positive = test.pairs.positive[finite]
    if name != "random-selection":
        assert average_precision_score(positive, score[finite]) > positive.mean() + 0.15
    # What people say of test changes nothing but the oracle; a second fit changes nothing at all.
    turned = replace(test, pairs=replace(test.pairs, target=1 - test.pairs.target))
    other = fitted(name, *world()[:1], turned)
    assert np.array_equal(other.predict(turned), score, equal_nan=True) != rival.sees_test
    assert rival.sees_test == (name == "oracle")


@pytest.mark.parametrize("name", EVERY)
def test_a_teacher_who_says_nothing_changes_nothing(name: str) -> None:
    known, test = world()
    score = fitted(name, known, test).predict(test)
    more = also(Known(known.train, test, {}, known.unlabeled), "mute").validation
    assert np.array_equal(fitted(name, also(known, "mute"), more).predict(more), score, equal_nan=True)


@pytest.mark.parametrize("name", [one for one in EVERY if one.values[0] != "hyper-label-model"])
def test_a_score_does_not_depend_on_what_else_is_asked(name: str) -> None:
    known, test = world()
    rival, some = fitted(name, known, test), np.arange(0, len(test), 3)
    np.testing.assert_allclose(rival.predict(test.where(some)), rival.predict(test)[some], rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_one_teacher_alone_or_none_is_a_rival_or_a_reason(name: str) -> None:
    known, test = world()

    def only(heard: Heard, *names: str) -> Heard:
        return replace(heard, raw={name: heard.raw[name] for name in names})

    for names in (("good",), ()):
        assert known.unlabeled is not None
        few = Known(only(known.train, *names), only(known.validation, *names), {}, only(known.unlabeled, *names))
        check_had_or_left_out(name, few, only(test, *names))


@pytest.mark.parametrize("name", EVERY)
def test_without_a_positive_there_is_a_rival_or_a_reason(name: str) -> None:
    known, test = world()

    def no(heard: Heard) -> Heard:
        return replace(heard, pairs=replace(heard.pairs, target=np.zeros_like(heard.pairs.target)))

    check_had_or_left_out(name, Known(no(known.train), no(known.validation), {}, known.unlabeled), test)


def test_a_method_that_cannot_be_had_is_refused_with_its_reason() -> None:
    known, _ = world()
    matrix = random_matrix(0, samples=20)
    alone = Known(*(replace(heard, raw={"good": heard.raw["good"]}) for heard in known.people))
    with pytest.raises(T2TError, match=r"'mtard' cannot be had here: one teacher's average is that teacher\. Take"):
        aggregate(matrix, make_rival("mtard"), alone, lambda samples: np.zeros((len(samples), 6)), "mtard")


def test_where_no_teacher_covers_the_pairs_all_are_asked_with_silence_as_a_half() -> None:
    known, _ = world()

    def sparse(heard: Heard) -> Heard:
        two, here = ("good", "poor"), heard.pairs.sample % 2 == 0
        said = {name: np.where(here, np.nan, heard.raw[name]).astype(np.float32) for name in two}
        return replace(heard, raw=said)

    rival, yardstick = BestTeacher(), CoveringTeacher()
    few = Known(sparse(known.train), sparse(known.validation))
    rival.fit(few)
    assert rival.best == "good"
    assert "silence as 0.5" in rival.detail
    with pytest.raises(LeftOut, match="no teacher labels 90%"):
        yardstick.fit(few)


def test_people_s_rows_as_a_rival_may_scale_all_numbers_by_one_factor() -> None:
    """Numbers without a meaning that hardly vary: brought to variance 1 they drown the others."""

    def noisy(heard: Heard) -> Heard:
        more = np.random.default_rng(len(heard.frames)).normal(size=(len(heard.frames), 300)) * 0.01
        return replace(heard, frames=np.hstack([heard.frames, more]).astype(np.float32))

    known, test = world(samples=60)
    found = []
    for make in (HumanRows, StandardHumanRows):
        rival = make()
        rival.fit(Known(noisy(known.train), noisy(known.validation)))
        found.append(average_precision_score(test.pairs.positive, rival.predict(noisy(test))))
    assert found[0] > found[1] + 0.1


def test_rivals_are_found_by_name_and_unknown_ones_are_told_the_nearest() -> None:
    assert rival_names() == list(RIVALS)
    assert set(METHODS) == set(RIVALS) - {"oracle", "human-rows"}
    with pytest.raises(T2TError, match=r"--names: unknown rival 'stackin'.*'stacking'"):
        make_rival("stackin")


# -- each by hand -------------------------------------------------------------------------------------------------


def test_tuned_weights_leave_out_who_answers_by_lot() -> None:
    known, _ = world()
    rival = TunedAverage()
    rival.fit(known)
    weights = dict(zip(rival.names, rival.weights, strict=True))
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["good"] > 0.4
    assert weights["lot"] < 0.1
    said = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.3], [0.1, np.nan]], np.float32)
    assert tuned(said, np.array([True, False, True, False]))[0] > 0.5


def test_the_best_teacher_by_topic_is_chosen_for_each_topic() -> None:
    known, test = world()

    def swapped(heard: Heard) -> Heard:
        """On topic 0 `lot` says what `good` would, and the other way round."""
        here = heard.pairs.topic == 0
        good, lot = heard.raw["good"], heard.raw["lot"]
        return replace(heard, raw={**heard.raw, "good": np.where(here, lot, good), "lot": np.where(here, good, lot)})

    rival = BestTeacherByTopic()
    rival.fit(Known(swapped(known.train), swapped(known.validation)))
    assert rival.best == {0: "lot", 1: "good", 2: "good"}
    assert rival.models == len({rival.usual, "lot", "good"})
    expected = logit(np.clip(test.raw["good"].astype(np.float64), 1e-6, 1 - 1e-6))
    np.testing.assert_allclose(rival.predict(swapped(test)), expected, rtol=1e-4, atol=1e-4)


def test_weights_by_sample_learn_who_knows_which_samples() -> None:
    """One teacher is right where the first number of the embedding is positive, another where it is negative."""

    def told(seed: int) -> Heard:
        heard = made(600, seed, {"a": 0.3, "b": 0.3})
        frames = heard.frames.copy()
        frames[:, 3] *= 3
        right = frames[heard.pairs.sample, 3] > 0
        lies = {name: 1 - values for name, values in heard.raw.items()}
        raw = {"a": np.where(right, heard.raw["a"], lies["a"]), "b": np.where(right, lies["b"], heard.raw["b"])}
        return Heard(heard.pairs, raw, frames)

    known, test = Known(told(1), told(2)), told(3)
    rival = InstanceWeighted()
    rival.fit(known)
    assert average_precision_score(test.pairs.positive, rival.predict(test)) > 0.8
    plain = (test.raw["a"] + test.raw["b"]) / 2
    assert average_precision_score(test.pairs.positive, plain) < 0.6


def test_reinforced_selection_listens_to_who_is_right() -> None:
    known, test = world()
    rival = ReinforcedSelection()
    rival.fit(known)
    chance = rival._chance(*rival._inputs(test)).numpy()[test.spoken].mean(axis=0)
    found = dict(zip(rival.names, chance.tolist(), strict=True))
    assert found["good"] > 0.6 > 0.3 > found["lot"]


def test_lots_are_equal_shares_and_belong_to_the_names() -> None:
    pairs = made(2000, 1, {}).pairs
    drawn = lots(pairs)
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    assert np.histogram(drawn, 10, (0, 1))[0].min() > 500
    some = pairs.where(pairs.sample > 1500)
    np.testing.assert_array_equal(lots(some), drawn[pairs.sample > 1500])


def test_policies_need_teachers_that_speak_of_what_people_labeled() -> None:
    known, test = world()
    nobody = list(known.people)
    for name in NOISE:
        nobody = [silenced(heard, name, np.ones(len(heard), bool)) for heard in nobody]
    check_had_or_left_out("reinforced-selection", replace(known, train=nobody[0], validation=nobody[1]), test)
    for name in ("mtard", "instance-weighted", "dawid-skene", "average-calibrated"):
        score = fitted(name, replace(known, train=nobody[0], validation=nobody[1]), test).predict(test)
        assert np.isfinite(score[test.spoken]).all()


def test_a_teacher_none_of_whose_pairs_are_drawn_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    known, test = world()
    assert known.unlabeled is not None
    # It speaks of one pair of all, and one in ten is learned from.
    one = np.arange(len(known.unlabeled)) == 3
    parts = [silenced(heard, "lot", np.ones(len(heard), bool)) for heard in known.people]
    rare = replace(known, train=parts[0], validation=parts[1], unlabeled=silenced(known.unlabeled, "lot", ~one))
    monkeypatch.setattr("t2t.training.baselines.balanced.MOST_ROWS", len(one) // 10)
    score = fitted("mtard", rare, test).predict(test)
    assert np.isfinite(score[test.spoken]).all()


def test_balanced_teachers_have_one_entropy() -> None:
    known, _ = world()
    rival = BalancedAverage()
    rival.fit(known)

    def entropy(name: str, temperature: float) -> float:
        said = [known.logits(name, heard.raw[name]) for heard in known.everything]
        p = expit(np.concatenate(said).astype(float) / temperature)
        p = p[~np.isnan(p)]
        return float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean())

    before = [entropy(name, 1) for name in rival.names]
    after = [entropy(name, t) for name, t in zip(rival.names, rival.temperatures, strict=True)]
    assert np.ptp(before) > 0.2
    assert after == pytest.approx([np.mean(before)] * 4, abs=1e-3)
    # Who answers by lot is learned least, and weighs most: the balance is of teachers, not of their worth.
    assert rival.names[int(rival.weights.argmax())] == "lot"


def test_a_vote_is_yes_from_where_f1_is_best_and_never_always() -> None:
    pairs = made(4, 0, {}).pairs
    target = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.float32)
    raw = np.array([0.1, 0.2, 0.1, 0.05, 0.01, 0.02, 0.1, 0, 0, 0, 0, 0], np.float32)
    heard = Heard(replace(pairs, target=target), {"timid": raw, "yes": np.ones(12, np.float32)}, np.ones((4, 1)))
    assert threshold([heard], "timid") == np.float32(0.1)
    assert threshold([heard], "yes") == 0.5


def voters(right: list[float], pairs: int, silent: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = generator.random(pairs) < 0.5
    votes = np.stack([np.where(generator.random(pairs) < p, truth, ~truth) for p in right], axis=1).astype(np.int8)
    votes[generator.random(votes.shape) < silent] = -1
    return votes, truth


@pytest.mark.parametrize("silent", [0.0, 0.4])
def test_the_triplets_of_flyingsquid_find_how_often_each_is_right(silent: float) -> None:
    right = [0.9, 0.8, 0.7, 0.6]
    votes, _ = voters(right, 200_000, silent)
    np.testing.assert_allclose((1 + accuracies(votes)) / 2, right, atol=0.02)
    assert accuracies(np.full((100, 4), -1, np.int8)).tolist() == [0] * 4


@pytest.mark.parametrize("seed", [1, 2])
def test_dawid_and_skene_of_teachers_is_crowd_kit_s_where_nobody_is_silent(seed: int, monkeypatch: Any) -> None:
    aggregation = pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed (extra `people`)")
    generator = np.random.default_rng(seed)
    truth = generator.random(120) < 0.4
    votes = np.where(generator.random((120, 5)) < [0.9, 0.8, 0.7, 0.6, 0.75], truth[:, None], ~truth[:, None])
    votes = votes.astype(np.int8)
    frame = pd.DataFrame({"task": np.repeat(np.arange(120), 5), "worker": np.tile(np.arange(5), 120)})
    theirs = aggregation.DawidSkene(n_iter=500, tol=1e-12).fit_predict_proba(frame.assign(label=votes.ravel()))
    monkeypatch.setattr("t2t.data.consensus.ENOUGH", 1e-12)
    monkeypatch.setattr("t2t.data.consensus.ROUNDS", 2000)
    monkeypatch.setattr("t2t.training.baselines.dawid_skene.USUAL", 0.0)
    np.testing.assert_allclose(DawidSkene().learn(votes, 0.5)(votes), theirs.sort_index()[1], atol=1e-6)


@pytest.mark.skipif(not WRENCH.is_dir(), reason="the votes of WRENCH's youtube are not on this machine")
@pytest.mark.parametrize(("abstain", "expected", "within"), [(True, 83.2, 0.5), (False, 52.8, 1.0)])
def test_dawid_and_skene_of_youtube_s_votes_come_to_what_is_known_of_them(abstain, expected, within) -> None:
    """Learned from the votes of train and test, no label of either; silence counts as a value, or is dropped."""
    splits = [pd.read_csv(WRENCH / f"{split}_votes.csv").to_numpy(np.int8) for split in ("train", "test")]
    gold = pd.read_csv(WRENCH / "test_gold.csv")["label"].to_numpy()
    votes, test = np.concatenate(splits), splits[1]
    score = DawidSkene().learn(votes, 0.5)(test) if abstain else dropped(votes)[-len(test) :]
    generator = np.random.default_rng(0)
    drawn = [np.where(score == 0.5, generator.random(len(score)) > 0.5, score > 0.5) for _ in range(20)]
    assert 100 * np.mean([said == gold for said in drawn]) == pytest.approx(expected, abs=within)


def dropped(votes: np.ndarray) -> np.ndarray:
    """What the straw man says: answers that were not given are no rows."""
    from t2t.data.consensus import Answers, dawid_skene
    from t2t.training.baselines.dawid_skene import answers_of

    whole = answers_of(votes)
    kept = whole.answered
    columns = {name: getattr(whole, name)[kept] for name in ("pair", "annotator", "relevance")}
    score: np.ndarray = np.nan_to_num(
        dawid_skene(Answers(whole.sample_ids, whole.topics, whole.annotators, **columns)).yes, nan=0.5
    )
    return score


def test_stacking_takes_a_topic_s_share_from_other_groups() -> None:
    """A topic whose positives are all of one group: within it, its share says nothing of itself."""
    known, test = world()
    seen: list[np.ndarray] = []
    rival: Rival = Stacking()

    class Spy(Stacking):
        def _said(self, heard: Heard) -> np.ndarray:
            seen.append(heard.pairs.sample)
            return super()._said(heard)

    rival = Spy()
    rival.fit(known)
    assert len(seen) == 1
    assert len(seen[0]) == len(known.train)
    # Shares matter: a topic that people never say yes to is lower, whatever teachers say.
    never = known.train.pairs.topic == 2
    target = np.where(never, 0, known.train.pairs.target).astype(np.float32)
    spoiled = replace(known.train, pairs=replace(known.train.pairs, target=target))
    other = Stacking()
    other.fit(replace(known, train=spoiled))
    blue = test.pairs.topic == 2
    assert other.predict(test)[blue].mean() < rival.predict(test)[blue].mean() - 1
