"""The guard: a small process between a service and who uses it, which leaves nothing of the service behind.

Run as a script, so it is made of the standard library alone, and imports nothing of t2t. It lives in a session of its
own: a Ctrl-C in the terminal does not reach the service before the flow that uses it has ended. It ends the service
with all its processes when it is told to, or when the process that started it is gone, be it by SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

POLL = 0.2
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the guard's polling has to do."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, where /proc tells; a zombie counts until it has been waited for."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold anything, so read from the last one on: state, parent.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    pids = [pid]
    for above in pids:
        pids += [child for child, parent in parents.items() if parent == above]
    return pids[1:]


def guard(options: dict[str, Any], command: list[str]) -> int:
    """Runs `command` until it ends, SIGTERM comes, or its owner is gone; then ends all that is left of it.

    Args:
        options: `owner`, the pid of the process that it belongs to until SIGUSR1 lets it go; `user`, the account to
            run it as, or None; `stop`, the signal that ends it; `grace`, the seconds it then has before SIGKILL.
    """
    stop, owner = False, int(options["owner"])

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    def let_go(_signal: int, _frame: FrameType | None) -> None:
        nonlocal owner
        owner = 0

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGUSR1, let_go)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the service leaves behind becomes our child, so that we find it

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # should somebody kill the guard itself

    service = subprocess.Popen(command, preexec_fn=prepare, process_group=0, **account(options["user"]))
    while service.poll() is None and not stop:
        parent = os.getppid()  # asked first: an owner that is gone has let go of us before, or never will
        if owner not in (0, parent):
            break
        time.sleep(POLL)
    end_all(service, options["stop"], options["grace"])
    return service.returncode if service.returncode is not None else 0


def account(user: str | None) -> dict[str, Any]:
    """Arguments that make subprocess run a command as another account, with that one's group only."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def end_all(service: subprocess.Popen[bytes], stop: int, grace: float) -> None:
    end = time.monotonic() + grace
    for sign in (stop, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(service.pid, sign)
        if sign == signal.SIGKILL:
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            end = time.monotonic() + 1
        while time.monotonic() < end:
            service.poll()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not descendants(os.getpid()) and service.poll() is not None:
                return
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(guard(json.loads(sys.argv[1]), sys.argv[2:]))
