"""Kind `distilled`: what `t2t distill` made of several encoders, as a frame encoder of campaigns."""

from __future__ import annotations

import numpy as np

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import DistilledConfig, TimmModelConfig
from t2t.data.embeddings.distilled import check_weights, find_encoder
from t2t.data.embeddings.encoders import encoder_fingerprint
from t2t.data.embeddings.timm_model import LARGEST, TimmModel


class DistilledEncoder:
    """Pooled features of a distilled network: of a ViT its class token behind the last norm, [N, dim] float16.

    Raises T2TError where it is not here, damaged, or another one than the configuration's fingerprint says.
    """

    def __init__(self, config: DistilledConfig, device: str = "cpu"):
        self.config = config
        folder, card = find_encoder(config)
        weights = check_weights(folder, card)
        model = TimmModelConfig(
            model=card.model,
            weights=str(weights),
            pretrained=False,
            model_kwargs=card.model_kwargs,
            mean=card.mean,
            std=card.std,
            size=card.size,
            crop=card.crop,
            interpolation=card.interpolation,
            frames=config.frames,
            batch_size=config.batch_size,
        )
        self.model = TimmModel(model, num_classes=0, device=device)
        self.frames, self.size, self.crop = config.frames, self.model.size, card.crop
        self.interpolation, self.batch_size = self.model.interpolation, self.model.batch_size
        self.dim = self.model.outputs
        if self.dim != card.dim:
            raise T2TError(f"{folder}: gives {self.dim} numbers a frame, and not {card.dim} as when it was made.")
        self.fingerprint = encoder_fingerprint(
            {"kind": config.kind, "encoder": card.fingerprint, "frames": config.frames}
        )

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [N, size, size, 3] to float16 [N, dim]."""
        return np.clip(self.model(frames), -LARGEST, LARGEST).astype(np.float16)
