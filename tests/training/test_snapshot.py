"""Snapshots: a training that is cut off at any step and goes on gives the same student as one that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from t2t.students.dual_encoder import Student
from t2t.training.config import TrainingConfig
from t2t.training.loop import Trained, train
from tests.helpers.students import tiny_config, tiny_student
from tests.helpers.training import NOISY, pr_auc, toy

STEPS = 14


class Cut(Exception):
    """Stands for a kill."""


def run(path: Path | None, cut: int | None = None, seed: int = 0, **changes: Any) -> tuple[Student, Trained, list]:
    """Trains the toy student; with `cut`, stops when so many batches have been taken."""
    matrix, embeddings = toy()
    text = {"dropout": 0.2} if changes.pop("text_dropout", False) else {}
    student = tiny_student(tiny_config(text, scale=3.0), teachers=("human", "cautious"))
    settings = {"steps": STEPS, "batch_rows": 64, "evaluate_every": 5, "learning_rate": 0.01, "snapshot_steps": 3}
    told: list[int] = []
    taken = 0

    def count(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if cut is not None and taken > cut:
            raise Cut

    handle = student.project.register_forward_pre_hook(lambda module, args: count() if module.training else None)
    config = TrainingConfig(**{**settings, **changes})
    try:
        trained = train(
            student,
            matrix,
            embeddings,
            config,
            seed,
            lambda student: pr_auc(student, embeddings),
            report=lambda step, _: told.append(step),
            snapshot=path,
        )
    finally:
        handle.remove()
    return student, trained, told


def same(first: Student, second: Student) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("changes", [{}, NOISY, {"loss": "bce", "text_dropout": True}])
@pytest.mark.parametrize("cut", [1, 4, 6, 13])
def test_going_on_after_a_cut_gives_the_same_student(tmp_path: Path, changes: dict[str, Any], cut: int) -> None:
    whole, trained, told = run(None, **changes)
    path = tmp_path / "training.safetensors"
    with pytest.raises(Cut):
        run(path, cut, **changes)
    assert path.exists() == (cut >= 3)
    torch.manual_seed(99)
    again, resumed, told_again = run(path, **changes)
    assert same(whole, again)
    assert resumed == trained
    # The earlier points are told again: whoever listens may have been killed before it wrote them down.
    assert told_again == told


def test_many_cuts_in_one_training(tmp_path: Path) -> None:
    whole, trained, _ = run(None, **NOISY)
    path = tmp_path / "training.safetensors"
    cuts = 0
    while True:
        try:
            again, resumed, _ = run(path, 4, **NOISY)
            break
        except Cut:
            cuts += 1
    assert cuts >= 3
    assert same(whole, again)
    assert resumed == trained


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    whole, trained, _ = run(path)
    again, resumed, _ = run(path, cut=0)
    assert same(whole, again)
    assert resumed == trained


@pytest.mark.parametrize("changes", [{"seed": 1}, {"learning_rate": 0.02}, {"loss": "bce"}])
def test_a_snapshot_of_another_training_is_not_taken_up(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "training.safetensors"
    run(path)
    whole, trained, _ = run(None, **changes)
    again, resumed, _ = run(path, **changes)
    assert same(whole, again)
    assert resumed == trained


def test_how_often_snapshots_are_made_does_not_make_it_another_training(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    with pytest.raises(Cut):
        run(path, 7)
    again, _, _ = run(path, cut=STEPS - 6, snapshot_steps=5)  # 6 of the steps are not done again
    assert same(run(None)[0], again)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped", "flipped step"])
def test_a_broken_snapshot_is_passed_over(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "training.safetensors"
    with pytest.raises(Cut):
        run(path, 7)
    content = path.read_bytes()
    flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    other = content.replace(b'\\"step\\": 6', b'\\"step\\": 7')
    assert other != content
    broken = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"not a snapshot " * 99}
    path.write_bytes({**broken, "flipped": flipped, "flipped step": other}[damage])
    with caplog.at_level("WARNING", logger="t2t"):
        again, _, _ = run(path)
    assert "cannot be read" in caplog.text
    assert same(run(None)[0], again)
