"""Bits that flip in the embedding store are noticed, and what they spoiled is made anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import PixelsConfig
from t2t.data.embeddings.embed import Embedded, embed_samples
from t2t.data.embeddings.shards import read_shard
from t2t.data.embeddings.store import EmbeddingStore
from tests.data.test_store import DIM, clips, key
from tests.helpers.clips import random_clip

CONFIG = PixelsConfig(frames=2, grid=1)


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    """Two shards of two samples."""
    store = EmbeddingStore(tmp_path, "encoder")
    store.write([key(0), key(1)], clips([2, 3]))
    store.write([key(2), key(3)], clips([1, 2], seed=1))
    return store


def shard_of(store: EmbeddingStore, number: int) -> Path:
    """The file that has sample `number`."""
    return next(path for path in store.folder.glob("*.safetensors") if key(number) in read_shard(path).names())


def flip(path: Path, at: int) -> None:
    """Flips a bit, counted in bytes from the end where negative."""
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def everything(store: EmbeddingStore) -> np.ndarray:
    return store.view([key(2), key(3)]).gather(np.arange(2))[0]


# From the end lie, as safetensors orders them: embeddings (int64 offsets come first, bytes last, by alignment).
@pytest.mark.parametrize("at", range(-200, 0, 13))
def test_a_flipped_bit_anywhere_in_the_content_is_noticed(store, tmp_path, at, caplog):
    path, before = shard_of(store, 2), everything(store)
    at = max(at, 8 + int.from_bytes(path.read_bytes()[:8], "little") - path.stat().st_size)
    flip(path, at)
    again = EmbeddingStore(tmp_path, "encoder")
    try:
        assert (everything(again) == before).all()
    except (T2TError, KeyError):
        pass  # told, or another key: either way nobody takes it for what it is not
    else:
        raise AssertionError("a flipped bit passed in silence")
    assert again.view([key(0), key(1)]).counts.tolist() == [2, 3]


def test_a_flipped_bit_in_the_header_never_gives_other_numbers(store, tmp_path):
    path, before = shard_of(store, 2), everything(store)
    whole = path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    for at in range(length):
        content = bytearray(whole)
        content[at] ^= 1 << at % 8
        path.write_bytes(content)
        again = EmbeddingStore(tmp_path, "encoder", clean=False)
        if key(2) in again and key(3) in again:
            try:
                assert (everything(again) == before).all()
            except T2TError:
                continue


def test_a_damaged_shard_is_set_aside_and_told_once(store, tmp_path, caplog):
    path = shard_of(store, 2)
    flip(path, -30)
    again = EmbeddingStore(tmp_path, "encoder")
    again.check([key(i) for i in range(4)])
    assert [key(i) in again for i in range(4)] == [True, True, False, False]
    assert f"{path} is damaged" in caplog.text
    assert not path.exists()
    assert path.with_name(f"{path.name}.damaged").exists()
    assert len(EmbeddingStore(tmp_path, "encoder")) == 2


def test_whoever_only_reads_is_told_and_moves_nothing(store, tmp_path):
    path = shard_of(store, 2)
    flip(path, -30)
    again = EmbeddingStore(tmp_path, "encoder", clean=False)
    with pytest.raises(T2TError, match="embeds them anew"):
        again.view([key(0), key(3)])
    assert path.exists()
    assert again.view([key(0)]).counts.tolist() == [2]


def test_another_shard_with_the_same_sample_takes_its_place(store, tmp_path):
    other = EmbeddingStore(tmp_path, "encoder")
    twin = clips([1, 2], seed=1)
    other.write([key(2), key(3)], twin)
    flip(shard_of(store, 2), -30)
    again = EmbeddingStore(tmp_path, "encoder")
    np.testing.assert_array_equal(again.view([key(2)]).gather(np.array([0]))[0][0], twin[0])


def test_a_store_without_checksums_goes_on_and_says_so(store, tmp_path, caplog):
    for path in store.folder.glob("*.safetensors"):
        save_file(load_file(path), path, metadata={"encoder": "encoder"})
    caplog.set_level("INFO", "t2t")
    again = EmbeddingStore(tmp_path, "encoder")
    np.testing.assert_array_equal(everything(again), everything(store))
    assert "1 shards are from before shards had checksums" in caplog.text
    assert again.dim == DIM


def embedded(paths: list[Path], work: Path) -> Embedded:
    columns = {"sample_id": [path.stem for path in paths], "path": [str(path) for path in paths]}
    return embed_samples(pa.table(columns), CONFIG, work)


def test_a_damaged_shard_is_made_anew_while_the_video_is_there(tmp_path, caplog):
    paths = [random_clip(tmp_path / f"clip-{i}.mp4", seed=i) for i in range(3)]
    first = embedded(paths, tmp_path / "work")
    before = first.embeddings.gather(np.arange(3))[0].copy()
    (shard,) = (tmp_path / "work" / "embeddings").rglob("*.safetensors")
    flip(shard, -64)
    second = embedded(paths, tmp_path / "work")
    np.testing.assert_array_equal(second.embeddings.gather(np.arange(3))[0], before)
    assert second.decoded == 3
    assert "is damaged" in caplog.text
    assert embedded(paths, tmp_path / "work").decoded == 0


def test_a_damaged_shard_whose_video_is_gone_is_an_unreadable_sample(tmp_path):
    paths = [random_clip(tmp_path / f"clip-{i}.mp4", seed=i) for i in range(3)]
    embedded(paths, tmp_path / "work")
    (shard,) = (tmp_path / "work" / "embeddings").rglob("*.safetensors")
    flip(shard, -64)
    paths[1].unlink()
    again = embedded(paths, tmp_path / "work")
    assert again.sample_ids == ["clip-0", "clip-2"]
    assert again.quarantine.to_pylist() == [{"sample_id": "clip-1", "path": str(paths[1]), "reason": "no such file"}]
