"""A Git lake that is damaged says so in one line, whatever is read, and never goes round for ever."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import ConfigLevel

from t2t.core.errors import T2TError
from t2t.lake import Damaged, open_lake
from t2t.lake.check import Repository
from t2t.lake.git import GitLake
from tests.helpers.lakes import text, write

pytestmark = pytest.mark.unit

LARGE = bytes(range(256)) * 40


@pytest.fixture
def lake(tmp_path: Path) -> GitLake:
    """Two commits; `d/large.bin` is in the first one."""
    lake = GitLake(tmp_path / "lake.git")
    lake.commit("main", {"d/large.bin": LARGE, "d/small.txt": b"1"}, "k1", "First", {})
    write(lake, "main", "k2", other="2")
    return lake


def names(lake: GitLake) -> dict[str, str]:
    """Objects of each kind, by what they are."""
    commit = lake.repository[lake.resolve("main")]
    first = commit.parents[0]
    return {
        "head": str(commit.id),
        "parent": str(first.id),
        "root": str(commit.tree.id),
        "folder": str(commit.tree["d"].id),
        "file": str(commit.tree["d/large.bin"].id),
    }


def file_of(lake: GitLake, oid: str) -> Path:
    path = lake.path / "objects" / oid[:2] / oid[2:]
    path.chmod(0o644)
    return path


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "half": lambda content: content[: len(content) // 2],
    "a few bytes": lambda content: content[:8],
    "one byte short": lambda content: content[:-1],
    "empty": lambda content: b"",
    "missing": lambda content: None,
    "flipped in the middle": lambda content: flipped(content, len(content) // 2),
    "flipped at the beginning": lambda content: flipped(content, 4),
    "zeros": lambda content: bytes(len(content)),
}


def damage(lake: GitLake, oid: str, how: str) -> None:
    path = file_of(lake, oid)
    content = DAMAGE[how](path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("what", ["head", "parent", "root", "folder", "file"])
def test_a_damaged_object_is_named_by_whatever_reads_it(lake, what, how):
    oid = names(lake)[what]
    damage(lake, oid, how)

    def use() -> None:
        again = GitLake(lake.path)
        list(again.log("main"))
        text(again, "main", "d/small.txt")
        again.read("main", "d/large.bin")

    with pytest.raises(Damaged) as caught:
        use()
    message = str(caught.value)
    assert oid in message
    assert "lake check" in message
    assert "\n" not in message


@pytest.mark.parametrize("what", ["root", "folder"])
def test_what_libgit2_goes_through_by_itself_is_checked_before(lake, what):
    """diff and merge read folders inside of libgit2, which does not come back from one that is cut off."""
    lake.branch("work")
    write(lake, "work", "k3", more="3")
    write(lake, "main", "k4", most="4")
    root = lake.repository[lake.resolve("work")].tree
    oid = str(root.id if what == "root" else root["d"].id)
    damage(lake, oid, "half")
    with pytest.raises(Damaged, match=oid):
        GitLake(lake.path).diff("main", "work")
    with pytest.raises(Damaged, match=oid):
        GitLake(lake.path).merge("work", "main", "m", "Merge", {})


def test_a_commit_that_is_cut_off_ends_the_process_that_reads_it(lake):
    """In a process of its own, which a signal ends where libgit2 goes round for ever."""
    damage(lake, names(lake)["parent"], "half")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        try:
            list(GitLake(lake.path).log("main"))
        except Damaged:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_an_object_in_a_pack_is_read_and_takes_the_place_of_a_damaged_file(lake, tmp_path):
    """As after `git gc`."""
    oid, pack = names(lake)["file"], lake.path / "objects" / "pack"
    builder = pygit2.PackBuilder(lake.repository)
    for name in lake.repository.odb:
        builder.add(name)
    builder.write(str(pack))
    damage(lake, oid, "half")
    with pytest.raises(Damaged, match=oid):
        GitLake(lake.path).read("main", "d/large.bin")
    repository = Repository(lake.path, tmp_path)
    (found,) = repository.check()
    assert repository.mend(found)
    with GitLake(lake.path).read("main", "d/large.bin") as file:
        assert file.read() == LARGE
    for folder in lake.path.glob("objects/??"):
        shutil.rmtree(folder)
    again = GitLake(lake.path)
    assert [entry.size for entry in again.list("main")] == [len(LARGE), 1, 1]
    with again.read("main", "d/large.bin") as file:
        assert file.read() == LARGE
    (packed,) = pack.glob("*.pack")
    packed.chmod(0o644)
    content = packed.read_bytes()
    packed.write_bytes(content[: len(content) // 3])
    with pytest.raises(Damaged, match=r"pack .* is cut off"):
        GitLake(lake.path).read("main", "d/large.bin")


# -- references, and the repository itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"0" * 40, b"\0" * 41, b"nonsense\n", b"ref: refs/heads/main\n"])
def test_a_branch_that_points_nowhere_is_told(lake, content):
    (lake.path / "refs" / "heads" / "main").write_bytes(content)
    with pytest.raises(Damaged, match=r"main|0{12}"):
        GitLake(lake.path)


def test_a_lake_without_main_is_told(lake):
    (lake.path / "refs" / "heads" / "main").unlink()
    with pytest.raises(Damaged, match="no branch 'main'"):
        GitLake(lake.path)


def test_a_broken_branch_does_not_hide_the_others(lake):
    lake.branch("work")
    (lake.path / "refs" / "heads" / "work").write_bytes(b"")
    again = GitLake(lake.path)
    assert text(again, "main", "d/small.txt") == "1"
    for use in (lambda: again.resolve("work"), lambda: again.branch("work"), lambda: write(again, "work", "k", a="1")):
        with pytest.raises(Damaged, match=r"refs/heads/work is empty"):
            use()


def test_a_lock_that_a_killed_process_left_is_removed(lake, monkeypatch, caplog):
    monkeypatch.setattr("t2t.lake.repository.STALE", 0.2)
    lock = lake.path / "refs" / "heads" / "main.lock"
    lock.write_bytes(b"")
    commit = write(lake, "main", "k3", a="1")
    assert lake.resolve("main") == commit
    assert not lock.exists()
    assert "main.lock: removed" in caplog.text


def test_an_empty_folder_is_no_lake_and_is_not_made_one(tmp_path):
    (tmp_path / "lake.git").mkdir()
    with pytest.raises(Damaged, match="an empty folder"):
        open_lake("git", tmp_path)
    assert list((tmp_path / "lake.git").iterdir()) == []


@pytest.mark.parametrize("part", ["HEAD", "objects", "refs"])
def test_a_repository_that_lacks_a_part_is_told(lake, part):
    path = lake.path / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(Damaged, match=part):
        GitLake(lake.path)


def test_a_file_is_no_lake(tmp_path):
    (tmp_path / "lake.git").write_text("no lake")
    with pytest.raises(Damaged, match="no Git repository"):
        open_lake("git", tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[core\n"])
def test_a_damaged_configuration_is_told(lake, content):
    (lake.path / "config").write_bytes(content)
    try:
        again = GitLake(lake.path)
    except T2TError as error:
        assert "config" in str(error)  # noqa: PT017 (an empty one is as good as none)
    else:
        assert text(again, "main", "d/small.txt") == "1"


def as_nobody(function: Callable[[], object], home: Path = Path("/")) -> str:
    """What a function raises for another user, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            for level in (ConfigLevel.GLOBAL, ConfigLevel.XDG):
                pygit2.settings.search_path[level] = str(home)
            function()
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_lake_of_another_user_is_told_whose_it_is(lake, tmp_path):
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)
    said = as_nobody(lambda: GitLake(lake.path))
    assert said.startswith("T2TError: The lake")
    lake.path.chmod(0o755)
    said = as_nobody(lambda: GitLake(lake.path), home=Path("/root"))
    assert "set HOME to a folder of nobody's" in said
    said = as_nobody(lambda: GitLake(lake.path))
    assert "belongs to root, and you are" in said
    assert "safe.directory" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_lake_that_may_not_be_written_to_is_told(tmp_path):
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        folder.chmod(folder.stat().st_mode | 0o055)
    lake = GitLake(tmp_path / "lake.git")
    for path in (lake.path, *lake.path.rglob("*")):
        os.chown(path, 65534, 65534)
        path.chmod(0o555)
    said = as_nobody(lambda: write(GitLake(lake.path), "main", "k", a="1"))
    assert said.startswith("T2TError: The lake")
    assert "cannot be used by" in said
    assert "T2T_WORK" in said


def test_a_lake_that_is_taken_away_is_told(lake):
    shutil.rmtree(lake.path)
    with pytest.raises(Damaged):
        write(lake, "main", "k3", a="1")


# -- looking at all of it, and mending -------------------------------------------------------------------------------


def problems(lake: GitLake, work: Path, clone: Path | None = None) -> list[str]:
    return [damage.object or damage.what for damage in Repository(lake.path, work, clone).check()]


def test_a_sound_lake_has_no_problems(lake, tmp_path):
    repository = Repository(lake.path, tmp_path)
    assert list(repository.check()) == []
    assert repository.checked == 10  # three commits, their three root folders, `d` and three files


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("what", ["head", "parent", "root", "folder", "file"])
def test_what_is_damaged_is_put_back_from_a_clone(lake, tmp_path, what, how):
    clone = tmp_path / "copy.git"
    shutil.copytree(lake.path, clone)
    oid = names(lake)[what]
    damage(lake, oid, how)
    assert oid in problems(lake, tmp_path)
    repository = Repository(lake.path, tmp_path, clone)
    for found in list(repository.check()):
        assert found.source == str(clone)
        assert repository.mend(found)
    assert problems(lake, tmp_path) == []
    assert text(GitLake(lake.path), "main", "d/small.txt") == "1"


def test_a_file_that_lies_in_the_work_folder_is_put_back_from_there(lake, tmp_path):
    oid, twin = names(lake)["file"], tmp_path / "campaigns" / "c" / "round-000" / "large.bin"
    twin.parent.mkdir(parents=True)
    twin.write_bytes(LARGE)
    damage(lake, oid, "half")
    repository = Repository(lake.path, tmp_path)
    (found,) = repository.check()
    assert (found.object, found.source) == (oid, str(twin))
    assert repository.mend(found)
    with GitLake(lake.path).read("main", "d/large.bin") as file:
        assert file.read() == LARGE


def test_a_lost_branch_is_told_with_the_commits_it_may_have_been_at(lake, tmp_path):
    head = lake.resolve("main")
    (lake.path / "refs" / "heads" / "main").write_bytes(b"")
    (found,) = Repository(lake.path, tmp_path).check()
    assert found.what == "refs/heads/main"
    assert head in found.advice
    assert "update-ref refs/heads/main" in found.advice


def test_nothing_is_mended_from_a_clone_that_is_damaged_too(lake, tmp_path):
    clone = tmp_path / "copy.git"
    damage(lake, names(lake)["file"], "half")
    shutil.copytree(lake.path, clone)
    repository = Repository(lake.path, tmp_path, clone)
    (found,) = repository.check()
    assert found.source == ""
    assert not repository.mend(found)


def test_sizes_are_read_from_headers_so_a_listing_reads_no_content(lake):
    damage(lake, names(lake)["file"], "one byte short")
    assert [(entry.path, entry.size) for entry in lake.list("main")] == [
        ("d/large.bin", len(LARGE)),
        ("d/small.txt", 1),
        ("other.txt", 1),
    ]


def test_damaged_packed_references_are_named(tmp_path, lake):
    (lake.path / "packed-refs").write_text("xyz zz\n")
    (found,) = Repository(lake.path, tmp_path).check()
    assert str(found).startswith(f"{lake.path}: packed-refs cannot be read: ")
    (lake.path / "refs" / "heads" / "main").unlink()
    assert [damage.what for damage in Repository(lake.path, tmp_path).check()] == ["packed-refs", "refs/heads/main"]
