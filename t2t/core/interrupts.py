"""Ctrl-C that is heard: a KeyboardInterrupt may come where Python throws it away, in a weak reference's callback."""

from __future__ import annotations

import signal
import sys
from typing import Any

_thrown_away = False


class Stopped(Exception):
    """Ctrl-C ended a command."""


class _Hook:
    """sys.unraisablehook that remembers a Ctrl-C that was thrown away, and leaves the rest to the one before."""

    def __init__(self) -> None:
        self.before = sys.unraisablehook

    def __call__(self, lost: Any) -> None:
        global _thrown_away
        if lost.exc_type is KeyboardInterrupt:
            # `check` raises it. Nobody needs a traceback of where it came.
            _thrown_away = True
        else:
            self.before(lost)


def listen() -> None:
    """Remembers from now on a Ctrl-C that did not come through, for `check`; where nobody else handles it.

    One that came through is not remembered: who caught it and goes on is not stopped a second time.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler and not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook()


def check() -> None:
    """Raises KeyboardInterrupt where one was heard and did not come through. Long work asks with each step."""
    global _thrown_away
    if _thrown_away:
        _thrown_away = False
        raise KeyboardInterrupt
