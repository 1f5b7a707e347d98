"""What `make bench` guards: short contests by CPU time, libraries with one thread (`benchmarks/contest.py`).

Each is a small form of the benchmark of its name, with the same work. What waits for a disk, a server or another
process, what is bound by memory's bandwidth, and what several threads gain, is in `--full` and not guarded: it moves
with the machine by more than a quarter.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from benchmarks.contest import Contest, Guard, Interval, Side, cpu, judged, turns

ONE_THREAD = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
    ),
    # Else glibc decides by what was freed before whether memory is mapped anew, page by page, at every call.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "TOKENIZERS_PARALLELISM": "false",
    "DO_NOT_TRACK": "true",
}


class Found(NamedTuple):
    """A ratio of a run, and its bound."""

    benchmark: str
    name: str
    interval: Interval
    bound: float | None

    @property
    def fell(self) -> bool:
        return self.interval.fell(self.bound)


class Part(NamedTuple):
    """What one benchmark's contests came to, and the seconds that they took, their setting up included."""

    benchmark: str
    ratios: list[Found]
    seconds: float


def guard(names: Iterable[str], committed: Guard, slow_down: float = 1.0) -> Iterator[Part]:
    """Every ratio of these benchmarks, one benchmark after the other, each in a process of its own with one thread.

    Args:
        slow_down: t2t's sides take so many times their CPU.
    """
    with (
        patch.dict(os.environ, ONE_THREAD),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        for part in [pool.submit(_guard, name, committed, slow_down) for name in names]:
            yield part.result()


def _guard(name: str, committed: Guard, slow_down: float) -> Part:
    start = time.perf_counter()
    found = []
    for contest in CONTESTS[name]():
        bounds = {other: committed.bound(name, other) for other in contest.others}
        for other, interval in judged(turns(contest, slow_down), bounds).items():
            found.append(Found(name, other, interval, bounds[other]))
    return Part(name, found, time.perf_counter() - start)


def training() -> Iterator[Contest]:
    """A batch of the default recipe's rows; the others' time is proportional to the rows, so they do a part of it, and
    the optimiser's step for each part."""
    from benchmarks.training import ONCE, READER, ROWS_AT_ONCE, by_loader, by_t2t, by_trainer
    from benchmarks.training_world import ROWS_PER_SAMPLE, World
    from t2t.students.config import DualEncoderConfig

    batch, part = 4096, ROWS_AT_ONCE
    others = {"DataLoader loop": by_loader, "Trainer": by_trainer}
    for config, text in ((DualEncoderConfig(), ""), (ONCE, ", texts encoded once"), (READER, ", encoder-only")):
        world = World.make(2 * batch // ROWS_PER_SAMPLE, config)
        sides = {
            f"{name}, {batch:,} rows in a batch{text}": Side(partial(by, world, part, batch, cpu), part)
            for name, by in others.items()
        }
        yield Contest(Side(partial(_steps, partial(by_t2t, world, 2 * batch, batch, cpu)), 2 * batch), sides)


def _steps(train: Callable[[], Any]) -> float:
    """Seconds of the steps of a training, its making ready not."""
    return float(train().total)


def labels() -> Iterator[Contest]:
    """Two million rows on a tenth of the samples, each side with one thread. pandas is none of the others: its CPU time
    differed by a fifth from process to process."""
    from benchmarks import label_rivals
    from benchmarks import labels as bench

    with (
        tempfile.TemporaryDirectory() as temporary,
        patch.object(bench, "SAMPLES", bench.SAMPLES // 10),
        patch.object(label_rivals, "THREADS", 1),
    ):
        folder = Path(temporary) / "labels"
        bench.make(folder, 2_000_000, bench.sample_ids())
        if not label_rivals.missing(label_rivals.DUCKDB):
            others = {f"{label_rivals.DUCKDB}, 2 million rows": Side(bench.side(label_rivals.DUCKDB, folder))}
            yield Contest(Side(bench.side(bench.T2T, folder)), others)


def tagging() -> Iterator[Contest]:
    """2,048 samples. One dense product is not among the others: whether its 80 MB come in huge pages, which the system
    decides, makes its CPU time 1.35 or 2.1 times t2t's."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    from benchmarks import tagging as bench
    from t2t.data.labels import LABEL_SCHEMA, write_parquet
    from t2t.students.tagging import tag

    student, names, frames, ids = bench.tiny_student(), bench.topics(), bench.clips(2048), bench.sample_ids(2048)
    texts, samples = student.encode_topics(names), student.embed(frames, np.arange(2048))
    encoded = bench.student_with(samples)

    def ours() -> None:
        with bench.labels_file() as out:
            write_parquet(tag(encoded, frames, ids, names, "self", bench.CONFIG, texts=texts), out, LABEL_SCHEMA)

    def neighbors() -> object:
        found = NearestNeighbors(n_neighbors=bench.K, algorithm="brute").fit(texts.numpy())
        return found.kneighbors(samples.numpy())

    others = {bench.NEIGHBORS: Side(neighbors)}
    if find_spec("faiss"):
        others[bench.FAISS] = Side(partial(bench.searched, import_module("faiss"), samples, texts))
    yield Contest(Side(ours), others)


def embedding() -> Iterator[Contest]:
    """Three made-up clips."""
    from benchmarks import embedding as bench

    config = bench.TimmConfig(model=bench.MODEL, size=bench.SIDE, frames=bench.FRAMES, pretrained=False)
    encoder, plain = bench.build_encoder(config), bench.PlainLoop(config)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = [bench._clip(folder / f"{i}.avi", i) for i in range(3)]
        ours = partial(bench._embed, folder, paths, encoder)
        yield Contest(Side(ours), {bench.PLAIN: Side(partial(plain.embed, paths))})


def evaluation() -> Iterator[Contest]:
    """50,000 pairs, in blocks that stay in the cache: memory's bandwidth, which is shared with other processes, made
    the CPU time of one and the same work differ by 15 % from turn to turn, and these by 2 %."""
    from benchmarks import evaluation as bench
    from t2t.evaluation import metrics

    pairs = bench.scored_pairs(50_000)
    with patch.object(metrics, "BLOCK", 1 << 17):
        yield Contest(
            Side(partial(bench.bootstrap, pairs, bench.RESAMPLES), bench.RESAMPLES),
            {bench.LOOP: Side(partial(bench.looped, pairs, bench.LOOPED), bench.LOOPED)},
        )


def engine() -> Iterator[Contest]:
    """Two rounds of the small campaign, with MLflow on a file and without Prefect; its own time per round is told by
    `--full`."""
    from benchmarks import engine as bench

    logging.getLogger("t2t").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        small = bench.Bench(Path(temporary), full=False)
        config = small.config(2, small.settings)
        assert bench.engine(config, small.place(), tracked=True) == bench.direct(config, small.place())
        yield Contest(
            Side(lambda: bench.engine(config, small.place(), tracked=True)),
            {"the steps, called directly": Side(lambda: bench.direct(config, small.place()))},
        )


def listing() -> Iterator[Contest]:
    """2,000 files; the time of the others is that of a process."""
    from benchmarks import listing as bench

    with tempfile.TemporaryDirectory() as temporary:
        path = bench.make(Path(temporary), 2_000)
        yield Contest(Side(partial(bench.with_t2t, path)), {bench.GIT: Side(partial(bench.with_git, path))})


def startup() -> Iterator[Contest]:
    from benchmarks import startup as bench

    with tempfile.TemporaryDirectory() as work:
        bare = Side(partial(bench._start, bench.SIDES["bare Python"], work))
        for name in bench.ALLOWED:
            yield Contest(Side(partial(bench._start, bench.SIDES[name], work)), {f"bare Python, by {name}": bare})


def vlm() -> Iterator[Contest]:
    """Ten topics of a clip."""
    import numpy as np

    from benchmarks import vlm as bench

    with tempfile.TemporaryDirectory() as folder:
        bench._tiny(Path(folder))
        model = bench.YesOrNo(
            folder, None, bench.CLOSED_PRESETS["visual-evidence"], ["yes"], ["no"], frames=bench.FRAMES, size=bench.SIDE
        )
        clip = np.random.default_rng(0).integers(0, 256, (bench.FRAMES, bench.SIDE, bench.SIDE, 3), np.uint8)
        topics = [f"{('red', 'green', 'blue')[i % 3]} square {i}" for i in range(10)]
        ours, anew = (partial(bench._ask, model, clip, topics, shared) for shared in (True, False))
        yield Contest(Side(ours), {f"{bench.ANEW}, {len(topics)} topics": Side(anew)})


CONTESTS: dict[str, Callable[[], Iterator[Contest]]] = {
    contests.__name__: contests
    for contests in (training, labels, tagging, embedding, evaluation, engine, listing, startup, vlm)
}
