"""What a student is: scores of (sample, topic) pairs, asked as any of its identities (DESIGN, "The method, exactly").

A *kind* of student is a module found by its name (`t2t.students.KINDS`, or a package's entry point in the group
`t2t.students`). It has three names: `Config`, its shape, with `kind`; `build`, which makes a new student; `restore`,
which makes that of a checkpoint, its weights still to be filled. Their arguments are those of
`t2t.students.dual_encoder`.

The protocol below is what measuring asks for. Training asks for what a dual-encoder has besides: a module with
`frontend`, `encode_prepared`; `tokenizer`, `token_ids`, `words`, `texts`, `encode_texts` (which takes what `texts`
gives), `encode_words`; `members` (itself, or several), `logits`, `gated`, `scale`, `bias`, `recompute`, `start_from`,
and `scales`, which it is given. Tagging and `t2t tag` ask for `embed`, `encode_topics` and `answers`, `t2t search` for
`width` besides, checkpoints for `saved`; `t2t export` takes the dual-encoder only. So
today a further kind is a variant of that one: docs/extend.md has the list and an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import HUMAN
from t2t.data.pairs import Pairs


class Student(Protocol):
    """A student on a device. A new teacher leaves the scores of the others as they are, bit for bit. So does a
    new topic, which has no weights of its own; topics of one call move each other's scores by float32's rounding.

    input_dim: size of a frame embedding. teachers: its identities.
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
        """The pairs with the scores that `predict` has for them.

        Args:
            indices: int64 [N], positions in `embeddings` of the pairs' samples.
        """

    @property
    def saved(self) -> dict[str, Any]:
        """What its kind restores it from, beside weights and tokenizer, as JSON: `student` (its configuration),
        `input_dim`, `teachers` and what the kind needs."""
