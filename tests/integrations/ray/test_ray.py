"""A campaign on a real Ray cluster of two nodes on this machine: the labels of one machine, whoever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from t2t.data.demo import make
from t2t.integrations.services import launch
from t2t.lake import Lake, open_lake
from t2t.students.checkpoint import load
from tests.helpers.processes import descendants
from tests.helpers.worlds import CAMPAIGN, ROOT, TINY

pytest.importorskip("ray", reason="needs t2t[ray]")
pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

SPLITS = {**TINY, "unlabeled": 240}
TABLE = "demo/teachers/tiny-self-0/labels.parquet"
# Killed once so many of the 240 parts, each of one sample, are there.
PARTS = 20


@dataclass
class Node:
    """What `ray start --block` started, under a guard that ends all of it with this process, however that ends."""

    guard: subprocess.Popen[bytes]

    def pids(self) -> list[int]:
        return descendants(self.guard.pid)

    def works(self) -> bool:
        """Whether an actor of a pipeline lives here."""
        for pid in self.pids():
            try:
                if b"ray::Map" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return True
            except OSError:
                continue
        return False

    def kill(self) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def end(self) -> None:
        self.guard.terminate()
        self.guard.wait(60)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_node(*arguments: str, log: Path) -> Node:
    """One node with one CPU slot; every port is drawn, since two nodes share this machine's."""
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--block",
        "--num-cpus=1",
        "--node-ip-address=127.0.0.1",
    ]
    drawn = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
    ports = [f"--{name}={free_port()}" for name in (*drawn, "runtime-env-agent-port")]
    ports += ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=200000000", "--disable-usage-stats"]
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return Node(launch([*command, *ports, *arguments], settings, log, cwd=ROOT))


def wait(until: Callable[[], bool], what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, Node, Node]]:
    """A cluster's address, its head and its other node. Sockets need a short path, so this is no folder of pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="t2t-ray-"))
    port = free_port()
    started: list[Node] = []
    try:
        head = [f"--port={port}", "--head", "--include-dashboard=false", f"--temp-dir={folder}"]
        for name, arguments in (("head", head), ("other", [f"--address=127.0.0.1:{port}"])):
            log = folder / f"{name}.log"
            started.append(start_node(*arguments, log=log))
            wait(lambda log=log: b"Ray runtime started" in log.read_bytes(), f"{name}: {log.read_text()}")
        yield f"127.0.0.1:{port}", *started
    finally:
        pids = [pid for node in started for pid in node.pids()]
        for node in reversed(started):
            node.kill()
            node.end()
        wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "Ray's processes to end")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def order(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tiny campaign on a world with more unlabeled clips; each of them is a part of the labels."""
    folder = tmp_path_factory.mktemp("larger")
    make(folder / "data" / "demo", SPLITS, effort=0.05)
    campaign = {"name": "tiny", **yaml.safe_load(CAMPAIGN), "teachers": ["colour-expert", "vendor"]}
    return {"registry": str(world / "registry"), "data": str(folder / "data"), "campaign": campaign, "shard": 1}


def drive(order: dict[str, Any], work: Path, last: str, address: str | None, **changes: Any) -> Any:
    """Starts a driver, which goes on up to and with that step; on a cluster where an address is given."""
    campaign = {**order["campaign"], "engine": "ray" if address else "local", **changes}
    order = {**order, "work": str(work), "campaign": campaign, "last": last}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"RAY_ADDRESS": address} if address else {})}
    command = [sys.executable, "-m", "tests.integrations.ray.driver", json.dumps(order)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(driver: Any) -> str:
    try:
        output = driver.communicate(timeout=400)[0]
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def local(order: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of one machine, its first round done."""
    work = tmp_path_factory.mktemp("local") / "work"
    finish(drive(order, work, "round 0: publish", None))
    return work


@pytest.fixture(scope="module")
def prepared(order: dict[str, Any], nodes: tuple[str, Node, Node], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder whose clips were embedded, and labeled by the outside teachers, on the cluster."""
    work = tmp_path_factory.mktemp("ray") / "work"
    finish(drive(order, work, "prepare", nodes[0]))
    return work


@pytest.fixture(scope="module")
def evaluated(order: dict[str, Any], prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with a student that is about to become a teacher."""
    work = tmp_path_factory.mktemp("trained") / "work"
    shutil.copytree(prepared, work, symlinks=True)
    finish(drive(order, work, "round 0: evaluate", None))
    return work


@pytest.fixture
def publishing(evaluated: Path, tmp_path: Path) -> Path:
    work = tmp_path / "work"
    shutil.copytree(evaluated, work, symlinks=True)
    return work


def content(lake: Lake, path: str) -> bytes:
    with lake.read("main", path) as file:
        return file.read()


def parts(work: Path) -> list[Path]:
    return sorted(work.glob("labeling/*/part-*.parquet"))


def same_labels(work: Path, local: Path) -> None:
    """Every teacher's table is the local engine's, byte for byte; the student's came by one commit, and no part is
    left."""
    here, there = open_lake("git", local), open_lake("git", work)
    tables = [entry.path for entry in here.list("main", "demo/teachers/") if entry.path.endswith("labels.parquet")]
    assert TABLE in tables
    assert len(tables) == 4
    for path in tables:
        assert content(there, path) == content(here, path), path
    assert len([commit for commit in there.log("main") if ":tiny-self-0:" in commit.key]) == 1
    assert parts(work) == []


def test_a_campaign_on_two_nodes_has_the_labels_of_one_machine(order, nodes, publishing, local):
    finish(drive(order, publishing, "round 0: publish", nodes[0]))
    same_labels(publishing, local)
    # One shard of 256 clips and one of the rest, as on one machine, and every clip once.
    shards = [
        sorted(path.stat().st_size for path in work.glob("embeddings/*/*.safetensors")) for work in (publishing, local)
    ]
    assert shards[0] == shards[1]
    assert len(shards[0]) == 2


def test_a_driver_that_is_killed_while_its_student_labels_goes_on(order, nodes, publishing, local):
    driver = drive(order, publishing, "round 0: publish", nodes[0])
    try:
        wait(lambda: len(parts(publishing)) >= PARTS, "labels")
    finally:
        driver.kill()
        driver.communicate()
    assert len(parts(publishing)) < SPLITS["unlabeled"]
    assert "parts are labeled already" in finish(drive(order, publishing, "round 0: publish", nodes[0]))
    same_labels(publishing, local)


def test_two_workers_train_on_the_cluster(order, nodes, prepared, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(prepared, work, symlinks=True)
    training = {**order["campaign"]["training"], "workers": 2}
    finish(drive(order, work, "round 0: evaluate", nodes[0], training=training))
    folder = work / "campaigns" / "tiny" / "round-000"
    student = load(folder / "student")
    assert student.teachers[0] == "human"
    curve = json.loads((folder / "student" / "config.json").read_text())["curve"]
    assert [step for step, _ in curve] == [15, 30]
    assert curve[-1][1]["loss"] < curve[0][1]["loss"]
    # What the cluster left is cleared away.
    assert not (folder / "ray").exists()
    assert not (folder / "training.safetensors").exists()


def test_a_node_that_is_killed_while_it_labels_loses_nothing(order, nodes, publishing, local):
    address, _, other = nodes
    driver = drive(order, publishing, "round 0: publish", address)
    try:
        wait(lambda: len(parts(publishing)) >= PARTS and other.works(), "labels by the second node")
        other.kill()
        killed_at = len(parts(publishing))
        finish(driver)
    finally:
        driver.kill()
        driver.wait()
    assert killed_at < SPLITS["unlabeled"]
    same_labels(publishing, local)
