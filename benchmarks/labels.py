"""The label table: 100 teachers' Parquet files to one CSR matrix, against DuckDB, Polars and pandas doing the same.

Every teacher labels a random part of 2 million samples (and of some that are not trained on), ten of 10,000 topics for
each; four teachers of five write sample after sample, the fifth in any order.

pandas has its fast way here: names read as dictionaries (categoricals), one `Index` of each list of names, codes taken
from the categories, then a stable sort and a group-by. "plain columns" is the same without dictionaries: all files in
one frame, `Categorical` with the known names, sort, group-by.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks import label_rivals
from benchmarks.harness import Measured, Result, alone, interleave
from t2t.data.labels import LABEL_DICTIONARIES, LABEL_SCHEMA, label_blocks, write_parquet
from t2t.training.matrix import ARRAYS, LabelMatrix, build_matrix

SAMPLES, TOPICS, TEACHERS, OF_A_SAMPLE = 2_000_000, 10_000, 100, 10
NAMES = tuple(f"teacher-{i:03}" for i in range(TEACHERS))
READ, T2T, PANDAS, PLAIN = "reading alone (the limit)", "t2t", "pandas", "pandas, plain columns"
RIVALS = (label_rivals.DUCKDB, label_rivals.POLARS, label_rivals.POLARS_STREAMING)
# Times the arrays of the finished matrix, beside sample ids that exist before.
MOST_MEMORY = 1.5
# How many times faster than each side t2t is to be.
TO_REACH = {label_rivals.DUCKDB: 2.0, PANDAS: 5.0, PLAIN: 5.0}


class Task(NamedTuple):
    files: list[Path]
    samples: pa.Array
    topics: list[str]


def sample_ids() -> pa.Array:
    """Ids of 11 to 19 characters; the last twentieth are of samples that nothing is trained on."""
    numbers = np.random.default_rng(0).integers(16**8, size=SAMPLES + SAMPLES // 20)
    return pa.array([f"v{n:08x}_{i:x}{'_part' * (i % 3 == 0)}" for i, n in enumerate(numbers)])


def topic_names() -> list[str]:
    return [f"topic {i:05}{' of interest' * (i % 2)}" for i in range(TOPICS)]


def make(folder: Path, rows: int, ids: pa.Array) -> None:
    """Writes every teacher's file, with `rows` rows in all."""
    folder.mkdir()
    topics, count = pa.array(topic_names()), rows // TEACHERS
    for number, name in enumerate(NAMES):
        rng = np.random.default_rng([rows, number])
        sample = np.sort(rng.choice(len(ids), count // OF_A_SAMPLE, replace=False)).repeat(OF_A_SAMPLE)
        if number % 5 == 4:
            rng.shuffle(sample)
        columns = [ids.take(pa.array(sample)), topics.take(pa.array(rng.integers(TOPICS, size=count)))]
        columns += [pa.repeat(pa.scalar(name), count), pa.array(rng.random(count, np.float32))]
        write_parquet(pa.table(columns, schema=LABEL_SCHEMA), folder / f"{name}.parquet")


def task(folder: Path) -> Task:
    # A copy: a slice would hold the names that are left out.
    return Task(sorted(folder.iterdir()), pa.concat_arrays([sample_ids()[:SAMPLES]]), topic_names())


def read(of: Task) -> int:
    return sum(len(table) for file in of.files for table in label_blocks(file))


def with_t2t(of: Task) -> LabelMatrix:
    tables = chain.from_iterable(label_blocks(file) for file in of.files)
    return build_matrix(tables, of.samples, of.topics, NAMES)


def with_pandas(of: Task, names: Sequence[list[str]]) -> LabelMatrix:
    index, parts = [pd.Index(values) for values in names], []
    for file in of.files:
        frame = pd.read_parquet(file, read_dictionary=LABEL_DICTIONARIES)
        columns = [frame[name].cat for name in LABEL_DICTIONARIES]
        codes = [i.get_indexer(c.categories)[c.codes] for i, c in zip(index, columns, strict=True)]
        parts.append(frame_of(codes, frame["confidence"]))
    return in_order(pd.concat(parts, ignore_index=True), of, names)


def with_plain_columns(of: Task, names: Sequence[list[str]]) -> LabelMatrix:
    frame = pd.concat([pd.read_parquet(file) for file in of.files], ignore_index=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that are left out get no category, as they should
        pairs = zip(LABEL_DICTIONARIES, names, strict=True)
        codes = [np.asarray(pd.Categorical(frame[name], categories=values).codes) for name, values in pairs]
    return in_order(frame_of(codes, frame["confidence"]), of, names)


def frame_of(codes: Sequence[np.ndarray], confidence: pd.Series) -> pd.DataFrame:
    sample, topic, teacher = codes[0].astype(np.int32), codes[1].astype(np.int32), codes[2].astype(np.int16)
    frame = pd.DataFrame({"sample": sample, "topic": topic, "teacher": teacher, "confidence": confidence})
    return frame[(sample >= 0) & (topic >= 0) & (teacher >= 0)]


def in_order(frame: pd.DataFrame, of: Task, names: Sequence[list[str]]) -> LabelMatrix:
    frame = frame.sort_values("sample", kind="stable")
    counts = frame.groupby("sample").size().reindex(range(SAMPLES), fill_value=0)
    indptr = np.concatenate([[0], counts.cumsum()])
    columns = (frame[name].to_numpy() for name in ARRAYS[1:])
    return LabelMatrix(of.samples, tuple(names[1]), tuple(names[2]), indptr, *columns)


def with_rival(of: Task, columns: label_rivals.Columns) -> LabelMatrix:
    found = columns()
    indptr = np.zeros(SAMPLES + 1, np.int64)
    np.cumsum(np.bincount(found["sample"], minlength=SAMPLES), out=indptr[1:])
    return LabelMatrix(of.samples, tuple(of.topics), NAMES, indptr, *(found[name] for name in ARRAYS[1:]))


def size(matrix: LabelMatrix) -> int:
    return sum(getattr(matrix, name).nbytes for name in ARRAYS)


def print_of(matrix: LabelMatrix) -> tuple[int, list[int]]:
    """Bytes of the arrays, and a checksum of each."""
    return size(matrix), [zlib.crc32(np.ascontiguousarray(getattr(matrix, name)).data) for name in ARRAYS]


def side(name: str, folder: Path) -> Callable[[], LabelMatrix]:
    """One side's work, with the names ready in memory as that side takes them."""
    of = task(folder)
    if name == T2T:
        return partial(with_t2t, of)
    if name in RIVALS:
        known = [of.samples, pa.array(of.topics), pa.array(NAMES)]
        return partial(with_rival, of, label_rivals.columns_by(name, of.files, known))
    names = [of.samples.to_pylist(), of.topics, list(NAMES)]
    return partial(with_pandas if name == PANDAS else with_plain_columns, of, names)


def once(work: Callable[[], LabelMatrix]) -> tuple[float, tuple[int, list[int]]]:
    """Seconds of the work, and what came of it."""
    start = time.perf_counter()
    matrix = work()
    return time.perf_counter() - start, print_of(matrix)


def run(full: bool) -> Result:
    """One million rows; full: 1, 10 and 100 million, pandas with plain columns up to 10: 100 would not fit."""
    title = "Label table: Parquet to CSR, 100 teachers, 2 million samples, 10,000 topics"
    result = Result(name="labels", title=title, axis="rows", unit="rows/s")
    ids = sample_ids()
    with tempfile.TemporaryDirectory(prefix="t2t-benchmark-") as temporary:
        for rows in (1_000_000, 10_000_000, 100_000_000) if full else (1_000_000,):
            folder = Path(temporary) / str(rows)
            make(folder, rows, ids)
            measure(result, folder, rows, full)
            shutil.rmtree(folder)
    return result


def measure(result: Result, folder: Path, rows: int, full: bool) -> None:
    sides = [T2T, PANDAS, *([PLAIN] if full and rows <= 10_000_000 else [])]
    for name in RIVALS:
        if reason := label_rivals.missing(name):
            result.figures[f"{name}, left out"] = reason
        else:
            sides.append(name)
    memory: dict[str, int | None] = dict.fromkeys(sides)
    prints, seconds = {}, {}
    for name in sides if full else [T2T]:
        found = alone(once, name, folder, prepare=side)
        memory[name], prints[name], seconds[name] = found.memory, found.value[1], [found.value[0]]
    if rows <= 10_000_000:
        work: dict[str, Callable[[], Any]] = {name: side(name, folder) for name in sides}
        prints |= {name: once(work[name])[1] for name in sides}
        seconds = interleave({READ: partial(read, task(folder)), **work}, runs=3 if full else 2, warm=False)
    assert all(prints[name] == prints[T2T] for name in sides), "the sides made different matrices"
    for name in seconds:
        memory_of = memory.get(name)
        result.measured.append(Measured(side=name, size=rows, amount=rows, seconds=seconds[name], memory=memory_of))
    text = f"{rows // 10**6} million rows"
    for name in sides[1:]:
        ratio = result.at(name, rows).median / result.at(T2T, rows).median
        result.ratios[f"{name}, {text}"] = ratio
        if name in TO_REACH:
            result.targets[f"{name}, {text}"] = TO_REACH[name]
    arrays, ids = prints[T2T][0], sample_ids()[:SAMPLES].nbytes
    peak = memory[T2T] or 1
    allowed = f"memory of {MOST_MEMORY} finished matrices, {text}"
    if full:  # one small peak, which what the allocator has free decides, is no guard
        result.ratios[allowed], result.targets[allowed] = MOST_MEMORY * arrays / peak, 1
    result.figures[f"peak memory, {text}"] = (
        f"{peak / 2**20:,.0f} MiB beside the sample ids, {peak / arrays:.2f} times the finished matrix's arrays "
        f"({arrays / 2**20:,.0f} MiB); with the sample ids on both sides ({ids / 2**20:,.0f} MiB) "
        f"{(peak + ids) / (arrays + ids):.2f} times"
    )
