"""What the loop asks of those who bring frames and teachers: small protocols, and what passes between them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor


class Tokens(NamedTuple):
    """What an encoder sees of N frames.

    cls: float [N, d], the frame as a whole. patches: float [N, P, d], its places, row by row of a grid of P.
    """

    cls: Tensor
    patches: Tensor


class FeatureTeacher(Protocol):
    """A frozen encoder that is learned from.

    name: in curves and tables. fingerprint: of all that changes its features. dim: d. grid: rows and columns of its
    patches. has_cls: whether it has a CLS token of its own; else its pooled features stand for one.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def grid(self) -> tuple[int, int]: ...
    @property
    def has_cls(self) -> bool: ...

    def tokens(self, crops: np.ndarray | Tensor) -> Tokens:
        """uint8 [N, S, S, 3], which it scales and normalises in its own way, to its tokens (float16 or float32)."""
        ...


class Frames(Protocol):
    """Decoded frames: uint8 [N, S, S, 3] by index, and which sample each is of.

    key: of their content. sample_of: int64 [frames], the sample's number.
    """

    @property
    def key(self) -> str: ...
    @property
    def sample_of(self) -> np.ndarray: ...
    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> np.ndarray: ...


class Views(Protocol):
    """What is shown of frames: uint8 [N, S, S, 3] to uint8 [N, s, s, 3], drawn by nothing but seed and step."""

    def __call__(self, frames: np.ndarray, seed: int, step: int) -> np.ndarray: ...


class Kept(Protocol):
    """A teacher's features of all frames, by index, where nothing is drawn."""

    def __call__(self, indices: np.ndarray) -> Tokens: ...
