"""Several sizes of the common space in one student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from t2t.core.errors import T2TError
from t2t.students.checkpoint import load, save
from t2t.students.sizes import ask_size
from t2t.training.config import TrainingConfig
from t2t.training.loop import train
from tests.helpers.contracts import student_of
from tests.helpers.students import TEACHERS, TOPICS, random_clips, tiny_config, tiny_student
from tests.helpers.training import toy

CLIPS = random_clips([4, 1, 3, 2])
EVERY = np.arange(4)
SIZES = (2, 5)


def config(**changes: Any) -> Any:
    return tiny_config({"identity": "gate"}, matryoshka=SIZES, **changes)


@pytest.mark.parametrize("members", [1, 3])
def test_a_size_is_the_first_numbers_of_a_vector_on_a_scale_of_its_own(members: int) -> None:
    student = student_of(config(members=members))
    whole, texts = student.embed(CLIPS, EVERY), student.encode_topics(TOPICS, TEACHERS[1])
    before = student.predict(CLIPS, EVERY, TOPICS, TEACHERS[1])
    for place, size in enumerate(SIZES):
        ask_size(student, size)
        assert student.width == size * members
        assert student.embed(CLIPS, EVERY).shape == (4, size * members)
        logits = []
        for number, member in enumerate(student.members):
            part = slice(8 * number, 8 * number + size)
            cosine = F.normalize(whole[:, part], dim=-1) @ F.normalize(texts[:, part], dim=-1).T
            scale, bias = member.of_sizes[place]
            logits.append(scale.exp() * cosine + bias)
        expected = torch.stack(logits).mean(0).sigmoid().detach().numpy()
        scores = student.predict(CLIPS, EVERY, TOPICS, TEACHERS[1])
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
        assert np.abs(scores - before).max() > 1e-3
    ask_size(student, None)
    np.testing.assert_array_equal(student.predict(CLIPS, EVERY, TOPICS, TEACHERS[1]), before)


def test_sizes_come_back_with_a_checkpoint(tmp_path: Path) -> None:
    student = student_of(config(members=2))
    save(student, tmp_path / "student")
    back = load(tmp_path / "student")
    for size in (*SIZES, 8):
        ask_size(student, size)
        ask_size(back, size)
        np.testing.assert_array_equal(back.predict(CLIPS, EVERY, TOPICS), student.predict(CLIPS, EVERY, TOPICS))


def test_one_that_it_was_not_trained_for_is_refused() -> None:
    with pytest.raises(T2TError, match=r"size 3. Its sizes: 2, 5, 8"):
        ask_size(tiny_student(config()), 3)
    with pytest.raises(T2TError, match=r"size 4. Its sizes: 8"):
        ask_size(tiny_student(), 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"matryoshka": [8]}, "below dim"),
        ({"matryoshka": [5, 2]}, "smallest first"),
        ({"matryoshka": [2, 2]}, "each once"),
        ({"matryoshka": [1]}, "greater than or equal to 2"),
    ],
)
def test_sizes_that_are_none_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_config(**changes)


def test_every_size_learns() -> None:
    """A clip's brightest dimension is its topic: two numbers tell some of four topics apart, five all."""
    matrix, embeddings = toy()
    student = tiny_student(config(), teachers=matrix.teachers)
    student.frontend.fit(embeddings, np.arange(len(embeddings)))
    recipe = TrainingConfig(steps=150, learning_rate=1e-2, batch_rows=10_000, evaluate_every=150, loss="bce")
    train(student, matrix, embeddings, recipe, 0, lambda now: 0.0)
    kinds = np.arange(24) % len(TOPICS)
    hits = {}
    for size in (*SIZES, 8):
        ask_size(student, size)
        scores = student.predict(embeddings, np.arange(24), TOPICS)
        hits[size] = float((scores.argmax(1) == kinds).mean())
    assert hits[5] == hits[8] == 1.0
    assert hits[2] > 0.6
