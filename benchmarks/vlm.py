"""Asking a vision-language model yes or no about topics: one prefix for all topics of a clip, and each topic anew.

A tiny LLaVA with random weights (a CLIP of 4 layers, a Llama of 6), 4 frames of 64 tokens each: what is measured is the
work, not the answers. Asking anew takes as long for each topic, so that of 1,000 topics 100 are timed.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Measured, Result, interleave
from t2t.teachers.kinds.vlm import CLOSED_PRESETS
from t2t.teachers.yes_or_no import YesOrNo

TOPICS, TIMED, SIDE, FRAMES = (10, 100, 1000), 100, 64, 4
SHARED, ANEW = "t2t, one prefix", "each topic anew"
SPECIAL = ["<pad>", "</s>", "<image>"]
TEMPLATE = (
    "{% for m in messages %}user: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}assistant:"
)


def run(full: bool) -> Result:
    result = Result(
        name="vlm", title="A vision-language model asked about topics", axis="topics", unit="labels/s",
        targets={f"{ANEW}, {TIMED} topics": 10},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        _tiny(Path(folder))
        model = YesOrNo(folder, None, CLOSED_PRESETS["visual-evidence"], ["yes"], ["no"], frames=FRAMES, size=SIDE)
        if not model.shared:
            raise RuntimeError("the prefix of the model is not shared, so that there is nothing to compare")
        clip = np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)
        apart = 0.0
        for size in TOPICS:
            topics = [f"{('red', 'green', 'blue')[i % 3]} square {i}" for i in range(size)]
            few = topics[:TIMED]
            sides = {SHARED: partial(_ask, model, clip, topics, True), ANEW: partial(_ask, model, clip, few, False)}
            # (Twice 100 topics are what 1,000 are scaled from.)
            seconds = interleave(sides, runs=3 if full or size == TOPICS[0] else 1, warm=size == TOPICS[0])
            times = size / len(few)
            result.measured += [
                Measured(side=SHARED, size=size, amount=size, seconds=seconds[SHARED]),
                Measured(
                    side=ANEW, size=size, amount=size, seconds=[times * each for each in seconds[ANEW]],
                    scaled_from=None if size == len(few) else len(few),
                ),
            ]  # fmt: skip
            name = f"{ANEW}, {size} topics"
            result.ratios[name] = result.at(ANEW, size).median / result.at(SHARED, size).median
            apart = max(
                apart, *map(abs, np.subtract(_ask(model, clip, few[:10], True), _ask(model, clip, few[:10], False)))
            )
    result.figures["the same confidences, within"] = f"{apart:.1g}"
    return result


def _ask(model: YesOrNo, clip: np.ndarray, topics: list[str], shared: bool) -> list[float]:
    model.shared = shared
    return model.ask(clip, topics).score


def _tiny(folder: Path) -> None:
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    rules = Tokenizer(models.BPE())
    rules.pre_tokenizer, rules.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    rules.train_from_iterator(
        [*CLOSED_PRESETS.values(), "red green blue square yes no YES NO"] * 20,
        trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet),
    )
    words: Any = hf.PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token="<pad>", eos_token="</s>", extra_special_tokens={"image_token": "<image>"}
    )
    text = hf.LlamaConfig(
        vocab_size=len(words), hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    vision = hf.CLIPVisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, image_size=SIDE,
        patch_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    hf.LlavaForConditionalGeneration(
        hf.LlavaConfig(vision_config=vision, text_config=text, image_token_index=SPECIAL.index("<image>"))
    ).save_pretrained(folder)
    pictures = hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    hf.LlavaProcessor(
        pictures, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip
