"""A teacher labels what it was not asked before, and an expensive one does it in parts that survive a kill.

A teacher that has to look at videos says how many samples make a part (`shard_samples`). Each part is written whole to
`<work>/labeling/<key>/part-00000.parquet`, and a run that was killed goes on after the last one. The key holds all that
the parts depend on, so that parts of other labels are never taken for these.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from t2t.core.errors import T2TError
from t2t.core.files import checksum_of, sha256, write_text
from t2t.core.locks import held_folder
from t2t.core.progress import whole
from t2t.core.sums import crc32
from t2t.data.labels import LABEL_SCHEMA, stored, write_parquet
from t2t.teachers import Teacher, TeacherEntry
from t2t.teachers.answers import checked
from t2t.teachers.asked import Asked

log = logging.getLogger("t2t")


@dataclass(frozen=True)
class Part:
    """Some of a teacher's labels, and the file where they go. Made twice it is the same."""

    file: Path
    samples: pa.Table
    topics: tuple[str, ...]

    def label(self, teacher: Teacher) -> None:
        beside = checksum_of(self.file)
        beside.unlink(missing_ok=True)
        write_parquet(answers(teacher, self.samples, self.topics), self.file, LABEL_SCHEMA)
        write_text(beside, crc32(self.file))


def answers(teacher: Teacher, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
    """What a teacher answers, checked; samples that are not of its `modalities` are not asked about. Raises T2TError
    where it is not what it was asked for."""
    samples = labeled(teacher, samples)
    return checked(teacher.entry.id, teacher.label(samples, topics), samples["sample_id"].combine_chunks(), topics)


def labeled(teacher: Teacher, samples: pa.Table) -> pa.Table:
    """Those of some samples that a teacher labels. (A plug-in's entry may be a model of its own.)"""
    return teacher.entry.labeled(samples) if isinstance(teacher.entry, TeacherEntry) else samples


def _is_done(teacher: Teacher, file: Path) -> bool:
    """Whether a part is there and what was written; one without a checksum (a kill, an older version) counts."""
    if not file.is_file():
        return False
    beside = checksum_of(file)
    if not beside.is_file() or beside.read_text(encoding="utf-8") == crc32(file):
        return True
    log.warning("Teacher %s: %s is damaged (its CRC-32 is another one) and is labeled again.", teacher.entry.id, file)
    return False


# Makes the files of some parts, here or on other machines that see the same folder.
MakeParts = Callable[[Teacher, Sequence[Part]], None]


def make_parts(teacher: Teacher, parts: Sequence[Part]) -> None:
    """Labels part after part in this process."""
    for part in parts:
        part.label(teacher)


def label_blocks(
    teacher: Teacher, samples: pa.Table, blocks: Sequence[Asked], shard: int | None
) -> Iterator[tuple[pa.Table, Asked]]:
    """The calls that label all blocks: (samples, what is asked), `shard` samples at a time."""
    for block in blocks:
        table = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(block.samples, pa.string())))
        table = labeled(teacher, table)
        size = shard or max(len(table), 1)
        for start in range(0, len(table), size):
            yield table.slice(start, size), block


def label(
    teacher: Teacher, samples: pa.Table, blocks: Sequence[Asked], parts: Path | None, make: MakeParts = make_parts
) -> Iterator[pa.Table]:
    """Yields the labels of all blocks, in order.

    Args:
        samples: the samples of the blocks, and others.
        parts: where a teacher with `shard_samples` keeps its parts; they stay until the caller removes them.
        make: makes the parts that are missing.
    """
    shard = shard_samples(teacher) if parts is not None else None
    calls = list(label_blocks(teacher, samples, blocks, shard))
    if shard is None or parts is None:
        for table, block in calls:
            yield from answers(teacher, table, block.topics)
        return
    files = [parts / f"part-{number:05}.parquet" for number in range(len(calls))]
    missing = [
        Part(file, table, block.topics)
        for file, (table, block) in zip(files, calls, strict=True)
        if not _is_done(teacher, file)
    ]
    if len(missing) < len(files):
        done = len(files) - len(missing)
        log.info("Teacher %s: %d of %d parts are labeled already.", teacher.entry.id, done, len(files))
    count = sum(len(table) for table, _ in calls)
    with whole(count, count - sum(len(part.samples) for part in missing)):
        if missing:
            make(teacher, missing)
    for file, (table, block) in zip(files, calls, strict=True):
        yield from _part(teacher, file, table, block.topics)


def _part(teacher: Teacher, file: Path, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
    """A part's labels; an earlier version, which did not check them, may have left it."""
    try:
        yield from checked(teacher.entry.id, stored(file), samples["sample_id"].combine_chunks(), topics)
    except T2TError:
        # Once the teacher is mended it is to be asked again.
        file.unlink(missing_ok=True)
        raise


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
    with ExitStack() as stack:
        while not _take(folder, stack):
            pass
        yield folder


def _take(folder: Path, stack: ExitStack) -> bool:
    """Holds a folder until the stack closes; false where whoever held it before, or the last one out of `labeling/`,
    removed it at this moment."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held_folder(folder, wait=False) as free:
            if not free:
                log.info("Another process makes labels of the same teacher: waiting for it.")
        return stack.enter_context(held_folder(folder))
    except FileNotFoundError:
        return False


def remove_parts(work: Path, key: str) -> None:
    """Removes all folders of parts whose name begins so, except those that another process works in."""
    for folder in (work / "labeling").glob(f"{key}-*"):
        # Another process may have just done it.
        with suppress(FileNotFoundError), held_folder(folder, wait=False) as free:
            if free:
                shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # it is not there, or other labels' parts are in it
        (work / "labeling").rmdir()
