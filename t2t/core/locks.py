"""Locks between processes: they go with the process that holds them, however it ends.

Lock *files* are `filelock`'s. Locks on a *folder itself* are ours: they need no file beside it that would be logged,
listed or left behind with the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from t2t.core.errors import T2TError

# What a file system without locks answers.
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
# Seconds for somebody who holds a lock for milliseconds.
PATIENCE = 60.0


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
        """Raises Busy, naming host and process, where another one holds it; T2TError where it cannot be held."""
        try:
            # What is run there is nobody else's: its folder is made for its owner alone.
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise Busy(f"{self.what} is being run by {_holder(self.path)}. Wait for it or end that process.") from None
        except OSError as error:
            raise _refused(self.path, error) from error
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


@contextlib.contextmanager
def patient(path: Path, what: str) -> Iterator[None]:
    """Holds a lock file for the block; waits for whoever holds it, who is expected to be quick.

    Raises Busy where that takes more than a minute; T2TError where the file system has no locks.
    """
    lock = FileLock(path, timeout=PATIENCE, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(
            f"{what} has been held by another process for {PATIENCE:.0f} s, which takes milliseconds: {path}. End that "
            "process (it may be stopped) and start again."
        ) from None
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise _refused(path, error) from None
        raise
    try:
        yield
    finally:
        lock.release()


def _refused(path: Path, error: OSError) -> Exception:
    """Why a lock cannot be held, in words where they are known."""
    reason = error.strerror or str(error)
    if error.errno in NO_LOCKS:
        return T2TError(
            f"{path.parent}: its file system has no file locks ({reason}), which keep two runs apart. Set T2T_WORK or "
            "--work to a folder on a local disk, or mount the network's with locks."
        )
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return T2TError(f"{path} cannot be written to: {reason}. Set T2T_WORK or --work to a folder of yours.")
    return error


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
        except OSError as error:
            raise _refused(folder / ".", error) from None
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
