"""Locks between processes: they go with the process that holds them, however it ends.

Lock *files* are `filelock`'s. Locks on a *folder itself* are ours: they need no file beside it that would be logged,
listed or left behind with the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from t2t.core.errors import T2TError


class Busy(T2TError):
    """Another process holds what only one may hold."""


class Exclusive:
    """A lock file that says who holds it. `with` it, also inside of itself; the file stays, since removing it would
    let two processes hold two files of the same name.

    Args:
        path: the file; its folder is made.
        what: what it is about, for the message: `Campaign 'demo'`.
    """

    def __init__(self, path: str | Path, what: str):
        self.path, self.what = Path(path), what
        # A soft lock, which filelock would take where a file system has no flock, stays after a kill.
        self._lock = FileLock(self.path, timeout=0, fallback_to_soft=False)

    def __enter__(self) -> None:
        """Raises Busy, naming host and process, where another one holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise Busy(f"{self.what} is being run by {_holder(self.path)}. Wait for it or end that process.") from None
        if self._lock.lock_counter == 1:
            started = datetime.now().astimezone().isoformat(timespec="seconds")
            try:
                self.path.write_text(json.dumps({"host": platform.node(), "pid": os.getpid(), "since": started}))
            except BaseException:
                self._lock.release()
                raise

    def __exit__(self, *_: object) -> None:
        try:
            if self._lock.lock_counter == 1:
                with contextlib.suppress(OSError):  # somebody removed the folder
                    os.truncate(self.path, 0)
        finally:
            self._lock.release()


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on host {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it has the lock since this very moment


@contextlib.contextmanager
def held_folder(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Holds a folder for the block. Yields False where another process holds it and it is not waited for.

    Raises FileNotFoundError where there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            # Whoever held it before may have removed the folder that this descriptor is of.
            yield _is(folder, descriptor)
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether another process holds a folder (`held_folder`), also one that we cannot see: another container's."""
    with held_folder(folder, wait=False) as free:
        return not free


def _is(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False
