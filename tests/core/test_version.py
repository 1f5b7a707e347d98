"""The version that every commit of the lake carries."""

from __future__ import annotations

import pygit2
import pytest

import t2t
from t2t.core import version

pytestmark = pytest.mark.unit


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository with one committed file, taken for the one that the code runs from."""
    repository = pygit2.init_repository(str(tmp_path))
    (tmp_path / "code.py").write_text("1")
    repository.index.add("code.py")
    author = pygit2.Signature("a", "a@b", 0, 0)
    commit = repository.create_commit("HEAD", author, author, "m", repository.index.write_tree(), [])
    repository.index.write()
    monkeypatch.setattr(version, "ROOT", tmp_path)
    version.code_version.cache_clear()
    yield tmp_path, str(commit)[:12]
    version.code_version.cache_clear()


def test_a_clone_names_its_commit(clone):
    folder, commit = clone
    (folder / "untracked").write_text("2")
    assert version.code_version() == f"{t2t.__version__}+{commit}"


def test_a_changed_file_shows(clone):
    folder, commit = clone
    (folder / "code.py").write_text("2")
    assert version.code_version() == f"{t2t.__version__}+{commit}.modified"


def test_outside_a_clone_it_is_the_version_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(version, "ROOT", tmp_path)
    assert version.code_version.__wrapped__() == t2t.__version__
    pygit2.init_repository(str(tmp_path))
    assert version.code_version.__wrapped__() == t2t.__version__
