"""What a student's towers are made of: T5 encoders from scratch, pretrained text encoders, an identity's start."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from t2t.core.errors import T2TError, one_line
from t2t.data.embeddings.hub import from_hub
from t2t.students.config import TowerConfig
from t2t.students.plain import PlainTower
from t2t.students.presets import check_pretrained
from t2t.students.tokenizers import read_tokenizer

# transformers takes seconds to import, and a campaign is read by commands that build no student: it comes when one is.
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, T5Config


def text_encoder_of(config: Mapping[str, Any]) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForTextEncoding

    config = dict(config)
    return AutoModelForTextEncoding.from_config(AutoConfig.for_model(config.pop("model_type"), **config))


def pretrained(source: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """A text encoder and its tokenizer; in float32, for half precision would lose small steps of training.

    Its weights must be safetensors: the older `pytorch_model.bin` is a pickle, and opening one can run what it holds.
    For the same reason the code that a folder brings is never run.
    """
    from transformers import AutoModelForTextEncoding

    check_pretrained(source)
    try:
        where = {"local_files_only": True} if Path(source).is_dir() else from_hub(source, None)
        tokenizer = read_tokenizer(source, **where)
        encoder, loading = AutoModelForTextEncoding.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **where,
        )
    except Exception as error:  # The parsers raise whatever a broken file leads them to.
        pickled = any(Path(source).glob("*.bin")) and not any(Path(source).glob("*.safetensors"))
        hint = " Its weights are pickled (.bin); save them as safetensors." if pickled else ""
        raise T2TError(
            f"student.text.pretrained: {source!r} cannot be read: {one_line(error).rstrip('.')}.{hint}"
        ) from None
    # A pooler reads the hidden states, and is not used here; anything else would be random weights.
    missing = sorted(key for key in loading["missing_keys"] if "pooler" not in key)
    if missing:
        raise T2TError(
            f"student.text.pretrained: {source!r} lacks {len(missing)} of the encoder's weights "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})."
        )
    return tokenizer, encoder


def from_scratch(tower: TowerConfig, vocab_size: int) -> Any:
    """A T5 encoder with weights that are drawn; of one without layers transformers need not be imported."""
    if not tower.layers:
        return PlainTower(tower, vocab_size)
    from transformers import T5EncoderModel

    return T5EncoderModel(t5(tower, vocab_size))


def t5(tower: TowerConfig, vocab_size: int) -> T5Config:
    """A T5 encoder's configuration for a tower of this size."""
    from transformers import T5Config

    return T5Config(
        vocab_size=vocab_size,
        d_model=tower.d_model,
        d_kv=max(tower.d_model // tower.heads, 1),
        d_ff=tower.d_ff,
        # The tokenizer has its own end token; 0 is in every vocabulary, also in the sample tower's, which has none.
        eos_token_id=0,
        num_layers=tower.layers,
        num_heads=tower.heads,
        dropout_rate=tower.dropout,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )


def fuse(model: nn.Module) -> None:
    """T5's activation as one kernel instead of eight: on two cores a text tower trains 1.3 times as fast."""
    for module in model.modules():
        if type(getattr(module, "act", None)).__name__ == "NewGELUActivation":
            module.act = nn.GELU(approximate="tanh")


def mean_over(hidden: Tensor, mask: Tensor) -> Tensor:
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def identity_start(teacher: str, width: int, std: float) -> Tensor:
    """An identity's first embedding, drawn from its own name, so that adding a teacher changes no other's."""
    seed = int.from_bytes(hashlib.sha256(teacher.encode()).digest()[:8], "big") % 2**63
    return torch.randn(width, generator=torch.Generator().manual_seed(seed)) * std
