"""The towers in blocks of about equal length, computed once or twice: the same embeddings and the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t2t.students import rows as rows_module
from t2t.students.dual_encoder import Student
from tests.helpers.students import DIM, tiny_config, tiny_student

LENGTHS = torch.tensor([3, 6, 2, 6, 4, 3, 5, 2])
MASK = torch.arange(6) < LENGTHS[:, None]


def texts(student: Student) -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, student.words, MASK.shape, generator=torch.Generator().manual_seed(0))
    ids[:, 0] = student.words + torch.arange(len(ids)) % 3
    return ids.masked_fill(~MASK, 0), MASK


def clips(student: Student) -> tuple[Tensor, Tensor]:
    # Frame dropout hides frames in the middle: a clip is as long as its last frame.
    mask = MASK.clone()
    mask[1, 2] = mask[3, 0] = mask[6, 1:4] = False
    frames = torch.randn(*MASK.shape, DIM, generator=torch.Generator().manual_seed(1))
    return frames * mask.unsqueeze(-1), mask


def embeddings_and_gradients(student: Student, tower: str) -> tuple[Tensor, dict[str, Tensor]]:
    student.zero_grad()
    encode = student.encode_texts if tower == "text" else student.encode_samples
    embedded = encode(*(texts if tower == "text" else clips)(student))
    # Other weights for every number: unit vectors all have the same sum of squares.
    (embedded * torch.linspace(-1, 2, embedded.numel()).view_as(embedded)).sum().backward()
    return embedded, {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tower", ["text", "sample"])
@pytest.mark.parametrize("tokens", [1, 7, 12, 20])
def test_blocks_change_neither_embeddings_nor_gradients(
    tower: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = tiny_student()
    whole, expected = embeddings_and_gradients(student, tower)
    monkeypatch.setattr(rows_module, "BLOCK_TOKENS", {"cpu": tokens})
    shapes = []
    encoder = student.text_encoder if tower == "text" else student.sample_encoder
    handle = encoder.register_forward_hook(lambda module, args, out: shapes.append(out.last_hidden_state.shape[:2]))
    embedded, gradients = embeddings_and_gradients(student, tower)
    handle.remove()
    assert len(shapes) > 1
    assert all(rows == 1 or rows * width <= tokens for rows, width in shapes)
    assert sum(rows * width for rows, width in shapes) < MASK.numel()
    torch.testing.assert_close(embedded, whole, rtol=0, atol=1e-6)
    assert gradients.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(gradients[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("tokens", [12, 1000])
def test_computing_twice_changes_no_bit_of_the_gradients(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BLOCK_TOKENS", {"cpu": tokens})
    student = tiny_student(tiny_config({"dropout": 0.3})).train()
    calls = []
    student.text_encoder.register_forward_hook(lambda *_: calls.append(0))
    torch.manual_seed(5)
    _, expected = embeddings_and_gradients(student, "text")
    once = len(calls)
    student.recompute = True
    torch.manual_seed(5)
    _, gradients = embeddings_and_gradients(student, "text")
    assert len(calls) == 3 * once
    assert all(torch.equal(gradients[name], value) for name, value in expected.items())


def test_rows_of_one_length_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BLOCK_TOKENS", {"cpu": 8})
    x, seen = torch.arange(20.0).view(5, 4), []

    def encode(part: Tensor, mask: Tensor) -> Tensor:
        seen.append((part.data_ptr() - x.data_ptr()) // (4 * 4))
        return 2 * part[:, 0]

    assert torch.equal(rows_module.in_blocks(encode, x, torch.ones(5, 4, dtype=torch.bool)), 2 * x[:, 0])
    assert seen == [0, 2, 4]
