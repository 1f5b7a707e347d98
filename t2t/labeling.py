"""A teacher labels what it was not asked before, and an expensive one does it in parts that survive a kill.

A teacher that has to look at videos says how many samples make a part (`shard_samples`). Each part is written whole to
`<work>/labeling/<key>/part-00000.parquet`, and a run that was killed goes on after the last one. The key holds all that
the parts depend on, so that parts of other labels are never taken for these.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from t2t.files import sha256
from t2t.lake import Lake, UnknownPath
from t2t.lake.tables import LABEL_SCHEMA, write_parquet
from t2t.progress import whole
from t2t.teachers import Teacher

log = logging.getLogger("t2t")


@dataclass(frozen=True)
class Asked:
    """What a teacher was asked: every one of the topics for every one of the samples, whatever it answered."""

    samples: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    def __or__(self, other: Asked) -> Asked:
        """Both together; what is new comes last."""
        return Asked(
            tuple(dict.fromkeys([*self.samples, *other.samples])), tuple(dict.fromkeys([*self.topics, *other.topics]))
        )

    def __sub__(self, other: Asked) -> list[Asked]:
        """What is asked here and not there, as blocks without a common pair: new samples with all topics, then the
        samples that `other` knows with the new topics."""
        asked, known = set(other.topics), set(other.samples)
        topics = tuple(dict.fromkeys(topic for topic in self.topics if topic not in asked))
        samples = tuple(sample for sample in self.samples if sample not in known)
        # Together both stay a rectangle, so new samples are asked for the topics of before too, and old ones, which
        # may be gone from the dataset, for the new topics as far as they are here.
        blocks = [Asked(samples, (other | self).topics)] if samples else []
        old = tuple(sample for sample in self.samples if sample in known)
        return blocks + ([Asked(old, topics)] if topics and old else [])

    @property
    def key(self) -> str:
        return sha256(*self.samples, "", *self.topics)


@dataclass(frozen=True)
class Part:
    """Some of a teacher's labels, and the file where they go. Made twice it is the same."""

    file: Path
    samples: pa.Table
    topics: tuple[str, ...]

    def label(self, teacher: Teacher) -> None:
        write_parquet(teacher.label(self.samples, self.topics), self.file, LABEL_SCHEMA)


def read_asked(lake: Lake, ref: str, prefix: str, topics: Sequence[str]) -> Asked:
    """What a registered teacher was asked.

    Args:
        prefix: the teacher's own, in the lake.
        topics: those of its entry.json. Where it has no list of samples, those that it has labels of are taken for
            those it was asked, so that no pair is labeled twice.
    """
    try:
        with lake.read(ref, f"{prefix}asked.parquet") as file:
            return Asked(tuple(pq.read_table(file)["sample_id"].to_pylist()), tuple(topics))
    except UnknownPath:
        with lake.read(ref, f"{prefix}labels.parquet") as file:
            labels = pq.read_table(file, columns=["sample_id"])
        return Asked(tuple(pc.unique(labels["sample_id"]).to_pylist()), tuple(topics))


def label_blocks(
    teacher: Teacher, samples: pa.Table, blocks: Sequence[Asked], shard: int | None
) -> Iterator[tuple[pa.Table, Asked]]:
    """The calls that label all blocks: (samples, what is asked), `shard` samples at a time."""
    for block in blocks:
        table = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(block.samples, pa.string())))
        size = shard or max(len(table), 1)
        for start in range(0, len(table), size):
            yield table.slice(start, size), block


def label(teacher: Teacher, samples: pa.Table, blocks: Sequence[Asked], parts: Path | None) -> Iterator[pa.Table]:
    """Yields the labels of all blocks, in order.

    Args:
        samples: the samples of the blocks, and others.
        parts: where a teacher with `shard_samples` keeps its parts; they stay until the caller removes them.
    """
    shard = shard_samples(teacher) if parts is not None else None
    calls = list(label_blocks(teacher, samples, blocks, shard))
    if shard is None or parts is None:
        for table, block in calls:
            yield from teacher.label(table, block.topics)
        return
    files = [parts / f"part-{number:05}.parquet" for number in range(len(calls))]
    missing = [
        Part(file, table, block.topics) for file, (table, block) in zip(files, calls, strict=True) if not file.is_file()
    ]
    if len(missing) < len(files):
        done = len(files) - len(missing)
        log.info("Teacher %s: %d of %d parts are labeled already.", teacher.entry.id, done, len(files))
    count = sum(len(table) for table, _ in calls)
    with whole(count, count - sum(len(part.samples) for part in missing)):
        context = getattr(teacher, "context", None)
        if missing and context is not None and context.engine == "ray":
            from t2t.cluster.pipelines import label_parts

            label_parts(teacher.entry, context, missing)
        else:
            for part in missing:
                part.label(teacher)
    for file in files:
        yield from stored(file)


def stored(file: object) -> Iterator[pa.Table]:
    """The row groups of a Parquet file (a path or an open file): what was written, in the same blocks."""
    with pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group)


def shard_samples(teacher: Teacher) -> int | None:
    """How many samples a teacher labels at a time; None for one that only reads a table."""
    return getattr(teacher, "shard_samples", None)


def parts_key(dataset: str, teacher: Teacher, fingerprint: str) -> str:
    """How the names of a teacher's folders of parts begin; what was asked follows."""
    return sha256(dataset, teacher.entry.id, fingerprint)[:16]


@contextmanager
def parts_folder(work: Path, name: str) -> Iterator[Path]:
    """The folder of some labels' parts, held by this process alone; another one that wants the same waits.

    The caller removes it with `remove_parts` when the labels are in the lake.
    """
    folder = work / "labeling" / name
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # the last one out removed it, or `labeling/`, at this moment
        try:
            if not _lock(descriptor, wait=False):
                log.info("Another process makes labels of the same teacher: waiting for it.")
                _lock(descriptor, wait=True)
            # The one before may have removed the folder that this descriptor is of.
            if _is(folder, descriptor):
                yield folder
                return
        finally:
            os.close(descriptor)


def remove_parts(work: Path, key: str) -> None:
    """Removes all folders of parts whose name begins so, except those that another process works in."""
    for folder in (work / "labeling").glob(f"{key}-*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process has just done it
        try:
            if _lock(descriptor, wait=False):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
    with suppress(OSError):  # it is not there, or other labels' parts are in it
        (work / "labeling").rmdir()


def _lock(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False
