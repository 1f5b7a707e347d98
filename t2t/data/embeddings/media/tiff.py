"""Which page of a TIFF file is the picture: scanners and cameras put a small preview first."""

from __future__ import annotations

import struct
from typing import BinaryIO

from t2t.data.embeddings.media.bounds import Unreadable

MOST_PAGES = 64
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT = 254, 255, 256, 257


def main_page(file: BinaryIO) -> tuple[int, int, int]:
    """The number (from 1), width and height of the first page that is no preview of another.

    0, 0, 0 for another file, or one whose pages cannot be told. Raises Unreadable where there are only previews, as in
    cameras' raw files (DNG).
    """
    file.seek(0)
    head = file.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return 0, 0, 0
    (place,) = struct.unpack(f"{order}I", head[4:])
    previews = False
    for number in range(1, MOST_PAGES + 1):
        file.seek(place)
        if not place or len(count := file.read(2)) < 2:
            break
        tags: dict[int, int] = {}
        entries = file.read(12 * struct.unpack(f"{order}H", count)[0] + 4)
        for start in range(0, len(entries) - 15, 12):
            tag, kind, _ = struct.unpack_from(f"{order}HHI", entries, start)
            tags[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", entries, start + 8)[0]
        if not tags.get(SUBFILE, 0) & 1 and tags.get(OLD_SUBFILE, 1) != 2:
            return number, tags.get(WIDTH, 0), tags.get(HEIGHT, 0)
        previews = True
        (place,) = struct.unpack(f"{order}I", entries[-4:]) if len(entries) >= 4 else (0,)
    if previews:
        raise Unreadable("a file with previews of a picture (a camera's raw file?), which is not read")
    return 0, 0, 0
