"""Addresses of a run history: what cannot be used is told in one line, before MLflow is imported."""

from __future__ import annotations

import contextlib
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from t2t.core.errors import T2TError
from t2t.core.host import check_server
from t2t.integrations.mlflow import door
from t2t.integrations.mlflow.door import check_address, check_artifacts


@pytest.fixture
def server() -> Iterator[Callable[[int, str], str]]:
    """Starts a server that answers everything alike."""
    servers = []

    def start(status: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None: ...

        one = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(one)
        threading.Thread(target=one.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{one.server_port}"

    yield start
    for one in servers:
        one.shutdown()
        one.server_close()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, "<html>Hello</html>", r"what answers there is no MLflow server \(status 200\)"),
        (404, "not found", r"what answers there is no MLflow server \(status 404\)"),
        (401, "You are not authenticated", r"refuses us \(status 401\). Set MLFLOW_TRACKING_USERNAME"),
        (403, "Permission denied", r"refuses us \(status 403\)"),
        (502, "Bad gateway", r"no MLflow server \(status 502\)"),
    ],
)
def test_a_server_that_is_none_of_mlflows(
    server: Callable[[int, str], str], status: int, body: str, words: str
) -> None:
    with pytest.raises(T2TError, match=words) as error:
        check_address(server(status, body))
    assert "\n" not in str(error.value)


def test_a_server_of_mlflows(server: Callable[[int, str], str]) -> None:
    check_address(server(200, '{"experiments": []}'))
    check_address(server(500, '{"error_code": "INTERNAL_ERROR", "message": "x"}'))  # MLflow says the rest itself
    check_artifacts(server(200, "{}"), "mlflow-artifacts:/1")
    with pytest.raises(T2TError, match=r"does not take files \(status 503\)\. Start it with --artifacts-destination"):
        check_artifacts(server(503, ""), "mlflow-artifacts:/1")


def test_prefects_refusal_is_told(server: Callable[[int, str], str]) -> None:
    with pytest.raises(T2TError, match=r"refuses us \(status 401\). Set PREFECT_API_AUTH_STRING"):
        check_server("Prefect", "PREFECT_API_URL", server(401, ""))
    with pytest.raises(T2TError, match="is no Prefect API; its address ends in /api"):
        check_server("Prefect", "PREFECT_API_URL", server(404, ""))
    check_server("Prefect", "PREFECT_API_URL", server(200, "true") + "/api")


def database(path: Path, version: str | None) -> str:
    with sqlite3.connect(path) as opened:
        if version is None:
            opened.execute("CREATE TABLE other (x)")
        else:
            opened.execute("CREATE TABLE alembic_version (version_num)")
            opened.execute("INSERT INTO alembic_version VALUES (?)", (version,))
    opened.close()
    return f"sqlite:///{path}"


def test_databases_that_are_not_mlflows_or_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(T2TError, match="made by a newer MLflow than the one that is installed"):
        check_address(database(tmp_path / "newer.db", "ffffffffffff"))
    with pytest.raises(T2TError, match=r"made by an older MLflow\. Copy it, then .* mlflow db upgrade sqlite:///"):
        check_address(database(tmp_path / "older.db", "451aebb31d03"))
    with pytest.raises(T2TError, match="it is no database of MLflow"):
        check_address(database(tmp_path / "other.db", None))
    (tmp_path / "text.db").write_text("This is a text, and long enough to be taken for a file.")
    with pytest.raises(T2TError, match="cannot be opened: file is not a database"):
        check_address(f"sqlite:///{tmp_path}/text.db")
    with pytest.raises(T2TError, match="cannot be opened: it is a folder"):
        check_address(f"sqlite:///{tmp_path}")
    with pytest.raises(T2TError, match="whose path holds a '\\?'"):
        check_address(f"sqlite:///{tmp_path}/what?/mlflow.db")
    check_address(f"sqlite:///{tmp_path}/new/folder/mlflow.db")
    check_address(f"sqlite:///{tmp_path}/sp ace#%41é'.db")


def test_a_database_server_without_driver_or_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(T2TError, match="driver is not installed here: pip install nothere") as error:
        check_address("postgresql+nothere://me:secret@127.0.0.1/x")
    assert "secret" not in str(error.value)
    monkeypatch.setattr(door, "_installed", lambda _: True)
    with pytest.raises(T2TError, match=r"cannot be opened: .*refused") as error:
        check_address("postgresql://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(error.value)
    with pytest.raises(T2TError, match="Write postgresql:// for postgres://"):
        check_address("postgres://127.0.0.1/x")


def test_files_that_could_not_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(T2TError, match="cannot be written to from here"):
        check_artifacts("http://x", f"{tmp_path}/file/artifacts")
    check_artifacts("sqlite:///x", f"file://{tmp_path}/new%20one")
    monkeypatch.setattr(door, "_installed", lambda _: False)
    with pytest.raises(T2TError, match="not installed: pip install boto3"):
        check_artifacts("http://x", "s3://bucket/x")


def test_what_a_killed_process_left_half_written_is_rolled_back(tmp_path: Path) -> None:
    """Opened for reading only, a database with a hot journal is refused as read-only."""
    path = tmp_path / "mlflow.db"
    uri = database(path, _newest())
    half = (
        "import os, signal, sqlite3, sys\n"
        "opened = sqlite3.connect(sys.argv[1])\n"
        "opened.execute('PRAGMA cache_size = 1')\n"
        "opened.execute('CREATE TABLE half (x)')\n"
        "opened.executemany('INSERT INTO half VALUES (?)', (('x' * 4000,) for _ in range(200)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", half, str(path)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    journal = path.with_name("mlflow.db-journal")
    assert journal.stat().st_size > 0
    check_address(uri)
    assert not journal.exists()
    with contextlib.closing(sqlite3.connect(path)) as opened:
        assert opened.execute("SELECT count(*) FROM half").fetchone() == (0,)


def _newest() -> str:
    """The version of the installed MLflow's databases: the migration that no other one builds on."""
    place = find_spec("mlflow")
    assert place is not None
    assert place.origin is not None
    versions, before = set(), set()
    for file in Path(place.origin).parent.glob("store/db_migrations/versions/*.py"):
        text = file.read_text(encoding="utf-8")
        versions |= set(re.findall(r'^revision = ["\'](\w+)', text, re.MULTILINE))
        before |= set(re.findall(r'^down_revision = ["\'](\w+)', text, re.MULTILINE))
    newest, *others = versions - before
    assert others == []
    return newest
