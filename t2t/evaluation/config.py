"""Bounds of the checks before and after a training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from t2t.core.config import Config, Grown, Later

# The precision that a yes is to have, where nobody wishes another.
PRECISION = 0.8


class HealthConfig(Config):
    """What a campaign does about a teacher whose confidences hardly vary."""

    constant: Literal["warn", "block", "off"] = Field("warn", description="Say it and go on, stop, or do not look.")
    min_distinct: int = Field(
        2, ge=1, le=1_000_000, description="Different confidences that a teacher needs; hard labels have two."
    )
    min_entropy: float = Field(
        0.01,
        ge=0,
        le=5,
        description="Bits, of the histogram with 32 bins; 0.01 is one row in a thousand outside one bin.",
    )


class WatchConfig(Grown):
    """Beyond which bounds a self-training teacher has collapsed; null turns a bound off.

    The defaults let everything pass but a real collapse: labels that rank pairs at random, that call nearly every video
    the same, or whose confidences have moved to another place altogether (docs/decisions.md has the numbers).
    """

    min_agreement: float | None = Field(
        0.05,
        ge=-1,
        le=1,
        description="Rank correlation with the outside teachers, at least: the mean over them, judged from 1,000 pairs "
        "on, since by chance fewer can have any.",
    )
    min_entropy: float | None = Field(
        0.05, ge=0, le=1, description="Normalised entropy of the topics' shares of the positives, at least."
    )
    max_psi: float | None = Field(
        5.0,
        gt=0,
        le=1_000_000,
        description="Population stability index to the previous and to the first self-training teacher.",
    )
    hacking: Annotated[float | None, Later()] = Field(
        0.0,
        ge=0,
        le=1,
        description="Flag a round whose loss on its teachers' tasks fell while PR-AUC on people's validation pairs "
        "fell by more than that beyond its 95 % interval; null: do not look.",
    )
