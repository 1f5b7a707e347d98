"""Label tables as numbers: each name's position in a list of names, and the rows that may be trained on.

Rows are many and names are few, so a name is looked up once for each dictionary of a table and not once for each row,
in tables of names that are made once for all tables (`t2t.data.names`). Threads code tables while the next are read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2t.core.errors import T2TError
from t2t.core.threads import threads_of
from t2t.data.growing import Growing
from t2t.data.labels import LABEL_DICTIONARIES, MOST_TEACHERS
from t2t.data.names import Names

T = TypeVar("T", list[pa.Table], "_Part")
R = TypeVar("R")

# `pa.array` would import pandas, which a training's helper needs not.
EMPTY = pa.nulls(0, pa.string())
# Of sample, topic, teacher, confidence.
KINDS = (np.int32, np.int32, np.int16, np.float32)
# Tables whose samples' names are fewer than this share of the samples that there are, and whose rows are fewer than
# that, wait for one another: then a hash table of their names will do. No more rows wait while the table of all samples
# is made.
FEW, WAITING = 1 / 8, 1 << 22
# Rows, or names in dictionaries, up to which small tables are coded as one: a call costs the same for few and for many.
TOGETHER = 1 << 16
# Rows of tables from which on no more of them wait for a thread than there are threads.
MOST_WAITING = 1 << 20
# Rows read after which Arrow's allocator gives back what it keeps of tables that are gone: 165 MiB at most for 10
# million rows instead of 280, and 2 % of the time.
RELEASE = 1 << 20
# Reading, which is done by one thread, takes a third of all the time.
MOST_THREADS = 4


def positions(wanted: pa.Array, names: pa.Array) -> np.ndarray:
    """Where each wanted name stands in `names`, int32 [wanted], -1 where it does not. Null stands nowhere."""
    if 2 * len(wanted) > len(names):
        return pc.index_in(wanted, value_set=names, skip_nulls=True).fill_null(-1).to_numpy()
    # The other way round, since a hash table of the few is made sooner than one of the many.
    few = wanted.dictionary_encode("encode")
    where = pc.index_in(names, value_set=few.dictionary, skip_nulls=True).fill_null(-1).to_numpy()
    present = np.flatnonzero(where >= 0)
    places = np.full(len(few.dictionary), -1, np.int32)
    places[where[present[::-1]]] = present[::-1]  # of equal names the first
    return places[few.indices.to_numpy()]


def codes(column: pa.ChunkedArray, names: Sequence[str] | pa.Array) -> np.ndarray:
    """The position in `names` of each row's name, int32 [rows], -1 where it has none there.

    Args:
        column: strings, best as dictionaries (`t2t.data.labels.LABEL_DICTIONARIES`).
    """
    index, dictionary = _encoded(column.chunks)
    return positions(dictionary, strings(names))[index]


def distinct(column: pa.ChunkedArray) -> pa.Array:
    """The names in a column of strings or dictionaries, each once."""
    return _encoded(column.chunks)[1].unique()


def strings(names: Sequence[str] | pa.Array) -> pa.Array:
    return names if isinstance(names, pa.Array) else pa.array(names, pa.string())


def _encoded(parts: Iterable[pa.Array]) -> tuple[np.ndarray, pa.Array]:
    """Index int32 [rows] into the dictionaries of all chunks, one after the other, and these; names may repeat."""
    chunks = [_as_dictionary(chunk) for chunk in parts]
    if not chunks:
        return np.empty(0, np.int32), EMPTY
    starts = np.cumsum([0, *(len(chunk.dictionary) for chunk in chunks)]).astype(np.int32)
    index = [chunk.indices.cast(pa.int32()).to_numpy() for chunk in chunks]
    if len(chunks) == 1:
        return index[0], chunks[0].dictionary
    dictionaries = [chunk.dictionary for chunk in chunks]
    if len({names.type for names in dictionaries}) > 1:
        dictionaries = [_plain(names) for names in dictionaries]
    index = [part + start for part, start in zip(index, starts, strict=False)]
    return np.concatenate(index), pa.concat_arrays(dictionaries)


def _as_dictionary(chunk: pa.Array) -> pa.DictionaryArray:
    """The chunk with every name in its dictionary, null as well, so that no index is null."""
    if pa.types.is_string_view(chunk.type):
        chunk = chunk.cast(pa.string())
    if pa.types.is_dictionary(chunk.type):
        if not chunk.indices.null_count:
            return chunk
        chunk = chunk.cast(chunk.type.value_type)
    return chunk.dictionary_encode("encode")


class Coded:
    """Labels as numbers: the rows that may be trained on, in the order of their tables.

    sample: int32 [rows], topic: int32 [rows], teacher: int16 [rows]: positions in `sample_ids`, `topics`, `teachers`.
    confidence: float32 [rows], 0..1, raw.
    ends: for each table, the number of rows up to its end.
    """

    def __init__(self, sample_ids: Sequence[str] | pa.Array, topics: Sequence[str], teachers: Sequence[str]):
        if len(teachers) > MOST_TEACHERS:
            raise T2TError(f"{len(teachers):,} identities; a label matrix holds {MOST_TEACHERS:,}: leave some out.")
        self.sample_ids, self.topics, self.teachers = sample_ids, tuple(topics), tuple(teachers)
        self.sample: np.ndarray = np.empty(0, np.int32)
        self.topic: np.ndarray = np.empty(0, np.int32)
        self.teacher: np.ndarray = np.empty(0, np.int16)
        self.confidence: np.ndarray = np.empty(0, np.float32)
        self.ends: list[int] = []

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return self.sample, self.topic, self.teacher, self.confidence

    def of(self, teacher: int) -> slice:
        """The rows of the teacher at a position in `teachers`, where tables came teacher by teacher in that order."""
        return slice(*np.searchsorted(self.teacher, np.array([teacher, teacher + 1], np.int16)))


def code(
    tables: Iterable[pa.Table], sample_ids: Sequence[str] | pa.Array, topics: Sequence[str], teachers: Sequence[str]
) -> Coded:
    """The rows of label tables as numbers; tables are read one after the other while threads code those before.

    Rows of samples, topics or teachers that are not named are left out: that is how the splits and the topic-split
    protocol keep labels out of training.

    Args:
        tables: tables of LABEL_SCHEMA (`t2t.data.labels`), their names as strings or dictionaries.
        sample_ids: the samples that may be trained on, in the order of the matrix.
        topics: the topics that may be trained on.
        teachers: the identities, at most 32,767.

    Raises:
        T2TError: when a confidence is NaN or outside 0..1, or there are too many identities.
    """
    coded, threads = Coded(sample_ids, topics, teachers), min(pa.cpu_count(), MOST_THREADS)
    samples, topic_names, teacher_names = map(_text, (sample_ids, topics, teachers))
    with threads_of(threads) as pool:
        read = partial(_part, Names(topic_names), Names(teacher_names))
        first, size, rows, source, ended = deque[_Part](), 0, 0, _together(tables), False

        def those_while(more: Callable[[], bool]) -> Iterator[list[pa.Table]]:
            nonlocal ended
            while rows <= WAITING and more():
                if (some := next(source, None)) is None:
                    ended = True
                    return
                yield some
                del some

        def begin(more: Callable[[], bool]) -> None:
            nonlocal size, rows
            for part in _ahead(pool, threads, read, those_while(more)):
                first.append(part)
                size, rows = size + len(part.names), rows + len(part.sample)

        begin(lambda: size <= FEW * len(samples))
        few = size <= FEW * len(samples) and rows <= WAITING
        if few:
            names = Names.among(pa.concat_arrays([EMPTY, *(part.names for part in first)]), samples, pool.map)
        elif ended or rows > WAITING:
            names = Names(samples, pool.map)
        else:  # by one thread, while more tables are read
            making = pool.submit(Names, samples)
            begin(lambda: not making.done())
            names = making.result()
        place = partial(_placed, coded, names)
        # What is little is looked up sooner than handed to a thread.
        begun = map(place, _taken(first)) if few else _ahead(pool, threads, place, _taken(first))
        columns = _Columns(pool)
        for placed, sizes in chain(begun, _ahead(pool, threads, lambda some: place(read(some)), source)):
            columns.append(placed)
            coded.ends += sizes
        coded.sample, coded.topic, coded.teacher, coded.confidence = columns.arrays()
    pa.default_memory_pool().release_unused()
    coded.ends = np.cumsum(coded.ends, dtype=np.int64).tolist()
    return coded


class _Columns:
    """The columns of `Coded`, which threads fill: memory that is written to for the first time is what takes long."""

    def __init__(self, pool: ThreadPoolExecutor):
        self._pool, self._columns, self._filling = pool, [Growing(kind) for kind in KINDS], list[Future[None]]()

    def append(self, values: list[np.ndarray]) -> None:
        """Has a thread put values at the ends of the columns, and empties the list."""
        rows = len(values[0])
        if not all(column.room(rows) for column in self._columns):
            self._wait()  # it is moved as it grows
        targets = [column.more(rows) for column in self._columns]
        self._filling.append(self._pool.submit(_fill, targets, values))

    def arrays(self) -> list[np.ndarray]:
        self._wait()
        return [column.array for column in self._columns]

    def _wait(self) -> None:
        for done in self._filling:
            done.result()
        self._filling.clear()


def _fill(targets: list[np.ndarray], values: list[np.ndarray]) -> None:
    """Copies values into their targets. Empties both lists: the pool holds its arguments longer than it works."""
    while targets:
        targets.pop()[:] = values.pop()


class _Part(NamedTuple):
    """Tables' rows: sample int32 [rows], a position in `names`; topic, teacher, confidence as of `Coded`, where -1 is
    what is not known. sizes: the rows of each table."""

    sizes: list[int]
    names: pa.Array
    sample: np.ndarray
    topic: np.ndarray
    teacher: np.ndarray
    confidence: np.ndarray


def _together(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Tables in lists, small ones with those after them; only who takes a list holds its tables."""
    some: list[pa.Table] = []
    size = rows = 0
    for table in tables:
        size += max(len(table), *(_names(table[name]) for name in LABEL_DICTIONARIES))
        rows += len(table)
        some.append(table)
        del table
        if size >= TOGETHER:
            yield _emptied(some)
            size = 0
        if rows >= RELEASE:
            pa.default_memory_pool().release_unused()
            rows = 0
    if some:
        yield _emptied(some)


def _names(column: pa.ChunkedArray) -> int:
    """Names in a column's dictionaries, which may be more than its rows."""
    return sum(len(chunk.dictionary) for chunk in column.chunks) if pa.types.is_dictionary(column.type) else 0


def _emptied(some: list[pa.Table]) -> list[pa.Table]:
    taken = some.copy()
    some.clear()
    return taken


def _part(topics: Names, teachers: Names, tables: list[pa.Table]) -> _Part:
    (sample, names), *others = (
        _encoded(chunk for table in tables for chunk in table[name].chunks) for name in LABEL_DICTIONARIES
    )
    topic, teacher = (
        known.positions(_plain(dictionary)).astype(kind)[index]
        for known, kind, (index, dictionary) in zip((topics, teachers), (np.int32, np.int16), others, strict=True)
    )
    confidence = [table["confidence"].to_numpy().astype(np.float32, copy=False) for table in tables]
    confidences = confidence[0] if len(confidence) == 1 else np.concatenate(confidence)
    return _Part([len(table) for table in tables], _plain(names), sample, topic, teacher, confidences)


def _plain(names: pa.Array) -> pa.Array:
    return names if names.type == pa.string() else names.cast(pa.string())


def _text(names: Sequence[str] | pa.Array) -> pa.Array:
    """Names as a table of names takes them: a large_string array may hold more than 2 GB, and stays one."""
    array = strings(names)
    return array if pa.types.is_large_string(array.type) else _plain(array)


def _placed(coded: Coded, samples: Names, part: _Part) -> tuple[list[np.ndarray], list[int]]:
    """The rows of tables that may be trained on: sample, topic, teacher, confidence; and how many each table has."""
    rows, sizes = [samples.positions(part.names)[part.sample], *part[3:]], part.sizes
    if any(len(values) and values.min() < 0 for values in rows[:3]):
        kept = (rows[0] >= 0) & (rows[1] >= 0) & (rows[2] >= 0)
        rows = [values[kept] for values in rows]
        ends = np.cumsum([0, *sizes])
        sizes = [int(np.count_nonzero(kept[start:end])) for start, end in pairwise(ends)]
    # NaN is neither: numpy's least of numbers with NaN is NaN.
    if len(rows[3]) and not (rows[3].min() >= 0 and rows[3].max() <= 1):
        _refuse_outside(coded, rows)
    return rows, sizes


def _refuse_outside(coded: Coded, rows: Sequence[np.ndarray]) -> None:
    """Raises T2TError where a confidence is NaN or outside 0..1. Args: rows: sample, topic, teacher, confidence."""
    bad = np.flatnonzero(~((rows[3] >= 0) & (rows[3] <= 1)))
    if len(bad):
        sample, topic, teacher = (int(values[bad[0]]) for values in rows[:3])
        name, where = coded.teachers[teacher], f"sample {str(coded.sample_ids[sample])!r}"
        raise T2TError(
            f"Teacher {name!r} has {rows[3][bad[0]]} for {where} and topic {coded.topics[topic]!r} in the lake, which "
            f"is no number from 0 to 1: it was registered by a version that did not check this. Take it out with "
            f"`t2t teachers retract {name}`, mend it, and name it by a new id."
        )


def _ahead(pool: ThreadPoolExecutor, threads: int, function: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
    """The function of each thing, in their order; while the caller works, threads do the next ones.

    Args:
        things: tables, or `_Part`s. Small ones wait in greater number, so that no thread waits for the caller.
    """
    waiting, rows = deque[tuple[Future[R], int]](), 0
    for thing in things:
        size = len(thing.sample) if isinstance(thing, _Part) else sum(map(len, thing))
        waiting.append((pool.submit(function, thing), size))
        rows += size
        del thing  # held by whoever works on it alone
        while len(waiting) >= threads and (rows > MOST_WAITING or len(waiting) >= 4 * threads):
            future, size = waiting.popleft()
            rows -= size
            yield future.result()
    while waiting:
        yield waiting.popleft()[0].result()


def _taken(parts: deque[_Part]) -> Iterator[_Part]:
    """The parts, each let go of when it is given."""
    while parts:
        yield parts.popleft()
