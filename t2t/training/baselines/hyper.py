"""The hyper label model (Wu and others, 2023), where the package is installed (extra `label-models`): a network that
was trained on made votes, and reads a whole matrix of votes at once."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy._core import multiarray

from t2t.training.baselines.voting import SILENT, YES, LabelModel, Model

# Votes that stand beside those that are asked about, since it reads all at once.
MOST_BESIDE = 20_000
# What its checkpoint may be made of besides tensors.
ALLOWED: list[Any] = [(multiarray.scalar, "numpy.core.multiarray.scalar"), np.dtype]
ALLOWED += {type(np.dtype(name)) for name in ("float32", "float64", "int64")}


class HyperLabelModel(LabelModel):
    name: ClassVar[str] = "hyper-label-model"
    words = "the hyper label model"
    least: ClassVar[int] = 3

    def learn(self, votes: np.ndarray, share: float) -> Model:
        import torch
        from hyperlm import HyperLabelModel as Theirs

        # Its checkpoint is a pickle with numpy's numbers in it, by the name of a module that is not theirs any more.
        with torch.serialization.safe_globals(ALLOWED):
            model = Theirs(device="cpu")
        beside = votes[(votes != SILENT).any(axis=1)][:MOST_BESIDE].astype(np.int64)

        def says(votes: np.ndarray) -> np.ndarray:
            together = np.concatenate([beside, votes.astype(np.int64)])
            if not (together == YES).any():
                return np.zeros(len(votes))
            return np.asarray(model.infer(together, return_probs=True)[len(beside) :, 1], np.float64)

        return says
