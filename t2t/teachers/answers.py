"""What a teacher answers, checked where it enters: one checker for every kind, plug-ins and students too.

An identity is immutable, so that one bad row in the lake would stay there. Nothing is written before it has passed
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2t.core.errors import T2TError, nearest, one_line
from t2t.data.coding import codes
from t2t.data.labels import LABEL_SCHEMA

NEXT = "Nothing of it is registered: mend its file, weights or code, and try `t2t teachers check {}`."

# Rows and tables that are looked at together; of many samples as many rows.
ROWS, TABLES = 1 << 16, 1 << 10


def checked(
    teacher: str, tables: Iterable[pa.Table], samples: Sequence[str] | pa.Array, topics: Sequence[str]
) -> Iterator[pa.Table]:
    """The same tables, of LABEL_SCHEMA, as long as they are what was asked for.

    Args:
        teacher: the identity that answers. samples, topics: what it was asked for.

    Raises T2TError that names teacher, sample, topic and what to do, for a table of other columns, a row under another
    identity, a sample or topic that was not asked for, a confidence that is NaN, infinite or outside 0..1, or a pair
    that stands twice (far from each other: once the last one came).
    """
    asked = samples if isinstance(samples, pa.Array) else pa.array(samples, pa.string())
    pairs: list[np.ndarray] = []
    for waiting in _together((_columns(teacher, table) for table in tables), max(ROWS, len(asked))):
        pairs.append(_pairs(teacher, pa.concat_tables(waiting), asked, topics))
        yield from waiting
    if len(pairs) > 1:
        _refuse_twice(teacher, np.concatenate(pairs), asked, topics)


def _together(tables: Iterable[pa.Table], most: int) -> Iterator[list[pa.Table]]:
    """Tables together, up to so many rows, since looking a sample up takes longest for the first one."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        if rows >= most or len(waiting) >= TABLES:
            yield waiting
            waiting, rows = [], 0
    if waiting:
        yield waiting


def _columns(teacher: str, table: object) -> pa.Table:
    if not isinstance(table, pa.Table):
        raise T2TError(f"Teacher {teacher!r} answers with {type(table).__name__}, not with a pyarrow.Table.")
    if table.schema.names != LABEL_SCHEMA.names:
        raise T2TError(
            f"Teacher {teacher!r} answers with the columns {', '.join(table.schema.names)}; expected "
            f"{', '.join(LABEL_SCHEMA.names)}."
        )
    for name in LABEL_SCHEMA.names:
        if table[name].null_count:
            row = int(pc.index(table[name].is_null(), True).as_py())
            where = _named(table["sample_id"][row].as_py(), table["topic"][row].as_py())
            raise _refusal(teacher, f"gives nothing as {name}", where)
    try:
        return table.cast(LABEL_SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise T2TError(
            f"Teacher {teacher!r} answers with columns of other types: {one_line(error).rstrip('.')}."
        ) from None


def _pairs(teacher: str, table: pa.Table, samples: pa.Array, topics: Sequence[str]) -> np.ndarray:
    """Each row's pair as a number, int64 [rows]: the sample's position times the number of topics, plus the topic's."""
    sample, topic = codes(table["sample_id"], samples), codes(table["topic"], topics)
    confidence = table["confidence"].to_numpy()

    def row(bad: np.ndarray) -> tuple[dict[str, str], str]:
        cells = {name: table[name][int(np.flatnonzero(bad)[0])].as_py() for name in LABEL_SCHEMA.names}
        more = int(bad.sum()) - 1
        return cells, _named(cells["sample_id"], cells["topic"]) + (f" (and {more:,} more rows)" if more else "")

    bad = ~((confidence >= 0) & (confidence <= 1))
    if bad.any():
        cells, where = row(bad)
        raise _refusal(teacher, f"gives {cells['confidence']}, which is no number from 0 to 1,", where)
    foreign = pc.not_equal(table["teacher_id"], teacher).to_numpy()
    if foreign.any():
        cells, where = row(foreign)
        raise _refusal(teacher, f"labels as {cells['teacher_id']!r}", where)
    for what, position, names in (("sample", sample, None), ("topic", topic, topics)):
        if (position < 0).any():
            cells, where = row(position < 0)
            hint = nearest(cells["topic"], names) if names is not None and len(names) <= 10_000 else ""
            raise _refusal(teacher, f"answers about a {what} that it was not asked for,", where, hint)
    pairs = sample.astype(np.int64) * len(topics) + topic
    _refuse_twice(teacher, pairs, samples, topics)
    return pairs


def _refuse_twice(teacher: str, pairs: np.ndarray, samples: pa.Array, topics: Sequence[str]) -> None:
    ordered = np.sort(pairs)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        sample, topic = divmod(int(twice[0]), len(topics))
        raise _refusal(teacher, "answers more than once", _named(samples[sample].as_py(), topics[topic]))


def _named(sample: object, topic: object) -> str:
    return f"for sample {one_line(repr(sample), 100)} and topic {one_line(repr(topic), 100)}"


def _refusal(teacher: str, fault: str, where: str, hint: str = "") -> T2TError:
    return T2TError(f"Teacher {teacher!r} {fault} {where}.{hint} {NEXT.format(teacher)}")
