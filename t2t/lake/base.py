"""The lake's interface: versioned tables. Two backends keep this contract, one test checks it (tests/lake).

Every operation that writes can be repeated: commits and merges take an idempotency key and look for it in the log
first, branches and tags are known by their names. Names of branches hold letters, digits, `_` and `-` only, since not
every backend allows more; tags may hold `/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from t2t.core.errors import T2TError
from t2t.core.version import code_version

BRANCH = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,200}\Z")
TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_/.-]{0,200}\Z")
MAIN = "main"
# Under this key of a commit's stored metadata lies the code that made it.
VERSION = "t2t-version"
# What a backend has to keep beside the files lies below this, and is not shown.
OWN = "_t2t/"


class UnknownLake(T2TError):
    """The lake does not exist, and was not to be made."""


class UnknownRef(T2TError):
    """No branch, tag or commit of that name."""


class UnknownPath(T2TError):
    """No file of that name at a commit.

    `hint` names the nearest one, once somebody reads the message: most misses are expected, and looking is dear.
    """

    def __init__(self, message: str, hint: Callable[[], str] = str):
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        with suppress(T2TError):
            return super().__str__() + self.hint()
        return super().__str__()

    def __reduce__(self) -> tuple[type[UnknownPath], tuple[str]]:
        return UnknownPath, (str(self),)


class MergeConflict(T2TError):
    """Both sides changed the same paths."""


class Damaged(T2TError):
    """Something of the lake is missing that was there, or is not what was written. Nothing is read past it."""


class TagExists(T2TError):
    """The tag names another commit already; tags do not move."""


@dataclass(frozen=True)
class Commit:
    """A commit: `key` is its idempotency key ("" when it was not made by t2t), `time` is UTC, `version` is the code
    that made it ("" when not known)."""

    id: str
    message: str
    key: str
    metadata: dict[str, str]
    parents: tuple[str, ...]
    time: datetime
    version: str = ""


@dataclass(frozen=True)
class Entry:
    """A file at a commit; `digest` changes when its content does."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Change:
    """What differs between two states of the lake."""

    path: str
    kind: Literal["added", "removed", "changed"]


class Lake(Protocol):
    """Tables under version control. A reference is a branch, a tag or a commit id; unknown ones raise UnknownRef."""

    def resolve(self, ref: str) -> str:
        """The commit id of a reference."""

    def branch(self, name: str, source: str = MAIN) -> str:
        """Makes a branch at `source`, or finds it where it is; returns the commit id of its head."""

    def commit(
        self, branch: str, files: Mapping[str, Path | bytes], key: str, message: str, metadata: Mapping[str, str]
    ) -> str:
        """Writes files (paths are streamed) on a branch and returns the commit id.

        A commit of the branch's log that has `key` is returned instead, and nothing is written. A commit without any
        change is still made: its key is what the next attempt looks for.

        Raises Damaged where the log has `key`, but not all of that commit's files are on the branch any more: t2t
        removes none, so somebody else did, and who goes on as if they were there never ends.
        """

    def merge(self, source: str, into: str, key: str, message: str, metadata: Mapping[str, str]) -> str:
        """Merges by a commit of its own (never a fast-forward); returns its id. Raises MergeConflict, naming paths."""

    def tag(self, name: str, ref: str) -> str:
        """Names a commit and returns its id. Raises TagExists when the name is another commit's."""

    def log(self, ref: str, limit: int | None = None) -> Iterator[Commit]:
        """The commits behind a reference, newest first, those of merged branches too."""

    def find(self, ref: str, key: str) -> Commit | None:
        """The commit with this idempotency key in a reference's log."""

    def read(self, ref: str, path: str) -> BinaryIO:
        """A file's content, seekable. Raises UnknownPath."""

    def diff(self, left: str, right: str) -> list[Change]:
        """What has to happen to `left`'s files to get `right`'s, sorted by path. Where they part does not matter."""

    def list(self, ref: str, prefix: str = "") -> list[Entry]:
        """The files below a prefix, sorted by path."""

    def uri(self, ref: str, path: str = "") -> str:
        """Where a file (or the whole lake) lies at the commit that `ref` is now."""


def together(lake: Lake, branch: str) -> AbstractContextManager[object]:
    """Within it the commits of this process on a branch are the branch's all at once, at its end, where the lake can do
    that: what is flushed to disk once takes a fraction of the time. Elsewhere each is the branch's when it is made."""
    can = getattr(lake, "together", None)
    return nullcontext() if can is None else can(branch)


def stamp(metadata: Mapping[str, str]) -> dict[str, str]:
    """A commit's metadata as it is stored: with the version of the code that makes it."""
    return {**metadata, VERSION: code_version()}


def gone(lake: Lake, branch: str, done: Commit, missing: Collection[str]) -> Damaged:
    """What is said where a commit is in a branch's log and files of it are not on the branch any more."""
    first, *more = sorted(missing)
    named = f"{first} and {len(more)} more files" if more else first
    culprit = removed_by(lake, branch, first)
    by = f"commit {culprit[:12]}" if culprit else "a later commit"
    return Damaged(
        f"{lake} is damaged: {named} was written to {branch!r} by commit {done.id[:12]} ({done.key}) and removed by "
        f"{by}, which t2t never does. Revert that commit on {branch!r}, so that the file is back, and start again."
    )


def removed_by(lake: Lake, ref: str, path: str) -> str | None:
    """The commit behind a reference that removed a file; None where none did."""

    def has(commit: str) -> bool:
        return any(entry.path == path for entry in lake.list(commit, path))

    removers = (commit.id for commit in lake.log(ref) if not has(commit.id) and any(map(has, commit.parents)))
    return next(removers, None)


def check_branch(name: str) -> None:
    if not BRANCH.match(name):
        raise T2TError(f"{name!r} cannot be a branch's name: letters, digits, '_' and '-' only.")


def check_tag(name: str) -> None:
    if not TAG.match(name) or ".." in name or "//" in name or name.endswith(("/", ".", ".lock")):
        raise T2TError(f"{name!r} cannot be a tag's name: letters, digits, '_', '-', '.', and '/' between parts.")


def check_path(path: str) -> None:
    if path.startswith(OWN):
        raise T2TError(f"{path!r} cannot be a path in the lake: {OWN!r} is a backend's own folder.")
    if not path or path.startswith("/") or any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise T2TError(f"{path!r} cannot be a path in the lake: relative, with '/' between names.")
