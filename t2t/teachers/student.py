"""Kind `student`: a campaign's student as a self-training teacher (paper, section 3.3). The engine writes its entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from t2t.config import Config
from t2t.errors import T2TError
from t2t.files import sha256_file
from t2t.tagging import TaggingConfig, tag
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint


class Parent(Config):
    """A teacher that the student learned from."""

    id: str
    fingerprint: str


class Entry(TeacherEntry):
    """Where the student comes from, and how it labels."""

    kind: Literal["student"] = "student"
    campaign: str
    round: int
    checkpoint: str
    weights_sha256: str
    tagging: TaggingConfig
    seed: int
    parents: tuple[Parent, ...]


class Teacher:
    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.context = context
        self.folder = Path(entry.checkpoint)
        if not self.folder.is_absolute():
            self.folder = context.work / self.folder
        weights = self.folder / "model.safetensors"
        if not weights.is_file():
            raise T2TError(f"{weights}: no such file (checkpoint of the self-training teacher {entry.id!r}).")
        if sha256_file(weights) != entry.weights_sha256:
            raise T2TError(f"{weights}: not the weights that {entry.id!r} was registered with (SHA-256 differs).")

    def fingerprint(self) -> str:
        return entry_fingerprint(self.entry, exclude=["checkpoint"])

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        from t2t.media import embed_samples
        from t2t.students.checkpoint import load, read_encoder

        student = load(self.folder, self.context.device)
        embedded = embed_samples(samples, read_encoder(self.folder), self.context.work, self.context.device)
        yield from tag(
            student,
            embedded.embeddings,
            embedded.sample_ids,
            topics,
            self.entry.id,
            self.entry.tagging,
            self.entry.seed,
        )
