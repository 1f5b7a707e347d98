"""Topics that a student was not trained on: put together from trained ones that are near in meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t2t.students.checkpoint import load, save
from t2t.students.dual_encoder import Student
from t2t.students.unseen import TEMPERATURE, put_together
from tests.helpers.students import TEACHERS, TOPICS, pretrained_folder, random_clips, tiny_config, tiny_student

CLIPS = random_clips([3, 1, 4])
EVERY = np.arange(len(CLIPS))
NEW = ["a blue ball", "rain"]


@pytest.fixture(params=[1, 3], ids=["one", "ensemble"])
def student(request: pytest.FixtureRequest, tmp_path: Path) -> Student:
    folder = str(pretrained_folder(tmp_path / "text", "bert"))
    text = {"identity": "gate", "identity_std": 0.5, "pretrained": folder, "freeze": True, "head": "none"}
    return tiny_student(tiny_config(text, members=request.param))


def test_a_new_topic_is_the_weighted_mean_of_trained_ones_less_their_mean() -> None:
    generator = np.random.default_rng(0)
    words, known, trained = (generator.standard_normal(shape) for shape in ((5, 7), (4, 7), (4, 3)))

    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    weights = np.exp(unit(words - known.mean(0)) @ unit(known - known.mean(0)).T / TEMPERATURE)
    expected = weights / weights.sum(1, keepdims=True) @ trained - trained.mean(0)
    found = put_together(*(torch.from_numpy(a) for a in (words, known, trained)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_trained_topics_keep_their_scores_and_new_ones_get_others(student: Student) -> None:
    before = student.predict(CLIPS, EVERY, [*TOPICS, *NEW], "colour")
    student.trained_topics = TOPICS
    after = student.predict(CLIPS, EVERY, [*TOPICS, *NEW], "colour")
    np.testing.assert_array_equal(after[:, : len(TOPICS)], before[:, : len(TOPICS)])
    assert np.abs(after[:, len(TOPICS) :] - before[:, len(TOPICS) :]).min() > 1e-6


def test_the_score_says_how_much_more_a_sample_shows_of_what_is_near(student: Student) -> None:
    """In logits: the weighted mean of those of trained topics, less their mean, from the bias."""
    student.trained_topics = TOPICS

    def logits(topics: list[str]) -> np.ndarray:
        p = student.predict(CLIPS, EVERY, topics).astype(np.float64)
        return np.log(p / (1 - p))

    words, known = student._meanings(NEW), student._meanings(TOPICS)
    weights = put_together(words, known, torch.eye(len(TOPICS)))  # less 1 / 4 each
    bias = float(np.mean([member.bias.item() for member in student.members]))
    np.testing.assert_allclose(logits(NEW), logits(list(TOPICS)) @ weights.numpy().T + bias, atol=1e-4)


def test_a_checkpoint_knows_what_was_trained(student: Student, tmp_path: Path) -> None:
    student.trained_topics = TOPICS
    save(student, tmp_path / "student")
    again = load(tmp_path / "student")
    assert tuple(again.trained_topics) == TOPICS
    for name in TEACHERS:
        np.testing.assert_array_equal(again.predict(CLIPS, EVERY, NEW, name), student.predict(CLIPS, EVERY, NEW, name))


def test_a_tower_from_scratch_knows_no_meanings() -> None:
    student = tiny_student(tiny_config({"identity": "gate"}))
    before = student.predict(CLIPS, EVERY, NEW)
    student.trained_topics = TOPICS
    np.testing.assert_array_equal(student.predict(CLIPS, EVERY, NEW), before)
    assert "trained_topics" not in student.saved
