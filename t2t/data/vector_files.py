"""Files of numbers that people bring: rows of a .npy, .npz, Parquet or safetensors file, opened without copying them.

A row is one sample: [dim], or [frames, dim]. A sample's path names file and row, `train.npy#17`; without a row the file
is one sample by itself. Nothing pickled is ever opened.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy

from t2t.core.errors import DataError, first_twice, listed, nearest, one_line

# The modality of samples that are such rows.
VECTORS = "vectors"
# What a file that cannot be mapped may come to in memory; .npy and safetensors are mapped, and may be of any size.
MOST_UNPACKED = 4 << 30
FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
ENDINGS = (".npy", ".npz", ".parquet", ".safetensors")


def split_row(path: str) -> tuple[str, str | None]:
    """File and row of a sample's path; None where it is the whole file."""
    file, mark, row = path.rpartition("#")
    return (file, row) if mark and row and _of_numbers(file) else (path, None)


@lru_cache(maxsize=1024)
def _of_numbers(file: str) -> bool:
    # A file has many rows, and each asks.
    return Path(file).suffix.lower() in ENDINGS


def is_numbers(path: str) -> bool:
    """Whether a sample is a file of numbers, or a row in one, by its path."""
    return _of_numbers(split_row(path)[0])


@dataclass(frozen=True)
class VectorFile:
    """One file, still on disk where its format allows that.

    values: float16, float32 or float64, [rows, dim] or [rows, frames, dim]; [dim] of a file that is one sample.
    names: of each row its name, where they have names.
    """

    path: Path
    values: np.ndarray
    names: tuple[str, ...] | None = None

    @cached_property
    def _at(self) -> Mapping[str, int]:
        return {name: row for row, name in enumerate(self.names or ())}

    @cached_property
    def _plain(self) -> np.ndarray:
        """The same without NumPy's class for maps, whose rows take several times as long to be taken out."""
        return self.values.view(np.ndarray)

    def row(self, written: str) -> int:
        """The number of a row, from 0, by what stands behind `#`. Raises DataError where there is none such."""
        if self.names is not None:
            if written not in self._at:
                raise DataError(self.path, f"no row is named {one_line(repr(written), 80)}.")
            return self._at[written]
        if not (written.isascii() and written.isdigit() and len(written) < 19):
            raise DataError(
                self.path, f"#{one_line(written, 60)} is no row number; rows count from 0 (names need encoder.ids)."
            )
        if (row := int(written)) >= len(self.values):
            raise DataError(self.path, f"row {row:,} is asked for, and it has {len(self.values):,} (0 is the first).")
        return row

    def sample(self, row: str | None) -> np.ndarray:
        """A sample's numbers, [frames, dim]; the whole file where no row is named."""
        values = self._plain if row is None else self._plain[self.row(row)]
        return values[None] if values.ndim == 1 else values


def open_vectors(path: str | Path, column: str | None = None, ids: str | None = None) -> VectorFile:
    """Opens a file.

    Args:
        column: which of its columns (Parquet) or arrays (.npz, safetensors) holds the numbers; may be None where there
            is but one. ids: the one that names the rows; None: they are numbered.

    Raises DataError for what cannot be read, is pickled, is not made of floating-point numbers or has other dimensions.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(path, f"not a file of numbers by its ending; {', '.join(ENDINGS)} are read.")
    if not path.is_file():
        raise DataError(path, "no such file.")
    try:
        values, names = reader(path, column, ids)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, pa.ArrowException) as error:
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise DataError(
                path, "holds pickled objects, which can run code when they are opened; save plain float32 numbers."
            ) from None
        raise DataError(path, f"cannot be read: {one_line(error, 200).rstrip('.')}.") from None
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise DataError(path, f"holds {values.dtype}; float16, float32 or float64 is needed.")
    if not 1 <= values.ndim <= 3 or 0 in values.shape:
        raise DataError(path, f"has the shape {list(values.shape)}; [rows, dim] or [rows, frames, dim] is needed.")
    if names is not None:
        if len(names) != len(values):
            raise DataError(path, f"{len(names):,} names for {len(values):,} rows.")
        if (twice := first_twice(names)) is not None:
            raise DataError(path, f"two rows are named {one_line(repr(twice), 80)}.")
    return VectorFile(path, values, names)


def _chosen(path: Path, wanted: str | None, there: list[str], but: str | None, what: str) -> str:
    if wanted is None:
        rest = [name for name in there if name != but]
        if len(rest) != 1:
            raise DataError(path, f"has {len(rest)} {what} ({listed(rest, 8)}): name one by encoder.column.")
        return rest[0]
    if wanted not in there:
        raise DataError(path, f"{one_line(repr(wanted), 80)} is none of its {what}.{nearest(wanted, there)}")
    return wanted


def _refuse_large(path: Path, size: int) -> None:
    if size > MOST_UNPACKED:
        raise DataError(
            path,
            f"{size / 2**30:,.1f} GiB would be unpacked into memory, and {MOST_UNPACKED >> 30} are the most; save it "
            "as .npy or safetensors, which are mapped.",
        )


Found = tuple[np.ndarray, tuple[str, ...] | None]


def _npy(path: Path, column: str | None, ids: str | None) -> Found:
    if column or ids:
        raise DataError(path, "a .npy file has no columns; leave encoder.column and encoder.ids out.")
    with open(path, "rb") as file:
        shape, dtype = _npy_header(file)
        if dtype.hasobject:
            raise ValueError("pickle")
        start, size = file.tell(), os.fstat(file.fileno()).st_size
    if (wanted := start + int(np.prod(shape, dtype=object)) * dtype.itemsize) > size:
        raise DataError(path, f"is cut off: {size:,} bytes of {wanted:,}.")
    return np.load(path, mmap_mode="r", allow_pickle=False), None


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _npz(path: Path, column: str | None, ids: str | None) -> Found:
    with zipfile.ZipFile(path) as file:
        there = [name.removesuffix(".npy") for name in file.namelist()]
        chosen = _chosen(path, column, there, ids, "arrays")
        wanted = [chosen] if ids is None else [chosen, _chosen(path, ids, there, None, "arrays")]
        for name in wanted:
            with file.open(f"{name}.npy") as array:
                shape, dtype = _npy_header(array)
            if dtype.hasobject:
                raise ValueError("pickle")
            # By its own header: what is compressed may come to more than its size says.
            _refuse_large(path, int(np.prod(shape, dtype=object)) * dtype.itemsize)
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[chosen], None if ids is None else tuple(map(str, arrays[ids].tolist()))


def _safetensors(path: Path, column: str | None, ids: str | None) -> Found:
    if ids:
        raise DataError(path, "a safetensors file has no texts, so no encoder.ids: number the rows.")
    with open(path, "rb") as file:
        length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
        if not 0 < length <= size - 8:
            raise DataError(path, "is cut off, or not a safetensors file.")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    entry = header[_chosen(path, column, list(header), None, "arrays")]
    if entry["dtype"] not in FLOATS:
        raise DataError(path, f"holds {entry['dtype']}; F16, F32 or F64 is needed.")
    start, stop = entry["data_offsets"]
    dtype = np.dtype(FLOATS[entry["dtype"]])
    if (
        8 + length + max(one["data_offsets"][1] for one in header.values()) > size
        or stop - start != int(np.prod(entry["shape"], dtype=object)) * dtype.itemsize
    ):
        raise DataError(path, "is cut off, or damaged.")
    return np.memmap(path, dtype, "r", 8 + length + start, tuple(entry["shape"])), None


def _parquet(path: Path, column: str | None, ids: str | None) -> Found:
    with pq.ParquetFile(path, memory_map=True) as file:
        fields = {field.name: field.type for field in file.schema_arrow}
        lists = [name for name, kind in fields.items() if _is_list(kind)]
        chosen = _chosen(path, column, lists, ids, "columns with a list")
        wanted = [chosen] if ids is None else [chosen, _chosen(path, ids, list(fields), None, "columns")]
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        parts = [group.column(i) for group in groups for i in range(group.num_columns)]
        _refuse_large(
            path, sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in wanted)
        )
        table = file.read(wanted)
    lists_of = table[chosen].combine_chunks()
    if len(table) == 0:
        raise DataError(path, "has no rows.")
    if lists_of.null_count:
        raise DataError(path, f"{lists_of.null_count:,} rows are empty.", None, chosen)
    if not pa.types.is_fixed_size_list(lists_of.type):
        lengths = np.diff(lists_of.offsets.to_numpy())
        if (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise DataError(
                path, f"row {row:,} has {lengths[row]:,} numbers, and row 0 has {lengths[0]:,}.", None, chosen
            )
    numbers = lists_of.flatten()
    if numbers.null_count:
        raise DataError(path, f"{numbers.null_count:,} numbers are empty.", None, chosen)
    values = numbers.to_numpy(zero_copy_only=False).reshape(len(table), -1)
    return values, None if ids is None else tuple(map(str, table[ids].to_pylist()))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


_READERS: dict[str, Callable[[Path, str | None, str | None], Found]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
}
