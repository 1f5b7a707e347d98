"""A Git lake's repository as a folder: made, opened, and what can be wrong with it in words."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType

import pygit2

from t2t.core.errors import T2TError, explain, one_line
from t2t.core.host import account, owner
from t2t.lake.base import MAIN, Damaged
from t2t.lake.objects import HOW

# Seconds that a reference's lock file may stay while we alone may write: Git holds one for milliseconds.
STALE = 5.0

log = logging.getLogger("t2t")


class Words:
    """`with` it, errors of Git and of the system about a repository become one line with what to do."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, pygit2.GitError | OSError | KeyError):
            raise in_words(self.path, error) from error


NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def in_words(path: Path, error: BaseException) -> T2TError:
    """What an error of Git or the system comes to."""
    text = one_line(error, 200).rstrip(".: ")
    number = getattr(error, "errno", None)
    known = explain(error)
    if known is not None and number not in NOT_ALLOWED:  # of these a lake can say more
        return known
    if not path.exists():
        return Damaged(f"The lake {path} is gone: somebody removed or moved it. Put it back and start again.")
    if ".gitconfig" in text:
        return T2TError(f"Git's own settings cannot be read ({text}): set HOME to a folder of {account()}'s.")
    if "not owned by" in text:
        return T2TError(
            f"The lake {path} belongs to {owner(path)}, and you are {account()}: Git opens nobody else's repository. "
            f"Run t2t as {owner(path)}, make the lake yours (chown -R), or allow it: git config --global --add "
            f"safe.directory {path}"
        )
    if number in NOT_ALLOWED or any(words in text for words in ("ermission denied", "ead-only file system")):
        return T2TError(
            f"The lake {path} cannot be used by {account()}: {text}. It belongs to {owner(path)}; make it readable and "
            "writable for you, or set T2T_WORK or --work to a folder of yours."
        )
    return Damaged(f"The lake {path} is damaged or cannot be used: {text}. {HOW}")


def open_repository(path: Path) -> pygit2.Repository:
    """The repository at a path that is there. Raises Damaged where it is none."""
    if path.is_dir() and not any(path.iterdir()):
        raise Damaged(
            f"The lake {path} is an empty folder. Put a copy of the lake there (git clone --mirror COPY {path}). If "
            f"nothing was in it, remove it (rmdir {path}): the next run makes a new one."
        )
    try:
        return pygit2.Repository(str(path))
    except pygit2.GitError as error:
        if "not found" not in str(error):
            raise
        parts = [name for name in ("HEAD", "config", "objects", "refs") if not (path / name).exists()]
        lacks = f" (it lacks {', '.join(parts)})" if path.is_dir() and parts else ""
        raise Damaged(
            f"{path} is no Git repository{lacks}, so no lake. Put a copy of the lake in its place (git clone --mirror "
            f"COPY {path}), or move it away: then the next run makes a new one."
        ) from None


def make_repository(path: Path) -> None:
    """Makes the repository with an empty first commit in a temporary folder and renames it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=f".{os.getpid()}.tmp", dir=path.parent))
    try:
        repository = pygit2.init_repository(str(temporary), bare=True, initial_head=MAIN)
        # Parquet is compressed already; doing it twice costs a second for each 28 MB.
        repository.config["core.compression"] = 0
        signature = pygit2.Signature("t2t", "t2t@localhost", 0, 0)
        tree = repository.TreeBuilder().write()
        first = repository.create_commit(None, signature, signature, "An empty lake\n", tree, [])
        repository.references.create(f"refs/heads/{MAIN}", first)
        try:
            os.rename(temporary, path)
        except OSError:
            # Another process was first; its repository is as good as ours.
            if not path.exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def free_reference(file: Path) -> None:
    """Sees that a reference's lock file is not in the way; the caller holds the lake's own lock.

    Whoever was killed while it moved a reference leaves one. None of ours is at work, and a `git` command holds one for
    milliseconds: one that stays is a leftover.
    """
    lock = file.with_name(f"{file.name}.lock")
    began, first = time.monotonic(), _inode(lock)
    while first is not None and time.monotonic() - began < STALE:
        time.sleep(0.05)
        if _inode(lock) != first:
            began, first = time.monotonic(), _inode(lock)
    if first is not None:
        log.warning("%s: removed; a process that was killed had left it.", lock)
        lock.unlink(missing_ok=True)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns
