"""What can be searched: the clips that were tagged, and those of the campaign's dataset, by where they came from.

A source is a table of names, paths and keys of the embedding store, `work/campaigns/<name>/searched/<source>.parquet`.
It holds no vectors: a later champion has other ones, and they are made anew from the stored frame embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from t2t.core.errors import T2TError, one_line
from t2t.core.files import atomic_file, sha256

SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("sample_id", "path", "key")])


def source_file(campaign_folder: Path, source: str) -> Path:
    """Where the table of a source lies. Args: source: a dataset's name, or a folder's absolute path."""
    return campaign_folder / "searched" / f"{sha256(source)[:16]}.parquet"


def note_source(
    campaign_folder: Path, source: str, ids: Sequence[str], paths: Sequence[str], keys: Sequence[str]
) -> None:
    """Writes a source's table, in place of what was there."""
    target = source_file(campaign_folder, source)
    table = pa.table([pa.array(column, pa.string()) for column in (ids, paths, keys)], schema=SCHEMA)
    with atomic_file(target) as temporary:
        pq.write_table(table.replace_schema_metadata({"source": source}), temporary, compression="zstd")


def read_sources(campaign_folder: Path) -> pa.Table:
    """All sources one behind the other, a file that is in several once: columns sample_id, path, key. Empty where
    nothing was noted. Raises T2TError for a damaged table."""
    tables = []
    for path in sorted((campaign_folder / "searched").glob("*.parquet")):
        if path.name.startswith("."):
            continue
        try:
            tables.append(pq.read_table(path).replace_schema_metadata(None).cast(SCHEMA))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise T2TError(
                f"{path}: cannot be read ({one_line(error, 100)}). Delete it, and tag its files again."
            ) from None
    if not tables:
        return SCHEMA.empty_table()
    table = pa.concat_tables(tables)
    first: dict[str, int] = {}
    for number, path in enumerate(table["path"].to_pylist()):
        first.setdefault(path, number)
    return table.take(pa.array(list(first.values()), pa.int64()))
