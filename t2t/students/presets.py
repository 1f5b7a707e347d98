"""Students of the paper's sizes by name, and pretrained text encoders as far as they are known before they are read.

Nothing here needs torch: a campaign that would fail for want of a folder, the hub or memory is refused at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2t.core.errors import T2TError
from t2t.data.embeddings.hub import HUB_NAME, from_hub

# What a name stands for, in plain keys; those that are given beside it go before.
PRESETS: dict[str, dict[str, Any]] = {
    "student-150m": {
        "members": 1,
        "sample": {"layers": 6, "d_model": 768, "heads": 12, "d_ff": 2048},
        "text": {"pretrained": "google/t5-v1_1-base"},
    },
    "student-300m": {
        "members": 1,
        "sample": {"layers": 0, "d_model": 1024},
        "text": {"pretrained": "google/t5-v1_1-large"},
    },
}
KEY = "student.text.pretrained"
# Bytes of a safetensors file's header.
MOST_HEADER = 100_000_000


@dataclass(frozen=True)
class EncoderShape:
    """A text encoder's size.

    numbers: all of its weights. words: rows of its table of tokens. width, layers, heads, d_ff: of the layers.
    """

    numbers: int
    words: int
    width: int
    layers: int
    heads: int
    d_ff: int


def t5_numbers(words: int, width: int, layers: int, heads: int, head: int, d_ff: int) -> int:
    """Weights of a T5 encoder whose feed-forward part is gated, exactly. Args: head: numbers of an attention head."""
    layer = 4 * width * heads * head + 3 * width * d_ff + 2 * width
    return words * width + layers * layer + (32 * heads if layers else 0) + width


def _t5(words: int, width: int, layers: int, heads: int, d_ff: int) -> EncoderShape:
    return EncoderShape(t5_numbers(words, width, layers, heads, 64, d_ff), words, width, layers, heads, d_ff)


# By their configurations on the hub, so that a plan can tell of them before they are fetched.
KNOWN = {
    "google/t5-v1_1-small": _t5(32128, 512, 8, 6, 1024),
    "google/t5-v1_1-base": _t5(32128, 768, 12, 12, 2048),
    "google/t5-v1_1-large": _t5(32128, 1024, 24, 16, 2816),
    "google/mt5-small": _t5(250112, 512, 8, 6, 1024),
    "google/mt5-base": _t5(250112, 768, 12, 12, 2048),
    "google/mt5-large": _t5(250112, 1024, 24, 16, 2816),
}


def expanded(given: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's keys, and before them those that are given."""
    merged = dict(preset)
    for key, value in given.items():
        inner = merged.get(key)
        merged[key] = expanded(value, inner) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return merged


def check_pretrained(source: str) -> None:
    """Raises T2TError where a text encoder is neither a folder with what it needs, nor to be had from the hub."""
    folder, fault = Path(source), ""
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            fault = "it has no config.json; save_pretrained writes one."
        elif not any(folder.glob("*.safetensors")):
            fault = "it has no safetensors; save_pretrained writes them."
            if any(folder.glob("*.bin")):
                fault = "it has no safetensors. Its weights are pickled (.bin); save them as safetensors."
    elif folder.is_absolute() or not HUB_NAME.fullmatch(source):
        fault = "no such folder. Give one as save_pretrained writes it, or a name on the hub."
    else:
        try:
            from_hub(source, None)
        except T2TError as error:
            fault = str(error).removeprefix(f"{source}: ")
    if fault:
        raise T2TError(f"{KEY}: {source!r} cannot be read: {fault}")


def encoder_shape(source: str) -> EncoderShape | None:
    """The size of a text encoder by its folder or its name; None where it is not known before it is fetched."""
    folder = Path(source)
    if not folder.is_dir():
        return KNOWN.get(source)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

        def number(*names: str) -> int:
            return int(next(config[name] for name in names if config.get(name)))

        words, width = number("vocab_size"), number("d_model", "hidden_size")
        layers, heads = number("num_layers", "num_hidden_layers"), number("num_heads", "num_attention_heads")
        d_ff = number("d_ff", "intermediate_size")
        numbers = sum(_weights(file) for file in sorted(folder.glob("*.safetensors")))
    except (OSError, ValueError, TypeError, AttributeError, StopIteration):
        return None
    return EncoderShape(numbers, words, width, layers, heads, d_ff)


def _weights(file: Path) -> int:
    """Numbers of a safetensors file, without those of a decoder, by its header."""
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > MOST_HEADER:
            raise ValueError("no safetensors header")
        header = json.loads(opened.read(length))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__" and not name.startswith(("decoder.", "lm_head.")):
            size = 1
            for side in tensor["shape"]:
                size *= int(side)
            total += size
    return total
