"""How large a table may be, said before it is decoded: a small file can hold a table that no memory holds."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from t2t.core.config import Config
from t2t.core.errors import DataError

log = logging.getLogger("t2t")

MEGABYTE = 1 << 20
# A table that people or programs write for this has some; so many are another file by mistake, or an attack.
MOST_COLUMNS = 10_000
# Bytes of a value that is not text, by its physical type in Parquet; others say their length.
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8, "INT96": 12, "BYTE_ARRAY": 4}
RAISE = "Is it the right file? If so, set `table_limits: {{{}: {}}}` in the dataset's entry."


class TableLimits(Config):
    """What a table of this dataset, or of a teacher's labels of it, may be at most."""

    rows: int = Field(50_000_000, ge=1, le=10**12, description="Rows of a table.")
    megabytes: int = Field(
        2048, ge=1, le=10**9, description="Megabytes of a table once it is decoded, and of a text file."
    )
    line_kilobytes: int = Field(1024, ge=1, le=10**9, description="Kilobytes of a line of a text file.")

    def refuse_rows(self, path: Path, rows: int) -> None:
        if rows > self.rows:
            most = RAISE.format("rows", rows)
            raise DataError(path, f"{rows:,} rows, more than table_limits.rows ({self.rows:,}) allows. {most}")

    def refuse_bytes(self, path: Path, size: int, how: str = "") -> None:
        megabytes = -(-size // MEGABYTE)
        if megabytes > self.megabytes:
            raise DataError(
                path,
                f"{megabytes:,} MB{how}, more than table_limits.megabytes ({self.megabytes:,}) allows. "
                f"{RAISE.format('megabytes', megabytes)}",
            )

    def refuse_text(self, path: Path) -> None:
        """Raises DataError for a text file that is too large, or has too long a line; reads it block by block."""
        size, most = path.stat().st_size, self.line_kilobytes << 10
        self.refuse_bytes(path, size)
        if size <= most:
            return
        # A line is too long where a block of its greatest length has no line end in it; blocks begin behind one.
        with open(path, "rb") as file:
            start = row = 0
            while start + most < size:
                file.seek(start)
                block = file.read(most + 1)
                end = max(block.rfind(b"\n"), block.rfind(b"\r"))
                if end < 0:
                    raise DataError(
                        path,
                        f"a line of more than {self.line_kilobytes:,} KB, which table_limits.line_kilobytes does not "
                        f"allow; is it a table? {RAISE.format('line_kilobytes', 4 * self.line_kilobytes)}",
                        row + 1,
                    )
                row += block.count(b"\n", 0, end + 1) or block.count(b"\r", 0, end + 1)
                start += end + 1

    def readable(self, path: Path, file: pq.ParquetFile) -> list[str]:
        """The columns of a Parquet file that are not too large, by what it says of itself; decodes nothing.

        Texts count as they are read: four bytes for each, and the distinct ones of a block once. Those in lists and
        structures cannot be read so: each may be as long as all distinct ones together. Where that is too much, such
        columns are left out, and it is said.

        Raises DataError where all others are too large, too.
        """
        metadata = file.metadata
        self.refuse_rows(path, metadata.num_rows)
        if metadata.num_columns > MOST_COLUMNS:
            raise DataError(path, f"{metadata.num_columns:,} columns; {MOST_COLUMNS:,} are the most.")
        size, nested = 0, dict.fromkeys(file.schema_arrow.names, 0)
        for group in range(metadata.num_row_groups):
            for number in range(metadata.num_columns):
                chunk, column = metadata.row_group(group).column(number), metadata.schema.column(number)
                top = column.path.partition(".")[0]
                if column.physical_type == "BYTE_ARRAY" and column.path != column.name and top in nested:
                    nested[top] += chunk.num_values * chunk.total_uncompressed_size
                else:
                    width = WIDTHS.get(column.physical_type, column.length)
                    size += chunk.num_values * width + chunk.total_uncompressed_size
        self.refuse_bytes(path, size, " once it is read")
        left = [name for name, own in nested.items() if size + own > self.megabytes * MEGABYTE]
        for name in left:
            log.warning("%s: column %r is left out: its lists of texts may be too large.", path, name)
        return [name for name in file.schema_arrow.names if name not in left]

    def refuse_decoded(self, path: Path, table: pa.Table) -> None:
        """Raises DataError for a table whose texts would take too much once each row has its own."""
        size = 0
        for column in table.columns:
            size += column.nbytes
            if pa.types.is_dictionary(column.type):
                size += sum(_text_bytes(chunk) for chunk in column.chunks)
        self.refuse_bytes(path, size, " once it is read")


def is_text(kind: pa.DataType) -> bool:
    """Text or bytes of any kind."""
    checks = (
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    )
    return any(check(kind) for check in checks)


def _text_bytes(chunk: pa.DictionaryArray) -> int:
    """Bytes of the texts of a dictionary's rows, each with its own."""
    if not len(chunk.dictionary) or not is_text(chunk.dictionary.type):
        return 0
    lengths = pc.binary_length(chunk.dictionary.cast(pa.large_binary()))
    return pc.sum(lengths.take(chunk.indices)).as_py() or 0
