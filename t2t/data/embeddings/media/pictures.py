"""Pictures that libav gives in parts or not at all: tiled HEIC and AVIF, moving WebP, Targa."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from t2t.data.embeddings.media.bounds import Ask, Unreadable, raise_for_memory
from t2t.data.embeddings.media.heif import Layout
from t2t.data.embeddings.media.opening import NOT_READABLE
from t2t.data.embeddings.media.sampling import choose
from t2t.data.embeddings.media.shown import Screen, by_steps, frame_of, on_white, upright
from t2t.data.embeddings.media.tiff import main_page

# Their size is checked before, against the dataset's own limit.
Image.MAX_IMAGE_PIXELS = None
# EXIF's orientations as `by_steps` has them.
ORIENTATIONS: dict[int | None, tuple[int | str, ...]] = {
    2: ("left-right",), 3: (2,), 4: ("top-bottom",), 5: (1, "top-bottom"),
    6: (3,), 7: (1, "left-right"), 8: (1,),
}  # fmt: skip


def assemble(container: Any, layout: Layout, ask: Ask) -> np.ndarray:
    """The picture of a HEIF file, uint8 [H, W, 3], from the streams that its layout names.

    Raises Unreadable where one of them is missing or damaged: a picture with holes is another picture.
    """
    ask.bounds.check_size(layout.width, layout.height)
    streams: dict[int, Any] = {}
    for stream in container.streams.video:
        streams.setdefault(stream.id, stream)
    items = {tile.item for part in (layout, layout.alpha) if part for tile in part.tiles}
    if any(item not in streams or not streams[item].codec_context for item in items):
        raise Unreadable("a picture coded in a way that is not read (HEIF)")
    wanted = {streams[item].index: streams[item] for item in items}
    for stream in wanted.values():
        stream.codec_context.thread_count = 1
        ask.bounds.check_size(stream.width, stream.height)
        ask.bounds.check_work(len(layout.tiles), stream.width, stream.height)
    packets: dict[int, Any] = {}
    for packet in container.demux(list(wanted.values())):
        if packet.size:
            packets.setdefault(packet.stream.index, packet)
    frame = _put_together(layout, streams, packets, ask)
    if layout.alpha is not None and (layout.alpha.width, layout.alpha.height) == (layout.width, layout.height):
        frame = _transparent(frame, _put_together(layout.alpha, streams, packets, ask), ask)
    if layout.crop is not None:
        left, top, width, height = layout.crop
        frame = frame_of(_rgb(frame, ask)[top : top + height, left : left + width])
    return Screen(ask.size, ask.crop, ask.interpolation).show(frame, by_steps(layout.turns))


def _put_together(layout: Layout, streams: dict[int, Any], packets: dict[int, Any], ask: Ask) -> Any:
    """The frame of the whole canvas, neither cropped nor turned."""
    canvas = None
    for number, tile in enumerate(layout.tiles, start=1):
        stream = streams[tile.item]
        frame = _decoded(stream, packets.get(stream.index))
        if frame is None:
            raise Unreadable(f"part {number} of {len(layout.tiles)} of the picture cannot be decoded (HEIF)")
        ask.bounds.check_size(frame.width, frame.height)
        if len(layout.tiles) == 1 and (frame.width, frame.height) == (layout.width, layout.height):
            return frame
        if canvas is None:
            canvas = np.zeros((layout.height, layout.width, 3), np.uint8)
        rgb = _rgb(frame, ask)[: layout.height - tile.y, : layout.width - tile.x]
        canvas[tile.y : tile.y + rgb.shape[0], tile.x : tile.x + rgb.shape[1]] = rgb
    assert canvas is not None
    return frame_of(canvas)


def _transparent(frame: Any, alpha: Any, ask: Ask) -> Any:
    """The picture on white, or itself where it is nowhere transparent."""
    opaque = _rgb(alpha, ask)[..., :1]
    return frame if opaque.min() == 255 else on_white(np.concatenate([_rgb(frame, ask), opaque], axis=-1))


def _rgb(frame: Any, ask: Ask) -> np.ndarray:
    return Screen(None, "squash", ask.interpolation).show(frame, upright)


def _decoded(stream: Any, packet: Any) -> Any:
    """The frame of a packet, or None."""
    if packet is None:
        return None
    try:
        frames = stream.codec_context.decode(packet) or stream.codec_context.decode(None)
    except (av.FFmpegError, EOFError) as error:
        raise_for_memory(error)
        return None
    return frames[0] if frames else None


def moving_webp(file: BinaryIO, frames: int, ask: Ask) -> list[np.ndarray]:
    """The frames of a moving WebP, which libav does not decode; nothing for another file."""
    width, height, times = _webp_times(file)
    if not times:
        return []
    ask.bounds.check_size(width, height)
    ask.bounds.check_work(len(times), width, height)
    screen = Screen(ask.size, ask.crop, ask.interpolation)
    images = []
    file.seek(0)
    with _image(file, "WEBP") as moving:
        turn = by_steps(ORIENTATIONS.get(_orientation(moving), ()))
        for number in choose(np.asarray(times, dtype=np.int64), frames).tolist():
            moving.seek(number)
            images.append(screen.show(on_white(np.asarray(moving.convert("RGBA"))), turn))
    return images


def _orientation(image: Image.Image) -> int | None:
    """What EXIF says; None where it says nothing, or is damaged."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return None
    return found if isinstance(found, int) else None


def _webp_times(file: BinaryIO) -> tuple[int, int, list[int]]:
    """Width, height and when each frame comes, in milliseconds; no times where it does not move."""
    file.seek(0)
    head = file.read(30)
    if head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X" or len(head) < 30 or not head[20] & 2:
        return 0, 0, []
    width, height = (1 + int.from_bytes(head[start : start + 3], "little") for start in (24, 27))
    times: list[int] = []
    time, place = 0, 12
    while True:
        file.seek(place)
        if len(chunk := file.read(8)) < 8:
            return width, height, times
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"ANMF":
            times.append(time)
            # Of no duration: shown, if only for a moment.
            time += int.from_bytes(file.read(16)[12:15], "little") or 1
        place += 8 + size + size % 2


def targa(file: BinaryIO, name: str, ask: Ask) -> list[np.ndarray]:
    """The picture of a Targa file, which nothing but its name tells; nothing for another file."""
    if Path(name).suffix.lower() != ".tga":
        return []
    file.seek(0)
    with _image(file, "TGA") as image:
        ask.bounds.check_size(*image.size)
        rgba = np.asarray(image.convert("RGBA"))
    return [Screen(ask.size, ask.crop, ask.interpolation).show(on_white(rgba), upright)]


def page(file: BinaryIO, ask: Ask) -> list[np.ndarray]:
    """The picture of a TIFF file that has previews before it, of which libav gives the first; nothing for another."""
    number, width, height = main_page(file)
    if number < 2:
        return []
    ask.bounds.check_size(width, height)
    file.seek(0)
    with _image(file, "TIFF") as image:
        image.seek(number - 1)
        if image.mode[0] in "IF":
            raise Unreadable(
                f"a picture behind previews whose pixels are of the kind {image.mode!r}, which is not read"
            )
        # Pillow turns TIFF files upright by itself.
        rgba = np.asarray(image.convert("RGBA"))
    return [Screen(ask.size, ask.crop, ask.interpolation).show(on_white(rgba), upright)]


def _image(file: BinaryIO, kind: str) -> Image.Image:
    try:
        return Image.open(file, formats=[kind])
    except (UnidentifiedImageError, SyntaxError, IndexError):
        raise Unreadable(f"{NOT_READABLE}: invalid data found when processing input") from None
