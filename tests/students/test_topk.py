"""The top topics by tiles are those of the whole product, bit for bit, whoever keeps the heap."""

from __future__ import annotations

from concurrent.futures.thread import BrokenThreadPool
from importlib.util import find_spec
from threading import Event, Timer
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from t2t.students import tagging, topk
from t2t.students.tagging import workers
from t2t.students.topk import FEW, MANY, Tiled, Topics, Whole, chosen_products, fastest_product

HEAPS = [
    pytest.param("faiss", marks=pytest.mark.skipif(find_spec("faiss") is None, reason="the extra `search` is missing")),
    "torch",
]


def vectors(rows: int, seed: int, width: int = 64) -> torch.Tensor:
    return normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


# Topics that differ in few directions have equal cosines, and all of these stand at the border.
TEXTS = {
    "any": vectors(3 * MANY + 7, 0),
    "each twice": vectors(MANY, 0).repeat(2, 1),
    "all the same": vectors(1, 0).repeat(MANY, 1),
    "of few values": normalize(torch.eye(64)[torch.arange(MANY) % 9] + torch.eye(64)[torch.arange(MANY) % 5], dim=1),
}


def tiled(texts: torch.Tensor, heap: str, monkeypatch: pytest.MonkeyPatch) -> Topics:
    monkeypatch.setattr(topk, "find_spec", lambda name: heap == "faiss" or None)
    topics = Topics(texts, 1024)
    assert topics.tiled
    assert topics.heap is (topk.kept_by_faiss if heap == "faiss" else topk.kept_by_torch)
    return topics


def same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("heap", HEAPS)
@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("k", [0, 1, 10, 300])
def test_tiles_give_what_the_whole_product_gives(
    texts: torch.Tensor, heap: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics, samples = tiled(texts, heap, monkeypatch), vectors(13, 1)
    whole, cosines = Whole(samples @ texts.T), topics.of(samples)
    assert isinstance(cosines, Tiled)
    same(cosines.top(k), whole.top(k))
    others = torch.randint(len(texts), (13, 7), generator=torch.Generator().manual_seed(2)).numpy()
    assert torch.equal(cosines.at(others), whole.at(others))


@pytest.mark.parametrize("heap", HEAPS)
def test_a_product_that_is_not_exact_is_noticed(heap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, samples = TEXTS["any"], vectors(13, 1)
    topics = tiled(texts, heap, monkeypatch)
    topics.product = lambda a, b: (a.bfloat16() @ b.bfloat16().T).float()
    same(topics.of(samples).top(10), Whole(samples @ texts.T).top(10))


@pytest.mark.parametrize("heap", HEAPS)
def test_a_sample_that_is_no_number_gets_what_the_whole_product_has(heap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, samples = TEXTS["any"], vectors(13, 1)
    samples[3, 5], samples[7] = torch.nan, torch.inf
    columns, cosines = tiled(texts, heap, monkeypatch).of(samples).top(10)
    expected, values = Whole(samples @ texts.T).top(10)
    np.testing.assert_array_equal(columns, expected)
    torch.testing.assert_close(cosines, values, rtol=0, atol=0, equal_nan=True)
    assert cosines[3].isnan().all()


def test_a_topic_that_is_no_number_is_not_passed_over() -> None:
    texts = TEXTS["any"].clone()
    texts[17] = torch.nan
    topics = Topics(texts, 1024)
    assert not topics.tiled
    columns, cosines = topics.of(vectors(5, 1)).top(3)
    assert (columns[:, 0] == 17).all()
    assert cosines[:, 0].isnan().all()


@pytest.mark.parametrize("width", [16, 64, 200, 512])
@pytest.mark.parametrize("rows", [FEW, FEW + 1, 30])
def test_chosen_products_are_those_of_the_whole_product(width: int, rows: int) -> None:
    texts, samples = vectors(MANY, 3, width), vectors(rows, 4, width)
    columns = torch.randint(MANY, (rows, 9), generator=torch.Generator().manual_seed(5))
    assert torch.equal(chosen_products(samples, texts, columns), (samples @ texts.T).gather(1, columns))


@pytest.mark.parametrize("samples", [1, 3, 4, 255, 256, 257, 511, 514, 1024, 1026])
def test_the_parts_of_a_block_make_it_up_and_small_ones_stood_alone_before(samples: int) -> None:
    for topics in (Topics(TEXTS["any"], 1024), Topics(TEXTS["any"], 500), Topics(vectors(40, 0), 7)):
        sizes = topics.sizes(samples, 256)
        assert sum(sizes) == samples
        assert min(sizes) > 0
        if topics.tiled:
            alone = samples % topics.rows if samples % topics.rows < FEW else 0
            assert [size for size in sizes if size < FEW] == [alone] * bool(alone)
        else:
            assert max(sizes) <= topics.rows


def test_no_array_holds_all_topics_of_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, samples = vectors(10 * topk.TILE, 0, 16), vectors(20, 1, 16)
    topics, shapes = Topics(texts, 1024), []
    plain = fastest_product()

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        shapes.append((len(a), len(b)))
        return plain(a, b)

    topics.product = product
    monkeypatch.setattr(topics, "rows", FEW)
    topics.of(samples).top(5)
    assert max(columns for _, columns in shapes) <= max(topk.TILE, topk.TILE_ALONE)


def test_threads_of_their_own_leave_the_callers_number_of_threads() -> None:
    before = torch.get_num_threads()
    with workers(2) as submit:
        inside = [submit(torch.get_num_threads) for _ in range(8)]
        assert {waits() for waits in inside} == {1}
    assert torch.get_num_threads() == before


def test_a_fault_in_a_thread_is_the_callers() -> None:
    def fails() -> None:
        raise ValueError("torn")

    with workers(2) as submit, pytest.raises(ValueError, match="torn"):
        submit(fails)()


def test_threads_that_cannot_begin_are_an_error_and_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ImportError("no such library")

    monkeypatch.setattr(tagging, "_alone", fails)
    with pytest.raises(BrokenThreadPool), workers(2):
        pass


def test_who_interrupts_waits_for_nothing_that_has_not_begun() -> None:
    done: list[int] = []
    begun, goes_on = Event(), Event()

    def slow(number: int) -> None:
        begun.set()
        goes_on.wait(10)
        done.append(number)

    def interrupted() -> None:
        with workers(2) as submit:
            for number in range(50):
                submit(slow, number)
            begun.wait(10)
            Timer(0.1, goes_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(done) <= 2
