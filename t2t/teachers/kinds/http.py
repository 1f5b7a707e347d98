"""Kind `http`: a service in any language (`t2t-teacher/1` over HTTP), or a Label Studio ML backend."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from t2t.core.errors import DataError, T2TError
from t2t.data.source import SourceFile
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint
from t2t.teachers.protocol.asking import Asker, OtherSide
from t2t.teachers.protocol.label_studio import LabelStudio
from t2t.teachers.protocol.service import Service, is_loopback, read_url

# Raised whenever the same entry and answers would give other labels.
CODE_VERSION = 1
# Where it is and how comfortably it is asked, which changes no label: the handshake says who it is.
NOT_IDENTITY = (
    "url",
    "insecure",
    "authorization",
    "label_config",
    "batch_samples",
    "part_samples",
    "start_timeout",
    "timeout",
    "request_megabytes",
    "answer_megabytes",
)
STUDIO_ONLY = ("hard", "label_config", "model_version", "tag", "unnamed", "value")


class Entry(TeacherEntry):
    """A service that labels, by the protocol t2t-teacher/1 over HTTP (docs/teachers/protocol.md), or a Label Studio ML
    backend."""

    kind: Literal["http"] = Field("http", description="A service, by the protocol t2t-teacher/1, or Label Studio's.")
    url: str = Field(max_length=2000, description="Where it is, without /describe, /label or /predict.")
    dialect: Literal["t2t", "label-studio"] = Field(
        "t2t", description="t2t: the protocol t2t-teacher/1; label-studio: a Label Studio ML backend."
    )
    insecure: bool = Field(
        False, description="Whether http:// without encryption may leave this machine; loopback always may."
    )
    authorization: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$",
        description="Name of the variable of t2t's environment that holds the header Authorization, such as `Bearer "
        "...`. Its value is in no log and no fingerprint.",
    )
    tag: str = Field(
        "Video", pattern=r"^[A-Za-z]{1,50}$", description="label-studio: the object tag of a sample, Video or Image."
    )
    value: str = Field(
        "video", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$", description="label-studio: the key of a sample's path."
    )
    label_config: str | None = Field(
        None,
        description="label-studio: a file with the labeling configuration that the backend is set up with; null: one "
        "with the dataset's topics as choices.",
    )
    unnamed: Literal["none", "zero"] = Field(
        "none", description="label-studio: what a topic gets that a prediction does not name: no label, or 0."
    )
    hard: float | None = Field(
        None, ge=0, le=1, description="label-studio: the confidence of a choice without a score; null: refuse it."
    )
    model_version: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="label-studio: the version that predictions have to say, where it is another one than /setup's.",
    )
    batch_samples: int = Field(32, ge=1, le=100_000, description="Samples of a request, at most.")
    part_samples: int = Field(256, ge=1, le=1_000_000, description="Samples of a part: so many are lost by a kill.")
    start_timeout: float = Field(30, gt=0, le=86_400, description="Seconds that its handshake may take.")
    timeout: float = Field(600, gt=0, le=86_400, description="Seconds that a request may take.")
    request_megabytes: int = Field(64, ge=1, le=4096, description="The longest request.")
    answer_megabytes: int = Field(64, ge=1, le=4096, description="The longest answer.")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        read_url(value)
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Entry:
        url = read_url(self.url)
        if url.scheme == "http" and not self.insecure and not is_loopback(url.hostname or ""):
            raise ValueError(
                "url: http:// to another machine can be read and changed on its way; use https://, or "
                "set `insecure: true` in a network that you trust"
            )
        # (Not what was written: an entry that comes back from the lake has all its keys.)
        fields = type(self).model_fields
        given = [name for name in STUDIO_ONLY if getattr(self, name) != fields[name].default]
        if self.dialect == "t2t" and given:
            raise ValueError(f"{given[0]}: is for `dialect: label-studio` only")
        return self

    def ready(self) -> None:
        if self.authorization is not None:
            value = os.environ.get(self.authorization, "")
            if not value or not value.isprintable() or not value.isascii():
                raise T2TError(
                    f"Teacher {self.id!r}: the variable {self.authorization} is not set, or is no header "
                    "(`authorization`). Export it: one line such as `Bearer ...`."
                )


class Teacher:
    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.context = context
        self.shard_samples = entry.part_samples
        self.config_source: SourceFile | None = None
        if entry.label_config is not None:
            path = Path(context.data / entry.label_config)
            if not path.is_file():
                raise DataError(path, f"no such file (`label_config` of teacher {entry.id!r}).")
            self.config_source = SourceFile(path)
        entry.ready()
        self._authorization = os.environ[entry.authorization] if entry.authorization is not None else None

    @cached_property
    def asker(self) -> Asker:
        entry = self.entry
        service = Service(
            entry.url.rstrip("/"),
            entry.timeout,
            entry.start_timeout,
            entry.request_megabytes,
            entry.answer_megabytes,
            self._authorization,
        )
        other: OtherSide = service
        if entry.dialect == "label-studio":
            other = LabelStudio(
                service,
                tuple(self.context.dataset.topics),
                entry.tag,
                entry.value,
                self._label_config(),
                entry.unnamed == "zero",
                entry.hard,
                entry.model_version,
            )
        return Asker(entry.id, other, "See that the service runs, or mend it, and try `t2t teachers test-kit`.")

    def _label_config(self) -> str | None:
        if self.config_source is None:
            return None
        try:
            return self.config_source.read().decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(self.config_source.path, "is not UTF-8; save it so.") from None

    def fingerprint(self) -> str:
        """Covers what the service says of itself (Label Studio: model_version), and the labeling configuration."""
        config = self.config_source.sha256() if self.config_source else "topics"
        identity = self.asker.handshake.identity
        return entry_fingerprint(self.entry, f"version {CODE_VERSION}", config, identity, exclude=NOT_IDENTITY)

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Yields label tables, rows ordered by sample and topic. A pair that the service says nothing of has no row.

        Raises T2TError that names the teacher, where the service is wrong, out of reach, or takes too much.
        """
        yield from self.asker.tables(samples, topics, self.entry.batch_samples)
