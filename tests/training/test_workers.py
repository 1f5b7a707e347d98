"""`training.workers: 2` on one machine: helpers that take part, that are missed when they die, and that never stay."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from t2t.campaign.campaign import Campaign
from t2t.campaign.observer import Observer
from t2t.core.errors import T2TError
from t2t.students.checkpoint import load
from t2t.training.processes import helpers
from tests.helpers.campaigns import prepared, run_until, tiny
from tests.helpers.processes import descendants
from tests.helpers.worlds import CAMPAIGN


def campaign(world: Path, work: Path) -> Campaign:
    return tiny(world, work, training={**yaml.safe_load(CAMPAIGN)["training"], "workers": 2, "snapshot_steps": 5})


def workers() -> list[int]:
    """The training's helpers that run; the processes that decode videos live as long as this one."""
    found = []
    for pid in descendants(os.getpid()):
        with suppress(OSError):  # it ended meanwhile
            if b"t2t.training.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


class Killer(Observer):
    """Kills the helper when it is told of the curve's first point."""

    def curve(self, *_: object) -> None:
        for pid in workers():
            os.kill(pid, signal.SIGKILL)


@pytest.mark.services
@pytest.mark.timeout(900)
def test_a_helper_that_is_killed_stops_the_training_in_words_and_the_next_run_goes_on(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = prepared(campaign(world, tmp_path / "work"))
    with pytest.raises(T2TError, match=r"Worker 1 of the training ended with status -9: .* goes on from its last"):
        run_until(first, "round 0: train", Killer())
    assert not workers()
    with caplog.at_level("INFO", "t2t"):
        run_until(campaign(world, tmp_path / "work"), "round 0: train")
    assert "goes on at step 15" in caplog.text
    assert load(first.files(0).student).teachers == ["human", "vendor"]
    assert not workers()
    assert not list((tmp_path / "work").glob(".staging-*"))


def test_more_workers_than_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with (
        pytest.raises(T2TError, match="workers is 4, but this machine has 2 GPUs"),
        helpers(None, 4, "cuda", tmp_path),  # type: ignore[arg-type]
    ):
        pass
