"""Label tables as numbers: each name's position in a list of names, and the rows that may be trained on.

Rows are many and names are few, so a name is looked up once for each dictionary of a table and not once for each row;
and since a hash table of millions of names takes longer to make than to ask, the dictionaries of several tables are
looked up together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2t.core.errors import T2TError

# Identities are counted in int16.
MOST_TEACHERS = 32_767
# Distinct names of samples that wait to be looked up: at least so many, and twice the samples that there are.
WAITING = 1 << 20


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
    index, dictionary = _encoded(column)
    return positions(dictionary, strings(names))[index]


def distinct(column: pa.ChunkedArray) -> pa.Array:
    """The names in a column of strings or dictionaries, each once."""
    return _encoded(column)[1].unique()


def strings(names: Sequence[str] | pa.Array) -> pa.Array:
    return names if isinstance(names, pa.Array) else pa.array(names, pa.string())


def _encoded(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Index int32 [rows] into the dictionaries of all chunks, one after the other, and these; names may repeat."""
    chunks = [_as_dictionary(chunk) for chunk in column.chunks]
    if not chunks:
        return np.empty(0, np.int32), pa.array([], pa.string())
    starts = np.cumsum([0, *(len(chunk.dictionary) for chunk in chunks)]).astype(np.int32)
    index = [chunk.indices.cast(pa.int32()).to_numpy() + start for chunk, start in zip(chunks, starts, strict=False)]
    return np.concatenate(index), pa.concat_arrays([chunk.dictionary for chunk in chunks])


def _as_dictionary(chunk: pa.Array) -> pa.DictionaryArray:
    """The chunk with every name in its dictionary, null as well, so that no index is null."""
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
        self.sample, self.topic = np.empty(0, np.int32), np.empty(0, np.int32)
        self.teacher, self.confidence = np.empty(0, np.int16), np.empty(0, np.float32)
        self.ends: list[int] = []

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return self.sample, self.topic, self.teacher, self.confidence

    def of(self, teacher: int) -> slice:
        """The rows of the teacher at a position in `teachers`, where tables came teacher by teacher in that order."""
        return slice(*np.searchsorted(self.teacher, np.array([teacher, teacher + 1], np.int16)))

    def resize(self, rows: int) -> None:
        """Cuts rows off at the end, or adds some to be filled in; views that were taken before are void.

        The arrays grow where they are: a list of small ones, joined at the end, would need the memory twice.
        """
        for column in self.columns:
            column.resize(rows, refcheck=False)


def code(
    tables: Iterable[pa.Table], sample_ids: Sequence[str] | pa.Array, topics: Sequence[str], teachers: Sequence[str]
) -> Coded:
    """The rows of label tables as numbers; a table is held while it is coded, and a thread reads the next one.

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
    coded = Coded(sample_ids, topics, teachers)
    samples, topic_names, teacher_names = map(strings, (sample_ids, topics, teachers))
    # Dictionaries of the tables whose samples are not looked up yet; the rows refer to them one after the other.
    waiting: list[pa.Array] = []
    size = 0
    for table in _ahead(tables):
        index, dictionary = _encoded(table["sample_id"])
        topic, teacher = codes(table["topic"], topic_names), codes(table["teacher_id"], teacher_names)
        rows = len(coded)
        coded.resize(rows + len(table))
        coded.ends.append(len(coded))
        new = (index + np.int32(size), topic, teacher, table["confidence"].to_numpy())
        for column, values in zip(coded.columns, new, strict=True):
            column[rows:] = values
        waiting.append(dictionary)
        size += len(dictionary)
        if size > max(WAITING, 2 * len(samples)):
            _look_up(coded, len(waiting), positions(pa.concat_arrays(waiting), samples))
            waiting, size = [], 0
    if waiting:
        _look_up(coded, len(waiting), positions(pa.concat_arrays(waiting), samples))
    return coded


def _look_up(coded: Coded, tables: int, places: np.ndarray) -> None:
    """Replaces the samples of the last tables, by what stands in `places` at their positions; closes the gaps of the
    rows that are not known."""
    old, coded.ends = coded.ends[-tables:], coded.ends[:-tables]
    begin = end = coded.ends[-1] if coded.ends else 0
    for stop in old:
        rows = [column[begin:stop] for column in coded.columns]
        rows[0] = places[rows[0]]
        kept = (rows[0] >= 0) & (rows[1] >= 0) & (rows[2] >= 0)
        rows = [values[kept] for values in rows]
        _refuse_outside(coded, rows)
        for column, values in zip(coded.columns, rows, strict=True):
            column[end : end + len(values)] = values
        begin, end = stop, end + len(rows[0])
        coded.ends.append(end)
    coded.resize(end)


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


def _ahead(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same tables; a thread fetches the next one meanwhile."""
    iterator = iter(tables)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, iterator, None)
        while (table := following.result()) is not None:
            following = pool.submit(next, iterator, None)
            yield table
