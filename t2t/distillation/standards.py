"""The standardisers of a distillation: one for each teacher and token type."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from t2t.distillation.config import DistillationConfig
from t2t.distillation.loss import TYPES
from t2t.distillation.parts import FeatureTeacher, Tokens
from t2t.distillation.standardise import KINDS, Moments, PhiS, as_the_leader, momentum
from t2t.training.group import Group


class Standards(nn.Module):
    """Teachers' tokens on one scale. Its buffers are all that a snapshot needs.

    Attributes:
        estimates: whether mean and covariance are needed before the training.
    """

    def __init__(self, teachers: Sequence[FeatureTeacher], config: DistillationConfig):
        super().__init__()
        self.config, self.names = config.standardise, [teacher.name for teacher in teachers]
        self.types = TYPES if config.loss.patches else TYPES[:1]
        kind = KINDS[self.config.by]
        self.each = nn.ModuleList(nn.ModuleList(kind(teacher.dim) for _ in self.types) for teacher in teachers)
        self.estimates = self.config.by == "phi-s"
        self._moments = [[Moments(teacher.dim) for _ in self.types] for teacher in teachers]

    def forward(self, features: Sequence[Tokens]) -> list[Tokens]:
        """Of each teacher its tokens, to what the student is to say; float32."""
        found = []
        for tokens, standardisers in zip(features, self.each, strict=True):
            parts = zip(tokens, standardisers, strict=False)  # type: ignore[call-overload]
            cls, *patches = (standardiser(part) for part, standardiser in parts)
            found.append(Tokens(cls, patches[0] if patches else tokens.patches))
        return found

    def update(self, features: Sequence[Tokens], step: int, steps: int, group: Group) -> None:
        """Takes a step's batch into account, where statistics move. Args: steps: of the whole training."""
        weight = momentum(step, steps, self.config)
        for tokens, standardisers in zip(features, self.each, strict=True):
            for part, standardiser in zip(tokens, standardisers, strict=False):  # type: ignore[call-overload]
                standardiser.update(part, weight, group)

    def add(self, features: Sequence[Tokens]) -> None:
        """Takes frames into account before the training."""
        for tokens, moments in zip(features, self._moments, strict=True):
            for part, moment in zip(tokens, moments, strict=False):
                moment.add(part)

    def fit(self, group: Group) -> None:
        """Ends the estimate: all workers have the leader's."""
        for name, standardisers, moments in zip(self.names, self.each, self._moments, strict=True):
            for kind, standardiser, moment in zip(self.types, standardisers, moments, strict=True):  # type: ignore[call-overload]
                assert isinstance(standardiser, PhiS)
                standardiser.fit(moment, f"{name}'s {kind}")
        self._moments = []
        as_the_leader([self], group)
