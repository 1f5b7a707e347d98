"""An encoder that reads identity, topic and frames together (paper, section 2.4), the frames once for all topics.

Frames look at frames only; a text looks at itself and at the frames. So the frames' keys and values are the same for
every row of a clip, and they are computed once: what is left of a row are its few tokens, and in the last layer its
first one alone, whose vector the score is made of. `attention: full` lets frames look at the text as well, which cannot
be shared: each row is read by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from t2t.students.config import ReaderConfig
from t2t.students.plain import Norm
from t2t.students.rows import single
from t2t.students.towers import identity_start

# Tokens of texts that are in memory at once: rows of a chunk, times their length.
CHUNK_TOKENS = {"cpu": 1 << 15, "cuda": 1 << 19}
# In a chunk no clip has fewer than so many of the rows that another one has: they are padded to the same number.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Texts:
    """Texts as the first layer has them: computed once for all rows of a text.

    x: float [U, L, d]. mask: bool [U, L]. query, key, value: float [U, H, L (the query 1 in the last layer), d/H].
    """

    x: Tensor
    mask: Tensor
    query: Tensor
    key: Tensor
    value: Tensor

    def rows(self, text: Tensor) -> Texts:
        parts = (self.x, self.mask, self.query, self.key, self.value)
        return Texts(*(part.index_select(0, text) for part in parts))


@dataclass(frozen=True)
class Places:
    """Rows of some clips, padded to the same number a clip: row r stands in place slot[r] of clips * most."""

    slot: Tensor
    clips: int
    most: int

    def spread(self, x: Tensor) -> Tensor:
        """[R, H, L, D] -> [clips, H, most * L, D], zero where a clip has no further row."""
        rows = x.new_zeros(self.clips * self.most, *x.shape[1:]).index_copy(0, self.slot, x)
        return rows.unflatten(0, (self.clips, self.most)).transpose(1, 2).flatten(2, 3)

    def gathered(self, x: Tensor, length: int) -> Tensor:
        """[clips, H, most * length, D] -> [R, H, length, D]."""
        rows = x.unflatten(2, (self.most, length)).transpose(1, 2).flatten(0, 1)
        return rows.index_select(0, self.slot)


class Block(nn.Module):
    """One layer: attention with learned biases of distances as T5 has them, and a gated feed-forward part."""

    def __init__(self, config: ReaderConfig):
        super().__init__()
        d, self.heads, self.distance = config.d_model, config.heads, config.distance
        inner = max(d // config.heads, 1) * config.heads
        self.before, self.between = Norm(d), Norm(d)
        self.q, self.k, self.v = (nn.Linear(d, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, d, bias=False)
        self.gate, self.up = nn.Linear(d, config.d_ff, bias=False), nn.Linear(d, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, d, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        # By distance, among texts' tokens and among frames; and one number for a text's look at frames, and back.
        self.text_bias, self.frame_bias = (
            nn.Parameter(torch.zeros(config.heads, 2 * config.distance + 1)) for _ in "tf"
        )
        self.across = nn.Parameter(torch.zeros(2, config.heads))
        for linear, width in ((self.q, inner), (self.k, d), (self.v, d), (self.o, inner)):
            # T5's start: scores are not divided by the root of a head's width, so queries begin smaller.
            std = (d * (inner // config.heads)) ** -0.5 if linear is self.q else width**-0.5
            nn.init.normal_(linear.weight, std=std)

    def split(self, x: Tensor) -> Tensor:
        """[N, L, H * D] -> [N, H, L, D]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def distances(self, table: Tensor, queries: int, keys: int) -> Tensor:
        """Biases [H, queries, keys] of the first `queries` tokens' looks at all keys."""
        steps = torch.arange(keys, device=table.device) - torch.arange(queries, device=table.device)[:, None]
        return table[:, steps.clamp(-self.distance, self.distance) + self.distance]

    def texts(self, x: Tensor, mask: Tensor, last: bool) -> Texts:
        """What a text's tokens look for and offer. In the last layer only its first one looks."""
        normed = self.before(x)
        query = self.split(self.q(normed[:, :1] if last else normed))
        return Texts(x, mask, query, self.split(self.k(normed)), self.split(self.v(normed)))

    def end(self, x: Tensor, looked: Tensor) -> Tensor:
        """The layer's result, [N, L, d], of its input and of what attention found, [N, H, L, D]."""
        x = x + self.dropout(self.o(looked.transpose(1, 2).flatten(2)))
        normed = self.between(x)
        return x + self.dropout(self.down(F.gelu(self.gate(normed), approximate="tanh") * self.up(normed)))

    def frames(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values of frames, [V, H, F, D] each, and the frames behind this layer, [V, F, d]."""
        normed = self.before(x)
        query, key, value = (self.split(linear(normed)) for linear in (self.q, self.k, self.v))
        scores = query @ key.transpose(2, 3) + self.distances(self.frame_bias, x.shape[1], x.shape[1])
        return key, value, self.end(x, attend(scores, mask[:, None, None]) @ value)

    def read(self, texts: Texts, frames: tuple[Tensor, Tensor], frame_mask: Tensor, places: Places) -> Tensor:
        """Rows behind this layer, [R, L or 1, d]. Args: frame_mask: bool [clips, F]."""
        length = texts.query.shape[2]
        key, value = frames
        own = texts.query @ texts.key.transpose(2, 3) + self.distances(self.text_bias, length, texts.x.shape[1])
        looks = places.spread(texts.query) @ key.transpose(2, 3) + self.across[0][:, None, None]
        seen = places.gathered(hidden(looks, frame_mask[:, None, None]), length)
        scores = torch.cat([hidden(own, texts.mask[:, None, None]), seen], dim=-1)
        own_weight, frame_weight = scores.softmax(-1).to(value.dtype).split([own.shape[-1], key.shape[2]], dim=-1)
        found = own_weight @ texts.value + places.gathered(places.spread(frame_weight) @ value, length)
        return self.end(texts.x[:, :length], found)

    def dense(self, x: Tensor, mask: Tensor, length: int, full: bool) -> Tensor:
        """Sequences of a text's `length` tokens and frames, [N, L + F, d], each read by itself."""
        normed = self.before(x)
        query, key, value = (self.split(linear(normed)) for linear in (self.q, self.k, self.v))
        frames = x.shape[1] - length
        bias = x.new_zeros(self.heads, x.shape[1], x.shape[1])
        bias[:, :length, :length] = self.distances(self.text_bias, length, length)
        bias[:, length:, length:] = self.distances(self.frame_bias, frames, frames)
        bias[:, :length, length:], bias[:, length:, :length] = self.across[:, :, None, None]
        allowed = mask[:, None, None].expand(-1, 1, x.shape[1], -1)
        if not full:
            at = torch.arange(x.shape[1], device=x.device)
            allowed = allowed & ~((at >= length)[:, None] & (at < length))
        return self.end(x, attend(query @ key.transpose(2, 3) + bias, allowed) @ value)


def attend(scores: Tensor, allowed: Tensor) -> Tensor:
    """Weights of scores over what may be looked at."""
    return hidden(scores, allowed).softmax(-1).to(scores.dtype)


def hidden(scores: Tensor, allowed: Tensor) -> Tensor:
    """Scores, with the least number there is where nobody may look. (Infinity would be NaN where all are hidden.)"""
    return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)


class Reader(nn.Module):
    """Logits of (sample, text) rows.

    Args:
        width: numbers of a prepared frame. words: tokens of the tokenizer. teachers: the identities.
        bias: where logits start.
    """

    def __init__(
        self,
        config: ReaderConfig,
        attention: Literal["shared", "full"],
        width: int,
        words: int,
        teachers: Sequence[str],
        identity_std: float,
        bias: float,
    ):
        super().__init__()
        self.attention, self.recompute = attention, False
        self.project = nn.Linear(width, config.d_model)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm, self.dropout = Norm(config.d_model), nn.Dropout(config.dropout)
        self.head = nn.Linear(config.d_model, 1, bias=False)
        nn.init.normal_(self.head.weight, std=config.d_model**-0.5)
        # What the text's vector is multiplied with: the mean of a clip's frames, as they are behind the last layer.
        self.meet: nn.Sequential | None = None
        if config.match:
            meet = nn.Linear(config.d_model, config.d_model, bias=False)
            nn.init.normal_(meet.weight, std=config.d_model**-0.5)
            self.meet = nn.Sequential(Norm(config.d_model), meet)
        self.word = nn.Embedding(words, config.d_model)
        # What every identity's first token has in common.
        self.first = nn.Parameter(torch.randn(config.d_model))
        # Drawn from teachers' names, behind everything else: a new one changes no other's.
        self.identity = nn.Embedding(len(teachers), config.d_model)
        for row, teacher in zip(self.identity.weight.data, teachers, strict=True):
            row.copy_(identity_start(teacher, len(row), identity_std))
        self.scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.tensor(bias))

    @property
    def blocks(self) -> list[Block]:
        return [cast(Block, layer) for layer in self.layers]

    def row_logits(
        self, prepared: Tensor, mask: Tensor, texts: Sequence[Tensor], row_sample: Tensor, row_text: Tensor
    ) -> Tensor:
        """Logits of rows, float [R]; arguments are those of `Student.row_logits`, identities as gates."""
        x, text_mask = self._embedded(*texts)
        frames = self.dropout(self.project(prepared))
        if self.attention == "full":
            return self.dense(frames, mask, x, text_mask, row_sample, row_text, full=True)
        kept = []
        for block in self.blocks:
            key, value, frames = block.frames(frames, mask)
            kept.append((key, value))
        first = self.blocks[0].texts(x, text_mask, len(self.blocks) == 1)
        order, parts = [], []
        for rows, clips, places in _chunks(row_sample, len(mask), x.shape[1]):
            layers = [(key.index_select(0, clips), value.index_select(0, clips)) for key, value in kept]
            arguments = (first.rows(row_text.index_select(0, rows)), layers, mask.index_select(0, clips), places)
            if self.recompute and torch.is_grad_enabled():
                parts.append(checkpoint(self._read, *arguments, use_reentrant=False))
            else:
                parts.append(self._read(*arguments))
            order.append(rows)
        read = torch.cat(parts).index_select(0, torch.cat(order).argsort())
        return self._logits(read, self._met(frames, mask), row_sample)

    def _embedded(self, ids: Tensor, mask: Tensor, row: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Texts, float [U, L, d], an identity before each topic's tokens, and which tokens there are, bool [U, L]."""
        words = self.word(ids.index_select(0, row))
        identity = (self.identity(teacher) + self.first)[:, None].to(words.dtype)
        there = torch.cat([mask.new_ones(len(row), 1), mask.index_select(0, row)], dim=1)
        return self.dropout(torch.cat([identity, words], dim=1)), there

    def _read(
        self, texts: Texts, layers: Sequence[tuple[Tensor, Tensor]], frame_mask: Tensor, places: Places
    ) -> Tensor:
        x, last = texts.x, len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            if number:
                texts = block.texts(x, texts.mask, number == last)
            x = block.read(texts, layers[number], frame_mask, places)
        return x[:, 0]

    def dense(
        self,
        frames: Tensor,
        mask: Tensor,
        texts: Tensor,
        text_mask: Tensor,
        row_sample: Tensor,
        row_text: Tensor,
        full: bool,
    ) -> Tensor:
        """Logits of rows, each read by itself: what is shared otherwise is computed for every row.

        Args:
            frames: float [V, F, d]. texts: float [U, L, d]. full: frames look at the text, too.
        """
        length, size, parts = texts.shape[1], texts.shape[1] + frames.shape[1], []
        at_once = max(1, CHUNK_TOKENS.get(frames.device.type, 1 << 15) // size)
        for sample, text in zip(row_sample.split(at_once), row_text.split(at_once), strict=True):
            x = torch.cat([texts.index_select(0, text), frames.index_select(0, sample)], dim=1)
            there = torch.cat([text_mask.index_select(0, text), mask.index_select(0, sample)], dim=1)
            for block in self.blocks:
                x = block.dense(x, there, length, full)
            met = self._met(x[:, length:], mask.index_select(0, sample))
            parts.append(self._logits(x[:, 0], met, torch.arange(len(x), device=x.device)))
        return torch.cat(parts)

    def _met(self, frames: Tensor, mask: Tensor) -> Tensor | None:
        """What clips' frames have come to, float [V, d]: their mean behind the last layer. None where nobody asks."""
        if self.meet is None:
            return None
        weight = mask[..., None].to(frames.dtype)
        return cast(Tensor, self.meet((frames * weight).sum(1) / weight.sum(1).clamp(min=1)))

    def _logits(self, x: Tensor, met: Tensor | None, row: Tensor) -> Tensor:
        """Logits of rows, float [R]. Args: x: float [R, d]. met: float [V, d] of clips, of which row r has row[r]."""
        x = self.norm(x)
        score = self.head(x)[:, 0]
        if met is not None:
            score = score + (x * met.index_select(0, row)).sum(-1) * x.shape[-1] ** -0.5
        return single(self.scale.exp() * score) + self.bias


def _chunks(row_sample: Tensor, clips: int, length: int) -> Iterator[tuple[Tensor, Tensor, Places]]:
    """Rows by clips that have about as many: (rows, their clips, where each row goes among these), on the device."""
    device = row_sample.device
    host = row_sample.cpu()
    counts = host.bincount(minlength=clips)
    by_clip = host.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    order = counts.argsort(descending=True, stable=True)
    budget = max(1, CHUNK_TOKENS.get(device.type, 1 << 15) // length)
    ordered, at, end = counts[order], 0, int((counts > 0).sum())
    while at < end:
        most = int(ordered[at])
        enough = int((ordered[at:end] >= LEAST_SHARE * most).sum())
        these = order[at : at + max(1, min(enough, budget // most))]
        own = counts[these]
        place = torch.arange(len(these)).repeat_interleave(own)
        rank = torch.arange(len(place)) - (own.cumsum(0) - own).repeat_interleave(own)
        rows = by_clip[starts[these].repeat_interleave(own) + rank]
        yield rows.to(device), these.to(device), Places((place * most + rank).to(device), len(these), most)
        at += len(these)
