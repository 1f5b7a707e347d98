"""All of a lake, read whole: what is missing or damaged, and what each thing can be restored from.

It reads a Git lake below `GitLake`, which refuses to open one that is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

from t2t.core.errors import T2TError, one_line
from t2t.lake.base import MAIN, Lake
from t2t.lake.objects import Objects, blob_id
from t2t.lake.repository import Words, open_repository

# Files of the work folder that a round also leaves in the lake are small; others are not looked at.
MOST_BYTES = 1 << 30
SHOWN_TIPS = 3


@dataclass(frozen=True)
class Damage:
    """Something of a lake that is missing or not what was written.

    what: the branch, commit, folder or file. object: its name in Git, "" where it is none. source: the file or clone
    that has it whole, "" where none was found. advice: what a person does about it.
    """

    lake: str
    what: str
    object: str
    problem: str
    source: str = ""
    advice: str = ""

    def __str__(self) -> str:
        where = f" (object {self.object})" if self.object else ""
        return f"{self.lake}: {self.what}{where} {self.problem}. {self.advice}"


class Repository:
    """A Git lake's repository, to be checked and mended.

    Args:
        work: the folder whose files may be those of the lake.
        clone: another copy of the lake; its objects are checked before they are offered.

    Raises Damaged where it is no repository.
    """

    def __init__(self, path: Path, work: Path, clone: Path | None = None):
        self.path, self.work, self.clone = path, work, clone
        with Words(path):
            self.repository = open_repository(path)
        self.objects = Objects(self.repository, Path(self.repository.path))
        self._other: Objects | None = None
        if clone is not None:
            with Words(clone):
                other = open_repository(clone)
            self._other = Objects(other, Path(other.path))
        self._files: dict[str, Path] | None = None
        self.checked = 0

    def check(self) -> Iterator[Damage]:
        """Every reference, and every object behind them, each once."""
        self.checked = 0
        for pack, problem in self.objects.bad_packs().items():
            advice = (
                f"Put {pack.name} and its .idx in from a copy of the lake, or save what is whole: mv {pack} /tmp; git "
                f"--git-dir {self.path} unpack-objects -r < /tmp/{pack.name}. Then check again."
            )
            yield Damage(str(self.path), f"the pack {pack.name}", "", problem, "", advice)
        if self.objects.bad_packs():
            return
        if (packed := self._packed_references()) is not None:
            yield packed
        lost, seen = [], set[str]()
        for name in self._references():
            target = _target(self.repository, name)
            if target is None:
                lost.append(name)
            else:
                yield from self._commits(target, seen)
        for name in lost:
            yield self._lost(name, seen)

    def _packed_references(self) -> Damage | None:
        """What is wrong with the file that `git gc` keeps branches and tags in; None where nothing is."""
        try:
            list(self.repository.references)
        except pygit2.GitError as error:
            file = Path(self.repository.path) / "packed-refs"
            advice = (
                f"Put {file} in from a copy of the lake; without one move it away (mv {file} /tmp) and check again, "
                "which tells where branches may have been."
            )
            return Damage(str(self.path), file.name, "", f"cannot be read: {one_line(error, 100)}", "", advice)
        return None

    def _references(self) -> list[str]:
        """Full names of all branches and tags, `main` among them whether it is there or not."""
        root = Path(self.repository.path)
        files = [path for path in (root / "refs").rglob("*") if path.is_file() and path.suffix != ".lock"]
        names = {path.relative_to(root).as_posix() for path in files}
        if self._packed_references() is None:
            names |= {name for name in self.repository.references if name.startswith("refs/")}
        return sorted(names | {f"refs/heads/{MAIN}"})

    def _commits(self, head: str, seen: set[str]) -> Iterator[Damage]:
        ahead = [head]
        while ahead:
            oid = ahead.pop()
            if oid in seen:
                continue
            found = self._problem(oid, f"the commit {oid[:12]}", seen)
            if found is not None:
                yield found
                continue
            commit = self.objects.commit(oid)
            ahead += map(str, commit.parent_ids)
            yield from self._tree(str(commit.tree_id), "", oid, seen)

    def _tree(self, oid: str, base: str, commit: str, seen: set[str]) -> Iterator[Damage]:
        if oid in seen:
            return
        found = self._problem(oid, f"the folder {base or '/'} at commit {commit[:12]}", seen)
        if found is not None:
            yield found
            return
        for item in self.objects.tree(oid, base):
            path = f"{base}{item.name}"
            if isinstance(item, pygit2.Tree):
                yield from self._tree(str(item.id), f"{path}/", commit, seen)
            elif str(item.id) not in seen:
                found = self._problem(str(item.id), f"{path} at commit {commit[:12]}", seen)
                if found is not None:
                    yield found

    def _problem(self, oid: str, what: str, seen: set[str]) -> Damage | None:
        seen.add(oid)
        self.checked += 1
        problem = self.objects.check(oid)
        if problem is None:
            return None
        damage = Damage(str(self.path), what, oid, problem)
        source = self._source(oid)
        if source is None:
            own = "" if self.clone is None else f" {self.clone} does not have it either."
            return replace(
                damage,
                advice=f"Nothing here has it whole.{own} If there is a copy of the lake: "
                "t2t lake check --all --from COPY --mend",
            )
        again = f" --from {self.clone}" if self.clone is not None else ""
        advice = f"{source} has it whole: t2t lake check --all{again} --mend puts it back."
        return replace(damage, source=str(source), advice=advice)

    def _source(self, oid: str) -> Path | None:
        """What has an object whole: a file of the work folder, or the clone."""
        if self._files is None:
            # Rounds leave in the lake what lies in their folders, too.
            files = (path for path in (self.work / "campaigns").rglob("*") if path.is_file())
            self._files = {blob_id(path): path for path in files if path.stat().st_size < MOST_BYTES}
        if oid in self._files:
            return self._files[oid]
        if self.objects.packed(oid):
            return self.path
        return self.clone if self._other is not None and self._other.check(oid) is None else None

    def _lost(self, name: str, seen: set[str]) -> Damage:
        """A reference that cannot be read: where it may have been."""
        damage = Damage(
            str(self.path), name, "", "is empty or damaged" if _is_there(self.repository, name) else "is missing"
        )
        other = None if self._other is None else _target(self._other.repository, name)
        if other is not None:
            command = f"git --git-dir {self.path} update-ref {name} {other}"
            return replace(damage, source=str(self.clone), advice=f"{self.clone} has it at {other[:12]}: {command}")
        tips = [f"{commit.id} ({one_line(commit.message.partition(chr(10))[0], 60)})" for commit in self._tips(seen)]
        if not tips:
            return replace(damage, advice="No commit is left that another branch or tag does not lead to.")
        command = f"rm -f {self.path / name}; git --git-dir {self.path} update-ref {name} ID"
        return replace(damage, advice=f"It was at one of: {', '.join(tips)}. Set it: {command}")

    def _tips(self, seen: set[str]) -> list[pygit2.Commit]:
        """Commits that no sound reference leads to and no other commit has as parent, newest first."""
        commits: dict[str, pygit2.Commit] = {}
        for oid in map(str, self.repository.odb):
            if oid not in seen and self.objects.check(oid) is None:
                found = self.repository[oid]
                if isinstance(found, pygit2.Commit):
                    commits[oid] = found
        inner = {str(parent) for commit in commits.values() for parent in commit.parent_ids}
        tips = [commit for oid, commit in commits.items() if oid not in inner]
        return sorted(tips, key=lambda commit: -commit.commit_time)[:SHOWN_TIPS]

    def mend(self, damage: Damage) -> bool:
        """Puts an object back from its source; false where there is none."""
        if not damage.object or not damage.source:
            return False
        place, written = self.objects.loose(damage.object), None
        if self._files is not None and damage.object in self._files:
            written = ObjectType.BLOB, self._files[damage.object].read_bytes()
        elif self._other is not None and damage.source != str(self.path):
            written = self._other.repository.odb.read(pygit2.Oid(hex=damage.object))
        with Words(self.path):
            if place is not None:
                place.unlink()
            if written is not None:
                # Opened anew: this one may still have the old file in mind.
                open_repository(self.path).odb.write(*written)
        return self.objects.check(damage.object) is None


def _target(repository: pygit2.Repository, name: str) -> str | None:
    try:
        reference = repository.references.get(name)
        return None if reference is None else str(reference.resolve().target)
    except (pygit2.GitError, KeyError, ValueError, OSError):
        return None


def _is_there(repository: pygit2.Repository, name: str) -> bool:
    return (Path(repository.path) / name).exists()


def check_removed(lake: Lake) -> Iterator[Damage]:
    """Files that commits of `main` removed, which t2t never does, and that are not there again; `source` is a commit
    that has them."""
    there = {entry.path for entry in lake.list(MAIN)}
    for commit in lake.log(MAIN):
        for parent in commit.parents[:1]:
            for change in lake.diff(parent, commit.id):
                if change.kind == "removed" and change.path not in there:
                    there.add(change.path)  # told once
                    problem = f"was removed by commit {commit.id[:12]}, which t2t never does"
                    advice = f"Commit {parent[:12]} has it: t2t lake check --all --mend brings it back."
                    yield Damage(str(lake), change.path, "", problem, parent, advice)


def check_read(lake: Lake) -> Iterator[Damage]:
    """Files of `main` that cannot be read."""
    for entry in lake.list(MAIN):
        try:
            with lake.read(MAIN, entry.path) as file:
                while file.read(1 << 20):
                    pass
        except T2TError as error:
            yield Damage(str(lake), entry.path, entry.digest, f"cannot be read ({one_line(error, 200)})")


def bring_back(lake: Lake, path: str, commit: str) -> None:
    """Writes a file that was removed from `main` once more, as a commit has it."""
    with lake.read(commit, path) as file:
        content = file.read()
    key = f"restored:{path}:{lake.resolve(MAIN)}"
    lake.commit(MAIN, {path: content}, key, f"Restored: {path}, as commit {commit[:12]} has it", {})
