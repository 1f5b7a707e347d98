"""What goes wrong around a campaign, and what comes of it (docs/recovery.md has the table)."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from t2t.core.locks import Exclusive
from t2t.integrations.door import login_of
from t2t.integrations.mlflow.store import server_command
from tests.helpers.crash import SETTINGS, Place, Victims, differences, outcome
from tests.helpers.processes import left_behind
from tests.helpers.worlds import ROOT, command


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims() as server:
        yield server


@pytest.fixture(scope="module")
def whole(victims: Victims, world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any]]:
    """A campaign that nobody disturbs, and what it comes to."""
    place = Place(world, tmp_path_factory.mktemp("whole") / "work")
    assert victims.run(place) == 0, place.log.read_text()[-3000:]
    return place, outcome(place)


@pytest.mark.parametrize(
    "point",
    [
        "before rename round-000/student",
        "before log_artifacts",
        "before merge tiny-round-1",
    ],
)
def test_a_full_disk_ends_the_run_in_words_and_it_goes_on(point, victims, whole, world, tmp_path):
    place = Place(world, tmp_path / "work")
    assert victims.run(place, at=point, action="full") == 1
    assert "explained: The disk is full" in place.log.read_text()
    assert victims.run(place) == 0, place.log.read_text()[-3000:]
    assert differences(whole[1], outcome(place)) == []


def test_a_disk_that_is_really_full(victims, whole, world, tmp_path):
    """A file system of its own that is too small, then large enough."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        place = Place(world, disk / "work", logs=tmp_path)
        ends = []
        for size in (1.5, 2, 2.5, 3, 20):
            subprocess.run(["mount", "-o", f"remount,size={int(size * 1024)}k", str(disk)], check=True)
            ends.append(victims.run(place))
        assert ends[0] == 1
        assert ends[-1] == 0, place.log.read_text()[-3000:]
        assert place.log.read_text().count("explained: The disk is full") == sum(ends)
        assert differences(whole[1], outcome(place)) == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_clock_that_goes_backwards_changes_nothing(victims, whole, world, tmp_path):
    place = Place(world, tmp_path / "work")
    assert victims.run(place, at="after merge tiny-round-0") == -9
    assert victims.run(place, at="before log_checkpoint 1", clock=-3 * 86400) == -9
    assert victims.run(place, clock=-6 * 86400) == 0, place.log.read_text()[-3000:]
    assert differences(whole[1], outcome(place)) == []


def test_a_history_that_was_lost_is_made_again_from_the_ledger(victims, whole, world, tmp_path):
    place = Place(world, tmp_path / "work")
    shutil.copytree(whole[0].work, place.work)
    (place.work / "mlflow.db").unlink()
    shutil.rmtree(place.work / "mlartifacts")
    assert victims.run(place) == 0, place.log.read_text()[-3000:]
    assert "training" not in place.log.read_text().replace("Round 0: training data", "")
    assert differences(whole[1], outcome(place)) == []


def test_a_second_run_of_a_campaign_is_refused_with_the_firsts_host_and_process(t2t, tmp_path):
    work = tmp_path / "work"
    with Exclusive(work / "campaigns" / "tiny" / "run.lock", "Campaign 'tiny'"):
        second = t2t("run", "tiny", work=work)
    assert second.returncode == 1
    assert f"is being run by process {os.getpid()} on host {platform.node()}" in second.stderr
    assert "Traceback" not in second.stderr
    assert not (work / "prefect").exists()  # refused before a server was started


def test_a_lock_goes_with_its_process(victims, world, tmp_path):
    place = Place(world, tmp_path / "work")
    assert victims.run(place, at="after open") == -9
    with Exclusive(place.work / "campaigns" / "tiny" / "run.lock", "Campaign 'tiny'"):
        pass


def test_an_mlflow_server_that_is_restarted_in_the_middle(whole, world, tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"

    def start() -> subprocess.Popen:
        line, settings = server_command(tmp_path / "server" / "mlflow.db", port)
        (tmp_path / "server").mkdir(exist_ok=True)
        with open(tmp_path / "server.log", "ab") as log:
            server = subprocess.Popen(
                line, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(600):
            try:
                urlopen(f"{address}/health", timeout=2).close()
                return server
            except OSError:
                assert server.poll() is None, (tmp_path / "server.log").read_text()[-3000:]
                time.sleep(0.1)
        raise AssertionError("the MLflow server did not answer")

    place = Place(world, tmp_path / "work")
    server = start()
    user, _, password = login_of(tmp_path / "server").partition(":")
    login = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    try:
        status: list[int] = []
        # A call whose answer is lost is repeated after pauses that double; a small first one keeps the test short.
        with Victims(show={"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1", **login}) as own:
            trace, at = tmp_path / "trace", "after start_round 1"
            trace.touch()
            order = {"trace": str(trace), "at": at, "action": "wait"}
            thread = threading.Thread(target=lambda: status.append(own.run(place, **order)))
            thread.start()
            while at not in trace.read_text():
                assert thread.is_alive(), place.log.read_text()[-3000:]
                time.sleep(0.05)
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            Path(f"{trace}.go").touch()
            server = start()
            thread.join(240)
        assert status == [0], place.log.read_text()[-3000:]
        found = outcome(place, address)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert differences(whole[1], found) == []


def test_t2t_run_killed_and_started_again_repairs_prefect_and_mlflow(whole, world, tmp_path):
    place = Place(world, tmp_path / "work")
    settings = [part for setting in [*SETTINGS, "lake=git"] for part in ("--set", setting)]
    line, environment = command(world, place.work, "run", "tiny", *settings)
    environment["OMP_NUM_THREADS"] = "1"
    process = subprocess.Popen(line, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for text in process.stderr:
        if "Round 1" in text and "rows" in text:
            break
    process.kill()
    process.stderr.read()
    process.wait()
    for _ in range(100):
        if not left_behind(place.work):
            break
        time.sleep(0.1)
    assert left_behind(place.work) == []  # the server is gone with the process that had started it

    again = subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert left_behind(place.work) == []
    with sqlite3.connect(f"file:{place.work / 'prefect' / 'prefect.db'}?mode=ro", uri=True) as database:
        states = [state for (state,) in database.execute("select state_type from flow_run order by created")]
        tasks = {state for (state,) in database.execute("select state_type from task_run")}
    assert states == ["CRASHED", "COMPLETED"]
    assert tasks <= {"COMPLETED", "CRASHED"}
    assert differences(whole[1], outcome(place)) == []
