"""Local services for people without any: a Prefect server for the length of a run, and MLflow's UI on a work folder.

Both listen on loopback only, report nothing to anybody, and leave no process behind. A service is started through a
*guard*: a small process (this file run as a script, standard library only) in a session of its own. A Ctrl-C in the
terminal therefore does not reach the service before the flow that uses it has ended, and the guard ends the service
with all its processes when it is told to, or when the process that started it is gone, be it by SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn
from urllib.request import ProxyHandler, build_opener

HOST = "127.0.0.1"
GRACE = 5.0
POLL = 0.2
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


# The guard


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the guard's polling has to do."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _descendants(pid: int) -> list[int]:
    """All processes below `pid`, where /proc tells; a zombie counts until it has been waited for."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold anything, so read from the last one on: state, parent.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _guard(owner: int, command: list[str]) -> int:
    """Runs `command` until it ends, SIGTERM comes, or the process `owner` is gone; then ends all that is left of it."""
    stop = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the service leaves behind becomes our child, so that we find it

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # should somebody kill the guard itself

    service = subprocess.Popen(command, preexec_fn=prepare, process_group=0)
    while service.poll() is None and not stop and os.getppid() == owner:
        time.sleep(POLL)
    _end_all(service)
    return service.returncode if service.returncode is not None else 0


def _end_all(service: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + GRACE
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(service.pid, sign)
        if sign == signal.SIGKILL:
            for pid in _descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            end = time.monotonic() + 1
        while time.monotonic() < end:
            service.poll()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not _descendants(os.getpid()) and service.poll() is not None:
                return
            time.sleep(0.05)


# What callers use


@contextlib.contextmanager
def prefect_server(home: Path, timeout: float = 90, meanwhile: Callable[[], object] = bool) -> Iterator[str]:
    """A Prefect server of one's own, for the length of the block. Yields its API's URL.

    `PREFECT_API_URL`, `PREFECT_HOME` and the settings that keep Prefect quiet stand in the environment for the block
    and are put back afterwards; a Prefect that was imported already takes them over.

    The history stays in `home` (an SQLite database and `server.log`). A database has one server at a time: while
    another run in the same work folder has one, this takes `home`-2, then `home`-3 and so on. Sharing one server would
    end it for the second run when the first one ends.

    Args:
        home: Prefect's folder; made where it is missing.
        timeout: seconds until the server must answer. The first start makes the database: 22 s on a slow machine.
        meanwhile: what to do while the server starts, with the environment set already.
    Raises:
        T2TError: the server did not come up; the message has the log's last lines.
    """
    with _own_folder(Path(home).resolve()) as (home, lock):
        # A database that never served was killed while it was made; the history is a convenience, so make it anew.
        complete = home / "complete"
        if not complete.exists():
            for file in home.glob("prefect.db*"):
                file.unlink()
        for attempt in range(3):
            port = _free_port()
            settings = _prefect_settings(home, port)
            with (
                _service(_prefect_command(port), settings, home / "server.log", lock) as service,
                _environment(settings),
            ):
                meanwhile()
                address = f"http://{HOST}:{port}"
                if not _wait(service, f"{address}/api/health", timeout):
                    # Between choosing the port and using it another process may have taken it.
                    if attempt < 2 and "already in use" in _tail(home / "server.log"):
                        continue
                    raise _failed("Prefect server", home / "server.log", timeout, service)
                complete.touch()
                yield settings["PREFECT_API_URL"]
                return


def mlflow_ui(work: Path, port: int = 5000, timeout: float = 60) -> None:
    """Serves the run history of a work folder until Ctrl-C, and prints where to look at it.

    One process, loopback only, job execution and telemetry off: 0.5 GB instead of MLflow's default of 2.5 GB.

    Raises:
        T2TError: there is no history yet, the port is taken, or the server did not come up.
    """
    from t2t.errors import T2TError
    from t2t.mlflow_store import server_command, store_path
    from t2t.tracking import MODE

    database = store_path(work)
    if not database.exists():
        raise T2TError(f"{database} does not exist: run a campaign first.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise T2TError(f"Port {port} cannot be used ({error.strerror}): choose another one with --port.") from None
    command, settings = server_command(database, port)
    output = database.with_name("mlflow-ui.log")
    # `t2t ui &` in a script, or a supervisor, ends it with SIGTERM: leave as with Ctrl-C.
    with _service(command, settings, output) as service, _terminated_as_interrupt():
        try:
            if not _wait(service, f"http://{HOST}:{port}/health", timeout):
                raise _failed("MLflow server", output, timeout, service)
            print(f"MLflow: http://{HOST}:{port}/#/experiments{MODE}\nCtrl-C ends it.", flush=True)
            if service.wait():
                raise _failed("MLflow server", output, timeout, service)
        except KeyboardInterrupt:
            print(flush=True)


# Pieces


@contextlib.contextmanager
def _own_folder(wanted: Path) -> Iterator[tuple[Path, IO[str]]]:
    """The first of wanted, wanted-2, … that no server uses, locked. The guard inherits the lock, so it
    is held until the service is gone, however this process ends."""
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "server.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                number += 1
                continue
            yield folder, lock
            return


def _prefect_command(port: int) -> list[str]:
    return [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]


def _prefect_settings(home: Path, port: int) -> dict[str, str]:
    url = f"http://{HOST}:{port}/api"
    no_proxy = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST)))
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_UI_API_URL": url,
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "DO_NOT_TRACK": "true",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


@contextlib.contextmanager
def _service(
    command: list[str], settings: Mapping[str, str], output: Path, lock: IO[str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command under a guard for the length of the block."""
    guard = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid())]
    with open(output, "wb") as log:
        process = subprocess.Popen(
            [*guard, *command],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock.fileno(),) if lock else (),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE + 3)
        except BaseException:
            # Too slow, or a second Ctrl-C.
            for pid in [*_descendants(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            raise


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait(service: subprocess.Popen[bytes], url: str, timeout: float) -> bool:
    """Whether `url` answers before the time is up or the service ends."""
    opener = build_opener(ProxyHandler({}))
    end = time.monotonic() + timeout
    while time.monotonic() < end and service.poll() is None:
        try:
            opener.open(url, timeout=2).close()
        except OSError:
            time.sleep(POLL)
        else:
            return True
    return False


def _tail(output: Path, lines: int = 15) -> str:
    return "\n".join(output.read_text(errors="replace").splitlines()[-lines:])


def _failed(name: str, output: Path, timeout: float, service: subprocess.Popen[bytes]) -> Exception:
    from t2t.errors import T2TError

    ended = service.poll()
    what = f"did not answer within {timeout:.0f} s" if ended is None else f"ended by itself (exit status {ended})"
    return T2TError(f"The {name} {what}. The end of {output}:\n{_tail(output)}")


def _main() -> NoReturn:
    sys.exit(_guard(int(sys.argv[1]), sys.argv[2:]))


if __name__ == "__main__":
    _main()
