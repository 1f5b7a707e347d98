"""The teachers' average with weights for each sample: a small network on its embedding says whom to believe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from t2t.training.baselines.base import Heard, Known, Rival, cells, people_rows, several, some_teacher
from t2t.training.baselines.embedded import Reduced

if TYPE_CHECKING:
    import torch

DIM, HIDDEN, STEPS, RATE, DECAY = 32, 32, 300, 0.01, 0.01
LOOK_EVERY = 10
MOST_ROWS = 50_000


class InstanceWeighted(Rival):
    """softmax(network(embedding)) over the teachers that speak, on their logits; fitted on people's rows of the split
    `train` by the log loss of the mean, its step chosen on validation."""

    words = "the teachers' average weighted by sample"
    of_logits = True

    def fit(self, known: Known) -> None:
        import torch

        several(known)
        self.known, self.names = known, some_teacher(known)
        self.reduced = Reduced(known, DIM)
        data = []
        for heard in people_rows(known, self.names, MOST_ROWS):
            heard = heard.where(heard.spoken)
            positive = torch.from_numpy(heard.pairs.positive.astype(np.float32))
            data.append((*self._inputs(heard), positive))
        (train, validation), teachers = data, len(self.names)
        drawn = torch.Generator().manual_seed(0)
        first = torch.randn(self.reduced.dim, HIDDEN, generator=drawn) / max(self.reduced.dim, 1) ** 0.5
        shapes = [first, torch.zeros(HIDDEN), torch.zeros(HIDDEN, teachers), torch.zeros(teachers)]
        # Slope and intercept of the mean's logit; it begins as the plain average.
        shapes += [torch.ones(()), torch.zeros(())]
        self.parameters = [shape.requires_grad_() for shape in shapes]
        optimiser = torch.optim.AdamW(self.parameters, lr=RATE, weight_decay=DECAY)
        best, kept = float("inf"), [p.detach().clone() for p in self.parameters]
        for step in range(STEPS + 1):
            if step % LOOK_EVERY == 0 and len(validation[2]):
                with torch.no_grad():
                    value = float(self._loss(*validation))
                if value < best:
                    best, kept = value, [p.detach().clone() for p in self.parameters]
            if not len(train[2]):
                break
            optimiser.zero_grad()
            self._loss(*train).backward()
            optimiser.step()
        self.parameters = kept if best < float("inf") else [p.detach() for p in self.parameters]
        self.models = teachers
        rows = f"{len(train[2]):,} of people's rows"
        self.detail = f"weights of {teachers} teachers by a network of {HIDDEN} on the sample's embedding, {rows}"

    def predict(self, heard: Heard) -> np.ndarray:
        import torch

        score = np.full(len(heard), np.nan, np.float32)
        spoken = heard.spoken & ~np.all([np.isnan(heard.raw[name]) for name in self.names], axis=0)
        if spoken.any():
            with torch.no_grad():
                score[spoken] = self._mean(*self._inputs(heard.where(spoken))).numpy()
        return score

    def _inputs(self, heard: Heard) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [P, dim] and logits [P, teachers], NaN where one is silent."""
        import torch

        x = self.reduced(heard.frames)[heard.pairs.sample]
        return torch.from_numpy(x), torch.from_numpy(cells(self.known, heard, self.names))

    def _mean(self, x: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        first, shift, second, bias, slope, intercept = self.parameters
        weight = (x @ first + shift).relu() @ second + bias
        silent = said.isnan()
        weight = weight.masked_fill(silent, float("-inf")).softmax(dim=1)
        return slope * (weight * said.masked_fill(silent, 0)).sum(dim=1) + intercept

    def _loss(self, x: torch.Tensor, said: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.nn.functional.binary_cross_entropy_with_logits(self._mean(x, said), positive)
