"""`training.workers: 2` on one machine: helpers that take part, that are missed when they die, and that never stay."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml

from t2t.campaign import CampaignConfig
from t2t.cluster.workers import helpers
from t2t.config import parse
from t2t.errors import T2TError
from t2t.registry import Workspace
from t2t.rounds import Rounds
from t2t.students.dual_encoder import Student
from tests.cluster.processes import descendants
from tests.conftest import CAMPAIGN


def campaign(world: Path, work: Path) -> Rounds:
    content = {"name": "tiny", **yaml.safe_load(CAMPAIGN), "teachers": ["vendor"]}
    content["training"] = {**content["training"], "workers": 2, "snapshot_steps": 5}
    return Rounds(parse(CampaignConfig, content, "test"), Workspace.find(world / "registry", world / "data", work))


@pytest.mark.services
@pytest.mark.timeout(900)
def test_a_helper_that_is_killed_stops_the_training_in_words_and_the_next_run_goes_on(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = campaign(world, tmp_path / "work")
    rounds.prepare()

    def kill_the_helper(k: int, curve: object) -> None:
        for pid in descendants(os.getpid()):
            if b"t2t.cluster.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(rounds.report, "curve", kill_the_helper)
        with pytest.raises(T2TError, match=r"Worker 1 of the training ended with status -9: .* goes on from its last"):
            rounds.train(0)
    assert not descendants(os.getpid())
    with caplog.at_level("INFO", "t2t"):
        campaign(world, tmp_path / "work").train(0)
    assert "goes on at step 15" in caplog.text
    assert Student.load(rounds.round_folder(0) / "student").teachers == ["human", "vendor"]
    assert not descendants(os.getpid())
    assert not list((tmp_path / "work").glob(".staging-*"))


def test_more_workers_than_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with (
        pytest.raises(T2TError, match="workers is 4, but this machine has 2 GPUs"),
        helpers(None, 4, "cuda", tmp_path),  # type: ignore[arg-type]
    ):
        pass
