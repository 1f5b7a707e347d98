"""Embeddings of short texts, to find the topic that is nearest to what a model named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256
from t2t.data.embeddings.hub import content_of, inference, load_checkpoint, load_model, refuse_empty, tokenizer_content
from t2t.data.embeddings.image_text import MODEL_TYPES, ImageTextModel


class TextEncoder:
    """The text side of an image-text model (CLIP, SigLIP), or a text encoder (BERT, T5 and their kin), whose last
    hidden states are averaged over the tokens; in float32.

    Args:
        checkpoint: a folder as save_pretrained writes it, or a name on the hub.

    Attributes:
        fingerprint: SHA-256 of weights and tokenizer.
    """

    def __init__(self, checkpoint: str, revision: str | None = None, device: str = "cpu"):
        import torch
        from transformers import AutoConfig, AutoModelForTextEncoding, AutoTokenizer
        from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

        self.checkpoint, self.device = checkpoint, torch.device(device)
        self._image_text: ImageTextModel | None = None
        if load_checkpoint(AutoConfig, checkpoint, revision, "its configuration").model_type in MODEL_TYPES:
            self._image_text = ImageTextModel(checkpoint, revision, device=device)
            self.tokenizer, self.model = self._image_text.tokenizer, self._image_text.model
        else:
            self.tokenizer = load_checkpoint(AutoTokenizer, checkpoint, revision, "its tokenizer")
            refuse_empty(checkpoint, self.tokenizer)
            known = [*MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES, *MODEL_TYPES]
            self.model = load_model(
                AutoModelForTextEncoding, checkpoint, revision, known, unused="pooler", dtype=torch.float32
            ).to(self.device)
        self.fingerprint = sha256(content_of(self.model), tokenizer_content(self.tokenizer))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float64 [N, dim] of length 1, each text by itself; zeros for one of which the tokenizer knows no word, so
        that it is near to nothing."""
        rows = [self._embed(text) for text in texts]
        return np.stack([row * self._knows(text) for row, text in zip(rows, texts, strict=True)])

    def _knows(self, text: str) -> bool:
        tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return any(token != self.tokenizer.unk_token_id for token in tokens)

    def _embed(self, text: str) -> np.ndarray:

        if self._image_text is not None:
            return self._image_text.texts([text])[0].astype(np.float64)
        limit = min(int(self.tokenizer.model_max_length), 512)
        tokens = self.tokenizer([text], truncation=True, max_length=limit, return_tensors="pt").to(self.device)
        try:
            with inference(self.model):
                hidden = self.model(**tokens).last_hidden_state[0].double().mean(0).cpu().numpy()
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise T2TError(f"{self.checkpoint}: cannot be asked: {one_line(error).rstrip('.')}.") from None
        return np.asarray(hidden / max(float(np.linalg.norm(hidden)), 1e-12))
