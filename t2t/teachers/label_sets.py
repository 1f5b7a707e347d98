"""One file with the labels of many teachers: a table with a column `teacher`, or a cube of numbers (.npz).

It is read and checked once for all of them. The cube has `confidence` [teachers, samples, topics], 0..1 and NaN where a
teacher says nothing, `sample_ids`, `topics`, and `teachers`, their names; without names a member's number is its place.
"""

from __future__ import annotations

import io
import re
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2t.core.errors import DataError, first_twice, listed, nearest, one_line
from t2t.core.files import sha256
from t2t.data.coding import codes, distinct
from t2t.data.dataset import Dataset
from t2t.data.source import SourceFile
from t2t.data.tables import read_table, refuse_duplicates, refuse_outside, refuse_unknown

ARRAYS = ("confidence", "sample_ids", "topics")


class TeacherSet:
    """What every teacher of a file says, checked.

    Args:
        sample_ids, topics: names, and confidence: float [teachers, samples, topics] of a cube, whose numbers stay as
            small as they are; or rows of a table, sorted by teacher.
    """

    def __init__(self, source: SourceFile, names: dict[str, int], rows: pa.Table | None, cube: Cube | None):
        self.source, self.names, self.table, self.cube = source, names, rows, cube
        if rows is not None:
            self.starts = np.searchsorted(rows["_teacher"].to_numpy(), np.arange(len(names) + 1))

    def rows(self, member: str) -> pa.Table:
        """A member's rows: columns sample_id, topic (as dictionaries or texts), confidence."""
        place = self.names.get(member)
        if place is None and not self.names and self.cube is not None:
            digits = re.search(r"\d+\Z", member)
            place = int(digits[0]) if digits and int(digits[0]) < len(self.cube.confidence) else None
        if place is None:
            known = f"it has {listed(list(self.names), 5)}" if self.names else "its teachers have no names, only places"
            raise DataError(self.source.path, f"no teacher {member!r}: {known}.{nearest(member, list(self.names))}")
        if self.cube is not None:
            return self.cube.rows(place)
        assert self.table is not None
        start, stop = self.starts[place], self.starts[place + 1]
        return self.table.slice(start, stop - start).select(["sample_id", "topic", "confidence"])


class Cube:
    """Confidences of all teachers, samples and topics: float [teachers, samples, topics], NaN where one is silent."""

    def __init__(self, confidence: np.ndarray, sample_ids: list[str], topics: list[str]):
        self.confidence = confidence
        self.sample_ids, self.topics = pa.array(sample_ids, pa.string()), pa.array(topics, pa.string())

    def rows(self, place: int) -> pa.Table:
        said = self.confidence[place]
        sample, topic = np.nonzero(~np.isnan(said))
        names = [
            pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), names)
            for index, names in ((sample, self.sample_ids), (topic, self.topics))
        ]
        values = pa.array(said[sample, topic].astype(np.float64))
        return pa.table([*names, values], names=["sample_id", "topic", "confidence"])


def read_set(path: Path, dataset: Dataset) -> TeacherSet:
    """The teachers of a file. Raises DataError as the kind `labels` does, and for a file without a column `teacher`."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}.") from None
    return _read(path, _Of(dataset), stat.st_ino, stat.st_size, stat.st_mtime_ns)


class _Of:
    """A dataset as part of a key: the same one is the same key."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Of) and self.dataset is other.dataset

    def __hash__(self) -> int:
        return id(self.dataset)


@lru_cache(maxsize=2)
def _read(path: Path, of: _Of, *state: int) -> TeacherSet:
    """Args: state: of the file, which each of a thousand teachers asks for."""
    source, dataset = SourceFile(path), of.dataset
    if source.path.suffix == ".npz":
        return _read_cube(source, dataset)
    text = pa.string()
    columns = {"sample_id": text, "topic": text, "confidence": pa.float64(), "teacher": text}
    table = read_table(source, columns, dataset.config.table_limits)
    refuse_unknown(path, table, "sample_id", dataset.samples["sample_id"].to_pylist(), "sample")
    refuse_unknown(path, table, "topic", dataset.topics, "topic")
    refuse_outside(path, table, "confidence")
    refuse_duplicates(path, table, ["teacher", "sample_id", "topic"])
    names = distinct(table["teacher"])
    teacher = codes(table["teacher"], names)
    order = np.argsort(teacher, kind="stable")
    rows = table.select(["sample_id", "topic", "confidence"]).append_column("_teacher", pa.array(teacher))
    return TeacherSet(source, {name: i for i, name in enumerate(names.to_pylist())}, rows.take(pa.array(order)), None)


def _read_cube(source: SourceFile, dataset: Dataset) -> TeacherSet:
    path = source.path
    try:
        with np.load(io.BytesIO(source.read()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*ARRAYS, "teachers") if name in file}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(path, f"not readable as an .npz file: {one_line(error).rstrip('.')}.") from None
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise DataError(path, f"the array {missing[0]!r} is missing; expected {', '.join(ARRAYS)} and teachers.")
    confidence, ids, topics = (arrays[name] for name in ARRAYS)
    names = arrays.get("teachers")
    wanted = (len(names) if names is not None else len(confidence) if confidence.ndim else 0, ids.size, topics.size)
    if confidence.shape != wanted or confidence.dtype.kind != "f":
        raise DataError(
            path, f"confidence is {confidence.dtype} {list(confidence.shape)}; expected floats {list(wanted)}."
        )
    if not ((confidence >= 0) & (confidence <= 1) | np.isnan(confidence)).all():
        raise DataError(path, "confidence has numbers outside 0..1; NaN is for what a teacher says nothing about.")
    named = {"sample": (ids, dataset.samples["sample_id"].to_pylist()), "topic": (topics, dataset.topics)}
    for what, (given, known) in named.items():
        texts = [str(name) for name in given.tolist()]
        if len(set(texts)) < len(texts):
            raise DataError(path, f"a {what} stands twice: {first_twice(texts)!r}.")
        if unknown := sorted(set(texts) - set(known)):
            raise DataError(path, f"unknown {what} {one_line(repr(unknown[0]))}.{nearest(unknown[0], known[:10_000])}")
    places = {} if names is None else {str(name): i for i, name in enumerate(names.tolist())}
    if names is not None and len(places) < len(names):
        raise DataError(path, "teachers names one twice.")
    return TeacherSet(source, places, None, Cube(confidence, [str(i) for i in ids], [str(t) for t in topics]))


def content_of(rows: pa.Table) -> str:
    """SHA-256 of a teacher's rows, whatever their order and whoever stands beside them in the file."""
    columns = []
    for name in ("sample_id", "topic"):
        names = pc.unique(rows[name].cast(pa.string())).sort()
        columns.append((names, codes(rows[name], names)))
    order = np.lexsort((columns[1][1], columns[0][1]))
    parts: list[str | bytes] = []
    for names, code in columns:
        parts += ["\n".join(map(repr, names.to_pylist())), code[order].tobytes()]
    return sha256(*parts, rows["confidence"].cast(pa.float32()).to_numpy()[order].tobytes())
