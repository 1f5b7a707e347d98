"""From the student's blocks to the teachers' spaces. Projectors are the training's own: they fall away when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2t.core.errors import T2TError
from t2t.distillation.config import ProjectorsConfig
from t2t.distillation.parts import FeatureTeacher, Tokens

INITIAL_DEVIATION = 0.02
T = TypeVar("T")


class Block(NamedTuple):
    """What a student has behind one block: cls float [N, d], and patches as a map, float [N, d', rows, columns]."""

    cls: Tensor
    patches: Tensor


class Resample(nn.Module):
    """A map brought to another grid: areas are averaged where it becomes coarser, interpolated where it becomes finer,
    side by side. As two products with fixed matrices: its gradient is the same each time, on a GPU too."""

    rows: Tensor
    columns: Tensor

    def __init__(self, given: tuple[int, int], wanted: tuple[int, int]):
        super().__init__()
        self.same = given == wanted
        for name, before, after in zip(("rows", "columns"), given, wanted, strict=True):
            self.register_buffer(name, _matrix(before, after), persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        """float [N, d, rows, columns] to tokens [N, rows' x columns', d], row by row."""
        if not self.same:
            patches = self.rows.to(patches) @ patches @ self.columns.to(patches).T
        return patches.flatten(2).transpose(1, 2)


def _matrix(before: int, after: int) -> Tensor:
    """float32 [after, before], each row of sum 1."""
    points = torch.eye(before)[None]
    if after <= before:
        return F.adaptive_avg_pool1d(points, after)[0].T.contiguous()
    return F.interpolate(points, after, mode="linear", align_corners=False)[0].T.contiguous()


def projector(given: int, hidden: int, wanted: int) -> nn.Sequential:
    """Linear, GELU, linear; weights from a normal distribution of deviation 0.02, cut at two; biases 0."""
    layers = nn.Sequential(nn.Linear(given, hidden), nn.GELU(), nn.Linear(hidden, wanted))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=INITIAL_DEVIATION)
            nn.init.zeros_(layer.bias)
    return layers


class Ladder(nn.Module):
    """The sum over blocks of a projector each.

    Args:
        dims: of the blocks' outputs, the last one's last.
    """

    def __init__(self, dims: Sequence[int], wanted: int, config: ProjectorsConfig):
        super().__init__()
        widths = [config.hidden or dim for dim in dims[:-1]] + [config.last or 4 * dims[-1]]
        self.rungs = nn.ModuleList(projector(dim, width, wanted) for dim, width in zip(dims, widths, strict=True))

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Of each block [..., dim], to [..., wanted]."""
        first, *others = (rung(output) for rung, output in zip(self.rungs, outputs, strict=True))
        for other in others:
            first = first + other
        return first


def refuse_lengths(dims: Sequence[tuple[int, int]], config: ProjectorsConfig, patches: bool) -> None:
    """Raises T2TError where one projector would have to take CLS and patches of different lengths.

    Args:
        dims: of the blocks' CLS and patches.
    """
    used = dims if config.ladder else dims[-1:]
    if patches and not config.dedicated and any(cls != patch for cls, patch in used):
        raise T2TError(
            "projectors: this student's CLS and patches have different lengths, which one projector for both cannot "
            "take. Set projectors.dedicated: true, or loss.patches: false."
        )


class Projectors(nn.Module):
    """All teachers' projectors.

    Args:
        dims: of the blocks' CLS and patches. grids: of the blocks' maps.
        patches: whether patches are learned at all.
    """

    def __init__(
        self,
        dims: Sequence[tuple[int, int]],
        grids: Sequence[tuple[int, int]],
        teachers: Sequence[FeatureTeacher],
        config: ProjectorsConfig,
        patches: bool = True,
    ):
        super().__init__()
        refuse_lengths(dims, config, patches)
        self.patches, self.ladder = patches, config.ladder
        dims, grids = self._used(dims), self._used(grids)
        wanted = sorted({teacher.grid for teacher in teachers}) if patches else []
        self.grids = [wanted.index(teacher.grid) for teacher in teachers] if patches else []
        self.resample = nn.ModuleList(nn.ModuleList(Resample(given, grid) for given in grids) for grid in wanted)
        self.cls = nn.ModuleList(Ladder([cls for cls, _ in dims], teacher.dim, config) for teacher in teachers)
        self.patch = nn.ModuleList(
            Ladder([patch for _, patch in dims], teacher.dim, config) if config.dedicated else same
            for teacher, same in zip(teachers, self.cls, strict=True)
            if patches
        )

    def _used(self, of_blocks: Sequence[T]) -> Sequence[T]:
        return of_blocks if self.ladder else of_blocks[-1:]

    def forward(self, blocks: Sequence[Block]) -> list[Tokens]:
        """Of each teacher, what the student says its tokens are: cls [N, dim], patches [N, its P, dim]; no patches,
        [N, 0, dim], where none are learned."""
        blocks = self._used(blocks)
        cls = [projector([block.cls for block in blocks]) for projector in self.cls]
        if not self.patches:
            return [Tokens(found, found.new_zeros(len(found), 0, found.shape[-1])) for found in cls]
        maps = [
            [one(block.patches) for one, block in zip(to_grid, blocks, strict=True)]  # type: ignore[call-overload]
            for to_grid in self.resample
        ]
        patches = [projector(maps[grid]) for projector, grid in zip(self.patch, self.grids, strict=True)]
        return [Tokens(*both) for both in zip(cls, patches, strict=True)]
