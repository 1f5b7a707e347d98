"""Image-text dual encoders of transformers (CLIP, SigLIP and their kin): a frame encoder with a text side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import Crop
from t2t.data.embeddings.dual import TransformersEncoder, features_of
from t2t.data.embeddings.encoders import encoder_fingerprint
from t2t.data.embeddings.hub import content_of, load_model

if TYPE_CHECKING:
    import torch

# Those of AutoModelForZeroShotImageClassification that have one embedding an image and one a text, independent of one
# another. (blip-2 compares a text with 32 embeddings of an image; videoprism, which takes clips, is in video_text.py.)
MODEL_TYPES = frozenset(
    ["align", "altclip", "blip", "chinese_clip", "clip", "clipseg", "metaclip_2", "siglip", "siglip2", "tipsv2"]
)
SIGLIP_TOKENS = 64  # the length that SigLIP was trained with; it has no mask, so that another one is another text


class ImageTextModel(TransformersEncoder):
    """A dual encoder of pictures, of transformers.

    Args:
        checkpoint: a folder, or a name on the hub. crop: None for what the model's own processor does.
    """

    def __init__(
        self,
        checkpoint: str,
        revision: str | None = None,
        frames: int = 8,
        crop: Crop | None = None,
        batch_size: int | None = None,
        device: str = "cpu",
    ):
        import torch
        from transformers import AutoImageProcessor, AutoModelForZeroShotImageClassification

        self.checkpoint, self.frames, self.device = checkpoint, frames, torch.device(device)
        self.model = load_model(
            AutoModelForZeroShotImageClassification, checkpoint, revision, MODEL_TYPES, dtype=torch.float32
        ).to(self.device)
        self._open(AutoImageProcessor, revision, crop)
        self.model_type = self.model.config.model_type
        self.whole = self.lowercase = "siglip" in self.model_type
        if not self.whole:
            # Blanks behind a text, which no model here looks at, and never before it, where they would move it.
            self.tokenizer.padding_side = "right"
        self.size = self._size()
        self.block = batch_size or (8 if self.device.type == "cpu" else 64)
        self.batch_size = max(self.block, 16)
        self.scale, self.bias = self._scale()
        self.length = self._length()
        self.vocabulary = int(getattr(self.model.config.text_config, "vocab_size", 1 << 31))
        self.dim = self._check()
        self.identity = content_of(self.model)
        self.fingerprint = encoder_fingerprint({"kind": "image-text", **self._seen()})

    def _size(self) -> int:
        """Side of the square that the model's processor would make, in pixels."""
        of = self.processor
        if getattr(of, "max_num_patches", None):
            return int(of.patch_size * int(of.max_num_patches**0.5))
        cuts = getattr(of, "do_center_crop", False) and getattr(of, "crop_size", None)
        size = dict(of.crop_size if cuts else of.size)
        sides = {int(value) for key, value in size.items() if key in ("height", "width", "shortest_edge") and value}
        if len(sides) != 1:
            raise T2TError(f"{self.checkpoint}: its image processor wants {size}, and frames are squares here.")
        return sides.pop()

    def _scale(self) -> tuple[float, float | None]:
        if (scale := getattr(self.model, "logit_scale", None)) is not None:
            bias = getattr(self.model, "logit_bias", None)
            return float(scale.exp()), None if bias is None else float(bias)
        return 1 / float(self.model.temperature), None

    def _length(self) -> int:
        """Tokens of a text, at most."""
        positions = int(getattr(self.model.config.text_config, "max_position_embeddings", SIGLIP_TOKENS))
        if self.whole:
            return min(SIGLIP_TOKENS, positions)
        # XLM-RoBERTa counts positions from its padding's number on.
        return min(int(self.tokenizer.model_max_length), positions - 2 if self.model_type == "altclip" else positions)

    def _text_features(self, texts: Sequence[str], width: int) -> torch.Tensor:
        return self._features(self.model.get_text_features(**self._tokens(texts, width)))

    def _image_features(self, frames: np.ndarray) -> torch.Tensor:
        return self._features(self.model.get_image_features(**self._pixels(frames)))

    def _own_logits(self, frames: np.ndarray, texts: Sequence[str]) -> torch.Tensor:
        width = max(map(self._width, texts))
        logits: torch.Tensor = self.model(**self._tokens(texts, width), **self._pixels(frames)).logits_per_image
        return logits

    def _features(self, output: Any) -> torch.Tensor:
        features: torch.Tensor = features_of(output)
        return features

    def _pixels(self, frames: np.ndarray) -> dict[str, torch.Tensor]:
        pixels = self.processor(
            images=list(frames),
            do_resize=False,
            do_center_crop=False,
            input_data_format="channels_last",
            return_tensors="pt",
        )
        return {key: value.to(self.device) for key, value in pixels.items()}
