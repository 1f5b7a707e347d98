"""The demo's vision-language model: a FastVLM of transformers' own classes, trained to answer questions about clips.

It looks through the eyes of the image-text model, as most such models do: that one's convolutions are taken over as
they are. What is trained is a little Llama behind them, by the next token: Yes or No behind each question. It is given
several frames, but in so short a training it learns colours and shapes; of motion hardly more than that the shape is
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from t2t.core.progress import progress
from t2t.data.demo.image_text import CONVOLUTIONS
from t2t.data.demo.language import (
    IMAGE,
    SPECIAL,
    Clips,
    batches,
    evenly,
    mirrors,
    picture_processor,
    pixels,
    simple_sayings,
    train_tokenizer,
)
from t2t.data.demo.world import SIDE, all_topics
from t2t.data.embeddings.hub import quiet

# What the registry's entry says as well.
PROMPT = "Is it to be seen? {}"
VLM_FRAMES = 3
# One user, no roles: pictures, then the question. The answer follows.
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)
CELL = 16  # pixels on a side for which there is one token
WIDE = 1280  # numbers behind the convolutions, fixed by transformers' EfficientNet
HIDDEN = 96
BATCH = 16
RATE = 3e-3
SPREAD = 0.1  # of the first weights


@dataclass
class Questions:
    """All questions about a clip as one sequence: its pictures and the instruction once, then each topic, which sees
    these and itself only.

    ids, positions: int64 [tokens]. mask: float32 [tokens, tokens], 0 or the least number. ends: int64 [questions],
    each one's last token, behind which the answer stands.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    ends: torch.Tensor


def train_vlm(folder: Path, clips: Clips, image_text: Any, steps: int, seed: int) -> None:
    """Trains and saves it: model and processor, as save_pretrained writes them.

    Args:
        image_text: the trained model whose convolutions it takes over.
    """
    # Questions of one word come along: without them it finds no beginning.
    texts = [*all_topics(), *simple_sayings()]
    processor = _processor(texts)
    torch.manual_seed(seed)
    model = _fresh(len(processor.tokenizer), image_text)
    questions = _questions(processor, texts)
    yes, no = (processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No"))
    answers, flips = torch.where(clips.truth(texts), yes, no), mirrors(texts)
    frames = clips.frames[:, evenly(VLM_FRAMES)]
    generator = torch.Generator().manual_seed(seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, RATE, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.15)
    model.train()
    model.model.vision_tower.embeddings.eval()
    model.model.vision_tower.encoder.blocks.eval()
    with progress("Training the vision-language model", steps, "steps") as advance:
        for step, chosen in enumerate(batches(len(clips.things), BATCH, steps, generator)):
            shown, answer = frames[chosen], answers[chosen]
            for number, mirror in enumerate(flips):
                if step >> number & 1:
                    shown, answer = shown.flip(mirror.axis + 1), answer[:, mirror.order]
            logits = _answer(model, shown, questions)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), answer.flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            advance(1, f"loss {loss.item():.3f}")
    model.eval()
    with quiet():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)


def _answer(model: Any, frames: torch.Tensor, questions: Questions) -> torch.Tensor:
    """uint8 [clips, frames, side, side, 3] to the next token's logits, float32 [clips, questions, vocabulary]."""
    clips = len(frames)
    hidden = model.model(
        input_ids=questions.ids.expand(clips, -1),
        pixel_values=pixels(frames).flatten(0, 1),
        attention_mask=questions.mask.expand(clips, 1, -1, -1),
        position_ids=questions.positions.expand(clips, -1),
        use_cache=False,
    ).last_hidden_state
    return torch.as_tensor(model.lm_head(hidden[:, questions.ends]))


def _questions(processor: Any, texts: Sequence[str]) -> Questions:
    content = [*[{"type": "image"}] * VLM_FRAMES, {"type": "text", "text": PROMPT}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    before, after = prompt.replace(IMAGE, IMAGE * (SIDE // CELL) ** 2).split("{}")
    whole = [processor.tokenizer(before + text + after, add_special_tokens=False)["input_ids"] for text in texts]
    columns = enumerate(zip(*whole, strict=False))
    shared = next(i for i, column in columns if len(set(column)) > 1)
    topics = [torch.tensor(ids[shared:]) for ids in whole]
    lengths = torch.tensor([len(ids) for ids in topics])
    # 0 is the beginning, which all see.
    number = torch.cat(
        [torch.zeros(shared, dtype=torch.long), torch.arange(1, len(texts) + 1).repeat_interleave(lengths)]
    )
    order = torch.arange(len(number))
    sees = (order <= order[:, None]) & ((number == 0) | (number == number[:, None]))
    return Questions(
        torch.cat([torch.tensor(whole[0][:shared]), *topics]),
        torch.cat([torch.arange(shared), *(shared + torch.arange(len(ids)) for ids in topics)]),
        torch.where(sees, 0.0, torch.finfo(torch.float32).min),
        shared + lengths.cumsum(0) - 1,
    )


def _processor(texts: Sequence[str]) -> Any:
    sentences = [f"{PROMPT.replace('{}', text)} {word}" for text in texts for word in ("Yes", "No")]
    _, tokenizer = train_tokenizer(sentences, False, extra_special_tokens={"image_token": IMAGE})
    return transformers.LlavaProcessor(
        picture_processor(),
        tokenizer,
        patch_size=CELL,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    )


def _fresh(words: int, image_text: Any) -> Any:
    """A model with random weights behind the image-text model's convolutions, which stay as they are."""
    text = transformers.LlamaConfig(
        vocab_size=words,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        **{f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos"))},
    )
    # ALIGN's picture side is an EfficientNet without the last layer, which stands in front of what is trained here.
    vision = transformers.EfficientNetConfig(hidden_dim=WIDE, drop_connect_rate=0.0, dropout_rate=0.0, **CONVOLUTIONS)
    vision.hidden_size = WIDE
    model = transformers.FastVlmForConditionalGeneration(
        transformers.FastVlmConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=SPECIAL.index(IMAGE),
            image_seq_length=(SIDE // CELL) ** 2,
        )
    )
    tower = model.model.vision_tower
    tower.load_state_dict(image_text.vision_model.state_dict(), strict=False)
    tower.embeddings.requires_grad_(False)
    tower.encoder.blocks.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "vision_tower" not in name:
            torch.nn.init.normal_(parameter, 0, 0.02 if "lm_head" in name else SPREAD)
    return model
