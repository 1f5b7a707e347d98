"""Which clips fit a text best: a product of the student's vectors.

A clip's vector and a topic's have unit length, and a confidence rises with their cosine, whatever the identity; an
ensemble's vectors are its members' one behind the other, a topic's by their scales, so that the cosine of these is the
mean of their logits (`t2t.students.ensemble`). So the highest cosines are the highest confidences, exactly.

Up to `EXACT` clips every one is compared. Beyond that FAISS, where it is installed, names candidates by a graph (HNSW),
which are compared exactly; it may miss one. Without it every clip is compared, block by block of a memory map.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from t2t.core.files import atomic_file

EXACT = 100_000
# Clips that are compared at once.
BLOCK = 1 << 17
# HNSW's neighbours of a node; how far it looks when it is built and asked; candidates for each clip that is wanted.
NEIGHBOURS, BUILT_WITH, ASKED_WITH, CANDIDATES = 32, 80, 256, 4


def nearest(vectors: np.ndarray, text: np.ndarray, k: int, index: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k clips whose vectors have the highest cosine with a text's, best first, of equals the first one.

    Args:
        vectors: float32 [N, D], unit length; may be a memory map. text: float32 [D].
        index: where FAISS keeps its graph of these vectors; None compares every clip, as fewer than EXACT are anyway.

    Returns: int64 [k'] positions and float32 [k'] cosines, k' = min(k, N).
    """
    k = min(k, len(vectors))
    if index is not None and len(vectors) > EXACT and find_spec("faiss") is not None:
        candidates = np.sort(_candidates(vectors, text, max(k * CANDIDATES, ASKED_WITH), index))
        cosine = vectors[candidates] @ text
        order = np.argsort(-cosine, kind="stable")[:k]
        return candidates[order], cosine[order]
    places, cosines = np.empty(0, np.int64), np.empty(0, np.float32)
    for start in range(0, len(vectors), BLOCK):
        cosine = vectors[start : start + BLOCK] @ text
        best = np.argsort(-cosine, kind="stable")[:k]
        places, cosines = np.append(places, start + best), np.append(cosines, cosine[best])
        order = np.argsort(-cosines, kind="stable")[:k]
        places, cosines = places[order], cosines[order]
    return places, cosines


def _candidates(vectors: np.ndarray, text: np.ndarray, k: int, path: Path) -> np.ndarray:
    import faiss

    graph: Any
    if path.is_file():
        graph = faiss.read_index(str(path))
    else:
        graph = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BUILT_WITH
        for start in range(0, len(vectors), BLOCK):
            graph.add(np.ascontiguousarray(vectors[start : start + BLOCK], np.float32))
        with atomic_file(path) as temporary:
            faiss.write_index(graph, str(temporary))
    graph.hnsw.efSearch = max(k, ASKED_WITH)
    _, found = graph.search(np.ascontiguousarray(text[None], np.float32), min(k, len(vectors)))
    places: np.ndarray = found[0][found[0] >= 0].astype(np.int64)
    return places
