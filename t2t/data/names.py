"""Positions of many names in a list of names, exactly: a hash table in numpy, asked by several threads at once.

Arrow makes its table anew for every call and takes 0.2 µs for a name of millions. Here it is made once, whole blocks of
names are hashed as 64-bit words, and every answer is compared with its name by Arrow, so that a collision of hashes
costs time and never gives a wrong name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2t.data.growing import zeros

# Names that are hashed at a time, which keeps the numbers in the processor's cache.
BLOCK = 1 << 15
# Bytes of a name that is hashed in words of 8; a longer one is hashed by itself.
LONG = 256
# Binary logarithm of the slots, 4 bytes each, that are made for speed alone.
CACHED = 20
# Slots that a name tries at most: at half a table it is some twenty.
TRIES = 64
# What the words of a name, and then their sum, are multiplied by: odd numbers without a pattern.
FACTORS = np.random.default_rng(0).integers(1 << 64, size=LONG // 8 + 1, dtype=np.uint64) | np.uint64(1)
HALF = np.uint64(32)

# How a function is called on many things: `map`, or a pool's.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


class Names:
    """Names, each at its position; of equal ones the first counts, and null is none.

    names: string or large_string [names].
    """

    def __init__(self, names: pa.Array, each: Map = map):
        # At most half full, and an eighth where it stays in the processor's cache: nearly each name is found at once.
        bits = max((2 * len(names) + 1).bit_length(), min((8 * len(names) + 1).bit_length(), CACHED))
        self._names, self._mask, self._shift = names, np.int64((1 << bits) - 1), np.uint64(64 - bits)
        self._slots, self._hashes = zeros(1 << bits, np.int32), zeros(len(names), np.uint64)
        self._slots.fill(-1)
        # Of few among many: the position in the many; -1 at the end is the place of what is not there.
        self._places: np.ndarray | None = None
        # Whether each name is found by its hash: what is not found is not there.
        self._whole = True
        for start, hashes in zip(range(0, len(names), BLOCK), each(hashed, blocks(names)), strict=True):
            self._hashes[start : start + BLOCK] = hashes
            self._insert(start, names[start : start + BLOCK])

    @classmethod
    def among(cls, few: pa.Array, names: pa.Array, each: Map = map) -> Names:
        """The table of `names` for somebody who asks for names of `few` and no others: a small one, made sooner."""
        table = cls(few)
        places = np.full(len(few) + 1, -1, np.int32)
        for start, (here, rows) in zip(range(0, len(names), BLOCK), each(table._present, blocks(names)), strict=True):
            new = places[here] < 0
            places[here[new][::-1]] = start + rows[new][::-1]  # of equal names the first
        table._places = places
        return table

    def positions(self, wanted: pa.Array) -> np.ndarray:
        """Where each wanted name stands, int32 [wanted], -1 where it does not. Null stands nowhere."""
        found = np.concatenate([np.empty(0, np.int32), *(self._find(block) for block in blocks(wanted))])
        return found if self._places is None else self._places[found]

    def _present(self, names: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Of a block of names those that are in the table: their positions there, and in the block."""
        found = self._find(names)
        rows = np.flatnonzero(found >= 0)
        return found[rows], rows

    def _insert(self, start: int, names: pa.Array) -> None:
        """Puts a block of names into the table; `_hashes` has theirs already."""
        left = np.arange(start, start + len(names), dtype=np.int32)
        if names.null_count:
            left = left[names.is_valid().to_numpy(zero_copy_only=False)]
        hashes = self._hashes[left]
        slots, steps = self._first(hashes), self._steps(hashes)
        for _ in range(TRIES):
            free = self._slots[slots] < 0
            self._slots[slots[free][::-1]] = left[free][::-1]  # of equal names the first
            there = self._slots[slots]
            taken = np.flatnonzero(there != left)
            if not len(taken):
                return
            left, hashes, slots, there, steps = left[taken], hashes[taken], slots[taken], there[taken], steps[taken]
            equal = self._hashes[there] == hashes
            if equal.any():
                self._whole &= bool(self._same(left[equal], self._names.take(pa.array(there[equal]))).all())
                other = ~equal
                left, hashes, slots, steps = left[other], hashes[other], slots[other], steps[other]
            slots = (slots + steps) & self._mask
        self._whole = False

    def _find(self, wanted: pa.Array) -> np.ndarray:
        """`positions` in the table's own names, of a block."""
        hashes = hashed(wanted)
        found = self._slots[self._first(hashes)]
        rows = np.flatnonzero(found >= 0)
        rows = rows[self._hashes[found[rows]] != hashes[rows]]
        slots, steps = self._first(hashes[rows]), self._steps(hashes[rows])
        for _ in range(TRIES):
            if not len(rows):
                break
            slots = (slots + steps) & self._mask
            found[rows] = tried = self._slots[slots]
            wrong = np.flatnonzero((tried >= 0) & (self._hashes[tried] != hashes[rows]))
            rows, slots, steps = rows[wrong], slots[wrong], steps[wrong]
        return self._checked(wanted, found)

    def _checked(self, wanted: pa.Array, found: np.ndarray) -> np.ndarray:
        """What was found by hash, compared with the names; those that are others are looked up by Arrow."""
        rows = np.flatnonzero(found >= 0)
        some = wanted if len(rows) == len(wanted) else wanted.take(pa.array(rows))
        same = self._same(found[rows], some)
        unsure = rows[~same]
        if not self._whole:
            unsure = np.concatenate([unsure, np.flatnonzero(found < 0)])
        if len(unsure):
            slow = pc.index_in(wanted.take(pa.array(unsure)), value_set=self._names, skip_nulls=True)
            found[unsure] = slow.fill_null(-1).to_numpy()
        return found

    def _same(self, places: np.ndarray, names: pa.Array) -> np.ndarray:
        """Whether each of `names` is the name at its place; null never is."""
        equal = pc.equal(self._names.take(pa.array(places)), names)
        return np.asarray(equal.fill_null(False).to_numpy(zero_copy_only=False))

    def _first(self, hashes: np.ndarray) -> np.ndarray:
        """The first slot that each hash tries, int64 [hashes]."""
        return (hashes >> self._shift).astype(np.int64)

    def _steps(self, hashes: np.ndarray) -> np.ndarray:
        """How far on the next slot is that a hash tries, int64 [hashes]: odd, so that it comes to all of them."""
        return (hashes | np.uint64(1)).view(np.int64) & self._mask


def blocks(names: pa.Array) -> Iterator[pa.Array]:
    for start in range(0, len(names), BLOCK):
        yield names[start : start + BLOCK]


def hashed(names: pa.Array) -> np.ndarray:
    """A hash of each name, uint64 [names]; of null any. Equal names have equal hashes. Args: names: a block of them."""
    lengths = _lengths(names)
    most = int(lengths.max(initial=0))
    if most > LONG:
        long = lengths > LONG
        found = np.empty(len(names), np.uint64)
        found[long] = [_hash_of(name) for name in names.filter(pa.array(long)).to_pylist()]
        found[~long] = hashed(names.filter(pa.array(~long)))
        return found
    found = lengths.astype(np.uint64)
    width = -(-most // 8)
    if not width:
        return found
    # All names as long as the longest, zeros at their ends: rows of words.
    if names.null_count:
        names = names.fill_null("")
    padded = pc.ascii_rpad(names, 8 * width, "\0")
    offset, size = padded.offset * 8 * width, len(names) * 8 * width
    words = np.frombuffer(padded.buffers()[2], np.uint8)[offset : offset + size].view(np.uint64).reshape(-1, width)
    # A sum, to which the zeros add nothing: a name's hash does not depend on the others of its block.
    for column in range(width):
        word = words[:, column] >> HALF
        word ^= words[:, column]
        word *= FACTORS[column]
        found += word
    found ^= found >> HALF
    found *= FACTORS[-1]
    found ^= found >> HALF
    return found


def _lengths(names: pa.Array) -> np.ndarray:
    """Bytes of each name, int32 or int64 [names]; of null 0."""
    lengths = pc.binary_length(names)
    return np.asarray((lengths.fill_null(0) if lengths.null_count else lengths).to_numpy())


def _hash_of(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
