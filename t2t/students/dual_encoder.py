"""The kind `dual-encoder`: how a student is made, and made again from a checkpoint (`t2t.students.base`)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from t2t.core.config import parse
from t2t.core.errors import T2TError, told
from t2t.data.scales import Scale
from t2t.students.config import DualEncoderConfig
from t2t.students.ensemble import Ensemble
from t2t.students.student import Student
from t2t.students.text import fit_tokenizer, identity_token, warn_of_twins
from t2t.students.towers import pretrained, text_encoder_of

# transformers takes seconds to import, and a campaign is read by commands that build no student: it comes when one is.
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Config", "Student", "add_identities", "build", "restore"]


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
        config = config.model_copy(update={"bias": logit(prior)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.text.pretrained is None:
            tokenizer = fit_tokenizer(topics)
            encoder = None
        else:
            tokenizer, encoder = pretrained(config.text.pretrained)
        if config.text.head == "none":
            width = encoder.config.hidden_size if encoder is not None else config.text.d_model
            config = config.model_copy(update={"dim": int(width)})
        ordered = config.text.pretrained is not None or config.text.layers > 0
        warn_of_twins(tokenizer, topics, config.text.max_tokens, ordered)
        add_identities(tokenizer, teachers)
        return _made(config, input_dim, tokenizer, teachers, encoder, kind, seed)


def logit(prior: float) -> float:
    """Where scores start: the logit of a mean confidence, 0..1, away from both ends."""
    prior = min(max(prior, 1e-3), 1 - 1e-3)
    return math.log(prior / (1 - prior))


def _made(
    config: DualEncoderConfig,
    input_dim: int,
    tokenizer: PreTrainedTokenizerBase,
    teachers: Sequence[str],
    encoder: PreTrainedModel | None,
    kind: type[Student],
    seed: int = 0,
) -> Student:
    """A student of so many members as the configuration says. Each draws its weights by a seed of its own, since how
    much is drawn goes by the number of teachers."""
    if config.members == 1:
        return kind(config, input_dim, tokenizer, teachers, encoder)
    if kind is not Student:
        # The ensemble scores by what ours has, whatever the kind overrides.
        raise T2TError(f"student.members: {config.members} as one are there for the kind dual-encoder only; take 1.")
    # Where a topic is read once for all they share the text encoder; else each has its own.
    own = encoder is not None and not (config.text.freeze and config.text.identity == "gate")
    one = config.model_copy(update={"members": 1})
    encoders = [copy.deepcopy(encoder) if own and i else encoder for i in range(config.members)]
    members = []
    seeds = np.random.SeedSequence(seed).generate_state(len(encoders))
    for text_encoder, own_seed in zip(encoders, seeds, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(own_seed))
            members.append(Student(one, input_dim, tokenizer, teachers, text_encoder))
    return Ensemble(config, members)


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
        encoder = text_encoder_of(text_encoder) if text_encoder is not None else None
    except Exception as error:  # Its parsers raise whatever a broken file leads them to.
        raise T2TError(f"{where}: no text encoder can be made of it: {told(error)}") from None
    student = _made(config, saved["input_dim"], tokenizer, saved["teachers"], encoder, kind)
    student.scales = scales_of(saved, where)
    student.trained_topics = tuple(saved.get("trained_topics", ()))
    return student


def scales_of(saved: Mapping[str, Any], where: object) -> dict[str, Scale]:
    """The scales of a checkpoint's identities."""
    return {name: parse(Scale, scale, where) for name, scale in saved.get("scales", {}).items()}


# What a kind's module calls its configuration (`t2t.students.base`).
Config = DualEncoderConfig
