"""Opens a file for libav so that it cannot reach anything else, and finds the stream that a player shows.

libav is handed an open file, not its name: a name may be a pattern (`50%d.png`), a protocol (`concat:a|b`) or an
option. Only the container formats below are let in, and nothing that they name can be opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
from av.sidedata import sidedata

from t2t.data.embeddings.media.bounds import Unreadable

# libav writes to stderr by itself; what goes wrong is said in `Unreadable` instead.
av.logging.set_libav_level(av.logging.PANIC)

VIDEOS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpegtsraw", "mpeg", "mpegvideo", "flv",
    "kux", "live_flv", "asf", "asf_o", "ogg", "rm", "mxf", "gxf", "nut", "ivf", "wtv", "dv", "nsv", "nuv",
    "swf", "amv", "dhav", "mlv", "mtv", "h261", "h263", "h264", "hevc", "vvc", "evc", "m4v", "obu", "av1",
    "vc1", "vc1test", "cavsvideo", "avs2", "avs3", "dirac", "dnxhd", "mjpeg", "mjpeg_2000", "smjpeg",
    "yuv4mpegpipe", "ipmovie", "bink", "smk", "roq", "film_cpk", "flic", "vivo", "rpl", "ty", "pmp", "psxstr",
    "r3d", "cine", "ser", "viv", "xmv", "wc3movie", "4xm", "cdxl", "lmlm4", "usm", "apv",
)  # fmt: skip
# Several frames of these are a moving picture, of the others (names that end in _pipe) only the first is the picture.
ANIMATIONS = ("gif", "apng", "jpegxl_anim")
STILLS = (
    "ico", "bmp_pipe", "cri_pipe", "dds_pipe", "dpx_pipe", "exr_pipe", "gem_pipe", "gif_pipe", "hdr_pipe",
    "j2k_pipe", "jpeg_pipe", "jpegls_pipe", "jpegxl_pipe", "jpegxs_pipe", "pam_pipe", "pbm_pipe", "pcx_pipe",
    "pfm_pipe", "pgm_pipe", "pgmyuv_pipe", "pgx_pipe", "phm_pipe", "photocd_pipe", "pictor_pipe", "png_pipe",
    "ppm_pipe", "psd_pipe", "qdraw_pipe", "qoi_pipe", "sgi_pipe", "sunrast_pipe", "tiff_pipe", "vbn_pipe",
    "webp_pipe", "xbm_pipe", "xpm_pipe", "xwd_pipe",
)  # fmt: skip
# Let in so that they can be told from damaged videos: their only picture is a cover.
SOUNDS = (
    "mp3", "wav", "flac", "aac", "aiff", "ac3", "eac3", "amr", "ape", "au", "caf", "dts", "mpc", "mpc8",
    "oma", "tta", "w64", "wv", "truehd",
)  # fmt: skip
FORMATS = ",".join((*VIDEOS, *ANIMATIONS, *STILLS, *SOUNDS))
# How texts begin that libav would take for a list of other files.
PLAYLISTS = ((b"#EXTM3U", "hls"), (b"ffconcat", "concat"), (b"<MPD", "dash"), (b"[playlist]", "pls"), (b"v=0", "sdp"))
# Coding of single pictures: where another stream is coded as video, these are its cover or thumbnails.
PICTURE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000", "libopenjpeg"})
JPEG_NAMES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"})
# What a file that begins as a JPEG picture may be.
JPEG_FORMATS = ("mjpeg", "jpeg_pipe", "jpegls_pipe")
HEAD = 1 << 16
NOT_READABLE = "not readable as video or image"


def _other_side_data(cls: type, value: int) -> Any:
    """A member for a kind of side data that PyAV does not know: with it, all side data of a frame can be read."""
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"OTHER_{value}", value
    return member


# PyAV 18 raises for FFmpeg 8's EXIF side data, and hides the display matrix beside it.
setattr(sidedata.Type, "_missing_", classmethod(_other_side_data))  # noqa: B010


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The file as an open file descriptor. Raises Unreadable for what is no regular file with content."""
    try:
        # A pipe without a writer must not make this wait.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise Unreadable("no such file") from None
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):
            if not path.is_file():
                raise Unreadable("not a file") from None
        raise Unreadable(f"cannot be opened: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise Unreadable("not a file")
        if state.st_size == 0:
            raise Unreadable("the file is empty")
        yield descriptor
    finally:
        os.close(descriptor)


def open_container(descriptor: int) -> Any:
    """A PyAV container on an open file, from its beginning.

    Raises Unreadable for a format that is not let in, and what PyAV raises for a damaged file.
    """
    options = {"fd": str(descriptor), "protocol_whitelist": "fd", "format_whitelist": FORMATS}
    try:
        container = _opened(descriptor, options)
        if container.format.name not in JPEG_FORMATS and os.pread(descriptor, 3, 0) == b"\xff\xd8\xff":
            # A phone's motion photo: libav may find the clip behind the picture, viewers show the picture.
            container.close()
            container = _opened(descriptor, options, "jpeg_pipe")
        return container
    except av.ArgumentError:
        raise Unreadable(_playlist(descriptor) or "a format that is not read as video or image") from None
    except av.InvalidDataError as error:
        if playlist := _playlist(descriptor):
            raise Unreadable(playlist) from None
        text = " (it is a text)" if _is_text(os.pread(descriptor, 1024, 0)) else ""
        raise Unreadable(f"{NOT_READABLE}: {error.strerror.lower()}{text}") from None


def _opened(descriptor: int, options: dict[str, str], kind: str | None = None) -> Any:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return av.open("fd:", format=kind, options=options, metadata_errors="replace")


def _playlist(descriptor: int) -> str | None:
    start = os.pread(descriptor, 1024, 0).removeprefix(b"\xef\xbb\xbf").lstrip()
    for sign, name in PLAYLISTS:
        if start.startswith(sign) or (sign == b"<MPD" and start.startswith(b"<?xml") and sign in start):
            return f"a playlist ({name}), not a video or image"
    return None


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in start)


def is_still(container: Any, name: str, head: bytes) -> bool:
    """Whether only the first frame is the picture: JPEG files of phones have others behind it (gain maps, depth)."""
    kind = container.format.name
    if kind == "mjpeg":
        return Path(name).suffix.lower() in JPEG_NAMES or b"MPF\x00" in head
    return kind in STILLS


def shown_stream(container: Any) -> Any:
    """The video stream that a player shows. Raises Unreadable where there is none."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    flags = av.stream.Disposition
    aside = flags.attached_pic | flags.timed_thumbnails | flags.dependent
    candidates = [stream for stream in streams if not stream.disposition & aside]
    if not candidates:
        missing = [stream for stream in container.streams.video if stream.codec_context is None]
        if missing:
            raise Unreadable("video or picture coded in a way that is not read")
        covers = any(stream.disposition & flags.attached_pic for stream in streams)
        raise Unreadable("no video stream" + (" (a sound with a cover picture)" if covers else ""))
    return max(candidates, key=_rank)


def _rank(stream: Any) -> tuple[bool, bool, bool, int, int]:
    """Moving before one picture, video before pictures, what is shown by default first, then the largest, the first."""
    moving = stream.frames != 1
    coded = stream.codec_context.name not in PICTURE_CODECS
    default = bool(stream.disposition & av.stream.Disposition.default)
    return moving, coded, default, stream.width * stream.height, -stream.index
