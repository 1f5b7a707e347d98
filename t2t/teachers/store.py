"""Registered teachers as the lake has them: entry, labels, what they were asked. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from t2t.core.config import parse
from t2t.data.labels import LABEL_DICTIONARIES, label_blocks
from t2t.lake import Lake
from t2t.lake.layout import DatasetLayout, TeacherLayout, teacher_of
from t2t.lake.tables import read_json, read_table
from t2t.teachers.asked import Asked, read_asked
from t2t.teachers.base import Registration


def registered(lake: Lake, dataset: str, teacher_id: str, ref: str = "main") -> Registration | None:
    """A teacher's registration, or None when the lake has none."""
    path = TeacherLayout(dataset, teacher_id).entry
    content = read_json(lake, ref, path)
    return None if content is None else parse(Registration, content, lake.uri(ref, path))


def registrations(lake: Lake, ref: str = "main", dataset: str | None = None) -> list[tuple[str, Registration]]:
    """(dataset, registration) of every teacher that the lake knows, or of one dataset's."""
    pairs = []
    for entry in lake.list(ref, DatasetLayout(dataset).teachers if dataset else ""):
        place = teacher_of(entry.path)
        if place and (registration := registered(lake, *place, ref)) is not None:
            pairs.append((place[0], registration))
    return pairs


def asked(
    lake: Lake, ref: str, dataset: str, teacher_id: str, topics: Sequence[str], fingerprint: str | None = None
) -> Asked | None:
    """What a teacher was asked so far; None where it is not registered, or has another fingerprint than the given one.

    Args:
        topics: taken for those it was asked where an older version registered it without noting them.
    """
    registration = registered(lake, dataset, teacher_id, ref)
    if registration is None or fingerprint not in (None, registration.fingerprint):
        return None
    return read_asked(
        lake, ref, TeacherLayout(dataset, teacher_id), topics if registration.topics is None else registration.topics
    )


def annotators(lake: Lake, dataset: str, ref: str = "main") -> list[str]:
    """The identities that the annotators of a dataset have as of a commit, retracted ones too; mostly none."""
    return sorted({identity for identity in annotators_of(lake, dataset, ref).values() if identity is not None})


def annotators_of(lake: Lake, dataset: str, ref: str = "main") -> dict[str, str | None]:
    """Of each annotator's own identity the one that their rows are trained under; None where there are none."""
    return read_json(lake, ref, DatasetLayout(dataset).people) or {}


def label_tables(lake: Lake, ref: str, dataset: str, teacher_id: str) -> Iterator[pa.Table]:
    """A registered teacher's labels at a commit in tables of about a million rows, their names as dictionaries."""
    with lake.read(ref, TeacherLayout(dataset, teacher_id).labels) as file:
        yield from label_blocks(file)


def named_labels(lake: Lake, ref: str, dataset: str, teacher_id: str) -> pa.Table:
    """`read_labels` with its names as dictionaries: a quarter of the memory, and names are looked up once each."""
    path = TeacherLayout(dataset, teacher_id).labels
    return read_table(lake, ref, path, dictionaries=LABEL_DICTIONARIES)


def read_labels(lake: Lake, ref: str, dataset: str, teacher_id: str) -> pa.Table:
    """A registered teacher's labels at a commit."""
    return read_table(lake, ref, TeacherLayout(dataset, teacher_id).labels)


def label_commits(lake: Lake, ref: str, dataset: str, teachers: Sequence[str]) -> dict[str, str]:
    """Of each teacher the id of the last commit behind `ref` that wrote its labels; "" when there is none."""
    layout = DatasetLayout(dataset)
    commits = dict.fromkeys(teachers, "")
    left = {layout.teacher(name).folder: name for name in teachers}
    for commit in lake.log(ref):
        if not left:
            break
        if commit.key.startswith(layout.label_keys):
            folder, colon, _ = commit.key.removeprefix(layout.label_keys).partition(":")
            if colon and folder in left:
                commits[left.pop(folder)] = commit.id
    return commits
