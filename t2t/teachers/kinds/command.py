"""Kind `command`: a program in any language, asked over its standard input and output (`t2t-teacher/1`)."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field, field_validator

from t2t.core.errors import DataError, T2TError
from t2t.core.files import sha256_file
from t2t.teachers.base import TeacherContext, TeacherEntry, entry_fingerprint
from t2t.teachers.protocol.asking import Asker
from t2t.teachers.protocol.program import Program, ProgramLimits

# Raised whenever the same entry, files and answers would give other labels.
CODE_VERSION = 1
# Where and how comfortably it runs, which changes no label.
NOT_IDENTITY = (
    "command",
    "files",
    "environment",
    "writable",
    "confine",
    "batch_samples",
    "part_samples",
    "start_timeout",
    "timeout",
    "memory_megabytes",
    "processes",
    "file_megabytes",
    "answer_megabytes",
)


class Entry(TeacherEntry):
    """A program in any language that labels, by the protocol t2t-teacher/1 (docs/teachers/protocol.md)."""

    kind: Literal["command"] = Field("command", description="A program in any language, by the protocol t2t-teacher/1.")
    command: tuple[str, ...] = Field(
        min_length=1,
        max_length=100,
        description="Program and arguments, as a list; no shell reads them. One that stands in `files` too is given as "
        "that file's full path.",
    )
    files: tuple[str, ...] = Field(
        (),
        max_length=1000,
        description="Files that the labels depend on, such as the script and its weights: what they hold is in the "
        "fingerprint. A relative path begins in the folder of the dataset that is labeled.",
    )
    environment: tuple[str, ...] = Field(
        (),
        max_length=100,
        description="Names of variables of t2t's environment that the program gets, such as an API key's. Beside PATH, "
        "LANG, LC_ALL and TZ it gets no other one. Their values are in no log and no fingerprint.",
    )
    confine: bool = Field(
        True,
        description="Whether the kernel (Linux, Landlock) lets the program write in an empty folder of its own and in "
        "`writable` only. It may read what you may read, and use the network.",
    )
    writable: tuple[str, ...] = Field(
        (), max_length=100, description="Full paths that it may write beneath, such as a cache; for CUDA: /dev."
    )
    batch_samples: int = Field(32, ge=1, le=100_000, description="Samples of a request, at most.")
    part_samples: int = Field(256, ge=1, le=1_000_000, description="Samples of a part: so many are lost by a kill.")
    start_timeout: float = Field(120, gt=0, le=86_400, description="Seconds until its handshake.")
    timeout: float = Field(600, gt=0, le=86_400, description="Seconds that a request may take.")
    memory_megabytes: int = Field(
        8192, ge=16, le=16_777_216, description="Memory of the program and all that it starts, together."
    )
    processes: int = Field(256, ge=1, le=100_000, description="Processes that it may have at once.")
    file_megabytes: int = Field(1024, ge=1, le=16_777_216, description="The longest file that it may write.")
    answer_megabytes: int = Field(64, ge=1, le=4096, description="The longest answer to a request.")

    @field_validator("command", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError("write program and arguments as a list, such as [python3, my-teacher.py]")
        return value

    @field_validator("command", "files", "writable")
    @classmethod
    def _said(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if any(not value or "\0" in value for value in values):
            raise ValueError("an empty text, or one with NUL in it")
        return values

    @field_validator("environment")
    @classmethod
    def _names(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not value.replace("_", "a").isalnum() or value[0].isdigit() or not value.isascii():
                raise ValueError(f"{value[:40]!r} is no name of a variable; write names, never values")
        return values

    def ready(self) -> None:
        if missing := [name for name in self.environment if name not in os.environ]:
            raise T2TError(f"Teacher {self.id!r}: the variable {missing[0]} is not set (`environment`). Export it.")


class Teacher:
    def __init__(self, entry: Entry, context: TeacherContext):
        self.entry = entry
        self.context = context
        self.shard_samples = entry.part_samples
        self.files = {written: self._file(written) for written in entry.files}
        self.command = [str(self.files.get(word, word)) for word in entry.command]
        if shutil.which(self.command[0]) is None:
            raise T2TError(
                f"Teacher {entry.id!r}: no program {self.command[0]!r} (`command`). Install it, give its full path, or "
                "name it in `files` and make it executable."
            )
        entry.ready()
        for path in entry.writable:
            if not Path(path).is_absolute() or not Path(path).exists():
                raise T2TError(f"Teacher {entry.id!r}: `writable`: {path}: no such path. Give full paths that exist.")

    def _file(self, written: str) -> Path:
        path = self.context.data / written
        if not path.is_file():
            raise DataError(path, f"no such file (`files` of teacher {self.entry.id!r}).")
        return path.resolve()

    @cached_property
    def asker(self) -> Asker:
        entry = self.entry
        limits = ProgramLimits(
            entry.start_timeout,
            entry.timeout,
            entry.memory_megabytes,
            entry.processes,
            entry.file_megabytes,
            entry.answer_megabytes,
        )
        environment = {name: os.environ[name] for name in entry.environment}
        program = Program(
            self.command, limits, environment, entry.confine, entry.writable, {"T2T_DEVICE": self.context.device}
        )
        weakref.finalize(self, program.close)
        return Asker(entry.id, program, "Mend the program, and try `t2t teachers test-kit`.")

    @cached_property
    def sums(self) -> list[str]:
        """SHA-256 of each of `files`."""
        return [sha256_file(path) for path in self.files.values()]

    def fingerprint(self) -> str:
        """Covers the command line, what its files hold, and what the program says of itself in its handshake."""
        # Where an interpreter is installed changes no label.
        written = [Path(self.entry.command[0]).name, *self.entry.command[1:]]
        words = [
            f"file {self.entry.files.index(word)}" if word in self.files else f"word {name}"
            for word, name in zip(self.entry.command, written, strict=True)
        ]
        return entry_fingerprint(
            self.entry,
            f"version {CODE_VERSION}",
            *words,
            "",
            *self.sums,
            "",
            self.asker.handshake.identity,
            exclude=NOT_IDENTITY,
        )

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Yields label tables, rows ordered by sample and topic. A pair that the program says nothing of has no row.

        Raises T2TError that names the teacher and the line, where the program is wrong, dies, or takes too much.
        """
        yield from self.asker.tables(samples, topics, self.entry.batch_samples)
