"""X-CLIP of transformers, whose embedding of a text depends on the clip that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import Crop
from t2t.data.embeddings.dual import TransformersEncoder, features_of
from t2t.data.embeddings.encoders import encoder_fingerprint
from t2t.data.embeddings.hub import content_of, inference, load_model

if TYPE_CHECKING:
    import torch

XCLIP = "xclip"


class XClipModel(TransformersEncoder):
    """What of each side does not depend on the other is made once and kept: of a clip its embedding and its patches,
    averaged over frames; of a text its features. `meet` does the rest for each pair: a small attention from the text to
    the patches.

    Args:
        checkpoint: a folder, or a name on the hub. frames: None for as many as the model was made for.
    """

    unit = False  # texts get their length of 1 when they have met a clip

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
        from transformers import AutoImageProcessor, AutoModel

        self.checkpoint, self.device, self.model_type = checkpoint, torch.device(device), XCLIP
        self.model = load_model(AutoModel, checkpoint, revision, [XCLIP], dtype=torch.float32).to(self.device)
        self._open(AutoImageProcessor, revision, crop)
        self.tokenizer.padding_side = "right"
        vision, text = self.model.config.vision_config, self.model.config.text_config
        self.frames = int(vision.num_frames)
        if frames not in (None, self.frames):
            raise T2TError(
                f"{checkpoint}: {XCLIP} was made for {self.frames} frames a clip, and `frames` says {frames}. Leave it "
                "out."
            )
        self.size = int(vision.image_size)
        self.block = self.batch_size = 1
        self.scale = float(self.model.logit_scale.exp())
        self.length = min(int(self.tokenizer.model_max_length), int(text.max_position_embeddings))
        self.vocabulary = int(text.vocab_size)
        # In float64, so that how many texts meet a clip at once does not move a float32.
        self.generator = deepcopy(self.model.prompts_generator).double()
        self.dim = self._check(self.frames)
        self.identity = content_of(self.model)
        self.fingerprint = encoder_fingerprint({"kind": "pairwise", **self._seen()})

    def encode_clip(self, frames: np.ndarray) -> np.ndarray:
        """A clip's frames, uint8 [F, size, size, 3], to float16 [1 + patches, dim]: its embedding, then its patches. Of
        a shorter clip than the model wants some frames are repeated."""
        if len(frames) != self.frames:
            frames = frames[((np.arange(self.frames) + 0.5) * len(frames) / self.frames).astype(np.int64)]
        return self._images(frames).astype(np.float16)

    def meet(self, clip: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Cosines of one clip with some topics, float64 [T].

        Args:
            clip: as `encode_clip` gives it.
            texts: float [T, K, dim], the features of each topic's K sentences; their embeddings are averaged.
        """
        import torch

        topics, sentences, dim = texts.shape
        with inference(self.model):
            image = torch.from_numpy(clip.astype(np.float64)).to(self.device)
            flat = torch.from_numpy(texts.astype(np.float64)).to(self.device).reshape(1, topics * sentences, dim)
            met = flat + self.generator(flat, image[1:][None])
            mean = _units(met).reshape(topics, sentences, dim).mean(dim=1)
            return np.asarray((_units(mean) @ _units(image[:1])[0]).cpu().numpy())

    def _text_features(self, texts: Sequence[str], width: int) -> torch.Tensor:
        features: torch.Tensor = features_of(self.model.get_text_features(**self._tokens(texts, width)))
        return features

    def _image_features(self, frames: np.ndarray) -> torch.Tensor:
        import torch

        model, pixels = self.model, self._pixels(frames)
        seen = model.vision_model(pixel_values=pixels[0])
        clip = model.mit(model.visual_projection(seen.pooler_output)[None]).pooler_output
        patches = model.prompts_visual_layernorm(seen.last_hidden_state[:, 1:]) @ model.prompts_visual_projection
        return torch.cat([clip, patches.mean(dim=0)])

    def _own_logits(self, frames: np.ndarray, texts: Sequence[str]) -> torch.Tensor:
        tokens = self._tokens(texts, max(map(self._width, texts)))
        logits: torch.Tensor = self.model(**tokens, pixel_values=self._pixels(frames)).logits_per_video
        return logits

    def _our_logits(self, image: np.ndarray, texts: np.ndarray) -> np.ndarray:
        assert self.scale is not None
        return self.scale * self.meet(image, texts[:, None])[None]

    def _pixels(self, frames: np.ndarray) -> torch.Tensor:
        options = {"do_resize": False, "do_center_crop": False, "input_data_format": "channels_last"}
        pixels: torch.Tensor = self.processor(list(frames), **options, return_tensors="pt")["pixel_values"]
        return (pixels if pixels.ndim == 5 else pixels[None]).to(self.device)


def _units(values: torch.Tensor) -> torch.Tensor:
    return values / values.norm(dim=-1, keepdim=True).clamp_min(1e-12)
