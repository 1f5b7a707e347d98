"""Locks on file systems that have none, and behind processes that do not let go: words instead of waiting for ever."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import textwrap

import pytest

from t2t.core.errors import T2TError
from t2t.core.locks import Busy, Exclusive, held_folder, patient

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for lock in (Exclusive(tmp_path / "a" / "run.lock", "Campaign 'x'"), patient(tmp_path / "t2t.lock", "The lake")):
        with pytest.raises(T2TError, match=r"has no file locks .*T2T_WORK"), lock:
            pass
    with pytest.raises(T2TError, match="has no file locks"), held_folder(tmp_path):
        pass


def test_a_lock_that_is_not_let_go_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("t2t.core.locks.PATIENCE", 0.3)
    holder = textwrap.dedent("""
        import fcntl, sys
        file = open(sys.argv[1], "w")
        fcntl.flock(file, fcntl.LOCK_EX)
        print("held", flush=True)
        sys.stdin.readline()
    """)
    path = tmp_path / "t2t.lock"
    command = [sys.executable, "-c", holder, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=r"held by another process .*t2t\.lock"), patient(path, "The lake"):
            pass
        process.communicate("\n")
    with patient(path, "The lake"):
        pass
