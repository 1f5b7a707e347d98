"""The embedded lake: a bare Git repository through pygit2. Inspect it with plain `git log --stat`.

Writers may be several processes: a branch moves only under the repository's lock file, from the head that the new
commit was made on. Objects are written and flushed before the branch that needs them, so a kill leaves either the old
head or the new one; what it leaves besides are unreferenced objects, which `git gc` removes.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pygit2
from filelock import FileLock
from pygit2.enums import DeltaStatus, FileMode, SortMode

from t2t.core.errors import nearest
from t2t.lake.base import (
    MAIN,
    VERSION,
    Change,
    Commit,
    Entry,
    MergeConflict,
    TagExists,
    UnknownLake,
    UnknownPath,
    UnknownRef,
    check_branch,
    check_path,
    check_tag,
    stamp,
)

# Objects and references are flushed to disk before they count (libgit2 does not read `core.fsync`).
pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)

KEY = "T2T-Key"
METADATA = "T2T-Metadata"


class GitLake:
    """A lake in the bare repository at `path`, made when it is not there. See `t2t.lake.base.Lake` for the contract.

    Raises UnknownLake where there is none and `create` is False.
    """

    def __init__(self, path: str | Path, create: bool = True):
        self.path = Path(path).resolve()
        if not self.path.exists():
            if not create:
                raise UnknownLake(f"There is no lake at {self.path}.")
            _create(self.path)
        self.repository = pygit2.Repository(str(self.path))
        # Commits never change, so each is read once. What is in here has all its ancestors in here.
        self._commits: dict[str, Commit] = {}
        self._by_key: dict[str, list[Commit]] = {}

    # -- reading -------------------------------------------------------------------------------------------------

    def resolve(self, ref: str) -> str:
        if ref in self._commits:
            return ref
        for name in (f"refs/heads/{ref}", f"refs/tags/{ref}"):
            reference = self.repository.references.get(name)
            if reference is not None:
                return str(reference.target)
        try:
            return str(self.repository[ref].peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError):
            names = [*self.repository.branches.local, *self._tags()]
            hint = nearest(ref, names)
            raise UnknownRef(f"The lake {self.path} has no branch, tag or commit {ref!r}.{hint}") from None

    def _tags(self) -> list[str]:
        prefix = "refs/tags/"
        return [name.removeprefix(prefix) for name in self.repository.references if name.startswith(prefix)]

    def log(self, ref: str, limit: int | None = None) -> Iterator[Commit]:
        walker = self.repository.walk(self.resolve(ref), SortMode.TOPOLOGICAL | SortMode.TIME)
        for index, commit in enumerate(walker):
            if limit is not None and index >= limit:
                return
            yield self._commits.get(str(commit.id)) or _commit(commit)

    def find(self, ref: str, key: str) -> Commit | None:
        head = self.resolve(ref)
        self._learn(head)
        candidates = [commit.id for commit in self._by_key.get(key, ())]
        if not any(candidate == head or self.repository.descendant_of(head, candidate) for candidate in candidates):
            return None
        # Branches that were merged may each have a commit of that key: the newest one counts.
        return next(commit for commit in self.log(head) if commit.key == key)

    def _learn(self, head: str) -> None:
        """Reads all commits behind `head` that are not known yet."""
        new: dict[str, Commit] = {}
        ahead = [head]
        while ahead:
            commit_id = ahead.pop()
            if commit_id not in self._commits and commit_id not in new:
                new[commit_id] = _commit(self.repository[commit_id])  # type: ignore[arg-type]
                ahead += new[commit_id].parents
        self._commits |= new
        for commit in new.values():
            self._by_key.setdefault(commit.key, []).append(commit)

    def read(self, ref: str, path: str) -> BinaryIO:
        tree = self._tree(ref)
        try:
            blob = tree[path]
        except KeyError:
            commit = self.resolve(ref)

            def hint() -> str:
                return nearest(path, [entry.path for entry in self.list(commit)][:10_000])

            raise UnknownPath(f"{self.uri(commit)} has no file {path!r}.", hint) from None
        if not isinstance(blob, pygit2.Blob):
            raise UnknownPath(f"{self.uri(ref, path)} is a folder, not a file.")
        return io.BytesIO(blob.data)

    def diff(self, left: str, right: str) -> list[Change]:
        kinds = {DeltaStatus.ADDED: "added", DeltaStatus.DELETED: "removed"}
        # Each side is shown as it is: files are neither followed through renames nor merged first.
        deltas = self._tree(left).diff_to_tree(self._tree(right)).deltas
        changed = [(delta.new_file.path, kinds.get(delta.status, "changed")) for delta in deltas]
        return [Change(path, kind) for path, kind in sorted(changed)]  # type: ignore[arg-type]

    def list(self, ref: str, prefix: str = "") -> list[Entry]:
        entries: list[Entry] = []

        def walk(tree: pygit2.Tree, base: str) -> None:
            for item in tree:
                path = f"{base}{item.name}"
                if isinstance(item, pygit2.Tree):
                    # Only folders on the way to the prefix, or below it, can hold what is asked for.
                    if prefix.startswith(f"{path}/") or f"{path}/".startswith(prefix):
                        walk(item, f"{path}/")
                elif isinstance(item, pygit2.Blob) and path.startswith(prefix):
                    entries.append(Entry(path, item.size, str(item.id)))

        walk(self._tree(ref), "")
        return sorted(entries, key=lambda entry: entry.path)

    def uri(self, ref: str, path: str = "") -> str:
        return f"git+file://{self.path}@{self.resolve(ref)}" + (f"/{path}" if path else "")

    def _tree(self, ref: str) -> pygit2.Tree:
        return self.repository[self.resolve(ref)].peel(pygit2.Tree)

    # -- writing -------------------------------------------------------------------------------------------------

    def branch(self, name: str, source: str = MAIN) -> str:
        check_branch(name)
        with self._lock():
            reference = self.repository.references.get(f"refs/heads/{name}")
            if reference is None:
                reference = self.repository.references.create(f"refs/heads/{name}", self.resolve(source))
            return str(reference.target)

    def commit(
        self, branch: str, files: Mapping[str, Path | bytes], key: str, message: str, metadata: Mapping[str, str]
    ) -> str:
        check_branch(branch)
        for path in files:
            check_path(path)
        done = self.find(self._head(branch), key)
        if done is not None:
            return done.id
        # Content is written before the lock is taken: it may take long, and belongs to no branch yet.
        blobs = {path: self._blob(content) for path, content in files.items()}
        with self._lock():
            head = self._head(branch)
            done = self.find(head, key)
            if done is not None:
                return done.id
            tree = self._with_files(self._tree(head), blobs)
            return self._move(branch, tree, [head], key, message, metadata)

    def merge(self, source: str, into: str, key: str, message: str, metadata: Mapping[str, str]) -> str:
        with self._lock():
            ours = self._head(into)
            done = self.find(ours, key)
            if done is not None:
                return done.id
            theirs = self.resolve(source)
            index = self.repository.merge_commits(pygit2.Oid(hex=ours), pygit2.Oid(hex=theirs))
            if index.conflicts is not None:
                paths = sorted({side.path for sides in index.conflicts for side in sides if side is not None})
                raise MergeConflict(f"{source!r} and {into!r} both changed: {', '.join(paths)}")
            return self._move(into, index.write_tree(self.repository), [ours, theirs], key, message, metadata)

    def tag(self, name: str, ref: str) -> str:
        check_tag(name)
        with self._lock():
            target = self.resolve(ref)
            reference = self.repository.references.get(f"refs/tags/{name}")
            if reference is None:
                self.repository.references.create(f"refs/tags/{name}", target)
            elif str(reference.target) != target:
                raise TagExists(f"Tag {name!r} names commit {reference.target} already; tags do not move.")
            return target

    def _head(self, branch: str) -> str:
        """The commit id of a branch, which alone can move. Raises UnknownRef, for a tag or a commit id too."""
        reference = self.repository.references.get(f"refs/heads/{branch}")
        if reference is None:
            hint = nearest(branch, self.repository.branches.local)
            raise UnknownRef(f"The lake {self.path} has no branch {branch!r}.{hint}")
        return str(reference.target)

    def _blob(self, content: Path | bytes) -> pygit2.Oid:
        if isinstance(content, bytes):
            return self.repository.create_blob(content)
        return self.repository.create_blob_fromdisk(str(content))

    def _with_files(self, tree: pygit2.Tree | None, blobs: Mapping[str, pygit2.Oid]) -> pygit2.Oid:
        """A tree with these files in place of its own of the same paths. Only the folders on their way are written."""
        builder = self.repository.TreeBuilder() if tree is None else self.repository.TreeBuilder(tree)
        below: dict[str, dict[str, pygit2.Oid]] = {}
        for path, blob in blobs.items():
            name, _, rest = path.partition("/")
            if rest:
                below.setdefault(name, {})[rest] = blob
            else:
                builder.insert(name, blob, FileMode.BLOB)
        for name, inner in below.items():
            old = tree[name] if tree is not None and name in tree else None
            folder = self._with_files(old if isinstance(old, pygit2.Tree) else None, inner)
            builder.insert(name, folder, FileMode.TREE)
        return builder.write()

    def _move(
        self, branch: str, tree: pygit2.Oid, parents: Sequence[str], key: str, message: str, metadata: Mapping[str, str]
    ) -> str:
        seconds = int(datetime.now(UTC).timestamp())
        signature = pygit2.Signature("t2t", "t2t@localhost", seconds, 0)
        text = f"{message}\n\n{KEY}: {json.dumps(key)}\n{METADATA}: {json.dumps(stamp(metadata), ensure_ascii=False)}\n"
        ids = [pygit2.Oid(hex=parent) for parent in parents]
        new = self.repository.create_commit(None, signature, signature, text, tree, ids)
        self.repository.references[f"refs/heads/{branch}"].set_target(new)
        return str(new)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One writer at a time moves references; the lock goes with the process that held it."""
        with FileLock(self.path / "t2t.lock"):
            yield


def open_git(rest: str, work: Path, create: bool, wait: float | None) -> GitLake:
    """The lake `git` (`lake.git` in the work folder) or `git:<path>`."""
    return GitLake(work / (rest or "lake.git"), create)


def _create(path: Path) -> None:
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


def _commit(commit: pygit2.Commit) -> Commit:
    lines = commit.message.rstrip("\n").split("\n")
    key, metadata = "", {}
    if len(lines) >= 2 and lines[-2].startswith(f"{KEY}: ") and lines[-1].startswith(f"{METADATA}: "):
        key = json.loads(lines[-2].removeprefix(f"{KEY}: "))
        metadata = json.loads(lines[-1].removeprefix(f"{METADATA}: "))
        lines = lines[:-2]
    message = "\n".join(lines).rstrip("\n")
    parents = tuple(str(parent) for parent in commit.parent_ids)
    version = metadata.pop(VERSION, "")
    time = datetime.fromtimestamp(commit.commit_time, UTC)
    return Commit(str(commit.id), message, key, metadata, parents, time, version)
