"""Files that survive a kill: written beside their target, flushed to disk, then renamed into place."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from t2t.errors import T2TError

TEMPORARY = re.compile(r"^\..+\.(\d+)\.tmp")


def fsync(path: Path) -> None:
    """Flushes a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


@contextlib.contextmanager
def atomic_file(target: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; on success it becomes `target`, on an error it is removed."""
    target = Path(target)
    temporary = _temporary(target)
    try:
        yield temporary
        fsync(temporary)
        os.replace(temporary, target)
        fsync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Yields a temporary folder that is renamed to `target` once whole, so that its existence means "done".

    A finished `target` that is already there is replaced.
    """
    target = Path(target)
    temporary = _temporary(target)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            fsync(path)
        remove_folder(target)
        os.rename(temporary, target)
        fsync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Removes a folder, if it is there: whole at once for whoever looks, whenever this is killed."""
    if folder.is_dir():
        aside = folder.with_name(f".{folder.name}-removed.{os.getpid()}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)


def write_text(target: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(*parts: str | bytes) -> str:
    """Hex SHA-256 of the parts, each framed by its length so that ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def alive(pid: int) -> bool:
    """Whether a process of this machine exists (also somebody else's)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@contextlib.contextmanager
def staging(work: Path) -> Iterator[Path]:
    """A temporary folder in the work folder, for files on their way elsewhere; removed afterwards."""
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".staging-", suffix=f".{os.getpid()}.tmp", dir=work))
    # The lock says that somebody works here, to processes that cannot see ours (another container, another host) too.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path, deep: bool = False) -> list[Path]:
    """Removes the temporary files and folders that killed processes left in `folder`; returns what was removed.

    Those of other processes that are alive stay. One with our own number is a leftover too: a restarted container may
    give it to us again. So call this before any file is begun. With `deep`, folders below are gone through as well.
    """
    removed = []
    for path in sorted((folder.rglob if deep else folder.glob)(".*.tmp*")):
        found = TEMPORARY.match(path.name)
        if found and (int(found[1]) == os.getpid() or not alive(int(found[1]))):
            if path.is_dir() and _is_held(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _is_held(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Busy(T2TError):
    """Another process holds what only one may hold."""


@contextlib.contextmanager
def exclusive(path: str | Path, what: str) -> Iterator[None]:
    """Holds the lock file `path` for the block; the system lets go of it when the process ends, however that happens.

    Raises Busy, naming host and process, where another one holds it. The file stays, since removing it would let two
    processes hold two files of the same name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{what} is being run by {_holder(file)}. Wait for it or end that process.") from None
        file.truncate(0)
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        json.dump({"host": platform.node(), "pid": os.getpid(), "since": started}, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _holder(file: Any) -> str:
    file.seek(0)
    try:
        known = json.loads(file.read())
        return f"process {known['pid']} on host {known['host']} since {known['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"  # it has the lock since this very moment
