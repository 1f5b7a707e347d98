"""How benchmarks measure: sides interleaved in one process tree, medians of several runs, ratios, growth, peak memory.

A machine's speed drifts by more than the differences that matter, so absolute times of two runs say little. Here every
side runs once in each turn, the order reversed in every other turn, and what is reported is the ratio of medians. What
is guarded is measured by `benchmarks/contest.py`.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

PACKAGES = ("torch", "transformers", "datasets", "sentence-transformers", "scikit-learn", "pandas", "pyarrow", "timm",
            "av", "prefect", "mlflow")  # fmt: skip


class Measured(BaseModel):
    """One side at one size.

    size: what grows, in the benchmark's `axis`. amount: how much of it one run does, in the benchmark's `unit`.
    seconds: of each run. memory: the most resident memory that one run added, in bytes, where it was measured.
    scaled_from: the size that was run, where the seconds of this one were calculated from it.
    """

    side: str
    size: float
    amount: float
    seconds: list[float]
    memory: int | None = None
    scaled_from: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        return self.amount / self.median


class Result(BaseModel):
    """What a benchmark found.

    ratios: name -> how many times better t2t is than what it is held against; higher is better.
    targets: name -> the ratio to reach. figures: further numbers, ready to be printed.
    curves: panel -> side -> values at equal steps of `axis` up to 100.
    """

    name: str
    title: str
    axis: str
    unit: str
    measured: list[Measured] = []
    ratios: dict[str, float] = {}
    targets: dict[str, float] = {}
    figures: dict[str, str] = {}
    curves: dict[str, dict[str, list[float]]] = {}
    machine: str = ""
    versions: dict[str, str] = {}
    command: str = ""

    def at(self, side: str, size: float) -> Measured:
        return next(m for m in self.measured if m.side == side and m.size == size)

    def sides(self) -> list[str]:
        return list(dict.fromkeys(m.side for m in self.measured))

    def slope(self, side: str) -> float | None:
        """How cost grows: d log(seconds) / d log(size); 1 is linear. None for fewer than three sizes."""
        points = [(m.size, m.median) for m in self.measured if m.side == side and m.scaled_from is None]
        if len({size for size, _ in points}) < 3:
            return None
        sizes, seconds = np.log(np.array(points)).T
        return float(np.polyfit(sizes, seconds, 1)[0])


def interleave(sides: Mapping[str, Callable[[], object]], runs: int, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of each side's runs, by side.

    Args:
        sides: name -> the work; it is done once before anything is timed when `warm`. Work that returns a float has
            timed itself: these are its seconds.
        runs: of each side.
    """
    if warm:
        for work in sides.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(runs):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            gc.collect()
            start = time.perf_counter()
            own = sides[name]()
            seconds[name].append(own if isinstance(own, float) else time.perf_counter() - start)
            del own  # else the next side frees it, in its time
    return seconds


class Alone(NamedTuple):
    """What a run in a process of its own gave. memory: bytes that it added to the process at most."""

    value: Any
    seconds: float
    memory: int


def alone(function: Callable[..., Any], *args: Any, prepare: Callable[..., Any] | None = None) -> Alone:
    """Runs a module's function in a fresh process, for its time and its peak of memory.

    Args:
        prepare: another function of the module; `function` is called with what it makes of `args`. Neither that nor
            what the module imports counts as time or memory.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, args, prepare).result()


def _measure(function: Callable[..., Any], args: Sequence[Any], prepare: Callable[..., Any] | None) -> Alone:
    if prepare is not None:
        args = (prepare(*args),)
    gc.collect()
    before = _peak_from_now()
    start = time.perf_counter()
    value = function(*args)
    seconds = time.perf_counter() - start
    return Alone(value, seconds, max(0, _peak() - before))


def _peak_from_now() -> int:
    """Resets the process's peak of resident memory, and returns what is resident now, in bytes."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return _status("VmRSS")
    except OSError:
        return _peak()  # no such file on this system: the rise above the highest so far


def _peak() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))


def stamped(result: Result) -> Result:
    """The result with the machine, the versions and the command that made it."""
    return result.model_copy(
        update={
            "machine": machine(),
            "versions": versions(),
            "command": f"python -m benchmarks {' '.join(sys.argv[1:])}",
        }
    )


def machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = f"{model}, {os.cpu_count()} cores, {memory:.0f} GB"
    import torch

    return f"{name}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else f"{name}, no GPU"


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
