"""The dual-encoder student (paper, section 3.2): a sample tower and a text tower that meet in one small space.

The teacher's identity goes into the text tower only, so a sample's embedding does not depend on the teacher: one
encoded video serves all its rows, and scoring N videos on M topics is a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from t2t.core.errors import T2TError, nearest
from t2t.data.labels import HUMAN
from t2t.data.scales import Scale
from t2t.students.base import known_pairs
from t2t.students.config import DualEncoderConfig
from t2t.students.frontend import Frontend
from t2t.students.rows import PAIRS_A_ROW, cosines, in_blocks
from t2t.students.sizes import first_numbers, logits_by_size, scale_and_bias, sizes_start
from t2t.students.start import copy_weights
from t2t.students.text import TopicTokens
from t2t.students.towers import from_scratch, fuse, identity_start, mean_over
from t2t.students.unseen import put_together

# transformers takes seconds to import, and a campaign is read by commands that build no student: it comes when one is.
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from t2t.data.embeddings.store import Embeddings
    from t2t.data.pairs import Pairs

# Samples, texts and pairs that are scored at once.
ENCODE_BLOCK, TEXT_BLOCK, PAIR_BLOCK = 1024, 1 << 14, 1 << 16


class Student(nn.Module):
    """Scores (sample, topic, identity) rows: sigmoid(scale x cosine + bias).

    The identity tokens' embeddings are a table of their own beside the text encoder's: a new teacher adds a row to it
    and leaves the encoder and the other rows as they are, and a frozen encoder still learns its identities.

    Args:
        input_dim: size of a frame embedding.
        tokenizer: as `tokenizer_for` makes it: with an identity token for every teacher, in the order of `teachers`.
        text_encoder: a pretrained one; None builds a T5 encoder from scratch.
    """

    def __init__(
        self,
        config: DualEncoderConfig,
        input_dim: int,
        tokenizer: PreTrainedTokenizerBase,
        teachers: Sequence[str],
        text_encoder: PreTrainedModel | None = None,
    ):
        super().__init__()
        self.config = config
        self.input_dim = input_dim
        # Compute a block again in the backward pass, instead of keeping what is in it: `TrainingConfig.recompute`.
        self.recompute = False
        # One of `config.matryoshka`, whose embeddings and scores are given (`t2t.students.sizes`); None: the whole.
        self.size: int | None = None
        self.tokenizer = tokenizer
        self.teachers = list(teachers)
        # Of identities that speak on a scale of their own; what is learned lies on the common one.
        self.scales: dict[str, Scale] = {}
        # What it was trained on, where a tower knows what other topics mean; and that tower's vectors of them.
        self.trained_topics: Sequence[str] = ()
        self._trained_words: Tensor | None = None
        self.words = len(tokenizer) - len(self.teachers)
        self.frontend = Frontend(config.frontend, input_dim)
        self.project = nn.Linear(self.frontend.out_dim, config.sample.d_model)
        self.sample_encoder = from_scratch(config.sample, vocab_size=1)
        self.sample_head = nn.Linear(config.sample.d_model, config.dim)
        self.text_encoder: PreTrainedModel = text_encoder or from_scratch(config.text, self.words)
        width = int(self.text_encoder.config.hidden_size)
        if config.text.head == "none" and width != config.dim:
            raise T2TError(
                f"student.text.head: none needs student.dim: {width}, the text tower's size, not {config.dim}."
            )
        self.text_head = nn.Identity() if config.text.head == "none" else nn.Linear(width, config.dim)
        self.gated = config.text.identity == "gate"
        # As a token an identity is a word's embedding; as a gate, a factor (less 1) and a shift in the common space.
        width = 2 * config.dim if self.gated else width
        self.identity = nn.Embedding(len(self.teachers), width)
        self.scale = nn.Parameter(torch.tensor(config.scale).log())
        self.bias = nn.Parameter(torch.tensor(config.bias or 0.0))
        self.of_sizes = sizes_start(self.scale, self.bias, config.matryoshka)
        for row, teacher in zip(self.identity.weight.data, self.teachers, strict=True):
            row.copy_(identity_start(teacher, width, config.text.identity_std))
        if config.text.freeze:
            self.text_encoder.requires_grad_(False)
        fuse(self)

    @property
    def device(self) -> torch.device:
        return self.bias.device

    @property
    def members(self) -> Sequence[Student]:
        """What is trained, each with a loss of its own; of a single student itself."""
        return (self,)

    @property
    def width(self) -> int:
        """Size of the embeddings."""
        return self.size or self.config.dim

    @property
    def vocabulary(self) -> frozenset[str] | None:
        """The topics that can be asked; None where any text can."""
        return None

    def topic_tokens(self, topics: Sequence[str]) -> TopicTokens:
        """Topics as its tokenizer has them."""
        return TopicTokens(self.tokenizer, topics, self.config.text.max_tokens)

    @property
    def reads_once(self) -> bool:
        """Whether a topic's words are the same in every step: the tower is not trained, and no identity enters it."""
        return self.gated and not any(p.requires_grad for p in self.text_encoder.parameters())

    def train(self, mode: bool = True) -> Student:
        """A tower that reads once has no dropout either."""
        super().train(mode)
        if self.reads_once:
            self.text_encoder.eval()
        return self

    def encode_samples(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Sample embeddings of unit length.

        Args:
            frames: float [V, F, input_dim], frame embeddings, zero where the mask is false.
            mask: bool [V, F].

        Returns: float [V, dim].
        """
        return self.encode_prepared(self.frontend(frames, mask), mask)

    def encode_prepared(self, prepared: Tensor, mask: Tensor) -> Tensor:
        """`encode_samples` of what the frontend has made of the frames already: float [V, F, frontend.out_dim]."""
        return self._in_blocks(self._encode_frames, prepared, mask)

    def _encode_frames(self, prepared: Tensor, mask: Tensor) -> Tensor:
        x = self.project(prepared)
        hidden = self.sample_encoder(inputs_embeds=x, attention_mask=mask.long()).last_hidden_state
        return first_numbers(F.normalize(self.sample_head(mean_over(hidden, mask)).float(), dim=-1), self.size)

    def texts(self, tokens: TopicTokens, topic: np.ndarray, teacher: np.ndarray) -> tuple[np.ndarray, ...]:
        """What `encode_texts` takes for (teacher, topic) texts; where identities are gates a topic is there once.

        Args:
            topic: int64 [U], indices of topics. teacher: int64 [U], positions in `teachers`.

        Returns: ids int64 [D, L] and mask bool [D, L]; and of gates also row int64 [U] and teacher int64 [U].
        """
        if not self.gated:
            return tokens.texts(topic, self.words + teacher)
        used, row = np.unique(topic, return_inverse=True)
        return (*tokens.plain(used), row, teacher)

    def encode_texts(
        self, ids: Tensor, mask: Tensor, row: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """Text embeddings of unit length, float [U, dim].

        Args:
            ids: int64 [D, L]; the first of each row is an identity token, unless identities are gates. Or, of topics
                that were encoded before, what `encode_words` gave: float [D, width].
            mask: bool [D, L].
            row, teacher: int64 [U], of gates: each text's place in `ids` and in `teachers`.
        """
        z = self._to_space(ids) if ids.is_floating_point() else self._in_blocks(self._encode_topics, ids, mask)
        if row is not None and teacher is not None:
            gate, shift = self.identity(teacher).float().chunk(2, dim=-1)
            z = F.normalize(z.index_select(0, row) * (1 + gate) + shift, dim=-1)
        return first_numbers(z, self.size)

    @torch.no_grad()
    def encode_words(self, tokens: TopicTokens) -> Tensor | None:
        """All topics through a text encoder that is not trained, float [M, width]; None where it is, or where the
        identity goes through it."""
        if not self.reads_once:
            return None
        self.eval()
        ids, mask = (torch.from_numpy(a).to(self.device) for a in tokens.plain(np.arange(len(tokens.lengths))))
        return self._in_blocks(self._encode_tokens, ids, mask)

    def _to_space(self, words: Tensor) -> Tensor:
        return F.normalize(self.text_head(words).float(), dim=-1)

    def _encode_topics(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self._to_space(self._encode_tokens(ids, mask))

    def _encode_tokens(self, ids: Tensor, mask: Tensor) -> Tensor:
        words = self.text_encoder.get_input_embeddings()
        embedded = words(ids.clamp(max=self.words - 1))
        if not self.gated:
            identity = self.identity(ids[:, :1] - self.words).to(embedded.dtype)
            embedded = torch.cat([identity, embedded[:, 1:]], dim=1)
        hidden = self.text_encoder(inputs_embeds=embedded, attention_mask=mask.long()).last_hidden_state
        return mean_over(hidden, mask)

    def _in_blocks(self, encode: Callable[[Tensor, Tensor], Tensor], x: Tensor, mask: Tensor) -> Tensor:
        return in_blocks(lambda x, mask: self._run(encode, x, mask), x, mask)

    def _run(self, encode: Callable[[Tensor, Tensor], Tensor], x: Tensor, mask: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(encode, x, mask, use_reentrant=False)
        return encode(x, mask)

    def logits(self, cosine: Tensor) -> Tensor:
        scale, bias = scale_and_bias(self)
        return scale.exp() * cosine + bias

    def row_logits(
        self, prepared: Tensor, mask: Tensor, texts: Sequence[Tensor], row_sample: Tensor, row_text: Tensor
    ) -> Tensor:
        """Logits of rows, float [R], each sample and each text encoded once; of several sizes float [sizes, R].

        Args:
            prepared: float [V, F, frontend.out_dim]. mask: bool [V, F]. texts: as `encode_texts` takes them, U of them.
            row_sample, row_text: int64 [R], each row's place among the V samples and the U texts.
        """
        samples, encoded = self.encode_prepared(prepared, mask), self.encode_texts(*texts)
        # Students with identities as tokens were trained before there was a choice: they go on bit for bit.
        places = row_sample, row_text, PAIRS_A_ROW if self.gated else 0
        logits = self.logits(cosines(samples, encoded, *places))
        return logits if self.of_sizes is None else logits_by_size(self, logits, samples, encoded, places)

    def token_ids(self, teacher_ids: Sequence[str]) -> np.ndarray:
        """The identity tokens of teachers, int64. Raises T2TError for an identity this student does not know."""
        for teacher in teacher_ids:
            if teacher not in self.teachers:
                raise T2TError(f"This student has no identity {teacher!r}.{nearest(teacher, self.teachers)}")
        return np.array([self.words + self.teachers.index(teacher) for teacher in teacher_ids], np.int64)

    @property
    def known_tokens(self) -> int:
        """How many tokens its text tower has embeddings of."""
        return int(self.text_encoder.get_input_embeddings().num_embeddings)

    @property
    def knows_meanings(self) -> bool:
        """Whether its text tower is a pretrained one, as it came."""
        return self.reads_once and self.config.text.pretrained is not None

    @torch.no_grad()
    def encode_topics(self, topics: Sequence[str], identity: str = HUMAN) -> Tensor:
        """Text embeddings of topics under one identity, float32 [M, dim] on the student's device.

        Those that it was not trained on are put together from trained ones where the tower knows what they mean.
        """
        self.eval()
        tokens = self.topic_tokens(topics)
        highest = int(tokens.ids.max(initial=0))
        if highest >= self.known_tokens:
            raise T2TError(
                f"The tokenizer gives the token {highest:,}, and the text tower knows {self.known_tokens:,}."
            )
        identities = np.full(len(topics), self.token_ids([identity])[0] - self.words)
        out = torch.empty(len(topics), self.width, device=self.device)
        for start in range(0, len(topics), TEXT_BLOCK):
            block = slice(start, start + TEXT_BLOCK)
            texts = self.texts(tokens, np.arange(len(topics))[block], identities[block])
            out[block] = self.encode_texts(*(torch.from_numpy(a).to(self.device) for a in texts))
        known = frozenset(self.trained_topics)
        new = [i for i, topic in enumerate(topics) if topic not in known] if self.knows_meanings and known else []
        if new:
            out[new] = put_together(self._meanings([topics[i] for i in new]), *self._trained(identity)).to(out.dtype)
        return out

    def _meanings(self, topics: Sequence[str]) -> Tensor:
        words = self.encode_words(self.topic_tokens(topics))
        assert words is not None, "only a tower that is not trained knows meanings"
        return words

    def _trained(self, identity: str) -> tuple[Tensor, Tensor]:
        """The tower's vectors of the trained topics, read once, and their embeddings under an identity."""
        if self._trained_words is None or self._trained_words.device != self.device:
            self._trained_words = self._meanings(self.trained_topics)
        rows = torch.arange(len(self._trained_words), device=self.device)
        teacher = torch.full_like(rows, int(self.token_ids([identity])[0]) - self.words)
        return self._trained_words, self.encode_texts(self._trained_words, rows[:, None] >= 0, rows, teacher)

    @torch.no_grad()
    def embed(self, embeddings: Embeddings, indices: np.ndarray) -> Tensor:
        """Sample embeddings, float32 [N, dim] on the student's device.

        Args:
            indices: int64 [N], positions in `embeddings`.
        """
        self.eval()
        out = torch.empty(len(indices), self.width, device=self.device)
        for start in range(0, len(indices), ENCODE_BLOCK):
            block = slice(start, start + ENCODE_BLOCK)
            frames, mask = (torch.from_numpy(a).to(self.device) for a in embeddings.gather(indices[block]))
            out[block] = self.encode_samples(frames.float(), mask)
        return out

    @torch.no_grad()
    def confidences(self, cosine: Tensor) -> Tensor:
        """Confidences, 0..1, of cosines of sample and text embeddings; they rise with the cosine."""
        return self.logits(cosine).sigmoid()

    def answers(self, cosine: Tensor, identity: str) -> np.ndarray:
        """Confidences of cosines as an identity gives them, on its own scale: float32, 0..1, any shape."""
        return self.on_own_scale(self.confidences(cosine), identity)

    def on_own_scale(self, confidence: Tensor, identity: str) -> np.ndarray:
        """Confidences on the common scale, on an identity's own: float32, 0..1, any shape."""
        common: np.ndarray = confidence.cpu().numpy()
        scale = self.scales.get(identity)
        return common if scale is None else scale.invert(common)

    @torch.no_grad()
    def predict(
        self, embeddings: Embeddings, indices: np.ndarray, topics: Sequence[str], identity: str = HUMAN
    ) -> np.ndarray:
        """Confidences of samples x topics under an identity, float32 [N, M] in 0..1. Any identity can be asked; the
        default is `human`.

        Args:
            indices: int64 [N], positions in `embeddings`.
        """
        texts = self.encode_topics(topics, identity)
        out = np.empty((len(indices), len(texts)), np.float32)
        for start in range(0, len(indices), ENCODE_BLOCK):
            block = slice(start, start + ENCODE_BLOCK)
            out[block] = self.score(embeddings, indices[block], topics, texts, identity)
        return out

    @torch.no_grad()
    def score(
        self, embeddings: Embeddings, indices: np.ndarray, topics: Sequence[str], texts: Tensor, identity: str
    ) -> np.ndarray:
        """`predict`, with what `encode_topics` gave for the topics: for a caller that asks by blocks of samples."""
        return self.answers(self.embed(embeddings, indices) @ texts.T, identity)

    @torch.no_grad()
    def predict_pairs(self, embeddings: Embeddings, indices: np.ndarray, pairs: Pairs, identity: str = HUMAN) -> Pairs:
        """The pairs with the scores that `predict` has for them, without its matrix: only what occurs is encoded.

        Args:
            indices: int64 [N], positions in `embeddings` of the pairs' samples.
        """
        pairs = known_pairs(self, pairs)
        if not len(pairs.sample):
            return pairs
        used, sample = np.unique(pairs.sample, return_inverse=True)
        asked, topic = np.unique(pairs.topic, return_inverse=True)
        samples = self.embed(embeddings, indices[used])
        texts = self.encode_topics([pairs.topics[i] for i in asked], identity)
        score = np.empty(len(sample), np.float32)
        for start in range(0, len(score), PAIR_BLOCK):
            block = slice(start, start + PAIR_BLOCK)
            rows, columns = (torch.from_numpy(a[block]).to(self.device) for a in (sample, topic))
            cosine = (samples.index_select(0, rows) * texts.index_select(0, columns)).sum(-1)
            score[block] = self.answers(cosine, identity)
        return pairs.with_score(score)

    @property
    def text_config(self) -> dict[str, Any]:
        """The text encoder's configuration, as transformers has it."""
        return self.text_encoder.config.to_dict()

    @property
    def saved(self) -> dict[str, Any]:
        """What `restore` needs beside the weights and the tokenizer, as JSON."""
        text = {"text_encoder": self.text_config} if self.config.text.pretrained is not None else {}
        topics = self.trained_topics if self.knows_meanings else ()
        return self._facts(text) | ({"trained_topics": list(topics)} if topics else {})

    def _facts(self, further: Mapping[str, Any]) -> dict[str, Any]:
        """What every kind is restored from, and `further` facts of one."""
        facts = {"student": self.config.model_dump(mode="json"), "input_dim": self.input_dim, "teachers": self.teachers}
        facts |= further
        if self.scales:
            facts["scales"] = {name: scale.model_dump(mode="json") for name, scale in self.scales.items()}
        return facts

    def start_from(self, previous: Student) -> None:
        """Copies another student's weights; identities are matched by name, new ones keep their start.

        Raises T2TError when the two differ in shape.
        """
        copy_weights(previous, self)
