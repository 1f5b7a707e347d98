"""Data in which each sample has one topic: accuracy and F1 of the most likely one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from t2t.core.errors import T2TError
from t2t.data.classes import are_classes, is_exclusive
from t2t.data.pairs import Pairs
from t2t.evaluation.classes import ClassScores, measure_classes
from t2t.evaluation.decisions import Decisions, decide
from tests.helpers.documented import documented

pytestmark = pytest.mark.unit

SAMPLES, TOPICS = 300, ("ant", "bee", "cat")


def pairs(seed: int = 0, order: bool = True) -> Pairs:
    draw = np.random.default_rng(seed)
    truth = draw.integers(len(TOPICS), size=SAMPLES)
    score = draw.random((SAMPLES, len(TOPICS))).astype(np.float32)
    score[np.arange(SAMPLES), truth] += 0.3
    sample, topic = np.repeat(np.arange(SAMPLES), len(TOPICS)), np.tile(np.arange(len(TOPICS)), SAMPLES)
    target = (truth[:, None] == np.arange(len(TOPICS))).astype(np.float32).ravel()
    found = Pairs(tuple(f"s{i}" for i in range(SAMPLES)), TOPICS, sample, topic, target, score.ravel() / 2)
    shuffled = np.arange(len(sample)) if order else draw.permutation(len(sample))
    return found.where(shuffled)


@pytest.mark.parametrize("order", [True, False])
def test_the_numbers_are_those_of_scikit_learn(order: bool) -> None:
    scored = pairs(order=order)
    at = np.lexsort((scored.topic, scored.sample)).reshape(SAMPLES, -1)
    said, truth = scored.score[at].argmax(1), scored.target[at].argmax(1)
    found = measure_classes(scored)
    assert found.samples == SAMPLES
    assert found.accuracy.value == pytest.approx(accuracy_score(truth, said))
    assert found.macro_f1.value == pytest.approx(f1_score(truth, said, average="macro"))
    each = f1_score(truth, said, average=None)
    assert [interval.value for interval in found.f1.values()] == pytest.approx(list(each))
    assert list(found.f1) == list(TOPICS)


def test_the_interval_is_that_of_a_share() -> None:
    found = measure_classes(pairs(), 4000).accuracy
    error = np.sqrt(found.value * (1 - found.value) / SAMPLES)
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.01)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.01)


def test_groups_are_drawn_whole() -> None:
    scored = pairs()
    one = replace(scored, groups=np.arange(SAMPLES) // 30)
    wide, narrow = measure_classes(one).accuracy, measure_classes(scored).accuracy
    assert wide.value == narrow.value
    assert (wide.low, wide.high) != (narrow.low, narrow.high)


def test_one_yes_a_sample_and_all_topics_are_what_it_takes() -> None:
    whole = pairs()
    assert is_exclusive(whole)
    assert not is_exclusive(whole.where(np.arange(len(whole.sample)) > 0))
    second = whole.target.copy()
    second[:3] = 1
    assert not is_exclusive(replace(whole, target=second))
    assert not is_exclusive(replace(whole, target=np.zeros_like(second)))
    assert not is_exclusive(whole.of_topics(frozenset(["ant"])))


def test_what_is_said_to_be_exclusive_has_to_be() -> None:
    whole = pairs()
    part = whole.where(np.arange(len(whole.sample)) > 0)
    assert are_classes({"validation": whole, "test": whole}, None, "own")
    assert not are_classes({"validation": whole, "test": part}, None, "own")
    assert not are_classes({"validation": whole, "test": whole}, False, "own")
    with pytest.raises(T2TError) as caught:
        are_classes({"validation": whole, "test": part}, True, "own")
    assert "split 'test'" in documented(str(caught.value))


def test_a_topic_that_nobody_has_or_names_counts_for_nothing() -> None:
    scored = pairs()
    empty = np.where(scored.topic == 2, 0, 1).astype(np.float32)
    truth = np.where(scored.topic == 0, 1, 0).astype(np.float32)
    found = measure_classes(replace(scored, score=scored.score * empty, target=truth))
    assert np.isnan(found.f1["cat"].value)
    assert found.macro_f1.value == pytest.approx(np.mean([found.f1["ant"].value, found.f1["bee"].value]))
    assert "class_f1/cat" not in found.metrics()


def test_decisions_have_them_where_they_apply_and_are_as_before_elsewhere() -> None:
    validation, test = pairs(1), pairs(2)
    plain = decide(validation, test, "human", 0.8, 50)
    assert '"classes"' not in plain.model_dump_json()
    found = decide(validation, test, "human", 0.8, 50, classes=True)
    again = Decisions.model_validate_json(found.model_dump_json())
    assert again.classes is not None
    assert again.classes["test"].accuracy == found.classes["test"].accuracy  # type: ignore[index]
    numbers = found.metrics()
    assert set(numbers) - set(plain.metrics()) >= {"accuracy", "accuracy_low", "class_f1", "class_f1/ant"}
    assert numbers["validation_accuracy"] == found.classes["validation"].accuracy.value  # type: ignore[index]
    assert {name: numbers[name] for name in plain.metrics()} == plain.metrics()


def test_many_topics_have_one_number_in_the_ledger() -> None:
    one = measure_classes(pairs(), 10)
    many = ClassScores(
        samples=9, accuracy=one.accuracy, macro_f1=one.macro_f1, f1={str(i): one.accuracy for i in range(21)}
    )
    assert not any("/" in name for name in many.metrics())
