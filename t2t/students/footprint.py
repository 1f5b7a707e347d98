"""What a student weighs, and what its training takes of memory: counted from its configuration, without torch.

Weights are exact (tests/students/test_footprint.py). What a training step keeps for its backward pass is an estimate:
numbers of a token and a layer as they were counted on T5's layers, times the tokens of a batch. docs/students.md says
how far it lies from what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from t2t.students.config import DualEncoderConfig, EncoderOnlyConfig, FrontendConfig, MultiHeadConfig, TowerConfig
from t2t.students.presets import EncoderShape, encoder_shape, t5_numbers

FLOAT = 4
# Numbers that a layer keeps of a token, for each of d_model, d_ff, and (heads x length); and its beginning and end.
KEPT_MODEL, KEPT_D_FF, KEPT_LOOKS, KEPT_ENDS = 12, 5, 3, 4
# Numbers that a row keeps: two places of eight bytes, its target, weight, cosine, logit and losses.
KEPT_ROW = 12
# As in `t2t.students.rows`, `t2t.students.reader` and `t2t.training.prepared`, which need torch.
PAIRS_A_ROW, BLOCK_TOKENS, CHUNK_TOKENS, PREPARED_BYTES = 16, 1 << 12, 1 << 15, 4 << 30
# Of a tokenizer that knows topics only: what pads, ends a text, is unknown.
SPECIAL_TOKENS = 3


@dataclass(frozen=True)
class Trained:
    """What a student is trained on.

    dim: numbers of a frame embedding. frames: the most that a sample has. samples: all of them. batch_samples,
    batch_rows: of a batch. topics, teachers: their number. words: tokens of the tokenizer, without identities. tokens:
    those of a topic, on average. recompute: as of `TrainingConfig`.
    """

    dim: int
    frames: int
    samples: int
    batch_samples: int
    batch_rows: int
    topics: int
    teachers: int
    words: int
    tokens: float
    recompute: bool = False


@dataclass(frozen=True)
class Footprint:
    """Weights by part, how many of them are trained, and bytes of a training by what they are for."""

    weights: dict[str, int]
    trained: int
    bytes: dict[str, int]

    @property
    def total(self) -> int:
        """All weights."""
        return sum(self.weights.values())

    @property
    def needed(self) -> int:
        """Bytes of a training, beside what the process takes anyway."""
        return sum(self.bytes.values())


def footprint(config: Any, on: Trained, ema: bool = True) -> Footprint | None:
    """A student's weights and memory. None for a kind of a plug-in, and where a pretrained encoder is not known.

    Args:
        config: of a student. ema: whether the training keeps a moving average of the weights.
    """
    kept: float
    if isinstance(config, DualEncoderConfig):
        shape = _text_shape(config, on.words)
        if shape is None:
            return None
        weights, frozen = _dual(config, shape, on)
        kept = _dual_kept(config, shape, on)
    elif isinstance(config, MultiHeadConfig):
        weights, frozen = _multi_head(config, on), 0
        kept = _sample_kept(config.sample, _frontend(config.frontend, on.dim), config.dim, on)
        kept = config.members * (kept + _rows_kept(on, config.dim, on.topics * on.teachers))
    elif isinstance(config, EncoderOnlyConfig):
        weights, frozen = _encoder_only(config, on), 0
        kept = _encoder_only_kept(config, on)
    else:
        return None
    total = sum(weights.values())
    trained = total - frozen
    prepared = on.samples * on.frames * _frontend(config.frontend, on.dim) * FLOAT
    # The best step's weights are kept, and for a moment those before them as well.
    copies = total * (2 + ema)
    return Footprint(
        weights,
        trained,
        {
            "weights": total * FLOAT,
            "gradients": trained * FLOAT,
            # Two numbers of each weight, and two more of one matrix after the other while it takes its step.
            "optimizer": 2 * (trained + _largest(config, on)) * FLOAT,
            "moving average and best step": copies * FLOAT,
            "prepared frames": prepared if prepared <= PREPARED_BYTES else 0,
            "a step's activations": round(kept * FLOAT),
        },
    )


def _largest(config: DualEncoderConfig | MultiHeadConfig | EncoderOnlyConfig, on: Trained) -> int:
    """Weights of the largest matrix that is trained."""
    towers = [config.sample]
    tables = [config.sample.d_model * _frontend(config.frontend, on.dim)]
    if isinstance(config, MultiHeadConfig):
        tables.append(on.topics * (config.dim + 1))
    elif isinstance(config, EncoderOnlyConfig):
        towers.append(config.reader)
        tables.append(on.words * max(config.reader.d_model, config.text.d_model))
    elif not config.text.freeze:
        shape = _text_shape(config, on.words)
        tables += [shape.words * shape.width, shape.width * shape.d_ff] if shape is not None else []
    return max(*tables, *(tower.d_model * tower.d_ff * (tower.layers > 0) for tower in towers))


def _frontend(config: FrontendConfig, dim: int) -> int:
    """Numbers of a prepared frame."""
    width = dim * (1 + config.change + 2 * config.variation)
    return min(config.whiten or width, width)


def _tower(tower: TowerConfig, words: int) -> int:
    """Weights of a T5 encoder from scratch."""
    head = max(tower.d_model // tower.heads, 1)
    return t5_numbers(words, tower.d_model, tower.layers, tower.heads, head, tower.d_ff)


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _text_shape(config: DualEncoderConfig, words: int) -> EncoderShape | None:
    """A text tower's shape; None where it is a pretrained one that is not known."""
    text = config.text
    if text.pretrained is not None:
        return encoder_shape(text.pretrained)
    return EncoderShape(_tower(text, words), words, text.d_model, text.layers, text.heads, text.d_ff)


def _sample(tower: TowerConfig, frontend: int, dim: int) -> int:
    return _linear(frontend, tower.d_model) + _tower(tower, 1) + _linear(tower.d_model, dim)


def _dual(config: DualEncoderConfig, shape: EncoderShape, on: Trained) -> tuple[dict[str, int], int]:
    """Weights by part, and how many of them are not trained."""
    members, gated, linear = config.members, config.text.identity == "gate", config.text.head == "linear"
    dim = config.dim if linear else shape.width
    shared = config.text.pretrained is not None and config.text.freeze and gated
    texts = 1 if shared else members
    weights = {
        "sample tower": members * _sample(config.sample, _frontend(config.frontend, on.dim), dim),
        "text tower": texts * shape.numbers + members * linear * _linear(shape.width, dim),
        "identities and scales": members
        * (on.teachers * (2 * dim if gated else shape.width) + 2 + 2 * len(config.matryoshka)),
    }
    return weights, texts * shape.numbers if config.text.freeze else 0


def _multi_head(config: MultiHeadConfig, on: Trained) -> dict[str, int]:
    each = {
        "sample tower": _sample(config.sample, _frontend(config.frontend, on.dim), config.dim),
        "topics": (on.topics + SPECIAL_TOKENS) * (config.dim + 1),
        "identities and scales": on.teachers * (2 * config.dim + 1) + 2,
    }
    return {name: config.members * number for name, number in each.items()}


def _encoder_only(config: EncoderOnlyConfig, on: Trained) -> dict[str, int]:
    frontend, first = _frontend(config.frontend, on.dim), config.first
    shape = _text_shape(first, on.words)
    assert shape is not None, "it is from scratch"
    weights, _ = _dual(first, shape, on)
    d, reader = config.reader.d_model, config.reader
    inner = max(d // reader.heads, 1) * reader.heads
    layer = 4 * d * inner + 3 * d * reader.d_ff + 2 * d + 2 * reader.heads * (2 * reader.distance + 2)
    own = _linear(frontend, d) + reader.layers * layer + on.words * d + 3 * d + on.teachers * d + 2
    own += d * d + d if reader.match else 0
    return weights | {"reader": config.members * own}


# -- what a step keeps -----------------------------------------------------------------------------------------------


def _layers_kept(on: Trained, tokens: float, length: float, d_model: int, d_ff: int, heads: int, layers: int) -> float:
    layer = KEPT_MODEL * d_model + KEPT_D_FF * d_ff + KEPT_LOOKS * heads * length
    in_layers = min(tokens, BLOCK_TOKENS) if on.recompute else tokens
    return in_layers * layers * layer + tokens * KEPT_ENDS * d_model


def _sample_kept(tower: TowerConfig, frontend: int, dim: int, on: Trained) -> float:
    """Numbers that the tower for samples keeps: prepared frames with their noise, layers, the end."""
    tokens = on.batch_samples * on.frames
    layers = _layers_kept(on, tokens, on.frames, tower.d_model, tower.d_ff, tower.heads, tower.layers)
    return 2 * tokens * frontend + layers + on.batch_samples * 4 * dim


def _rows_kept(on: Trained, dim: int, texts: int) -> float:
    """Numbers that rows keep, and the texts' vectors as identities change them."""
    pairs = on.batch_samples * texts
    dense = 2 * pairs if pairs <= PAIRS_A_ROW * on.batch_rows else 2 * on.batch_rows * dim
    return on.batch_rows * KEPT_ROW + dense + texts * 6 * dim


def _dual_kept(config: DualEncoderConfig, shape: EncoderShape, on: Trained) -> float:
    text, texts = config.text, on.topics * on.teachers
    gated = text.identity == "gate"
    dim = config.dim if text.head == "linear" else shape.width
    read = on.topics if gated else texts
    length = min(on.tokens, text.max_tokens) + (1 if gated else 2)
    once = text.pretrained is not None and text.freeze and gated
    of_texts = (
        0.0 if once else _layers_kept(on, read * length, length, shape.width, shape.d_ff, shape.heads, shape.layers)
    )
    of_samples = _sample_kept(config.sample, _frontend(config.frontend, on.dim), dim, on)
    rows = _rows_kept(on, dim, texts) * (1 + len(config.matryoshka))
    return config.members * (of_texts + of_samples + rows + read * 4 * dim)


def _encoder_only_kept(config: EncoderOnlyConfig, on: Trained) -> float:
    reader, first = config.reader, config.first
    shape = _text_shape(first, on.words)
    assert shape is not None
    frames, length = on.batch_samples * on.frames, min(on.tokens, config.max_tokens) + 2
    clips = _layers_kept(on, frames, on.frames, reader.d_model, reader.d_ff, reader.heads, reader.layers)
    looks = KEPT_LOOKS * reader.heads * (length + on.frames)
    layer = KEPT_MODEL * reader.d_model + KEPT_D_FF * reader.d_ff + looks
    # In the last layer a row has its first token alone, and keys and values of all.
    read = min(on.batch_rows, CHUNK_TOKENS / length) if on.recompute else on.batch_rows
    rows = read * ((reader.layers - 1) * length * layer + layer + 3 * length * reader.d_model)
    return _dual_kept(first, shape, on) + config.members * (clips + rows)
