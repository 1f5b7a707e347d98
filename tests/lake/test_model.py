"""Random sequences of the lake's operations against a simple model of what they mean. Both backends."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from t2t.lake import MergeConflict, TagExists, UnknownPath, UnknownRef, open_lake
from tests.helpers.lakefs import BACKENDS

pytestmark = pytest.mark.unit

# Few names and versions: they have to meet. Folders and files whose order differs by '/' and '-' are among them.
PATHS = ["a", "d/1", "d/10", "d/2", "d-1", "e/f/g"]
VERSIONS = [1, 2, 3]
KEYS = [f"key {i}" for i in range(6)]
Tree = dict[str, bytes]


@dataclass
class Model:
    """Commits know their whole tree and all keys behind them; branches and tags are names for commits."""

    trees: list[Tree] = field(default_factory=lambda: [{}])
    keys: list[dict[str, int]] = field(default_factory=lambda: [{}])
    parents: list[tuple[int, ...]] = field(default_factory=lambda: [()])
    branches: dict[str, int] = field(default_factory=lambda: {"main": 0})
    tags: dict[str, int] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)

    def add(self, branch: str, tree: Tree, key: str, *others: int) -> int:
        parents = (self.branches[branch], *others)
        behind = {name: number for parent in parents for name, number in self.keys[parent].items()}
        self.trees.append(tree)
        self.parents.append(parents)
        self.keys.append({**behind, key: len(self.trees) - 1})
        self.branches[branch] = len(self.trees) - 1
        return self.branches[branch]

    def ancestors(self, commit: int) -> set[int]:
        found, ahead = set(), [commit]
        while ahead:
            one = ahead.pop()
            if one not in found:
                found.add(one)
                ahead += self.parents[one]
        return found

    def bases(self, left: int, right: int) -> list[int]:
        """The best common ancestors; more than one where branches were merged crosswise."""
        common = self.ancestors(left) & self.ancestors(right)
        behind = {one for commit in common for parent in self.parents[commit] for one in self.ancestors(parent)}
        return sorted(common - behind)


class LakeMachine(RuleBasedStateMachine):
    uri = "git"
    commits = Bundle("commits")

    @initialize(target=commits)
    def begin(self) -> int:
        self.folder = Path(tempfile.mkdtemp(prefix="t2t-model-"))
        self.open_again()
        self.model = Model(ids=[self.lake.resolve("main")])
        return 0

    @rule()
    def open_again(self) -> None:
        if not hasattr(self, "lake_uri"):
            self.lake_uri = self.uri if self.uri == "git" else f"lakefs://t2t-model-{secrets.token_hex(6)}"
        self.lake = open_lake(self.lake_uri, self.folder)

    def names(self) -> list[str]:
        return sorted(self.model.branches)

    @rule(name=st.sampled_from(["one", "two"]), source=commits)
    def branch(self, name: str, source: int) -> None:
        number = self.model.branches.setdefault(name, source)
        assert self.lake.branch(name, self.model.ids[source]) == self.model.ids[number]

    @rule(
        target=commits,
        data=st.data(),
        versions=st.dictionaries(st.sampled_from(PATHS), st.sampled_from(VERSIONS), max_size=3),
        key=st.sampled_from(KEYS),
    )
    def commit(self, data, versions: dict[str, int], key: str):
        # No two files are alike: with that, lakeFS 1.8x overlooks some conflicts (t2t/lake/lakefs/lake.py).
        files = {path: path.encode() * version for path, version in versions.items()}
        branch = data.draw(st.sampled_from(self.names()))
        head = self.model.branches[branch]
        known = self.model.keys[head].get(key)
        made = self.lake.commit(branch, files, key, f"Commit {key}", self.about())
        if known is not None:
            assert made in self.same_key(head, key)
            return multiple()
        number = self.model.add(branch, {**self.model.trees[head], **files}, key)
        self.model.ids.append(made)
        assert made not in self.model.ids[:-1]
        return number

    def about(self) -> dict[str, str]:
        """Metadata of its own for each commit: in Git two that are alike in all, to the second, are one."""
        return {"n": str(len(self.model.ids))}

    def same_key(self, commit: int, key: str) -> list[str]:
        """Two branches may have used one key, and then been merged: either of the two is a right answer."""
        behind = self.model.ancestors(commit)
        return [self.model.ids[one] for one in behind if self.model.keys[one].get(key) == one]

    @rule(target=commits, data=st.data(), source=commits, key=st.sampled_from(KEYS))
    def merge(self, data, source: int, key: str):
        into = data.draw(st.sampled_from(self.names()))
        head = self.model.branches[into]
        if key not in self.model.keys[head] and len(self.model.bases(head, source)) != 1:
            # Crosswise merges: the backends may choose different bases. The engine makes none.
            return multiple()
        if key in self.model.keys[head]:
            made = self.lake.merge(self.model.ids[source], into, key, "Merge", self.about())
            assert made in self.same_key(head, key)
            return multiple()
        base = self.model.trees[self.model.bases(head, source)[0]]
        ours, theirs = self.model.trees[head], self.model.trees[source]
        both = {path for path in {*ours, *theirs} if len({side.get(path) for side in (base, ours, theirs)}) == 3}
        if both:
            with pytest.raises(MergeConflict) as caught:
                self.lake.merge(self.model.ids[source], into, key, "Merge", self.about())
            assert all(path in str(caught.value) for path in both)
            return multiple()
        merged = {path: theirs[path] if ours.get(path) == base.get(path) else ours[path] for path in {*ours, *theirs}}
        self.model.ids.append(self.lake.merge(self.model.ids[source], into, key, "Merge", self.about()))
        return self.model.add(into, merged, key, source)

    @rule(name=st.sampled_from(["t/1", "t.2"]), commit=commits)
    def tag(self, name: str, commit: int) -> None:
        if self.model.tags.setdefault(name, commit) == commit:
            assert self.lake.tag(name, self.model.ids[commit]) == self.model.ids[commit]
        else:
            with pytest.raises(TagExists):
                self.lake.tag(name, self.model.ids[commit])

    @rule(commit=commits, path=st.sampled_from(PATHS))
    def read(self, commit: int, path: str) -> None:
        tree = self.model.trees[commit]
        if path in tree:
            assert self.lake.read(self.model.ids[commit], path).read() == tree[path]
        else:
            with pytest.raises(UnknownPath):
                self.lake.read(self.model.ids[commit], path)

    @rule(commit=commits, prefix=st.sampled_from(["", "d", "d/", "d/1", "e/f", "nothing"]))
    def list(self, commit: int, prefix: str) -> None:
        found = [(entry.path, entry.size) for entry in self.lake.list(self.model.ids[commit], prefix)]
        tree = self.model.trees[commit]
        assert found == sorted((path, len(content)) for path, content in tree.items() if path.startswith(prefix))

    @rule(left=commits, right=commits)
    def diff(self, left: int, right: int) -> None:
        before, after = self.model.trees[left], self.model.trees[right]
        expected = []
        for path in sorted({*before, *after}):
            if before.get(path) != after.get(path):
                kind = "added" if path not in before else "removed" if path not in after else "changed"
                expected.append((path, kind))
        changes = self.lake.diff(self.model.ids[left], self.model.ids[right])
        assert [(change.path, change.kind) for change in changes] == expected

    @rule(commit=commits, key=st.sampled_from(KEYS))
    def find(self, commit: int, key: str) -> None:
        found = self.lake.find(self.model.ids[commit], key)
        if key in self.model.keys[commit]:
            assert found.key == key
            assert found.id in self.same_key(commit, key)
        else:
            assert found is None

    @rule(commit=commits)
    def log(self, commit: int) -> None:
        found = list(self.lake.log(self.model.ids[commit]))
        assert sorted(one.id for one in found) == sorted(self.model.ids[one] for one in self.model.ancestors(commit))
        place = {one.id: index for index, one in enumerate(found)}
        assert all(place[parent] > place[one.id] for one in found for parent in one.parents)

    @invariant()
    def names_are_where_they_should_be(self) -> None:
        if not hasattr(self, "model"):
            return
        for name, commit in {**self.model.branches, **self.model.tags}.items():
            assert self.lake.resolve(name) == self.model.ids[commit]
        with pytest.raises(UnknownRef):
            self.lake.resolve("nothing")

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_operations_do_what_the_model_does(backend, request):
    if backend == "lakefs":
        request.getfixturevalue("lakefs_server")
    machine = type("Machine", (LakeMachine,), {"uri": backend})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40 if backend == "git" else 8,
            stateful_step_count=30,
            deadline=None,
            database=None,
            # Shrinking repeats a sequence hundreds of times; against a server that takes minutes.
            phases=[Phase.generate, Phase.shrink] if backend == "git" else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
