"""Labels enter the lake here: those of hand-written teachers, and of students that became teachers."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from t2t.core.errors import T2TError
from t2t.core.files import sha256, staging
from t2t.data.dataset import Dataset
from t2t.data.labels import LABEL_SCHEMA, stored, write_parquet
from t2t.lake import Lake
from t2t.lake.base import gone, together
from t2t.lake.layout import DatasetLayout, TeacherLayout
from t2t.lake.tables import latest_commit
from t2t.teachers import Teacher
from t2t.teachers.asked import Asked
from t2t.teachers.base import Registration, TeacherRef
from t2t.teachers.labeling import (
    MakeParts,
    answers,
    label,
    labeled,
    make_parts,
    parts_folder,
    parts_key,
    remove_parts,
    shard_samples,
)
from t2t.teachers.store import asked, registered

log = logging.getLogger("t2t")

# Samples that a teacher is tried on.
FEW = 2
# Teachers whose labels become the branch's at once: others who write wait for these seconds.
TOGETHER = 50


@dataclass(frozen=True)
class Registrar:
    """Where labels enter the lake: of one dataset, on one branch.

    work: the work folder, for files on their way. make: makes the parts of an expensive teacher's labels.
    """

    lake: Lake
    dataset: Dataset
    work: Path
    branch: str = "main"
    make: MakeParts = make_parts

    def register(
        self,
        teacher: Teacher,
        samples: pa.Table,
        topics: Sequence[str],
        metadata: Mapping[str, str] | None = None,
        wanted: Asked | None = None,
    ) -> TeacherRef:
        """Has a teacher label what it was not asked before, and commits its entry with its labels, in one commit.

        At first that is every topic for each of `samples`; later the samples and topics that came since, whose labels
        are added by a new commit (earlier rounds keep reading the one they were trained on). With nothing missing
        nothing is written. Expensive teachers label in parts that survive a kill (`t2t.teachers.labeling`).

        An identity is immutable: the same id with another fingerprint raises T2TError. The ground truth alone may
        change: other annotations replace `human`'s labels by a new commit.

        Args:
            samples: columns sample_id, path (absolute), modality, group, split.
            metadata: of the commit, beside its own.
            wanted: these samples and topics once more, for a caller that registers several teachers.
        """
        entry, name = teacher.entry, self.dataset.name
        reference = TeacherRef(id=entry.id, fingerprint=teacher.fingerprint())
        self._refuse_changed(teacher, reference)
        wanted = wanted or _wanted(samples, topics)
        parts = parts_key(name, teacher, reference.fingerprint)
        # One process at a time adds to a teacher's labels: two that began at the same commit, each with samples of its
        # own, would write over each other's.
        turn = sha256(name, entry.id)[:16]
        try:
            with parts_folder(self.work, f"{turn}-turn"):
                head = self.lake.resolve(self.branch)
                before = asked(self.lake, head, name, entry.id, wanted.topics, reference.fingerprint)
                if before is None or wanted - before:
                    self._refuse_gone(reference, head)
                    self._add(teacher, reference, samples, _Question(head, wanted, before), metadata or {}, parts)
        finally:
            remove_parts(self.work, turn)
        # Also those that a kill left between the commit and this line.
        remove_parts(self.work, parts)
        return reference

    def register_all(self, teachers: Sequence[Teacher], samples: pa.Table, topics: Sequence[str]) -> None:
        """`register` for each. Those that only read a table are committed some at a time: each has its own commit, and
        the branch moves once (`t2t.lake.base.together`)."""
        wanted = _wanted(samples, topics)
        for expensive, some in groupby(teachers, lambda teacher: shard_samples(teacher) is not None):
            waiting = list(some)
            size = 1 if expensive else TOGETHER
            for start in range(0, len(waiting), size):
                with nullcontext() if size == 1 else together(self.lake, self.branch):
                    for teacher in waiting[start : start + size]:
                        self.register(teacher, samples, topics, wanted=wanted)

    def try_out(self, teacher: Teacher, samples: pa.Table, topics: Sequence[str]) -> None:
        """Has a teacher that is not registered yet label a few samples, of which nothing is kept: what is wrong with
        its files, weights or answers is found before the work begins.

        Raises T2TError, naming the teacher, where it cannot label, answers what it was not asked, or is registered
        with other content.
        """
        try:
            reference = TeacherRef(id=teacher.entry.id, fingerprint=teacher.fingerprint())
            self._refuse_changed(teacher, reference)
            if registered(self.lake, self.dataset.name, reference.id, self.branch) is None:
                asked_of = labeled(teacher, samples)
                if len(samples) and not len(asked_of):
                    wanted = " and ".join(teacher.entry.modalities or ())
                    raise T2TError(f"it labels {wanted} only (modalities), and no sample of the dataset is one.")
                for _ in answers(teacher, asked_of.slice(0, FEW), topics):
                    pass
        except T2TError as error:
            if repr(teacher.entry.id) in str(error):
                raise
            raise T2TError(f"Teacher {teacher.entry.id!r}: {error}") from None

    def _refuse_changed(self, teacher: Teacher, now: TeacherRef) -> None:
        registration = registered(self.lake, self.dataset.name, now.id, self.branch)
        if (
            registration is not None
            and registration.fingerprint != now.fingerprint
            and teacher.entry.kind != "annotations"
        ):
            raise T2TError(
                f"Teacher {now.id!r} is registered with other content (fingerprint {registration.fingerprint[:12]}, "
                f"now {now.fingerprint[:12]}): its entry, label file, weights or preprocessing changed. Labels of two "
                "teachers are never mixed under one identity: choose a new id."
            )

    def _refuse_gone(self, reference: TeacherRef, head: str) -> None:
        """Raises Damaged where labels were registered and somebody removed them, before any are made again."""
        layout = DatasetLayout(self.dataset.name).teacher(reference.id)
        done = self.lake.find(head, layout.label_key(reference.fingerprint))
        if done is not None:
            there = {entry.path for entry in self.lake.list(head, layout.prefix)}
            missing = {layout.entry, layout.labels} - there
            if missing:
                raise gone(self.lake, self.branch, done, missing)

    def _add(
        self,
        teacher: Teacher,
        reference: TeacherRef,
        samples: pa.Table,
        question: _Question,
        metadata: Mapping[str, str],
        parts: str,
    ) -> None:
        """Labels what is missing; commits it behind the rows that are there."""
        entry, layout = teacher.entry, DatasetLayout(self.dataset.name).teacher(teacher.entry.id)
        shard, old = shard_samples(teacher), 0
        name = sha256(str(shard), *(block.key for block in question.missing))[:16]
        with (
            nullcontext() if shard is None else parts_folder(self.work, f"{parts}-{name}") as kept,
            staging(self.work) as folder,
            ExitStack() as stack,
        ):
            tables = label(teacher, samples, question.missing, kept, self.make)
            if question.before is not None:
                file = stack.enter_context(self.lake.read(question.head, layout.labels))
                old = pq.read_metadata(file).num_rows
                tables = chain(stored(file), tables)
            # The lake flushes what it takes from here.
            rows = write_parquet(tables, folder / "labels.parquet", LABEL_SCHEMA, flush=False)
            if question.before is not None and rows == old and entry.kind == "annotations":
                return  # nobody has annotated the new samples yet, which is no news
            now = question.now
            asked_of = pa.table({"sample_id": pa.array(now.samples, pa.string())})
            write_parquet(asked_of, folder / "asked.parquet", flush=False)
            content = Registration(
                id=entry.id,
                kind=entry.kind,
                fingerprint=reference.fingerprint,
                rows=rows,
                topics=now.topics,
                entry=entry.model_dump(mode="json"),
            )
            facts = {"dataset": self.dataset.name, "teacher": entry.id, "fingerprint": reference.fingerprint}
            news = f", {rows - old} of them new" if old else ""
            self.lake.commit(
                self.branch,
                {
                    layout.entry: json.dumps(content.model_dump(mode="json"), indent=2, ensure_ascii=False).encode(),
                    layout.labels: folder / "labels.parquet",
                    layout.asked: folder / "asked.parquet",
                },
                key=self._key(layout, reference.fingerprint, question),
                message=f"Teacher: {entry.id} ({entry.kind}), {rows} labels of {self.dataset.name}{news}",
                metadata={**facts, "rows": str(rows), **metadata},
            )
        news = f", {rows - old:,} of them new" if old else ""
        log.info("Registered teacher %s: %s labels%s", entry.id, f"{rows:,}", news)
        for remark in getattr(teacher, "remarks", ()):
            log.info("Labels of %s: %s", entry.id, remark)

    def _key(self, layout: TeacherLayout, fingerprint: str, question: _Question) -> str:
        latest = None
        if registered(self.lake, self.dataset.name, layout.id, question.head) is not None:
            latest = latest_commit(self.lake, question.head, layout.label_keys)
        if latest is None:
            return layout.label_key(fingerprint)
        return layout.label_key(fingerprint, question.now.key[:16] if question.before is not None else None, latest.id)


def _wanted(samples: pa.Table, topics: Sequence[str]) -> Asked:
    return Asked(tuple(samples["sample_id"].to_pylist()), tuple(topics))


@dataclass(frozen=True)
class _Question:
    """What a teacher is asked for at a commit: `wanted`, less what it was asked `before`."""

    head: str
    wanted: Asked
    before: Asked | None

    @cached_property
    def missing(self) -> list[Asked]:
        return self.wanted - (self.before or Asked())

    @cached_property
    def now(self) -> Asked:
        """All that it was asked, once this is answered."""
        return (self.before or Asked()) | self.wanted
