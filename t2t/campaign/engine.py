"""The engine: where videos are embedded and labeled, and students trained. Here, or on other machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from t2t.campaign.config import ENGINES
from t2t.core import plugins
from t2t.core.host import find_device
from t2t.data.embeddings.config import EncoderConfig
from t2t.data.embeddings.embed import Embedded, embed_samples
from t2t.students.base import Student
from t2t.teachers import Teacher
from t2t.teachers.labeling import Part, make_parts
from t2t.training.job import Report, TrainJob
from t2t.training.loop import Trained
from t2t.training.processes import train_here


class Engine(Protocol):
    """Does the heavy work of the steps. Every engine comes to the same embeddings, labels and weights.

    device: the torch device of this process, for what a step does itself.
    """

    device: str

    def embed(self, samples: pa.Table, encoder: EncoderConfig, work: Path, max_unreadable: float) -> Embedded:
        """The embeddings of all readable samples, from the store `<work>/embeddings`, which gets what it lacks.

        Args:
            samples: columns sample_id and path (and others).
            max_unreadable: share of the samples that may be unreadable, 0..1.

        Raises TooManyUnreadable.
        """

    def label(self, teacher: Teacher, parts: Sequence[Part]) -> None:
        """Makes the files of some parts of an expensive teacher's labels (`t2t.teachers.labeling`)."""

    def train(self, job: TrainJob, student: Student, report: Report) -> tuple[Student, Trained]:
        """Trains a student; returns it, with the weights of its best step on validation, and what the training was.

        Args:
            student: as it comes; an engine may train it in place, or another one of the same start.
            report: told of every point of the curve.
        """


class LocalEngine:
    """This process, and on several GPUs helpers of its own.

    Args:
        device: torch device; chosen automatically when None.
    """

    def __init__(self, device: str | None = None):
        self.device = device or find_device()

    def embed(self, samples: pa.Table, encoder: EncoderConfig, work: Path, max_unreadable: float) -> Embedded:
        return embed_samples(samples, encoder, work, self.device, max_unreadable)

    def label(self, teacher: Teacher, parts: Sequence[Part]) -> None:
        make_parts(teacher, parts)

    def train(self, job: TrainJob, student: Student, report: Report) -> tuple[Student, Trained]:
        return student, train_here(job, student, self.device, report)


def open_engine(name: str, device: str | None = None) -> Engine:
    """The engine of that name: `local`, `ray`, or a plug-in's (entry-point group `t2t.engines`)."""
    engine: Engine = plugins.make(
        "t2t.engines", ENGINES, name, [device], "engine", "engine", ["device", "embed", "label", "train"]
    )
    return engine
