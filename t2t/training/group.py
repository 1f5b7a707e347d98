"""The workers that train one student together: who leads, and the few things that they do as one (DDP)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# While the leader validates the others wait.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Group:
    """One worker's place: its rank, from 0, among `size` workers. Where there are several, PyTorch's process group
    has been set up before."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """The leader alone validates, reports and writes."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module; of several workers its gradients become the mean over them, and its weights the leader's."""
        if self.size == 1:
            return module
        # Some weights have no part in the loss: T5 brings word embeddings to the tower that has no words.
        wrapped = DistributedDataParallel(module, find_unused_parameters=True)
        # Statistics of the frontend never change. (The argument of this name has another one from torch 2.14 on.)
        wrapped.broadcast_buffers = False
        return wrapped

    def total(self, share: Tensor) -> Tensor:
        """The sum of all workers' shares, a number without gradient where there are several."""
        if self.size == 1:
            return share
        total = share.detach().clone()
        dist.all_reduce(total)
        return total

    def agrees(self, number: int, device: torch.device) -> bool:
        """Whether all workers say the same number."""
        if self.size == 1:
            return True
        ends = torch.tensor([number, -number], device=device)
        dist.all_reduce(ends, dist.ReduceOp.MIN)
        return ends.tolist() == [number, -number]

    def leader_says(self, yes: bool, device: torch.device) -> bool:
        """The leader's answer, to all workers; the others' own does not count."""
        if self.size == 1:
            return yes
        answer = torch.tensor(int(yes and self.leads), device=device)
        dist.all_reduce(answer)
        return bool(answer.item())

    def draw(self, seed: int, step: int, generator: torch.Generator) -> None:
        """Has each of several workers draw numbers of its own in a step, from the seed, the step and its rank.

        So the leader's snapshot is enough to go on, bit for bit with as many workers, and also with more or fewer.
        """
        if self.size > 1:
            first, second = np.random.SeedSequence([seed, step, self.rank]).generate_state(2, np.uint32).tolist()
            torch.manual_seed(first)
            generator.manual_seed(second)


ALONE = Group()


def backend(device: str) -> str:
    """The libraries that carry tensors between workers on such a device."""
    return "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"


@contextmanager
def member(meeting: str, rank: int, size: int, device: str) -> Iterator[Group]:
    """Sets the process group up for the block. Args: meeting: where the workers find each other, a URL of PyTorch's."""
    dist.init_process_group(backend(device), init_method=meeting, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield Group(rank, size)
    finally:
        dist.destroy_process_group()
