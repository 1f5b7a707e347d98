"""The k topics of highest cosine of each sample, exactly, in memory that depends on neither number.

Few topics: one product [samples, topics], and a selection from it. Many: the product comes in tiles that stay in the
processor's cache, and a heap of each sample keeps a few more than k candidates. These are compared by the numbers that
the one product has, bit for bit; a sample of whom the bound of rounding leaves a doubt gets its whole row of it. So
both ways find the same topics, of equal cosines the first, whatever computes a tile and whoever keeps the heap: FAISS
where it is installed, otherwise torch, more slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

# Cosines are held for as many samples at once as fit into so many bytes: 1,677 samples with 10,000 topics.
COSINE_BYTES = 64 << 20

# Columns of a group whose best number stands for all of them in `top_columns`.
GROUP = 16

# From so many topics on, and so many numbers an embedding, the product comes in tiles. (Narrower embeddings, and blocks
# of fewer samples than FEW, are multiplied by other kernels, whose numbers differ in the last bit.)
MANY, NARROWEST, FEW = 4096, 16, 4
# Topics of a tile, with FAISS and without: with some hundred samples its cosines stay in the cache.
TILE, TILE_ALONE = 1024, 8192
# Just under 32 MiB, the largest that glibc learns from.
KEPT_BYTES = 31 << 20
# Candidates beyond k: with two numbers at the border as close as rounding, one more mostly settles it.
SPARE = 2
# Unit roundoff of float32.
ROUNDOFF = 2.0**-24


class Cosines(Protocol):
    """Cosines of some samples, N, with all topics, M."""

    def top(self, k: int) -> tuple[np.ndarray, Tensor]:
        """The k topics of highest cosine, best first, of equal ones the first: int64 [N, k], and float32 [N, k]."""

    def at(self, topics: np.ndarray) -> Tensor:
        """Those of some topics of each sample, int64 [N, C]: float32 [N, C]."""


class Topics:
    """Topics to search among.

    Args:
        texts: float [M, D], what `encode_topics` returns.
        block: so many samples come at once, at most.
    """

    def __init__(self, texts: Tensor, block: int):
        self.texts = texts
        self.rows = max(1, min(block, COSINE_BYTES // (4 * max(len(texts), 1))))
        self.tiled = texts.device.type == "cpu" and texts.dtype == torch.float32 and len(texts) >= MANY
        # Of a vector that is not finite the length is not either; looking at each number takes as much memory again.
        lengths = texts.norm(dim=1) if self.tiled else texts.new_empty(0)
        self.tiled = self.tiled and texts.shape[1] >= NARROWEST and bool(lengths.isfinite().all())
        if self.tiled:
            self.product = fastest_product()
            self.heap = kept_by_faiss if find_spec("faiss") is not None else kept_by_torch
            self.longest = float(lengths.max())
            # Once so much was freed, glibc keeps freed memory of this size: else every tile is mapped page by page.
            torch.empty(KEPT_BYTES // 4)
            return
        self.buffer = texts.new_empty(self.rows, len(texts))

    def sizes(self, samples: int, part: int) -> list[int]:
        """How many of a block's samples are looked at together, one behind the other; `part` where there is a choice:
        a rest that the whole product would take as too few for its usual kernel stays by itself."""
        if not self.tiled:
            return [min(self.rows, samples - start) for start in range(0, samples, self.rows)]
        rest = samples % max(self.rows, FEW)
        rest = rest if rest < FEW else 0
        starts = list(range(0, samples - rest, part))
        if len(starts) > 1 and samples - rest - starts[-1] < FEW:
            starts.pop()
        bounds = [*starts, samples - rest, samples][: len(starts) + 1 + (rest > 0)]
        return [end - start for start, end in pairwise(bounds)]

    def of(self, samples: Tensor) -> Cosines:
        """The cosines of samples, float [N, D], N one of `sizes`. Those of `Whole` last until the next call."""
        if not self.tiled:
            return Whole(torch.mm(samples, self.texts.T, out=self.buffer[: len(samples)]))
        if len(samples) < FEW:
            return Whole(samples @ self.texts.T)
        return Tiled(self, samples)


class Whole:
    """The product [N, M] itself."""

    def __init__(self, cosines: Tensor):
        self.cosines = cosines

    def top(self, k: int) -> tuple[np.ndarray, Tensor]:
        columns = top_columns(self.cosines, k)
        return columns.cpu().numpy(), self.cosines.gather(1, columns)

    def at(self, topics: np.ndarray) -> Tensor:
        return self.cosines.gather(1, torch.from_numpy(topics).to(self.cosines.device))


class Tiled:
    """The product by tiles of topics, of which a few cosines are kept."""

    def __init__(self, topics: Topics, samples: Tensor):
        self.topics, self.samples = topics, samples

    def top(self, k: int) -> tuple[np.ndarray, Tensor]:
        texts, samples = self.topics.texts, self.samples
        look = min(k + SPARE, len(texts))
        if not k or 2 * look * GROUP > len(texts):
            return self._whole(torch.arange(len(samples)), k)
        rough, columns = self.topics.heap(self.topics.product, samples, texts, look)
        last = rough.amin(1)
        columns, order = columns.clamp(min=0).sort(dim=1)
        exact = chosen_products(samples, texts, columns)
        # Two sums of the same products, each in any order, are no further from one another.
        steps = texts.shape[1] * ROUNDOFF
        off = 2 * steps / (1 - steps) * self.topics.longest * float(samples.norm(dim=1).max())
        sure = ((exact - rough.gather(1, order)).abs() <= off).all(1)
        best, at = exact.sort(dim=1, descending=True, stable=True)
        best, columns = best[:, :k], columns.gather(1, at[:, :k])
        sure &= best[:, -1] > last + off
        if not bool(sure.all()):
            doubtful = (~sure).nonzero()[:, 0]
            found, best[doubtful] = self._whole(doubtful, k)
            columns[doubtful] = torch.from_numpy(found)
        return columns.numpy(), best

    def _whole(self, rows: Tensor, k: int) -> tuple[np.ndarray, Tensor]:
        """`top` of some of the samples, by the whole product, as many rows at a time as it has elsewhere."""
        columns, values = np.empty((len(rows), k), np.int64), torch.empty(len(rows), k)
        size = max(self.topics.rows, FEW)
        for start in range(0, len(rows), size) if k else []:
            here = slice(start, start + size)
            samples = self.samples[rows[here]]
            more = max(FEW - len(samples), 0)
            padded = torch.cat([samples, samples[-1:].expand(more, -1)]) if more else samples
            columns[here], values[here] = Whole((padded @ self.topics.texts.T)[: len(samples)]).top(k)
        return columns, values

    def at(self, topics: np.ndarray) -> Tensor:
        return chosen_products(self.samples, self.topics.texts, torch.from_numpy(topics))


# (product, samples [N, D], texts [M, D], k) to k high products of each sample and their columns, in any order.
Heap = Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, int], tuple[Tensor, Tensor]]


def kept_by_faiss(
    product: Callable[[Tensor, Tensor], Tensor], samples: Tensor, texts: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The k highest products of each sample, float [N, k], and their columns, int64 [N, k]; -1 where all are NaN."""
    import faiss

    values, columns = torch.empty(len(samples), k), torch.empty(len(samples), k, dtype=torch.int64)
    heap: Any = faiss.float_minheap_array_t()
    heap.nh, heap.k = len(samples), k
    heap.val, heap.ids = faiss.swig_ptr(values.numpy()), faiss.swig_ptr(columns.numpy())
    heap.heapify()
    for start in range(0, len(texts), TILE):
        tile = product(samples, texts[start : start + TILE]).contiguous()
        heap.addn(tile.shape[1], faiss.swig_ptr(tile.numpy()), start, 0, len(samples))
    return values, columns


def kept_by_torch(
    product: Callable[[Tensor, Tensor], Tensor], samples: Tensor, texts: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The same without FAISS."""
    values, columns = torch.empty(len(samples), 0), torch.empty(len(samples), 0, dtype=torch.int64)
    for start in range(0, len(texts), TILE_ALONE):
        tile = product(samples, texts[start : start + TILE_ALONE])
        best, at = largest(tile, min(k, tile.shape[1]))
        values, columns = torch.cat([values, best], dim=1), torch.cat([columns, at + start], dim=1)
        values, kept = values.topk(min(k, values.shape[1]), sorted=False)
        columns = columns.gather(1, kept)
    return values, columns


def fastest_product() -> Callable[[Tensor, Tensor], Tensor]:
    """A product of samples [N, D] and texts [M, D] in float32: oneDNN's, which has the widest instructions of any
    processor (on AMD with AVX-512 twice as fast as MKL's), where this torch lets it be called."""

    def plain(samples: Tensor, texts: Tensor) -> Tensor:
        return samples @ texts.T

    def onednn(samples: Tensor, texts: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(samples, texts, None, "none", [], "")
        return product

    try:
        return onednn if onednn(torch.ones(2, 2), torch.ones(3, 2)).tolist() == [[2.0] * 3] * 2 else plain
    except (AttributeError, RuntimeError, TypeError):
        return plain


def chosen_products(samples: Tensor, texts: Tensor, columns: Tensor) -> Tensor:
    """What `torch.mm(samples, texts.T)` has in some columns of each row, bit for bit: a product of FEW samples with all
    that is chosen for any of them uses the same kernel.

    Args:
        samples: float32 [N, D]. texts: float32 [M, D]. columns: int64 [N, C].
    """
    rows, chosen = columns.shape
    more = -rows % FEW
    if more:
        samples = torch.cat([samples, samples[-1:].expand(more, -1)])
        columns = torch.cat([columns, columns[-1:].expand(more, -1)])
    groups, width = len(samples) // FEW, samples.shape[1]
    near = texts.index_select(0, columns.reshape(-1)).view(groups, FEW * chosen, width)
    products = torch.bmm(samples.view(groups, FEW, width), near.transpose(1, 2)).view(groups, FEW, FEW, chosen)
    return products.diagonal(dim1=1, dim2=2).transpose(1, 2).reshape(-1, chosen)[:rows]


def top_columns(scores: Tensor, k: int) -> Tensor:
    """The k best columns of each row, best first, of equal ones the first: int64 [N, k].

    Exact. The number behind the k-th tells whether equal numbers stand at the border; only then it matters which of
    them a selection takes.

    Args:
        scores: float [N, M], M >= k.
    """
    rows, columns = scores.shape
    if not k:
        return torch.empty(rows, 0, dtype=torch.int64, device=scores.device)
    look = min(k + 1, columns)
    values, columns_of_best = largest(scores, look)
    columns_of_best = columns_of_best[:, :k]
    if look > k and (unsure := values[:, k - 1] == values[:, k]).any():
        columns_of_best[unsure] = _first_at_border(scores[unsure], values[unsure, k - 1 : k], k)
    columns_of_best = columns_of_best.sort(dim=1).values
    return columns_of_best.gather(
        1, scores.gather(1, columns_of_best).sort(dim=1, descending=True, stable=True).indices
    )


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest numbers of each row, highest first, [N, k], and their columns; of equal ones any.

    They lie in the k groups of columns whose best are highest, so that the selection goes over groups first, and then
    over the columns of a few groups.
    """
    rows, columns = scores.shape
    if 2 * k * GROUP >= columns:
        values, at = scores.topk(k)
        return values, at
    groups = columns // GROUP
    best = scores[:, : groups * GROUP].unflatten(1, (GROUP, groups)).amax(1).topk(k, sorted=False).indices
    members = torch.arange(0, groups * GROUP, groups, device=scores.device)
    rest = torch.arange(groups * GROUP, columns, device=scores.device).expand(rows, -1)
    candidates = torch.cat([(best.unsqueeze(2) + members).flatten(1), rest], dim=1)
    values, at = scores.gather(1, candidates).topk(k)
    return values, candidates.gather(1, at)


def _first_at_border(scores: Tensor, border: Tensor, k: int) -> Tensor:
    """The columns above the k-th best number, and the first of those that equal it: int64 [N, k]."""
    above, equal = ~(scores <= border), scores == border
    taken = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
    return taken.nonzero()[:, 1].view(-1, k)
