"""Image-text dual encoders of transformers (CLIP, SigLIP and their kin): a frame encoder with a text side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from t2t.core.errors import T2TError, one_line
from t2t.data.embeddings.config import Crop, Interpolation
from t2t.data.embeddings.encoders import encoder_fingerprint, frame_blocks
from t2t.data.embeddings.hub import content_of, load_checkpoint, load_model, refuse_empty, tokenizer_content

if TYPE_CHECKING:
    import torch

# Those of AutoModelForZeroShotImageClassification that have one embedding an image and one a text, independent of one
# another. (blip-2 compares a text with 32 embeddings of an image, videoprism takes clips and has no scale of its own.)
MODEL_TYPES = frozenset(
    ["align", "altclip", "blip", "chinese_clip", "clip", "clipseg", "metaclip_2", "siglip", "siglip2", "tipsv2"]
)
SIGLIP_TOKENS = 64  # the length that SigLIP was trained with; it has no mask, so that another one is another text
PIL_BILINEAR = 2
# How far our logits may be from the model's own, in units of the logit.
TOLERANCE = 1e-3


class ImageTextModel:
    """A dual encoder on a device, in float32. As a frame encoder it gives unit vectors.

    Frames go through in blocks of one size, the last one filled up. A topic's texts go together and alone, so that its
    numbers do not depend on other topics.

    Args:
        checkpoint: a folder, or a name on the hub. crop: None for what the model's own processor does.

    Attributes:
        scale, bias: logit = scale * cosine + bias; bias is None where the model has none (CLIP).
        tokenizer_sha256: hex, of the tokenizer's content.
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
        from transformers import AutoImageProcessor, AutoModelForZeroShotImageClassification, AutoTokenizer

        self.checkpoint, self.frames, self.device = checkpoint, frames, torch.device(device)
        self.model = load_model(
            AutoModelForZeroShotImageClassification, checkpoint, revision, MODEL_TYPES, dtype=torch.float32
        ).to(self.device)
        self.tokenizer = load_checkpoint(AutoTokenizer, checkpoint, revision, "its tokenizer")
        refuse_empty(checkpoint, self.tokenizer)
        self.processor = load_checkpoint(AutoImageProcessor, checkpoint, revision, "its image processor")
        self.model_type: str = self.model.config.model_type
        self.is_siglip = "siglip" in self.model_type
        self.size = self._size()
        own_crop: Crop = "centre" if getattr(self.processor, "do_center_crop", False) else "squash"
        self.crop = crop or own_crop
        own_way = int(getattr(self.processor, "resample", None) or 3)
        self.interpolation: Interpolation = "bilinear" if own_way == PIL_BILINEAR else "bicubic"
        self.block = batch_size or (8 if self.device.type == "cpu" else 64)
        self.batch_size = max(self.block, 16)
        self.scale, self.bias = self._scale()
        self.length = self._length()
        self.vocabulary = int(getattr(self.model.config.text_config, "vocab_size", 1 << 31))
        self.tokenizer_sha256 = tokenizer_content(self.tokenizer)
        self.dim = self._check()
        self.fingerprint = encoder_fingerprint(
            {
                "kind": "image-text",
                "model_type": self.model_type,
                "weights": content_of(self.model),
                "frames": frames,
                "size": self.size,
                "crop": self.crop,
                "interpolation": self.interpolation,
                "mean": list(self.processor.image_mean or ()),
                "std": list(self.processor.image_std or ()),
                "rescale": float(getattr(self.processor, "rescale_factor", 1 / 255)),
            }
        )

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
        if self.is_siglip:
            return min(SIGLIP_TOKENS, positions)
        # XLM-RoBERTa counts positions from its padding's number on.
        return min(int(self.tokenizer.model_max_length), positions - 2 if self.model_type == "altclip" else positions)

    def _check(self) -> int:
        """The numbers of an embedding. Refuses a model whose own logits are not scale * cosine + bias."""
        import torch

        noise = np.random.default_rng(0).integers(0, 256, (1, self.size, self.size, 3), np.uint8)
        texts = ["a dog", "two people who talk"]
        try:
            with torch.inference_mode():
                own = self.model(**self._tokens(texts), **self._pixels(noise)).logits_per_image
            image = self._image(noise)
            ours = self.scale * image @ self.texts(texts).T + (self.bias or 0.0)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise T2TError(f"{self.checkpoint}: cannot be asked: {one_line(error).rstrip('.')}.") from None
        apart = float(np.abs(own.float().cpu().numpy() - ours).max())
        if not apart < TOLERANCE:
            raise T2TError(
                f"{self.checkpoint}: its own logits are not its scale times the cosine ({apart:.2g} apart): "
                "it cannot be asked topic by topic."
            )
        return int(image.shape[1])

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [N, size, size, 3] to float16 [N, dim], of length 1 (within float16's last digit)."""
        blocks = [self._whole(frames[block]) for block in frame_blocks(frames, self.block, self.size)]
        return (np.concatenate(blocks) if blocks else np.empty((0, self.dim))).astype(np.float16)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts that belong together to float32 [N, dim], of length 1. What is longer than `length` is cut off."""
        import torch

        with torch.inference_mode():
            return _units(self.model.get_text_features(**self._tokens(texts)))

    def tokens(self, text: str) -> list[int]:
        """A text's tokens, all of them."""
        return list(self.tokenizer(text)["input_ids"])

    def _whole(self, frames: np.ndarray) -> np.ndarray:
        """As `_image`; fewer frames than a block are filled up with black ones."""
        black = np.zeros((self.block - len(frames), *frames.shape[1:]), np.uint8)
        return self._image(np.concatenate([frames, black]) if len(black) else frames)[: len(frames)]

    def _image(self, frames: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return _units(self.model.get_image_features(**self._pixels(frames)))

    def _pixels(self, frames: np.ndarray) -> dict[str, torch.Tensor]:
        pixels = self.processor(
            images=list(frames),
            do_resize=False,
            do_center_crop=False,
            input_data_format="channels_last",
            return_tensors="pt",
        )
        return {key: value.to(self.device) for key, value in pixels.items()}

    def _tokens(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        padding = "max_length" if self.is_siglip else True
        tokens = self.tokenizer(
            list(texts), padding=padding, max_length=self.length, truncation=True, return_tensors="pt"
        )
        highest = int(tokens["input_ids"].max())
        if highest >= self.vocabulary:
            raise T2TError(
                f"{self.checkpoint}: its tokenizer gives token {highest:,} for {texts[0]!r}, and its model has "
                f"{self.vocabulary:,}: they are not of one checkpoint."
            )
        return {key: value.to(self.device) for key, value in tokens.items()}


def _units(output: Any) -> np.ndarray:
    """float32 [N, dim] of length 1."""
    features = getattr(output, "pooler_output", output)
    features = features.float()
    return (features / features.norm(dim=-1, keepdim=True).clamp_min(1e-12)).cpu().numpy()
