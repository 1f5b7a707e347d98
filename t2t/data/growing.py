"""Columns that grow where they are, and give memory back that is not needed any more.

numpy's `resize` fills what it adds with zeros, which is writing everything twice; and no array gives a part of its
memory back. Memory that the system maps does both: it is there when it is first written to.
"""

from __future__ import annotations

import mmap

import numpy as np

PAGE = mmap.PAGESIZE
# Bytes of a new column, and to how many it grows at least: nothing is there before it is written to.
LEAST, MORE = 1 << 16, 1 << 24


class Growing:
    """A column of numbers; `array` is what was appended. No view may be left when it grows beyond its `room`."""

    def __init__(self, kind: type[np.generic]):
        self._kind, self._rows = np.dtype(kind), 0
        self._map = mapped(LEAST)

    def append(self, values: np.ndarray) -> None:
        self.more(len(values))[:] = values

    def room(self, rows: int) -> bool:
        """Whether so many rows more are there without its memory being moved."""
        return (self._rows + rows) * self._kind.itemsize <= len(self._map)

    def more(self, rows: int) -> np.ndarray:
        """So many rows at the end, for somebody to fill."""
        begin, self._rows = self._rows, self._rows + rows
        size = self._rows * self._kind.itemsize
        if size > len(self._map):
            self._map = resized(self._map, max(size, 2 * len(self._map), MORE))
        return np.frombuffer(self._map, self._kind, rows, begin * self._kind.itemsize)

    @property
    def array(self) -> np.ndarray:
        return np.frombuffer(self._map, self._kind, self._rows)


def mapped(size: int) -> mmap.mmap:
    """Memory of this process alone, zeros."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def zeros(size: int, kind: type[np.generic]) -> np.ndarray:
    """An array whose memory is the system's again when it is deleted, whatever its size."""
    return np.frombuffer(mapped(max(1, size * np.dtype(kind).itemsize)), kind, size)


def resized(memory: mmap.mmap, size: int) -> mmap.mmap:
    """The same with more room; `memory` is not to be used any more."""
    size = -(-size // PAGE) * PAGE
    try:
        memory.resize(size)
    except SystemError:  # where the system has no such call
        larger = mapped(size)
        larger[: len(memory)] = memory
        return larger
    return memory


def give_back(array: np.ndarray, start: int, stop: int) -> None:
    """Gives the memory of rows that nobody reads any more back to the system, where the array is that of a `Growing`.
    What is in them is lost."""
    memory: object = array.base
    if isinstance(memory, memoryview):
        memory = memory.obj
    if not isinstance(memory, mmap.mmap) or not hasattr(memory, "madvise"):
        return
    first = -(-start * array.itemsize // PAGE) * PAGE
    size = stop * array.itemsize // PAGE * PAGE - first
    if size > 0:
        memory.madvise(mmap.MADV_DONTNEED, first, size)
