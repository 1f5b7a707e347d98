"""Two workers on gloo compute what one does: gradients, whole trainings, and trainings that were broken off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from t2t.training.group import ALONE
from tests.helpers.pair import CUT, KINDS, RECIPES, STEPS, Cut, gradients, training, training_of
from tests.helpers.worlds import ROOT

LAST_SNAPSHOT = CUT - CUT % 3

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two workers left (see tests/helpers/pair.py)."""
    folder = tmp_path_factory.mktemp("pair")
    with pytest.raises(Cut):
        training(ALONE, folder / "one.safetensors", CUT)
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.pair", str(folder)]
    both = [
        subprocess.Popen([*command, str(rank)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=500)[1] for worker in both]
    finally:
        for worker in both:
            worker.kill()
            worker.wait()
    assert [worker.returncode for worker in both] == [0, 0], errors
    return folder


def left(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = folder / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        return load_file(path), json.loads(file.metadata()["about"])


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_the_gradients_of_two_workers_are_those_of_one(pair: Path, number: int) -> None:
    one = gradients(ALONE, RECIPES[number])
    for rank in range(2):
        two = load_file(pair / f"gradients-{number}-{rank}.safetensors")
        assert two.keys() == one.keys()
        assert one["0.project.weight"].abs().max() > 1e-4
        assert {value.dtype for value in two.values()} == {torch.float64}
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-12, atol=1e-12, msg=name)


def test_a_whole_training_of_two_workers_comes_to_the_student_of_one(pair: Path) -> None:
    student, trained, told = training(noisy=False)
    state, about = left(pair, "plain")
    assert about["told"] == told == [5, 10, STEPS]
    for (_, mine), (_, theirs) in zip(trained.curve, about["curve"], strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-4)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-3, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_train_a_student_of_another_kind_as_one_does(pair: Path, kind: str) -> None:
    student, trained, told = training_of(kind)
    state, about = left(pair, kind)
    assert about["told"] == told == [5, 10, STEPS]
    for (_, mine), (_, theirs) in zip(trained.curve, about["curve"], strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-4)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-3, msg=name)


def test_a_training_that_was_broken_off_comes_to_the_same_student_bit_for_bit(pair: Path) -> None:
    (whole, first), (gone_on, second) = left(pair, "whole"), left(pair, "gone-on")
    assert second == first
    assert all(torch.equal(gone_on[name], value) for name, value in whole.items())


def test_two_workers_go_on_from_the_snapshot_of_one(pair: Path) -> None:
    state, about = left(pair, "from-one")
    # The curve's first point is that of before.
    assert about["told"] == [5, 10, STEPS]
    with safe_open(pair / "one.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert (facts["step"], facts["workers"]) == (STEPS, 2)
    student, trained, _ = training()
    assert list(trained.curve[0]) == about["curve"][0]
    assert not torch.equal(state["project.weight"], student.state_dict()["project.weight"])
    assert about["curve"][-1][1]["loss"] < about["curve"][0][1]["loss"]


def test_one_worker_goes_on_from_the_snapshot_of_two(
    pair: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = shutil.copy(pair / "left.safetensors", tmp_path / "left.safetensors")
    with caplog.at_level("INFO", "t2t"):
        _, trained, told = training(snapshot=Path(snapshot))
    assert told == [5, 10, STEPS]
    assert f"goes on at step {LAST_SNAPSHOT}" in caplog.text
    assert "It had 2 workers and has 1 now" in caplog.text
    assert [list(trained.curve[0])] == left(pair, "whole")[1]["curve"][:1]
