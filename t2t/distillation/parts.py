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
    """Decoded frames by number, as `t2t.data.embeddings.frames.FrameSource` has them.

    key: of all that they are. rows: of each frame its sample's position and its number in it, int64 [frames] each.
    """

    @property
    def key(self) -> str: ...
    @property
    def rows(self) -> tuple[np.ndarray, np.ndarray]: ...
    def __len__(self) -> int: ...
    def read(self, indices: np.ndarray) -> np.ndarray:
        """int64 [N] to uint8 [N, S, S, 3]."""
        ...


class Views(Protocol):
    """What is shown of frames: uint8 [N, S, S, 3] to crops, uint8 [N, s, s, 3], of which a tensor may lie on a GPU; the
    same for teachers and student."""

    def __call__(self, frames: np.ndarray, seed: int, step: int) -> np.ndarray | Tensor:
        """A view of each frame, drawn by seed, step and the frame's place alone."""
        ...

    def plain(self, frames: np.ndarray) -> np.ndarray | Tensor:
        """The view in which nothing is drawn."""
        ...


class Kept(Protocol):
    """A teacher's features of all frames, by index, where nothing is drawn."""

    def __call__(self, indices: np.ndarray) -> Tokens: ...
