"""Which family of dual encoders a checkpoint is of, and its model."""

from __future__ import annotations

from pathlib import Path

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import Crop
from t2t.data.embeddings.dual import DualEncoder
from t2t.data.embeddings.hub import configuration, model_type_of, refuse_unknown_type
from t2t.data.embeddings.image_text import MODEL_TYPES, ImageTextModel
from t2t.data.embeddings.open_clip_model import OpenClipModel
from t2t.data.embeddings.pairwise import XCLIP, XClipModel
from t2t.data.embeddings.video_text import VIDEO_TYPES, VideoTextModel

# Why a model type is refused that compares texts with pictures, too.
REFUSED = {
    "blip-2": "it compares a text with 32 embeddings of a picture and takes the best, so that there is not one to keep",
}


def refuse_entangled(checkpoint: str, kind: str | None = None) -> None:
    """Raises T2TError, before anything is loaded, for a model type that has not one embedding a picture."""
    kind = kind or model_type_of(checkpoint)
    if kind in REFUSED:
        raise T2TError(f"{checkpoint}: {kind} is not taken: {REFUSED[kind]}. Take a dual encoder, such as SigLIP.")


def open_transformers(
    checkpoint: str, revision: str | None, frames: int | None, crop: Crop | None, batch_size: int | None, device: str
) -> DualEncoder:
    """A checkpoint of transformers, of pictures or of clips. frames: None for 8, or what a model of clips wants."""
    kind = str(configuration(checkpoint, revision).model_type)
    refuse_entangled(checkpoint, kind)
    refuse_unknown_type(checkpoint, kind, MODEL_TYPES | VIDEO_TYPES | {XCLIP})
    if kind == XCLIP:
        return XClipModel(checkpoint, revision, frames, crop, batch_size, device)
    if kind in VIDEO_TYPES:
        return VideoTextModel(checkpoint, revision, frames, crop, batch_size, device)
    return ImageTextModel(checkpoint, revision, frames or 8, crop, batch_size, device)


def open_open_clip(
    folder: Path, frames: int | None, crop: Crop | None, batch_size: int | None, device: str
) -> DualEncoder:
    """A checkpoint of open_clip, in a folder."""
    return OpenClipModel(folder, frames or 8, crop, batch_size, device)
