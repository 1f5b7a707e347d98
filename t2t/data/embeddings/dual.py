"""What all dual encoders share, whoever's library they are of: one embedding a picture (or clip) and one a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256
from t2t.data.embeddings.config import Crop, Interpolation
from t2t.data.embeddings.encoders import frame_blocks
from t2t.data.embeddings.hub import inference, load_checkpoint, refuse_empty, tokenizer_content

if TYPE_CHECKING:
    import torch

# Texts go through a model so many together, each as long as the next multiple of so many tokens.
BLOCK, STEP = 16, 8
FILLER = "a photo"
PROBES = ("a dog", "two people who talk")
# Raised whenever the same text would get other numbers.
TEXT_VERSION = 1
# How far our logits may be from the model's own, in units of the logit.
TOLERANCE = 1e-3
# Pillow's numbers for ways of scaling.
PIL_BILINEAR, PIL_BICUBIC = 2, 3


class DualEncoder(ABC):
    """A dual encoder on a device, in float32. (`pairwise.XClipModel` is a half of one: its texts still meet the clip.)

    As a frame encoder it has all that one has. Frames, and texts, go through in blocks of one shape, filled up, so that
    the numbers of one do not depend on which others are asked. Whether that holds on this machine is tried for each
    shape of texts; where it does not, they go one by one.

    Attributes:
        scale, bias: logit = scale * dot + bias; bias is None where the model has none (CLIP), scale where it has none
            of its own (VideoPrism).
        unit: whether embeddings have length 1, so that `dot` is a cosine.
        length: tokens of a text, at most. whole: whether texts are always padded to that length.
        identity: hex, of the tensors and the model type; with the preprocessing it makes up `fingerprint`.
        tokenizer_sha256: hex, of the tokenizer's content.
    """

    checkpoint: str
    model_type: str
    model: Any
    device: torch.device
    scale: float | None
    bias: float | None = None
    unit = True
    lowercase = False
    length: int
    whole = False
    frames: int
    size: int
    crop: Crop
    interpolation: Interpolation
    block: int
    batch_size: int
    dim: int
    identity: str
    fingerprint: str
    tokenizer_sha256: str

    # -- what a family fills in --------------------------------------------------------------------------------------

    @abstractmethod
    def tokens(self, text: str) -> list[int]:
        """A text's tokens, all of them."""

    @abstractmethod
    def knows(self, text: str) -> bool:
        """Whether the tokenizer has a word of this text."""

    @abstractmethod
    def _text_features(self, texts: Sequence[str], width: int) -> torch.Tensor:
        """[N, dim] of texts that are padded to `width` tokens, or cut off there."""

    @abstractmethod
    def _image_features(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 [N, size, size, 3] to [N, dim]; of a model of clips to [1, dim]."""

    @abstractmethod
    def _own_logits(self, frames: np.ndarray, texts: Sequence[str]) -> torch.Tensor:
        """What the model itself makes of one picture, or clip, and some texts: [1, N]."""

    # -- what is asked -----------------------------------------------------------------------------------------------

    @property
    def text_fingerprint(self) -> str:
        """Of all that a text's numbers depend on beside the text: names the folder where they are kept."""
        return sha256("texts", str(TEXT_VERSION), self.identity, self.tokenizer_sha256, str(self.length))

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [N, size, size, 3] to float16 [N, dim]."""
        blocks = [self._filled(frames[block]) for block in frame_blocks(frames, self.block, self.size)]
        return (np.concatenate(blocks) if blocks else np.empty((0, self.dim))).astype(np.float16)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [N, dim]; each text has the numbers that it has alone. What is longer than `length` is cut off."""
        out = np.empty((len(texts), self.dim), np.float32)
        widths = np.array([self._width(text) for text in texts], dtype=np.int64)
        for width in np.unique(widths).tolist():
            rows, step = np.flatnonzero(widths == width), self._step(width)
            for start in range(0, len(rows), step):
                chosen = rows[start : start + step]
                block = [*(texts[row] for row in chosen), *[FILLER] * (step - len(chosen))]
                out[chosen] = self._text_block(block, width)[: len(chosen)]
        return out

    # -- how ---------------------------------------------------------------------------------------------------------

    def _width(self, text: str) -> int:
        count = len(self.tokens(text))
        return self.length if self.whole else min(-(-count // STEP) * STEP, self.length)

    def _step(self, width: int) -> int:
        """Texts of this width that go together: a block where a text's numbers, bit for bit, depend neither on its
        place in it nor on the others, and else one."""
        tried: dict[int, int] = self.__dict__.setdefault("_steps", {})
        if width not in tried:
            one, other = PROBES
            first = self._text_block([one, *[FILLER] * (BLOCK - 1)], width)[0]
            last = self._text_block([*[other] * (BLOCK - 1), one], width)[-1]
            tried[width] = BLOCK if first.tobytes() == last.tobytes() else 1
        return tried[width]

    def _text_block(self, texts: Sequence[str], width: int) -> np.ndarray:

        with inference(self.model):
            return self._numbers(self._text_features(texts, width))

    def _filled(self, frames: np.ndarray) -> np.ndarray:
        """As `_images`; fewer frames than a block are filled up with black ones."""
        black = np.zeros((self.block - len(frames), *frames.shape[1:]), np.uint8)
        return self._images(np.concatenate([frames, black]) if len(black) else frames)[: len(frames)]

    def _images(self, frames: np.ndarray) -> np.ndarray:

        with inference(self.model):
            return self._numbers(self._image_features(frames))

    def _numbers(self, features: torch.Tensor) -> np.ndarray:
        """float32 [N, dim], of length 1 where the model compares cosines."""
        features = features.float()
        if self.unit:
            features = features / features.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return np.asarray(features.cpu().numpy())

    def _check(self, frames: int = 1) -> int:
        """The numbers of an embedding. Refuses a model whose own logits are not scale * dot + bias."""

        noise = np.random.default_rng(0).integers(0, 256, (frames, self.size, self.size, 3), np.uint8)
        try:
            with inference(self.model):
                own = self._own_logits(noise, PROBES).float().cpu().numpy()
            image = self._images(noise)
            width = max(map(self._width, PROBES))
            ours = self._our_logits(image, self._text_block(PROBES, width))
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise T2TError(f"{self.checkpoint}: cannot be asked: {one_line(error).rstrip('.')}.") from None
        apart = float(np.abs(own - ours).max())
        if not apart < TOLERANCE:
            raise T2TError(
                f"{self.checkpoint}: its own logits are not its scale times the cosine ({apart:.2g} apart): "
                "it cannot be asked topic by topic."
            )
        return int(image.shape[1])

    def _our_logits(self, image: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """[1, N] of one picture's numbers, or one clip's, and those of N texts."""
        return (1.0 if self.scale is None else self.scale) * image @ texts.T + (self.bias or 0.0)

    def _refuse_tokens(self, highest: int, vocabulary: int, text: str) -> None:
        if highest >= vocabulary:
            raise T2TError(
                f"{self.checkpoint}: its tokenizer gives token {highest:,} for {text!r}, and its model has "
                f"{vocabulary:,}: they are not of one checkpoint."
            )


class TransformersEncoder(DualEncoder):
    """One of transformers, with the tokenizer and the processor that are saved beside it."""

    tokenizer: Any
    processor: Any
    vocabulary: int

    def _open(self, processor: Any, revision: str | None, crop: Crop | None) -> None:
        """Tokenizer and processor, and how the latter makes squares of frames. Args: crop: the entry's own wish."""
        from transformers import AutoTokenizer

        self.tokenizer = load_checkpoint(AutoTokenizer, self.checkpoint, revision, "its tokenizer")
        refuse_empty(self.checkpoint, self.tokenizer)
        self.processor = load_checkpoint(processor, self.checkpoint, revision, "its image or video processor")
        self.tokenizer_sha256 = tokenizer_content(self.tokenizer)
        own_crop: Crop = "centre" if getattr(self.processor, "do_center_crop", False) else "squash"
        self.crop = crop or own_crop
        own_way = int(getattr(self.processor, "resample", None) or PIL_BICUBIC)
        self.interpolation = "bilinear" if own_way == PIL_BILINEAR else "bicubic"

    def _seen(self) -> dict[str, Any]:
        """What of frames, and how, the model sees: a part of its fingerprint."""
        of = self.processor
        off = [step for step in ("do_normalize", "do_rescale") if getattr(of, step, True) is False]
        return {
            **({"off": off} if off else {}),
            "model_type": self.model_type,
            "weights": self.identity,
            "frames": self.frames,
            "size": self.size,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "mean": list(getattr(of, "image_mean", None) or ()),
            "std": list(getattr(of, "image_std", None) or ()),
            "rescale": float(getattr(of, "rescale_factor", None) or 1 / 255),
        }

    def tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, verbose=False)["input_ids"])  # what is too long is cut later

    def knows(self, text: str) -> bool:
        unknown = self.tokenizer.unk_token_id
        tokens = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return any(token != unknown for token in tokens)

    def _tokens(self, texts: Sequence[str], width: int) -> dict[str, torch.Tensor]:
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=width, truncation=True, return_tensors="pt"
        )
        self._refuse_tokens(int(tokens["input_ids"].max()), self.vocabulary, texts[0])
        return {key: value.to(self.device) for key, value in tokens.items()}


def features_of(output: Any) -> Any:
    """The tensor that transformers calls pooled, or what is one already."""
    return getattr(output, "pooler_output", output)
