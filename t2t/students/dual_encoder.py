"""The dual-encoder student (paper, section 3.2): a sample tower and a text tower that meet in one small space.

The teacher's identity goes into the text tower only, so a sample's embedding does not depend on the teacher: one
encoded video serves all its rows, and scoring N videos on M topics is a matrix product.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from t2t.core.errors import T2TError, nearest, one_line, told
from t2t.data.labels import HUMAN
from t2t.students.config import DualEncoderConfig, TowerConfig
from t2t.students.frontend import Frontend
from t2t.students.text import TopicTokens, fit_tokenizer, identity_token, warn_of_twins

# transformers takes seconds to import, and a campaign is read by commands that build no student: it comes when one is.
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, T5Config

    from t2t.data.embeddings.store import Embeddings
    from t2t.data.pairs import Pairs

# Samples, texts and pairs that are scored at once.
ENCODE_BLOCK, TEXT_BLOCK, PAIR_BLOCK = 1024, 1 << 14, 1 << 16

# Texts go through a tower in blocks of so many tokens at most, long ones together and short ones together: less
# padding, and on the CPU a block stays in the cache: 1.4 times as fast for 1,740 texts of 3 to 7 tokens.
BLOCK_TOKENS = {"cpu": 4096, "cuda": 1 << 15}


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
        from transformers import T5EncoderModel

        super().__init__()
        self.config = config
        self.input_dim = input_dim
        # Compute a block again in the backward pass, instead of keeping what is in it: `TrainingConfig.recompute`.
        self.recompute = False
        self.tokenizer = tokenizer
        self.teachers = list(teachers)
        self.words = len(tokenizer) - len(self.teachers)
        self.frontend = Frontend(config.frontend, input_dim)
        self.project = nn.Linear(self.frontend.out_dim, config.sample.d_model)
        self.sample_encoder = T5EncoderModel(_t5(config.sample, vocab_size=1))
        self.sample_head = nn.Linear(config.sample.d_model, config.dim)
        self.text_encoder: PreTrainedModel = text_encoder or T5EncoderModel(_t5(config.text, self.words))
        width = int(self.text_encoder.config.hidden_size)
        self.text_head = nn.Linear(width, config.dim)
        self.identity = nn.Embedding(len(self.teachers), width)
        self.scale = nn.Parameter(torch.tensor(config.scale).log())
        self.bias = nn.Parameter(torch.tensor(config.bias or 0.0))
        for row, teacher in zip(self.identity.weight.data, self.teachers, strict=True):
            row.copy_(_identity_start(teacher, width, config.text.identity_std))
        if config.text.freeze:
            self.text_encoder.requires_grad_(False)
        _fuse(self)

    @property
    def device(self) -> torch.device:
        return self.bias.device

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
        return F.normalize(self.sample_head(_mean(hidden, mask)).float(), dim=-1)

    def encode_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Text embeddings of unit length.

        Args:
            ids: int64 [U, L]; the first of each row is an identity token.
            mask: bool [U, L].

        Returns: float [U, dim].
        """
        return self._in_blocks(self._encode_tokens, ids, mask)

    def _encode_tokens(self, ids: Tensor, mask: Tensor) -> Tensor:
        words = self.text_encoder.get_input_embeddings()
        embedded = words(ids.clamp(max=self.words - 1))
        embedded = torch.cat([self.identity(ids[:, :1] - self.words).to(embedded.dtype), embedded[:, 1:]], dim=1)
        hidden = self.text_encoder(inputs_embeds=embedded, attention_mask=mask.long()).last_hidden_state
        return F.normalize(self.text_head(_mean(hidden, mask)).float(), dim=-1)

    def _in_blocks(self, encode: Callable[[Tensor, Tensor], Tensor], x: Tensor, mask: Tensor) -> Tensor:
        """`encode(x, mask)` of rows of about equal length at a time, without the columns that none of them uses."""
        at_once = BLOCK_TOKENS.get(x.device.type, 1 << 15)
        if mask.numel() <= at_once:
            return self._run(encode, x, mask)
        positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        lengths, order = (mask * positions).amax(1).cpu().sort(descending=True, stable=True)
        parts, start = [], 0
        while start < len(order):
            width = max(int(lengths[start]), 1)
            rows = order[start : start + max(at_once // width, 1)].to(x.device)
            parts.append(self._run(encode, x.index_select(0, rows)[:, :width], mask.index_select(0, rows)[:, :width]))
            start += len(rows)
        return torch.cat(parts).index_select(0, order.argsort().to(x.device))

    def _run(self, encode: Callable[[Tensor, Tensor], Tensor], x: Tensor, mask: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(encode, x, mask, use_reentrant=False)
        return encode(x, mask)

    def logits(self, cosine: Tensor) -> Tensor:
        return self.scale.exp() * cosine + self.bias

    def token_ids(self, teacher_ids: Sequence[str]) -> np.ndarray:
        """The identity tokens of teachers, int64. Raises T2TError for an identity this student does not know."""
        for teacher in teacher_ids:
            if teacher not in self.teachers:
                raise T2TError(f"This student has no identity {teacher!r}.{nearest(teacher, self.teachers)}")
        return np.array([self.words + self.teachers.index(teacher) for teacher in teacher_ids], np.int64)

    @torch.no_grad()
    def encode_topics(self, topics: Sequence[str], identity: str = HUMAN) -> Tensor:
        """Text embeddings of topics under one identity, float32 [M, dim] on the student's device."""
        self.eval()
        tokens = TopicTokens(self.tokenizer, topics, self.config.text.max_tokens)
        identities = np.full(len(topics), self.token_ids([identity])[0])
        out = torch.empty(len(topics), self.config.dim, device=self.device)
        for start in range(0, len(topics), TEXT_BLOCK):
            block = slice(start, start + TEXT_BLOCK)
            texts = tokens.texts(np.arange(len(topics))[block], identities[block])
            ids, mask = (torch.from_numpy(a).to(self.device) for a in texts)
            out[block] = self.encode_texts(ids, mask)
        return out

    @torch.no_grad()
    def embed(self, embeddings: Embeddings, indices: np.ndarray) -> Tensor:
        """Sample embeddings, float32 [N, dim] on the student's device.

        Args:
            indices: int64 [N], positions in `embeddings`.
        """
        self.eval()
        out = torch.empty(len(indices), self.config.dim, device=self.device)
        for start in range(0, len(indices), ENCODE_BLOCK):
            block = slice(start, start + ENCODE_BLOCK)
            frames, mask = (torch.from_numpy(a).to(self.device) for a in embeddings.gather(indices[block]))
            out[block] = self.encode_samples(frames.float(), mask)
        return out

    @torch.no_grad()
    def confidences(self, cosine: Tensor) -> Tensor:
        """Confidences, 0..1, of cosines of sample and text embeddings; they rise with the cosine."""
        return self.logits(cosine).sigmoid()

    @torch.no_grad()
    def predict(
        self, embeddings: Embeddings, indices: np.ndarray, topics: Sequence[str], identity: str = HUMAN
    ) -> np.ndarray:
        """Confidences of samples x topics under an identity, float32 [N, M] in 0..1. Any identity can be asked; the
        default is `human`.

        Args:
            indices: int64 [N], positions in `embeddings`.
        """
        texts, samples = self.encode_topics(topics, identity), self.embed(embeddings, indices)
        out = np.empty((len(indices), len(texts)), np.float32)
        for start in range(0, len(indices), ENCODE_BLOCK):
            block = slice(start, start + ENCODE_BLOCK)
            out[block] = self.confidences(samples[block] @ texts.T).cpu().numpy()
        return out

    @torch.no_grad()
    def predict_pairs(self, embeddings: Embeddings, indices: np.ndarray, pairs: Pairs, identity: str = HUMAN) -> Pairs:
        """The pairs with the scores that `predict` has for them, without its matrix: only what occurs is encoded.

        Args:
            indices: int64 [N], positions in `embeddings` of the pairs' samples.
        """
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
            score[block] = self.confidences(cosine).cpu().numpy()
        return pairs.with_score(score)

    @property
    def saved(self) -> dict[str, Any]:
        """What `restore` needs beside the weights and the tokenizer, as JSON."""
        facts = {"student": self.config.model_dump(mode="json"), "input_dim": self.input_dim, "teachers": self.teachers}
        if self.config.text.pretrained is not None:
            facts["text_encoder"] = self.text_encoder.config.to_dict()
        return facts

    @torch.no_grad()
    def start_from(self, previous: Student) -> None:
        """Copies another student's weights; identities are matched by name, new ones keep their start.

        Raises T2TError when the two differ in shape.
        """
        rows = {teacher: i for i, teacher in enumerate(previous.teachers)}
        state = previous.state_dict()
        identity = self.identity.weight.clone()
        for i, teacher in enumerate(self.teachers):
            if teacher in rows:
                identity[i] = state["identity.weight"][rows[teacher]]
        state["identity.weight"] = identity
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise T2TError(
                f"`initialise: previous` needs the same student and topics as the round before: {told(error)}"
            ) from None


def build(
    config: DualEncoderConfig,
    input_dim: int,
    topics: Sequence[str],
    teachers: Sequence[str],
    seed: int,
    prior: float = 0.05,
    kind: type[Student] = Student,
) -> Student:
    """A new student with weights drawn by `seed`.

    Its start: a pretrained text encoder where the configuration names one, else scratch. (A round may then copy
    another student's weights over it: see `Student.start_from`.)

    Args:
        topics: what the tokenizer is fitted on, when there is no pretrained one.
        teachers: the identities.
        prior: the training rows' mean confidence, 0..1. A score starts there: most pairs are negative, and a student
            that has to find that out first learns little else in its first hundred steps.
        kind: the class, for a kind that is a variant of this one.
    """
    if config.bias is None:
        prior = min(max(prior, 1e-3), 1 - 1e-3)
        config = config.model_copy(update={"bias": math.log(prior / (1 - prior))})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.text.pretrained is None:
            tokenizer = fit_tokenizer(topics)
            encoder = None
        else:
            tokenizer, encoder = _pretrained(config.text.pretrained)
        warn_of_twins(tokenizer, topics, config.text.max_tokens)
        add_identities(tokenizer, teachers)
        return kind(config, input_dim, tokenizer, teachers, encoder)


def add_identities(tokenizer: PreTrainedTokenizerBase, teachers: Sequence[str]) -> None:
    """Appends one special token for each teacher, after the tokens that are there."""
    tokenizer.add_special_tokens({"additional_special_tokens": [identity_token(teacher) for teacher in teachers]})


def restore(
    saved: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    config: DualEncoderConfig,
    where: object,
    kind: type[Student] = Student,
) -> Student:
    """The student of a checkpoint, its weights still to be filled; nothing is fetched.

    Args:
        saved: `Student.saved`, checked as far as all kinds have it. config: its `student`.
        where: the file, for messages. kind: as for `build`.
    """
    text_encoder = saved.get("text_encoder")
    try:
        encoder = _text_encoder(text_encoder) if text_encoder is not None else None
    except Exception as error:  # Its parsers raise whatever a broken file leads them to.
        raise T2TError(f"{where}: no text encoder can be made of it: {told(error)}") from None
    return kind(config, saved["input_dim"], tokenizer, saved["teachers"], encoder)


def _text_encoder(config: Mapping[str, Any]) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForTextEncoding

    config = dict(config)
    return AutoModelForTextEncoding.from_config(AutoConfig.for_model(config.pop("model_type"), **config))


def _pretrained(source: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """A text encoder and its tokenizer; in float32, for half precision would lose small steps of training.

    Its weights must be safetensors: the older `pytorch_model.bin` is a pickle, and opening one can run what it holds.
    For the same reason the code that a folder brings is never run.
    """
    from transformers import AutoModelForTextEncoding, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        encoder, loading = AutoModelForTextEncoding.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # The parsers raise whatever a broken file leads them to.
        pickled = any(Path(source).glob("*.bin")) and not any(Path(source).glob("*.safetensors"))
        hint = " Its weights are pickled (.bin); save them as safetensors." if pickled else ""
        raise T2TError(
            f"student.text.pretrained: {source!r} cannot be read: {one_line(error).rstrip('.')}.{hint}"
        ) from None
    # A pooler reads the hidden states, and is not used here; anything else would be random weights.
    missing = sorted(key for key in loading["missing_keys"] if "pooler" not in key)
    if missing:
        raise T2TError(
            f"student.text.pretrained: {source!r} lacks {len(missing)} of the encoder's weights "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})."
        )
    return tokenizer, encoder


def _t5(tower: TowerConfig, vocab_size: int) -> T5Config:
    """A T5 encoder's configuration for a tower of this size."""
    from transformers import T5Config

    return T5Config(
        vocab_size=vocab_size,
        d_model=tower.d_model,
        d_kv=max(tower.d_model // tower.heads, 1),
        d_ff=tower.d_ff,
        # The tokenizer has its own end token; 0 is in every vocabulary, also in the sample tower's, which has none.
        eos_token_id=0,
        num_layers=tower.layers,
        num_heads=tower.heads,
        dropout_rate=tower.dropout,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )


def _fuse(model: nn.Module) -> None:
    """T5's activation as one kernel instead of eight: on two cores a text tower trains 1.3 times as fast."""
    from transformers.activations import NewGELUActivation

    for module in model.modules():
        if isinstance(getattr(module, "act", None), NewGELUActivation):
            module.act = nn.GELU(approximate="tanh")


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def _identity_start(teacher: str, width: int, std: float) -> Tensor:
    """An identity's first embedding, drawn from its own name, so that adding a teacher changes no other's."""
    seed = int.from_bytes(hashlib.sha256(teacher.encode()).digest()[:8], "big") % 2**63
    return torch.randn(width, generator=torch.Generator().manual_seed(seed)) * std


# What a kind's module calls its configuration (`t2t.students.base`).
Config = DualEncoderConfig
