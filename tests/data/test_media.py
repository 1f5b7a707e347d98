"""What is read of a file is what a player shows: the whole picture, upright, of the main stream."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from t2t.data.embeddings.decode import Unreadable, read_frames
from tests.helpers.clips import numbered, numbers, write_clip
from tests.helpers.pictures import box, distance, full, mosaic, shown, write_grid, write_turned

pytestmark = pytest.mark.unit

ORIENTATIONS = range(1, 9)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff", "avif"])
def test_pictures_are_upright_in_all_eight_orientations(tmp_path, kind):
    image = mosaic()
    for orientation in ORIENTATIONS:
        exif = Image.Exif()
        exif[0x112] = orientation
        path = tmp_path / f"{orientation}.{kind}"
        Image.fromarray(image).save(path, exif=exif, quality=95)
        assert distance(read_frames(path)[0], shown(image, orientation)) < 5, orientation


@pytest.mark.parametrize("kind", ["webp", "png"])
def test_moving_pictures_are_upright_in_all_their_frames(tmp_path, kind):
    one, two = mosaic(), mosaic(seed=1)
    for orientation in ORIENTATIONS:
        exif = Image.Exif()
        exif[0x112] = orientation
        path = tmp_path / f"{orientation}.{kind}"
        pictures = [Image.fromarray(image) for image in (one, two)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, exif=exif.tobytes(), quality=95)
        frames = read_frames(path)
        assert len(frames) == 2
        for frame, image in zip(frames, (one, two), strict=True):
            assert distance(frame, shown(image, orientation)) < 8, orientation


def test_a_moving_picture_with_damaged_exif_is_as_it_is_stored(tmp_path):
    image = Image.fromarray(mosaic())
    image.save(tmp_path / "a.webp", save_all=True, append_images=[image.rotate(180)], exif=b"Exif\0\0MM\0*\xff\xff")
    assert distance(read_frames(tmp_path / "a.webp")[0], mosaic()) < 8


def test_a_clip_behind_a_picture_is_not_the_picture(tmp_path):
    path = tmp_path / "motion.jpg"
    Image.fromarray(mosaic()).save(path, quality=95)
    clip = write_clip(tmp_path / "clip.mp4", numbered(4))
    path.write_bytes(path.read_bytes() + clip.read_bytes())
    frames = read_frames(path)
    assert len(frames) == 1
    assert distance(frames[0], mosaic()) < 5


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
def test_videos_are_upright_also_where_the_matrix_mirrors(tmp_path, kind):
    image = mosaic()
    for orientation in ORIENTATIONS:
        path = write_turned(tmp_path / f"{orientation}.{kind}", image, orientation)
        assert distance(read_frames(path)[0], shown(image, orientation)) < 8, orientation


def test_the_middle_of_a_turned_picture_is_the_middle_of_what_is_shown(tmp_path):
    path = write_turned(tmp_path / "turned.mp4", mosaic(96, 192), 5)
    expected = write_turned(tmp_path / "upright.mp4", shown(mosaic(96, 192), 5), 1)
    for crop in ("centre", "squash"):
        assert distance(read_frames(path, size=48, crop=crop)[0], read_frames(expected, size=48, crop=crop)[0]) < 8


def test_a_picture_of_tiles_is_whole(tmp_path):
    image = mosaic(128, 192)
    path = write_grid(tmp_path / "grid.avif", image)
    with av.open(str(path)) as container:
        assert [stream.width for stream in container.streams.video] == [16] + [64] * 6
    frames = read_frames(path)
    assert frames.shape == (1, 128, 192, 3)
    assert distance(frames[0], image) < 4
    Image.fromarray(image).save(tmp_path / "whole.png")
    assert distance(read_frames(path, size=32)[0], read_frames(tmp_path / "whole.png", size=32)[0]) < 4


@pytest.mark.parametrize(
    ("properties", "change"),
    [
        ((box(b"irot", b"\1"),), lambda image: np.rot90(image, 1)),
        ((box(b"imir", b"\0"),), lambda image: image[::-1]),
        ((box(b"imir", b"\1"),), lambda image: image[:, ::-1]),
        ((box(b"irot", b"\3"), box(b"imir", b"\1")), lambda image: np.rot90(image, 3)[:, ::-1]),
        ((box(b"clap", struct.pack(">4IiIiI", 96, 1, 64, 1, 16, 1, -32, 1)),), lambda image: image[0:64, 64:160]),
    ],
    ids=["turned", "upside down", "mirrored", "turned and mirrored", "cropped"],
)
def test_a_picture_of_tiles_is_turned_and_cropped_as_a_whole(tmp_path, properties, change):
    image = mosaic(128, 192)
    path = write_grid(tmp_path / "grid.avif", image, properties=properties)
    assert distance(read_frames(path)[0], change(image)) < 4


@pytest.mark.parametrize("kind", ["png", "webp", "avif", "tiff"])
def test_transparent_pictures_are_shown_on_white(tmp_path, kind):
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((200, 30, 10, 255), (0, 0, 16, 32))
    image.paste((0, 0, 0, 102), (16, 16, 32, 32))
    path = tmp_path / f"logo.{kind}"
    image.save(path, **({"lossless": True} if kind == "webp" else {"quality": 100} if kind == "avif" else {}))
    frame = read_frames(path)[0].astype(int)
    for row, column, colour in ((16, 8, (200, 30, 10)), (8, 24, (255, 255, 255)), (24, 24, (153, 153, 153))):
        assert np.abs(frame[row, column] - colour).max() <= 4, (row, column)


def test_tiles_may_reach_beyond_the_picture(tmp_path):
    image = mosaic(128, 128)
    path = write_grid(tmp_path / "grid.avif", image, canvas=(112, 80))
    assert distance(read_frames(path)[0], image[:80, :112]) < 4


def test_a_picture_that_is_not_whole_is_set_aside(tmp_path):
    path = write_grid(tmp_path / "grid.avif", mosaic(128, 128))
    content = path.read_bytes()
    # The last tile is cut off.
    path.write_bytes(content[:-40])
    with pytest.raises(Unreadable, match=r"part 4 of 4 of the picture cannot be decoded \(HEIF\)|not readable"):
        read_frames(path)
    # An overlay of other items, which is not read, rather than the first of them.
    path.write_bytes(content.replace(b"grid\0", b"iovl\0"))
    with pytest.raises(Unreadable, match=r"a picture of the kind 'iovl' \(HEIF\), which is not read"):
        read_frames(path)
    path.write_bytes(content.replace(full(b"pitm", struct.pack(">H", 6)), full(b"pitm", struct.pack(">H", 9))))
    with pytest.raises(Unreadable, match="a picture of the kind 'none'"):
        read_frames(path)


def test_pictures_behind_the_picture_are_not_frames_of_it(tmp_path):
    """Gain maps and depth maps of phones: a JPEG file that goes on with another one."""
    image, other = mosaic(), np.zeros((16, 16, 3), np.uint8)
    first, second = Image.fromarray(image), Image.fromarray(other)
    first.copy().save(tmp_path / "phone.mpo", save_all=True, append_images=[second.copy()], quality=95)
    (tmp_path / "phone.jpg").write_bytes((tmp_path / "phone.mpo").read_bytes())
    (tmp_path / "phone").write_bytes((tmp_path / "phone.mpo").read_bytes())
    first.save(tmp_path / "pages.tiff", save_all=True, append_images=[second])
    first.save(tmp_path / "two.png")
    second.save(tmp_path / "second.png")
    (tmp_path / "two.png").write_bytes((tmp_path / "two.png").read_bytes() + (tmp_path / "second.png").read_bytes())
    for name in ("phone.mpo", "phone.jpg", "phone", "pages.tiff", "two.png"):
        frames = read_frames(tmp_path / name)
        assert len(frames) == 1, name
        assert distance(frames[0], image) < 5, name


def test_a_preview_before_a_tiffs_picture_is_not_it(tmp_path):
    image = mosaic()
    reduced = TiffImagePlugin.ImageFileDirectory_v2()
    reduced[254] = 1
    path = tmp_path / "scan.tiff"
    with TiffImagePlugin.AppendingTiffWriter(str(path), True) as file:
        Image.new("RGB", (16, 16)).save(file, format="TIFF", tiffinfo=reduced)
        file.newFrame()
        Image.fromarray(image).save(file, format="TIFF")
        file.newFrame()
    frames = read_frames(path)
    assert len(frames) == 1
    assert distance(frames[0], image) < 1
    # A camera's raw file has previews only, and its picture elsewhere.
    Image.new("RGB", (16, 16)).save(tmp_path / "raw.dng", format="TIFF", tiffinfo=reduced)
    with pytest.raises(
        Unreadable, match=r"^a file with previews of a picture \(a camera's raw file\?\), which is not read$"
    ):
        read_frames(tmp_path / "raw.dng")


def test_sixteen_bits_and_print_colours_are_rgb(tmp_path):
    image = mosaic()
    path = tmp_path / "sixteen.png"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb48be"
        frame = av.VideoFrame.from_ndarray(image.astype(np.uint16) * 257, "rgb48le").reformat(format="rgb48be")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert distance(read_frames(path)[0], image) < 1
    for name in ("print.jpg", "palette.gif", "palette.bmp"):
        other = Image.fromarray(image)
        other = other.convert("CMYK") if name == "print.jpg" else other.quantize(64)
        other.save(tmp_path / name, quality=95)
        expected = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert distance(read_frames(tmp_path / name)[0], expected) < 4, name


def test_the_largest_of_an_icons_pictures_is_shown(tmp_path):
    Image.fromarray(mosaic(64, 64)).save(tmp_path / "icon.ico", sizes=[(16, 16), (64, 64), (32, 32)])
    assert read_frames(tmp_path / "icon.ico").shape == (1, 64, 64, 3)


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "avif"])
def test_a_moving_picture_moves(tmp_path, kind):
    images = [Image.new("RGB", (32, 32), (20 * i, 0, 0)) for i in range(12)]
    path = tmp_path / f"moving.{kind}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    red = read_frames(path, size=16)[:, 8, 8, 0].astype(int)
    assert np.abs(red - 20 * np.array([0, 2, 3, 5, 6, 8, 9, 11])).max() <= 6


def test_a_moving_webp_is_sampled_in_time_on_white(tmp_path):
    images = [Image.new("RGBA", (32, 32), (20 * i, 0, 0, 255)) for i in range(4)]
    images[3] = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    path = tmp_path / "moving.webp"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 100, 3000, 3000], lossless=True)
    # Centres at 1.55 and 4.65 s.
    assert read_frames(path, frames=2)[:, 0, 0].tolist() == [[40, 0, 0], [255, 255, 255]]


def write_streams(path: Path, *streams: tuple[str, int, int, int]) -> Path:
    """A video of several streams, each with its codec, side, frames and brightness."""
    with av.open(str(path), "w") as container:
        added = []
        for codec, side, _, _ in streams:
            stream = container.add_stream(codec, rate=10)
            stream.width = stream.height = side
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = av.stream.Disposition.default
            added.append(stream)
        for stream, (_, side, frames, brightness) in zip(added, streams, strict=True):
            image = np.full((side, side, 3), brightness, np.uint8)
            for _ in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "avi"])
def test_thumbnails_and_smaller_streams_before_the_video_are_not_it(tmp_path, kind):
    thumbnail, depth, video = ("mjpeg", 32, 1, 20), ("mpeg4", 32, 10, 20), ("mpeg4", 64, 10, 200)
    for name, streams in {"thumbnail": (thumbnail, video), "depth": (depth, video)}.items():
        frames = read_frames(write_streams(tmp_path / f"{name}.{kind}", *streams))
        assert frames.shape == (8, 64, 64, 3), name
        assert abs(int(frames.mean()) - 200) < 5, name


def test_a_track_that_is_switched_off_is_not_shown(tmp_path):
    path = write_streams(tmp_path / "clip.mp4", ("mpeg4", 64, 10, 20), ("mpeg4", 48, 10, 200))
    content = bytearray(path.read_bytes())
    content[content.index(b"tkhd") + 7] &= 0xFE
    path.write_bytes(content)
    assert read_frames(path).shape == (8, 48, 48, 3)


def test_a_sound_with_a_cover_is_no_video(tmp_path):
    cover = tmp_path / "cover.png"
    Image.fromarray(mosaic()).save(cover)
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("mp3", rate=8000, layout="mono")
        picture = container.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = 96, 64, "yuvj420p"
        picture.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        container.mux(picture.encode(av.VideoFrame.from_ndarray(mosaic(), "rgb24").reformat(format="yuvj420p")))
        container.mux(picture.encode(None))
        for start in range(0, 8000, 1152):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(Unreadable, match=r"^no video stream \(a sound with a cover picture\)$"):
        read_frames(path)


def test_pixels_that_are_not_square_are_stretched_as_players_do(tmp_path):
    """DVDs: 720 x 576 pixels that are shown 1024 wide. The middle is that of what is shown."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :16] = image[:, 48:] = 255
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 64, "yuv420p", 4_000_000
        stream.sample_aspect_ratio = Fraction(2, 1)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    assert read_frames(path).shape == (3, 64, 128, 3)
    assert read_frames(path, size=32, crop="centre")[0, :, 3:29].max() < 40
    squashed = read_frames(path, size=32)[0]
    assert squashed[:, :6].min() > 215
    # A picture's density is the printer's business.
    Image.fromarray(image).save(tmp_path / "fax.png", dpi=(204, 98))
    assert read_frames(tmp_path / "fax.png").shape == (1, 64, 64, 3)


def test_a_very_wide_picture_costs_no_more_than_its_middle(tmp_path):
    image = np.zeros((2, 60_000, 3), np.uint8)
    image[:, 29_000:31_000] = (200, 30, 10)
    Image.fromarray(image).save(tmp_path / "wide.png")
    frames = read_frames(tmp_path / "wide.png", size=224, crop="centre")
    assert np.abs(frames.reshape(-1, 3).mean(0) - (200, 30, 10)).max() <= 3


def test_frames_before_the_first_keyframe_are_passed_over(tmp_path):
    """A recording that begins in the middle of a group: what is shown begins with the first keyframe."""
    options = {"g": "10", "sc_threshold": "0", "bf": "0"}
    whole = write_clip(tmp_path / "whole.mp4", numbered(40), codec="libx264", options=options)
    path = tmp_path / "cut.ts"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number >= 5:
                packet.stream = stream
                target.mux(packet)
    found = numbers(read_frames(path))
    assert found == sorted(set(found))
    assert len(found) == 8
    assert min(found) >= 10


NAMES = [
    "50%d.png",
    "clip%03d.png",
    "a*b.png",
    "[1-3].png",
    "-i.png",
    "concat:a.png",
    "http:x.png",
    "file:y.png",
    "?.png",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_pattern_and_no_protocol(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for sibling in ("501.png", "500.png", "clip001.png", "clip000.png", "aXb.png", "1.png", "a.png", "y.png"):
        Image.new("RGB", (20, 20), (250, 250, 250)).save(tmp_path / sibling)
    with open(tmp_path / name, "wb") as file:
        Image.new("RGB", (30, 30), (200, 30, 10)).save(file, "PNG")
    for path in (name, tmp_path / name):
        frames = read_frames(path)
        assert frames.shape == (1, 30, 30, 3)
        assert np.abs(frames[0, 0, 0].astype(int) - (200, 30, 10)).max() <= 2


def test_formats_that_are_not_let_in(tmp_path):
    video = write_clip(tmp_path / "other.mp4", numbered(10))
    lists = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {video}\n",
        "dash": f'<?xml version="1.0"?>\n<MPD><BaseURL>{video}</BaseURL></MPD>\n',
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    }
    for kind, content in lists.items():
        for name in (f"{kind}.mp4", f"{kind}.m3u8", f"{kind}.png", kind):
            (tmp_path / name).write_text(content)
            with pytest.raises(Unreadable, match=rf"^a playlist \({kind}\), not a video or image$"):
                read_frames(tmp_path / name)
    (tmp_path / "titles.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n\n" * 9)
    with pytest.raises(Unreadable, match=r"^a format that is not read as video or image$|it is a text"):
        read_frames(tmp_path / "titles.srt")


def test_an_edit_list_hides_what_it_cuts_off(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", numbered(40), codec="libx264", options={"g": "5", "bf": "0"})
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 12
    duration, start = struct.unpack_from(">Ii", content, place)
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
    # The second half only.
    struct.pack_into(">Ii", content, place, duration // 2, start + round(2 / base))
    path.write_bytes(content)
    assert numbers(read_frames(path, frames=4)) == [22, 27, 32, 37]
