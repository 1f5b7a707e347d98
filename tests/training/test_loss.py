"""Grouping rows by sample and by text changes neither the loss nor any gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from t2t.data.embeddings.store import Embeddings
from t2t.students.dual_encoder import Student
from t2t.students.rows import cosines
from t2t.students.text import TopicTokens
from t2t.training.config import TrainingConfig
from t2t.training.loss import grouped_loss
from t2t.training.matrix import LabelMatrix
from t2t.training.prepared import Prepared
from tests.helpers.students import random_clips, tiny_config, tiny_student
from tests.helpers.training import WEIGHT, epochs, random_matrix


def plain_loss(student: Student, matrix: LabelMatrix, embeddings: Embeddings, weight: np.ndarray, kind: str) -> Tensor:
    """The loss as the paper writes it: one row after the other, each with a sample and a text of its own."""
    tokens = TopicTokens(student.tokenizer, matrix.topics)
    total, weights = torch.zeros((), dtype=torch.float64), 0.0
    for sample in range(len(matrix.sample_ids)):
        frames, mask = embeddings.take(np.array([sample])).gather(np.array([0]))
        for row in range(matrix.indptr[sample], matrix.indptr[sample + 1]):
            identity = student.token_ids([matrix.teachers[matrix.teacher[row]]]) - student.words
            asked = student.texts(tokens, matrix.topic[[row]], identity)
            clip = student.encode_samples(torch.from_numpy(frames).double(), torch.from_numpy(mask))
            text = student.encode_texts(*map(torch.from_numpy, asked))
            chance = torch.sigmoid(student.scale.exp() * (clip[0] @ text[0]) + student.bias)
            target = float(matrix.confidence[row])
            if kind == "mse":
                loss = (chance - target) ** 2
            else:
                loss = -(target * chance.log() + (1 - target) * (1 - chance).log())
            total = total + float(weight[matrix.teacher[row]]) * loss
            weights += float(weight[matrix.teacher[row]])
    return total / weights


@pytest.mark.parametrize("kind", ["mse", "bce"])
@pytest.mark.parametrize("weight", [np.ones(3, np.float32), WEIGHT])
@pytest.mark.parametrize("identity", ["token", "gate"])
def test_grouping_changes_neither_the_loss_nor_any_gradient(kind: str, weight: np.ndarray, identity: str) -> None:
    matrix = random_matrix(1, samples=5, most=6)
    embeddings = random_clips([3, 1, 4, 2, 2])
    student = tiny_student(
        tiny_config({"identity_std": 1.0, "identity": identity}, frontend={"variation": True})
    ).double()
    (batch,) = next(epochs(matrix, TrainingConfig(batch_rows=10**6), weight, seed=0))
    # The texts really are shared, and the samples are.
    assert len(batch.text_topic) < matrix.rows
    assert len(batch.samples) < matrix.rows
    tokens = TopicTokens(student.tokenizer, matrix.topics)
    texts = student.texts(tokens, batch.text_topic, batch.text_teacher)
    prepared, mask = Prepared(student, embeddings)(batch.samples)
    grouped = grouped_loss(student, batch, [prepared.double()], mask, kind, *map(torch.from_numpy, texts))
    grouped.backward()
    gradients = {name: value.grad.clone() for name, value in student.named_parameters() if value.grad is not None}
    student.zero_grad()
    plain = plain_loss(student, matrix, embeddings, weight, kind)
    plain.backward()
    assert grouped.item() == pytest.approx(plain.item(), rel=1e-6)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    assert largest > 1e-3
    # Attention and norms compute in single precision, whatever the weights are in.
    for name, value in student.named_parameters():
        if value.grad is None:
            assert name not in gradients
        else:
            torch.testing.assert_close(gradients[name], value.grad, rtol=0, atol=1e-6 * largest, msg=name)


def test_all_pairs_or_the_rows_alone_come_to_the_same_products_and_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    samples, texts = (torch.randn(n, 8, generator=generator, requires_grad=True) for n in (5, 7))
    row_sample, row_text = torch.tensor([0, 4, 4, 2, 0]), torch.tensor([6, 1, 0, 3, 6])
    found = []
    for pairs_a_row in (0, 1000):
        cosine = cosines(samples, texts, row_sample, row_text, pairs_a_row)
        found.append((cosine.detach(), *torch.autograd.grad(cosine.square().sum(), (samples, texts))))
    for alone, all_pairs in zip(*found, strict=True):
        torch.testing.assert_close(alone, all_pairs)


def test_products_are_as_exact_where_the_towers_arithmetic_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    samples, texts = (torch.randn(n, 8, generator=generator) for n in (5, 7))
    row_sample, row_text = torch.tensor([0, 4, 2]), torch.tensor([6, 1, 0])
    with torch.autocast("cpu", torch.bfloat16):
        found = [cosines(samples, texts, row_sample, row_text, pairs_a_row) for pairs_a_row in (0, 1000)]
    assert found[1].dtype == torch.float32
    torch.testing.assert_close(*found)
