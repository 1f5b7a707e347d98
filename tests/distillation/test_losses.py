"""The loss of a token, teacher dropping, and the balance between teachers, each against a sum made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from t2t.distillation.config import FeatureLossConfig
from t2t.distillation.dropping import BALANCE_RATE, Balance, dropped, mean_loss
from t2t.distillation.loss import teacher_loss, token_loss
from t2t.distillation.parts import Tokens


def by_hand(predicted: np.ndarray, wanted: np.ndarray) -> float:
    cosine = predicted @ wanted / (np.linalg.norm(predicted) * np.linalg.norm(wanted))
    away = np.abs(predicted - wanted)
    smooth = np.where(away < 1, 0.5 * away**2, away - 0.5).mean()
    return float(0.5 * (1 - cosine) + 0.5 * smooth)


def test_the_loss_of_a_token_is_its_formula() -> None:
    draws = np.random.default_rng(0)
    predicted, wanted = draws.normal(size=(6, 11)) * 2, draws.normal(size=(6, 11))
    found = token_loss(torch.tensor(predicted), torch.tensor(wanted), FeatureLossConfig())
    expected = [by_hand(one, other) for one, other in zip(predicted, wanted, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_a_perfect_student_has_no_loss_and_each_part_can_be_left_out() -> None:
    one = torch.tensor([[3.0, 4.0]])
    assert token_loss(one, one, FeatureLossConfig()).item() == pytest.approx(0, abs=1e-6)
    # Twice as long in the same direction: no angle, smooth L1 of 3 and 4 is 2.5 and 3.5.
    assert token_loss(2 * one, one, FeatureLossConfig(smooth_l1=0)).item() == pytest.approx(0, abs=1e-6)
    assert token_loss(2 * one, one, FeatureLossConfig(cosine=0)).item() == pytest.approx(0.5 * 3.0)


def test_patches_are_averaged_and_kept_apart_from_cls() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted = Tokens(torch.randn(3, 5, generator=generator), torch.randn(3, 4, 5, generator=generator))
    wanted = Tokens(torch.randn(3, 5, generator=generator), torch.randn(3, 4, 5, generator=generator))
    found = teacher_loss(predicted, wanted, FeatureLossConfig())
    assert found.shape == (3, 2)
    for frame in range(3):
        cls = by_hand(predicted.cls[frame].numpy(), wanted.cls[frame].numpy())
        patches = [by_hand(predicted.patches[frame, p].numpy(), wanted.patches[frame, p].numpy()) for p in range(4)]
        assert found[frame, 0].item() == pytest.approx(cls, rel=1e-5)
        assert found[frame, 1].item() == pytest.approx(float(np.mean(patches)), rel=1e-5)
    without = teacher_loss(predicted, wanted, FeatureLossConfig(patches=False))
    assert torch.equal(without, found[:, :1])


def test_the_worst_learned_teacher_always_stays() -> None:
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(500, 4, generator=generator)
    for rate in (0.0, 0.25, 0.5, 0.9, 1.0):
        kept = dropped(losses, torch.rand(500, 4, generator=generator), rate)
        assert set(kept.unique().tolist()) <= {0.0, 1.0}
        assert (kept.gather(1, losses.argmax(1, keepdim=True)) == 1).all()
        if rate == 0:
            assert (kept == 1).all()
        if rate == 1:
            assert (kept.sum(1) == 1).all()


def test_every_other_teacher_stays_as_often_as_the_rate_says() -> None:
    generator = torch.Generator().manual_seed(2)
    losses = torch.rand(20_000, 3, generator=generator)
    kept = dropped(losses, torch.rand(20_000, 3, generator=generator), 0.25)
    others = torch.ones_like(kept).scatter(1, losses.argmax(1, keepdim=True), 0.0).bool()
    mean, deviation = kept[others].mean().item(), math.sqrt(0.75 * 0.25 / int(others.sum()))
    assert abs(mean - 0.75) < 4 * deviation
    # The expectation of a frame's coefficients: 1 + (teachers - 1)(1 - rate).
    assert kept.sum(1).mean().item() == pytest.approx(1 + 2 * 0.75, abs=0.02)


def test_the_batch_is_averaged_over_all_coefficients_and_they_have_no_gradient() -> None:
    losses = torch.tensor([[1.0, 3.0], [5.0, 2.0]], requires_grad=True)
    coefficients = dropped(losses, torch.tensor([[0.9, 0.0], [0.0, 0.1]]), 0.5)
    assert coefficients.tolist() == [[1.0, 1.0], [1.0, 0.0]]
    loss = mean_loss(losses, coefficients, coefficients.sum())
    # Not frame by frame: the mean of (1+3)/2 and 5 would be 3.5.
    assert loss.item() == pytest.approx((1 + 3 + 5) / 3)
    loss.backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [[pytest.approx(1 / 3)] * 2, [pytest.approx(1 / 3), 0.0]]


def test_balance_is_mtards_recursion() -> None:
    balance = Balance(2)
    assert balance.weights().tolist() == [1.0, 1.0]
    course = [[2.0, 0.5], [1.0, 0.45], [0.5, 0.4]]
    share = np.full(2, 0.5)
    for losses in course:
        balance.update(torch.tensor(losses))
        pace = np.array(losses) / np.array(course[0])
        share = share + BALANCE_RATE * (pace / pace.sum() - share)
    np.testing.assert_allclose(balance.weights().numpy(), 2 * share, rtol=1e-6)
    # The second is learned more slowly.
    first, second = balance.weights().tolist()
    assert first < 1 < second
    assert first + second == pytest.approx(2)


def test_balance_keeps_the_first_losses_in_its_state() -> None:
    balance, other = Balance(2), Balance(2)
    balance.update(torch.tensor([2.0, 1.0]))
    other.load_state_dict(balance.state_dict())
    for one in (balance, other):
        one.update(torch.tensor([1.0, 1.0]))
    assert torch.equal(other.weights(), balance.weights())
    assert other.first.tolist() == [2.0, 1.0]
