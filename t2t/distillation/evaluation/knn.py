"""k nearest neighbours by cosine, weighted as DINO and UNIC do: exp(similarity / 0.07)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KS = (10, 20, 100, 200)
TEMPERATURE = 0.07
# Similarities that are held at once.
BLOCK = 1 << 24


def knn(
    features: np.ndarray,
    targets: np.ndarray,
    asked: np.ndarray,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
) -> dict[int, np.ndarray]:
    """What the nearest neighbours say of each topic: their weighted share of yes, 0..1.

    Args:
        features, asked: float32 [R, dim] and [Q, dim]; their lengths do not matter, and a row of zeros is near nobody.
        targets: float32 [R, topics], 1 yes, 0 no, NaN unknown: who does not know it is not counted.
        ks: how many neighbours; where there are fewer samples, all of them.

    Returns:
        By k, float64 [Q, topics]; 0 where no neighbour knows.
    """
    rows, queries = unit(features), unit(asked)
    most = min(max(ks), len(rows))
    found = {k: np.zeros((len(queries), targets.shape[1])) for k in ks}
    # Of each query its similarities, and what its neighbours say.
    block = max(1, BLOCK // max(len(rows), most * targets.shape[1], 1))
    for at in range(0, len(queries), block):
        here = slice(at, at + block)
        similar = queries[here] @ rows.T
        near = np.argpartition(-similar, most - 1, axis=1)[:, :most]
        # Equally near ones in the order of the samples, whatever the block.
        close = np.take_along_axis(similar, near, axis=1)
        order = np.lexsort((near, -close), axis=1)
        near, close = np.take_along_axis(near, order, axis=1), np.take_along_axis(close, order, axis=1)
        # Less the nearest one's: the same shares, and nothing overflows at a low temperature.
        weights = np.exp((close - close[:, :1]).astype(np.float64) / temperature)
        answers = targets[near]
        known = ~np.isnan(answers)
        yes = np.where(known, answers, 0)
        for k in ks:
            said = np.einsum("qk,qkt->qt", weights[:, :k], yes[:, :k])
            total = np.einsum("qk,qkt->qt", weights[:, :k], known[:, :k])
            found[k][here] = said / np.where(total > 0, total, 1)
    return found


def unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; a row of zeros stays."""
    rows = features.astype(np.float32, copy=False)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
