"""The highest cosines are the highest confidences, and the k best are exact."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from t2t.students import search
from t2t.students.search import nearest
from tests.helpers.students import TOPICS, random_clips, tiny_config, tiny_student


def unit(n: int, dim: int = 32, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("members", [1, 3])
def test_the_nearest_clips_are_those_of_the_highest_confidences(members: int) -> None:
    student = tiny_student(tiny_config({"identity": "gate", "identity_std": 0.5}, members=members))
    clips = random_clips([1 + i % 4 for i in range(40)])
    everything = np.arange(len(clips))
    vectors = student.embed(clips, everything).numpy()
    scores = student.predict(clips, everything, TOPICS)
    for number, topic in enumerate(TOPICS):
        text = student.encode_topics([topic])
        places, cosines = nearest(vectors, text[0].numpy(), 7)
        np.testing.assert_allclose(scores[places, number], np.sort(scores[:, number])[::-1][:7], atol=1e-6)
        np.testing.assert_allclose(
            student.answers(text.new_tensor(cosines), "human"), scores[places, number], atol=1e-6
        )


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, text = unit(300), unit(1, seed=1)[0]
    vectors[200] = vectors[17]  # of equals the first one
    monkeypatch.setattr(search, "BLOCK", block)
    places, cosines = nearest(vectors, text, 300)
    np.testing.assert_allclose(cosines, np.sort(vectors @ text)[::-1], atol=1e-6)
    assert sorted(places) == list(range(300))
    assert list(places).index(17) + 1 == list(places).index(200)


def test_more_than_there_are_gives_all(tmp_path: Path) -> None:
    places, cosines = nearest(unit(3), unit(1)[0], 10, tmp_path / "index.faiss")
    assert (len(places), len(cosines)) == (3, 3)
    assert not any(tmp_path.iterdir())
    assert [len(a) for a in nearest(unit(0), unit(1)[0], 10)] == [0, 0]


@pytest.mark.skipif(find_spec("faiss") is None, reason="the extra `search` (faiss-cpu) is not installed")
def test_with_faiss_candidates_are_compared_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(3000)
    monkeypatch.setattr(search, "EXACT", 100)
    index = tmp_path / "index.faiss"
    hits = 0
    for seed in range(20):
        text = unit(1, seed=100 + seed)[0]
        places, cosines = nearest(vectors, text, 10, index)
        np.testing.assert_allclose(cosines, vectors[places] @ text, atol=1e-6)
        hits += len(set(places) & set(nearest(vectors, text, 10)[0]))
    assert index.is_file()
    assert hits >= 190
