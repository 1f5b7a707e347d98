"""Reinforced selection (Yuan and others, AAAI 2021): a policy says of each teacher whether it is listened to.

Each teacher has a Bernoulli policy on the sample's embedding, the teacher's own confidence and its loss on people's
rows; the reward of a choice is how much smaller the loss of what the chosen teachers say together is, against people's
answers, than that of all of them, and the policies learn by REINFORCE with a moving baseline. The paper's reward is the
loss of a student that takes a step on the chosen labels; here the label itself stands for it, so that it takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from t2t.training.baselines.base import Heard, Known, LeftOut, Rival, cells, people_rows, several, some_teacher
from t2t.training.baselines.embedded import Reduced

if TYPE_CHECKING:
    import torch

DIM, STEPS, BATCH, RATE, MOMENTUM = 16, 600, 512, 0.02, 0.9
MOST_ROWS = 50_000


class ReinforcedSelection(Rival):
    words = "reinforced selection of teachers"
    of_logits = True

    def fit(self, known: Known) -> None:
        import torch

        several(known)
        self.known, self.names = known, some_teacher(known)
        rows = [heard.where(heard.spoken) for heard in people_rows(known, self.names, MOST_ROWS)]
        if not any(map(len, rows)):
            raise LeftOut("no teacher says anything of what people labeled")
        self.reduced, teachers = Reduced(known, DIM), len(self.names)
        inputs = [self._inputs(heard) for heard in rows]
        x, said = (torch.cat(parts) for parts in zip(*inputs, strict=True))
        positive = torch.from_numpy(np.concatenate([heard.pairs.positive for heard in rows]).astype(np.float32))
        silent, values = said.isnan(), said.nan_to_num(0)
        loss = torch.nn.functional.binary_cross_entropy_with_logits
        losses = loss(values, positive[:, None].expand_as(values), reduction="none")
        plain = loss(values.sum(1) / (~silent).sum(1), positive, reduction="none")
        self.losses = (losses * ~silent).sum(0) / (~silent).sum(0).clamp(min=1)
        self.policy = [torch.zeros(self.reduced.dim, teachers), torch.zeros(teachers), torch.zeros(teachers)]
        for one in self.policy:
            one.requires_grad_()
        optimiser, drawn = torch.optim.Adam(self.policy, lr=RATE), torch.Generator().manual_seed(0)
        baseline: float | None = None
        for _ in range(STEPS):
            at = torch.randint(len(positive), (min(BATCH, len(positive)),), generator=drawn)
            chance = self._chance(x[at], said[at])
            chosen = (torch.rand(chance.shape, generator=drawn) < chance).float() * ~silent[at]
            # Where nobody is chosen all are heard; the policy answers for what it drew all the same.
            heard = torch.where(chosen.sum(1, keepdim=True) > 0, chosen, (~silent[at]).float())
            label = (heard * values[at]).sum(1) / heard.sum(1)
            reward = plain[at] - loss(label, positive[at], reduction="none")
            level = float(reward.mean())
            baseline = level if baseline is None else MOMENTUM * baseline + (1 - MOMENTUM) * level
            likelihood = torch.where(chosen > 0, chance, 1 - chance).clamp(min=1e-6).log() * ~silent[at]
            optimiser.zero_grad()
            (-(reward - baseline)[:, None] * likelihood).sum(1).mean().backward()
            optimiser.step()
        self.policy = [one.detach() for one in self.policy]
        self.models = teachers
        self.detail = f"Bernoulli policies of {teachers} teachers, REINFORCE on {len(positive):,} of people's rows"

    def predict(self, heard: Heard) -> np.ndarray:
        """The teachers' mean, each by the chance that it is chosen."""
        x, said = self._inputs(heard)
        weight = (self._chance(x, said) + 1e-3) * ~said.isnan()
        score: np.ndarray = ((weight * said.nan_to_num(0)).sum(1) / weight.sum(1)).numpy()
        return score

    def _inputs(self, heard: Heard) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        x = self.reduced(heard.frames)[heard.pairs.sample]
        return torch.from_numpy(x), torch.from_numpy(cells(self.known, heard, self.names))

    def _chance(self, x: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        by_sample, by_confidence, by_loss = self.policy
        return (x @ by_sample + by_confidence * said.nan_to_num(0) / 5 + by_loss * self.losses).sigmoid()
