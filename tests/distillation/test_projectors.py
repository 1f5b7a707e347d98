"""Projectors: the ladder is the sum made by hand, one per token type or one for both, on each teacher's own grid."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2t.core.errors import T2TError
from t2t.distillation.config import ProjectorsConfig
from t2t.distillation.parts import Tokens
from t2t.distillation.projectors import Block, Projectors, Resample, projector


@dataclass(frozen=True)
class Teacher:
    name: str
    dim: int
    grid: tuple[int, int] = (3, 3)
    fingerprint: str = ""
    has_cls: bool = True

    def tokens(self, crops: Tensor) -> Tokens:
        raise NotImplementedError


DIMS, GRIDS = [(4, 4), (6, 6), (8, 8)], [(3, 3), (3, 3), (3, 3)]
TEACHERS = [Teacher("one", 5), Teacher("two", 7)]


def blocks(seed: int = 0, grid: tuple[int, int] = (3, 3)) -> list[Block]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Block(torch.randn(2, dim, generator=generator), torch.randn(2, dim, *grid, generator=generator))
        for dim, _ in DIMS
    ]


def rung(layers: nn.Module, x: Tensor) -> Tensor:
    first, _, second = layers.children()
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return F.gelu(x @ first.weight.T + first.bias) @ second.weight.T + second.bias


def test_the_ladder_is_the_sum_over_blocks() -> None:
    projectors = Projectors(DIMS, GRIDS, TEACHERS, ProjectorsConfig())
    given = blocks()
    for which, tokens in enumerate(projectors(given)):
        of_cls, of_patches = projectors.cls[which], projectors.patch[which]
        cls = sum(rung(layers, block.cls) for layers, block in zip(of_cls.rungs, given, strict=True))
        torch.testing.assert_close(tokens.cls, cls)
        for place in range(9):
            row, column = divmod(place, 3)
            patch = sum(
                rung(layers, block.patches[:, :, row, column])
                for layers, block in zip(of_patches.rungs, given, strict=True)
            )
            torch.testing.assert_close(tokens.patches[:, place], patch)
        assert tokens.cls.shape == (2, TEACHERS[which].dim)


def test_without_a_ladder_the_last_block_alone_is_seen() -> None:
    projectors = Projectors(DIMS, GRIDS, TEACHERS, ProjectorsConfig(ladder=False))
    given = blocks()
    changed = [*blocks(1)[:-1], given[-1]]
    for before, after in zip(projectors(given), projectors(changed), strict=True):
        assert torch.equal(before.cls, after.cls)
        assert torch.equal(before.patches, after.patches)


def test_widths_are_the_blocks_own_and_four_times_the_last() -> None:
    first, second, last = Projectors(DIMS, GRIDS, TEACHERS, ProjectorsConfig()).cls[0].rungs
    assert [layers[0].out_features for layers in (first, second, last)] == [4, 6, 32]
    first, second, last = Projectors(DIMS, GRIDS, TEACHERS, ProjectorsConfig(hidden=10, last=20)).cls[0].rungs
    assert [layers[0].out_features for layers in (first, second, last)] == [10, 10, 20]


def test_weights_begin_small_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    layers = projector(300, 400, 200)
    for layer in (layers[0], layers[2]):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert layer.weight.mean().item() == pytest.approx(0, abs=3e-4)
        assert not layer.bias.any()


def test_dedicated_projectors_are_two_and_others_one() -> None:
    own = Projectors(DIMS, GRIDS, TEACHERS, ProjectorsConfig())
    one = Projectors(DIMS, GRIDS, TEACHERS, ProjectorsConfig(dedicated=False))
    count = sum(value.numel() for value in one.parameters())
    assert sum(value.numel() for value in own.parameters()) == 2 * count
    # A frame whose places all look like its whole is given the same twice.
    same = [Block(block.cls, block.cls[:, :, None, None].expand(-1, -1, 3, 3)) for block in blocks()]
    for tokens in one(same):
        torch.testing.assert_close(tokens.patches, tokens.cls[:, None].expand_as(tokens.patches))
    assert not torch.allclose(own(same)[0].patches[:, 0], own(same)[0].cls)


def test_blocks_of_two_lengths_need_dedicated_projectors() -> None:
    dims = [(4, 4), (9, 6)]
    with pytest.raises(T2TError, match=r"projectors\.dedicated: true"):
        Projectors(dims, GRIDS[:2], TEACHERS, ProjectorsConfig(dedicated=False))
    Projectors(dims, GRIDS[:2], TEACHERS, ProjectorsConfig(dedicated=False), patches=False)
    Projectors(dims, GRIDS[:2], TEACHERS, ProjectorsConfig())


def test_without_patches_there_are_none_and_no_weights_for_them() -> None:
    projectors = Projectors(DIMS, GRIDS, TEACHERS, ProjectorsConfig(), patches=False)
    assert [tokens.patches.shape for tokens in projectors(blocks())] == [(2, 0, 5), (2, 0, 7)]
    assert len(projectors.patch) == len(projectors.resample) == 0


def test_each_teacher_is_met_on_its_own_grid() -> None:
    teachers = [Teacher("coarse", 5, (2, 2)), Teacher("fine", 5, (6, 8)), Teacher("same", 5, (4, 4))]
    projectors = Projectors(DIMS, [(4, 4)] * 3, teachers, ProjectorsConfig())
    assert [tokens.patches.shape[1] for tokens in projectors(blocks(grid=(4, 4)))] == [4, 48, 16]


def test_a_map_on_another_grid_is_averaged_or_interpolated() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, 3, 6, 4, generator=generator)
    coarse = F.adaptive_avg_pool2d(patches, (3, 2)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(Resample((6, 4), (3, 2))(patches), coarse)
    fine = F.interpolate(patches, (9, 7), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(Resample((6, 4), (9, 7))(patches), fine)
    assert torch.equal(Resample((6, 4), (6, 4))(patches), patches.flatten(2).transpose(1, 2))
