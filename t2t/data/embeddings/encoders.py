"""Frame encoders: uint8 frames in, one float16 embedding for each frame out.

Two kinds. `timm` is any backbone of the timm library (`timm_model`). `pixels` is a hand-made descriptor that needs no
weights (`pixels`): it serves the demo, the tests, and whoever wants to see the engine turn before choosing a backbone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from t2t.core import plugins
from t2t.core.files import sha256
from t2t.data.embeddings.config import GROUP, KINDS, Crop, EncoderConfig, Interpolation

# Raised whenever the same configuration and weights would give other numbers (but for float16's last digit, which
# differs between processors too).
CODE_VERSION = 3


class Preprocessing(Protocol):
    """What a model's input is: so many frames of a clip, of this size, cut so; and how many it takes at once."""

    frames: int
    size: int
    crop: Crop
    interpolation: Interpolation
    batch_size: int


NEEDS = ("frames", "size", "crop", "interpolation", "batch_size")


class FrameEncoder(Preprocessing, Protocol):
    """Turns frames into embeddings."""

    dim: int
    fingerprint: str

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [N, size, size, 3] to float16 [N, dim]. N may be 0 or of any size; it is worked through in batches."""


def build_encoder(config: EncoderConfig, device: str = "cpu") -> FrameEncoder:
    """The encoder of a configuration. Raises T2TError when the model is unknown or its weights do not fit."""
    encoder: FrameEncoder = plugins.make(
        GROUP, KINDS, config.kind, [config, device], "encoder", needs=["dim", "fingerprint", "encode", *NEEDS]
    )
    return encoder


def encoder_fingerprint(identity: dict[str, Any]) -> str:
    """SHA-256 over what changes the output. The device is left out: it moves the last bits only, and embeddings made
    on a GPU must serve a machine that has none."""
    return sha256(json.dumps({"version": CODE_VERSION, **identity}, sort_keys=True))


def frame_blocks(frames: np.ndarray, batch: int, size: int) -> Iterator[slice]:
    if frames.dtype != np.uint8 or frames.shape[1:] != (size, size, 3):
        raise ValueError(f"expected uint8 [N, {size}, {size}, 3], found {frames.dtype} {list(frames.shape)}")
    for start in range(0, len(frames), batch):
        yield slice(start, min(start + batch, len(frames)))
