"""Files that survive a kill: written beside their target, flushed to disk, then renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2t.core.errors import T2TError, one_line
from t2t.core.locks import held_folder, is_held

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
def atomic_file(target: str | Path, flush: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `target`; on success it becomes `target`, on an error it is removed.

    Args:
        flush: to disk before it is `target`; needless where whoever reads it writes it once more.
    """
    target = Path(target)
    temporary = _temporary(target)
    try:
        yield temporary
        if flush:
            fsync(temporary)
        os.replace(temporary, target)
        if flush:
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


def link_or_copy(source: Path, target: Path) -> None:
    """Has a file under a second name: on one file system without its bytes once more."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


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


def write_noted(target: Path, text: str) -> None:
    """Writes JSON that a run reads back later, atomically, with its checksum in a file beside it."""
    beside = checksum_of(target)
    beside.unlink(missing_ok=True)  # a kill between the two leaves a file without one, which is taken as it is
    write_text(target, text)
    write_text(beside, f"{zlib.crc32(text.encode()):08x}\n")


def read_noted(path: Path, remedy: str) -> Any:
    """A JSON file that a run wrote for itself. Raises T2TError where it is damaged; `remedy` says what to do then."""
    try:
        content = path.read_bytes()
        found = json.loads(content)
        beside = checksum_of(path)
        if beside.is_file() and beside.read_text(encoding="utf-8").strip() != f"{zlib.crc32(content):08x}":
            raise ValueError(f"not what was written: its checksum is not that of {beside.name}")
    except (OSError, ValueError) as error:
        raise T2TError(f"{path}: cannot be read ({one_line(error, 100)}). {remedy}") from None
    return found


def checksum_of(path: Path) -> Path:
    """The file with the CRC-32 of another one, beside it."""
    return path.with_name(f".{path.name}.crc32")


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
    with held_folder(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path, deep: bool = False) -> list[Path]:
    """Removes the temporary files and folders that killed processes left in `folder`; returns what was removed.

    Those of other processes that are alive stay. One with our own number is a leftover too: a restarted container may
    give it to us again. So call this before any file is begun. With `deep`, folders below are gone through as well.
    """
    removed = []
    for path in sorted((folder.rglob if deep else folder.glob)(".*.tmp*")):
        match = TEMPORARY.match(path.name)
        if match and (int(match[1]) == os.getpid() or not alive(int(match[1]))):
            if path.is_dir() and is_held(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed
