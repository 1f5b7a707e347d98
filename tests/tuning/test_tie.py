"""The tie of a tuned encoder to what it was, against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from t2t.tuning.tie import Tie, moved, statistics


def features(seed: int = 0, frames: int = 40, dim: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, dim, generator=generator) * torch.tensor([1.0, 10, 0.1, 3, 1, 1]) + 5


def test_features_that_did_not_move_have_no_distance() -> None:
    old = features()
    assert Tie(*statistics(old), share=0.1)(old, old).item() == 0.0


def test_without_a_correction_it_is_the_mean_square_in_units_of_the_variance() -> None:
    old = features()
    new = old + 0.3 * features(1)
    expected = (((new - old) / old.std(0, correction=0)) ** 2).mean()
    tie = Tie(*statistics(old), share=0.0)
    assert tie(new, old).item() == pytest.approx(expected.item(), rel=1e-5)
    assert moved(tie, new, old) == pytest.approx(expected.item(), rel=1e-5)


def test_the_correction_is_a_share_of_two_layers_on_standardised_features() -> None:
    old, new = features(), features(1)
    tie = Tie(*statistics(old), share=0.1)
    torch.nn.init.normal_(tie.second.weight)
    mean, std = old.mean(0), old.std(0, correction=0)
    now, before = (new - mean) / std, (old - mean) / std
    inner = F.gelu(now @ tie.first.weight.T + tie.first.bias)
    expected = ((now + 0.1 * (inner @ tie.second.weight.T + tie.second.bias) - before) ** 2).mean()
    assert tie(new, old).item() == pytest.approx(expected.item(), rel=1e-5)
    # And what it lets pass is no part of how far features moved.
    assert moved(tie, new, old) == pytest.approx((((new - old) / std) ** 2).mean().item(), rel=1e-5)


def test_the_correction_can_take_off_a_change_that_the_labels_asked_for() -> None:
    old = features(frames=400)
    new = old + 0.5 * (old - old.mean(0))
    tie = Tie(*statistics(old), share=1.0)
    before = tie(new, old).item()
    optimizer = torch.optim.Adam(tie.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        tie(new, old).backward()
        optimizer.step()
    assert tie(new, old).item() < 0.1 * before


def test_a_number_that_never_changes_divides_nothing_by_zero() -> None:
    old = features()
    old[:, 2] = 7.0
    assert np.isfinite(Tie(*statistics(old), share=0.1)(old + 0.01, old).item())
