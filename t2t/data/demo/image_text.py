"""The demo's image-text model: an ALIGN of transformers' own classes, trained on frames and captions of other clips.

ALIGN is CLIP with a convolutional picture side, which learns shapes from few pictures where a transformer does not. It
sees one frame: of a caption's motion it learns only that the shape must be there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import processors

from t2t.core.progress import progress
from t2t.data.demo.language import BEGIN, END, SPECIAL, Clips, batches, mirrors, picture_processor, pixels
from t2t.data.demo.language import train_tokenizer as _train_tokenizer
from t2t.data.demo.world import FRAMES, SIDE
from t2t.data.embeddings.hub import quiet

# What the registry's entry says as well.
TEMPLATE = "a picture of {}."
LENGTH = 16
DIM = 96
BATCH = 64
RATE = 4e-3
# Of the first weights of the text side: with the usual 0.02 all texts begin as the same one, and stay so for long.
SPREAD = 0.15
CONVOLUTIONS = {
    "kernel_sizes": [3, 5, 5, 3],
    "in_channels": [32, 24, 32, 64],
    "out_channels": [24, 32, 64, DIM],
    "strides": [2, 1, 2, 2],
    "num_block_repeats": [1, 1, 1, 1],
    "expand_ratios": [2, 2, 2, 2],
    "depthwise_padding": [],
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "image_size": SIDE,
    "batch_norm_momentum": 0.1,
}


def train_image_text(folder: Path, clips: Clips, steps: int, seed: int) -> Any:
    """Trains and saves it: model, tokenizer and image processor, as save_pretrained writes them.

    Returns: the model, in evaluation mode.
    """
    texts = clips.texts
    tokenizer = _tokenizer(texts)
    torch.manual_seed(seed)
    model = _fresh(len(tokenizer))
    # An ALIGN has none, so that it is not saved: in its place the registry's entry gives the share of true topics.
    bias = torch.nn.Parameter(torch.tensor(-5.0))
    tokens, truth, flips = _tokens(tokenizer, texts), clips.truth(texts).float(), mirrors(texts)[:2]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW([*model.parameters(), bias], RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.15)
    model.train()
    with progress("Training the image-text model", steps, "steps") as advance:
        for step, chosen in enumerate(batches(len(clips.things), BATCH, steps, generator)):
            frames = clips.frames[chosen, torch.randint(FRAMES, (len(chosen),), generator=generator)]
            true = truth[chosen]
            for number, mirror in enumerate(flips):
                if step >> number & 1:
                    frames, true = frames.flip(mirror.axis), true[:, mirror.order]
            # The captions of this batch's clips, each once; a caption is often true of several clips.
            said = true.any(dim=0)
            asked = tokens[said]
            logits = model(asked, pixels(frames), attention_mask=(asked != 0).long()).logits_per_image + bias
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, true[:, said], reduction="none")
            loss = loss.sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            advance(1, f"loss {loss.item():.2f}")
    model.eval()
    with quiet():
        for part in (model, tokenizer, picture_processor()):
            part.save_pretrained(folder)
    return model


def _tokenizer(texts: list[str]) -> Any:
    sentences = [TEMPLATE.replace("{}", text) for text in texts]
    rules, tokenizer = _train_tokenizer(sentences, True, model_max_length=LENGTH)
    rules.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(name, SPECIAL.index(name)) for name in (BEGIN, END)]
    )
    tokenizer.backend_tokenizer.post_processor = rules.post_processor
    return tokenizer


def _tokens(tokenizer: Any, texts: tuple[str, ...] | list[str]) -> torch.Tensor:
    """int64 [texts, LENGTH], filled up by 0."""
    sentences = [TEMPLATE.replace("{}", text) for text in texts]
    found = tokenizer(sentences, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    return torch.as_tensor(found["input_ids"])


def _fresh(words: int) -> Any:
    text = transformers.AlignTextConfig(
        vocab_size=words,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        type_vocab_size=1,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index(BEGIN),
        eos_token_id=SPECIAL.index(END),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=SPREAD,
    )
    vision = transformers.AlignVisionConfig(hidden_dim=DIM, drop_connect_rate=0.0, **CONVOLUTIONS)
    return transformers.AlignModel(
        transformers.AlignConfig(
            text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=DIM, temperature_init_value=0.1
        )
    )
