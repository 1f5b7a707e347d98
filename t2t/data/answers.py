"""People's further answers, written into a dataset's own files: rows of annotations, and groups that get a new split.

The files are people's: what stands there stays as it is, byte for byte in a CSV file of annotations; each file appears
whole or not at all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from t2t.core.errors import DataError
from t2t.core.files import atomic_file
from t2t.data.columns import is_parquet
from t2t.data.csv_files import Dialect, beginning_of
from t2t.data.labels import write_parquet
from t2t.data.limits import TableLimits
from t2t.data.source import SourceFile
from t2t.data.tables import read_table

KEY = ("sample_id", "topic", "annotator")


@dataclass(frozen=True)
class Answer:
    """What one person said of a pair. relevance: 0..1. where: the place in the file that it came from, for messages."""

    sample_id: str
    topic: str
    annotator: str
    relevance: float
    where: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.sample_id, self.topic, self.annotator


@dataclass(frozen=True)
class Merged:
    """What is new among answers. known: stood there already. conflicts: one sentence each; what stood there stays."""

    new: list[Answer]
    known: int = 0
    conflicts: list[str] = field(default_factory=list)


def merge(path: Path, answers: Sequence[Answer], limits: TableLimits) -> Merged:
    """Compares answers with a file of annotations."""
    text = pa.string()
    columns = {**dict.fromkeys(KEY, text), "relevance": pa.float64()}
    table = read_table(SourceFile(path), columns, limits, empty=["relevance"])
    wanted = pa.array(sorted({answer.sample_id for answer in answers}), text)
    table = table.filter(pc.is_in(table["sample_id"], value_set=wanted))
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    there = {(sample, topic, annotator): value for sample, topic, annotator, value in rows}
    new, known, conflicts = [], 0, []
    for answer in answers:
        before = there.get(answer.key)
        if answer.key not in there:
            new.append(answer)
        elif before is None:
            conflicts.append(
                f"{answer.where}: {answer.annotator!r} says {answer.relevance:g} of sample {answer.sample_id!r} and "
                f"topic {answer.topic!r}; {path} has that row without an answer: fill it in there."
            )
        elif abs(before - answer.relevance) < 1e-9:
            known += 1
        else:
            conflicts.append(
                f"{answer.where}: {answer.annotator!r} said {answer.relevance:g} of sample {answer.sample_id!r} and "
                f"topic {answer.topic!r}; {path} has {before:g}, which stays."
            )
    return Merged(new, known, conflicts)


def append(path: Path, answers: Sequence[Answer]) -> None:
    """Adds rows to a file of annotations that `merge` has read, in its own format. Further columns stay empty."""
    if not answers:
        return
    if is_parquet(path):
        values: dict[str, list[Any]] = {name: [getattr(answer, name) for answer in answers] for name in KEY}
        values["relevance"] = [answer.relevance for answer in answers]
        table = pq.read_table(path)
        rows = [_as(field_, values.get(field_.name), len(answers)) for field_ in table.schema]
        write_parquet(pa.concat_tables([table, pa.table(rows, schema=table.schema)]), path)
        return
    content = path.read_bytes()
    dialect, end = Dialect.of(content[: 1 << 16]), _line_end(content)
    header = _header(path, dialect)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=dialect.delimiter, lineterminator=end)
    for answer in answers:
        cells = {**dict(zip(KEY, answer.key, strict=True)), "relevance": f"{answer.relevance:g}"}
        writer.writerow([cells.get(name, "") for name in header])
    if content[-1:] not in (b"\n", b"\r"):
        content += end.encode()
    _write(path, content + out.getvalue().encode())


def move_groups(path: Path, groups: Collection[str], split: str) -> None:
    """Gives all samples of some groups another split, in a file of samples. Every other cell stays as it is."""
    if is_parquet(path):
        table = pq.read_table(path)
        chosen = pc.is_in(table["group"].cast(pa.string()), value_set=pa.array(sorted(groups), pa.string()))
        place = table.schema.get_field_index("split")
        column = pc.if_else(chosen, split, table["split"].cast(pa.string())).cast(table.schema.field(place).type)
        write_parquet(table.set_column(place, table.schema.field(place), column), path)
        return
    content = path.read_bytes()
    dialect, end = Dialect.of(content[: 1 << 16]), _line_end(content)
    mark = "\ufeff" if content.startswith(b"\xef\xbb\xbf") else ""
    text = io.StringIO(content.decode("utf-8-sig"), newline="")
    before = "".join(text.readline() for _ in range(dialect.before))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=dialect.delimiter, lineterminator=end)
    header: list[str] = []
    for cells in csv.reader(text, delimiter=dialect.delimiter):
        if not header:
            header = cells if any(cell.strip() for cell in cells) else []
        elif len(cells) >= len(header) and cells[header.index("group")] in groups:
            cells[header.index("split")] = split
        writer.writerow(cells)
    _write(path, (mark + before + out.getvalue()).encode())


def _as(column: pa.Field, values: Sequence[Any] | None, rows: int) -> pa.Array:
    """Values as a column of a Parquet file has them; nulls where there are none."""
    if values is None:
        return pa.nulls(rows, column.type)
    plain = pa.array(values, pa.float64() if column.name == "relevance" else pa.string())
    if column.name == "relevance" and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        plain = pa.array([f"{value:g}" for value in values])
    if pa.types.is_dictionary(column.type):
        return plain.cast(column.type.value_type).dictionary_encode().cast(column.type)
    return plain.cast(column.type)


def _header(path: Path, dialect: Dialect) -> list[str]:
    lines = io.StringIO(beginning_of(path).decode("utf-8-sig", "replace"), newline="")
    for _ in range(dialect.before):
        lines.readline()
    return next((cells for cells in csv.reader(lines, delimiter=dialect.delimiter) if any(map(str.strip, cells))), [])


def _line_end(content: bytes) -> str:
    if b"\n" not in content and b"\r" in content:
        return "\r"
    return "\r\n" if content[: content.find(b"\n") + 1].endswith(b"\r\n") else "\n"


def _write(path: Path, content: bytes) -> None:
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)
    except PermissionError as error:
        raise DataError(path, f"cannot be written: {error.strerror}.") from None
