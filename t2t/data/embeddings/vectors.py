"""The encoder `vectors`: embeddings that people made themselves, read from files of numbers as they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from t2t.core.errors import DataError, T2TError
from t2t.data.embeddings.config import VectorsConfig
from t2t.data.embeddings.encoders import encoder_fingerprint
from t2t.data.embeddings.media.bounds import Unreadable
from t2t.data.vector_files import VECTORS, VectorFile, open_vectors, split_row

# Bytes of the files that are checked, or written to the store, at once.
BLOCK = 64 << 20
# Files that are held open; of many small ones each is opened when its turn comes.
OPEN = 16
LARGEST = float(np.finfo(np.float16).max)
# Below it float16 has ever fewer digits, and at 6e-8 none.
SMALLEST = float(np.finfo(np.float16).smallest_normal)


class VectorsEncoder:
    """Gives a sample's own numbers back, as float16. Decodes nothing: `read` takes the place of the decoder."""

    size, crop, interpolation, batch_size = 1, "squash", "bicubic", 1 << 16

    def __init__(self, config: VectorsConfig, device: str = "cpu"):
        self.config = config
        self.dim, self.frames = config.dim, config.frames
        self.fingerprint = encoder_fingerprint(config.model_dump(mode="json", exclude={"frames"}))
        # A shard of the store is a file, and rows are small.
        self.shard_samples = max(BLOCK // (2 * self.dim * self.frames), 256)
        self._files: dict[str, VectorFile] = {}

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """float [N, dim], as `read` gives them, to float16 [N, dim]."""
        if frames.ndim != 2 or frames.dtype.kind != "f":
            raise T2TError("The encoder `vectors` takes files of numbers and no pictures; see docs/vectors.md.")
        return frames

    def read(self, path: str) -> np.ndarray:
        """A sample's numbers, float16 [frames, dim]. Raises Unreadable with a reason."""
        file, row = split_row(path)
        try:
            values = self._sample(self._open(file), row)
            if (fault := _fault(values)) is not None:
                raise DataError(path, fault)
        except DataError as error:
            raise Unreadable(str(error).removeprefix(f"{path}: ").removeprefix(f"{file}: ").rstrip(".")) from None
        return np.asarray(values, np.float16)

    def check(self, samples: pa.Table) -> None:
        """Raises DataError for the first file or row that could not be trained on, T2TError for samples that are none:
        before anything is written. Each file's numbers are looked at once, block by block.

        Args:
            samples: columns sample_id, path, modality.
        """
        refuse_other(samples, self.config.kind)
        wanted: dict[str, list[tuple[str | None, str]]] = defaultdict(list)
        for name, path in zip(samples["sample_id"].to_pylist(), samples["path"].to_pylist(), strict=True):
            file, row = split_row(path)
            wanted[file].append((row, name))
        largest = 0.0
        for path, rows in wanted.items():
            opened = self._open(path)
            # A file may be a sample as a whole, and its rows others.
            for whole in (True, False):
                some = [(row, name) for row, name in rows if (row is None) == whole]
                if not some:
                    continue
                self._sample(opened, some[0][0])
                # Numbers that no sample names are nobody's business.
                used = None if whole else np.array([opened.row(row or "") for row, _ in some], np.int64)
                largest = max(largest, _refuse_bad(opened, used, [name for _, name in some]))
        if 0 < largest < SMALLEST:
            raise DataError(
                next(iter(wanted)),
                f"no sample's numbers are larger than {largest:g}, and float16 has its digits from {SMALLEST:.0e} on: "
                "multiply all of them by one number.",
            )

    def _open(self, path: str) -> VectorFile:
        if path not in self._files:
            if len(self._files) >= OPEN:
                del self._files[next(iter(self._files))]
            self._files[path] = open_vectors(path, self.config.column, self.config.ids)
        return self._files[path]

    def _sample(self, file: VectorFile, row: str | None) -> np.ndarray:
        values = file.sample(row)
        shape = file.values.shape
        if values.ndim != 2 or (row is not None and file.values.ndim == 1):
            raise DataError(file.path, f"has the shape {list(shape)}, one sample: leave `#{row}` out, or save rows.")
        if values.shape[1] != self.dim:
            raise DataError(file.path, f"{values.shape[1]:,} numbers a row, and encoder.dim is {self.dim:,}.")
        if len(values) > self.frames:
            more = (
                "" if row is not None else f" Rows that are samples of their own are named, as in {file.path.name}#0."
            )
            raise DataError(
                file.path, f"{len(values):,} frames in a sample, and encoder.frames is {self.frames:,} at most.{more}"
            )
        return values


def _fault(values: np.ndarray) -> str | None:
    """What is wrong with numbers, float of any shape; None where nothing is."""
    with np.errstate(all="ignore"):
        low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        return "holds NaN or infinite numbers; mend or leave out what is not known."
    if max(-low, high) > LARGEST:
        return f"holds {high if high > LARGEST else low:g}, and float16 ends at {LARGEST:,.0f}: divide all of them."
    return None


def _refuse_bad(file: VectorFile, used: np.ndarray | None, names: Sequence[str]) -> float:
    """Raises DataError for numbers of samples that are not finite, or beyond float16. Returns the largest magnitude."""
    if used is None:
        if (fault := _fault(file.values)) is not None:
            raise DataError(file.path, f"(sample {names[0]!r}) {fault}")
        return _largest(file.values)
    values, largest = file.values, 0.0
    step = max(BLOCK // max(values[0].nbytes, 1), 1)
    at = np.argsort(used, kind="stable")
    for start in range(0, len(at), step):
        rows = used[at[start : start + step]]
        # In the order of the file, and without a copy where they follow one another.
        part = values[rows[0] : rows[-1] + 1] if rows[-1] - rows[0] < len(rows) else values[rows]
        if _fault(part) is not None:
            each = [_fault(row) for row in part] if len(part) == len(rows) else [_fault(values[row]) for row in rows]
            bad = next(i for i, fault in enumerate(each) if fault is not None)
            number, sample = int(rows[bad]), names[at[start + bad]]
            raise DataError(file.path, f"(sample {sample!r}) {each[bad]}", number)
        largest = max(largest, _largest(part))
    return largest


def _largest(values: np.ndarray) -> float:
    return max(-float(values.min()), float(values.max()))


def check_samples(samples: pa.Table, config: Any) -> None:
    """Raises T2TError where a frame encoder, by its configuration, cannot take a dataset's samples: before anything
    expensive is done. Args: samples: columns sample_id, path, modality."""
    if config.kind == VECTORS:
        VectorsEncoder(config).check(samples)
    else:
        refuse_other(samples, config.kind)


def probe_numbers(path: str) -> None:
    """Raises Unreadable for a sample's file or row that no configuration of the encoder could take."""
    file, row = split_row(path)
    try:
        opened = _opened(file)
        if opened is None or not (row is None or row.isdigit()):  # a name, of which an encoder knows the column
            return
        if (fault := _fault(opened.sample(row))) is not None:
            raise Unreadable(fault.rstrip("."))
    except DataError as error:
        raise Unreadable(str(error).removeprefix(f"{file}: ").rstrip(".")) from None


@lru_cache(maxsize=OPEN)
def _opened(file: str) -> VectorFile | None:
    """A file of numbers; None where only an encoder's configuration says what is in it."""
    try:
        return open_vectors(file)
    except DataError as error:
        if "encoder." in str(error):
            return None
        raise


def refuse_other(samples: pa.Table, kind: str) -> None:
    """Raises T2TError where an encoder of a kind is to look at samples that it cannot.

    Args:
        samples: columns sample_id and modality.
    """
    if "modality" not in samples.column_names:
        return
    for name, modality in zip(samples["sample_id"].to_pylist(), samples["modality"].to_pylist(), strict=True):
        if (modality == VECTORS) != (kind == VECTORS):
            what = "numbers" if modality == VECTORS else f"a file to decode ({modality})"
            remedy = "`encoder: {kind: vectors, dim: ...}`" if modality == VECTORS else "another kind of encoder"
            raise T2TError(f"Sample {name!r} is {what}, which the encoder {kind!r} does not take: it needs {remedy}.")
