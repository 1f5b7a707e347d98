"""The embedded lake: a bare Git repository through pygit2. Inspect it with plain `git log --stat`.

Writers may be several processes: a branch moves only under the repository's lock file, from the head that the new
commit was made on. Objects are written and flushed before the branch that needs them, so a kill leaves either the old
head or the new one; what it leaves besides are unreferenced objects, which `git gc` removes.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pygit2
from pygit2.enums import DeltaStatus, FileMode, SortMode

from t2t.core.errors import nearest
from t2t.core.locks import patient
from t2t.lake.base import (
    MAIN,
    VERSION,
    Change,
    Commit,
    Damaged,
    Entry,
    MergeConflict,
    TagExists,
    UnknownLake,
    UnknownPath,
    UnknownRef,
    check_branch,
    check_path,
    check_tag,
    gone,
    stamp,
)
from t2t.lake.objects import HOW, Objects
from t2t.lake.repository import Words, free_reference, make_repository, open_repository

# Objects and references are flushed to disk before they count (libgit2 does not read `core.fsync`).
pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)

KEY = "T2T-Key"
METADATA = "T2T-Metadata"


class GitLake:
    """A lake in the bare repository at `path`, made when it is not there. See `t2t.lake.base.Lake` for the contract.

    Raises UnknownLake where there is none and `create` is False; Damaged where what is there is no lake, or `main` of
    it cannot be read. Every method raises Damaged for what it needs and finds missing or damaged.
    """

    def __init__(self, path: str | Path, create: bool = True):
        self.path = Path(path).resolve()
        self._words = Words(self.path)
        with self._words:
            if not self.path.exists():
                if not create:
                    raise UnknownLake(f"There is no lake at {self.path}.")
                make_repository(self.path)
            self.repository = open_repository(self.path)
        self.objects = Objects(self.repository, Path(self.repository.path))
        # Commits never change, so each is read once. What is in here has all its ancestors in here.
        self._commits: dict[str, Commit] = {}
        self._by_key: dict[str, list[Commit]] = {}
        # A commit and all of its files, as they were listed last: many ask for the same one's.
        self._listed: tuple[str, list[Entry]] = ("", [])
        # A branch whose commits wait to become its own (`together`): its full name, and the newest of them.
        self._waiting: tuple[str, str] | None = None
        self._check_main()

    def __str__(self) -> str:
        return f"The lake {self.path}"

    def _check_main(self) -> None:
        if self._reference(f"refs/heads/{MAIN}") is None:
            raise Damaged(
                f"{self} has no branch {MAIN!r}, which every lake has: it is damaged, or no lake of t2t's. {HOW}"
            )
        self._tree(MAIN)

    # -- reading -------------------------------------------------------------------------------------------------

    def resolve(self, ref: str) -> str:
        if ref in self._commits:
            return ref
        for name in (f"refs/heads/{ref}", f"refs/tags/{ref}"):
            target = self._reference(name)
            if target is not None:
                return target
        try:
            return str(self.repository[ref].peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError):
            hint = nearest(ref, [*self._names("refs/heads/"), *self._names("refs/tags/")])
            raise UnknownRef(f"{self} has no branch, tag or commit {ref!r}.{hint}") from None

    def _reference(self, name: str) -> str | None:
        """The commit id that a branch or tag, by its full name, is at; None where there is none."""
        if self._waiting is not None and self._waiting[0] == name:
            return self._waiting[1]
        try:
            reference = self.repository.references.get(name)
            return None if reference is None else str(reference.resolve().target)
        except ValueError:
            return None  # no name that a reference may have
        except (pygit2.GitError, OSError):
            short = name.split("/", 2)[-1]
            raise Damaged(
                f"{self} is damaged: its file {name} is empty or does not hold a commit's id, so nobody knows where "
                f"{short!r} was. {HOW}"
            ) from None

    def _names(self, prefix: str) -> list[str]:
        """The branches or tags, without their prefix."""
        with self._words:
            return [name.removeprefix(prefix) for name in self.repository.references if name.startswith(prefix)]

    def log(self, ref: str, limit: int | None = None) -> Iterator[Commit]:
        head = self.resolve(ref)
        self._learn(head)
        with self._words:
            walker = self.repository.walk(head, SortMode.TOPOLOGICAL | SortMode.TIME)
            for index, commit in enumerate(walker):
                if limit is not None and index >= limit:
                    return
                yield self._commits[str(commit.id)]

    def find(self, ref: str, key: str) -> Commit | None:
        head = self.resolve(ref)
        self._learn(head)
        candidates = [commit.id for commit in self._by_key.get(key, ())]
        with self._words:
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
                new[commit_id] = _commit(self.objects.commit(commit_id))
                ahead += new[commit_id].parents
        self._commits |= new
        for commit in new.values():
            self._by_key.setdefault(commit.key, []).append(commit)

    def read(self, ref: str, path: str) -> BinaryIO:
        commit = self.resolve(ref)
        found = self._at(commit, path)
        if found is None:

            def hint() -> str:
                return nearest(path, [entry.path for entry in self.list(commit)][:10_000])

            raise UnknownPath(f"{self.uri(commit)} has no file {path!r}.", hint)
        if not isinstance(found, pygit2.Blob):
            raise UnknownPath(f"{self.uri(commit, path)} is a folder, not a file.")
        with self._words:
            return io.BytesIO(self.objects.blob(str(found.id), f"{path} at commit {commit[:12]}"))

    def _at(self, commit: str, path: str) -> pygit2.Object | None:
        """What is at a path, not read yet; None where nothing is."""
        found: pygit2.Object = self._tree(commit)
        walked = ""
        for name in path.split("/"):
            if not isinstance(found, pygit2.Tree) or not name:
                return None
            if walked:
                found = self.objects.tree(str(found.id), f"the folder {walked} at commit {commit[:12]}")
            if name not in found:
                return None
            found = found[name]
            walked = f"{walked}/{name}" if walked else name
        return found

    def diff(self, left: str, right: str) -> list[Change]:
        kinds = {DeltaStatus.ADDED: "added", DeltaStatus.DELETED: "removed"}
        # Each side is shown as it is: files are neither followed through renames nor merged first.
        sides = [self._whole(left), self._whole(right)]
        with self._words:
            deltas = list(sides[0].diff_to_tree(sides[1]).deltas)
        changed = [(delta.new_file.path, kinds.get(delta.status, "changed")) for delta in deltas]
        return [Change(path, kind) for path, kind in sorted(changed)]  # type: ignore[arg-type]

    def list(self, ref: str, prefix: str = "") -> list[Entry]:
        commit, listed = self.resolve(ref), self._listed
        if listed[0] == commit:
            return [entry for entry in listed[1] if entry.path.startswith(prefix)]
        entries: list[Entry] = []

        def walk(tree: pygit2.Tree, base: str) -> None:
            for item in tree:
                path = f"{base}{item.name}"
                if isinstance(item, pygit2.Tree):
                    # Only folders on the way to the prefix, or below it, can hold what is asked for.
                    if prefix.startswith(f"{path}/") or f"{path}/".startswith(prefix):
                        walk(self.objects.tree(str(item.id), f"the folder {path}"), f"{path}/")
                elif isinstance(item, pygit2.Blob) and path.startswith(prefix):
                    oid = str(item.id)
                    entries.append(Entry(path, self.objects.size(oid, path), oid))

        with self._words:
            walk(self._tree(commit), "")
        entries.sort(key=lambda entry: entry.path)
        if not prefix:
            self._listed = commit, entries
            return list(entries)
        return entries

    def uri(self, ref: str, path: str = "") -> str:
        return f"git+file://{self.path}@{self.resolve(ref)}" + (f"/{path}" if path else "")

    def _tree(self, ref: str) -> pygit2.Tree:
        """The root of a reference's files."""
        commit = self.objects.commit(self.resolve(ref))
        return self.objects.tree(str(commit.tree_id), f"the root folder of commit {str(commit.id)[:12]}")

    def _whole(self, ref: str) -> pygit2.Tree:
        """The root of a reference's files with every folder below it checked: libgit2 is about to go through them."""
        tree = self._tree(ref)
        for _ in self.objects.below(tree):
            pass
        return tree

    # -- writing -------------------------------------------------------------------------------------------------

    def branch(self, name: str, source: str = MAIN) -> str:
        check_branch(name)
        with self._lock():
            target = self._reference(f"refs/heads/{name}")
            return self._point(f"refs/heads/{name}", self.resolve(source)) if target is None else target

    def commit(
        self, branch: str, files: Mapping[str, Path | bytes], key: str, message: str, metadata: Mapping[str, str]
    ) -> str:
        check_branch(branch)
        for path in files:
            check_path(path)
        done = self._done(branch, key, files)
        if done is not None:
            return done
        # Content is written before the lock is taken: it may take long, and belongs to no branch yet.
        with self._words:
            blobs = {path: self._blob(content) for path, content in files.items()}
        with self._lock():
            done = self._done(branch, key, files)
            if done is not None:
                return done
            head = self._head(branch)
            tree = self._with_files(self._tree(head), blobs)
            return self._move(branch, tree, [head], key, message, metadata)

    def _done(self, branch: str, key: str, files: Mapping[str, Path | bytes]) -> str | None:
        """The commit of that key on a branch, whose files are all there."""
        head = self._head(branch)
        done = self.find(head, key)
        if done is None:
            return None
        # (A repeat may bring other files than the commit that counts.)
        missing = [path for path in files if self._at(head, path) is None and self._at(done.id, path) is not None]
        if missing:
            raise gone(self, branch, done, missing)
        return done.id

    def merge(self, source: str, into: str, key: str, message: str, metadata: Mapping[str, str]) -> str:
        with self._lock():
            ours = self._head(into)
            done = self.find(ours, key)
            if done is not None:
                return done.id
            theirs = self.resolve(source)
            for side in (ours, theirs):
                self._learn(side)
                self._whole(side)
            base = self.repository.merge_base(pygit2.Oid(hex=ours), pygit2.Oid(hex=theirs))
            if base is not None:
                self._whole(str(base))
            index = self.repository.merge_commits(pygit2.Oid(hex=ours), pygit2.Oid(hex=theirs))
            if index.conflicts is not None:
                paths = sorted({side.path for sides in index.conflicts for side in sides if side is not None})
                raise MergeConflict(f"{source!r} and {into!r} both changed: {', '.join(paths)}")
            return self._move(into, index.write_tree(self.repository), [ours, theirs], key, message, metadata)

    def tag(self, name: str, ref: str) -> str:
        check_tag(name)
        with self._lock():
            target = self.resolve(ref)
            there = self._reference(f"refs/tags/{name}")
            if there is None:
                self._point(f"refs/tags/{name}", target)
            elif there != target:
                raise TagExists(f"Tag {name!r} names commit {there} already; tags do not move.")
            return target

    def _head(self, branch: str) -> str:
        """The commit id of a branch, which alone can move. Raises UnknownRef, for a tag or a commit id too."""
        target = self._reference(f"refs/heads/{branch}")
        if target is None:
            raise UnknownRef(f"{self} has no branch {branch!r}.{nearest(branch, self._names('refs/heads/'))}")
        return target

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
            before = self.objects.tree(str(old.id), f"the folder {name}") if isinstance(old, pygit2.Tree) else None
            folder = self._with_files(before, inner)
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
        return self._point(f"refs/heads/{branch}", str(new))

    def _point(self, name: str, target: str) -> str:
        """Makes a reference, or moves it; the caller holds the lock."""
        if self._waiting is not None and self._waiting[0] == name:
            self._waiting = name, target
            return target
        free_reference(Path(self.repository.path) / name)
        self.repository.references.create(name, target, force=True)
        return target

    @contextmanager
    def together(self, branch: str) -> Iterator[None]:
        """Commits on a branch are flushed to disk together, and then the branch moves. Nobody else writes meanwhile."""
        with self._lock():
            name = f"refs/heads/{branch}"
            self._waiting = name, self._head(branch)
            pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, False)
            try:
                yield
            finally:
                newest, self._waiting = self._waiting[1], None
                pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)
                if newest != self._head(branch):
                    os.sync()
                    self._point(name, newest)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One writer at a time moves references; the lock goes with the process that held it."""
        if self._waiting is not None:
            yield  # it is held by `together`
            return
        with self._words, patient(self.path / "t2t.lock", str(self)):
            yield


def open_git(rest: str, work: Path, create: bool, wait: float | None) -> GitLake:
    """The lake `git` (`lake.git` in the work folder) or `git:<path>`."""
    return GitLake(work / (rest or "lake.git"), create)


def _commit(commit: pygit2.Commit) -> Commit:
    lines = commit.message.rstrip("\n").split("\n")
    key, metadata = "", {}
    if len(lines) >= 2 and lines[-2].startswith(f"{KEY}: ") and lines[-1].startswith(f"{METADATA}: "):
        with suppress(ValueError):  # somebody's own commit, with lines that look like ours
            key, metadata = (
                json.loads(lines[-2].removeprefix(f"{KEY}: ")),
                json.loads(lines[-1].removeprefix(f"{METADATA}: ")),
            )
            lines = lines[:-2]
    message = "\n".join(lines).rstrip("\n")
    parents = tuple(str(parent) for parent in commit.parent_ids)
    version = metadata.pop(VERSION, "")
    time = datetime.fromtimestamp(commit.commit_time, UTC)
    return Commit(str(commit.id), message, key, metadata, parents, time, version)
