"""People's further answers, written into a dataset's own files: rows of annotations, and groups that get a new split.

The files are people's: what stands there stays as it is, byte for byte in a CSV file of annotations; each file appears
whole or not at all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from t2t.core.errors import DataError, one_line
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
    append_rows(path, [row_of(answer.key, answer.relevance) for answer in answers])


def row_of(key: tuple[str, str, str], relevance: float) -> dict[str, str | float]:
    """A row of annotations. Args: key: sample, topic, annotator."""
    return {**dict(zip(KEY, key, strict=True)), "relevance": relevance}


def append_rows(path: Path, rows: Sequence[Mapping[str, str | float]]) -> None:
    """Adds rows, by column, behind those of a table, in its own format. What stands there stays, byte for byte in a CSV
    file; columns that a row does not have stay empty, and those that the table does not have are left out."""
    if not rows:
        return
    if is_parquet(path):
        table = pq.read_table(path)
        columns = [_as(path, column, [row.get(column.name) for row in rows]) for column in table.schema]
        write_parquet(pa.concat_tables([table, pa.table(columns, schema=table.schema)]), path)
        return
    content = path.read_bytes()
    dialect, end = Dialect.of(content[: 1 << 16]), _line_end(content)
    header = _header(path, dialect)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=dialect.delimiter, lineterminator=end)
    for row in rows:
        writer.writerow([_cell(row.get(name, "")) for name in header])
    if content[-1:] not in (b"\n", b"\r"):
        content += end.encode()
    _write(path, content + out.getvalue().encode())


def change(path: Path, answers: Mapping[tuple[str, str, str], float]) -> None:
    """Gives answers, by sample, topic and annotator, another relevance. Every other cell stays as it is."""
    if is_parquet(path):
        table = pq.read_table(path)
        keys = zip(*(table[name].to_pylist() for name in KEY), strict=True)
        now = [answers.get(key, value) for key, value in zip(keys, table["relevance"].to_pylist(), strict=True)]
        place = table.schema.get_field_index("relevance")
        field_ = table.schema.field(place)
        write_parquet(table.set_column(place, field_, _as(path, field_, now)), path)
        return

    def taken(row: dict[str, str]) -> dict[str, str]:
        key = (row["sample_id"], row["topic"], row["annotator"])
        return {"relevance": number(answers[key])} if key in answers else {}

    _rewrite(path, taken)


def move_groups(path: Path, groups: Collection[str], split: str) -> None:
    """Gives all samples of some groups another split, in a file of samples. Every other cell stays as it is."""
    if is_parquet(path):
        table = pq.read_table(path)
        chosen = pc.is_in(table["group"].cast(pa.string()), value_set=pa.array(sorted(groups), pa.string()))
        place = table.schema.get_field_index("split")
        column = pc.if_else(chosen, split, table["split"].cast(pa.string())).cast(table.schema.field(place).type)
        write_parquet(table.set_column(place, table.schema.field(place), column), path)
        return
    _rewrite(path, lambda row: {"split": split} if row["group"] in groups else {})


def number(value: float) -> str:
    """A number that is read back as it is."""
    return repr(float(value)).removesuffix(".0")


def _rewrite(path: Path, changed: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Writes a CSV file anew, with the cells that `changed` gives of a row."""
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
        elif len(cells) >= len(header):
            for name, cell in changed(dict(zip(header, cells, strict=False))).items():
                cells[header.index(name)] = cell
        writer.writerow(cells)
    _write(path, (mark + before + out.getvalue()).encode())


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else number(value)


def _as(path: Path, column: pa.Field, values: Sequence[Any]) -> pa.Array:
    """Values as a column of a Parquet file has them. Raises DataError for those that it cannot have."""
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    plain = pa.array([_cell(value) if text and value is not None else value for value in values])
    try:
        if pa.types.is_dictionary(column.type):
            return plain.cast(column.type.value_type).dictionary_encode().cast(column.type)
        return plain.cast(column.type)
    except pa.ArrowException as error:
        raise DataError(
            path, f"a new row's value is no {column.type}: {one_line(error)}.", column=column.name
        ) from None


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
