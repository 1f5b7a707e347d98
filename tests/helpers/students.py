"""A student small enough to be built and trained in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from t2t.data.embeddings.store import Embeddings
from t2t.students import build_student
from t2t.students.config import DualEncoderConfig
from t2t.students.dual_encoder import Student
from t2t.students.text import fit_tokenizer

TOWER = {"layers": 1, "d_model": 16, "heads": 2, "d_ff": 16}
TOPICS = ("red ball", "blue box", "a red box", "dancing in the rain")
TEACHERS = ("human", "colour", "shape")
DIM = 6


def tiny_config(text: dict[str, Any] | None = None, **changes: Any) -> DualEncoderConfig:
    fields: dict[str, Any] = {"dim": 8, "sample": TOWER, "text": {**TOWER, **(text or {})}, **changes}
    return DualEncoderConfig.model_validate(fields)


def tiny_student(
    config: DualEncoderConfig | None = None,
    teachers: Sequence[str] = TEACHERS,
    topics: Sequence[str] = TOPICS,
    seed: int = 0,
) -> Student:
    """A tiny student in evaluation mode, with statistics in its frontend that are not the neutral ones."""
    student = build_student(config or tiny_config(), DIM, topics, teachers, seed)
    with torch.no_grad():
        student.frontend.mean.fill_(0.2)
        student.frontend.std.fill_(1.5)
    return student.eval()


def random_clips(counts: Sequence[int], dim: int = DIM, seed: int = 0) -> Embeddings:
    """Embeddings of clips with so many frames each."""
    generator = np.random.default_rng(seed)
    return Embeddings.of([generator.standard_normal((count, dim)).astype(np.float16) for count in counts])


def pretrained_folder(folder: Path, kind: str, dtype: torch.dtype = torch.float32) -> Path:
    """A tiny text encoder as a hub would hand it out, with a tokenizer of its kind."""
    torch.manual_seed(1)
    tokenizer = fit_tokenizer(TOPICS)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    if kind == "bert":
        # BERT's tokenizers have no end token but a separator.
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>", sep_token="</s>", unk_token="<unk>"
        )
        model = transformers.BertModel(transformers.BertConfig(vocab_size=len(tokenizer), **sizes))
    else:
        # T5's embedding tables are longer than its vocabularies, and its checkpoints hold a decoder.
        config = transformers.T5Config(
            vocab_size=len(tokenizer) + 12, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
        )
        model = transformers.T5Model(config)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
