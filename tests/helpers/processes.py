"""The processes that a test has started, directly or not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from infra.daemons import Command
from t2t.integrations.services import answers
from tests.helpers.worlds import ROOT


def descendants(pid: int) -> list[int]:
    """All processes below `pid` that still run."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything, so read from the last one on: state, parent.
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def web(port: int) -> Command:
    return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], {}


def ready(port: int) -> bool:
    return answers(f"http://127.0.0.1:{port}/")


def gone(pids: list[int], seconds: float = 12) -> bool:
    """Whether all these processes end in time; one that only waits to be reaped has ended."""

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def start(code: str, log: Path) -> subprocess.Popen[str]:
    """A Python process in a session of its own, as if in another terminal."""
    with open(log, "w") as errors:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def left_behind(work: Path) -> list[str]:
    """Command lines of processes that have the work folder in their command or environment, but not this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            if str(work).encode() in text and "Z" not in (folder / "stat").read_text().rpartition(")")[2][:3]:
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found
