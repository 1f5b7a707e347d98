"""A vision-language model: what every way of asking it needs. It is shown pictures and a question, and writes text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256
from t2t.data.embeddings.hub import content_of, inference, load_checkpoint, load_model, refuse_empty, tokenizer_content

if TYPE_CHECKING:
    import torch

# Ends a decoded text whose last character still lacks bytes.
UNFINISHED = "\ufffd"


@dataclass(frozen=True)
class Spoken:
    """What a model wrote.

    ends: of each token, how many characters of `text` stand before its end, not decreasing. logprobs: of each token,
    natural logarithm, at most 0, with float32's digits. ended: whether the model came to an end by itself; else the
    text is cut.
    """

    text: str
    ends: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: bool


class VisionLanguageModel:
    """A model on a device, in evaluation mode and float32.

    Args:
        checkpoint: a folder, or a name on the hub. prefill: what the model's answer begins with.
    """

    def __init__(self, checkpoint: str, revision: str | None = None, *, prefill: str = "", device: str = "cpu"):
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        self.checkpoint, self.prefill = checkpoint, prefill
        self.device = torch.device(device)
        self.model = load_model(
            AutoModelForImageTextToText,
            checkpoint,
            revision,
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
            dtype=torch.float32,
        ).to(self.device)
        words = self.model.config.get_text_config()
        if self.model.config.is_encoder_decoder or getattr(words, "is_encoder_decoder", False):
            raise T2TError(
                f"{checkpoint}: {self.model.config.model_type} reads by one half and writes by another (an "
                "encoder-decoder), and cannot be asked so. Take a model that goes on with its prompt, such as SmolVLM, "
                "LLaVA or Qwen-VL."
            )
        self.longest = int(getattr(words, "max_position_embeddings", None) or 1 << 31)
        self.processor = load_checkpoint(AutoProcessor, checkpoint, revision, "its processor")
        self.tokenizer: Any = getattr(self.processor, "tokenizer", None)
        if self.tokenizer is None or not hasattr(self.processor, "image_processor"):
            raise T2TError(f"{checkpoint}: its processor cannot be loaded: it lacks a tokenizer or an image processor.")
        refuse_empty(checkpoint, self.tokenizer)
        self.media = self._placeholder()
        token = self.tokenizer.convert_tokens_to_ids(self.media)
        self.media_id = -1 if token is None else int(token)
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        self.commands = {
            self.media,
            *map(str, self.tokenizer.all_special_tokens),
            *(str(t) for t in added if t.special),
        }

    def _placeholder(self) -> str:
        """What stands for a picture in a prompt. Refuses a template that shows fewer pictures than it is given: the
        model would answer without having seen them."""
        names = [getattr(self.processor, name, None) for name in ("image_token", "boi_token")]
        known = [*(str(name) for name in names if name), "<image>"]
        self.media = known[0]
        text = self.text("?", 2)
        # (Gemma's template writes where a picture begins, and its processor the rest.)
        media = next((name for name in known if name in text), known[0])
        if (shown := text.count(media)) < 2:
            raise T2TError(
                f"{self.checkpoint}: its chat template has no place for a picture ({media}): it shows {shown} of 2."
            )
        return media

    def identity(self) -> str:
        """SHA-256 of what changes its answers: weights, tokenizer, template and preprocessing."""
        pictures = {key: value for key, value in self.processor.image_processor.to_dict().items() if key[0] != "_"}
        return sha256(
            self.model.config.model_type,
            content_of(self.model),
            tokenizer_content(self.tokenizer),
            json.dumps(getattr(self.processor, "chat_template", None)),
            json.dumps(pictures, sort_keys=True, default=str),
        )

    # -- prompts -----------------------------------------------------------------------------------------------------

    def harmless(self, topic: str) -> str:
        """A topic that holds one of the model's own commands (`<image>`, `<|im_end|>`) with a blank in it: then the
        tokenizer takes it for the text that it is."""
        for command in self.commands:
            if len(command) > 1 and command in topic:
                topic = topic.replace(command, f"{command[0]} {command[1:]}")
        return topic

    def text(self, question: str, frames: int) -> str:
        """The whole prompt, with one placeholder a frame, up to where the answer begins."""
        template = getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)
        if template:
            content = [*[{"type": "image"}] * frames, {"type": "text", "text": question}]
            # A model that thinks before it answers says neither yes nor no at first.
            plain = {"enable_thinking": False} if "enable_thinking" in str(template) else {}
            try:
                text = self.processor.apply_chat_template(
                    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False, **plain
                )
            except Exception as error:  # templates are programs of their own, and raise what they like
                raise T2TError(
                    f"{self.checkpoint}: its chat template refuses the prompt: {one_line(error).rstrip('.')}."
                ) from None
        else:
            text = self.media * frames + "\n" + question + "\n"
        return str(text) + self.prefill

    def ids(self, text: str) -> list[int]:
        """The tokens of a prompt, as it is written."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def inputs(self, text: str, frames: np.ndarray, room: int = 1) -> dict[str, torch.Tensor]:
        """What the model takes, of one prompt and its pictures, uint8 [F, height, width, 3].

        Pixels are handed over, never a path or a URL. Raises T2TError where the prompt and `room` more tokens are more
        than the model reads.
        """
        import torch

        try:
            inputs = self.processor(text=[text], images=[list(frames)], return_tensors="pt")
        except (ValueError, TypeError, IndexError, RuntimeError, KeyError) as error:
            raise T2TError(
                f"{self.checkpoint}: its processor refuses pictures: {one_line(error).rstrip('.')}."
            ) from None
        length = inputs["input_ids"].shape[1]
        if length + room > self.longest:
            raise T2TError(
                f"{self.checkpoint}: pictures and prompt are {length:,} tokens, with {room:,} for the answer, and the "
                f"model reads {self.longest:,}. Take fewer `frames`, a smaller `size` or a shorter prompt."
            )
        # (Some processors give what a training would need, too.)
        taken = {key: value for key, value in inputs.items() if isinstance(value, torch.Tensor) and key != "labels"}
        return {key: value.to(self.device) for key, value in taken.items()}

    def logits(self, text: str, frames: np.ndarray) -> torch.Tensor:
        """The next token's logits behind a prompt, float32 [vocabulary], without a cache."""

        with inference(self.model):
            return self.model(**self.inputs(text, frames), use_cache=False, logits_to_keep=1).logits[0, -1].float()

    def refuse_blind(self, size: int) -> None:
        """Raises T2TError for a model to which noise and a black picture are the same: of a family whose pictures do
        not reach it in this way, or with a part that was never trained."""
        noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
        text = self.text("What is shown?", 1)
        seen = self.logits(text, noise) - self.logits(text, np.zeros_like(noise))
        if not bool(seen.any()):
            raise T2TError(
                f"{self.checkpoint}: it does not see pictures: noise and a black one are the same to it. Take a model "
                "of another family, such as SmolVLM, LLaVA or Qwen-VL."
            )

    # -- free text ---------------------------------------------------------------------------------------------------

    def ending(self) -> list[int]:
        """The tokens by which the model ends its answer, increasing."""
        configured = self.model.generation_config.eos_token_id if self.model.generation_config else None
        every = configured if isinstance(configured, list) else [configured]
        return sorted({int(token) for token in (*every, self.tokenizer.eos_token_id) if token is not None})

    def say(self, frames: np.ndarray, question: str, most: int) -> Spoken:
        """The likeliest token after the other, `most` of them at most, with nothing of the checkpoint's own settings
        for sampling or repetition.

        Args:
            frames: uint8 [F, height, width, 3], one clip.
        """
        from transformers import GenerationConfig

        inputs = self.inputs(self.text(question, len(frames)), frames, most)
        ending = self.ending()
        pad = self.tokenizer.pad_token_id
        plain = GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=most, eos_token_id=ending or None,
            pad_token_id=(ending or [0])[0] if pad is None else pad, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        own, self.model.generation_config = self.model.generation_config, plain
        try:
            with inference(self.model):
                made = self.model.generate(**inputs, generation_config=plain)
        finally:
            self.model.generation_config = own
        tokens = made.sequences[0, made.sequences.shape[1] - len(made.logits) :].tolist()
        steps = [step[0].double() for step in made.logits]
        logprobs = [float(np.float32(z[token] - z.logsumexp(0))) for z, token in zip(steps, tokens, strict=True)]
        ended = bool(tokens) and tokens[-1] in ending
        if ended:
            tokens, logprobs = tokens[:-1], logprobs[:-1]
        texts = [self._written(tokens[: i + 1]) for i in range(len(tokens))]
        ends = accumulate((len(text.rstrip(UNFINISHED)) for text in texts), max)
        return Spoken(texts[-1] if texts else "", tuple(ends), tuple(logprobs), ended)

    def _written(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
