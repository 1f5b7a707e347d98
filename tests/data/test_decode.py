"""Frames from real files that are written on the spot."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2t.data.embeddings.decode import Limits, Unreadable, read_frames
from t2t.data.embeddings.media import reading
from t2t.data.embeddings.media.opening import opened
from t2t.data.embeddings.media.sampling import choose
from t2t.data.embeddings.media.shown import Screen
from tests.helpers.clips import numbered, numbers, random_clip, write_audio, write_clip

pytestmark = pytest.mark.unit


def here(path: Path, frames: int) -> np.ndarray:
    """As `read_frames`, without a process of its own."""
    return reading.read(path, frames, None, "squash", "bicubic", Limits().bounds())


@pytest.mark.parametrize(("total", "expected"), [(40, [2, 7, 12, 17, 22, 27, 32, 37]), (9, [0, 1, 2, 3, 5, 6, 7, 8])])
@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_even_sampling_takes_the_centres(tmp_path, total, expected, codec):
    path = write_clip(tmp_path / "clip.mp4", numbered(total), codec=codec)
    frames = read_frames(path, frames=8)
    assert frames.dtype == np.uint8
    assert frames.shape == (8, 32, 32, 3)
    assert numbers(frames) == expected
    assert expected == [int((i + 0.5) * total / 8) for i in range(8)]


@pytest.mark.parametrize("total", [1, 2, 7, 8])
def test_short_clips_give_all_their_frames(tmp_path, total):
    path = write_clip(tmp_path / "clip.mp4", numbered(total, step=20))
    assert numbers(read_frames(path, frames=8), step=20) == list(range(total))


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "50%d.png"])
def test_an_image_is_a_video_of_one_frame(tmp_path, name):
    image = np.full((20, 30, 3), (200, 40, 90), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / name)
    frames = read_frames(tmp_path / name)
    assert frames.shape == (1, 20, 30, 3)
    assert np.abs(frames[0].astype(int) - image).max() <= 4


def test_b_frames_and_many_keyframes(tmp_path):
    """Frames come out of the decoder in another order than their packets; groups that are not used are passed over."""
    path = write_clip(
        tmp_path / "clip.mp4", numbered(45), codec="libx264", options={"g": "6", "bf": "2", "preset": "medium"}
    )
    assert numbers(read_frames(path, frames=3)) == [7, 22, 37]


def test_groups_that_are_not_needed_are_not_decoded(tmp_path):
    options = {"g": "10", "sc_threshold": "0", "bf": "0"}
    path = write_clip(tmp_path / "clip.mp4", numbered(40), codec="libx264", options=options)
    with opened(path) as descriptor:
        source = reading._Source(descriptor, path.name, Limits().bounds())
        times = reading._times(source.packets)
        needed = reading._needed(source.packets, {int(times[2]), int(times[31])})
        source.close()
    assert np.flatnonzero(needed).tolist() == [0, 1, 2, 30, 31]


def test_a_file_too_large_to_hold_gives_the_same(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", numbered(40), codec="libx264", options={"g": "6"})
    held = here(path, frames=5)
    monkeypatch.setattr(reading, "HELD_BYTES", 10)
    assert here(path, frames=5).tobytes() == held.tobytes()


def test_no_more_frames_are_converted_than_used(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", numbered(40))
    converted = []
    real = Screen.show
    monkeypatch.setattr(Screen, "show", lambda screen, frame: converted.append(frame.pts) or real(screen, frame))
    here(path, frames=3)
    assert len(converted) == 3


def test_variable_frame_rate_is_sampled_in_time(tmp_path):
    # Ten frames in the first second, then one that stays for nine seconds, then ten more in the last second.
    times = [*range(0, 1000, 100), 1000, *range(10_000, 11_000, 100)]
    path = write_clip(tmp_path / "clip.mkv", numbered(21, step=10), times=times)
    # Centres at 1.375, 4.125, 6.875, 9.625 s all show frame 10; no frame is taken twice.
    assert numbers(read_frames(path, frames=4), step=10) == [10, 11, 12, 13]
    # Centres at 0.55 s and so on, every 1.1 s: frame 5, then the long one, and at last those of the end.
    assert numbers(read_frames(path, frames=10), step=10) == [5, 10, 11, 12, 13, 14, 15, 16, 17, 18]


def test_choose_never_repeats_and_stays_inside():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, frames = rng.integers(1, 30), rng.integers(1, 12)
        index = choose(np.cumsum(rng.integers(1, 50, n)), frames)
        assert len(index) == min(n, frames)
        assert (np.diff(index) > 0).all()
        assert index[0] >= 0
        assert index[-1] < n


def test_a_container_without_timestamps_is_counted_by_decoding(tmp_path):
    """A raw elementary stream says neither how many frames there are nor when."""
    path = write_clip(tmp_path / "clip.h264", numbered(40), codec="libx264", options={"bf": "0"})
    with opened(path) as descriptor:
        source = reading._Source(descriptor, path.name, Limits().bounds())
        assert source.stream.frames == 0
        source.close()
    assert numbers(read_frames(path, frames=8)) == [2, 7, 12, 17, 22, 27, 32, 37]


def test_squash_and_centre_crop(tmp_path):
    image = np.zeros((32, 64, 3), dtype=np.uint8)
    image[:, :16] = image[:, 48:] = 255
    path = tmp_path / "wide.png"
    Image.fromarray(image).save(path)
    squashed = read_frames(path, size=16)
    assert squashed.shape == (1, 16, 16, 3)
    assert squashed[0, 8, 1, 0] > 240
    cropped = read_frames(path, size=16, crop="centre")
    assert cropped.shape == (1, 16, 16, 3)
    assert cropped[0, :, 2:14].max() < 20


def test_interpolation_is_as_asked(tmp_path):
    path = tmp_path / "step.png"
    Image.fromarray(np.repeat(np.repeat(np.uint8([[[60], [60], [180], [180]]]), 4, 0), 3, 2)).save(path)
    bilinear, bicubic = (read_frames(path, size=32, interpolation=way)[0, 16, :, 0] for way in ("bilinear", "bicubic"))
    # Both go from one to the other; a bilinear edge is a straight ramp, a bicubic one is steeper in its middle.
    steps = [np.diff(row.astype(int)) for row in (bilinear, bicubic)]
    assert [row.sum() for row in steps] == [120, 120]
    assert steps[0].max() <= 16 < steps[1].max()


def test_rotation_that_the_file_asks_for_is_applied(tmp_path):
    image = np.zeros((1, 32, 64, 3), dtype=np.uint8)
    image[0, :, :32] = 255
    path = write_clip(tmp_path / "clip.mp4", image)
    content = bytearray(path.read_bytes())
    # The matrix of the track header: a quarter turn clockwise, as phones write it.
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    path.write_bytes(content)
    frames = read_frames(path)
    assert frames.shape == (1, 64, 32, 3)
    # What was at the left is at the top after a clockwise turn.
    assert frames[0, :28].min() > 200
    assert frames[0, 36:].max() < 50


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"not a video at all" * 50), "not readable as video or image: invalid data"),
        (write_audio, "no video stream"),
    ],
    ids=["missing", "folder", "empty", "garbage", "audio"],
)
def test_unreadable_says_why(tmp_path, make, reason):
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(Unreadable, match=reason) as caught:
        read_frames(path)
    assert str(path) not in str(caught.value)


def test_a_truncated_file_is_unreadable_or_gives_what_is_left(tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", numbered(40)).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable, match="not readable as video"):
        read_frames(cut)
    # Matroska keeps its index with the data, so the beginning can be read.
    whole = random_clip(tmp_path / "whole.mkv", 1, count=40).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    assert len(read_frames(cut)) == 8


def test_damaged_parts_are_passed_over(tmp_path):
    path = random_clip(tmp_path / "clip.mkv", 1, count=40)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    assert 1 <= len(read_frames(path)) <= 8


def test_a_playlist_fetches_nothing(tmp_path):
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(Unreadable):
        read_frames(path)


def test_libav_writes_nothing_to_stderr(tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", numbered(40)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    code = (
        "import sys\nfrom t2t.data.embeddings.decode import Unreadable, read_frames\n"
        "try:\n    read_frames(sys.argv[1])\nexcept Unreadable:\n    print('unreadable')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cut.mp4")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "unreadable\n"
    assert done.stderr == ""
