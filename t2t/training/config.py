"""The recipe of a training, without the libraries that carry it out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from t2t.core.config import Config, Free

# Of steps, rows and samples: beyond it a number is a slip, and tensors are counted in 64 bits.
MOST = 10**9


class TrainingConfig(Config):
    """The recipe. Batch size is counted in rows, as in the paper (which uses 65,536)."""

    steps: int = Field(1000, ge=1, le=MOST, description="Steps of the optimiser, at most.")
    batch_rows: int = Field(4096, ge=1, le=MOST, description="Rows of a batch, at most.")
    batch_samples: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="At most so many samples in a batch, so that more teachers do not mean fewer epochs.",
    )
    rows_per_sample: int | None = Field(
        None, ge=1, le=MOST, description="At most so many random rows of a sample in a batch."
    )
    loss: Literal["mse", "bce"] = Field("mse", description="Squared error, or cross-entropy, of confidences.")
    learning_rate: float = Field(1e-3, gt=0, le=1000, description="Its highest value, reached after the warm-up.")
    weight_decay: float = Field(0.01, ge=0, le=1000, description="AdamW's, of weights; norms and biases have none.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    clip: float = Field(1.0, gt=0, le=1e12, description="Largest norm of the gradient, of all members' together.")
    task_weight: Mapping[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        default_factory=dict, description="Weight of an identity's rows in the loss; 1 where none is given."
    )
    balance: float = Field(
        0.0, ge=0, le=1, description="0: every row counts the same. 1: every identity counts the same."
    )
    human_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the loss that people's rows have, however many they are; null: their rows' weight.",
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Mix two samples of a batch and what is said of them; parameter of Beta(a, a), 0 is off.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="Stop after so many looks at validation without a better one; null: after all steps.",
    )
    stop_after: int | None = Field(
        None, ge=1, le=MOST, description="End after so many steps, though the learning rate falls as for `steps`."
    )
    frame_dropout: float = Field(0.0, ge=0, lt=1, description="Share of frames hidden in training.")
    noise: float = Field(
        0.0, ge=0, le=1000, description="Gaussian noise on prepared frames, whose numbers have variance 1."
    )
    ema: float = Field(0.0, ge=0, lt=1, description="Decay of a moving average of the weights, which is kept instead.")
    evaluate_every: int = Field(100, ge=1, le=MOST, description="Steps between looks at the validation split.")
    snapshot_minutes: Annotated[float, Free()] = Field(
        5.0, gt=0, le=100_000, description="Minutes between snapshots, from which a killed run goes on."
    )
    snapshot_steps: Annotated[int | None, Free()] = Field(
        None, ge=1, le=MOST, description="Steps between snapshots, besides the minutes."
    )
    initialise: Literal["scratch", "previous"] = Field(
        "scratch", description="Where a round's student starts: anew, or from the weights of the last one that passed."
    )
    workers: Annotated[int, Free()] = Field(
        1,
        ge=1,
        le=10_000,
        description="Processes that share each batch: GPUs of this machine, or of a cluster with engine: ray.",
    )
    threads: Annotated[int | None, Free()] = Field(
        None,
        ge=1,
        le=10_000,
        description="Of a training, and of what its student says in a round, on the CPU; null: torch's own.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of the towers' arithmetic; auto: bfloat16 on CUDA, else float32. Weights are float32."
    )
    recompute: bool = Field(
        False, description="Compute the towers twice instead of keeping what they compute, for batches beyond memory."
    )


# Settings that came later; a recipe that leaves them alone has the identity that it had before.
LATER = {"human_share": None, "mixup": 0.0, "patience": None, "stop_after": None}


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine down to zero."""
    warmup = max(1, round(config.warmup * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))
