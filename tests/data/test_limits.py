"""What a file may cost, and that no file can hang, fill or end the process that asks for its frames."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError

from t2t.core.config import parse, read_yaml
from t2t.data.dataset import DatasetConfig, read_dataset
from t2t.data.embeddings import decode
from t2t.data.embeddings.config import PixelsConfig
from t2t.data.embeddings.decode import Decoder, Limits, Unreadable, read_frames
from t2t.data.embeddings.embed import decode_in_order, embed_samples, probe
from t2t.data.embeddings.encoders import build_encoder
from t2t.data.embeddings.limits import limits_of, with_limits
from tests.helpers.clips import numbered, write_clip
from tests.helpers.documented import documented
from tests.helpers.pictures import gif, slow_gif


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    return slow_gif(tmp_path / "slow.gif")


def reason(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(Unreadable) as caught:
        read_frames(path, size=32, limits=limits)
    return documented(str(caught.value))


def test_more_frames_and_pixels_than_allowed_are_refused_before_decoding(tmp_path):
    path = gif(tmp_path / "bomb.gif", 11_500, 2_000)
    assert path.stat().st_size < 60_000
    start = time.monotonic()
    said = reason(path)
    assert time.monotonic() - start < 5
    assert said == (
        "1,876 frames of 11500 x 11500 pixels have to be decoded, more than 30,000,000,000 pixels "
        "(limits.decoded_pixels in the dataset's YAML file)"
    )
    # A check looks at one frame, and finds what a run would.
    found = probe(pa.table({"sample_id": ["a"], "path": [str(path)]}))
    assert found["reason"].to_pylist() == [said]


def test_time_is_limited_wherever_the_decoder_is(slow):
    start = time.monotonic()
    assert reason(slow, Limits(seconds=0.3)) == (
        "decoding takes more than 0.3 s (limits.seconds in the dataset's YAML file)"
    )
    assert time.monotonic() - start < 5


def test_memory_is_limited_for_one_file_and_not_for_the_next(tmp_path):
    path = gif(tmp_path / "large.gif", 11_500, 2)
    assert reason(path, Limits(memory=256)) == (
        "decoding takes more than 256 MiB of memory (limits.memory in the dataset's YAML file)"
    )
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    assert read_frames(tmp_path / "small.png").shape == (1, 9, 9, 3)
    # One frame of it at a time fits into the memory that files have by default.
    assert read_frames(path, size=32).shape == (2, 32, 32, 3)


def stop(decoder: Decoder, how: signal.Signals, times: int) -> threading.Thread:
    """Sends a signal to the processes that the decoder comes to use, one after the other."""

    def work() -> None:
        for _ in range(times):
            sent, until = False, time.monotonic() + 20
            while not sent and time.monotonic() < until:
                with decoder._lock:
                    busy = [process._process for process in decoder._busy]
                for process in busy:
                    if process.poll() is None:
                        time.sleep(0.05)
                        process.send_signal(how)
                        sent = True
                        if how is not signal.SIGSTOP:
                            process.wait()
                time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_one_that_hangs_in_the_system_is_given_up(slow, monkeypatch):
    """Its own alarm cannot end it (here it is stopped; a file server that is gone does the same)."""
    monkeypatch.setattr(decode, "GRACE", 0.5)
    decoder = Decoder(Limits(seconds=1))
    thread = stop(decoder, signal.SIGSTOP, 1)
    start = time.monotonic()
    with pytest.raises(Unreadable, match="decoding takes more than 1 s"):
        decoder.read(slow)
    assert time.monotonic() - start < 8
    thread.join()


def test_a_decoder_that_breaks_down_is_asked_once_more(tmp_path):
    path = gif(tmp_path / "slow.gif", 3_000, 150)
    decoder = Decoder()
    thread = stop(decoder, signal.SIGSEGV, 1)
    assert decoder.read(path, size=32).shape == (8, 32, 32, 3)
    thread.join()
    thread = stop(decoder, signal.SIGSEGV, 2)
    with pytest.raises(Unreadable, match=r"^the decoder breaks down on it \(SIGSEGV\)$") as caught:
        decoder.read(path, size=32)
    documented(str(caught.value))
    thread.join()


def test_closing_ends_what_is_being_decoded(slow, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    encoder = build_encoder(PixelsConfig(frames=2, size=32, grid=4))
    # The first file is given at once, while the others are decoded ahead.
    clips = decode_in_order([str(tmp_path / "small.png"), *[str(slow)] * 20], encoder, workers=1)
    window = [next(clips) for _ in range(1)]
    assert window[0].shape == (1, 32, 32, 3)
    start = time.monotonic()
    clips.close()
    assert time.monotonic() - start < 5


def test_who_waits_for_a_closed_decoder_is_told(slow):
    decoder, told = Decoder(), []

    def read() -> None:
        try:
            decoder.read(slow)
        except Unreadable as error:
            told.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.5)
    decoder.close()
    thread.join(5)
    assert told == ["decoding was stopped"]


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        (tmp_path / "folder.mp4").mkdir()
        (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
        paths = [*sorted(tmp_path.iterdir()), Path("/dev/zero")]
        assert [reason(path) for path in paths] == ["not a file"] * 5
    assert reason(tmp_path / ("x" * 300)) == "cannot be opened: file name too long"
    samples = pa.table({"sample_id": ["pipe", "clip"], "path": [str(tmp_path / "pipe.mp4"), str(tmp_path / "a.mp4")]})
    write_clip(tmp_path / "a.mp4", numbered(10))
    embedded = embed_samples(samples, PixelsConfig(frames=2, size=32, grid=4), tmp_path / "work")
    assert embedded.quarantine.to_pylist()[0]["reason"] == "not a file"


def test_a_playlist_whose_segment_is_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.ts")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npipe.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile pipe.ts\n")
    start = time.monotonic()
    assert reason(tmp_path / "list.m3u8") == "a playlist (hls), not a video or image"
    assert reason(tmp_path / "list.ffconcat") == "a playlist (concat), not a video or image"
    assert time.monotonic() - start < 5


def test_processes_are_kept_for_the_next_file_and_know_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    decode._idle.end()
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    pids = set()
    for _ in range(3):
        read_frames(tmp_path / "small.png")
        (process,) = decode._idle.processes
        pids.add(process._process.pid)
    assert len(pids) == 1
    assert b"hush" not in Path(f"/proc/{pids.pop()}/environ").read_bytes()


PARENT = """
import sys, threading, time
from t2t.data.embeddings import decode
decoder = decode.Decoder()
threading.Thread(target=decoder.read, args=[sys.argv[1]], daemon=True).start()
while not decoder._busy:
    time.sleep(0.01)
time.sleep(0.3)
print(next(iter(decoder._busy))._process.pid, flush=True)
time.sleep(60)
"""


def test_no_process_outlives_its_parent(tmp_path):
    path = gif(tmp_path / "slow.gif", 3_000, 150)
    with subprocess.Popen([sys.executable, "-c", PARENT, str(path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    "lie",
    [
        b"[]\n",
        b"{}\n",
        b"no json\n",
        b'{"shape": [1, 1, 1]}\n',
        b'{"shape": [1000000, 1000000, 1000, 3]}\n',
        b"x" * 100_000,
    ],
)
def test_a_process_that_was_taken_over_can_but_lie(tmp_path, monkeypatch, lie):
    monkeypatch.setattr(
        decode,
        "BOOT",
        f"import os, time\nos.write(1, b'{{\"ready\": 1}}\\n')\nos.read(0, 9)\nos.write(1, {lie!r})\ntime.sleep(9)",
    )
    decode._idle.end()
    monkeypatch.setattr(decode, "GRACE", 0.2)
    with pytest.raises(Unreadable, match="the decoder breaks down on it"):
        read_frames(tmp_path / "any.mp4", limits=Limits(seconds=5))


def test_a_forked_process_starts_its_own(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    code = (
        "import os, sys\nfrom t2t.data.embeddings.decode import read_frames\nread_frames(sys.argv[1])\n"
        "child = os.fork()\nfor _ in range(20):\n    assert read_frames(sys.argv[1]).shape == (1, 9, 9, 3)\n"
        "if child:\n    assert os.waitpid(child, 0)[1] == 0"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "small.png")], check=True, timeout=60)


def test_a_package_that_is_not_on_the_search_path_is_found(tmp_path):
    """An editable installation is found by a hook of its own."""
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    code = (
        "import sys\nfrom t2t.data.embeddings import decode\n"
        "sys.path[:] = [p for p in sys.path if p and not (decode.Path(p) / 't2t').is_dir()]\n"
        "assert decode.read_frames(sys.argv[1]).shape == (1, 9, 9, 3)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "small.png")], check=True, timeout=60)


def test_a_dataset_says_its_limits(tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\nroot: tiny\nlimits: {pixels: 400, seconds: 30}\nmax_unreadable: 0.5\n"
    )
    config = parse(DatasetConfig, read_yaml(tmp_path / "tiny.yaml"), "tiny.yaml")
    assert config.limits == Limits(pixels=400, seconds=30)
    root = tmp_path / "tiny"
    root.mkdir()
    for name, side in (("a", 20), ("b", 21), ("c", 19)):
        Image.new("RGB", (side, side)).save(root / f"{name}.png")
    rows = "".join(f"{name},{name}.png,image,{name},train\n" for name in "abc")
    (root / "samples.csv").write_text("sample_id,path,modality,group,split\n" + rows)
    (root / "annotations.csv").write_text("sample_id,topic,annotator,relevance\n")
    (root / "topics.txt").write_text("red star\n")
    samples = read_dataset(config, tmp_path).split("train")
    bad = [
        {
            "sample_id": "b",
            "reason": "frames of 21 x 21 pixels, more than 400 (limits.pixels in the dataset's YAML file)",
        }
    ]
    assert probe(samples).select(["sample_id", "reason"]).to_pylist() == bad
    embedded = embed_samples(samples, PixelsConfig(frames=2, size=32, grid=4), tmp_path / "work", max_unreadable=0.5)
    assert embedded.quarantine.select(["sample_id", "reason"]).to_pylist() == bad
    assert embedded.sample_ids == ["a", "c"]
    for wrong in ({"pixels": 0}, {"seconds": 0}, {"memory": 1}, {"frames": 3}):
        with pytest.raises(ValidationError):
            DatasetConfig.model_validate({"name": "tiny", "root": "tiny", "limits": wrong})


def test_limits_go_with_the_samples():
    samples = pa.table({"sample_id": ["a", "b"], "path": ["a", "b"]})
    assert with_limits(samples, Limits()) is samples
    assert limits_of(samples) == Limits()
    limited = with_limits(samples, Limits(pixels=7))
    for table in (limited, limited.slice(1), limited.filter(pa.array([True, False])), limited.select(["path"])):
        assert limits_of(table) == Limits(pixels=7)
    assert np.array_equal(limited["path"].to_pylist(), ["a", "b"])
