"""The small measurements of docs/scale.md that no benchmark takes: `python -m tests.integrations.ray.measure`, a few
minutes.

Each is taken at several sizes; what counts is the slope, so that fixed costs drop out. Seconds are those of the CPU.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa


def slope(sizes: list[int], values: list[float]) -> float:
    return float(np.polyfit(sizes, values, 1)[0])


def labels(rows: int) -> pa.Table:
    from t2t.data.labels import LABEL_SCHEMA

    generator = np.random.default_rng(0)
    samples = pa.array([f"video-{i:09}" for i in range(rows // 20)]).take(
        pa.array(np.repeat(np.arange(rows // 20), 20))
    )
    topics = pa.array([f"a topic of some words {i}" for i in range(10_000)])
    columns = [samples, topics.take(pa.array(generator.integers(0, 10_000, rows)))]
    columns += [pa.repeat(pa.scalar("campaign-self-0"), rows), pa.array(generator.random(rows, np.float32))]
    return pa.table(columns, schema=LABEL_SCHEMA)


def tables(folder: Path) -> None:
    from t2t.data.labels import LABEL_SCHEMA, stored, write_parquet

    sizes, weights, seconds = [100_000, 1_000_000, 5_000_000], [], []
    for size in sizes:
        part = folder / "part.parquet"
        block = labels(20 * 1024)
        write_parquet((block for _ in range(size // len(block))), part, LABEL_SCHEMA)
        weights.append(part.stat().st_size)
        start = time.process_time()
        write_parquet(stored(part), folder / "whole.parquet", LABEL_SCHEMA)
        seconds.append(time.process_time() - start)
    print(f"a label row in Parquet: {slope(sizes, weights):.2f} bytes {weights}")
    print(f"from parts to one table: {1 / slope(sizes, seconds):,.0f} rows/s {np.round(seconds, 2)}")


# Bytes of memory that a process has now. (Its peak would be that of the process that started it.)
NOW = """
def now():
    with open("/proc/self/statm") as file:
        return 4096 * int(file.read().split()[1])
"""

TABLE = (
    NOW
    + """
import sys, pyarrow as pa
count = int(sys.argv[1])
before = now()
# What a driver holds for each sample while it embeds: the table, and lists of ids, paths and hashes.
names = [f"video-{i:09}" for i in range(count)]
table = pa.table({"sample_id": names, "path": [f"/data/videos/{n}.mp4" for n in names], "modality": ["video"] * count,
    "group": [f"channel-{i // 50}" for i in range(count)], "split": ["unlabeled"] * count})
ids, paths = table["sample_id"].to_pylist(), table["path"].to_pylist()
keys = [f"{i:064x}" for i in range(count)]
files = {path: (1, 2, key) for path, key in zip(paths, keys)}
where = {key: [i] for i, key in enumerate(keys)}
print(now() - before)
"""
)


def drivers() -> None:
    sizes, memory = [100_000, 300_000, 1_000_000], []
    for size in sizes:
        out = subprocess.run(
            [sys.executable, "-c", TABLE, str(size)], capture_output=True, text=True, check=True
        ).stdout
        memory.append(float(out))
    print(f"a driver's tables and lists: {slope(sizes, memory):.0f} bytes a sample {memory}")


def hashing(folder: Path) -> None:
    from t2t.core.files import sha256_file

    path = folder / "video"
    path.write_bytes(np.random.default_rng(0).bytes(256 << 20))
    sha256_file(path)
    start = time.process_time()
    sha256_file(path)
    print(f"SHA-256 on one core: {(256 << 20) / (time.process_time() - start) / 1e9:.2f} GB/s")


def main() -> None:
    with TemporaryDirectory() as name:
        steps: list[Callable[[Path], None]] = [tables, hashing]
        for step in steps:
            step(Path(name))
    drivers()


if __name__ == "__main__":
    main()
