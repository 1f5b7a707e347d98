"""What the training benchmark's sides learn from: random samples, rows and one student, whole and row by row."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from t2t.data.embeddings.store import Embeddings
from t2t.students import build_student
from t2t.students.config import DualEncoderConfig, EncoderOnlyConfig
from t2t.students.dual_encoder import Student
from t2t.students.reader import Reader
from t2t.training.config import TrainingConfig
from t2t.training.loss import row_loss
from t2t.training.matrix import LabelMatrix
from t2t.training.prepared import Prepared, augment

FRAMES, DIM, ROWS_PER_SAMPLE, TOPICS = 8, 1280, 32, 500
TEACHERS = ("human", "one", "two", "three")


@dataclass
class World:
    """A student to be, what it learns from, and how: `weight` is that of each teacher's rows, float32 [teachers]."""

    student: Student
    matrix: LabelMatrix
    embeddings: Embeddings
    config: TrainingConfig
    weight: np.ndarray

    @classmethod
    def make(
        cls,
        samples: int,
        config: DualEncoderConfig | EncoderOnlyConfig | None = None,
        device: str = "cpu",
        seed: int = 0,
        teachers: Sequence[str] = TEACHERS,
        topics: int = TOPICS,
    ) -> World:
        """`samples` x 32 rows of these teachers on so many topics, all random.

        Args:
            config: of the student; the default one where none is given.
        """
        generator = np.random.default_rng(seed)
        rows = samples * ROWS_PER_SAMPLE
        names = make_topics(generator, topics)
        clips = list(generator.standard_normal((samples, FRAMES, DIM), dtype=np.float32).astype(np.float16))
        matrix = LabelMatrix(
            [f"clip-{number:06}" for number in range(samples)],
            names,
            tuple(teachers),
            np.arange(samples + 1) * ROWS_PER_SAMPLE,
            generator.integers(0, topics, rows).astype(np.int32),
            generator.integers(0, len(teachers), rows).astype(np.int16),
            generator.random(rows, np.float32),
        )
        student = build_student(config or DualEncoderConfig(), DIM, names, teachers, seed).to(device)
        return cls(student, matrix, Embeddings.of(clips), TrainingConfig(), np.ones(len(teachers), np.float32))

    def new_student(self) -> Student:
        return copy.deepcopy(self.student)

    @cached_property
    def rows(self) -> Rows:
        return Rows(self)

    @cached_property
    def table(self) -> Any:
        return self.rows.table()


def make_topics(generator: np.random.Generator, count: int) -> tuple[str, ...]:
    """Topics of one to five made-up words, all different."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(generator.choice(letters, generator.integers(3, 9))) for _ in range(300)]
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(generator.choice(words, generator.integers(1, 6)))] = None
    return tuple(found)


class Rows(Dataset):
    """One training row at a time, as a user would write it: frames, token ids, confidence."""

    def __init__(self, world: World):
        student, matrix = world.student, world.matrix
        prepared = Prepared(student, world.embeddings)
        self.frames, self.mask = prepared(np.arange(len(world.embeddings)))
        tokens = student.topic_tokens(matrix.topics)
        topic, teacher = matrix.topic.astype(np.int64), student.token_ids(matrix.teachers)[matrix.teacher]
        ids, mask = tokens.plain(topic) if student.gated else tokens.texts(topic, teacher)
        self.columns = {
            "sample": np.repeat(np.arange(len(world.embeddings)), np.diff(matrix.indptr)).tolist(),
            "input_ids": [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)],
            "labels": matrix.confidence.tolist(),
            "weight": world.weight[matrix.teacher].tolist(),
            "teacher": (teacher - student.words).tolist(),
        }
        self.pad = tokens.pad

    def __len__(self) -> int:
        return len(self.columns["sample"])

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: column[row] for name, column in self.columns.items()}

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        samples = torch.tensor([row["sample"] for row in rows])
        texts = [torch.as_tensor(row["input_ids"]) for row in rows]
        ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=self.pad)
        lengths = torch.tensor([len(text) for text in texts])
        return {
            "frames": self.frames[samples],
            "mask": self.mask[samples],
            "input_ids": ids,
            "attention_mask": torch.arange(ids.shape[1]) < lengths[:, None],
            "labels": torch.tensor([row["labels"] for row in rows]),
            "weight": torch.tensor([row["weight"] for row in rows]),
            "teacher": torch.tensor([row["teacher"] for row in rows]),
        }

    def table(self) -> Any:
        """The same rows as a table of the `datasets` library."""
        from datasets import Dataset as Table

        return Table.from_dict(self.columns)


class RowByRow(nn.Module):
    """The student as any other model: every row brings its frames and its text, and both are encoded."""

    def __init__(self, world: World):
        super().__init__()
        # `config` would be taken for a model's of the library.
        self.student, self.recipe = world.new_student(), world.config
        self.generator = torch.Generator(self.student.device).manual_seed(0)

    def forward(
        self,
        frames: Tensor,
        mask: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        weight: Tensor,
        teacher: Tensor,
    ) -> dict[str, Tensor]:
        members = self.student.members
        seen, mask = augment(frames, mask, self.recipe, self.generator, len(members))
        identities = (torch.arange(len(teacher)), teacher) if self.student.gated else ()
        losses = []
        for member, prepared in zip(members, seen, strict=True):
            logits = self.logits_of(member, prepared, mask, (input_ids, attention_mask, *identities))
            losses.append((row_loss(logits, labels, self.recipe.loss) * weight).sum() / weight.sum())
        return {"loss": torch.stack(losses).mean(), "logits": logits}

    @staticmethod
    def logits_of(member: Any, prepared: Tensor, mask: Tensor, texts: Sequence[Tensor]) -> Tensor:
        if isinstance(member, Reader):
            x, there = member._embedded(*texts)
            frames, row = member.dropout(member.project(prepared)), torch.arange(len(mask))
            return member.dense(frames, mask, x, there, row, row, full=member.attention == "full")
        return member.logits((member.encode_prepared(prepared, mask) * member.encode_texts(*texts)).sum(-1))
