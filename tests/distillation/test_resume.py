"""A distillation that is killed and goes on leaves the same encoder, byte for byte, as one that never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from t2t.distillation.config import DistillationConfig
from t2t.distillation.student import EncoderStudent
from tests.helpers.distilling import Mirrored, Striped, Teacher, configured, run, two_teachers
from tests.helpers.worlds import ROOT

# Drawn paths, moving batch statistics, moving weights: all that has a state or draws something.
ALL: dict[str, Any] = {"student": {"model": "test_efficientnet", "drop_path": 0.3}, "balance": "mtard"}


class Cut(Exception):
    """Stands for a kill."""


class CutViews(Mirrored):
    """Views that end the training when so many batches have been asked for."""

    def __init__(self, after: int):
        super().__init__()
        self.left = after

    def __call__(self, frames: np.ndarray, seed: int, step: int) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise Cut
        return super().__call__(frames, seed, step)


def cut_off(path: Path, after: int, config: DistillationConfig) -> None:
    with pytest.raises(Cut):
        run(config, snapshot=path, views=CutViews(after))


def same(first: EncoderStudent, second: EncoderStudent) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "cut"), [({}, 1), ({}, 5), ({}, 9), (ALL, 8), ({"standardise": {"by": "phi-s"}}, 6)]
)
def test_going_on_after_a_cut_gives_the_same_student(tmp_path: Path, changes: dict[str, Any], cut: int) -> None:
    config = configured(**changes)
    told: list[int] = []
    whole, distilled = run(config)
    path = tmp_path / "snapshot.safetensors"
    cut_off(path, cut, config)
    assert path.exists() == (cut > 4)
    torch.manual_seed(99)
    again, resumed = run(config, snapshot=path, report=lambda step, point: told.append(step))
    assert same(whole, again)
    assert resumed == distilled
    # The earlier points are told again: whoever listens may have been killed before it wrote them down.
    assert told == [step for step, _ in distilled.curve]


def test_many_cuts_in_one_distillation(tmp_path: Path) -> None:
    whole, distilled = run(configured(**ALL))
    path, cuts = tmp_path / "snapshot.safetensors", 0
    while True:
        try:
            again, resumed = run(configured(**ALL), snapshot=path, views=CutViews(5))
            break
        except Cut:
            cuts += 1
    assert cuts >= 2
    assert same(whole, again)
    assert resumed == distilled


def test_a_finished_distillation_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.safetensors"
    whole, distilled = run(snapshot=path)
    teachers = two_teachers()
    again, resumed = run(snapshot=path, teachers=teachers)
    assert [teacher.looks for teacher in teachers] == [0, 0]
    assert same(whole, again)
    assert resumed == distilled


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({"training": {"seed": 1}}, {}),
        ({"drop": {"rate": 0.25}}, {}),
        ({"projectors": {"ladder": False}}, {}),
        ({}, {"frames": Striped(key="others")}),
        ({}, {"teachers": [Teacher("vit", "test_vit", 2.0), Teacher("resnet", "test_resnet")]}),
    ],
)
def test_a_snapshot_of_another_distillation_is_not_taken_up(
    tmp_path: Path, changes: dict[str, Any], given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "snapshot.safetensors"
    cut_off(path, 6, configured())
    with caplog.at_level("INFO", "t2t"):
        run(configured(**changes), snapshot=path, **given)
    assert "belongs to another training" in caplog.text


def test_what_says_nothing_of_the_learning_may_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "snapshot.safetensors"
    cut_off(path, 6, configured())
    changes = {
        "name": "other",
        "description": "x",
        "lake": "git:elsewhere",
        "training": {"snapshot_minutes": 1},
        "evaluation": {"probe": False},
    }
    with caplog.at_level("INFO", "t2t"):
        run(configured(**changes), snapshot=path)
    assert "goes on at step" in caplog.text


def start(folder: Path, rank: int = 0, size: int = 1, pause: float = 0.0) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.distilling", str(folder), str(rank), str(size), str(pause)]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, "it ended before it wrote a snapshot"
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_kill_in_the_middle_and_going_on_leaves_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = start(killed, pause=0.3)
    wait_for(killed / "snapshot.safetensors", first)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not (killed / "model.safetensors").exists()
    with safe_open(killed / "snapshot.safetensors", "pt") as file:
        assert 0 < json.loads(file.metadata()["facts"])["step"] < 12
    processes = [start(killed), start(whole)]
    assert [process.wait(240) for process in processes] == [0, 0]
    for name in ("model.safetensors", "curve.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def both(folder: Path, pause: float = 0.0) -> list[subprocess.Popen[bytes]]:
    return [start(folder, rank, 2, pause) for rank in range(2)]


@pytest.mark.services
def test_two_workers_come_to_the_student_of_one_and_go_on_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = both(killed, pause=0.5)
    wait_for(killed / "snapshot.safetensors", first[0])
    for process in first:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    (killed / "meeting").unlink()
    for processes in (both(killed), both(whole)):
        assert [process.wait(240) for process in processes] == [0, 0]
    for name in ("model.safetensors", "curve.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    _, distilled = run(views=Mirrored(drawn=False))
    theirs = json.loads((whole / "curve.json").read_text())
    for (step, mine), (other_step, point) in zip(distilled.curve, theirs, strict=True):
        assert step == other_step
        assert point == pytest.approx(mine, rel=2e-3)
