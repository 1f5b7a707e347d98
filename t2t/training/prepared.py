"""Frames as the student sees them, made once, and augmented for each step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from t2t.students.student import Student
from t2t.training.batches import Batch
from t2t.training.config import TrainingConfig

if TYPE_CHECKING:
    from t2t.data.embeddings.store import Embeddings

# Prepared frames are kept in memory up to this size, and made in blocks of so many samples.
PREPARED_BYTES = 4 << 30
PREPARE_BLOCK = 256


class Prepared:
    """What a student's frontend makes of frame embeddings; the frontend is fixed, so that is computed once.

    With whitening and change it costs more than the student's own forward and backward pass. Where the result does not
    fit into `PREPARED_BYTES` it is computed batch by batch instead.
    """

    def __init__(self, student: Student, embeddings: Embeddings):
        self.student, self.embeddings = student, embeddings
        self.frames: Tensor | None = None
        self._taken: Tensor | None = None
        if len(embeddings) * embeddings.frames * student.frontend.out_dim * 4 <= PREPARED_BYTES:
            blocks = np.array_split(np.arange(len(embeddings)), max(1, len(embeddings) // PREPARE_BLOCK))
            parts = (self._prepare(*self._read(block)) for block in blocks)
            self.frames, self.mask = (torch.cat(part) for part in zip(*parts, strict=True))

    def host(self, array: np.ndarray) -> Tensor:
        """An array as a tensor that can be copied to the student's device while that computes."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.student.device.type == "cuda" else tensor

    def read(self, samples: np.ndarray) -> tuple[Tensor, Tensor] | None:
        """Samples' embeddings and mask from the disk where the prepared frames are not held, else None.

        For another thread, which leaves PyTorch's operations to the main one: each thread has a pool of its own for
        them, and two pools on the same cores wait for one another.
        """
        return self._read(samples) if self.frames is None else None

    def __call__(self, samples: np.ndarray, ahead: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Samples' prepared frames, float32 [V, F, D], and their mask, bool [V, F], on the student's device.

        On the CPU the frames lie where those of the call before did: its step has to be over.

        Args:
            ahead: what `read` gave for these samples, where it was called.
        """
        if self.frames is None:
            return self._prepare(*(ahead or self._read(samples)))
        index = torch.from_numpy(samples).to(self.frames.device)
        return self._take(self.frames, index), self.mask.index_select(0, index)

    def _take(self, frames: Tensor, index: Tensor) -> Tensor:
        """The frames at `index`. Memory that was written to before costs an eighth of what new pages do."""
        if frames.device.type != "cpu":
            return frames.index_select(0, index)
        if self._taken is None or len(self._taken) < len(index):
            self._taken = frames.new_empty(len(index), *frames.shape[1:])
        taken = self._taken[: len(index)]
        return torch.index_select(frames, 0, index, out=taken)

    def _read(self, samples: np.ndarray) -> tuple[Tensor, Tensor]:
        frames, mask = self.embeddings.gather(samples)
        return self.host(frames), self.host(mask)

    @torch.no_grad()
    def _prepare(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        frames, mask = (tensor.to(self.student.device, non_blocking=True) for tensor in (frames, mask))
        return self.student.frontend(frames.float(), mask), mask


def augment(
    prepared: Tensor, mask: Tensor, config: TrainingConfig, generator: torch.Generator, members: int = 1
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Hides random frames (never all of a sample's) and adds noise.

    Members see each sample with other noise, or they would learn much the same: what one sees added to a sample, the
    next sees added to another one, since drawing takes long. (Of fewer samples than members some see the same.)

    Returns: new frames for each member, float [V, F, D], and the mask, bool [V, F].
    """
    if config.frame_dropout:
        chance = torch.rand(mask.shape, generator=generator, device=mask.device).masked_fill(~mask, -1.0)
        keep = mask & (chance >= config.frame_dropout)
        keep |= mask & (chance == chance.max(dim=1, keepdim=True).values)
        mask = keep
    shown = mask.unsqueeze(-1)
    if not config.noise:
        return (prepared * shown if config.frame_dropout else prepared,) * members, mask
    noise = torch.randn(prepared.shape, generator=generator, device=mask.device) * config.noise
    shifts = (i * len(prepared) // members for i in range(members))
    return tuple((prepared + (noise.roll(shift, 0) if shift else noise)) * shown for shift in shifts), mask


def mixed(
    batch: Batch, prepared: Tensor, mask: Tensor, config: TrainingConfig, generator: np.random.Generator
) -> tuple[Batch, Tensor, Tensor]:
    """A batch in which each sample is mixed with another one, frame by frame, and answers for the rows of both.

    For cross-entropy, which is linear in the target, that is the loss of the mixed confidences (mixup, Zhang et al.
    2018), and it needs no row of the one sample to have a counterpart in the other. Weights add up to what they were.

    Args:
        prepared: float [V, F, D]. mask: bool [V, F].
    """
    if not config.mixup or len(batch.samples) < 2:
        return batch, prepared, mask
    share = float(generator.beta(config.mixup, config.mixup))
    share = max(share, 1 - share)
    other = generator.permutation(len(batch.samples))
    where = np.argsort(other)  # the mixed sample in which each one is the other
    rows = replace(
        batch,
        row_sample=np.concatenate([batch.row_sample, where[batch.row_sample]]),
        row_text=np.concatenate([batch.row_text, batch.row_text]),
        target=np.concatenate([batch.target, batch.target]),
        weight=np.concatenate([batch.weight * np.float32(share), batch.weight * np.float32(1 - share)]),
    )
    partner = torch.from_numpy(other).to(prepared.device)
    return rows, share * prepared + (1 - share) * prepared[partner], mask | mask[partner]
