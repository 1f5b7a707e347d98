"""Label files that change, checkpoints, videos and images from elsewhere: refused in the words of docs/bad-input.md."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from t2t.data.dataset import Dataset, read_dataset
from t2t.data.embeddings.config import PixelsConfig
from t2t.data.embeddings.decode import Limits, Unreadable, read_frames
from t2t.data.embeddings.embed import embed_samples
from t2t.data.labels import LABEL_SCHEMA
from t2t.lake.git import GitLake
from t2t.students.checkpoint import load, save
from t2t.students.config import TaggingConfig
from t2t.students.tagging import tag
from t2t.students.text import TopicTokens
from t2t.teachers import Teacher, TeacherContext, build, parse_entry
from t2t.teachers.register import Registrar
from t2t.teachers.store import read_labels
from t2t.training.matrix import build_matrix
from tests.campaign.bad_input import (
    CHECKPOINTS,
    CHECKPOINTS_NAMES,
    HEADER,
    IMAGES,
    LABELS,
    NO_VIDEOS,
    NO_VIDEOS_NAMES,
    TEXT_ENCODERS,
    TEXT_ENCODERS_NAMES,
    dataset_of,
)
from tests.helpers.clips import numbered, write_clip
from tests.helpers.documented import documented, refused
from tests.helpers.students import TEACHERS, pretrained_folder, random_clips, tiny_config, tiny_student

# -- label files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return dataset_of(tmp_path, annotations=HEADER)


def vendor(dataset: Dataset, content: str | bytes, name: str = "vendor.csv") -> tuple[Teacher, Path]:
    path = dataset.root / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    entry = parse_entry({"id": "vendor", "kind": "labels", "path": str(path)}, "vendor.yaml")
    return build(entry, TeacherContext(dataset, dataset.root / "work")), path


def label(teacher: Teacher, dataset: Dataset) -> list[dict[str, Any]]:
    return pa.concat_tables(teacher.label(dataset.samples, dataset.topics)).to_pylist()


def test_a_label_file_that_changes_between_fingerprint_and_labels_is_refused(dataset):
    teacher, path = vendor(dataset, LABELS + "a,red circle,0.5\n")
    before = teacher.fingerprint()
    assert [row["confidence"] for row in label(teacher, dataset)] == [0.5]
    # The same size, and somebody may set the time back: it is the content that counts.
    stat = path.stat()
    path.write_text(LABELS + "a,red circle,0.6\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    message = refused(lambda: label(teacher, dataset))
    assert message == (
        f"{path}: changed while it was read. Start again once it is whole; whoever writes it should write to another "
        "name and rename."
    )
    assert "changed while it was read" in refused(teacher.fingerprint)
    # The content that was fingerprinted is labeled again, wherever it was in the meantime.
    path.write_text(LABELS + "a,red circle,0.5\n")
    assert teacher.fingerprint() == before


def test_a_label_file_that_grows_while_it_is_read_is_refused(dataset, monkeypatch):
    """A writer appends a line in the middle of the reading; what was read so far would parse."""
    teacher, path = vendor(dataset, LABELS + "a,red circle,0.5\n")
    real = os.fstat
    seen = []

    def fstat(descriptor: int) -> os.stat_result:
        seen.append(descriptor)
        if len(seen) == 2:  # after the content was read
            with open(path, "a") as file:
                file.write("b,red circle,0.25\n")
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", fstat)
    assert "changed while it was read" in refused(lambda: label(teacher, dataset))


def test_a_rewrite_within_one_tick_of_the_clock_is_seen(dataset, monkeypatch):
    """The same size and the same time before and after: only the content tells."""
    teacher, path = vendor(dataset, LABELS + "a,red circle,0.5\n")
    real, stat = os.fstat, path.stat()
    seen = []

    def fstat(descriptor: int) -> os.stat_result:
        seen.append(descriptor)
        if len(seen) == 2:
            path.write_text(LABELS + "a,red circle,0.6\n")
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", fstat)
    monkeypatch.setattr("t2t.data.source.time.time_ns", lambda: stat.st_mtime_ns)
    assert "changed while it was read" in refused(lambda: label(teacher, dataset))


def test_half_a_csv_file_is_another_teacher_than_the_whole_one(dataset):
    whole = LABELS + "a,red circle,0.5\nb,red circle,0.25\n"
    lake = GitLake(dataset.root / "lake.git")

    def enter(content: str) -> None:
        teacher, _ = vendor(dataset, content)
        Registrar(lake, dataset, dataset.root / "work").register(teacher, dataset.samples, dataset.topics)

    enter(whole[: whole.index("b,")])
    assert len(read_labels(lake, "main", "tiny", "vendor")) == 1
    assert "choose a new id" in refused(lambda: enter(whole))


def test_a_file_that_is_replaced_by_renaming_is_one_or_the_other(dataset):
    teacher, path = vendor(dataset, LABELS + "a,red circle,0.5\n")
    other = path.with_name("next.csv")
    other.write_text(LABELS + "a,red circle,0.75\n")
    os.replace(other, path)
    assert [row["confidence"] for row in label(teacher, dataset)] == [0.75]


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_label_file_that_is_cut_off_is_refused(dataset, share):
    table = pa.table({"sample_id": list("abcd"), "topic": ["red circle"] * 4, "confidence": [0.1, 0.2, 0.3, 0.4]})
    pq.write_table(table, dataset.root / "whole.parquet")
    whole = (dataset.root / "whole.parquet").read_bytes()
    teacher, _ = vendor(dataset, whole[: int(len(whole) * share)], "vendor.parquet")
    assert "not readable as a table" in refused(lambda: label(teacher, dataset))


def test_a_datasets_fingerprint_is_of_what_was_read(tmp_path):
    before = dataset_of(tmp_path)
    held = before.fingerprint
    again = read_dataset(before.config, tmp_path)
    (tmp_path / "tiny" / "topics.txt").write_text("something else\n")
    assert again.fingerprint == held


# -- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "says"),
    CHECKPOINTS,
    ids=CHECKPOINTS_NAMES,
)
def test_a_checkpoint_from_elsewhere_is_refused_and_nothing_of_it_is_run(damage, says, tmp_path):
    folder = tmp_path / "student"
    save(tiny_student(), folder)
    damage(folder)
    message = refused(lambda: load(folder))
    assert message.startswith(str(folder))
    assert says in message
    assert not list(folder.rglob("ran"))


@pytest.mark.parametrize(
    ("damage", "says"),
    TEXT_ENCODERS,
    ids=TEXT_ENCODERS_NAMES,
)
def test_a_text_encoder_from_elsewhere_is_refused_and_nothing_of_it_is_run(damage, says, tmp_path):
    source = pretrained_folder(tmp_path / "hub", "bert")
    damage(source)
    message = refused(lambda: tiny_student(tiny_config({"pretrained": str(source)})))
    assert message.startswith(f"student.text.pretrained: {str(source)!r} ")
    assert says in message
    assert not list(source.rglob("ran"))


# -- topics in the student -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "bert"])
def test_a_topic_that_holds_a_teachers_token_is_plain_text(kind, tmp_path):
    text = {"pretrained": str(pretrained_folder(tmp_path / "hub", kind))} if kind else None
    student = tiny_student(tiny_config(text))
    tokens = TopicTokens(student.tokenizer, ["red <teacher:human> </s> ball", "<teacher:colour>"])
    special = set(student.token_ids(TEACHERS).tolist()) | {tokens.end}
    for row, length in zip(tokens.ids, tokens.lengths, strict=True):
        assert length > 0
        assert not special & set(row[:length].tolist())


def test_topics_with_the_same_tokens_are_told(caplog):
    with caplog.at_level(logging.WARNING, "t2t"):
        tiny_student(tiny_config({"max_tokens": 3}), topics=["one two three four", "one two three five", "six"])
    (record,) = caplog.records
    documented(record.getMessage())
    assert "1 topics have the same tokens as another one" in record.getMessage()


def test_ten_thousand_topics(tmp_path):
    """They are read, tokenised, trained on and scored; an unknown one is refused in one line, not in ten thousand."""
    topics = [f"topic {i}" for i in range(10_000)]
    content = HEADER + b"".join(b"a,topic %d,x,1\n" % i for i in range(10_000))
    dataset = dataset_of(tmp_path, topics="\n".join(topics).encode(), annotations=content)
    assert len(dataset.topics) == len(dataset.human) == 10_000
    ids = pa.repeat(pa.scalar("human"), 10_000)
    table = pa.table(
        [dataset.human["sample_id"], dataset.human["topic"], ids, dataset.human["confidence"]], LABEL_SCHEMA
    )
    assert build_matrix([table], ["a"], dataset.topics, ["human"]).topic.max() == 9_999
    student = tiny_student(topics=topics)
    labels = pa.concat_tables(tag(student, random_clips([2, 1]), ["a", "b"], topics, "x", TaggingConfig(top_k=5)))
    assert len(labels) == 2 * 15
    message = refused(
        lambda: dataset_of(tmp_path / "b", topics="\n".join(topics).encode(), annotations=HEADER + b"a,?,x,1\n")
    )
    assert "and 9,970 more." in message


# -- media -----------------------------------------------------------------------------------------------------------


def unreadable(path: Path) -> str:
    return refused(lambda: read_frames(path), Unreadable)


@pytest.mark.parametrize(
    ("mode", "name", "colour", "shown"),
    IMAGES,
)
def test_images_of_any_mode_are_rgb(tmp_path, mode, name, colour, shown):
    image = Image.new(mode, (20, 30), colour)
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 30, 10])
    image.save(tmp_path / name)
    frames = read_frames(tmp_path / name, size=16)
    assert frames.shape == (1, 16, 16, 3)
    assert np.abs(frames.reshape(-1, 3).mean(0) - shown).max() <= 3


@pytest.mark.parametrize("name", ["moving.gif", "moving.png"])
def test_an_animated_image_is_a_video(tmp_path, name):
    images = [Image.new("RGB", (20, 30), (20 * i, 0, 0)) for i in range(12)]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=100)
    red = read_frames(tmp_path / name, size=16)[:, 8, 8, 0].astype(int)
    assert np.abs(red - 20 * np.array([0, 2, 3, 5, 6, 8, 9, 11])).max() <= 4


@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 33), (3000, 1)])
def test_frames_of_any_size_are_scaled(tmp_path, width, height):
    Image.new("RGB", (width, height), (200, 30, 10)).save(tmp_path / "image.png")
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for _ in range(5):
            image = np.full((height, width, 3), (200, 30, 10), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    for name, count in (("image.png", 1), ("clip.mkv", 5)):
        for crop in ("squash", "centre"):
            frames = read_frames(tmp_path / name, size=16, crop=crop)
            assert frames.shape == (count, 16, 16, 3)
            assert np.abs(frames.reshape(-1, 3).mean(0) - (200, 30, 10)).max() <= 6
    samples = pa.table({"sample_id": ["i", "c"], "path": [str(tmp_path / n) for n in ("image.png", "clip.mkv")]})
    embedded = embed_samples(samples, PixelsConfig(frames=4, grid=1), tmp_path / "work")
    assert embedded.sample_ids == ["i", "c"]
    assert np.isfinite(embedded.embeddings.gather(np.array([0, 1]))[0]).all()


@pytest.mark.parametrize(("name", "says"), [("zero.mp4", "no video stream"), ("zero.avi", "no frame could be decoded")])
def test_a_video_without_frames_is_unreadable(tmp_path, name, says):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    assert unreadable(tmp_path / name) == says


@pytest.mark.parametrize(
    ("name", "write", "says"),
    NO_VIDEOS,
    ids=NO_VIDEOS_NAMES,
)
def test_what_is_no_video_is_unreadable(tmp_path, name, write, says):
    """The other file is a video, and is not read by a detour: it may lie outside of the dataset."""
    write_clip(tmp_path / "other.mp4", numbered(10))
    write(tmp_path / name)
    assert says in unreadable(tmp_path / name)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 3 * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_frame_that_would_fill_the_memory_is_refused(tmp_path):
    (tmp_path / "at-the-limit.png").write_bytes(png(100, 100))
    (tmp_path / "above.png").write_bytes(png(101, 100))
    limits = Limits(pixels=100 * 100)
    assert read_frames(tmp_path / "at-the-limit.png", limits=limits).shape == (1, 100, 100, 3)
    assert refused(lambda: read_frames(tmp_path / "above.png", limits=limits), Unreadable) == (
        "frames of 101 x 100 pixels, more than 10,000 (limits.pixels in the dataset's YAML file)"
    )


def test_a_header_that_lies_about_its_size_costs_nothing(tmp_path):
    header = png(1, 1)
    (tmp_path / "lie.png").write_bytes(
        header.replace(struct.pack(">II", 1, 1), struct.pack(">II", 2**31 - 1, 2**31 - 1))
    )
    assert unreadable(tmp_path / "lie.png")
