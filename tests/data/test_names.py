"""Names in a hash table against a list's `index`: whatever their lengths, doubles, nulls and collisions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.data import names as module
from t2t.data.names import Names, hashed

pytestmark = pytest.mark.unit

# Few letters, so that names meet; NUL, which fills short ones; characters of several bytes; lengths about 8 and LONG.
texts = st.one_of(st.text("ab\0é", max_size=20), st.sampled_from(["x" * n for n in (7, 8, 9, 16, 255, 256, 257, 400)]))


def expected(wanted: list[str | None], names: list[str | None]) -> list[int]:
    return [-1 if name is None or name not in names else names.index(name) for name in wanted]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(texts | st.none(), max_size=30), st.lists(texts | st.none(), max_size=30), st.sampled_from([3, 1 << 15])
)
def test_positions_are_those_of_a_list(wanted: list[str | None], names: list[str | None], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        for kind in (pa.string(), pa.large_string()):
            some, many = pa.array(wanted, kind), pa.array(names, kind)
            for table in (Names(many), Names.among(some, many)):
                found = table.positions(some)
                assert (found.tolist(), found.dtype) == (expected(wanted, names), np.int32)


def test_a_slice_is_looked_up_by_what_it_shows() -> None:
    names = pa.array(["out", "a", "bb", "a much longer name", "out"])[1:4]
    table = Names(names)
    assert table.positions(pa.array(["out", "bb", "a much longer name", "a"])[1:]).tolist() == [1, 2, 0]
    assert hashed(names[1:2]).tolist() == hashed(pa.array(["bb"])).tolist()


@pytest.mark.parametrize("tries", [1, 2, 64])
@pytest.mark.parametrize("kinds", [1, 3])
def test_colliding_hashes_cost_time_and_no_answer(monkeypatch: pytest.MonkeyPatch, tries: int, kinds: int) -> None:
    monkeypatch.setattr(module, "TRIES", tries)
    # Equal names have equal hashes, as they must; others nearly all the same.
    monkeypatch.setattr(module, "hashed", lambda names: pa.compute.binary_length(names).to_numpy().astype("u8") % kinds)
    names = [f"{'x' * (i % 5)}{i}" for i in range(200)]
    wanted = [*names[::-3], "none", "xx", "0"]
    some, many = pa.array(wanted), pa.array(names)
    assert Names(many).positions(some).tolist() == expected([*wanted], [*names])
    assert Names.among(some, many).positions(some).tolist() == expected([*wanted], [*names])


@pytest.mark.parametrize("name", ["clip_{:09}", "/data/videos/part-{:05}/frame.mp4", "{:x}", "{:<30}|{:<3}"])
def test_hashes_of_numbered_names_differ(name: str) -> None:
    names = [name.format(i, i % 997) for i in range(60_000)]
    found = np.concatenate([hashed(block) for block in module.blocks(pa.array(names))])
    assert len(np.unique(found)) == len(names)
    # As evenly spread over the first slots as drawn ones, within six standard deviations.
    slots = np.bincount((found >> np.uint64(54)).astype(int), minlength=1024)
    assert abs(slots - len(names) / 1024).max() < 6 * (len(names) / 1024) ** 0.5


def test_threads_make_and_ask_the_same_table() -> None:
    names = pa.array([f"name {i * 7 % 100_003}" for i in range(100_003)])
    wanted = names.take(pa.array(np.random.default_rng(0).permutation(len(names))))
    plain = Names(names).positions(wanted)
    with ThreadPoolExecutor(3) as pool:
        table = Names(names, pool.map)
        assert all((found == plain).all() for found in pool.map(table.positions, [wanted] * 3))
        few = wanted[:500]
        assert (Names.among(few, names, pool.map).positions(few) == plain[:500]).all()
    assert (names.take(pa.array(plain))).equals(wanted)
