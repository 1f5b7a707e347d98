"""A folder for each class, below folders for the splits or not: `train/cat/1.jpg`, `cat/1.jpg`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from t2t.core.errors import T2TError
from t2t.core.files import atomic_folder
from t2t.data.formats.media import fetched, name_in
from t2t.data.formats.model import SPLITS, Content, Options, Reader, Sample, modality_of
from t2t.data.listing import ENDINGS, list_files
from t2t.data.remote import is_remote, shown


def read(source: Path, options: Options) -> Content:
    """Videos and pictures below a folder; the folder's name is their topic, and a positive answer.

    Where all folders at the top are named as splits are, they are the splits. A file without a class is unlabeled.
    Others are not denied, unless `Options.exclusive` or `complete` says so.

    Raises T2TError for a folder without media.
    """
    if not source.is_dir():
        raise T2TError(f"{source}: is no folder.")
    reading = Reader(source, options)
    listing = list_files([source])
    if listing.others:
        reading.content.counts["files that are neither video nor picture by their ending"] += listing.others
    top = sorted(path.name for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    with_splits = bool(top) and all(name.lower() in SPLITS for name in top)
    for file in listing.files:
        parts = file.relative_to(source).parts
        split = parts[0] if with_splits and len(parts) > 1 else ""
        classes = parts[1:-1] if split else parts[:-1]
        media = "/".join(parts)
        sample = reading.sample(Sample("", media, media, modality_of(media), split=split.lower()))
        if classes:
            reading.answer(sample.id, reading.topic(classes[0], media), options.annotator, 1.0)
            reading.review(sample.id, options.annotator)
    if with_splits:
        reading.content.remarks.append(f"The folders {', '.join(top)} are splits.")
    return reading.content


def write(content: Content, out: Path, options: Options) -> list[Path]:
    """Writes `<split>/<topic>/<file>` for each sample that has exactly one topic by the mean of people's answers, and
    `unlabeled/` for those without any; links where the disk allows it, else copies. What has more is counted.

    Raises T2TError for a topic that is no name of a folder.
    """
    positives = content.positives()
    for topic in content.topics:
        if topic in (".", "..") or "/" in topic or "\0" in topic or topic.startswith(".") or len(topic.encode()) > 255:
            raise T2TError(f"Topic {topic!r} cannot be a folder's name: choose another format.")
    out.parent.mkdir(parents=True, exist_ok=True)
    answered = {row.sample_id for row in content.answers}
    with atomic_folder(out) as folder:
        for sample in content.samples.values():
            topics = positives[sample.id]
            if len(topics) > 1 or (not topics and sample.id in answered):
                content.counts["samples with several topics, or none of those that were asked"] += 1
                continue
            place = folder / (sample.split or "unlabeled")
            place = place / topics[0] if topics else folder / "unlabeled"
            place.mkdir(parents=True, exist_ok=True)
            _put(sample.media, place)
    content.lost(ids=True, answers=True, predictions=True)
    return [out]


def _put(sample: str, folder: Path) -> None:
    """A file, or that of an address, into a folder, under its own name or, where that is taken, one with a number."""
    name = Path(name_in(sample, [Path(sample).parent]))
    target, number = folder / name, 1
    if name.suffix.lower() not in ENDINGS:
        raise T2TError(f"{shown(sample)}: has no ending of a video or picture, by which such a folder is read.")
    media = fetched(sample)
    while target.exists():
        number += 1
        target = folder / f"{name.stem}-{number}{name.suffix}"
    if is_remote(sample):  # whoever changes a link would change what is kept of that address
        shutil.copyfile(media, target)
        return
    try:
        os.link(media, target)
    except OSError:
        shutil.copyfile(media, target)
