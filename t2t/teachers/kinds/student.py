"""Kind `student`: a campaign's student as a self-training teacher (paper, section 3.3). The engine writes its entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from t2t.core.config import Config
from t2t.core.errors import T2TError
from t2t.core.files import sha256_file
from t2t.data.embeddings.embed import NoneReadable, embed
from t2t.data.embeddings.encoders import FrameEncoder, build_encoder
from t2t.data.embeddings.store import EmbeddingStore
from t2t.students.agreement import tag_agreed
from t2t.students.base import known_topics
from t2t.students.checkpoint import load, read_encoder
from t2t.students.config import TaggingConfig
from t2t.students.tagging import tag
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint


class Parent(Config):
    """A teacher that the student learned from."""

    id: str = Field(description="Its identity.")
    fingerprint: str = Field(description="Of all that can change its labels.")


class Partner(Config):
    """Another student; a pair gets a label where the two agree."""

    checkpoint: str = Field(description="Its folder, from the work folder.")
    weights_sha256: str = Field(description="SHA-256 of its weights.")
    within: float = Field(gt=0, le=1, description="Their confidences differ by less than this.")


class Entry(TeacherEntry):
    """Where the student comes from, and how it labels."""

    kind: Literal["student"] = Field("student", description="A campaign's student; the engine writes these entries.")
    campaign: str = Field(description="The campaign that trained it.")
    round: int = Field(ge=0, le=1_000_000, description="The round that trained it.")
    checkpoint: str = Field(description="Its folder, from the work folder.")
    weights_sha256: str = Field(description="SHA-256 of its weights.")
    tagging: TaggingConfig = Field(description="Which pairs it labels, and as whom.")
    seed: int = Field(ge=0, lt=1 << 63, description="Of the pairs that it draws.")
    parents: tuple[Parent, ...] = Field(description="The teachers that it learned from.")
    partner: Partner | None = Field(None, description="The other student of its round, where it labels by consensus.")

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is left out: entries and fingerprints from before there were such keys stay."""
        content: dict[str, Any] = plain(self)
        for name in ("modalities", "partner"):
            if getattr(self, name) is None:
                content.pop(name, None)
        return content


class Teacher:
    # Eight blocks of the default size: so much is scored again after a kill, at most.
    shard_samples = 8192

    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.context = context
        self.folder = self._checked(entry.checkpoint, entry.weights_sha256)
        self.partner_folder: Path | None = None
        if entry.partner is not None:
            self.partner_folder = self._checked(entry.partner.checkpoint, entry.partner.weights_sha256)
        self._texts: tuple[tuple[str, ...], Tensor] | None = None

    def _checked(self, checkpoint: str, sha256: str) -> Path:
        folder = Path(checkpoint)
        if not folder.is_absolute():
            folder = self.context.work / folder
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise T2TError(f"{weights}: no such file (checkpoint of the self-training teacher {self.entry.id!r}).")
        if sha256_file(weights) != sha256:
            raise T2TError(f"{weights}: not the weights that {self.entry.id!r} was registered with (SHA-256 differs).")
        return folder

    def fingerprint(self) -> str:
        if self.entry.partner is None:
            return entry_fingerprint(self.entry, exclude=["checkpoint"])
        partner = self.entry.partner.model_dump_json(exclude={"checkpoint"})
        return entry_fingerprint(self.entry, partner, exclude=["checkpoint", "partner"])

    @cached_property
    def student(self) -> Any:
        return load(self.folder, self.context.device)

    @cached_property
    def partner(self) -> Any:
        """The other student of its round; None where it labels alone."""
        return None if self.partner_folder is None else load(self.partner_folder, self.context.device)

    @cached_property
    def encoder(self) -> FrameEncoder:
        return build_encoder(read_encoder(self.folder), self.context.device)

    @cached_property
    def store(self) -> EmbeddingStore:
        return EmbeddingStore(self.context.work / "embeddings", self.encoder.fingerprint)

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Student, encoder, store and the topics' texts are made once for all calls. A student that reads no texts
        gives no row for topics that it was not trained on.

        An unreadable video gets no row. Raises TooManyUnreadable, or NoneReadable, where it is not one alone: they
        were read in training, so a disk may be gone.
        """
        topics = known_topics(self.student, topics) if topics and len(samples) else ()
        if not topics:
            return
        try:
            embedded = embed(samples, self.encoder, self.store)
        except NoneReadable:
            if len(samples) > 1:
                raise
            return
        if self._texts is None or self._texts[0] != tuple(topics):
            self._texts = tuple(topics), self.student.encode_topics(topics, self.entry.tagging.identity)
        asked = (embedded.embeddings, embedded.sample_ids, topics, self.entry.id, self.entry.tagging, self.entry.seed)
        if self.entry.partner is None:
            yield from tag(self.student, *asked, self._texts[1])
        else:
            yield from tag_agreed(self.student, self.partner, *asked, self.entry.partner.within)
