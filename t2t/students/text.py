"""Texts of the student: a topic with a teacher's identity in front of it (paper, section 3.1).

The identity is one special token of the tokenizer, so that it costs one position and has an embedding of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from t2t.core.errors import T2TError, told
from t2t.students.tokenizers import panicked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

log = logging.getLogger("t2t")

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
# What a topic that is one token begins with.
MARK = "topic: "


def identity_token(teacher_id: str) -> str:
    """The special token that stands for a teacher, e.g. ``<teacher:human>``."""
    return f"<teacher:{teacher_id}>"


def fit_tokenizer(topics: Sequence[str], vocab_size: int = 8192) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer fitted on the campaign's topics: any text has tokens, frequent words have one."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # A topic counts as often as it stands: words are what topics share, so merges follow the words.
    tokenizer.train_from_iterator(sorted(topics), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN)


def topic_table(topics: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that knows these topics and no words: each is one token."""
    from transformers import PreTrainedTokenizerFast

    vocabulary = {name: number for number, name in enumerate((PAD, END, UNKNOWN))}
    # Behind a mark, so that no topic is a special token.
    vocabulary |= {MARK + topic: number for number, topic in enumerate(topics, len(vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Prepend(MARK)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN)


def topics_in(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The topics of a `topic_table` and their tokens."""
    found = {name.removeprefix(MARK): row for name, row in tokenizer.get_vocab().items() if name.startswith(MARK)}
    return dict(sorted(found.items(), key=lambda item: item[1]))


class TopicTokens:
    """Topics tokenised once; texts are then put together from arrays, never from strings.

    ids: int64 [topics, L], padded with the tokenizer's pad id; lengths: int64 [topics].
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, topics: Sequence[str], max_tokens: int = 32):
        encoded = _encode(tokenizer, topics, max_tokens)
        self.pad = tokenizer.pad_token_id
        self.end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        self.start = tokenizer.cls_token_id
        self.lengths = np.array([len(ids) for ids in encoded], np.int64)
        self.ids = np.full((len(encoded), max(self.lengths, default=0)), self.pad, np.int64)
        for row, ids in zip(self.ids, encoded, strict=True):
            row[: len(ids)] = ids

    def texts(self, topic: np.ndarray, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of `<identity> topic </s>`.

        Args:
            topic: int64 [U], indices of topics.
            identity: int64 [U], token ids of the teachers' identities.

        Returns: ids int64 [U, L + 2] and mask bool [U, L + 2], cut to the longest text.
        """
        lengths = self.lengths[topic]
        width = int(lengths.max(initial=0))
        ids = np.full((len(topic), width + 2), self.pad, np.int64)
        ids[:, 0] = identity
        ids[:, 1 : width + 1] = self.ids[topic, :width]
        ids[np.arange(len(topic)), lengths + 1] = self.end
        mask = np.arange(width + 2) < (lengths + 2)[:, None]
        return ids, mask

    def plain(self, topic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of `topic </s>`, without an identity; behind the start token of a tokenizer that has one.

        Args:
            topic: int64 [U], indices of topics.

        Returns: ids int64 [U, L] and mask bool [U, L].
        """
        ids, mask = self.texts(topic, np.full(len(topic), self.pad if self.start is None else self.start))
        return (ids, mask) if self.start is not None else (ids[:, 1:], mask[:, 1:])


def _encode(tokenizer: PreTrainedTokenizerBase, topics: Sequence[str], max_tokens: int) -> list[list[int]]:
    """A topic is plain text: `</s>` or `<teacher:human>` in it are letters, not tokens with a meaning of their own."""
    try:
        return tokenizer(
            list(topics), add_special_tokens=False, split_special_tokens=True, truncation=True, max_length=max_tokens
        )["input_ids"]
    except BaseException as error:
        if panicked(error):  # of a pattern that would take a time without end, say
            raise T2TError(f"The tokenizer cannot read these topics: {told(error)}") from None
        raise


def warn_of_twins(
    tokenizer: PreTrainedTokenizerBase, topics: Sequence[str], max_tokens: int, ordered: bool = True
) -> None:
    """Says which topics the student cannot tell apart: cut off before they differ, unknown to the tokenizer, or of the
    same words in another order.

    Args:
        ordered: whether the student's text tower sees in which order words come.
    """
    encoded = _encode(tokenizer, topics, max_tokens)
    twins = _twins(topics, [tuple(ids) for ids in encoded])
    mixed = [] if ordered else _twins(topics, [tuple(sorted(ids)) for ids in encoded])
    if len(mixed) > len(twins):
        log.warning(
            "%d topics have the same words as another one in another order, for instance %.60r and %.60r, and a text "
            "tower without layers cannot tell them apart: set student.text.layers to 1.",
            len(mixed) - len(twins),
            *next(pair for pair in mixed if pair not in twins),
        )
    if twins:
        log.warning(
            "%d topics have the same tokens as another one, for instance %.60r and %.60r, so the student cannot tell "
            "them apart; topics are cut after student.text.max_tokens (%d).",
            len(twins),
            *twins[0],
            max_tokens,
        )


def _twins(topics: Sequence[str], keys: Sequence[tuple[int, ...]]) -> list[tuple[str, str]]:
    """Topics whose key another one before them has, with that one."""
    first: dict[tuple[int, ...], str] = {}
    pairs = ((topic, first.setdefault(key, topic)) for topic, key in zip(topics, keys, strict=True))
    return [(topic, other) for topic, other in pairs if topic != other]
