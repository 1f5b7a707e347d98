"""The kind `multi-head`: one output a topic, and the teacher as a one-hot vector (paper, section 3.2 and figure 4c).

A sample's numbers x become W (x * (1 + g) + s) + b for a teacher's gate g, shift s and constant in b: a layer that a
one-hot vector of the teacher goes into. That is a product of (x, 1) and a vector for each topic and teacher, so that
training, labeling and searching are those of the dual-encoder, whose text tower is a table of topics here.

It reads no text: topics are those that it was trained on (`vocabulary`), and any other is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from t2t.data.labels import HUMAN
from t2t.data.scales import Scale
from t2t.students.base import check_topics
from t2t.students.config import MultiHeadConfig
from t2t.students.dual_encoder import add_identities, logit, scales_of
from t2t.students.ensemble import Ensemble
from t2t.students.frontend import Frontend
from t2t.students.rows import single
from t2t.students.student import Student
from t2t.students.text import TopicTokens, topic_table, topics_in
from t2t.students.towers import from_scratch, fuse, identity_start, mean_over

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Config", "MultiHead", "build", "restore"]

# A topic and the end of a text.
TOKENS = 2


class _Closed(Student):
    """What one student of this kind and several as one have in common: topics are those of a table."""

    @property
    def vocabulary(self) -> frozenset[str]:
        return frozenset(self.trained_topics or topics_in(self.tokenizer))

    @property
    def reads_once(self) -> bool:
        return False

    def topic_tokens(self, topics: Sequence[str]) -> TopicTokens:
        return TopicTokens(self.tokenizer, topics, TOKENS)

    @torch.no_grad()
    def encode_topics(self, topics: Sequence[str], identity: str = HUMAN) -> Tensor:
        check_topics(self, topics)
        self.eval()
        teacher = np.full(len(topics), self.token_ids([identity])[0] - self.words)
        texts = self.texts(self.topic_tokens(topics), np.arange(len(topics)), teacher)
        return self.encode_texts(*(torch.from_numpy(a).to(self.device) for a in texts))

    @property
    def saved(self) -> dict[str, Any]:
        return self._facts({}) | {"trained_topics": list(self.trained_topics)}


class MultiHead(_Closed):
    """Scores (sample, topic, identity) rows of the topics in its tokenizer's table.

    Args:
        input_dim: size of a frame embedding.
        tokenizer: one token for each topic, and an identity token for every teacher, in the order of `teachers`.
    """

    def __init__(
        self, config: MultiHeadConfig, input_dim: int, tokenizer: PreTrainedTokenizerBase, teachers: Sequence[str]
    ):
        nn.Module.__init__(self)
        self.config: Any = config
        self.input_dim, self.recompute, self.size = input_dim, False, None
        self.tokenizer, self.teachers = tokenizer, list(teachers)
        self.scales: dict[str, Scale] = {}
        self.trained_topics: Sequence[str] = ()
        self.words = len(tokenizer) - len(self.teachers)
        self.frontend = Frontend(config.frontend, input_dim)
        self.project = nn.Linear(self.frontend.out_dim, config.sample.d_model)
        self.sample_encoder = from_scratch(config.sample, vocab_size=1)
        self.sample_head = nn.Linear(config.sample.d_model, config.dim)
        self.gated = True
        # A row a topic: its weights, and its bias. Drawn from the topic's own name: a new one changes no other.
        self.heads = nn.Embedding(self.words, config.dim + 1)
        nn.init.zeros_(self.heads.weight)
        for topic, row in topics_in(tokenizer).items():
            self.heads.weight.data[row, :-1] = identity_start(topic, config.dim, config.head_std)
        # A row a teacher: a gate, a shift, and a bias.
        self.identity = nn.Embedding(len(self.teachers), 2 * config.dim + 1)
        for row, teacher in zip(self.identity.weight.data, self.teachers, strict=True):
            row.copy_(identity_start(teacher, len(row), config.identity_std))
        self.scale = nn.Parameter(torch.tensor(config.scale).log())
        self.bias = nn.Parameter(torch.tensor(config.bias or 0.0))
        self.register_parameter("of_sizes", None)
        fuse(self)

    @property
    def width(self) -> int:
        return int(self.config.dim) + 1

    def _encode_frames(self, prepared: Tensor, mask: Tensor) -> Tensor:
        hidden = self.sample_encoder(inputs_embeds=self.project(prepared), attention_mask=mask.long()).last_hidden_state
        x = single(self.sample_head(mean_over(hidden, mask)))
        # Of one size, so that a head's weights mean the same for every sample; and a one, for the bias.
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=-1)

    def encode_texts(
        self, ids: Tensor, mask: Tensor, row: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """What a sample's numbers are multiplied by for (teacher, topic), float [U, dim + 1]; as of the dual-encoder
        with gates, the first token of each topic being the topic."""
        assert row is not None
        assert teacher is not None
        weight, bias = self.heads(ids[:, 0].index_select(0, row)).split([self.width - 1, 1], dim=-1)
        gate, shift, constant = self.identity(teacher).split([self.width - 1, self.width - 1, 1], dim=-1)
        return torch.cat([weight * (1 + gate), (weight * shift).sum(-1, keepdim=True) + bias + constant], dim=-1)


class MultiHeads(_Closed, Ensemble):
    """Several students of this kind as one: the mean of their logits."""


def build(
    config: MultiHeadConfig,
    input_dim: int,
    topics: Sequence[str],
    teachers: Sequence[str],
    seed: int,
    prior: float = 0.05,
) -> MultiHead | MultiHeads:
    """A new student with weights drawn by `seed`; arguments are those of `t2t.students.dual_encoder.build`.

    Args:
        topics: each gets an output.
    """
    if config.bias is None:
        config = config.model_copy(update={"bias": logit(prior)})
    tokenizer = topic_table(topics)
    add_identities(tokenizer, teachers)
    return _made(config, input_dim, tokenizer, teachers, seed)


def _made(
    config: MultiHeadConfig, input_dim: int, tokenizer: PreTrainedTokenizerBase, teachers: Sequence[str], seed: int = 0
) -> MultiHead | MultiHeads:
    """A student of so many members as the configuration says, each with weights drawn by a seed of its own."""
    one, seeds = config.model_copy(update={"members": 1}), [seed]
    if config.members > 1:
        seeds = [int(drawn) for drawn in np.random.SeedSequence(seed).generate_state(config.members)]
    members = []
    for own_seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(own_seed)
            members.append(MultiHead(one, input_dim, tokenizer, teachers))
    return MultiHeads(config, members) if config.members > 1 else members[0]


def restore(
    saved: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, config: MultiHeadConfig, where: object
) -> MultiHead | MultiHeads:
    """The student of a checkpoint, its weights still to be filled; as of the dual-encoder."""
    student = _made(config, saved["input_dim"], tokenizer, saved["teachers"])
    student.scales = scales_of(saved, where)
    student.trained_topics = tuple(saved.get("trained_topics", ()))
    return student


# What a kind's module calls its configuration (`t2t.students.base`).
Config = MultiHeadConfig
