"""The kind `encoder-only`: identity, topic and frames in one encoder (paper, sections 2.4 and 3.4.2).

A score needs the topic and the clip together, so that no matrix product finds the most likely topics of a clip. Beside
the reader stands a small dual-encoder, trained on the same rows by a loss of its own: it finds `shortlist` topics of
each sample that is labeled, which the reader then reads. Where there are no more topics the reader reads all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from t2t.data.labels import HUMAN
from t2t.data.scales import Scale
from t2t.students.config import EncoderOnlyConfig
from t2t.students.dual_encoder import add_identities, logit, scales_of
from t2t.students.reader import Reader
from t2t.students.student import Student
from t2t.students.text import TopicTokens, fit_tokenizer, warn_of_twins

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from t2t.data.embeddings.store import Embeddings
    from t2t.data.pairs import Pairs

__all__ = ["Config", "EncoderOnly", "build", "restore"]

# Rows that are read in one call, and samples whose frames are held for it.
READ_ROWS, READ_SAMPLES, READ_TOPICS = 1 << 15, 256, 1 << 12


class EncoderOnly(Student):
    """Scores rows by reading topic and clip together.

    What works by embeddings (`embed`, `encode_topics`, `answers`: search, the shortlist) is the dual-encoder's; every
    confidence of a pair that is measured, labeled or predicted is the reader's.
    """

    def __init__(
        self,
        config: EncoderOnlyConfig,
        input_dim: int,
        tokenizer: PreTrainedTokenizerBase,
        teachers: Sequence[str],
        seed: int = 0,
    ):
        nn.Module.__init__(self)
        self.config: Any = config
        self.shortlist = config.shortlist
        self.input_dim, self.tokenizer, self.teachers = input_dim, tokenizer, list(teachers)
        self.words, self.gated = len(tokenizer) - len(self.teachers), True
        self.scales: dict[str, Scale] = {}
        self.size = None
        self.trained_topics: Sequence[str] = ()
        self._tokens: tuple[tuple[str, ...], TopicTokens] | None = None
        # Each draws its weights by a seed of its own: how much one draws goes by the number of teachers.
        seeds = [int(drawn) for drawn in np.random.SeedSequence(seed).generate_state(1 + config.members)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds[0])
            self.first = Student(config.first, input_dim, tokenizer, teachers)
        self.frontend = self.first.frontend
        self.first.register_module("frontend", nn.Identity())  # what comes to it has been through ours
        readers = [self._new_reader(seed) for seed in seeds[1:]]
        self.reader, self.further = readers[0], nn.ModuleList(readers[1:])

    def _new_reader(self, seed: int) -> Reader:
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Reader(
                config.reader,
                config.attention,
                self.frontend.out_dim,
                self.words,
                self.teachers,
                config.identity_std,
                config.bias or 0.0,
            )

    @property
    def readers(self) -> Sequence[Reader]:
        return (self.reader, *(cast(Reader, reader) for reader in self.further))

    @property
    def device(self) -> torch.device:
        return self.first.device

    @property
    def members(self) -> Sequence[Any]:
        return (self.first, *self.readers)

    @property
    def width(self) -> int:
        return self.first.width

    @property
    def reads_once(self) -> bool:
        return False

    @property
    def known_tokens(self) -> int:
        return self.first.known_tokens

    @property
    def recompute(self) -> bool:
        return self.first.recompute

    @recompute.setter
    def recompute(self, recompute: bool) -> None:
        for member in self.members:
            member.recompute = recompute

    def topic_tokens(self, topics: Sequence[str]) -> TopicTokens:
        if self._tokens is None or self._tokens[0] != tuple(topics):
            self._tokens = tuple(topics), TopicTokens(self.tokenizer, topics, self.config.max_tokens)
        return self._tokens[1]

    def encode_prepared(self, prepared: Tensor, mask: Tensor) -> Tensor:
        return self.first.encode_prepared(prepared, mask)

    def encode_texts(
        self, ids: Tensor, mask: Tensor, row: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        return self.first.encode_texts(ids, mask, row, teacher)

    def logits(self, cosine: Tensor) -> Tensor:
        return self.first.logits(cosine)

    @torch.no_grad()
    def read(
        self, embeddings: Embeddings, indices: np.ndarray, topics: Sequence[str], chosen: np.ndarray, identity: str
    ) -> np.ndarray:
        out = np.empty(chosen.shape, np.float32)
        if not chosen.size:
            return out
        samples = min(READ_SAMPLES, max(1, READ_ROWS // chosen.shape[1]))
        for start in range(0, len(indices), samples):
            block = slice(start, start + samples)
            row = np.arange(len(chosen[block])).repeat(chosen.shape[1])
            logits = self._read(embeddings, indices[block], row, topics, chosen[block].ravel(), identity)
            out[block] = self.on_own_scale(logits.sigmoid(), identity).reshape(chosen[block].shape)
        return out

    def _read(
        self,
        embeddings: Embeddings,
        indices: np.ndarray,
        row: np.ndarray,
        topics: Sequence[str],
        topic: np.ndarray,
        identity: str,
    ) -> Tensor:
        """Logits of rows, float32 [R]. Args: row: int64 [R], places in `indices`. topic: int64 [R], in `topics`."""
        self.eval()
        frames, mask = (torch.from_numpy(part).to(self.device) for part in embeddings.gather(indices))
        used, text = np.unique(topic, return_inverse=True)
        teacher = np.full(len(used), self.token_ids([identity])[0] - self.words)
        texts = [
            torch.from_numpy(part).to(self.device) for part in self.texts(self.topic_tokens(topics), used, teacher)
        ]
        places = [torch.from_numpy(part).to(self.device) for part in (row, text)]
        prepared = self.frontend(frames.float(), mask)
        logits = [reader.row_logits(prepared, mask, texts, *places) for reader in self.readers]
        return torch.stack(logits).mean(0) if len(logits) > 1 else logits[0]

    @torch.no_grad()
    def score(
        self, embeddings: Embeddings, indices: np.ndarray, topics: Sequence[str], texts: Tensor, identity: str
    ) -> np.ndarray:
        out = np.empty((len(indices), len(topics)), np.float32)
        for start in range(0, len(topics), READ_TOPICS):
            block = np.arange(start, min(start + READ_TOPICS, len(topics)))
            every = np.broadcast_to(block, (len(indices), len(block)))
            out[:, block] = self.read(embeddings, indices, topics, every, identity)
        return out

    @torch.no_grad()
    def predict_pairs(self, embeddings: Embeddings, indices: np.ndarray, pairs: Pairs, identity: str = HUMAN) -> Pairs:
        score = np.empty(len(pairs.sample), np.float32)
        order = np.argsort(pairs.sample, kind="stable")
        for start in range(0, len(order), READ_ROWS):
            rows = order[start : start + READ_ROWS]
            used, row = np.unique(pairs.sample[rows], return_inverse=True)
            logits = self._read(embeddings, indices[used], row, pairs.topics, pairs.topic[rows], identity)
            score[rows] = self.on_own_scale(logits.sigmoid(), identity)
        return pairs.with_score(score)

    @property
    def saved(self) -> dict[str, Any]:
        return self._facts({})


def build(
    config: EncoderOnlyConfig,
    input_dim: int,
    topics: Sequence[str],
    teachers: Sequence[str],
    seed: int,
    prior: float = 0.05,
) -> EncoderOnly:
    """A new student with weights drawn by `seed`; arguments are those of `t2t.students.dual_encoder.build`."""
    if config.bias is None:
        config = config.model_copy(update={"bias": logit(prior)})
    tokenizer = fit_tokenizer(topics)
    warn_of_twins(tokenizer, topics, config.max_tokens)
    add_identities(tokenizer, teachers)
    return EncoderOnly(config, input_dim, tokenizer, teachers, seed)


def restore(
    saved: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, config: EncoderOnlyConfig, where: object
) -> EncoderOnly:
    """The student of a checkpoint, its weights still to be filled; as of the dual-encoder."""
    student = EncoderOnly(config, saved["input_dim"], tokenizer, saved["teachers"])
    student.scales = scales_of(saved, where)
    return student


# What a kind's module calls its configuration (`t2t.students.base`).
Config = EncoderOnlyConfig
