"""Errors in words: what a person can mend is told without a traceback."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys

import pytest

from t2t import cli
from t2t.core.errors import explain, interrupted, nearest, one_line

pytestmark = pytest.mark.unit


class Wrapped(Exception):
    """Another library's error around the system's."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/work/a.parquet"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError("failed to write chunk: No space left on device"),
    ],
)
def test_a_full_disk_is_told_however_it_is_wrapped(error):
    for wrapped in (error, _caused(Wrapped("could not log"), error), _during(Wrapped("could not log"), error)):
        told = explain(wrapped)
        assert told is not None
        assert str(told).startswith("The disk is full")
        assert "it goes on" in str(told)
    if getattr(error, "filename", None):
        assert "(/work/a.parquet)" in str(explain(error))


def _caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def _during(outer: Exception, inner: BaseException) -> Exception:
    outer.__context__ = inner
    return outer


def test_a_service_out_of_reach_is_told():
    told = explain(_caused(Wrapped("API request failed"), ConnectionRefusedError(111, "Connection refused")))
    assert "A service cannot be reached" in str(told)
    assert "Connection refused" in str(told)


def _interrupted_write() -> Exception:
    """What MLflow's store makes of a Ctrl-C in the middle of a statement."""
    locked = _during(sqlite3.OperationalError("database is locked"), KeyboardInterrupt())
    return _caused(Wrapped("(sqlite3.OperationalError) database is locked"), locked)


def test_ctrl_c_is_seen_behind_the_error_that_it_caused(monkeypatch, capsys):
    assert interrupted(_interrupted_write())
    assert not interrupted(Wrapped("(sqlite3.OperationalError) database is locked"))
    _is_told(monkeypatch, capsys, cli, "app", _interrupted_write())


def _is_told(monkeypatch, capsys, owner, name, error):
    def raised(*_, **__):
        raise error

    monkeypatch.setattr(owner, name, raised)
    monkeypatch.setattr(sys, "argv", ["t2t", "run", "demo", "--set", "seed=1"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "Stopped. Go on with: t2t run demo --set seed=1\n"


def test_ctrl_c_is_told_before_a_command_has_begun(monkeypatch, capsys):
    _is_told(monkeypatch, capsys, cli.TyperGroup, "make_context", KeyboardInterrupt())
    _is_told(monkeypatch, capsys, cli, "app", KeyboardInterrupt())


def test_a_name_that_is_too_long_is_told_in_short(tmp_path):
    with pytest.raises(OSError) as caught:
        (tmp_path / ("x" * 1000)).stat()
    told = str(explain(caught.value))
    assert told.endswith("File name too long. Give it a shorter name.")
    assert len(told) < 300


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.ENOENT, "No such file"), KeyError("x")])
def test_a_bug_stays_a_bug(error):
    assert explain(error) is None


def test_an_error_that_is_its_own_cause_ends():
    error = ValueError("round and round")
    error.__context__ = other = KeyError("x")
    other.__context__ = error
    assert explain(error) is None


def test_the_nearest_name_or_all_of_them_or_the_first_of_many():
    assert nearest("vendr", ["vendor", "human"]) == " Did you mean 'vendor'?"
    assert nearest("zzz", ["b", "a"]) == " Known: a, b."
    assert nearest("zzz", []) == ""
    many = nearest("zzz", [f"teacher-{i:04}" for i in range(1000)])
    assert many.endswith("teacher-0029 and 970 more.")


def test_one_line_has_no_line_breaks_and_an_end():
    assert one_line("a\n  b\tc\x1b[31m") == "a b c [31m"
    assert one_line("x" * 500, 10) == "x" * 10 + "..."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "There is not enough memory (MemoryError). Lower training.batch_rows"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "There is not enough memory"),
        (RuntimeError("can't start new thread"), "There is not enough memory (can't start new thread)"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x/y"),
            "/x/y: Permission denied. Give this user the right",
        ),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "/x: Read-only file system. Choose a place"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "Too many open files. Allow this shell more open files: ulimit -n",
        ),
    ],
)
def test_memory_and_rights_are_told(error, words):
    assert words in str(explain(error))
