"""Ctrl-C ends long work also where Python threw the exception away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator

import pytest

from t2t.core import interrupts
from t2t.core.progress import progress, silent

pytestmark = pytest.mark.unit


class Thing:
    """Something that a weak reference can point to."""


@pytest.fixture
def hears() -> Iterator[Callable[[object], None]]:
    """Sets what hears Ctrl-C for the length of a test, Python's own handler to begin with."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda handler: signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_python_threw_away_is_raised_with_the_next_step(
    hears: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    interrupts.listen()
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del thing  # the callback: its exception is printed, and gone
    assert reference() is None
    with progress("Work", 10, "steps") as advance, pytest.raises(KeyboardInterrupt):
        advance(1)
    assert told == []  # no traceback of where it came
    interrupts.check()  # heard once


def test_an_interrupt_that_came_through_is_not_raised_again(
    hears: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    interrupts.listen()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    interrupts.check()


def test_who_listens_already_is_left_alone(hears: Callable[[object], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*_: object) -> None: ...

    def hook(_: object) -> None: ...

    monkeypatch.setattr(sys, "unraisablehook", hook)
    hears(other)
    interrupts.listen()
    assert signal.getsignal(signal.SIGINT) is other
    assert sys.unraisablehook is hook


def test_listening_twice_is_listening_once(hears: Callable[[object], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    interrupts.listen()
    first = sys.unraisablehook
    interrupts.listen()
    assert sys.unraisablehook is first


def test_parts_of_silent_work_say_nothing() -> None:
    with silent(), progress("Part", 1, "steps", part=True) as advance:
        advance(1)


def test_one_that_comes_while_the_command_line_is_imported_is_answered_too() -> None:
    """As a finder of modules sends it: at a moment that no clock has to hit."""
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 't2t.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['t2t', 'run', 'demo']\n"
        "from t2t.__main__ import main\n"
        "main()\n"
    )
    start = [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"]
    done = subprocess.run(start, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "Stopped. Go on with: t2t run demo\n")
