"""What the demo's two teachers that read have in common: captions, truths, mirrors and a tokenizer made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from t2t.data.demo.teachers import own_clips
from t2t.data.demo.world import COLOURS, DIRECTIONS, FRAMES, SHAPES, Thing

PAD, BEGIN, END, IMAGE = "<pad>", "<s>", "</s>", "<image>"
SPECIAL = (PAD, BEGIN, END, IMAGE)
# Both models see pixels from -1 to 1; their saved image processors say so.
MEAN = STD = 0.5
VOCABULARY = 400

# What says something of a thing, and whether it is true.
Saying = Callable[[Thing], bool]


def captions(thing: Thing) -> list[str]:
    """What may be said of a thing, in the words of topics and in one that has them all."""
    said = sorted(thing.topics)
    if thing.motion in DIRECTIONS:
        said.append(f"{thing.colour} {thing.shape} moving {thing.motion}")
    elif thing.motion == "spinning":
        said.append(f"a spinning {thing.colour} {thing.shape}")
    return said


def simple_sayings() -> dict[str, Saying]:
    """Sayings of one word each: who learns compositions begins by these."""
    colours = {f"something {name}": lambda thing, name=name: thing.colour == name for name in COLOURS}
    shapes = {f"a {name}": lambda thing, name=name: thing.shape == name for name in SHAPES}
    motions = {f"something moving {name}": lambda thing, name=name: thing.motion == name for name in DIRECTIONS}
    return colours | shapes | motions | {"something spinning": lambda thing: thing.motion == "spinning"}


@dataclass
class Clips:
    """Clips of their own for the teachers that read, on grounds that no campaign's clip has.

    frames: uint8 [clips, FRAMES, side, side, 3]. things: what is in each.
    """

    frames: torch.Tensor
    things: list[list[Thing]]

    @classmethod
    def draw(cls, clips: int, seed: int) -> Clips:
        frames, things = own_clips(clips, seed)
        return cls(torch.from_numpy(np.stack(frames)), things)

    def truth(self, texts: Sequence[str]) -> torch.Tensor:
        """Whether each text is true of each clip: bool [clips, texts]."""
        simple = simple_sayings()
        rows = []
        for things in self.things:
            said = {text for thing in things for text in captions(thing)}
            said |= {text for text, holds in simple.items() if any(map(holds, things))}
            rows.append([text in said for text in texts])
        return torch.tensor(rows)

    @cached_property
    def texts(self) -> list[str]:
        """The captions of all clips, each once."""
        return sorted({text for things in self.things for thing in things for text in captions(thing)})


@dataclass
class Mirror:
    """Clips in a mirror are as true, where their captions say so: left is right then.

    axis: of the picture, 1 (up and down) or 2 (left and right), or 0 for time. order: int64 [texts], where each text
    of the mirrored clip stands among those of the clip.
    """

    axis: int
    order: torch.Tensor


def mirrors(texts: Sequence[str]) -> list[Mirror]:
    """Left and right, up and down, and time. Texts whose mirrored form is none of them are left as they are."""
    place = {text: number for number, text in enumerate(texts)}

    def order(*pairs: tuple[str, str]) -> torch.Tensor:
        change = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
        mirrored = (" ".join(change.get(word, word) for word in text.split()) for text in texts)
        return torch.tensor([place.get(text, number) for number, text in enumerate(mirrored)])

    across, upright = ("left", "right"), ("up", "down")
    return [Mirror(2, order(across)), Mirror(1, order(upright)), Mirror(0, order(across, upright))]


def pixels(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [..., side, side, 3] to float32 [..., 3, side, side], as the models see them."""
    return (frames.movedim(-1, -3).float() / 255 - MEAN) / STD


def batches(clips: int, size: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """`steps` times the numbers of `size` clips, all clips in turn, in an order drawn anew each time."""
    waiting = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(clips, generator=generator)])
        chosen, waiting = waiting[:size], waiting[size:]
        yield chosen


def train_tokenizer(texts: Sequence[str], before_word: bool, **options: Any) -> tuple[Tokenizer, Any]:
    """Byte-level BPE, as CLIP's and Llama's: what it never saw falls into letters, and nothing is unknown.

    Returns: the rules, and transformers' tokenizer around them.
    """
    rules = Tokenizer(BPE())
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=before_word)
    rules.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    rules.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=letters, show_progress=False
        ),
    )
    rules.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return rules, transformers.PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token=PAD, bos_token=BEGIN, eos_token=END, **options
    )


def picture_processor() -> Any:
    """How both models' pictures are made ready: squares of 64 pixels, numbers from -1 to 1."""
    side = {"height": 64, "width": 64}
    return transformers.CLIPImageProcessor(
        size=side, do_center_crop=False, image_mean=[MEAN] * 3, image_std=[STD] * 3, do_convert_rgb=False
    )


def evenly(frames: int) -> list[int]:
    """The numbers of a clip's frames at the centres of `frames` equal parts, as t2t's decoder picks them."""
    return [int((i + 0.5) * FRAMES / frames) for i in range(frames)]
