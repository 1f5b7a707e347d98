"""Data that read well and make the measured number mean nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from t2t.core.errors import DataError, T2TError
from t2t.data.copies import same_videos
from t2t.data.dataset import Dataset, DatasetConfig, UnseenConfig, read_dataset
from t2t.data.soundness import refuse_unsound, remarks
from tests.helpers.datasets import TOPICS, Rows, make, sample_rows

pytestmark = pytest.mark.unit


def labels(*rows: tuple[str, str, float]) -> Rows:
    return [{"sample_id": s, "topic": t, "annotator": "x", "relevance": r} for s, t, r in rows]


EVERY = [(s, t, float(s in "abde" and t == TOPICS[ord(s) % 2])) for s in "abde" for t in TOPICS[:2]]


def dataset(
    folder: Path, annotations: Rows | None = None, samples: Rows | None = None, topics: str = "", **settings: Any
) -> Dataset:
    """Five samples, each a video of its own, with annotations that have nothing remarkable."""
    topics = topics or "\n".join(TOPICS[:2])
    config = make(folder, samples, labels(*EVERY) if annotations is None else annotations, topics)
    for name in "abcde":
        (folder / "tiny" / "clips" / f"{name}.mp4").write_bytes(name.encode() * 100_000)
    return read_dataset(DatasetConfig.model_validate({**config.model_dump(), **settings}), folder)


def video(read: Dataset, name: str, content: bytes) -> None:
    (read.root / "clips" / f"{name}.mp4").write_bytes(content)


def test_a_sound_dataset_is_silent_but_for_groups_of_one(tmp_path):
    read = dataset(tmp_path)
    refuse_unsound(read)
    silent = {line for line in remarks(read) if "are of one group" not in line and "not measured there" not in line}
    assert silent == set()


def test_one_video_in_test_and_in_training_is_refused_by_row_whatever_its_name(tmp_path):
    read = dataset(tmp_path)
    video(read, "e", (read.root / "clips" / "a.mp4").read_bytes())
    with pytest.raises(DataError) as caught:
        refuse_unsound(read)
    message = str(caught.value)
    assert message.startswith(f"{read.root / 'samples.csv'}, row 6, column 'path': 'e' of split 'test' is the same ")
    assert "as 'a' of split 'train'" in message
    assert message.endswith("or set `shared_videos: allow` in the dataset's entry.")


@pytest.mark.parametrize(("name", "other"), [("c", "d"), ("d", "e"), ("c", "e")])
def test_so_it_is_between_unlabeled_validation_and_test(tmp_path, name, other):
    read = dataset(tmp_path)
    video(read, name, (read.root / "clips" / f"{other}.mp4").read_bytes())
    with pytest.raises(DataError, match=f"'{other}' of split .* is the same video, byte for byte, as '{name}' of"):
        refuse_unsound(read)


def test_one_path_or_a_link_under_two_ids_is_one_video(tmp_path):
    rows = sample_rows()
    rows[4]["path"] = "clips/a.mp4"
    with pytest.raises(DataError, match="'e' of split 'test' is the same video"):
        refuse_unsound(dataset(tmp_path / "path", samples=rows))
    read = dataset(tmp_path / "link")
    (read.root / "clips" / "e.mp4").unlink()
    (read.root / "clips" / "e.mp4").hardlink_to(read.root / "clips" / "a.mp4")
    with pytest.raises(DataError, match="'e' of split 'test' is the same video"):
        refuse_unsound(read)


def test_it_can_be_allowed_and_is_told_then(tmp_path):
    read = dataset(tmp_path, shared_videos="allow")
    video(read, "e", (read.root / "clips" / "a.mp4").read_bytes())
    refuse_unsound(read)
    assert "Videos that stand in more than one split under several ids: 1 (a = e)." in remarks(read)


def test_doubles_that_measure_nothing_are_told(tmp_path):
    read = dataset(tmp_path)
    for name in "bc":
        video(read, name, (read.root / "clips" / "a.mp4").read_bytes())
    refuse_unsound(read)
    assert "Videos that stand in more than one split under several ids: 1 (a = b = c)." in remarks(read)


def test_only_files_that_may_be_the_same_are_hashed(tmp_path, monkeypatch):
    contents = {"a": b"x" * 300_000, "b": b"x" * 300_001, "c": b"x" * 299_999 + b"y", "d": b"", "e": b""}
    contents |= {"f": b"x" * 150_000 + b"y" + b"x" * 149_999, "g": b"x" * 300_000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    from t2t.data import copies

    hashed = []
    whole = copies.sha256_file
    monkeypatch.setattr(copies, "sha256_file", lambda path: hashed.append(Path(path).name) or whole(path))
    assert same_videos([str(tmp_path / name) for name in "abcdefg"] + [str(tmp_path / "gone")]) == [[0, 6]]
    assert sorted(hashed) == ["a", "f", "g"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_without_a_positive_is_refused(tmp_path, split):
    name = {"validation": "d", "test": "e"}[split]
    read = dataset(tmp_path, labels(*((s, t, 0.0 if s == name else r) for s, t, r in EVERY)))
    with pytest.raises(T2TError, match=f"no .* pair of split '{split}' has a human relevance of 0.5 or more"):
        refuse_unsound(read)


def test_a_split_where_all_is_positive_is_told(tmp_path):
    read = dataset(tmp_path, labels(*((s, t, 1.0 if s == "d" else r) for s, t, r in EVERY)))
    refuse_unsound(read)
    assert (
        "All 2 human labels of split 'validation' are positive: PR-AUC is 1 there whatever a student says. Annotate "
        "pairs that do not go together, too." in remarks(read)
    )


def test_what_people_did_not_label_is_told(tmp_path):
    rows = [row for row in EVERY if row[0] not in "ab"]
    told = remarks(dataset(tmp_path, labels(*rows, ("c", TOPICS[0], 1.0))))
    assert "No human label is of split 'train': a student learns from teachers alone, and people only measure." in told
    assert "1 human labels are of split 'unlabeled', which has none: they are not used." in told


@pytest.mark.parametrize(
    ("unseen", "says"),
    [
        (UnseenConfig(fraction=0.1), "`unseen: {fraction: 0.1}` draws none of 2 topics: nothing is measured on topics"),
        (UnseenConfig(topics=tuple(TOPICS[:2])), "All 2 topics are unseen: nothing is left to train on."),
    ],
)
def test_a_topic_split_that_splits_nothing_is_told(tmp_path, unseen, says):
    assert any(line.startswith(says) for line in remarks(dataset(tmp_path, unseen=unseen.model_dump())))


def test_topics_that_nobody_measures_are_told(tmp_path):
    read = dataset(tmp_path, topics="\n".join(TOPICS), unseen={"topics": [TOPICS[2]]})
    told = remarks(read)
    assert f"Topics without a positive human label: {TOPICS[2]}." in told
    assert "No unseen topic has a positive human label in split 'test': they are not measured there." in told


def test_names_that_a_reader_takes_for_one_are_told(tmp_path):
    rows = sample_rows()
    rows[2]["group"], rows[4]["group"] = "G3", "\uff473"
    rows[1]["sample_id"] = "A"
    told = remarks(dataset(tmp_path, labels(*EVERY[:2], *EVERY[4:]), rows, "red circle\nblue square\nRed_Circle\n"))
    assert any("Topics that differ in" in line and "red circle, Red_Circle" in line for line in told)
    assert any("Samples whose ids differ in" in line and "a, A" in line for line in told)
    assert any("Groups in several splits differ in" in line and "G3, g3, \uff473" in line for line in told)
