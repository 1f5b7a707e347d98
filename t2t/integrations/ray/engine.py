"""The engine on a Ray cluster: `engine: ray`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from t2t.campaign.engine import LocalEngine
from t2t.data.embeddings.config import EncoderConfig
from t2t.data.embeddings.embed import SHARD_SAMPLES, Embedded, embed_samples
from t2t.data.embeddings.limits import limits_of
from t2t.integrations.ray.pipelines import EmbedOnRay, label_parts
from t2t.integrations.ray.train import train_on_ray
from t2t.students.base import Student
from t2t.teachers import Teacher
from t2t.teachers.labeling import Part, make_parts
from t2t.training.job import Report, TrainJob
from t2t.training.loop import Trained


class RayEngine(LocalEngine):
    """Embeds, labels and trains on the cluster that RAY_ADDRESS names, or on one of its own for the length of a step.

    All nodes see the work folder under the same path. What is small stays here: a training by one worker, a teacher
    that cannot be built anew from its entry.
    """

    def embed(self, samples: pa.Table, encoder: EncoderConfig, work: Path, max_unreadable: float) -> Embedded:
        elsewhere = EmbedOnRay(encoder, work, SHARD_SAMPLES, limits_of(samples))
        return embed_samples(samples, encoder, work, self.device, max_unreadable, elsewhere=elsewhere)

    def label(self, teacher: Teacher, parts: Sequence[Part]) -> None:
        context = getattr(teacher, "context", None)
        if context is None:
            make_parts(teacher, parts)
        else:
            label_parts(teacher.entry, context, parts)

    def train(self, job: TrainJob, student: Student, report: Report) -> tuple[Student, Trained]:
        if job.recipe.workers == 1:
            return super().train(job, student, report)
        return train_on_ray(job, student, self.device, report)
