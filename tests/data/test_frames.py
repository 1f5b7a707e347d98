"""The store of decoded frames: what is kept is what the decoder gives, once, and a kill costs a shard at most."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from t2t.data.embeddings.decode import read_frames
from t2t.data.embeddings.embed import NoneReadable, TooManyUnreadable
from t2t.data.embeddings.frames import FrameSettings, FrameSource, decode_frames
from t2t.data.embeddings.limits import Limits, with_limits
from t2t.data.embeddings.store import NotStored
from tests.helpers.clips import random_clip
from tests.helpers.documented import refused

SETTINGS = FrameSettings(per_sample=4, size=24)


def table(paths: list[Path]) -> pa.Table:
    modalities = ["image" if path.suffix == ".png" else "video" for path in paths]
    return pa.table(
        {"sample_id": [path.stem for path in paths], "path": [str(path) for path in paths], "modality": modalities}
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    """Nine clips of 1 to 6 frames and an image."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [random_clip(folder / f"clip-{i:02}.mp4", seed=i, count=1 + i % 6) for i in range(9)]
    noise = np.random.default_rng(5).integers(0, 256, (60, 40, 3), np.uint8)
    Image.fromarray(noise).save(folder / "image.png")
    return [*paths, folder / "image.png"]


def test_frames_are_those_that_the_decoder_gives(clips, tmp_path):
    source = decode_frames(table(clips), tmp_path, SETTINGS)
    expected = np.concatenate([read_frames(path, 4, 24, "centre") for path in clips])
    assert len(source) == len(expected) == 25
    assert source.decoded == 10
    assert source.sample_ids == [path.stem for path in clips]
    order = np.random.default_rng(0).permutation(25)
    found = source.read(np.concatenate([order, order[:3]]))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected[np.concatenate([order, order[:3]])])
    assert source.read(np.empty(0, np.int64)).shape == (0, 24, 24, 3)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) < 25 * 24 * 24 * 3 + 4096


def test_a_second_time_nothing_is_decoded_and_another_process_opens_the_same(clips, tmp_path, monkeypatch):
    first = decode_frames(table(clips), tmp_path, SETTINGS)
    monkeypatch.setattr("t2t.data.embeddings.embed.Decoder.read", lambda *_: pytest.fail("decoded again"))
    second = decode_frames(table(clips), tmp_path, SETTINGS)
    opened = FrameSource.open(tmp_path, SETTINGS, first.keys)
    assert second.decoded == 0
    assert first.key == second.key == opened.key
    everything = np.arange(len(first))
    assert first.read(everything).tobytes() == second.read(everything).tobytes() == opened.read(everything).tobytes()
    with pytest.raises(NotStored):
        FrameSource.open(tmp_path, FrameSettings(4, 32), first.keys)


def test_the_key_is_of_content_and_settings(clips, tmp_path):
    base = decode_frames(table(clips[:3]), tmp_path / "work", SETTINGS)
    moved = shutil.copy(clips[0], tmp_path / "moved.mp4")
    assert decode_frames(table([Path(moved), *clips[1:3]]), tmp_path / "work", SETTINGS).key == base.key
    others = [
        decode_frames(table(clips[:4]), tmp_path / "work", SETTINGS),
        decode_frames(table([clips[1], clips[0], clips[2]]), tmp_path / "work", SETTINGS),
        decode_frames(table(clips[:3]), tmp_path / "work", FrameSettings(3, 24)),
        decode_frames(table(clips[:3]), tmp_path / "work", FrameSettings(4, 32)),
        decode_frames(table(clips[:3]), tmp_path / "work", FrameSettings(4, 24, "squash")),
        decode_frames(table(clips[:3]), tmp_path / "work", FrameSettings(4, 24, interpolation="bilinear")),
        decode_frames(table(clips[:3]), tmp_path / "work", SETTINGS, most=3),
    ]
    assert len({base.key, *(other.key for other in others)}) == 8


def test_datasets_share_frames_and_a_file_counts_once(clips, tmp_path):
    first, second = table(clips[:5]), table(clips[3:])
    source = decode_frames([(first, 0.0), (second, 0.0)], tmp_path, SETTINGS)
    assert source.decoded == 10
    assert source.sample_ids == [path.stem for path in clips]
    assert source.key == decode_frames(table(clips), tmp_path, SETTINGS).key


def test_copies_have_frames_under_each_id_where_that_is_asked(clips, tmp_path):
    copy = Path(shutil.copy(clips[1], tmp_path / "copy.mp4"))
    paths = [clips[1], clips[2], copy]
    assert decode_frames(table(paths), tmp_path, SETTINGS).sample_ids == ["clip-01", "clip-02"]
    source = decode_frames(table(paths), tmp_path, SETTINGS, unique=False)
    assert source.sample_ids == ["clip-01", "clip-02", "copy"]
    assert source.rows[0].tolist() == [0, 0, 1, 1, 1, 2, 2]
    np.testing.assert_array_equal(source.read(np.array([0, 1])), source.read(np.array([5, 6])))


def test_most_draws_samples_before_any_is_decoded(clips, tmp_path):
    source = decode_frames(table(clips), tmp_path, SETTINGS, most=7)
    again = decode_frames(table(clips[::-1]), tmp_path, SETTINGS, most=7)
    assert source.decoded < 5
    assert sorted(source.sample_ids) == sorted(again.sample_ids)
    assert len(source) <= 7
    one = decode_frames(table(clips[5:6]), tmp_path, SETTINGS, most=2)
    whole = decode_frames(table(clips[5:6]), tmp_path, SETTINGS)
    np.testing.assert_array_equal(one.read(np.arange(2)), whole.read(np.array([1, 3])))
    assert FrameSource.open(tmp_path, SETTINGS, one.keys, one.kept).key == one.key


def test_what_cannot_be_read_is_named_and_too_much_of_it_refused(clips, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    source = decode_frames(table([clips[0], bad, clips[1]]), tmp_path / "work", SETTINGS)
    assert source.sample_ids == ["clip-00", "clip-01"]
    assert source.quarantine.to_pylist() == [{"sample_id": "bad", "path": str(bad), "reason": "the file is empty"}]
    other = shutil.copy(bad, tmp_path / "worse.mp4")
    with pytest.raises(TooManyUnreadable, match="2 of 3 samples are unreadable"):
        decode_frames(table([clips[0], bad, Path(other)]), tmp_path / "work", SETTINGS)
    with pytest.raises(NoneReadable, match="None of the 1 samples can be read"):
        decode_frames(table([bad]), tmp_path / "work", SETTINGS)
    assert "no samples" in refused(lambda: decode_frames(table([]), tmp_path / "work", SETTINGS))
    small = with_limits(table(clips), Limits(pixels=10))
    with pytest.raises(TooManyUnreadable, match="pixels"):
        decode_frames(small, tmp_path / "other", SETTINGS)
    with pytest.raises(TooManyUnreadable, match="pixels"):
        decode_frames(small, tmp_path / "other", SETTINGS, most=20)


def test_a_damaged_shard_is_decoded_anew(clips, tmp_path):
    source = decode_frames(table(clips), tmp_path, SETTINGS)
    expected = source.read(np.arange(25)).tobytes()
    shard = next(tmp_path.rglob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 16
    shard.write_bytes(content)
    again = decode_frames(table(clips), tmp_path, SETTINGS)
    assert again.decoded == 10
    assert again.read(np.arange(25)).tobytes() == expected


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from t2t.data.embeddings import frames, store
    from tests.data.test_frames import SETTINGS, table
    frames.SHARD_SAMPLES = 2
    work, *paths = map(Path, sys.argv[1:])
    write = store.write_shard
    def killed(*arguments):
        write(*arguments)
        if len(list(work.rglob("*.safetensors"))) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    store.write_shard = killed
    frames.decode_frames(table(paths), work, SETTINGS)
"""


def test_a_killed_run_goes_on_after_its_last_shard(clips, tmp_path):
    work = tmp_path / "work"
    line = [sys.executable, "-c", textwrap.dedent(KILLED), str(work), *map(str, clips)]
    assert subprocess.run(line, capture_output=True, timeout=120).returncode == -signal.SIGKILL
    source = decode_frames(table(clips), work, SETTINGS)
    assert source.decoded == len(clips) - 3 * 2
    whole = decode_frames(table(clips), tmp_path / "whole", SETTINGS)
    everything = np.arange(len(whole))
    assert source.read(everything).tobytes() == whole.read(everything).tobytes()
