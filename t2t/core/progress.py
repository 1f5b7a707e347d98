"""Progress on long work: a bar with rate and time left on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from t2t.core import interrupts

log = logging.getLogger("t2t")
SECONDS_BETWEEN_LINES = 10.0


class Advance(Protocol):
    """Tells the progress display that `n` more units are done, with an optional short note such as the loss."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


def clock(seconds: float) -> str:
    """Seconds as people read them: 2:05, or 1:02:05."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def progress(title: str, total: int, unit: str = "it", done: int = 0, part: bool = False) -> Iterator[Advance]:
    """Shows `title` with done/total, `unit`/s and time left. Usage: ``with progress(...) as advance: advance(3)``.

    `done` units were done before (by a run that was killed); they do not count for the rate. With `part`, work that
    stands inside of a `whole` goes on with that one's display.
    """
    shared, relay = _WHOLE.get() if part else None, _RELAY.get()
    if relay is not None:
        yield relay
    elif shared is not None:
        yield shared.join(title, unit)
    elif sys.stderr.isatty() and log.level < logging.WARNING:  # `--quiet`
        with _bar(f"{_WITHIN.get()}{title}", total, unit, done) as advance:
            yield advance
    else:
        yield from _lines(f"{_WITHIN.get()}{title}", total, unit, done)


_WITHIN: ContextVar[str] = ContextVar("within", default="")


@contextmanager
def within(place: str) -> Iterator[None]:
    """Displays inside say first where their work stands in a larger one: `3 of 9, 2:10 left`."""
    token = _WITHIN.set(f"[{place}] ")
    try:
        yield
    finally:
        _WITHIN.reset(token)


@dataclass
class _Whole:
    stack: ExitStack
    total: int
    done: int
    advance: Advance | None = None

    def join(self, title: str, unit: str) -> Advance:
        """The display of all parts; the first one opens it under its own title."""
        if self.advance is None:
            self.advance = self.stack.enter_context(progress(title, self.total, unit, self.done))
        return self.advance


_WHOLE: ContextVar[_Whole | None] = ContextVar("whole", default=None)


@contextmanager
def whole(total: int, done: int = 0) -> Iterator[None]:
    """Work that is done in parts: each part's `progress(..., part=True)` inside goes on with one common display."""
    with ExitStack() as stack:
        token = _WHOLE.set(_Whole(stack, total, done))
        try:
            yield
        finally:
            _WHOLE.reset(token)


_RELAY: ContextVar[Advance | None] = ContextVar("relay", default=None)


@contextmanager
def relayed(advance: Advance) -> Iterator[None]:
    """Work inside shows nothing of its own: every unit of it is told to `advance`, which belongs to another display."""
    token = _RELAY.set(advance)
    try:
        yield
    finally:
        _RELAY.reset(token)


@contextmanager
def silent() -> Iterator[None]:
    """Parts inside show nothing: work that is only tried."""

    def advance(n: int = 1, note: str = "") -> None: ...

    token = _WHOLE.set(_Whole(ExitStack(), 0, 0, advance))
    try:
        yield
    finally:
        _WHOLE.reset(token)


@contextmanager
def _bar(title: str, total: int, unit: str, before: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=before, rate="", note="")
        start = time.monotonic()

        def advance(n: int = 1, note: str = "") -> None:
            interrupts.check()
            bar.advance(task, n)
            rate = (bar.tasks[task].completed - before) / max(time.monotonic() - start, 1e-9)
            bar.update(task, rate=f"{rate:,.1f} {unit}/s", note=note)

        yield advance


def _lines(title: str, total: int, unit: str, before: int) -> Iterator[Advance]:
    start = last = time.monotonic()
    done = before
    latest = ""

    def line() -> str:
        seconds = max(time.monotonic() - start, 1e-9)
        rate = (done - before) / seconds
        text = f"{title}: {done:,}/{total:,} {unit}, {rate:,.1f}/s"
        if before < done < total:
            text += f", {clock((total - done) / rate)} left"
        else:
            text += f", {seconds:.1f} s"
        return f"{text}, {latest}" if latest else text

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, last, latest
        interrupts.check()
        done += n
        latest = note or latest
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES and done < total:
            last = time.monotonic()
            log.info(line())

    yield advance
    log.info(line())
