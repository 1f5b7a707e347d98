"""Ctrl-C that is heard: a KeyboardInterrupt may come where Python throws it away, in a weak reference's callback."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

_heard = False


class Stopped(Exception):
    """Ctrl-C ended a command."""


def listen() -> None:
    """Remembers Ctrl-C from now on, for `check`; in the main thread, where nobody else listens."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _hear)
        before = sys.unraisablehook

        def unraisable(thrown_away: Any) -> None:
            # It is not lost: `check` raises it. Nobody needs a traceback of where it came.
            if thrown_away.exc_type is not KeyboardInterrupt:
                before(thrown_away)

        sys.unraisablehook = unraisable


def _hear(number: int, frame: FrameType | None) -> None:
    global _heard
    _heard = True
    raise KeyboardInterrupt


def check() -> None:
    """Raises KeyboardInterrupt where one was heard and did not come through. Long work asks with each step."""
    global _heard
    if _heard:
        _heard = False
        raise KeyboardInterrupt
