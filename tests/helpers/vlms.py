"""Tiny vision-language checkpoints, of transformers' own classes from small configurations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

SIDE = 32
TEXT = (
    "Look at these pictures, which are frames of one video. Answer with Yes or No only. Do they give visual evidence "
    "of the following? a dog zebra crossings red green blue square yes no YES NO primary focus"
)
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<image>", "<|vision_start|>", "<|vision_end|>", "<video>"]
TEMPLATE = (
    "{% for m in messages %}user: {% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def tokenizer(style: str = "bytes") -> Any:
    """Trained here: byte-level BPE, unigram with a mark for blanks, or WordPiece."""
    texts = [TEXT] * 20
    special = [AddedToken(token, special=True) for token in SPECIAL]
    if style == "bytes":
        rules = Tokenizer(models.BPE())
        rules.pre_tokenizer, rules.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        rules.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=420, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
            ),
        )
    elif style == "unigram":
        rules = Tokenizer(models.Unigram())
        rules.pre_tokenizer, rules.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        rules.train_from_iterator(
            texts, trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>")
        )
    else:
        rules = Tokenizer(models.WordPiece(unk_token="<unk>"))
        rules.pre_tokenizer, rules.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        rules.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL))
    rules.add_special_tokens(special)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens={"image_token": "<image>", "video_token": "<video>"},
    )  # fmt: skip


def llava(words: Any) -> tuple[Any, Any]:
    text = hf.LlamaConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    vision = hf.CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8
    )
    model = hf.LlavaForConditionalGeneration(
        hf.LlavaConfig(vision_config=vision, text_config=text, image_token_index=SPECIAL.index("<image>"))
    )
    pictures = hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = hf.LlavaProcessor(
        pictures, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )  # fmt: skip
    return model, processor


def qwen(words: Any) -> tuple[Any, Any]:
    ids = {name: SPECIAL.index(token) for name, token in {
        "image_token_id": "<image>", "video_token_id": "<video>", "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>"}.items()}  # fmt: skip
    text = {
        "vocab_size": len(words), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64,
        "patch_size": 4, "spatial_merge_size": 2, "window_size": 16, "fullatt_block_indexes": [1],
    }  # fmt: skip
    model = hf.Qwen2_5_VLForConditionalGeneration(hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids))
    pictures = hf.Qwen2VLImageProcessor(patch_size=4, merge_size=2, min_pixels=64, max_pixels=SIDE * SIDE)
    videos = hf.Qwen2VLVideoProcessor(patch_size=4, merge_size=2, min_pixels=64, max_pixels=SIDE * SIDE)
    processor = hf.Qwen2_5_VLProcessor(
        pictures, words, videos,
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|><image><|vision_end|>"),
    )  # fmt: skip
    return model, processor


def smol(words: Any) -> tuple[Any, Any]:
    """SmolVLM, with the processor of Idefics3 (its own does the same to pictures, and needs the package num2words)."""
    text = hf.LlamaConfig(
        vocab_size=len(words) + 80, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": SIDE, "patch_size": 8}  # fmt: skip
    processor = hf.Idefics3Processor(
        hf.Idefics3ImageProcessor(
            size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
        ),
        words, image_seq_len=4, chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )  # fmt: skip
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    model = hf.SmolVLMForConditionalGeneration(
        hf.SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, image_token_id=image, pad_token_id=0)
    )
    return model, processor


def gemma(words: Any) -> tuple[Any, Any]:
    """Gemma 3: its template writes where a picture begins; every other layer looks back on eight tokens only."""
    words = hf.PreTrainedTokenizerFast(
        tokenizer_object=words.backend_tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>",
        eos_token="</s>", extra_special_tokens={
            "image_token": "<image>", "boi_token": "<|vision_start|>", "eoi_token": "<|vision_end|>",
        },
    )  # fmt: skip
    text = {
        "vocab_size": len(words), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "bos_token_id": 2,
        "eos_token_id": 3, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": SIDE, "patch_size": 8}  # fmt: skip
    begin, end = SPECIAL.index("<|vision_start|>"), SPECIAL.index("<|vision_end|>")
    model = hf.Gemma3ForConditionalGeneration(
        hf.Gemma3Config(
            text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=SPECIAL.index("<image>"),
            boi_token_index=begin, eoi_token_index=end,
        )
    )  # fmt: skip
    # (It begins as zeros, so that nothing would be seen.)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, 0, 0.3)
    pictures = hf.Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}, image_seq_length=4)
    template = TEMPLATE.replace("IMAGE", "<|vision_start|>")
    return model, hf.Gemma3Processor(pictures, words, image_seq_length=4, chat_template=template)


def paligemma(words: Any) -> tuple[Any, Any]:
    """Every token of its prompt sees every other one, so that no prefix is the same for two topics."""
    pictures = hf.SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    pictures.image_seq_length = 16
    processor = hf.PaliGemmaProcessor(pictures, words)  # adds more than a thousand tokens, for places and masks
    text = {
        "vocab_size": len(processor.tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "bos_token_id": 2,
        "eos_token_id": 3, "model_type": "gemma",
    }  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": SIDE, "patch_size": 8, "model_type": "siglip_vision_model"}  # fmt: skip
    model = hf.PaliGemmaForConditionalGeneration(
        hf.PaliGemmaConfig(
            vision_config=vision, text_config=text, image_token_index=SPECIAL.index("<image>"), projection_dim=64,
            hidden_size=64, pad_token_id=0,
        )
    )  # fmt: skip
    return model, processor


def blip2(words: Any) -> tuple[Any, Any]:
    """An encoder-decoder: BLIP-2 with a T5."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = hf.Blip2Config(
        vision_config={**shape, "image_size": SIDE, "patch_size": 8},
        qformer_config={**shape, "encoder_hidden_size": 32},
        text_config={
            "model_type": "t5", "vocab_size": len(words), "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1,
            "num_heads": 2, "decoder_start_token_id": 0,
        },
        num_query_tokens=4,
    )  # fmt: skip
    pictures = hf.BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    return hf.Blip2ForConditionalGeneration(config), hf.Blip2Processor(pictures, words)


# Those that share a prefix, and others.
FAMILIES = {"llava": llava, "qwen": qwen, "smol": smol, "gemma": gemma}
OTHERS = {"paligemma": paligemma, "blip2": blip2}


def tiny(family: str, folder: Path | None, style: str = "bytes", seed: int = 0) -> tuple[Any, Any]:
    """A model with random weights and its processor; saved, where a folder is given."""
    torch.manual_seed(seed)
    model, processor = (FAMILIES | OTHERS)[family](tokenizer(style))
    if folder is not None:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return model.eval(), processor


COLOURS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}


def coloured(generator: np.random.Generator, colour: str) -> np.ndarray:
    """uint8 [SIDE, SIDE, 3], a noisy frame of one colour."""
    noise = generator.integers(-20, 20, (SIDE, SIDE, 3))
    return np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)


NAMES = {"red": "red square", "green": "a green square", "blue": "blue square"}
WHAT, WHICH = "what", "which"


def taught(folder: Path, more: Mapping[str, Mapping[str, str]] = MappingProxyType({})) -> Path:
    """Saves a LLaVA that was trained until it answers three kinds of questions about one of three colours, in some
    seconds: a colour's name by yes or no, WHAT by the name of what is shown, WHICH by two names, one a line.

    Args:
        more: further questions, each with its answer to each colour.
    """
    fixed = {WHAT: NAMES, WHICH: {shown: f"{name}\nzebra" for shown, name in NAMES.items()}, **more}
    torch.manual_seed(0)
    words = tokenizer()
    model, processor = llava(words)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, 0, 0.12)
    generator = np.random.default_rng(0)
    texts, frames, answers = [], [], []
    for shown in COLOURS:
        for asked in [*COLOURS, *fixed]:
            content = [{"type": "image"}, {"type": "text", "text": asked}]
            prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            answer = fixed[asked][shown] if asked in fixed else "yes" if shown == asked else "no"
            for _ in range(3):
                texts.append(prompt)
                frames.append(coloured(generator, shown))
                answers.append([*words.encode(answer, add_special_tokens=False), words.eos_token_id])
    batch = processor(text=texts, images=frames, return_tensors="pt", padding=True, padding_side="left")
    longest, start = max(map(len, answers)), batch["input_ids"].shape[1]
    goal = torch.tensor([answer + [-100] * (longest - len(answer)) for answer in answers])
    batch["input_ids"] = torch.cat([batch["input_ids"], goal.clamp_min(0)], dim=1)
    batch["attention_mask"] = torch.cat([batch["attention_mask"], torch.ones_like(goal)], dim=1)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(150):
        logits = model(**batch).logits[:, start - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), goal.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if loss.item() < 0.01:
            break
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
