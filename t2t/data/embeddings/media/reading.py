"""Video files to frames: only the frames that are used are converted, and a clip is never held decoded in memory.

The file is read twice. The first reading only looks at the packets' timestamps, so it works where the container does
not say how many frames there are, and where they are unevenly spaced. The second decodes what the chosen frames need:
each one's group of pictures from its keyframe on, up to the frame itself. Clips whose packets fit into HELD_BYTES stay
in memory, still compressed, between the two.

This runs inside of a worker process; `t2t.data.embeddings.decode` is the door.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np

from t2t.data.embeddings.media import pictures
from t2t.data.embeddings.media.bounds import Ask, Bounds, Unreadable, raise_for_memory
from t2t.data.embeddings.media.heif import layout
from t2t.data.embeddings.media.opening import (
    ANIMATIONS,
    HEAD,
    NOT_READABLE,
    is_still,
    open_container,
    opened,
    shown_stream,
)
from t2t.data.embeddings.media.sampling import choose
from t2t.data.embeddings.media.shown import Screen, turn_of

if TYPE_CHECKING:
    from t2t.data.embeddings.config import Crop, Interpolation

HELD_BYTES = 32 << 20
# Pixels of a frame that is not left to the garbage collector's own time.
LARGE = 1 << 20
# Frames that `t2t data check` judges a file's cost by: what encoders usually take.
USUAL_FRAMES = 8


def read(
    path: Path, frames: int, size: int | None, crop: Crop, interpolation: Interpolation, bounds: Bounds
) -> np.ndarray:
    """`t2t.data.embeddings.decode.read_frames`, in this process, without limits of time and memory."""
    try:
        with opened(path) as descriptor:
            images = _images(descriptor, path.name, frames, Ask(size, crop, interpolation, bounds))
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise_for_memory(error)
        raise Unreadable(_plain(error)) from None
    if not images:
        raise Unreadable("no frame could be decoded")
    return images[0][None] if len(images) == 1 else np.stack(images)


def _images(descriptor: int, name: str, frames: int, ask: Ask) -> list[np.ndarray]:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        made = pictures.moving_webp(file, frames, ask) or pictures.targa(file, name, ask) or pictures.page(file, ask)
        if made:
            return made
        picture = layout(file)
    if picture is not None:
        with open_container(descriptor) as container:
            return [pictures.assemble(container, picture, ask)]
    return _read(descriptor, name, frames, ask)


def _plain(error: BaseException) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{NOT_READABLE}: {reason[0].lower()}{reason[1:]}"


class _Packet(NamedTuple):
    pts: int | None
    keyframe: bool
    shown: bool


class _Source:
    """The packets of a file's video stream, in decoding order, that can be gone through more than once."""

    def __init__(self, descriptor: int, name: str, bounds: Bounds):
        self.descriptor, self.bounds = descriptor, bounds
        self.held: list[av.Packet] | None = []
        self.packets: list[_Packet] = []
        self.container = open_container(descriptor)
        try:
            self.stream = self._stream(self.container)
            self.still = is_still(self.container, name, os.pread(descriptor, HEAD, 0))
            self._look()
        except BaseException:
            self.container.close()
            raise

    def _look(self) -> None:
        size = 0
        for packet in self._demux(self.container, self.stream):
            shown = not getattr(packet, "is_discard", False)
            self.packets.append(_Packet(packet.pts, packet.is_keyframe, shown))
            size += packet.size
            if self.held is not None:
                self.held.append(packet)
                if size > HELD_BYTES and not self.still:
                    self.held = None
            if self.still:
                return

    def _stream(self, container: Any) -> Any:
        stream = shown_stream(container)
        # One thread for each clip: clips are decoded side by side, and the result is the same everywhere.
        stream.codec_context.thread_count = 1
        self.bounds.check_size(stream.width, stream.height)
        return stream

    @property
    def animation(self) -> bool:
        return self.container.format.name in ANIMATIONS

    def screen(self, ask: Ask) -> Screen:
        """What shows this file's frames. Viewers show a picture's pixels square whatever its density says."""
        picture = self.still or self.animation
        aspect = None if picture else self.stream.sample_aspect_ratio
        return Screen(ask.size, ask.crop, ask.interpolation, aspect, on_white=picture)

    def check_work(self, count: int) -> None:
        self.bounds.check_work(count, self.stream.width, self.stream.height)

    @staticmethod
    def _demux(container, stream) -> Iterator[av.Packet]:
        """Packets with content; a file that breaks off ends there."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError, EOFError) as error:
                raise_for_memory(error)
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
            with open_container(self.descriptor) as container:
                stream = self._stream(container)
                yield stream.codec_context, self._demux(container, stream)

    def close(self) -> None:
        self.held = None
        self.container.close()


def _read(descriptor: int, name: str, frames: int, ask: Ask) -> list[np.ndarray]:
    source = _Source(descriptor, name, ask.bounds)
    try:
        times = _times(source.packets)
        if times is not None:
            wanted = times[choose(times, frames)]
            _check_work(source, times, wanted)
            # Each is converted as it comes: decoded frames are the largest thing that is held here.
            images = _convert(source, _decode_at(source, wanted), ask)
            if len(images) == len(wanted):
                return images
        # Packets and frames do not match one to one (no timestamps, hidden frames, damage): count by decoding.
        source.check_work(len(source.packets))
        total = sum(1 for _ in _decode_all(source))
        if total == 0:
            return []
        numbers = set(choose(np.arange(total), frames).tolist())
        chosen = (frame for number, frame in enumerate(_decode_all(source)) if number in numbers)
        return _convert(source, chosen, ask)
    finally:
        source.close()


def _check_work(source: _Source, times: np.ndarray, wanted: np.ndarray) -> None:
    """A file that is looked at for one frame is judged as one that is embedded: a check finds what a run does."""
    if len(wanted) < USUAL_FRAMES:
        wanted = times[choose(times, USUAL_FRAMES)]
    if len(source.packets) * source.stream.width * source.stream.height > source.bounds.decoded_pixels:
        source.check_work(int(_needed(source.packets, set(wanted.tolist())).sum()))


def _convert(source: _Source, chosen: Iterator[av.VideoFrame], ask: Ask) -> list[np.ndarray]:
    screen, turn = source.screen(ask), None
    images = []
    for frame in chosen:
        ask.bounds.check_size(frame.width, frame.height)
        large = frame.width * frame.height > LARGE
        if source.animation and turn is None:
            turn = turn_of(frame)  # EXIF is of the whole file, and libav gives it with the first frame only
        images.append(screen.show(frame, turn) if turn else screen.show(frame))
        # While it is held, a decoder that paints over its last frame (GIF) has to copy it.
        del frame
        if large:
            gc.collect()  # PyAV's frames and their side data hold each other.
    return images


def _times(packets: list[_Packet]) -> np.ndarray | None:
    """Timestamps of the frames shown, sorted, int64; None where they cannot be trusted to tell frames apart."""
    shown = [packet.pts for packet in packets if packet.shown]
    if not shown or any(pts is None for pts in shown) or len(set(shown)) != len(shown):
        return None
    return np.sort(np.asarray(shown, dtype=np.int64))


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
    while frames:
        if frames[0].pts in left:
            left.discard(frames[0].pts)
            yield frames.pop(0)
        else:
            del frames[0]


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
