"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from t2t.core.files import (
    atomic_file,
    atomic_folder,
    remove_folder,
    remove_leftovers,
    sha256,
    sha256_file,
    staging,
    write_text,
)
from t2t.core.locks import Busy, Exclusive

pytestmark = pytest.mark.unit


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_half(target: Path, error: BaseException) -> None:
    with atomic_file(target) as temporary:
        temporary.write_text("ne")
        raise error


def fill_half(target: Path, error: BaseException) -> None:
    with atomic_folder(target) as temporary:
        (temporary / "new").write_text("2")
        raise error


def test_a_file_appears_whole_at_the_end(tmp_path):
    target = tmp_path / "new" / "folder" / "a.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        # A rename is atomic only within one file system, so the temporary file must lie beside its target.
        assert temporary.parent == target.parent
    assert target.read_text() == "whole"
    assert everything(target.parent) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        write_half(target, RuntimeError("half way"))
    assert target.read_text() == "old"
    assert everything(tmp_path) == ["a.txt"]


def test_an_error_before_the_first_file_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "a.txt", KeyboardInterrupt())
    assert everything(tmp_path) == []


def test_a_file_that_nobody_wrote_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "a.txt"):
        pass
    assert everything(tmp_path) == []


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    target = tmp_path / "deep" / "checkpoint"
    with atomic_folder(target) as temporary:
        (temporary / "old").write_text("1")
    with atomic_folder(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "new").write_text("2")
        assert everything(target) == ["old"]
    assert everything(tmp_path) == ["deep", "deep/checkpoint", "deep/checkpoint/sub", "deep/checkpoint/sub/new"]


@pytest.mark.parametrize("before", [[], ["old"]])
def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path, before):
    target = tmp_path / "checkpoint"
    for name in before:
        target.mkdir()
        (target / name).write_text("1")
    kept = everything(tmp_path)
    with pytest.raises(RuntimeError, match="half way"):
        fill_half(target, RuntimeError("half way"))
    assert everything(tmp_path) == kept


def test_leftovers_of_a_killed_writer_do_not_come_along(tmp_path):
    """A killed process leaves its temporary folder; one with the same process id meets it again."""
    with atomic_folder(tmp_path / "a") as temporary:
        place = temporary
    place.mkdir()
    (place / "rubbish").write_text("half")
    with atomic_folder(tmp_path / "a") as temporary:
        assert everything(temporary) == []
        (temporary / "good").write_text("1")
    assert everything(tmp_path) == ["a", "a/good"]


def test_text_is_written_as_utf8(tmp_path):
    write_text(tmp_path / "a.txt", "größe\n")
    assert (tmp_path / "a.txt").read_bytes() == "größe\n".encode()


def test_sha256_frames_its_parts():
    assert len({sha256("ab", "c"), sha256("a", "bc"), sha256("abc"), sha256("abc", "")}) == 4
    assert sha256("größe") == sha256("größe".encode())
    assert len(sha256()) == 64


def test_sha256_of_a_file_is_the_well_known_one(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# -- what killed processes leave, and locks --------------------------------------------------------------------------

HOLD = """
import sys, time
from t2t.core.locks import Exclusive
with Exclusive(sys.argv[1], "Campaign 'a'"):
    print("held", flush=True)
    time.sleep(600)
"""


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_dead_processes_and_of_our_own_number_go(tmp_path):
    gone, ours, alive_one = dead_pid(), os.getpid(), os.getppid()
    for pid in (gone, ours, alive_one):
        (tmp_path / f".table.parquet.{pid}.tmp").write_text("half")
        (tmp_path / "deep" / f".student.{pid}.tmp").mkdir(parents=True)
        (tmp_path / "deep" / f".student.{pid}.tmp" / "config.json").write_text("{}")
    for name in ("table.parquet", ".hidden", "notes.1.tmp", ".name.tmp"):
        (tmp_path / name).write_text("stays")
    assert remove_leftovers(tmp_path) == sorted(tmp_path / f".table.parquet.{pid}.tmp" for pid in (gone, ours))
    removed = remove_leftovers(tmp_path, deep=True)
    assert removed == sorted(tmp_path / "deep" / f".student.{pid}.tmp" for pid in (gone, ours))
    kept = {path.name for path in tmp_path.rglob("*")}
    assert kept == {"table.parquet", ".hidden", "notes.1.tmp", ".name.tmp", "deep", "config.json"} | {
        f".table.parquet.{alive_one}.tmp",
        f".student.{alive_one}.tmp",
    }


def test_an_interrupted_write_is_a_leftover(tmp_path):
    """The names that `atomic_file`, `atomic_folder` and `staging` give are those that are cleared away."""
    with atomic_file(tmp_path / "a.txt") as file, atomic_folder(tmp_path / "b") as folder, staging(tmp_path) as stage:
        file.write_text("half")
        # A staging folder is held by whoever works in it, whatever number that process has where it lives.
        assert set(remove_leftovers(tmp_path)) == {file, folder}
        file.write_text("half")
        folder.mkdir()
        left = tmp_path / stage.name.replace("staging-", "staging-left")
        left.mkdir()
        assert remove_leftovers(tmp_path)[-1] == left
        file.write_text("half")
        folder.mkdir()


def test_a_lock_is_held_once_and_names_its_holder(tmp_path):
    path = tmp_path / "deep" / "run.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    other = f"^Campaign 'a' is being run by process {process.pid} on host .+ since 20"
    with pytest.raises(Busy, match=other), Exclusive(path, "Campaign 'a'"):
        pass
    process.kill()
    process.wait()
    own = f"process {os.getpid()} on host"
    with Exclusive(path, "Campaign 'a'"), pytest.raises(Busy, match=own), Exclusive(path, "Campaign 'a'"):
        pass
    with Exclusive(path, "Campaign 'a'"):
        pass


def test_a_lock_may_be_held_within_itself_but_not_by_another_thread(tmp_path):
    lock = Exclusive(tmp_path / "run.lock", "Campaign 'a'")

    def take() -> None:
        with lock:
            pass

    with ThreadPoolExecutor(1) as other:
        with lock, lock, pytest.raises(Busy, match=f"process {os.getpid()} on host"):
            other.submit(take).result()
        other.submit(take).result()


def test_a_lock_is_given_back_whatever_goes_wrong(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "run.lock"
    lock = Exclusive(path, "Campaign 'a'")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    def interrupted() -> None:
        with lock:
            shutil.rmtree(path.parent)  # somebody removes the folder meanwhile
            raise ValueError("the block's own")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            lock.__enter__()
    with pytest.raises(ValueError, match="the block's own"):
        interrupted()
    with lock, pytest.raises(Busy), Exclusive(path, "Campaign 'a'"):
        pass


def test_a_folder_is_removed_whole(tmp_path, monkeypatch):
    folder = tmp_path / "round-000"
    (folder / "student").mkdir(parents=True)
    (folder / "student" / "config.json").write_text("{}")
    with monkeypatch.context() as patch:
        # A kill before the first file is gone: nobody finds half of the folder under its name.
        patch.setattr("t2t.core.files.shutil.rmtree", lambda *_, **__: None)
        remove_folder(folder)
    assert not folder.exists()
    assert len(remove_leftovers(tmp_path)) == 1
    assert everything(tmp_path) == []
    remove_folder(folder)  # it is gone already
