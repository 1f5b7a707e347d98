"""Frame encoders: uint8 frames in, one float16 embedding for each frame out, or for each step in time.

Four kinds. `timm` is any backbone of the timm library (`timm_model`). `video` is a video backbone of transformers
(`video_model`), which looks at whole clips. `pixels` is a hand-made descriptor that needs no weights (`pixels`): it
serves the demo, the tests, and whoever wants to see the engine turn before choosing a backbone. `vectors` reads
embeddings that were made elsewhere (`vectors`): it has `read(path)` in the decoder's place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from t2t.core import plugins
from t2t.core.errors import T2TError
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


def by_clip(encoder: FrameEncoder) -> bool:
    """Whether an encoder looks at a clip as a whole: it has `encode_clip(frames)` of one clip's frames, uint8 [F, size,
    size, 3], to float16 [steps, dim], instead of `encode`."""
    return hasattr(encoder, "encode_clip")


def most_steps(encoder: FrameEncoder) -> int:
    """The most embeddings that a sample has: one a frame, or one a step in time."""
    return int(getattr(encoder, "most_steps", encoder.frames))


def encoded(encoder: FrameEncoder, frames: np.ndarray) -> np.ndarray:
    """What an encoder makes of frames, checked where it enters: uint8 [N, size, size, 3] to float16 [N, dim], or to
    what its `dtype` says.

    One that looks at whole clips is given one, and makes as many embeddings of it as it has steps in time.

    Raises T2TError for another shape, which would give clips the numbers of others, or for what are no numbers.
    """
    whole = by_clip(encoder)
    values = np.asarray(encoder.encode_clip(frames) if whole else encoder.encode(frames))  # type: ignore[attr-defined]
    rows = len(values) if whole and len(values) else len(frames)
    kept = np.dtype(getattr(encoder, "dtype", np.float16))
    if values.shape != (rows, encoder.dim) or values.dtype.kind != kept.kind:
        raise T2TError(
            f"{_called(encoder)} gives {values.dtype} {list(values.shape)} for {len(frames)} frames; expected {kept} "
            f"[{rows}, {encoder.dim}]. Mend its `{'encode_clip' if whole else 'encode'}` or its `dim`."
        )
    with np.errstate(over="ignore"):
        return values.astype(kept, copy=False)


def refuse_not_finite(encoder: FrameEncoder, file: object, embedding: np.ndarray) -> None:
    """Raises T2TError where a clip's embedding, float16 [frames, dim], is NaN or infinite; names encoder and file."""
    bad = ~np.isfinite(embedding).all(axis=1)
    if bad.any():
        raise T2TError(
            f"{_called(encoder)} gives NaN or infinite numbers for {file} ({int(bad.sum())} of {len(bad)} frames), "
            "which would spoil whatever is trained on them; nothing of it is stored. Check its weights and its `mean` "
            "and `std`, or take another encoder."
        )


def _called(encoder: FrameEncoder) -> str:
    config = getattr(encoder, "config", None)
    names = [str(name) for name in (getattr(config, "kind", None), getattr(config, "model", None)) if name]
    return f"The frame encoder {' '.join(names) or type(encoder).__name__}"


def encoder_fingerprint(identity: dict[str, Any]) -> str:
    """SHA-256 over what changes the output. The device is left out: it moves the last bits only, and embeddings made
    on a GPU must serve a machine that has none."""
    return sha256(json.dumps({"version": CODE_VERSION, **identity}, sort_keys=True))


def frame_blocks(frames: np.ndarray, batch: int, size: int) -> Iterator[slice]:
    if frames.dtype != np.uint8 or frames.shape[1:] != (size, size, 3):
        raise ValueError(f"expected uint8 [N, {size}, {size}, 3], found {frames.dtype} {list(frames.shape)}")
    for start in range(0, len(frames), batch):
        yield slice(start, min(start + batch, len(frames)))
