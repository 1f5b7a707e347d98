"""The embedding store: what is written comes back, whatever happens to the writers."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from t2t.data.embeddings.store import Embeddings, EmbeddingStore, _host

DIM = 6


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def clips(counts: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((count, DIM)).astype(np.float16) for count in counts]


def padded(arrays: list[np.ndarray], frames: int) -> np.ndarray:
    out = np.zeros((len(arrays), frames, DIM), np.float16)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = array
    return out


@pytest.mark.parametrize("counts", [[4] * 7, [4, 1, 3, 4, 2, 4, 1]], ids=["even", "ragged"])
def test_gather_over_several_shards(tmp_path, counts):
    store = EmbeddingStore(tmp_path, "encoder")
    arrays = clips(counts)
    for start in (0, 3, 5):
        stop = {0: 3, 3: 5, 5: 7}[start]
        store.write([key(i) for i in range(start, stop)], arrays[start:stop])
    for source in (store, EmbeddingStore(tmp_path, "encoder")):
        view = source.view([key(i) for i in range(7)])
        assert (len(view), view.dim, view.frames) == (7, DIM, 4)
        assert view.counts.tolist() == counts
        indices = np.array([6, 0, 3, 3, 5, 1])
        values, mask = view.gather(indices)
        assert values.dtype == np.float16
        assert mask.dtype == bool
        np.testing.assert_array_equal(values, padded([arrays[i] for i in indices], 4))
        np.testing.assert_array_equal(mask, np.arange(4) < np.array(counts)[indices, None])
        assert view.gather(np.array([], np.int64))[0].shape == (0, 4, DIM)


def test_take_and_views_in_memory():
    arrays = clips([2, 4, 1])
    view = Embeddings.of(arrays)
    np.testing.assert_array_equal(view.gather(np.arange(3))[0], padded(arrays, 4))
    part = view.take(np.array([2, 0]))
    assert (len(part), part.frames) == (2, 2)
    np.testing.assert_array_equal(part.gather(np.arange(2))[0], padded([arrays[2], arrays[0]], 2))


def test_reading_is_memory_mapped(tmp_path):
    store = EmbeddingStore(tmp_path, "encoder")
    store.write([key(0)], clips([4]))
    assert ".safetensors" in Path("/proc/self/maps").read_text() or sys.platform != "linux"
    with pytest.raises(ValueError, match="read-only"):
        store._shards[0].embeddings[:] = 0
    values, _ = store.view([key(0)]).gather(np.array([0]))
    values[:] = 0  # A copy: the store's own numbers stay.
    assert store.view([key(0)]).gather(np.array([0]))[0].any()


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_shards_hold_no_file_descriptors(tmp_path):
    """A process may have 1,024 of them; a store has a shard for every 256 samples."""
    store = EmbeddingStore(tmp_path, "encoder")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        store.write([key(number)], clips([4]))
    again = EmbeddingStore(tmp_path, "encoder")
    assert len(again) == 5
    assert len(os.listdir("/proc/self/fd")) == before


def test_encoders_do_not_mix(tmp_path):
    EmbeddingStore(tmp_path, "one").write([key(0)], clips([4]))
    assert key(0) not in EmbeddingStore(tmp_path, "two")
    with pytest.raises(KeyError):
        EmbeddingStore(tmp_path, "two").view([key(0)])


def test_a_file_written_twice_counts_once(tmp_path):
    first, second = EmbeddingStore(tmp_path, "encoder"), EmbeddingStore(tmp_path, "encoder")
    array = clips([4])
    first.write([key(0)], array)
    second.write([key(0)], array)
    again = EmbeddingStore(tmp_path, "encoder")
    assert len(again) == 1
    np.testing.assert_array_equal(again.view([key(0)]).gather(np.array([0]))[0], padded(array, 4))


def test_refresh_takes_in_what_others_wrote(tmp_path):
    mine, other = EmbeddingStore(tmp_path, "encoder"), EmbeddingStore(tmp_path, "encoder")
    other.write([key(0)], clips([4]))
    assert key(0) not in mine
    mine.refresh()
    assert key(0) in mine


def test_half_written_shards_are_ignored_and_cleaned(tmp_path, caplog):
    store = EmbeddingStore(tmp_path, "encoder")
    store.write([key(0)], clips([4]))
    folder = tmp_path / "encoder"
    (whole,) = folder.glob("*.safetensors")
    # A process that has ended: its number is free.
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = folder / f".{_host()}-abc.safetensors.{dead.pid}.tmp"
    live = folder / f".{_host()}-def.safetensors.{os.getpid()}.tmp"
    foreign = folder / ".0badcafe-ghi.safetensors.1.tmp"
    for path in (left, live, foreign):
        path.write_bytes(whole.read_bytes()[:50])
    cut = folder / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-8])
    again = EmbeddingStore(tmp_path, "encoder")
    assert len(again) == 1
    assert not left.exists()
    assert live.exists()
    assert foreign.exists()
    assert "cut.safetensors: passed over" in caplog.text


WRITER = textwrap.dedent("""
    import hashlib, sys
    import numpy as np
    from t2t.data.embeddings.store import EmbeddingStore
    root, first, last, size = sys.argv[1], *map(int, sys.argv[2:5])
    store = EmbeddingStore(root, "encoder")
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(first, last):
        keys = [hashlib.sha256(f"{n}-{i}".encode()).hexdigest() for i in range(size)]
        store.write(keys, [np.full((2, 6), n, np.float16)] * size)
        print(n, flush=True)
""")


def writer(root, first: int, last: int, size: int = 5) -> subprocess.Popen:
    arguments = [sys.executable, "-c", WRITER, str(root), str(first), str(last), str(size)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_write_at_once(tmp_path):
    processes = [writer(tmp_path, 0, 12), writer(tmp_path, 8, 20)]
    for process in processes:
        go(process)
    assert [process.communicate()[0].split()[-1] for process in processes] == ["11", "19"]
    store = EmbeddingStore(tmp_path, "encoder")
    assert len(store) == 20 * 5
    keys = [key(f"{n}-{i}") for n in range(20) for i in range(5)]
    values, mask = store.view(keys).gather(np.arange(100))
    assert mask.all()
    np.testing.assert_array_equal(values[:, 0, 0], np.repeat(np.arange(20), 5))


def test_a_killed_writer_leaves_whole_shards_only(tmp_path):
    process = writer(tmp_path, 0, 100_000, 400)
    go(process)
    assert process.stdout is not None
    for _ in range(5):
        done = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = EmbeddingStore(tmp_path, "encoder")
    assert len(store) >= (done + 1) * 400
    assert len(store) % 400 == 0
    assert not list((tmp_path / "encoder").glob(".*"))


def test_hashes_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "clip.bin"
    path.write_bytes(b"one")
    store = EmbeddingStore(tmp_path / "store", "encoder")
    assert store.hash_file(path) == hashlib.sha256(b"one").hexdigest()
    store.flush()
    # A kill in the middle of a line costs that line only.
    with open(tmp_path / "store" / "files.jsonl", "a") as file:
        file.write('{"path": "/torn')
    other = tmp_path / "other.bin"
    other.write_bytes(b"two")
    store.hash_file(other)
    store.flush()
    again = EmbeddingStore(tmp_path / "store", "encoder")
    monkeypatch.setattr("t2t.data.embeddings.store.sha256_file", lambda path: pytest.fail("hashed again"))
    assert again.hash_file(path) == hashlib.sha256(b"one").hexdigest()
    assert again.hash_file(other) == hashlib.sha256(b"two").hexdigest()
    monkeypatch.undo()
    path.write_bytes(b"three")
    assert again.hash_file(path) == hashlib.sha256(b"three").hexdigest()
