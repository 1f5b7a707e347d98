"""What an encoder makes of frames before the blocks that are tuned: it never changes, so it is computed once.

Tuning the last blocks of a large encoder then costs what these blocks cost. The rest is a frame encoder of its own,
whose numbers lie in the store of frames, under a fingerprint of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from t2t.data.embeddings.embed import SHARD_SAMPLES
from t2t.data.embeddings.encoders import encoder_fingerprint, frame_blocks
from t2t.data.embeddings.frames import SHARD_BYTES
from t2t.data.embeddings.timm_model import TimmEncoder

# What is kept of a frame may be so many times its pixels; else the frames themselves are kept.
MOST_TIMES_PIXELS = 4
CHECKED_FRAMES = 3
TOLERANCE = 1e-3
# What is kept is float16, which ends at 65,504: frames may give four times what noise gives.
LARGEST_KEPT = 16_000


class _Seen(Exception):
    """The block was reached: what comes behind it is not needed."""


class Trunk:
    """A timm encoder up to one of its blocks, as a frame encoder: float16 [N, dim], the block's input laid flat.

    Attributes:
        shape: of one frame's input to the block.
    """

    doing = "What comes before the tuned blocks"

    def __init__(self, frozen: TimmEncoder, model: nn.Module, block: nn.Module, before: str, shape: Sequence[int]):
        self.model, self.block, self.timm, self.shape = model, block, frozen.model, tuple(shape)
        self.frames, self.size, self.crop = frozen.frames, frozen.size, frozen.crop
        self.interpolation, self.batch_size = frozen.interpolation, frozen.batch_size
        self.dim = math.prod(self.shape)
        self.fingerprint = encoder_fingerprint({"kind": "trunk", "of": frozen.fingerprint, "before": before})
        self.shard_samples = max(1, min(SHARD_SAMPLES, SHARD_BYTES // (2 * self.frames * self.dim)))

    def encode(self, frames: np.ndarray) -> np.ndarray:
        out = np.empty((len(frames), self.dim), np.float16)
        for block in frame_blocks(frames, self.timm.block, self.size):
            values = block_input(self.model, self.block, self.timm.input(frames[block]))
            out[block] = values.float().clamp(-65504, 65504).cpu().flatten(1).numpy()
        return out

    def rest(self, values: np.ndarray) -> Tensor:
        """What the model makes of blocks' inputs, [N, dim]: float [N, D]. A gradient flows through the blocks."""
        x = torch.from_numpy(values).to(self.timm.device).float().view(-1, *self.shape)
        return behind(self.model, self.block, x, self.timm.input(np.zeros((1, self.size, self.size, 3), np.uint8)))


def trunk_of(frozen: TimmEncoder, model: nn.Module, first: Sequence[str]) -> Trunk | None:
    """The part of a model before a block; None where it is better to begin with the frames: what is behind the block
    needs more than the block's input, or that takes much more room than pixels, or does not fit float16.

    Args:
        model: as it is trained. first: the names of the parameters of the first block that is tuned.
    """
    before = shared_module(first)
    if not before:
        return None
    block = model.get_submodule(before)
    noise = np.random.default_rng(0).integers(0, 256, (CHECKED_FRAMES, frozen.size, frozen.size, 3), np.uint8)
    pixels = frozen.model.input(noise)
    with torch.no_grad():
        try:
            values = block_input(model, block, pixels)
            whole, rest = model(pixels), behind(model, block, values, pixels[:1])
        except (RuntimeError, ValueError, TypeError):
            return None
    small = values[0].numel() * 2 <= MOST_TIMES_PIXELS * 3 * frozen.size**2
    small &= float(values.abs().max()) <= LARGEST_KEPT
    same = rest.shape == whole.shape and float((rest - whole).abs().max()) <= TOLERANCE * float(whole.abs().max())
    return Trunk(frozen, model, block, before, values.shape[1:]) if small and same else None


def shared_module(names: Sequence[str]) -> str:
    """The innermost module that parameters have in common, as `blocks.5.0`; empty where that is the whole model."""
    beginning = names[0].split(".")[0]  # a last norm that goes with the last block lies beside the blocks
    parts = (name.split(".")[:-1] for name in names if name.split(".")[0] == beginning)
    levels = zip(*parts, strict=False)
    return ".".join(level[0] for level in takewhile(lambda level: len({*level}) == 1, levels))


@torch.no_grad()
def block_input(model: nn.Module, block: nn.Module, pixels: Tensor) -> Tensor:
    """What a model gives to one of its blocks; nothing behind it is computed."""
    found: list[Tensor] = []

    def look(module: nn.Module, given: tuple[Any, ...]) -> None:
        found.append(given[0])
        raise _Seen

    with _hooked(block, look):
        try:
            model(pixels)
        except _Seen:
            return found[0].contiguous()
    raise ValueError("the model does not come to that block")


def behind(model: nn.Module, block: nn.Module, values: Tensor, one: Tensor) -> Tensor:
    """What a model makes of a block's inputs, [N, ...]. Args: one: pixels of one frame, which lead to the block."""

    def put(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (values, *given[1:])

    with _hooked(block, put):
        made: Tensor = model(one)
    return made


@contextmanager
def _hooked(block: nn.Module, hook: Any) -> Iterator[None]:
    handle = block.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
