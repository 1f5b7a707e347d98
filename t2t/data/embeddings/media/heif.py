"""How a HEIF file (HEIC, AVIF) puts its picture together: which of its streams are tiles of it, and where.

Phones save a picture as a grid of tiles, each coded by itself, and libav gives each as a stream of its own; thumbnails,
depth maps and gain maps are streams as well. The `meta` box (ISO/IEC 23008-12) says which item is the picture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from t2t.data.embeddings.media.bounds import Unreadable

# Brands of files that hold pictures, and those among them that are shown moving.
PICTURES = frozenset({b"mif1", b"mif2", b"heic", b"heix", b"heim", b"heis", b"avif", b"mif3", b"jpeg", b"j2ki"})
MOVING = frozenset({b"msf1", b"hevc", b"hevx", b"avis"})
# A `meta` box describes; the pictures lie elsewhere. A phone's has 5 KB.
MOST_META = 8 << 20
MOST_TILES = 4096
MOST_EXTENTS = 256
ALPHA = frozenset({b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"})
CODED = frozenset({b"hvc1", b"av01", b"avc1", b"vvc1", b"jpeg", b"j2k1", b"lhv1"})


@dataclass(frozen=True)
class Tile:
    """An item (a stream's id) and where its upper left corner lies on the canvas."""

    item: int
    x: int
    y: int


@dataclass(frozen=True)
class Layout:
    """How the picture is put together.

    width, height: of the canvas, before it is cropped and turned. crop: left, top, width, height.
    turns: quarter turns anticlockwise (0 to 3) and mirrors ("left-right": left and right change places; "top-bottom"),
    in the order in which they are done. alpha: how opaque it is, as a grey picture of the same size.
    """

    width: int
    height: int
    tiles: tuple[Tile, ...]
    crop: tuple[int, int, int, int] | None = None
    turns: tuple[int | str, ...] = ()
    alpha: Layout | None = None


@dataclass
class _Meta:
    primary: int = 0
    handler: bytes = b""
    kinds: dict[int, bytes] = field(default_factory=dict)
    places: dict[int, tuple[int, list[tuple[int, int]]]] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=dict)
    beside: dict[int, list[int]] = field(default_factory=dict)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    has: dict[int, list[int]] = field(default_factory=dict)
    data: bytes = b""


def layout(file: BinaryIO) -> Layout | None:
    """The picture of a HEIF file; None where the file is another one, or is shown moving.

    Raises Unreadable where the picture is put together in a way that is not known here, or the description is damaged.
    """
    try:
        meta = _find(file)
        if meta is None:
            return None
        return replace(_of(meta, meta.primary, file), alpha=_alpha(meta, file))
    except (struct.error, IndexError, KeyError, ZeroDivisionError, RecursionError):
        raise Unreadable("a damaged description of the picture (HEIF)") from None


def _find(file: BinaryIO) -> _Meta | None:
    file.seek(0)
    head = file.read(12)
    if head[4:8] != b"ftyp":
        return None
    size = int.from_bytes(head[:4], "big")
    compatible = file.read(max(0, min(size, 4096) - 12))[4:]
    brands = {compatible[i : i + 4] for i in range(0, len(compatible), 4)}
    if head[8:12] in MOVING or not (brands | {head[8:12]}) & PICTURES:
        return None
    place = size
    while True:
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return None
        size, kind, start = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, start = int.from_bytes(head[8:16], "big"), 16
        if kind == b"meta":
            if size > MOST_META:
                raise Unreadable(f"a description of {size:,} bytes (HEIF)")
            file.seek(place + start)
            return _meta(file.read((size or MOST_META) - start))
        if size < start:
            return None
        place += size


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        start = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, place + 8)
            start = 16
        size = size or len(data) - place
        if size < start:
            raise IndexError
        yield kind, data[place + start : place + size]
        place += size


def _meta(data: bytes) -> _Meta | None:
    meta = _Meta()
    for kind, body in _boxes(data[4:]):
        if kind == b"hdlr":
            meta.handler = body[8:12]
        elif kind == b"pitm":
            meta.primary = int.from_bytes(body[4 : 6 if body[0] == 0 else 8], "big")
        elif kind == b"idat":
            meta.data = body
        elif kind == b"iinf":
            _item_kinds(body, meta)
        elif kind == b"iloc":
            _item_places(body, meta)
        elif kind == b"iref":
            _item_parts(body, meta)
        elif kind == b"iprp":
            _item_properties(body, meta)
    return meta if meta.handler == b"pict" and meta.primary else None


def _item_kinds(body: bytes, meta: _Meta) -> None:
    for kind, entry in _boxes(body[6 if body[0] == 0 else 8 :]):
        if kind == b"infe" and entry[0] >= 2:
            wide = 2 if entry[0] == 2 else 4
            meta.kinds[int.from_bytes(entry[4 : 4 + wide], "big")] = entry[6 + wide : 10 + wide]


class _Reader:
    def __init__(self, data: bytes, place: int = 0):
        self.data, self.place = data, place

    def take(self, size: int) -> int:
        if self.place + size > len(self.data):
            raise IndexError
        value = int.from_bytes(self.data[self.place : self.place + size], "big")
        self.place += size
        return value


def _item_places(body: bytes, meta: _Meta) -> None:
    version, wide = body[0], 2 if body[0] < 2 else 4
    offset_size, length_size, base_size, index_size = body[4] >> 4, body[4] & 15, body[5] >> 4, body[5] & 15
    reader = _Reader(body, 6)
    for _ in range(reader.take(wide)):
        item = reader.take(wide)
        method = reader.take(2) & 15 if version else 0
        reader.take(2)
        base = reader.take(base_size)
        extents: list[tuple[int, int]] = []
        for _ in range(min(reader.take(2), MOST_EXTENTS)):
            if version and index_size:
                reader.take(index_size)
            offset = reader.take(offset_size)
            extents.append((base + offset, reader.take(length_size)))
        meta.places[item] = method, extents


def _item_parts(body: bytes, meta: _Meta) -> None:
    wide = 2 if body[0] == 0 else 4
    for kind, entry in _boxes(body[4:]):
        reader = _Reader(entry)
        item = reader.take(wide)
        parts = [reader.take(wide) for _ in range(reader.take(2))]
        if kind == b"dimg":
            meta.parts[item] = parts
        elif kind == b"auxl":
            meta.beside[item] = parts


def _item_properties(body: bytes, meta: _Meta) -> None:
    for kind, content in _boxes(body):
        if kind == b"ipco":
            meta.properties = list(_boxes(content))
        elif kind == b"ipma":
            wide, large = 2 if content[0] == 0 else 4, bool(content[3] & 1)
            reader = _Reader(content, 4)
            for _ in range(reader.take(4)):
                item = reader.take(wide)
                numbers = [reader.take(2) & 0x7FFF if large else reader.take(1) & 0x7F for _ in range(reader.take(1))]
                meta.has[item] = [number - 1 for number in numbers if number]


def _of(meta: _Meta, item: int, file: BinaryIO, depth: int = 0) -> Layout:
    kind = meta.kinds.get(item, b"")
    if kind not in CODED | {b"iden", b"grid"}:
        raise Unreadable(f"a picture of the kind {kind.decode('latin-1') or 'none'!r} (HEIF), which is not read")
    width, height, crop, turns = _shown(meta, item)
    if kind in CODED:
        return Layout(width, height, (Tile(item, 0, 0),), crop, turns)
    if kind == b"grid":
        return _grid(meta, item, file, crop, turns)
    # The same as another item, but for crop and turns of its own.
    if depth > 3:
        raise Unreadable("a damaged description of the picture (HEIF)")
    of = _of(meta, meta.parts[item][0], file, depth + 1)
    if of.turns and crop:
        raise Unreadable("a picture that is cropped after it is turned (HEIF)")
    return Layout(of.width, of.height, of.tiles, crop or of.crop, of.turns + turns)


def _alpha(meta: _Meta, file: BinaryIO) -> Layout | None:
    for item, of in meta.beside.items():
        kinds = [body[4:].split(b"\0")[0] for kind, body in map(meta.properties.__getitem__, meta.has.get(item, []))
                 if kind == b"auxC"]  # fmt: skip
        if meta.primary in of and set(kinds) & ALPHA:
            return _of(meta, item, file)
    return None


def _grid(meta: _Meta, item: int, file: BinaryIO, crop: Any, turns: Any) -> Layout:
    described = _content(meta, item, file)
    rows, columns = described[2] + 1, described[3] + 1
    width, height = struct.unpack_from(">II" if described[1] & 1 else ">HH", described, 4)
    parts = meta.parts[item]
    if len(parts) != rows * columns or len(parts) > MOST_TILES:
        raise Unreadable(f"a picture of {rows} x {columns} tiles that has {len(parts)} (HEIF)")
    if any(meta.kinds.get(part) not in CODED for part in parts):
        raise Unreadable("a picture whose tiles are put together of others (HEIF), which is not read")
    # All tiles have one size, which only the last column and row may overhang.
    across, down, _, _ = _shown(meta, parts[0])
    if across * columns < width or down * rows < height:
        raise Unreadable("a picture whose tiles do not cover it (HEIF)")
    tiles = (Tile(part, number % columns * across, number // columns * down) for number, part in enumerate(parts))
    return Layout(width, height, tuple(tiles), crop, turns)


def _content(meta: _Meta, item: int, file: BinaryIO) -> bytes:
    method, extents = meta.places[item]
    content = b""
    for offset, length in extents:
        if method == 1:
            content += meta.data[offset : offset + length] if length else meta.data[offset:]
        elif method == 0:
            file.seek(offset)
            content += file.read(min(length, 64))
    return content


def _shown(meta: _Meta, item: int) -> tuple[int, int, tuple[int, int, int, int] | None, tuple[int | str, ...]]:
    """Width and height as coded, and the crop and the turns that a player applies."""
    width = height = 0
    crop: tuple[int, int, int, int] | None = None
    turns: list[int | str] = []
    for number in meta.has.get(item, []):
        kind, body = meta.properties[number]
        if kind == b"ispe":
            width, height = struct.unpack_from(">II", body, 4)
        elif kind == b"irot":
            turns.append(body[0] & 3)
        elif kind == b"imir":
            turns.append("left-right" if body[0] & 1 else "top-bottom")
        elif kind == b"clap":
            if turns:
                raise Unreadable("a picture that is cropped after it is turned (HEIF)")
            crop = _clean(body, width, height)
    if not width or not height:
        raise Unreadable("a picture without a size (HEIF)")
    return width, height, crop, tuple(turns)


def _clean(body: bytes, width: int, height: int) -> tuple[int, int, int, int]:
    """The clean aperture: fractions of width, height, and of its centre's distance from the picture's."""
    wn, wd, hn, hd = struct.unpack_from(">4I", body)
    xn, xd, yn, yd = struct.unpack_from(">iIiI", body, 16)
    across, down = min(round(wn / wd), width), min(round(hn / hd), height)
    left, top = round((width - across) / 2 + xn / xd), round((height - down) / 2 + yn / yd)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    across, down = min(across, width - left), min(down, height - top)
    if across < 1 or down < 1:
        raise Unreadable("a picture that is cropped to nothing (HEIF)")
    return left, top, across, down
