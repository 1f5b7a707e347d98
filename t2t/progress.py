"""Progress on long work: a bar with rate and time left on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger("t2t")
SECONDS_BETWEEN_LINES = 10.0


class Advance(Protocol):
    """Tells the progress display that `n` more units are done, with an optional short note such as the loss."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def progress(title: str, total: int, unit: str = "it") -> Iterator[Advance]:
    """Shows `title` with done/total, `unit`/s and time left. Usage: ``with progress(...) as advance: advance(3)``."""
    if sys.stderr.isatty():
        with _bar(title, total, unit) as advance:
            yield advance
    else:
        yield from _lines(title, total, unit)


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, rate="", note="")
        start = time.monotonic()

        def advance(n: int = 1, note: str = "") -> None:
            bar.advance(task, n)
            rate = bar.tasks[task].completed / max(time.monotonic() - start, 1e-9)
            bar.update(task, rate=f"{rate:,.1f} {unit}/s", note=note)

        yield advance


def _lines(title: str, total: int, unit: str) -> Iterator[Advance]:
    start = last = time.monotonic()
    done = 0
    latest = ""

    def line() -> str:
        seconds = max(time.monotonic() - start, 1e-9)
        rate = done / seconds
        text = f"{title}: {done:,}/{total:,} {unit}, {rate:,.1f}/s"
        if 0 < done < total:
            text += f", {_clock((total - done) / rate)} left"
        else:
            text += f", {seconds:.1f} s"
        return f"{text}, {latest}" if latest else text

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, last, latest
        done += n
        latest = note or latest
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES and done < total:
            last = time.monotonic()
            log.info(line())

    yield advance
    log.info(line())
