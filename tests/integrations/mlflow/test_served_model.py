"""`mlflow models serve` on a registered champion, asked over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import numpy as np
import pytest

from t2t.data.embeddings.store import Embeddings
from t2t.integrations.mlflow.store import PRIVATE
from t2t.integrations.mlflow.tracker import MLflowTracker
from t2t.students.checkpoint import load
from tests.helpers import doors
from tests.helpers.doors import LOGIN, REFUSED, strangers
from tests.helpers.embedding import embed_file
from tests.helpers.serving import ENCODER, TOPICS, clip, picture, student_folder
from tests.helpers.worlds import ROOT

pytestmark = pytest.mark.services
OPENER = build_opener(ProxyHandler({}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder whose MLflow store has a champion, and a folder of videos beside it."""
    folder = tmp_path_factory.mktemp("champion")
    picture(folder / "videos" / "a.png")
    picture(folder / "secret.png")
    tracker = MLflowTracker(f"sqlite:///{folder / 'work' / 'mlflow.db'}", folder / "work", "tiny", "camp")
    tracker.open({}, {})
    tracker.start_round(0, {}, {})
    tracker.log_checkpoint(0, student_folder(folder / "student"), {"pr_auc": 0.4}, {"t2t.identity": "vendor"})
    tracker.champion(0)
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    """The served champion's address; the server and all its processes are ended afterwards."""
    mlflow = shutil.which("mlflow", path=str(Path(sys.executable).parent)) or "mlflow"
    port = free_port()
    line = [mlflow, "models", "serve", "-m", "models:/t2t-camp@champion", "--env-manager", "local", "--port", str(port)]
    settings = {**os.environ, **PRIVATE, "OMP_NUM_THREADS": "1", "T2T_SERVE_ROOT": str(place / "videos")}
    settings["T2T_SERVER_LOGIN"] = LOGIN
    settings["MLFLOW_TRACKING_URI"] = f"sqlite:///{place / 'work' / 'mlflow.db'}"
    # MLflow starts `uvicorn` by its name.
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{settings['PATH']}"
    with open(place / "server.log", "wb") as output:
        server = subprocess.Popen(line, env=settings, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and server.poll() is None:
            try:
                OPENER.open(f"http://127.0.0.1:{port}/ping", timeout=2).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail((place / "server.log").read_text()[-3000:])
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def ask(address: str, *rows: dict) -> tuple[int, dict]:
    body = json.dumps({"dataframe_records": list(rows)}).encode()
    status, answer = doors.ask(f"{address}/invocations", LOGIN, body)
    return status, json.loads(answer)


def test_the_champion_answers_for_embeddings_and_videos(place: Path, address: str) -> None:
    student = load(place / "student")
    one = clip(student.input_dim)
    status, answer = ask(address, {"embedding": one.astype(float).tolist(), "topics": TOPICS})
    assert status == 200
    [found] = answer["predictions"]
    assert (found["topics"], found["identity"]) == (TOPICS, "vendor")
    wanted = student.predict(Embeddings.of([one]), np.array([0]), TOPICS, "vendor")[0]
    np.testing.assert_allclose(found["confidences"], wanted, atol=1e-6)

    status, answer = ask(
        address,
        {"video": "a.png", "topics": TOPICS[:2], "identity": "human"},
        {"video": "a.png", "topics": TOPICS, "identity": "vendor"},
    )
    assert status == 200
    embeddings = embed_file(place / "videos" / "a.png", ENCODER)
    for found, topics, identity in zip(answer["predictions"], (TOPICS[:2], TOPICS), ("human", "vendor"), strict=True):
        wanted = student.predict(embeddings, np.array([0]), topics, identity)[0]
        np.testing.assert_allclose(found["confidences"], wanted, atol=1e-6)


@pytest.mark.parametrize("video", ["../secret.png", "/etc/hostname", "http://127.0.0.1:1/a.png"])
def test_files_outside_the_root_are_refused(address: str, place: Path, video: str) -> None:
    status, answer = ask(address, {"video": video, "topics": TOPICS})
    assert status == 400
    assert "not below the folder" in answer["message"] or "no such file" in answer["message"]
    assert str(place) not in json.dumps(answer)
    assert "stack_trace" not in answer


def test_a_wrong_request_is_told_what_is_wrong(address: str) -> None:
    status, answer = ask(address, {"embedding": [[0.5, 0.5]], "topics": TOPICS})
    assert status == 400
    assert "row 0: an embedding has 1 to 1,024 frames of" in answer["message"]
    status, answer = ask(address, {"video": "a.png"})
    assert status == 400
    assert "topics" in answer["message"]


def test_a_served_model_answers_no_stranger(address: str, place: Path) -> None:
    dim = load(place / "student").input_dim
    content = {"dataframe_records": [{"embedding": clip(dim).astype(float).tolist(), "topics": TOPICS}]}
    assert strangers(f"{address}/invocations", LOGIN, content) == {"friend": 200, "own page": 200, **REFUSED}


def test_a_request_that_is_too_large_is_told_so(address: str) -> None:
    status, answer = doors.ask(f"{address}/invocations", LOGIN, b" " * 40_000_000)
    assert status == 400
    assert b"16,777,216 bytes at most" in answer
