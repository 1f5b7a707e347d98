"""From files to embeddings, with the encoder that needs no weights and real small clips."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import PixelsConfig, TimmConfig
from t2t.data.embeddings.decode import read_frames
from t2t.data.embeddings.embed import Embedded, TooManyUnreadable, embed, embed_samples, probe
from t2t.data.embeddings.encoders import build_encoder
from t2t.data.embeddings.store import EmbeddingStore
from tests.helpers.clips import random_clip, write_audio
from tests.helpers.embedding import embed_file

CONFIG = PixelsConfig(size=32, frames=4, grid=4)
SHARED = Path(os.environ.get("T2T_TEST_SHARED", Path(__file__).parents[2].parent / "shared"))


def table(paths: list[Path]) -> pa.Table:
    return pa.table({"sample_id": [path.stem for path in paths], "path": [str(path) for path in paths]})


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    """Twelve clips of 1 to 6 frames."""
    folder = tmp_path_factory.mktemp("clips")
    return [random_clip(folder / f"clip-{i:02}.mp4", seed=i, count=1 + i % 6) for i in range(12)]


def run(samples: pa.Table, work: Path, **options) -> Embedded:
    encoder = build_encoder(CONFIG)
    return embed(samples, encoder, EmbeddingStore(work, encoder.fingerprint), **options)


def values(embedded: Embedded) -> bytes:
    return embedded.embeddings.gather(np.arange(len(embedded.embeddings)))[0].tobytes()


def test_embeddings_are_those_of_each_file_alone(clips, tmp_path):
    embedded = run(table(clips), tmp_path)
    assert embedded.sample_ids == [path.stem for path in clips]
    assert embedded.decoded == 12
    assert len(embedded.quarantine) == 0
    encoder = build_encoder(CONFIG)
    out, mask = embedded.embeddings.gather(np.arange(12))
    assert out.shape == (12, 4, encoder.dim)
    for i, path in enumerate(clips):
        alone = encoder.encode(read_frames(path, 4, 32))
        assert mask[i].sum() == len(alone) == min(4, 1 + i % 6)
        np.testing.assert_array_equal(out[i][mask[i]], alone)
        assert not out[i][~mask[i]].any()


def test_a_second_run_decodes_nothing(clips, tmp_path, monkeypatch):
    first = run(table(clips), tmp_path)
    monkeypatch.setattr("t2t.data.embeddings.embed.Decoder.read", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr("t2t.data.embeddings.store.sha256_file", lambda path: pytest.fail("hashed again"))
    second = run(table(clips[::-1]), tmp_path)
    assert second.decoded == 0
    assert second.sample_ids == first.sample_ids[::-1]
    out, _ = second.embeddings.gather(np.arange(12)[::-1])
    assert out.tobytes() == values(first)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_and_shards_change_nothing(clips, tmp_path, workers):
    expected = run(table(clips), tmp_path / "expected")
    embedded = run(table(clips), tmp_path / "store", workers=workers, shard_samples=workers + 1)
    assert values(embedded) == values(expected)
    assert len(list((tmp_path / "store").rglob("*.safetensors"))) == -(-12 // (workers + 1))


def test_samples_with_one_file_share_an_entry(clips, tmp_path):
    copy = tmp_path / "copy.mp4"
    shutil.copy(clips[3], copy)
    embedded = run(table([clips[3], copy, clips[3]]), tmp_path / "store")
    assert embedded.decoded == 1
    out, _ = embedded.embeddings.gather(np.arange(3))
    assert out[0].tobytes() == out[1].tobytes() == out[2].tobytes()


def test_images_are_samples_too(tmp_path):
    Image.fromarray(np.full((40, 30, 3), 80, np.uint8)).save(tmp_path / "image.png")
    embedded = run(table([tmp_path / "image.png"]), tmp_path / "store")
    assert embedded.embeddings.counts.tolist() == [1]


def bad_files(folder: Path) -> list[Path]:
    empty, garbage = folder / "empty.mp4", folder / "garbage.mp4"
    empty.write_bytes(b"")
    garbage.write_bytes(b"garbage" * 100)
    return [empty, garbage, write_audio(folder / "audio.mp4"), folder / "missing.mp4"]


def test_unreadable_files_go_to_quarantine(clips, tmp_path):
    bad = bad_files(tmp_path)
    samples = table([clips[0], *bad, clips[1]])
    embedded = run(samples, tmp_path / "store", max_unreadable=0.7)
    assert embedded.sample_ids == ["clip-00", "clip-01"]
    assert embedded.quarantine.column_names == ["sample_id", "path", "reason"]
    assert embedded.quarantine["sample_id"].to_pylist() == ["empty", "garbage", "audio", "missing"]
    reasons = embedded.quarantine["reason"].to_pylist()
    assert reasons[0] == "the file is empty"
    assert reasons[1].startswith("not readable as video or image")
    assert reasons[2:] == ["no video stream", "no such file"]
    assert probe(samples).equals(embedded.quarantine)


def test_the_limit_on_unreadable_files(clips, tmp_path):
    bad = bad_files(tmp_path)
    # One is always allowed.
    assert len(run(table([*clips, bad[0]]), tmp_path / "store", max_unreadable=0.0).quarantine) == 1
    # Two of 14 are 14.3 %.
    assert len(run(table([*clips, *bad[:2]]), tmp_path / "store", max_unreadable=0.15).quarantine) == 2
    with pytest.raises(
        TooManyUnreadable, match=r"2 of 14 samples are unreadable so far, more than max_unreadable"
    ) as e:
        run(table([*clips, *bad[:2]]), tmp_path / "store", max_unreadable=0.14)
    assert "empty (the file is empty), garbage (not readable" in str(e.value)
    assert "raise `max_unreadable`" in str(e.value)
    assert len(e.value.quarantine) == 2


def test_the_same_bad_file_counts_once_for_each_sample(clips, tmp_path):
    empty = bad_files(tmp_path)[0]
    samples = table([*clips, empty, empty])
    with pytest.raises(TooManyUnreadable, match="2 of 14"):
        run(samples, tmp_path / "store")


def test_nothing_readable_is_an_error(tmp_path):
    with pytest.raises(T2TError, match="None of the 1 samples can be read"):
        run(table(bad_files(tmp_path)[:1]), tmp_path / "store")


def test_one_file(clips, tmp_path):
    embeddings = embed_file(clips[5], CONFIG)
    assert len(embeddings) == 1
    expected = embed_samples(table(clips[5:6]), CONFIG, tmp_path)
    assert embeddings.gather(np.array([0]))[0].tobytes() == values(expected)


SLOW_RUN = textwrap.dedent("""
    import sys, time
    import pyarrow as pa
    from t2t.data.embeddings import embed as module
    from t2t.data.embeddings.config import PixelsConfig
    from t2t.data.embeddings.encoders import build_encoder
    from t2t.data.embeddings.store import EmbeddingStore
    real = module.Decoder.read
    def slow(*arguments, **options):
        time.sleep(0.1)
        return real(*arguments, **options)
    module.Decoder.read = slow
    encoder = build_encoder(PixelsConfig(size=32, frames=4, grid=4))
    paths = sys.argv[2:]
    store = EmbeddingStore(sys.argv[1], encoder.fingerprint)
    module.embed(pa.table({"sample_id": paths, "path": paths}), encoder, store, workers=1, shard_samples=3)
""")


def test_a_killed_run_goes_on_from_its_last_shard(clips, tmp_path):
    store = tmp_path / "store"
    process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, str(store), *map(str, clips)])
    deadline = time.monotonic() + 60
    while not list(store.rglob("*.safetensors")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(EmbeddingStore(store, build_encoder(CONFIG).fingerprint))
    assert 3 <= finished < 12
    assert finished % 3 == 0
    resumed = run(table(clips), store, shard_samples=3)
    assert resumed.decoded == 12 - finished
    assert values(resumed) == values(run(table(clips), tmp_path / "unkilled", shard_samples=3))


@pytest.mark.skipif(
    not (SHARED / "weights" / "mobilenetv2_100.safetensors").is_file() or not (SHARED / "data" / "jhmdb").is_dir(),
    reason="shared weights and clips are not here (T2T_TEST_SHARED)",
)
def test_real_clips_with_real_weights(tmp_path):
    paths = sorted((SHARED / "data" / "jhmdb" / "clips").glob("*.avi"))[:4]
    config = TimmConfig(
        model="mobilenetv2_100",
        weights=str(SHARED / "weights" / "mobilenetv2_100.safetensors"),
        model_kwargs={"pad_type": "same"},
        mean=0.5,
        std=0.5,
        size=224,
    )
    embedded = embed_samples(table(paths), config, tmp_path)
    out, mask = embedded.embeddings.gather(np.arange(4))
    assert out.shape == (4, 8, 1280)
    assert mask.all()
    assert np.isfinite(out).all()
    # Frames of one clip are more alike than frames of different clips.
    means = out.astype(np.float32)
    unit = means / np.linalg.norm(means, axis=-1, keepdims=True)
    alike = np.einsum("afd,bgd->abfg", unit, unit).mean(axis=(2, 3))
    assert (alike.argmax(axis=1) == np.arange(4)).all()


class Faulty:
    """An encoder of a plug-in that gives something else than it says."""

    def __init__(self, give):
        self.good, self.give = build_encoder(CONFIG), give
        for name in ("frames", "size", "crop", "interpolation", "batch_size", "dim", "fingerprint"):
            setattr(self, name, getattr(self.good, name))

    def encode(self, frames):
        return self.give(self.good.encode(frames))


@pytest.mark.parametrize(
    ("give", "says"),
    [
        (lambda out: np.where(np.arange(len(out))[:, None] == 2, np.nan, out), r"gives NaN .* for .*clip-01\.mp4"),
        (lambda out: out.astype(np.float32) + 1e6, r"gives NaN or infinite numbers for .*clip-00\.mp4 \(1 of 1"),
        (lambda out: out[:-1], r"gives float16 \[\d+, \d+\] for \d+ frames; expected float16 \[\d+, \d+\]"),
        (lambda out: out[:, :-1], ".* expected float16"),
        (lambda out: out.astype(np.int64), "gives int64"),
    ],
    ids=["NaN", "too large for float16", "a row less", "a column less", "no floats"],
)
def test_an_encoder_that_gives_something_else_is_refused_and_nothing_is_stored(clips, tmp_path, give, says):
    encoder = Faulty(give)
    store = EmbeddingStore(tmp_path, encoder.fingerprint)
    with pytest.raises(T2TError, match=f"The frame encoder Faulty {says}"):
        embed(table(clips), encoder, store)
    assert not list(tmp_path.rglob("*.safetensors"))
