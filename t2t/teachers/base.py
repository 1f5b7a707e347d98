"""What a teacher is: an identity with a fingerprint, that yields label tables (DESIGN, "The registry").

A *kind* of teacher is one module of this package (or of another package that declares an entry point in the group
`t2t.teachers`) with two names: `Entry`, the model of its YAML file, and `Teacher`, which reads or makes the labels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from t2t.core.config import Config
from t2t.core.files import sha256
from t2t.data.labels import HUMAN
from t2t.teachers.members import ID

if TYPE_CHECKING:
    from t2t.data.dataset import Dataset


class TeacherEntry(Config):
    """The keys that every `registry/teachers/<id>.yaml` has. A kind adds its own."""

    id: str = Field(
        pattern=ID,
        description="The file's own name. An identity never changes its labels: other ones are another teacher.",
    )
    kind: str = Field(description="What the teacher is; it says which further keys there are.")
    description: str = Field("", description="One line for people.")
    modalities: tuple[Literal["video", "image"], ...] | None = Field(
        None,
        min_length=1,
        description="What it labels: an image teacher of a dataset that has both labels images only. All if left out.",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `modalities` and `member` where they are left out: fingerprints and entries from before there were
        such keys stay."""
        content: dict[str, Any] = plain(self)
        for key in ("modalities", "member"):
            if getattr(self, key, None) is None:
                content.pop(key, None)
        return content

    def labeled(self, samples: pa.Table) -> pa.Table:
        """Those of some samples that this teacher labels."""
        if self.modalities is None or "modality" not in samples.column_names:
            return samples
        return samples.filter(pc.is_in(samples["modality"], value_set=pa.array(self.modalities, pa.string())))

    @field_validator("id")
    @classmethod
    def _not_reserved(cls, value: str, info: Any) -> str:
        if value == HUMAN and cls.model_fields["kind"].default != "annotations":
            raise ValueError("'human' is reserved for the ground truth (kind: annotations); choose another id")
        return value

    def ready(self) -> None:
        """Raises T2TError where the teacher cannot be asked for want of something that is in no file of its own: a key
        in the environment, a budget, a package. Takes milliseconds and asks nobody."""


@dataclass(frozen=True)
class TeacherContext:
    """Where a teacher works: the dataset it labels, the device it may use, the folder for what it derives."""

    dataset: Dataset
    work: Path
    device: str = "cpu"

    @property
    def data(self) -> Path:
        """The dataset's root, which is also what `${data}` in an entry stands for."""
        return self.dataset.root


@dataclass(frozen=True)
class Cost:
    """What a teacher that pays for its answers will ask, and for how much; amounts are in its prices' currency.

    about, most: by experience, and at most. spent, budget: so far, and altogether (None: no budget). priced: whether
    the entry has prices at all. in_files: whether they are asked as batch files, which are answered within a day.
    """

    requests: int
    about: float
    most: float
    spent: float
    budget: float | None
    priced: bool
    in_files: bool = False

    @staticmethod
    def sum(costs: Sequence[Cost]) -> Cost | None:
        """Of several blocks of one teacher; None of none."""
        if not costs:
            return None
        totals = [math.fsum(getattr(cost, name) for cost in costs) for name in ("requests", "about", "most")]
        in_files = any(cost.in_files for cost in costs)
        return replace(costs[-1], requests=int(totals[0]), about=totals[1], most=totals[2], in_files=in_files)

    @property
    def note(self) -> str:
        """In words."""
        requests = f"{self.requests:,} requests" + (" in batch files" if self.in_files else "")
        if not self.priced:
            return f"{requests}, without a price"
        of = "no budget is set, so a run is refused" if self.budget is None else f"the budget is {self.budget:,.2f}"
        return f"{requests} for about {self.about:,.4g} (at most {self.most:,.4g}); {self.spent:,.4g} are spent, {of}"


class Teacher(Protocol):
    """A teacher ready to label.

    One that is expensive has an attribute `shard_samples: int`: it is then asked for so many samples at a time, and
    what it answered survives a kill. Labels of a sample must therefore not depend on which others are asked with it.
    If it has its `context` as well, its parts can be labeled by a cluster: there it is built again from its entry.

    One that has something to say of its labels, such as classes that no topic is meant by, has `remarks: list[str]`,
    a sentence each, once it has labeled something; `t2t teachers check` and a run tell them.

    One that pays for its answers has `cost(samples, topics) -> Cost`: a plan asks that, and does not try it. What it
    needs beside its files, such as a key in the environment, its entry's `ready()` is asked about.
    """

    entry: TeacherEntry

    def fingerprint(self) -> str:
        """Hex SHA-256 of everything that can change this teacher's labels; see `entry_fingerprint`."""

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Yields tables of `t2t.data.labels.LABEL_SCHEMA` with at most some hundred thousand rows each.

        Args:
            samples: columns sample_id, path (absolute), modality, group, split.
            topics: topics to give confidences for; a teacher that knows nothing of a topic yields no row for it.
        """


def entry_fingerprint(entry: TeacherEntry, *content: str, exclude: Sequence[str] = ()) -> str:
    """SHA-256 over an entry and its files' content hashes.

    The description is left out, it changes no label; so are paths (name them in `exclude`): what counts is what the
    files hold, not where they lie.
    """
    values = entry.model_dump(mode="json", exclude={"description", *exclude})
    return sha256(json.dumps(values, sort_keys=True), *content)


class TeacherRef(Config):
    """A teacher as a round used it."""

    id: str
    fingerprint: str


class Registration(Config):
    """A registered teacher, as its `entry.json` in the lake has it, in the same commit as its labels.

    rows: labels in its table. topics: those it was asked for; None where an older version did not note them.
    entry: its registry entry, whose keys are its kind's own.
    """

    id: str
    kind: str = "?"
    fingerprint: str
    rows: int
    topics: tuple[str, ...] | None = None
    entry: dict[str, Any]

    @property
    def ref(self) -> TeacherRef:
        return TeacherRef(id=self.id, fingerprint=self.fingerprint)

    @property
    def description(self) -> str:
        return str(self.entry.get("description", ""))

    @property
    def parents(self) -> tuple[str, ...]:
        """The teachers that it learned from: none for an outside teacher."""
        return tuple(parent["id"] for parent in self.entry.get("parents", ()))

    @property
    def student_of(self) -> tuple[str, int] | None:
        """Campaign and round whose student it is, or None."""
        return (self.entry["campaign"], self.entry["round"]) if self.entry.get("kind") == "student" else None
