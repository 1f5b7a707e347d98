"""A vision-language model that is asked yes or no about topics: one prefix for all topics of a clip.

The prompt is media, instruction, topic, in this order. So media and instruction go through the model once a clip, and
only a topic's few tokens are left; the same is asked without the shared prefix where a model cannot do it.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from t2t.core.errors import T2TError, one_line
from t2t.data.embeddings.hub import inference
from t2t.teachers.vision_language import VisionLanguageModel

if TYPE_CHECKING:
    import torch

# Two topics that share no letter at their beginning: what their prompts have in common is the instruction.
PROBES = ("a dog", "zebra crossings")
# How far logits with and without a shared prefix may be apart. (Right ones differ by 1e-6 in float32, ones at wrong
# positions by 1e-2.)
TOLERANCE = 1e-3

log = logging.getLogger("t2t")


@dataclass(frozen=True)
class Prefix:
    """What a model knows of a clip and its instruction, before the topic.

    cache: keys and values. length: tokens. start: the position of the next token.
    """

    cache: Any
    length: int
    start: int


# Tokens that the width of a block of topics is a multiple of.
STEP = 8


@dataclass
class Answers:
    """Per topic: p(yes) as it counts, and the probabilities of yes and of no among all tokens; 0 to 1 each."""

    score: list[float] = field(default_factory=list)
    yes: list[float] = field(default_factory=list)
    no: list[float] = field(default_factory=list)


class YesOrNo(VisionLanguageModel):
    """A model on a device, with one question.

    Args:
        checkpoint: a folder, or a name on the hub. prompt: with {} where the topic goes, best at its end.
        yes, no: how answers may be written. prefill: what the model's answer begins with.
        normalised: p(yes) of yes and no; else of all tokens. block: topics of one forward pass.
        frames, size: what a clip is like, at most.

    Attributes:
        shared: whether one prefix serves all topics of a clip. yes, no: the first tokens of answers.
    """

    def __init__(
        self,
        checkpoint: str,
        revision: str | None,
        prompt: str,
        yes: Sequence[str],
        no: Sequence[str],
        *,
        prefill: str = "",
        normalised: bool = True,
        block: int = 32,
        frames: int = 2,
        size: int = 336,
        device: str = "cpu",
    ):

        super().__init__(checkpoint, revision, prefill=prefill, device=device)
        self.prompt, self.normalised, self.block = prompt, normalised, block
        self.yes, self.no = self._answer_tokens(yes, no), self._answer_tokens(no, yes)
        both = set(self.yes) & set(self.no)
        self.yes, self.no = sorted(set(self.yes) - both), sorted(set(self.no) - both)
        if not self.yes or not self.no:
            raise T2TError(
                f"{checkpoint}: the answers {list(yes)} and {list(no)} begin with the same tokens here, or with none "
                "of their own: take other `yes_words` and `no_words`."
            )
        first, second = (self._tail(topic, 1) for topic in PROBES)
        pairs = enumerate(zip(first, second, strict=False))
        self.instruction = first[: next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))]
        self.refuse_blind(size)
        with inference(self.model):
            self.shared = self._self_test(frames, size)

    # -- prompts -----------------------------------------------------------------------------------------------------

    def _text(self, topic: str, frames: int) -> str:
        return self.text(self.prompt.replace("{}", self.harmless(topic)), frames)

    def _tail(self, topic: str, frames: int) -> list[int]:
        """The tokens behind the last frame."""
        ids = self.ids(self._text(topic, frames))
        if self.media_id not in ids:
            raise T2TError(f"{self.checkpoint}: its chat template has no place for a picture ({self.media}).")
        return ids[len(ids) - ids[::-1].index(self.media_id) :]

    def _answer_tokens(self, own: Iterable[str], others: Iterable[str]) -> list[int]:
        """The tokens with which an answer begins, in the prompt's context, in several ways of writing it."""
        text = self._text(PROBES[0], 1)
        before = self.ids(text)
        other = [form for word in others for form in _forms(word)]
        found = []
        for word in own:
            for form in _forms(word):
                after = self.ids(text + form)
                # (The surface may melt into the prompt's last token: then what differs stands before its end.)
                at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
                if at >= len(after) or at < len(before):
                    continue
                token = after[at]
                written = str(self.tokenizer.decode([token])).strip()
                ambiguous = any(form.strip().startswith(written) for form in other)
                if token != self.tokenizer.unk_token_id and written and not ambiguous:
                    found.append(token)
        return found

    # -- answers -----------------------------------------------------------------------------------------------------

    def ask(self, frames: np.ndarray, topics: Sequence[str]) -> Answers:
        """uint8 [F, size, size, 3], one clip, to an answer for each topic."""

        with inference(self.model):
            return self._ask(frames, topics)

    def _ask(self, frames: np.ndarray, topics: Sequence[str]) -> Answers:
        answers = Answers()
        instruction = len(self.instruction)
        tails = [self._tail(topic, len(frames)) for topic in topics]
        fits = [self.shared and tail[:instruction] == self.instruction and len(tail) > instruction for tail in tails]
        logits: dict[int, torch.Tensor] = {}
        numbers = [number for number, fit in enumerate(fits) if fit]
        if numbers:
            prefix = self._prefix(frames)
            for start in range(0, len(numbers), self.block):
                chosen = numbers[start : start + self.block]
                suffixes = [tails[number][instruction:] for number in chosen]
                logits |= dict(zip(chosen, self._with_prefix(prefix, suffixes), strict=True))
        for number, topic in enumerate(topics):
            if number not in logits:
                logits[number] = self._plainly(frames, topic)
            score, yes, no = self._score(logits[number])
            answers.score.append(score)
            answers.yes.append(yes)
            answers.no.append(no)
        return answers

    def _score(self, logits: torch.Tensor) -> tuple[float, float, float]:
        z = logits.double()
        yes, no, every = z[self.yes].logsumexp(0), z[self.no].logsumexp(0), z.logsumexp(0)
        p_yes, p_no = (float((of - every).exp().clamp(0, 1)) for of in (yes, no))
        return float((yes - no).sigmoid()) if self.normalised else p_yes, p_yes, p_no

    def _plainly(self, frames: np.ndarray, topic: str) -> torch.Tensor:
        """The next token's logits, float32 [vocabulary], everything anew."""
        return self.logits(self._text(topic, len(frames)), frames)

    def _prefix(self, frames: np.ndarray) -> Prefix:
        inputs = self.inputs(self._text(PROBES[0], len(frames)), frames)
        ids, tail = inputs["input_ids"], self._tail(PROBES[0], len(frames))
        if ids[0, -len(tail) :].tolist() != tail:
            raise ValueError("the processor writes text behind the pictures in its own way")
        length = ids.shape[1] - len(tail) + len(self.instruction)
        inputs = {key: value[:, :length] if value.shape == ids.shape else value for key, value in inputs.items()}
        start = self._start(inputs, length)
        cache = self.model(**inputs, use_cache=True, logits_to_keep=1).past_key_values
        return Prefix(cache, length, start)

    def _start(self, inputs: dict[str, torch.Tensor], length: int) -> int:
        """The position behind the prefix: its length, or, where pictures have positions in time, height and width,
        one more than the last text token has on all three."""
        index = getattr(getattr(self.model, "model", None), "get_rope_index", None)
        if index is None:
            return length
        takes = inspect.signature(index).parameters
        positions, _ = index(**{key: value for key, value in inputs.items() if key in takes})
        return int(positions[..., -1].max()) + 1

    def _with_prefix(self, prefix: Prefix, suffixes: Sequence[list[int]]) -> list[torch.Tensor]:
        """The next token's logits behind each suffix, float32 [vocabulary] each. The block is always filled up, and as
        wide as the next multiple of STEP tokens, so that its shape, and the rounding that comes of it, seldom depends
        on which topics are asked."""
        import torch

        rows, longest = self.block, max(map(len, suffixes))
        if prefix.length + longest >= self.longest:
            raise T2TError(
                f"{self.checkpoint}: a prompt is {prefix.length + longest:,} tokens with its longest topic, and the "
                f"model reads {self.longest:,}. Take fewer `frames`, a smaller `size` or a shorter prompt."
            )
        wide = -(-longest // STEP) * STEP
        longest = wide if prefix.length + wide < self.longest else longest
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.full((rows, longest), pad, dtype=torch.long, device=self.device)
        mask = torch.ones((rows, prefix.length + longest), dtype=torch.long, device=self.device)
        for row in range(rows):
            suffix = suffixes[min(row, len(suffixes) - 1)]
            ids[row, : len(suffix)] = torch.tensor(suffix, device=self.device)
            mask[row, prefix.length + len(suffix) :] = 0
        positions = (prefix.start + torch.arange(longest, device=self.device)).expand(rows, -1)
        if hasattr(getattr(self.model, "model", None), "get_rope_index"):
            positions = positions.expand(3, rows, -1)
        cache = copy.deepcopy(prefix.cache)
        cache.batch_repeat_interleave(rows)
        logits = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits
        return [logits[row, len(suffix) - 1].float() for row, suffix in enumerate(suffixes)]

    def _self_test(self, frames: int, size: int) -> bool:
        """Whether answers with a shared prefix are those without one, tried on noise, as long as clips are: models that
        attend to a window only differ in long prompts."""
        noise = np.random.default_rng(0).integers(0, 256, (frames, size, size, 3), np.uint8)
        plain = [self._plainly(noise, topic) for topic in PROBES]
        try:
            suffixes = [self._tail(topic, len(noise))[len(self.instruction) :] for topic in PROBES]
            cached = self._with_prefix(self._prefix(noise), suffixes)
            apart = max(float((a - b).abs().max()) for a, b in zip(plain, cached, strict=True))
            fault = "" if apart < TOLERANCE else f"logits are {apart:.2g} apart"
        except Exception as error:  # whatever a family of models does not do
            fault = one_line(error, 200)
        if fault:
            log.warning("%s: no prefix is shared between topics (%s): asking is slower.", self.checkpoint, fault)
        return not fault


def _forms(word: str) -> list[str]:
    cases = dict.fromkeys([word, word.lower(), word.capitalize(), word.upper()])
    return [before + case for case in cases for before in ("", " ", "\n")]
