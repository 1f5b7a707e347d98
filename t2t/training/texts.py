"""What a student's text tower is given for a batch."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from t2t.students.student import Student
from t2t.training.batches import Batch
from t2t.training.matrix import LabelMatrix


class Texts:
    """The (teacher, topic) texts of a matrix as its student takes them; a text encoder that is not trained reads each
    topic once, here."""

    def __init__(self, student: Student, matrix: LabelMatrix):
        self.student = student
        self.tokens = student.topic_tokens(matrix.topics)
        self.identities = student.token_ids(matrix.teachers) - student.words
        self.words = student.encode_words(self.tokens)

    def of(self, batch: Batch) -> tuple[np.ndarray, ...]:
        """What `given` takes, made without the device."""
        teacher = self.identities[batch.text_teacher]
        if self.words is None:
            return self.student.texts(self.tokens, batch.text_topic, teacher)
        used, row = np.unique(batch.text_topic, return_inverse=True)
        return used, np.ones((len(used), 1), bool), row, teacher

    def given(self, texts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """On the student's device, as `Student.encode_texts` takes them."""
        ids, *rest = (tensor.to(self.student.device, non_blocking=True) for tensor in texts)
        return (ids if self.words is None else self.words.index_select(0, ids), *rest)
