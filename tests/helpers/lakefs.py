"""A lakeFS server for tests: the `lakefs` binary on the PATH, or the server at T2T_TEST_LAKEFS_ENDPOINT.

`lakefs_server` gives a test a repository of its own and sets lakeFS's variables, which child processes inherit.
Without binary and endpoint its tests are skipped, and the summary says so.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ENDPOINT = "LAKECTL_SERVER_ENDPOINT_URL"
KEY = "LAKECTL_CREDENTIALS_ACCESS_KEY_ID"
SECRET = "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"
MISSING = "no lakeFS: put the `lakefs` binary on the PATH, or set T2T_TEST_LAKEFS_ENDPOINT and lakeFS's LAKECTL keys"


def available() -> bool:
    return bool(os.environ.get("T2T_TEST_LAKEFS_ENDPOINT") or shutil.which("lakefs"))


# Marks of tests that need a server. Skipped by a mark, the summary says it in a few lines and not in a hundred.
NEEDED = [] if available() else [pytest.mark.skip(reason=MISSING)]
# Parameters of a test that is for both backends.
BACKENDS = ["git", pytest.param("lakefs", marks=NEEDED)]


@dataclass
class LakeFSProcess:
    """A server of ours: everything it writes is in `folder`, it listens on loopback, it calls nobody."""

    binary: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        names = {KEY: f"AKIA{secrets.token_hex(8).upper()}", SECRET: secrets.token_hex(20)}
        self.environment = {ENDPOINT: f"http://{self.address}", **names}

    def start(self) -> None:
        settings = {
            "LISTEN_ADDRESS": self.address,
            "BLOCKSTORE_TYPE": "local",
            "BLOCKSTORE_LOCAL_PATH": str(self.folder / "blocks"),
            "DATABASE_TYPE": "local",
            "DATABASE_LOCAL_PATH": str(self.folder / "metadata"),
            "COMMITTED_LOCAL_CACHE_DIR": str(self.folder / "cache"),
            "AUTH_ENCRYPT_SECRET_KEY": "of a test",
            "INSTALLATION_USER_NAME": "test",
            "INSTALLATION_ACCESS_KEY_ID": self.environment[KEY],
            "INSTALLATION_SECRET_ACCESS_KEY": self.environment[SECRET],
            "STATS_ENABLED": "false",
            "SECURITY_CHECK_LATEST_VERSION": "false",
            "SECURITY_AUDIT_CHECK_URL": "",
            "EMAIL_SUBSCRIPTION_ENABLED": "false",
            "LOGGING_LEVEL": "ERROR",
        }
        environment = {f"LAKEFS_{name}": value for name, value in settings.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "run"],
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment},
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"lakeFS did not start:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/_health", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


@dataclass(frozen=True)
class LakeFSServer:
    """What a test needs: the environment (already set for it) and the URI of a lake that does not exist yet."""

    environment: dict[str, str]
    uri: str


@pytest.fixture(scope="session")
def lakefs_environment(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[dict[str, str]]:
    """Where a server is, for the whole session; started at the first test that asks."""
    if pytestconfig.getoption("markexpr") == "unit":
        pytest.skip("`pytest -m unit` starts no server")
    if endpoint := os.environ.get("T2T_TEST_LAKEFS_ENDPOINT"):
        yield {ENDPOINT: endpoint, **{name: os.environ[name] for name in (KEY, SECRET) if name in os.environ}}
        return
    binary = shutil.which("lakefs")
    if binary is None:
        pytest.skip(MISSING)
    server = LakeFSProcess(binary, tmp_path_factory.mktemp("lakefs"))
    server.start()
    yield server.environment
    server.stop()


@pytest.fixture
def lakefs_server(lakefs_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> LakeFSServer:
    for name, value in lakefs_environment.items():
        monkeypatch.setenv(name, value)
    return LakeFSServer(lakefs_environment, f"lakefs://t2t-test-{secrets.token_hex(6)}")


@pytest.fixture
def lakefs_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LakeFSProcess]:
    """A server of the test's own, running, to stop and start again."""
    binary = shutil.which("lakefs")
    if binary is None:
        pytest.skip(MISSING.split(", or")[0])
    server = LakeFSProcess(binary, tmp_path / "lakefs")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    yield server
    server.stop()
