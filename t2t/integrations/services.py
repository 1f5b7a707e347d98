"""Local services for people without any: a Prefect server for the length of a run, and MLflow's UI on a work folder.

Both listen on loopback only, behind a door that asks for a login and lets no foreign page in (`t2t.integrations.door`),
report nothing to anybody, and leave no process behind: each is started under a guard (`t2t.integrations.guard`).
Services that are to outlive their starter (`make up`) are let go of once they all answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from typing import IO
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from t2t.core.errors import T2TError
from t2t.integrations import guard
from t2t.integrations.door import LOGIN, basic, login_of
from t2t.integrations.guard import POLL, descendants
from t2t.integrations.mlflow.store import server_command, store_path
from t2t.integrations.mlflow.text import CHART, MODE

HOST = "127.0.0.1"
GRACE = 5.0
PRIVATE_MASK = 0o077  # what servers write, databases among it, is their user's only


@contextlib.contextmanager
def prefect_server(
    home: Path, timeout: float = 90, meanwhile: Callable[[], object] = bool, login: str | None = None
) -> Iterator[str]:
    """A Prefect server of one's own, for the length of the block. Yields its API's URL.

    `PREFECT_API_URL`, `PREFECT_API_AUTH_STRING`, `PREFECT_HOME` and the settings that keep Prefect quiet stand in the
    environment for the block and are put back afterwards; a Prefect that was imported already takes them over.

    The history stays in `home` (an SQLite database and `server.log`). A database has one server at a time: while
    another run in the same work folder has one, this takes `home`-2, then `home`-3 and so on. Sharing one server would
    end it for the second run when the first one ends.

    Args:
        home: Prefect's folder; made where it is missing.
        timeout: seconds until the server must answer. The first start makes the database: 22 s on a slow machine.
        meanwhile: what to do while the server starts, with the environment set already.
        login: what it asks for, `user:password`; None: one of its own, which nobody else gets to know.
    Raises:
        T2TError: the server did not come up; the message has the log's last lines.
    """
    login = login or f"t2t:{secrets.token_hex(24)}"
    with _own_folder(Path(home).resolve()) as (home, lock):
        complete = whole_database(home)
        for attempt in range(3):
            port = free_port()
            settings = prefect_settings(home, port, login)
            with (
                _service(prefect_command(port), settings, home / "server.log", lock) as service,
                in_environment(settings),
            ):
                meanwhile()
                address = f"http://{HOST}:{port}"
                if not wait_for(service, lambda: guarded(f"{address}/api", PREFECT_ASKS), timeout):  # noqa: B023
                    # Between choosing the port and using it another process may have taken it.
                    if attempt < 2 and "already in use" in tail(home / "server.log", 200):
                        continue
                    raise failed("Prefect server", home / "server.log", timeout, service)
                complete.touch()
                yield settings["PREFECT_API_URL"]
                return


def mlflow_ui(work: Path, port: int = 5000, timeout: float = 60) -> None:
    """Serves the run history of a work folder until Ctrl-C, and prints where to look at it.

    One process, loopback only, job execution and telemetry off: 0.5 GB instead of MLflow's default of 2.5 GB.

    Raises:
        T2TError: there is no history yet, the port is taken, or the server did not come up.
    """
    database = store_path(work)
    if not database.exists():
        raise T2TError(f"{database} does not exist: run a campaign first.")
    if reason := port_taken(port):
        raise T2TError(f"Port {port} cannot be used ({reason}): choose another one with --port.")
    command, settings = server_command(database, port)
    output = database.with_name("mlflow-ui.log")
    # `t2t ui &` in a script, or a supervisor, ends it with SIGTERM: leave as with Ctrl-C.
    with _service(command, settings, output) as service, _terminated_as_interrupt():
        try:
            if not wait_for(service, lambda: guarded(f"http://{HOST}:{port}", MLFLOW_ASKS), timeout):
                raise failed("MLflow server", output, timeout, service)
            login = login_of(database.parent)
            name, _, password = login.partition(":")
            for experiment, page in charts(f"http://{HOST}:{port}", login):
                print(f"{experiment}: {page}", flush=True)
            print(f"It asks who you are: user {name}, password {password}\nCtrl-C ends it.", flush=True)
            if service.wait():
                raise failed("MLflow server", output, timeout, service)
        except KeyboardInterrupt:
            print(flush=True)


def charts(server: str, login: str) -> list[tuple[str, str]]:
    """The experiments of an MLflow server that have runs of ours, by name, each with the page of its chart; the list
    of all experiments where there is none."""
    wanted = Request(f"{server}/api/2.0/mlflow/experiments/search?max_results=100")
    wanted.add_header("Authorization", basic(login))
    try:
        with build_opener(ProxyHandler({})).open(wanted, timeout=10) as response:
            found = json.load(response).get("experiments", [])
    except (OSError, HTTPException, ValueError):
        found = []  # it answered a moment ago; the list shows them
    pages = [(one["name"], f"{server}/#/experiments/{one['experiment_id']}{CHART}") for one in found]
    pages = [(name, page) for name, page in pages if name != "Default"]  # MLflow's own, which is empty
    return pages or [("MLflow", f"{server}/#/experiments{MODE}")]


# Pieces


@contextlib.contextmanager
def _own_folder(wanted: Path) -> Iterator[tuple[Path, IO[str]]]:
    """The first of wanted, wanted-2, … that no server uses, locked. The guard inherits the lock, so it
    is held until the service is gone, however this process ends."""
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        with open(folder / "server.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                number += 1
                continue
            yield folder, lock
            return


def whole_database(home: Path) -> Path:
    """Removes an SQLite database that never served: it was killed while it was made, and the history is a convenience,
    so it is made anew. Returns the file that is to be made once the server answers."""
    complete = home / "complete"
    if not complete.exists():
        for file in home.glob("prefect.db*"):
            file.unlink()
    return complete


def prefect_command(port: int) -> list[str]:
    """Prefect's server, with its services, behind our door."""
    line = [sys.executable, "-m", "uvicorn", "--factory", "t2t.integrations.prefect.server:app", "--host", HOST]
    return [*line, "--port", str(port), "--log-level", "warning"]


def prefect_settings(home: Path, port: int, login: str) -> dict[str, str]:
    """The environment of a server, and of those who use it."""
    url = f"http://{HOST}:{port}/api"
    no_proxy = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST)))
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": login,
        LOGIN: login,
        "PREFECT_UI_API_URL": url,
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "DO_NOT_TRACK": "true",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def launch(
    command: list[str],
    settings: Mapping[str, str],
    output: Path,
    lock: IO[str] | None = None,
    *,
    cwd: Path | None = None,
    user: str | None = None,
    stop: int = signal.SIGTERM,
    grace: float = GRACE,
    mask: int = PRIVATE_MASK,
) -> subprocess.Popen[bytes]:
    """Starts a command under a guard of this process; what it prints goes to `output`, which is written anew and which
    only this user can read.

    Args:
        settings: what its environment has beside this process's.
        lock: a locked file; the guard inherits the lock and keeps it until the service is gone.
        user, stop, grace: as in `guard.guard`.
        mask: the rights that files of the service do not have.
    Returns:
        the guard. SIGTERM ends it and the service, SIGUSR1 lets both outlive this process.
    """
    options = {"owner": os.getpid(), "user": user, "stop": int(stop), "grace": grace}
    line = [sys.executable, "-I", "-S", str(Path(guard.__file__).resolve()), json.dumps(options)]
    with open(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
        os.fchmod(log.fileno(), 0o600)  # one that was there
        return subprocess.Popen(
            [*line, *command],
            env={**os.environ, **settings},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=mask,
            pass_fds=(lock.fileno(),) if lock else (),
        )


@contextlib.contextmanager
def _service(
    command: list[str], settings: Mapping[str, str], output: Path, lock: IO[str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command under a guard for the length of the block."""
    process = launch(command, settings, output, lock)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE + 3)
        except BaseException:
            # Too slow, or a second Ctrl-C.
            for pid in [*descendants(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            raise


@contextlib.contextmanager
def in_environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for the block, and has Prefect read them where it was imported before or within."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    _refresh_prefect()
    try:
        yield
    finally:
        _drain_prefect()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _refresh_prefect()


def _drain_prefect() -> None:
    """Lets Prefect's background threads send what they have, while the server is still there."""
    for module, worker in (("prefect.logging.handlers", "APILogWorker"), ("prefect.events.worker", "EventsWorker")):
        if module in sys.modules:
            getattr(sys.modules[module], worker).drain_all(timeout=5)


def _refresh_prefect() -> None:
    context = sys.modules.get("prefect.context")
    if context is not None:
        context.refresh_global_settings_context()


@contextlib.contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_taken(port: int) -> str | None:
    """Why nothing can listen on a port of the loopback interface; None if something can."""
    if not 0 < port < 1 << 16:
        return "ports are 1 to 65535"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror
    return None


def listens(pid: int, port: int) -> bool:
    """Whether a process below `pid` listens on a port; True where /proc does not tell.

    Of two services that were given the same port, the one that gets none must not take the other's answer for its own.
    """
    try:
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return True
    # Columns: 1 is the local address and port in hexadecimal, 3 the state (0A: it listens), 9 the inode.
    ours = {f"socket:[{fields[9]}]" for fields in sockets if fields[3] == "0A" and fields[1].endswith(f":{port:04X}")}
    for process in descendants(pid):
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(file) in ours:
                        return True
    return False


def answers(url: str) -> bool:
    """Whether a server on this machine answers at `url` without an error."""
    try:
        build_opener(ProxyHandler({})).open(url, timeout=2).close()
    except (OSError, HTTPException):
        return False
    return True


PREFECT_ASKS, MLFLOW_ASKS = "/admin/version", "/api/2.0/mlflow/experiments/search?max_results=1"


def guarded(url: str, path: str) -> bool:
    """Whether a server is up (`url`/health) and refuses who has no login: one whose door is open never counts as up.

    Args:
        path: below `url`, what is answered to nobody without a login.
    """
    if not answers(f"{url}/health"):
        return False
    try:
        build_opener(ProxyHandler({})).open(f"{url}{path}", timeout=2).close()
    except HTTPError as error:
        return error.code == 401
    except (OSError, HTTPException):
        return False
    return False


def wait_for(service: subprocess.Popen[bytes], ready: Callable[[], bool], timeout: float) -> bool:
    """Whether `ready` is true before the time is up or the service ends."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and service.poll() is None:
        if ready():
            return True
        time.sleep(POLL)
    return False


def tail(output: Path, lines: int = 15) -> str:
    return "\n".join(output.read_text(errors="replace").splitlines()[-lines:])


def failed(name: str, output: Path, timeout: float, service: subprocess.Popen[bytes]) -> Exception:
    ended = service.poll()
    what = f"did not answer within {timeout:.0f} s" if ended is None else f"ended by itself (exit status {ended})"
    return T2TError(f"The {name} {what}. The end of {output}:\n{tail(output)}")
