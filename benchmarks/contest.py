"""How a ratio is guarded: turns of both sides by CPU time until its interval is known, against a committed interval.

Threads are pinned to one, so that seconds of CPU are those of the work and not of waiting for a core that another
process has. In a turn every side runs, one after the other; what drifts with the machine drifts for both, and a
turn's ratio does not. A ratio is the mean of its turns' logarithms, trimmed, and its interval is by Student's t. Turns
go on until the interval lies on one side of the bound. It has fallen only when all of it lies below.
"""

from __future__ import annotations

import gc
import math
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel
from scipy import stats  # type: ignore[import-untyped]

# A slow-down of t2t's side that must be caught. The bound lies in the middle, by logarithms, between none and that: a
# ratio may move by 1.18 from one day to the next, in either direction, before the guard is wrong.
CAUGHT = 1.4
ALLOWED = math.sqrt(CAUGHT)
# A run's interval, two-sided. There are 16 ratios and it is looked at after every turn.
CONFIDENCE = 0.999
# The committed interval, over whole runs in processes of their own.
COMMITTED_CONFIDENCE = 0.95
FEWEST, MOST = 5, 40
# One of so many turns is left out at either end.
TRIMMED = 8
# Half of an interval, as a share, that is narrow enough whatever the bound.
NARROW = 0.03
# CPU seconds of all turns of a contest, as the sides count them; a turn that has begun is ended.
BUDGET = 30.0
# A side that is done sooner is repeated within its turn.
SHORTEST = 0.25


def cpu() -> float:
    """CPU seconds of this process with all its threads, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Side(NamedTuple):
    """A side's work, and how much of it one call does. Work that returns a float has timed itself, by `cpu`."""

    work: Callable[[], object]
    amount: float = 1.0


@dataclass
class Contest:
    """t2t's side, and what it is held against by the names of the ratios."""

    ours: Side
    others: Mapping[str, Side]


class Interval(BaseModel):
    """How many times less CPU t2t takes than another side, between `low` and `high`, after so many turns (or runs)."""

    value: float
    low: float
    high: float
    turns: int

    @property
    def half(self) -> float:
        """Half of the interval, as a share of the value."""
        return math.sqrt(self.high / self.low) - 1 if self.low else math.inf

    def fell(self, bound: float | None) -> bool:
        return bound is not None and self.high < bound

    def clear(self, bound: float | None) -> bool:
        """Whether more turns would change nothing: it is narrow, or lies on one side of the bound."""
        return self.half <= NARROW or (bound is not None and (self.fell(bound) or self.low >= bound))


def interval(ratios: Sequence[float], confidence: float, trimmed: int = TRIMMED) -> Interval:
    """The mean of ratios by their logarithms, and its interval by Student's t.

    Of `trimmed` or more ratios the extreme ones are left out, one of so many at either end, and the interval is that of
    a trimmed mean (winsorized variance). Infinitely wide for fewer than two.
    """
    logs = np.sort(np.log(np.asarray(ratios, float)))
    count, cut = len(logs), len(logs) // trimmed
    kept = logs[cut : count - cut]
    mean = float(kept.mean())
    if len(kept) < 2:
        return Interval(value=math.exp(mean), low=0.0, high=math.inf, turns=count)
    winsorized = np.clip(logs, kept[0], kept[-1])
    error = float(winsorized.std(ddof=1)) * math.sqrt(count) / len(kept)
    # Timers are not exact either: identical turns say nothing about the next one.
    half = max(_quantile(confidence, len(kept) - 1) * error, 1e-4)
    return Interval(value=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half), turns=count)


@cache
def _quantile(confidence: float, freedom: int) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, freedom))


def judged(turns: Iterator[Mapping[str, float]], bounds: Mapping[str, float | None]) -> dict[str, Interval]:
    """Takes turns until every ratio's interval is clear of its bound, or there are no more.

    Args:
        turns: in each the ratio of that turn, by name.
        bounds: name -> below what a ratio has fallen; None where nothing is committed.
    """
    seen: dict[str, list[float]] = {name: [] for name in bounds}
    found: dict[str, Interval] = {}
    for number, ratios in enumerate(turns, 1):
        for name, ratio in ratios.items():
            seen[name].append(ratio)
        if number < FEWEST:
            continue
        found = {name: interval(values, CONFIDENCE) for name, values in seen.items()}
        if number >= MOST or all(found[name].clear(bound) for name, bound in bounds.items()):
            break
    return found


def turns(contest: Contest, slow_down: float = 1.0, budget: float = BUDGET) -> Iterator[dict[str, float]]:
    """Turns of a contest, in alternating order, after every side has run once; at least FEWEST.

    Args:
        slow_down: t2t's side takes so many times its CPU. It is the guard's own test.
        budget: CPU seconds, after which no turn begins.
    """
    sides = {"": contest.ours, **contest.others}
    repeats = {name: _repeats(side) for name, side in sides.items()}
    spent, number = 0.0, 0
    gc.freeze()  # Looking through all that the libraries are made of takes longer than some of the work.
    try:
        while number < FEWEST or spent < budget:
            seconds: dict[str, float] = {}
            for name in list(sides)[:: -1 if number % 2 else 1]:
                gc.collect()
                taken = [_once(sides[name], slow_down if name == "" else 1.0) for _ in range(repeats[name])]
                spent += sum(taken)
                seconds[name] = statistics.median(taken) / sides[name].amount
            yield {name: seconds[name] / seconds[""] for name in contest.others}
            number += 1
    finally:
        gc.unfreeze()


def _repeats(side: Side) -> int:
    """How often a side runs in a turn. Its first call imports and fills caches; the second is as the later ones."""
    _once(side)
    return max(1, round(SHORTEST / max(_once(side), 1e-3)))


def _once(side: Side, slow_down: float = 1.0) -> float:
    """CPU seconds of one call."""
    start = cpu()
    own = side.work()
    seconds = own if isinstance(own, float) else cpu() - start
    if slow_down > 1:
        start = cpu()
        while (more := cpu() - start) < seconds * (slow_down - 1):
            pass
        seconds += more
    return seconds


class Committed(BaseModel):
    """A ratio's estimates in several runs, each of a process of its own."""

    runs: list[float]

    @property
    def interval(self) -> Interval:
        return interval(self.runs, COMMITTED_CONFIDENCE, trimmed=len(self.runs) + 1)

    @property
    def bound(self) -> float | None:
        """Below what a later run has fallen; None of fewer than two runs, which have no interval."""
        return self.interval.low / ALLOWED if len(self.runs) > 1 else None


class Guard(BaseModel):
    """benchmarks/measured/guard.json: benchmark -> name -> what its ratio was."""

    ratios: dict[str, dict[str, Committed]] = {}
    machine: str = ""
    versions: dict[str, str] = {}
    command: str = ""

    def bound(self, benchmark: str, name: str) -> float | None:
        known = self.ratios.get(benchmark, {}).get(name)
        return known.bound if known else None
