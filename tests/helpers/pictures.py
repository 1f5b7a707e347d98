"""Pictures as cameras and phones write them: tiled, mirrored, with others beside or behind them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
from PIL import Image

# EXIF orientations as display matrices (a, b, c, d), and what Pillow does to show them.
MATRICES = {1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
            5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0)}  # fmt: skip
TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def mosaic(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """uint8 [H, W, 3]: squares of 16 x 16 pixels, each of a colour of its own, so that no two corners are alike."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    return np.kron(small, np.ones((16, 16, 1), np.uint8))


def shown(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image as an EXIF orientation has it shown."""
    if orientation == 1:
        return image
    return np.asarray(Image.fromarray(image).transpose(TRANSPOSED[orientation]))


def write_turned(path: Path, image: np.ndarray, orientation: int) -> Path:
    """A video of three frames whose track has the orientation's display matrix."""
    one, (a, b, c, d) = 1 << 16, MATRICES[orientation]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = (
            image.shape[1],
            image.shape[0],
            "yuv420p",
            8_000_000,
        )
        stream.set_display_matrix([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30])
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return path


def distance(frame: np.ndarray, expected: np.ndarray) -> float:
    """Mean absolute difference; infinite where the shapes differ."""
    if frame.shape != expected.shape:
        return float("inf")
    return float(np.abs(frame.astype(int) - expected.astype(int)).mean())


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def coded(image: np.ndarray) -> tuple[bytes, bytes]:
    """An image as one AV1 frame, and its av1C box's content."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "AVIF", quality=95, subsampling="4:4:4")
    buffer.seek(0)
    with av.open(buffer) as container:
        stream = container.streams.video[0]
        return next(bytes(packet) for packet in container.demux(stream) if packet.size), stream.codec_context.extradata


def write_grid(
    path: Path,
    image: np.ndarray,
    side: int = 64,
    properties: tuple[bytes, ...] = (),
    canvas: tuple[int, int] | None = None,
) -> Path:
    """An AVIF of square tiles, as phones and cameras write HEIC, with a black thumbnail as its first item.

    Args:
        image: uint8 [H, W, 3], its sides multiples of `side`.
        properties: further boxes that the grid has, in their order (irot, imir, clap).
        canvas: width and height of the picture, where it ends within the last tiles.
    """
    rows, columns = image.shape[0] // side, image.shape[1] // side
    width, height = canvas or (image.shape[1], image.shape[0])
    tiles = [
        coded(image[r * side : (r + 1) * side, c * side : (c + 1) * side]) for r in range(rows) for c in range(columns)
    ]
    items = [coded(np.zeros((16, 16, 3), np.uint8)), *tiles]
    grid = len(items) + 1
    ipco = box(
        b"ipco",
        full(b"ispe", struct.pack(">II", 16, 16)), full(b"ispe", struct.pack(">II", side, side)),
        full(b"ispe", struct.pack(">II", width, height)), box(b"av1C", tiles[0][1]), box(b"av1C", items[0][1]),
        *properties,
    )  # fmt: skip
    has = [(1, [1, 5]), *((number, [2, 4]) for number in range(2, grid)), (grid, [3, *range(6, 6 + len(properties))])]
    ipma = struct.pack(">I", len(has)) + b"".join(
        struct.pack(">HB", item, len(numbers)) + bytes(0x80 | number for number in numbers) for item, numbers in has
    )
    kinds = [full(b"infe", struct.pack(">HH", n, 0), b"av01\0", version=2) for n in range(1, grid)]
    kinds.append(full(b"infe", struct.pack(">HH", grid, 0), b"grid\0", version=2))
    described = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    iref = full(
        b"iref",
        box(b"thmb", struct.pack(">HHH", 1, 1, grid)),
        box(b"dimg", struct.pack(f">HH{len(tiles)}H", grid, len(tiles), *range(2, grid))),
    )

    def meta(start: int) -> bytes:
        places = []
        for number, (content, _) in enumerate(items, start=1):
            places.append(struct.pack(">HHHHII", number, 0, 0, 1, start, len(content)))
            start += len(content)
        places.append(struct.pack(">HHHHII", grid, 1, 0, 1, 0, len(described)))
        return full(
            b"meta",
            full(b"hdlr", struct.pack(">I4s12xx", 0, b"pict")),
            full(b"pitm", struct.pack(">H", grid)),
            full(b"iloc", struct.pack(">BBH", 0x44, 0, len(places)), *places, version=1),
            full(b"iinf", struct.pack(">H", len(kinds)), *kinds),
            iref,
            box(b"iprp", ipco, full(b"ipma", ipma)),
            box(b"idat", described),
        )

    head = box(b"ftyp", b"avif", bytes(4), b"mif1avifmiaf")
    start = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(start) + box(b"mdat", *(content for content, _ in items)))
    return path
