"""What a student is: scores of (sample, topic) pairs, asked as any of its identities (DESIGN, "The method, exactly").

A *kind* of student is a module found by its name (`t2t.students.KINDS`, or a package's entry point in the group
`t2t.students`). It has three names: `Config`, its shape, with `kind`; `build`, which makes a new student; `restore`,
which makes that of a checkpoint, its weights still to be filled. Their arguments are those of
`t2t.students.dual_encoder`.

The protocol below is what measuring asks for. Training asks for what a dual-encoder has besides: a module with
`frontend`, `encode_prepared`; `tokenizer`, `token_ids`, `words`, `texts`, `encode_texts` (which takes what `texts`
gives), `encode_words`; `members` (itself, or several), `logits`, `gated`, `scale`, `bias`, `recompute`, `start_from`,
`scales`, which it is given, and, where people only measure, each member's `identity`, an embedding with a row for
each teacher. Tagging and `t2t tag` ask for `embed`, `encode_topics` and `answers`, `t2t search` for `width` besides,
checkpoints for `saved`; `t2t export` takes the dual-encoder only. So
today a further kind is a variant of that one: docs/extend.md has the list and an example.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from t2t.core.errors import T2TError, listed, nearest
from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import HUMAN
from t2t.data.pairs import Pairs


class Student(Protocol):
    """A student on a device. A new teacher leaves the scores of the others as they are, bit for bit. So does a
    new topic, which has no weights of its own; topics of one call move each other's scores by float32's rounding.

    input_dim: size of a frame embedding. teachers: its identities. `vocabulary`, where there is one and it is not None:
    the only topics that it can be asked about.
    """

    input_dim: int
    teachers: list[str]

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def predict(
        self, embeddings: Embeddings, indices: np.ndarray, topics: Sequence[str], identity: str = HUMAN
    ) -> np.ndarray:
        """Confidences of samples x topics under an identity, float32 [N, M] in 0..1.

        Args:
            indices: int64 [N], positions in `embeddings`.

        Raises T2TError for an identity that it does not know.
        """

    def predict_pairs(self, embeddings: Embeddings, indices: np.ndarray, pairs: Pairs, identity: str = HUMAN) -> Pairs:
        """The pairs with the scores that `predict` has for them; of a student with a vocabulary those of its topics.

        Args:
            indices: int64 [N], positions in `embeddings` of the pairs' samples.
        """

    @property
    def saved(self) -> dict[str, Any]:
        """What its kind restores it from, beside weights and tokenizer, as JSON: `student` (its configuration),
        `input_dim`, `teachers` and what the kind needs."""


@runtime_checkable
class Reads(Protocol):
    """A student that reads a sample and a topic together, so that embeddings only find what may be worth reading.

    shortlist: topics of each sample that are read where it labels.
    """

    shortlist: int

    def read(
        self, embeddings: Embeddings, indices: np.ndarray, topics: Sequence[str], chosen: np.ndarray, identity: str
    ) -> np.ndarray:
        """Confidences of some topics of each sample as an identity gives them, float32 [N, C] in 0..1.

        Args:
            indices: int64 [N], positions in `embeddings`. chosen: int64 [N, C], places in `topics`.
        """


def known_topics(student: Any, topics: Sequence[str]) -> list[str]:
    """Those that a student can be asked about: all, unless its kind has a vocabulary."""
    vocabulary = getattr(student, "vocabulary", None)
    return [topic for topic in topics if vocabulary is None or topic in vocabulary]


def known_pairs(student: Any, pairs: Pairs) -> Pairs:
    """Those of topics that a student can be asked about."""
    known = known_topics(student, pairs.topics)
    return pairs if len(known) == len(pairs.topics) else pairs.of_topics(frozenset(known))


def check_topics(student: Any, topics: Iterable[str]) -> None:
    """Raises T2TError for topics that a student cannot be asked about, naming the nearest one that it can."""
    vocabulary = getattr(student, "vocabulary", None)
    unknown = [] if vocabulary is None else [topic for topic in topics if topic not in vocabulary]
    if unknown:
        raise T2TError(
            f"This student is of kind {student.config.kind} and knows the {len(vocabulary or ()):,} topics that it was "
            f"trained on, not {listed(unknown, 3)}.{nearest(unknown[0], vocabulary or ())} A student that reads texts "
            "(student.kind: dual-encoder) can be asked about any."
        )
