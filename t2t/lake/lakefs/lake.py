"""The lake on a lakeFS server, through the `lakefs` SDK.

What is uploaded to a lakeFS branch lies on its staging area, one for all writers. So nothing is ever uploaded to a
branch that somebody reads: a commit is made on a short-lived branch of its own (`_t2t-<hash>-<random>`), squashed into
the target by one merge, and the branch is deleted. That merge is the only moment at which the target changes. What a
killed writer leaves is such a branch; the next attempt at the same commit removes it.

lakeFS cannot merge on condition that a branch's head is still the expected one. So each commit brings a small file of
its own, `_t2t/<hash of branch and key>`, which is different in each attempt: of two writers with the same key at the
same moment the second gets a conflict there, whatever else they wrote, and finds the first one's commit. (A conflict
of what they wrote would not do: the content may be the same; and where both add a path, lakeFS 1.8x overlooks the
conflict if one side's content is that of the next file in the folder.)
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from t2t.core.errors import T2TError, nearest
from t2t.core.files import sha256
from t2t.lake.base import (
    BRANCH,
    MAIN,
    OWN,
    TAG,
    VERSION,
    Change,
    Commit,
    Entry,
    MergeConflict,
    TagExists,
    UnknownPath,
    UnknownRef,
    check_branch,
    check_path,
    check_tag,
    gone,
    stamp,
)
from t2t.lake.lakefs.repository import PAGE, Repository
from t2t.lake.lakefs.server import Patience, Refused, Server

REPOSITORY = re.compile(r"^[a-z0-9][a-z0-9-]{2,62}\Z")
KEY = "t2t-key"
WORK = "_t2t-"


class LakeFSLake:
    """The lake in a lakeFS repository, made when it is not there. See `t2t.lake.base.Lake` for the contract.

    A tag's `/` is written `=` on the server, whose tags may hold no `/` (ours may hold no `=`).

    Raises:
        T2TError: the name is not a repository's; endpoint or keys are missing or not accepted; the repository is
            missing and nothing says where its data shall lie.
        UnknownLake: the repository is missing and `create` is False.
        Unreachable: the server does not answer.
    """

    def __init__(self, repository: str, create: bool = True, patience: Patience = Patience()):
        if not REPOSITORY.match(repository):
            raise T2TError(
                f"lake: {repository!r} cannot be a lakeFS repository: 3 to 63 lower-case letters, digits and '-'."
            )
        self._repository = Repository(Server(patience), repository)
        self._repository.open(create)
        # Commits never change: what was once read of the log needs no second request.
        self._commits: dict[str, Commit] = {}
        self._ids: set[str] = set()

    def __str__(self) -> str:
        return f"lakefs://{self._repository.name}"

    # -- reading -------------------------------------------------------------------------------------------------

    def resolve(self, ref: str) -> str:
        if ref in self._ids:
            return ref
        # lakeFS would read `main~1` and `main@` as expressions; a name is a name here, as in the other backend.
        if TAG.match(ref):
            try:
                commit_id = self._repository.resolve(_on_server(ref))
                self._ids.add(commit_id)
                return commit_id
            except Refused as error:
                if error.status != 404:
                    raise
        tags = [name.replace("=", "/") for name in self._repository.tags()]
        raise self._unknown("branch, tag or commit", ref, [*self._branches(), *tags])

    def log(self, ref: str, limit: int | None = None) -> Iterator[Commit]:
        start = self.resolve(ref)
        after, left = "", limit
        while left is None or left > 0:
            page, after = self._repository.log(start, PAGE if left is None else min(PAGE, left), after)
            for answer in page:
                yield _commit(answer)
            if not after:
                return
            left = None if left is None else left - len(page)

    def find(self, ref: str, key: str) -> Commit | None:
        return self._find(self.resolve(ref), key)

    def _find(self, head: str, key: str) -> Commit | None:
        """The commit with this key: on the line of first parents, along which a branch moves, before all others. Of
        two there (a merge without changes may land twice) it is the first, which is what both writers were told."""
        line = [commit for commit in self._ancestors(head, first_parents=True) if commit.key == key]
        return line[-1] if line else next((ancestor for ancestor in self._ancestors(head) if ancestor.key == key), None)

    def _ancestors(self, head: str, first_parents: bool = False) -> Iterator[Commit]:
        """A commit and all behind it, each once, from what is known of the log; what is not known is asked for."""
        ahead, seen = [head], {head}
        while ahead:
            if ahead[-1] not in self._commits:
                # Once the whole log was read, only a few are new.
                page, _ = self._repository.log(ahead[-1], 50 if self._commits else PAGE)
                self._commits |= {answer.id: _commit(answer) for answer in page}
            commit = self._commits[ahead.pop()]
            yield commit
            parents = commit.parents[:1] if first_parents else commit.parents
            ahead += [parent for parent in reversed(parents) if parent not in seen]
            seen.update(parents)

    def read(self, ref: str, path: str) -> BinaryIO:
        commit = self.resolve(ref)
        try:
            if path:
                return self._repository.read(commit, path)
        except Refused as error:
            if error.status != 404:
                raise

        def hint() -> str:
            # Only the neighbourhood: a lake can hold more names than one wants to compare.
            return nearest(path, [entry.path for entry in self._entries(commit, path.split("/")[0], PAGE)])

        raise UnknownPath(f"{self.uri(commit)} has no file {path!r}.", hint)

    def diff(self, left: str, right: str) -> list[Change]:
        changed = self._repository.diff(self.resolve(left), self.resolve(right), "two_dot")
        return [Change(path, kind) for path, kind in sorted(changed) if not path.startswith(OWN)]  # type: ignore[arg-type]

    def _entries(self, commit: str, prefix: str, limit: int | None = None) -> Sequence[Entry]:
        return [entry for entry in self._repository.entries(commit, prefix, limit) if not entry.path.startswith(OWN)]

    def list(self, ref: str, prefix: str = "") -> list[Entry]:
        return sorted(self._entries(self.resolve(ref), prefix), key=lambda entry: entry.path)

    def uri(self, ref: str, path: str = "") -> str:
        return f"{self}/{self.resolve(ref)}" + (f"/{path}" if path else "")

    # -- writing -------------------------------------------------------------------------------------------------

    def branch(self, name: str, source: str = MAIN) -> str:
        check_branch(name)
        try:
            return self._repository.head(name)
        except Refused as error:
            if error.status != 404:
                raise
        return self._repository.make_branch(name, self.resolve(source))

    def commit(
        self, branch: str, files: Mapping[str, Path | bytes], key: str, message: str, metadata: Mapping[str, str]
    ) -> str:
        check_branch(branch)
        for path in files:
            check_path(path)
        stem = f"{WORK}{sha256(branch, key)[:32]}-"
        stored = {**stamp(metadata), KEY: key}
        before = None
        while True:
            head = self._head(branch)
            done = self._find(head, key)
            if done is not None:
                self._check_there(branch, head, done, files)
            if done is None and head == before:
                raise T2TError(f"{self}: {branch!r} does not take the commit {key!r}, though nothing else changes it.")
            landed = done.id if done else self._attempt(branch, head, files, stem, message, stored)
            if landed is not None:
                # Ours, those of killed writers, those of writers that were slower: none is needed any more.
                for leftover in self._repository.branches(stem):
                    self._repository.delete_branch(leftover)
                return landed
            before = head

    def _check_there(self, branch: str, head: str, done: Commit, files: Collection[str]) -> None:
        """Raises Damaged where files of a commit that is in the log are not on the branch any more."""
        if head == done.id:
            return
        missing = [path for path in files if not self._has(head, path) and self._has(done.id, path)]
        if missing:
            raise gone(self, branch, done, missing)

    def _has(self, commit: str, path: str) -> bool:
        return any(entry.path == path for entry in self._repository.entries(commit, path, 1))

    def _attempt(
        self,
        branch: str,
        head: str,
        files: Mapping[str, Path | bytes],
        stem: str,
        message: str,
        metadata: dict[str, str],
    ) -> str | None:
        """Makes a commit on top of `head` and squashes it into `branch`; None when somebody else was faster."""
        # A name of its own for each attempt: two writers of one key never share a staging area.
        name = stem + secrets.token_hex(4)
        mark = OWN + stem.removeprefix(WORK).rstrip("-")
        try:
            self._repository.make_branch(name, head)
            self._repository.upload(
                name, mark, json.dumps({"branch": branch, "key": metadata[KEY], "by": name}).encode()
            )
            for path, content in files.items():
                self._repository.upload(name, path, content)
            tip = self._repository.commit(name, message, metadata, lambda tip_now: self._id(tip_now, metadata[KEY]))
        except Refused as error:
            if error.status == 404:
                # Another writer has made this very commit, and cleaned up after all of its kind.
                return None
            raise
        merged = self._merge(tip, branch, message, metadata, squash=True)
        if merged is None:
            self._repository.delete_branch(name)
        return merged

    def merge(self, source: str, into: str, key: str, message: str, metadata: Mapping[str, str]) -> str:
        head = self._head(into)
        theirs = self.resolve(source)
        done = self._find(head, key)
        if done is not None:
            return done.id
        merged = self._merge(theirs, into, message, {**stamp(metadata), KEY: key}, squash=False)
        if merged is not None:
            return merged
        head = self._head(into)
        if (landed := self._id(head, key)) is not None:
            return landed
        both = [path for path, kind in self._repository.diff(head, theirs, "three_dot") if kind == "conflict"]
        raise MergeConflict(f"{source!r} and {into!r} both changed: {', '.join(sorted(both))}")

    def _merge(
        self, source: str, into: str, message: str, metadata: dict[str, str], squash: bool, empty: bool = False
    ) -> str | None:
        """Merges a commit into a branch and returns the id of the commit that counts; None for a conflict."""
        key = metadata[KEY]
        try:
            merged = self._repository.merge(
                source, into, message, metadata, lambda head: self._id(head, key), squash=squash, empty=empty
            )
        except Refused as error:
            if error.status == 409:
                return None
            if error.status == 400 and "no changes" in error.reason and not empty:
                # Merged already: by this very merge, or else there is nothing new, and only the key has to land.
                landed = self._id(self._repository.head(into), key)
                return landed or self._merge(source, into, message, metadata, squash, empty=True)
            if error.status == 400 and "dirty branch" in error.reason:
                raise T2TError(
                    f"Branch {into!r} of {self} holds changes that somebody uploaded and did not commit. Look at them "
                    f"(lakectl diff {self}/{into}), then commit or reset them; t2t itself never leaves any."
                ) from None
            raise
        return self._id(merged, key) or merged

    def tag(self, name: str, ref: str) -> str:
        check_tag(name)
        target = self.resolve(ref)
        made = self._repository.make_tag(_on_server(name), target)
        if made != target:
            raise TagExists(f"Tag {name!r} names commit {made} already; tags do not move.")
        return target

    # -- parts ---------------------------------------------------------------------------------------------------

    def _head(self, branch: str) -> str:
        """The commit id of a branch, which alone can move. Raises UnknownRef, for a tag or a commit id too."""
        try:
            if BRANCH.match(branch):
                return self._repository.head(branch)
        except Refused as error:
            if error.status != 404:
                raise
        raise self._unknown("branch", branch, self._branches())

    def _id(self, head: str, key: str) -> str | None:
        commit = self._find(head, key)
        return commit.id if commit else None

    def _branches(self) -> Sequence[str]:
        return [name for name in self._repository.branches() if not name.startswith(WORK)]

    def _unknown(self, kind: str, name: str, names: Sequence[str]) -> UnknownRef:
        return UnknownRef(f"{self} has no {kind} {name!r}.{nearest(name, names)}")


def _on_server(ref: str) -> str:
    return ref.replace("/", "=")


def _commit(answer: Any) -> Commit:
    # lakeFS adds metadata of its own, under names with a leading dot.
    metadata = {name: value for name, value in (answer.metadata or {}).items() if not name.startswith(".lakefs.")}
    key, version = metadata.pop(KEY, ""), metadata.pop(VERSION, "")
    time = datetime.fromtimestamp(answer.creation_date, UTC)
    return Commit(answer.id, answer.message, key, metadata, tuple(answer.parents), time, version)


def open_lakefs(rest: str, work: Path, create: bool, wait: float | None) -> LakeFSLake:
    """The lake `lakefs://<repository>`; endpoint and keys come from lakeFS's own variables or `~/.lakectl.yaml`."""
    if not rest.startswith("//"):
        raise T2TError(f"lake: 'lakefs:{rest}': write it as lakefs://<repository>.")
    repository = rest.removeprefix("//").removesuffix("/")
    return LakeFSLake(repository, create, Patience() if wait is None else Patience(wait))
