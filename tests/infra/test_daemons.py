"""Services that outlive their starter: found again, ended with all they started, and never mistaken for a stranger."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from infra.daemons import daemons, private_file
from t2t.core.errors import T2TError
from t2t.integrations.services import free_port, launch
from tests.helpers.processes import gone, line, ready, start, web

STARTER = """
import sys, time
from pathlib import Path
from infra.daemons import daemons
from tests.helpers.processes import ready, web
with daemons(Path(sys.argv[1])) as services:
    print(services.ensure("web", web, ready, int(sys.argv[2])), services._started["web"][0].pid, flush=True)
    if sys.argv[3] == "hang":
        time.sleep(300)
"""


def run_starter(folder: Path, port: int, how: str) -> tuple[subprocess.Popen[str], int, int]:
    """A starter in a process of its own, the port that its service got, and the pid of the service's guard."""
    arguments = [str(folder), str(port), how]
    process = start(f"import sys; sys.argv[1:] = {arguments!r}\n{STARTER}", folder.with_suffix(".errors"))
    got, pid = map(int, line(process).split())
    return process, got, pid


def test_a_service_outlives_its_starter_and_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "services"
    starter, port, pid = run_starter(folder, free_port(), "end")
    assert starter.wait(20) == 0
    with daemons(folder) as services:
        found = services.running("web")
        assert found is not None
        assert (found.port, found.pid) == (port, pid)
        assert services.ensure("web", web, ready, port) == port
        assert services.running("web") == found
    assert ready(port)
    with daemons(folder) as services:
        assert services.stop("web")
        assert services.running("web") is None
        assert not services.stop("web")
    assert gone([pid], 1)
    assert not ready(port)


def test_a_killed_starter_leaves_nothing_and_a_second_command_waits_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "services"
    starter, port, pid = run_starter(folder, free_port(), "hang")
    code = f"""
from pathlib import Path
from infra.daemons import daemons
print("waits", flush=True)
with daemons(Path({str(folder)!r})) as services:
    print(services.running("web"), flush=True)
"""
    second = start(code, tmp_path / "errors")
    try:
        assert line(second) == "waits"
        assert not select.select([second.stdout], [], [], 0.3)[0]
        starter.send_signal(signal.SIGKILL)
        assert line(second) == "None"
        assert second.wait(20) == 0
        assert gone([pid])
        assert not ready(port)
    finally:
        for process in (starter, second):
            process.kill()
            process.wait()


def test_a_service_that_fails_takes_along_what_was_started_with_it_and_no_more(tmp_path: Path) -> None:
    with daemons(tmp_path) as services:
        old = services.ensure("old", web, ready, free_port())
    new = []

    def start_two() -> None:
        with daemons(tmp_path) as services:
            new.append(services.ensure("new", web, ready, free_port()))
            services.ensure("broken", lambda port: (["sh", "-c", "echo no such dialect; exit 3"], {}), ready, 0)

    try:
        with pytest.raises(T2TError, match=r"broken ended by itself \(exit status 3\)") as error:
            start_two()
        assert "no such dialect" in str(error.value)
        assert not ready(new[0])
        assert ready(old)
        with daemons(tmp_path) as services:
            assert services.running("new") is None
    finally:
        with daemons(tmp_path) as services:
            services.stop("old")


def test_the_number_of_a_strangers_process_is_not_ours(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "300"])
    try:
        (tmp_path / "web.pid").write_text(json.dumps({"pid": stranger.pid, "port": 1}))
        with daemons(tmp_path) as services:
            assert services.running("web") is None
            assert not services.stop("web")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_taken_port_is_left_to_its_owner(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with daemons(tmp_path) as services:
            port = services.ensure("web", web, ready, taken)
        try:
            assert port != taken
        finally:
            with daemons(tmp_path) as services:
                assert services.stop("web")


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It got the port between our look and our use of it, and it answers just as ours would."""
    with daemons(tmp_path / "theirs") as theirs:
        taken = theirs.ensure("web", web, ready, free_port())
    try:
        monkeypatch.setattr("infra.daemons.port_taken", lambda port: None)
        with daemons(tmp_path / "ours") as ours:
            port = ours.ensure("web", web, ready, taken)
            assert ours.stop("web")
        assert port != taken
        assert ready(taken)
    finally:
        with daemons(tmp_path / "theirs") as theirs:
            assert theirs.stop("web")


def test_a_service_that_does_not_answer_any_more_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with daemons(tmp_path) as services:
        services.ensure("web", web, ready, free_port())
    try:
        clock = iter(range(0, 1000, 6))
        monkeypatch.setattr("infra.daemons.time.monotonic", lambda: next(clock))
        with pytest.raises(T2TError, match="runs but does not answer"), daemons(tmp_path) as services:
            services.ensure("web", web, lambda port: False, 0)
    finally:
        monkeypatch.undo()
        with daemons(tmp_path) as services:
            assert services.stop("web")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a service as another account")
def test_a_service_can_run_as_another_account(tmp_path: Path) -> None:
    import pwd

    guard = launch(["sh", "-c", "id -un; id -Gn"], {}, tmp_path / "log", cwd=Path("/"), user="nobody")
    assert guard.wait(20) == 0
    name, groups = (tmp_path / "log").read_text().split("\n")[:2]
    assert name == "nobody"
    assert len(groups.split()) == 1
    assert pwd.getpwnam("nobody").pw_uid != 0


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_file(tmp_path / "secret", "first")
        private_file(tmp_path / "secret", "word")
    finally:
        os.umask(before)
    assert (tmp_path / "secret").read_text() == "word"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
