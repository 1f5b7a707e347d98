"""Training: every identity is learned, the same seed gives the same weights, and the best step is what stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from t2t.core.errors import T2TError
from t2t.data.embeddings.store import Embeddings
from t2t.students.dual_encoder import Student
from t2t.training.config import TrainingConfig, learning_rate
from t2t.training.loop import Trained, train
from tests.helpers.students import TOPICS, tiny_config, tiny_student
from tests.helpers.training import NOISY, pr_auc, toy


def run_toy(
    seed: int = 0, validate: Callable[[Student], float] | None = None, **changes: Any
) -> tuple[Student, Trained]:
    matrix, embeddings = toy()
    student = tiny_student(tiny_config(scale=3.0), teachers=("human", "cautious"))
    settings = {"steps": 12, "batch_rows": 64, "evaluate_every": 5, "learning_rate": 0.01, **changes}
    validate = validate or (lambda student: pr_auc(student, embeddings))
    return student, train(student, matrix, embeddings, TrainingConfig(**settings), seed, validate)


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_training_learns_each_identitys_own_view(loss: str) -> None:
    embeddings = toy()[1]
    looks = iter(range(100))
    student, trained = run_toy(validate=lambda student: next(looks), steps=120, evaluate_every=20, loss=loss)
    losses = [point["loss"] for _, point in trained.curve]
    # Cross-entropy on a confidence of 0.4 does not end at zero.
    assert losses[-1] < (0.2 if loss == "mse" else 0.5) * losses[0]
    assert not student.training
    # Both mean the same topics, and neither moves the other's confidence: nothing is averaged.
    right = np.arange(len(embeddings)) % len(TOPICS)
    for identity, confidence in (("human", 1.0), ("cautious", 0.4)):
        assert pr_auc(student, embeddings, identity) > 0.95
        scores = student.predict(embeddings, np.arange(len(embeddings)), TOPICS, identity)
        assert scores[np.arange(len(embeddings)), right].mean() == pytest.approx(confidence, abs=0.1)


@pytest.mark.parametrize("changes", [{}, NOISY])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(changes: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first, trained = run_toy(**changes)
    torch.manual_seed(2)
    second, again = run_toy(**changes)
    other, _ = run_toy(seed=1, **changes)
    assert trained == again
    state = first.state_dict()
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in state.items())
    assert not torch.equal(state["project.weight"], other.state_dict()["project.weight"])


def test_bfloat16_arithmetic_comes_to_the_same_student() -> None:
    settings = {"steps": 60, "evaluate_every": 60}
    exact, _ = run_toy(**settings)
    rough, trained = run_toy(**settings, precision="bfloat16")
    embeddings = toy()[1]
    every = np.arange(len(embeddings))
    assert all(value.dtype == torch.float32 for value in rough.state_dict().values())
    difference = rough.predict(embeddings, every, TOPICS) - exact.predict(embeddings, every, TOPICS)
    assert 0 < np.abs(difference).max() < 2e-2
    assert abs(pr_auc(rough, embeddings) - pr_auc(exact, embeddings)) < 0.005
    assert trained.curve[-1][1]["loss"] < 0.2


def test_the_curve_has_a_point_for_every_look_and_the_last_step() -> None:
    matrix, embeddings = toy()
    told: list[tuple[int, dict[str, float]]] = []
    config = TrainingConfig(steps=12, evaluate_every=5)
    student = tiny_student(teachers=("human", "cautious"))
    trained = train(
        student, matrix, embeddings, config, 0, lambda student: 0.5, report=lambda *point: told.append(point)
    )
    assert [step for step, _ in trained.curve] == [5, 10, 12]
    assert told == trained.curve
    for step, point in trained.curve:
        assert point["learning_rate"] == learning_rate(step, config)
        assert point["validation_pr_auc"] == 0.5
        assert 0 < point["loss"] < 1
    # Of equal scores the first stays.
    assert trained.best_step == 5


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}])
def test_the_best_step_is_what_stays(changes: dict[str, Any]) -> None:
    seen: list[dict[str, Tensor]] = []
    scores = iter([0.1, 0.9, 0.3, 0.2])

    def validate(student: Student) -> float:
        seen.append({name: value.clone() for name, value in student.state_dict().items()})
        return next(scores)

    student, trained = run_toy(validate=validate, steps=16, evaluate_every=4, **changes)
    assert (trained.best_step, trained.best_score) == (8, 0.9)
    assert len(seen) == 4
    state = student.state_dict()
    assert all(torch.equal(value, seen[1][name]) for name, value in state.items())
    assert not torch.equal(state["project.weight"], seen[3]["project.weight"])


@pytest.mark.parametrize("changes", [{}, NOISY])
def test_the_returned_student_scores_what_training_says(changes: dict[str, Any]) -> None:
    student, trained = run_toy(steps=20, **changes)
    assert pr_auc(student, toy()[1]) == trained.best_score
    assert trained.best_score == max(point["validation_pr_auc"] for _, point in trained.curve)
    assert dict(trained.curve)[trained.best_step]["validation_pr_auc"] == trained.best_score


def test_the_moving_average_is_one_of_the_weights_that_were() -> None:
    def path(**changes: Any) -> list[Tensor]:
        seen: list[Tensor] = []

        def validate(student: Student) -> float:
            seen.append(student.project.weight.detach().clone())
            return 0.0

        run_toy(validate=validate, steps=10, evaluate_every=1, **changes)
        return seen

    raw, kept = path(), path(ema=0.25)
    average = tiny_student(teachers=("human", "cautious")).project.weight.detach()
    for step in range(10):
        decay = min(0.25, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * raw[step]
        torch.testing.assert_close(kept[step], average, rtol=0, atol=1e-6)
    assert (kept[-1] - raw[-1]).abs().max() > 1e-5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_a_number_stops_training_in_words(value: float) -> None:
    matrix, embeddings = toy()
    clips = [np.full((2, 6), value, np.float16)] * len(embeddings)
    student = tiny_student(teachers=("human", "cautious"))
    with pytest.raises(T2TError, match=r"Round 3: the loss is nan at step 0\. Lower training\.learning_rate"):
        train(student, matrix, Embeddings.of(clips), TrainingConfig(steps=3), 0, lambda student: 0.0, title="Round 3")


def test_an_infinite_loss_stops_training_in_words() -> None:
    matrix, embeddings = toy()
    student = tiny_student(teachers=("human", "cautious"))
    with torch.no_grad():
        student.bias.fill_(3e38)
    config = TrainingConfig(steps=3, loss="bce")
    with pytest.raises(T2TError, match="the loss is inf at step 0"):
        train(student, matrix, embeddings, config, 0, lambda student: 0.0)


def test_a_teacher_the_student_does_not_know_is_refused() -> None:
    matrix, embeddings = toy()
    with pytest.raises(T2TError, match="no identity 'cautious'"):
        train(tiny_student(), matrix, embeddings, TrainingConfig(steps=1), 0, lambda student: 0.0)
