"""Video-text dual encoders of transformers, VideoPrism and PE-Video: one embedding a clip, and one a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import Crop
from t2t.data.embeddings.dual import TransformersEncoder, features_of
from t2t.data.embeddings.encoders import encoder_fingerprint
from t2t.data.embeddings.hub import configuration, content_of, load_model
from t2t.data.embeddings.image_text import SIGLIP_TOKENS

if TYPE_CHECKING:
    import torch

PE_VIDEO = "pe_video"
VIDEO_TYPES = frozenset([PE_VIDEO, "videoprism"])
# Texts are names of topics in a sentence, whatever ModernBERT could read.
PE_TOKENS = 256
PE_FRAMES = 8


class VideoTextModel(TransformersEncoder):
    """A dual encoder of clips, of transformers.

    VideoPrism takes as many frames as it was made for; of a shorter clip, or an image, some frames are repeated. It has
    no scale of its own. PE-Video takes any number of frames, and its embeddings have no length of 1.

    Args:
        checkpoint: a folder, or a name on the hub. frames: None for as many as the model was made for. crop: None for
            what the model's own processor does.
    """

    def __init__(
        self,
        checkpoint: str,
        revision: str | None = None,
        frames: int | None = None,
        crop: Crop | None = None,
        batch_size: int | None = None,
        device: str = "cpu",
    ):
        import torch
        from transformers import AutoModel, AutoModelForZeroShotImageClassification, AutoVideoProcessor

        self.checkpoint, self.device = checkpoint, torch.device(device)
        self.model_type = str(configuration(checkpoint, revision).model_type)
        self.is_pe = self.model_type == PE_VIDEO
        loader = AutoModel if self.is_pe else AutoModelForZeroShotImageClassification
        self.model = load_model(loader, checkpoint, revision, VIDEO_TYPES, dtype=torch.float32).to(self.device)
        self._open(AutoVideoProcessor, revision, crop)
        self.frames = self._frames(frames)
        self.size = self._size()
        self.block = self.batch_size = 1
        text = self.model.config.text_config
        self.vocabulary = int(text.vocab_size)
        self.unit, self.whole = not self.is_pe, not self.is_pe
        self.scale, self.bias = self._scale()
        positions = int(text.max_position_embeddings)
        most = min(PE_TOKENS, int(self.tokenizer.model_max_length)) if self.is_pe else SIGLIP_TOKENS
        self.length = min(most, positions)
        self.dim = self._check(self.frames)
        self.identity = content_of(self.model)
        self.fingerprint = encoder_fingerprint({"kind": "video-text", **self._seen()})

    def _frames(self, wanted: int | None) -> int:
        own = None if self.is_pe else int(self.model.config.vision_config.num_frames)
        if own is not None and wanted not in (None, own):
            raise T2TError(
                f"{self.checkpoint}: {self.model_type} was made for {own} frames a clip, and `frames` says {wanted}. "
                "Leave it out."
            )
        return own or wanted or PE_FRAMES

    def _size(self) -> int:
        of = self.processor
        cuts = getattr(of, "do_center_crop", False) and getattr(of, "crop_size", None)
        size = dict((of.crop_size if cuts else of.size) or {})
        sides = {int(value) for key, value in size.items() if key in ("height", "width", "shortest_edge") and value}
        if len(sides) != 1:
            raise T2TError(f"{self.checkpoint}: its video processor wants {size}, and frames are squares here.")
        return sides.pop()

    def _scale(self) -> tuple[float | None, float | None]:
        if not self.is_pe:
            return None, None
        return float(self.model.text_video_logit_scale), float(self.model.text_video_logit_bias)

    def encode_clip(self, frames: np.ndarray) -> np.ndarray:
        """A clip's frames, uint8 [F, size, size, 3], to float16 [1, dim]."""
        if len(frames) != self.frames and not self.is_pe:
            frames = frames[((np.arange(self.frames) + 0.5) * len(frames) / self.frames).astype(np.int64)]
        return self._images(frames).astype(np.float16)

    def _text_features(self, texts: Sequence[str], width: int) -> torch.Tensor:
        tokens, model = self._tokens(texts, width), self.model
        if not self.is_pe:
            return self._features(model.get_text_features(**tokens))
        # (Its own get_text_features is no method of it in transformers 5.23; this is what its forward does.)
        hidden = model.text_model(**tokens, output_hidden_states=True).hidden_states[-1][:, 0]
        return self._features(model.text_video_head(hidden))

    def _image_features(self, frames: np.ndarray) -> torch.Tensor:
        pixels, model = self._pixels(frames), self.model
        if not self.is_pe:
            return self._features(model.get_video_features(**pixels)).reshape(1, -1)
        return self._features(model.video_head(model.video_encoder(**pixels).pooler_output))

    def _own_logits(self, frames: np.ndarray, texts: Sequence[str]) -> torch.Tensor:
        own = self.model(**self._tokens(texts, max(map(self._width, texts))), **self._pixels(frames))
        # VideoPrism's logits are shares among the clips of a batch: what they are made of is compared.
        logits: torch.Tensor = own.logits_video_text if self.is_pe else own.video_embeds @ own.text_embeds.T
        return logits

    def _features(self, output: Any) -> torch.Tensor:
        features: torch.Tensor = features_of(output)
        return features

    def _pixels(self, frames: np.ndarray) -> dict[str, torch.Tensor]:
        import torch

        clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        pixels = self.processor(
            videos=[clip], do_resize=False, do_center_crop=False, do_sample_frames=False, return_tensors="pt"
        )
        return {"pixel_values_videos": pixels["pixel_values_videos"].to(self.device)}

    def _tokens(self, texts: Sequence[str], width: int) -> dict[str, torch.Tensor]:
        tokens = super()._tokens(texts, width)
        return {key: tokens[key] for key in ("input_ids", "attention_mask") if key in tokens}
