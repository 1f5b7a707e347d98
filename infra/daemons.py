"""Services that outlive the command that started them: started, found again and ended by name, in one folder.

Each has a file `<name>.pid` that its guard keeps locked for as long as the service lives. Whether a service runs is
asked of that lock, so an old file never makes a stranger's process look like ours, and none is ever signalled.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from t2t.core.errors import T2TError
from t2t.integrations.services import (
    GRACE,
    POLL,
    PRIVATE_MASK,
    descendants,
    failed,
    free_port,
    launch,
    listens,
    port_taken,
    tail,
    wait_for,
)

Command = tuple[list[str], Mapping[str, str]]


@dataclass(frozen=True)
class Running:
    """A service: its guard's process id and the port it was given."""

    pid: int
    port: int


def current_mask() -> int:
    """This process's umask, which can only be read by setting it."""
    mask = os.umask(PRIVATE_MASK)
    os.umask(mask)
    return mask


def private_file(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.replace(new, path)


class Daemons:
    """The services of a folder. Use `daemons(folder)`: one process at a time starts and ends services there."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._started: dict[str, tuple[subprocess.Popen[bytes], int]] = {}

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def running(self, name: str) -> Running | None:
        """What runs under a name; None where nothing does."""
        path = self.folder / f"{name}.pid"
        while True:
            try:
                with open(path) as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except FileNotFoundError:
                return None
            except BlockingIOError:
                if name in self._started:
                    guard, port = self._started[name]
                    return Running(guard.pid, port)
                if text := path.read_text():
                    return Running(**json.loads(text))
                # Its starter was killed before it let go of it: it is about to end by itself.
                time.sleep(POLL)

    def ensure(
        self,
        name: str,
        command: Callable[[int], Command],
        ready: Callable[[int], bool],
        port: int,
        timeout: float = 180,
        *,
        cwd: Path | None = None,
        user: str | None = None,
        stop: int = signal.SIGTERM,
        grace: float = GRACE,
        mask: int = PRIVATE_MASK,
    ) -> int:
        """Starts a service unless it runs, and waits until it is ready.

        Args:
            command: from a port, the command line and what its environment has beside ours.
            ready: from its port, whether it can be used.
            port: the one it gets if that is free; else it gets a free one. 0: it needs none.
            cwd, user, stop, grace, mask: as in `launch`.
        Returns:
            its port.
        Raises:
            T2TError: it ended or did not get ready in time; the message has its log's last lines.
        """
        running = self.running(name)
        if running is not None:
            end = time.monotonic() + 10
            while not ready(running.port):
                if time.monotonic() > end or self.running(name) is None:
                    raise T2TError(
                        f"{name} (process {running.pid}) runs but does not answer. Look at {self.log(name)}; "
                        f"`make down` and `make up` start it anew. Its last lines:\n{tail(self.log(name))}"
                    )
                time.sleep(POLL)
            return running.port
        if self.log(name).exists():
            self.log(name).replace(self.folder / f"{name}.log.1")
        for attempt in range(3):
            chosen = port if not port or (attempt == 0 and not port_taken(port)) else free_port()
            line, settings = command(chosen)
            with open(self.folder / f"{name}.pid", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                options = {"cwd": cwd, "user": user, "stop": stop, "grace": grace, "mask": mask}
                guard = launch(line, settings, self.log(name), lock, **options)  # type: ignore[arg-type]
            self._started[name] = guard, chosen
            if wait_for(guard, partial(_is_up, guard.pid, chosen, ready), timeout):
                return chosen
            # Between choosing a port and using it another process may have taken it.
            if attempt == 2 or guard.poll() is None or "in use" not in tail(self.log(name), 200).lower():
                raise failed(name, self.log(name), timeout, guard)
        raise AssertionError("not reached")

    def keep(self) -> None:
        """Lets what was started here outlive this process."""
        for name, (guard, port) in self._started.items():
            (self.folder / f"{name}.pid").write_text(json.dumps({"pid": guard.pid, "port": port}))
            guard.send_signal(signal.SIGUSR1)
        self._started.clear()

    def undo(self) -> None:
        """Ends what was started here, last one first, and leaves what ran before."""
        for guard, _ in reversed(self._started.values()):
            guard.terminate()
            guard.wait()
        self._started.clear()

    def stop(self, name: str, patience: float = 30) -> bool:
        """Ends a service with all its processes, and waits for that; whether there was one."""
        running = self.running(name)
        if running is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGTERM)
        end = time.monotonic() + patience
        while self.running(name) is not None:
            if time.monotonic() > end:
                for pid in [*descendants(running.pid), running.pid]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                end = time.monotonic() + patience
            time.sleep(POLL / 4)
        (self.folder / f"{name}.pid").unlink()
        self._started.pop(name, None)
        return True


def _is_up(guard: int, port: int, ready: Callable[[int], bool]) -> bool:
    return (not port or listens(guard, port)) and ready(port)


@contextlib.contextmanager
def daemons(folder: Path) -> Iterator[Daemons]:
    """The services of a folder, which is made; a second process waits until the first one is done with it.

    What was started in the block stays when it ends well, and is ended when it does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        services = Daemons(folder)
        try:
            yield services
        except BaseException:
            services.undo()
            raise
        services.keep()
