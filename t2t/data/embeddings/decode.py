"""Video files to frames: only the frames that are used are converted, and a clip is never held decoded in memory.

The file is read twice. The first reading only looks at the packets' timestamps, so it works where the container does
not say how many frames there are, and where they are unevenly spaced. The second decodes what the chosen frames need:
each one's group of pictures from its keyframe on, up to the frame itself. Clips whose packets fit into HELD_BYTES stay
in memory, still compressed, between the two.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from t2t.data.embeddings.config import Crop, Interpolation

HELD_BYTES = 32 << 20
# A frame of so many pixels takes 0.4 GB as RGB, and each thread decodes one; 8K video has a quarter of them.
MOST_PIXELS = 1 << 27
# What libav also opens: lists that name other files, and text that it draws as a terminal would.
PLAYLISTS = frozenset({"concat", "dash", "hls", "imf", "rtp", "rtsp", "sdp", "vobsub", "webm_dash_manifest"})
DRAWN_TEXT = frozenset({"adf", "bin", "idf", "tty", "xbin"})
# libav writes to stderr by itself; what goes wrong is said in `Unreadable` instead.
av.logging.set_libav_level(av.logging.PANIC)


class Unreadable(Exception):
    """A file that gives no frames; the message is a short plain reason without the path."""


def read_frames(
    path: str | Path,
    frames: int = 8,
    size: int | None = None,
    crop: Crop = "squash",
    interpolation: Interpolation = "bicubic",
) -> np.ndarray:
    """Frames of a video, evenly spaced: those on display at the centres of `frames` equal parts of its duration.

    No frame is taken twice. Where all frames last equally long, frame i of n is number floor((i + 0.5) * n / frames),
    counted from 0. An image is a video of one frame. Rotation that the file asks for (phones) is applied; the pixels'
    aspect ratio is not. A damaged part is passed over, as players do, so long as anything can be decoded.

    Args:
        frames: how many at most; a clip that has fewer gives all of them.
        size: side of the square that frames are scaled to; None keeps them as they are.
        crop: "squash" scales both sides to `size`; "centre" scales the shorter one, and cuts the middle out.
        interpolation: how pixels are made when scaling.

    Returns:
        uint8 [F, H, W, 3], RGB, with 1 <= F <= frames.

    Raises:
        Unreadable: no such file, empty file, no video stream (or only a cover picture), a playlist or drawn text,
            frames of more than MOST_PIXELS, or nothing decodes.
    """
    path = _check(path)
    if frames < 1:
        raise ValueError(f"frames must be 1 or more, not {frames}")
    try:
        chosen = _read(path, frames)
        images = _convert(chosen, size, crop, interpolation)
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise Unreadable(_plain(error)) from None
    if not images:
        raise Unreadable("no frame could be decoded")
    return np.stack(images)


def _check(path: str | Path) -> Path:
    # Absolute, so that libav never takes the beginning of a name such as `http:x.mp4` for a protocol.
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise Unreadable("no such file")
    if not path.is_file():
        raise Unreadable("not a file")
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty")
    return path


def _plain(error: BaseException) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"not readable as video or image: {reason[0].lower()}{reason[1:]}"


class _Packet(NamedTuple):
    pts: int | None
    keyframe: bool
    shown: bool


class _Source:
    """The packets of a file's video stream, in decoding order, that can be gone through more than once."""

    def __init__(self, path: Path):
        self.path = path
        self.held: list[av.Packet] | None = []
        self.packets: list[_Packet] = []
        # Network protocols stay shut: a playlist among the samples must not make this machine fetch anything.
        self.container = self._open()
        try:
            self.stream = self._stream(self.container)
        except Unreadable:
            self.container.close()
            raise
        size = 0
        for packet in self._demux(self.container, self.stream):
            shown = not getattr(packet, "is_discard", False)
            self.packets.append(_Packet(packet.pts, packet.is_keyframe, shown))
            size += packet.size
            if self.held is not None:
                self.held.append(packet)
                if size > HELD_BYTES:
                    self.held = None

    def _open(self):
        return av.open(str(self.path), options={"protocol_whitelist": "file"})

    @staticmethod
    def _stream(container):
        if container.format.name in PLAYLISTS:
            raise Unreadable(f"a playlist ({container.format.name}), not a video or image")
        if container.format.name in DRAWN_TEXT:
            raise Unreadable("a text, not a video or image")
        for stream in container.streams.video:
            if not stream.disposition & stream.disposition.attached_pic:
                # One thread for each clip: clips are decoded side by side, and the result is the same everywhere.
                stream.codec_context.thread_count = 1
                if stream.width * stream.height > MOST_PIXELS:
                    raise Unreadable(f"frames of {stream.width} x {stream.height} pixels, more than {MOST_PIXELS:,}")
                return stream
        raise Unreadable("no video stream")

    @staticmethod
    def _demux(container, stream) -> Iterator[av.Packet]:
        """Packets with content; a file that breaks off ends there."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError, EOFError):
                return
            if packet.size:
                yield packet

    @contextmanager
    def decoder(self) -> Iterator[tuple[av.CodecContext, Iterator[av.Packet]]]:
        """A fresh decoder and the packets to feed it."""
        if self.held is not None:
            self.stream.codec_context.flush_buffers()
            yield self.stream.codec_context, iter(self.held)
        else:
            with self._open() as container:
                stream = self._stream(container)
                yield stream.codec_context, self._demux(container, stream)

    def close(self) -> None:
        self.held = None
        self.container.close()


def _read(path: Path, frames: int) -> list[av.VideoFrame]:
    source = _Source(path)
    try:
        times = _times(source.packets)
        if times is not None:
            wanted = times[choose(times, frames)]
            chosen = list(_decode_at(source, wanted))
            if len(chosen) == len(wanted):
                return chosen
        # Packets and frames do not match one to one (no timestamps, hidden frames, damage): count by decoding.
        total = sum(1 for _ in _decode_all(source))
        if total == 0:
            return []
        numbers = set(choose(np.arange(total), frames).tolist())
        return [frame for number, frame in enumerate(_decode_all(source)) if number in numbers]
    finally:
        source.close()


def _times(packets: list[_Packet]) -> np.ndarray | None:
    """Timestamps of the frames shown, sorted, int64; None where they cannot be trusted to tell frames apart."""
    shown = [packet.pts for packet in packets if packet.shown]
    if not shown or any(pts is None for pts in shown) or len(set(shown)) != len(shown):
        return None
    return np.sort(np.asarray(shown, dtype=np.int64))


def choose(times: np.ndarray, frames: int) -> np.ndarray:
    """Indices of at most `frames` frames, increasing and without repetition.

    Args:
        times: int64 [n], when each frame comes on display, increasing, in any unit. The last one is taken to stay
            for as long as the median frame.
    """
    n = len(times)
    if n <= frames:
        return np.arange(n)
    last = statistics.median_low(np.diff(times).tolist())
    # In integers: the centres (2i + 1) / 2F of the duration, on a scale where nothing is rounded.
    centres = (2 * np.arange(frames) + 1) * int(times[-1] + last - times[0])
    index = np.searchsorted((times - times[0]) * (2 * frames), centres, side="right") - 1
    # A frame that stays long may be on display at several centres: the next ones are taken for the later centres.
    steps = np.arange(frames)
    index = np.maximum.accumulate(index - steps) + steps
    return np.minimum(index, n - frames + steps)


def _decode_at(source: _Source, wanted: np.ndarray) -> Iterator[av.VideoFrame]:
    """The frames with the timestamps `wanted` (increasing), decoding from the nearest keyframe before each."""
    left = set(wanted.tolist())
    needed = _needed(source.packets, left)
    with source.decoder() as (decoder, packets):
        skipped = False
        for number, packet in enumerate(packets):
            if number >= len(needed) or not left:
                break
            if not needed[number]:
                skipped = True
                continue
            if skipped:
                # A gap: first what the decoder still holds back, then a new start at a keyframe.
                yield from _wanted(_feed(decoder, None), left)
                decoder.flush_buffers()
                skipped = False
            yield from _wanted(_feed(decoder, packet), left)
        if left:
            yield from _wanted(_feed(decoder, None), left)


def _needed(packets: list[_Packet], wanted: set[int]) -> np.ndarray:
    """bool [packets]: those to decode for the wanted frames. A keyframe starts a group unless the frame comes before
    it on display (the leading pictures of an open group refer to the group before)."""
    needed = np.zeros(len(packets), dtype=bool)
    keyframes: list[int] = []
    for number, packet in enumerate(packets):
        if packet.keyframe:
            keyframes.append(number)
        if packet.pts in wanted and packet.shown:
            start = 0
            for keyframe in reversed(keyframes):
                pts = packets[keyframe].pts
                if pts is not None and packet.pts is not None and pts <= packet.pts:
                    start = keyframe
                    break
            needed[start : number + 1] = True
    return needed


def _wanted(frames: list[av.VideoFrame], left: set[int]) -> Iterator[av.VideoFrame]:
    for frame in frames:
        if frame.pts in left:
            left.discard(frame.pts)
            yield frame


def _decode_all(source: _Source) -> Iterator[av.VideoFrame]:
    with source.decoder() as (decoder, packets):
        for packet in packets:
            yield from _feed(decoder, packet)
        yield from _feed(decoder, None)


def _feed(decoder: av.CodecContext, packet: av.Packet | None) -> list[av.VideoFrame]:
    try:
        return decoder.decode(packet)
    except (av.InvalidDataError, av.EOFError):
        return []


def _convert(
    chosen: list[av.VideoFrame], size: int | None, crop: Crop, interpolation: Interpolation
) -> list[np.ndarray]:
    reformatter = VideoReformatter()
    images = []
    for frame in chosen:
        width, height = (size, size) if size else (chosen[0].width, chosen[0].height)
        if size and crop == "centre":
            scale = size / min(frame.width, frame.height)
            width, height = max(size, round(frame.width * scale)), max(size, round(frame.height * scale))
        rgb = reformatter.reformat(frame, width, height, "rgb24", interpolation=interpolation.upper(), threads=1)
        image = rgb.to_ndarray()
        top, left = ((height - size) // 2, (width - size) // 2) if size else (0, 0)
        image = image[top : top + size, left : left + size] if size else image
        quarters = round(frame.rotation / 90) % 4
        images.append(np.ascontiguousarray(np.rot90(image, quarters)))
    return images
