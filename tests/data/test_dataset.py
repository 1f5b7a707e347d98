"""The dataset contract: what is read, the topic split, the fingerprint. What is refused: test_bad_tables.py."""

from __future__ import annotations

import pyarrow as pa
import pytest

from t2t.data.dataset import UnseenConfig, read_dataset
from tests.helpers.datasets import TOPICS, annotation_rows, changed, make, pairs, refusal, sample_rows

pytestmark = pytest.mark.unit

# -- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_dataset_is_read(tmp_path, kind):
    dataset = read_dataset(make(tmp_path, kind=kind), tmp_path)
    assert dataset.topics == tuple(TOPICS) == dataset.seen
    assert dataset.unseen == frozenset()
    assert dataset.sample_ids() == ["a", "b", "c", "d", "e"]
    assert dataset.sample_ids("train", "test") == ["a", "b", "e"]
    assert dataset.samples["path"][2].as_py() == str(tmp_path / "tiny" / "clips" / "c.mp4")
    assert dataset.human.schema.field("confidence").type == pa.float32()
    assert pairs(dataset) == {
        ("a", "red circle"): 1.0,
        ("b", "blue square"): 0.0,
        ("d", "red circle"): 0.5,
        ("e", "red circle"): 1.0,
    }


def test_several_annotators_of_a_pair_are_averaged(tmp_path):
    rows = annotation_rows()
    for annotator, relevance in [("x", 0.0), ("y", 0.5)]:
        rows.append({"sample_id": "a", "topic": "red circle", "annotator": annotator, "relevance": relevance})
    dataset = read_dataset(make(tmp_path, annotations=rows), tmp_path)
    assert pairs(dataset)["a", "red circle"] == 0.5
    assert len(dataset.human) == 4


def test_further_columns_and_text_that_looks_like_numbers_are_kept(tmp_path):
    rows = sample_rows()
    for index, row in enumerate(rows):
        row |= {"sample_id": f"00{index}", "licence": "CC0"}
    annotations = [{"sample_id": "001", "topic": "red circle", "annotator": "007", "relevance": 1}]
    dataset = read_dataset(make(tmp_path, rows, annotations), tmp_path)
    assert dataset.sample_ids("train") == ["000", "001"]
    assert dataset.samples["licence"].to_pylist() == ["CC0"] * 5
    assert pairs(dataset) == {("001", "red circle"): 1.0}


@pytest.mark.parametrize("name", ["NA", "null", "nan", "True", "1e3"])
def test_names_that_other_readers_take_for_nothing_are_names(tmp_path, name):
    rows = sample_rows()
    rows[0]["sample_id"] = name
    annotations = [{"sample_id": name, "topic": "red circle", "annotator": "ann", "relevance": 1}]
    dataset = read_dataset(make(tmp_path, rows, annotations), tmp_path)
    assert pairs(dataset) == {(name, "red circle"): 1.0}


def test_tables_saved_by_a_spreadsheet_are_read(tmp_path):
    """A byte-order mark, carriage returns, quotes, and lines without end."""
    config = make(tmp_path)
    root = tmp_path / "tiny"
    root.joinpath("topics.txt").write_bytes(b"\xef\xbb\xbfred circle\r\nblue square\r\n\r\n")
    root.joinpath("annotations.csv").write_bytes(
        b'\xef\xbb\xbf"sample_id","topic","annotator","relevance"\r\n"a","red circle","Doe, J.","1"'
    )
    dataset = read_dataset(config, tmp_path)
    assert dataset.topics == ("red circle", "blue square")
    assert pairs(dataset) == {("a", "red circle"): 1.0}


def test_a_file_uri_is_a_path(tmp_path):
    outside = tmp_path / "other place" / "clip.mp4"
    outside.parent.mkdir()
    outside.write_bytes(b"")
    rows = sample_rows()
    rows[0]["path"] = outside.as_uri()
    assert "%20" in rows[0]["path"]
    dataset = read_dataset(make(tmp_path, rows), tmp_path)
    assert dataset.samples["path"][0].as_py() == str(outside)


# -- the topic split -------------------------------------------------------------------------------------------------


def test_unseen_by_list(tmp_path):
    config = make(tmp_path).model_copy(update={"unseen": UnseenConfig(topics=("a spinning star", "red circle"))})
    dataset = read_dataset(config, tmp_path)
    assert dataset.unseen == {"a spinning star", "red circle"}
    assert dataset.seen == ("blue square",)


def test_a_listed_topic_that_does_not_exist_is_refused(tmp_path):
    config = make(tmp_path).model_copy(update={"unseen": UnseenConfig(topics=("red circel", "red circle"))})
    assert "Dataset 'tiny': unseen topics that are not in the topics file: red circel" in refusal(config, tmp_path)


def test_a_fraction_is_about_that_share_and_stable():
    topics = [f"topic {i}" for i in range(2000)]
    drawn = UnseenConfig(fraction=0.3).draw(topics)
    assert 0.25 < len(drawn) / len(topics) < 0.35
    assert UnseenConfig(fraction=0.3).draw(topics[::-1]) == drawn
    # A topic's lot does not depend on which other topics there are, and a larger fraction only adds.
    assert UnseenConfig(fraction=0.3).draw(topics[:100]) == drawn & set(topics[:100])
    assert drawn < UnseenConfig(fraction=0.4).draw(topics)
    assert UnseenConfig(fraction=0.3, seed=1).draw(topics) != drawn
    assert UnseenConfig(fraction=0).draw(topics) == frozenset()


def test_the_draw_is_the_same_on_every_machine_and_version():
    letters = list("abcdefghijklmnopqrstuvwxyz")
    assert "".join(sorted(UnseenConfig(fraction=0.2).draw(letters))) == "hy"


@pytest.mark.parametrize("values", [{}, {"topics": ["a"], "fraction": 0.1}, {"fraction": 1.0}, {"fraction": -0.1}])
def test_the_topic_split_is_given_one_way(values):
    with pytest.raises(ValueError):
        UnseenConfig(**values)


# -- the fingerprint -------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_content_not_of_place(tmp_path):
    first = read_dataset(make(tmp_path / "here"), tmp_path / "here").fingerprint
    second = read_dataset(make(tmp_path / "there"), tmp_path / "there").fingerprint
    assert first == second


@pytest.mark.parametrize(
    "change",
    [
        {"samples": changed(sample_rows(), 2, split="test")},
        {"annotations": changed(annotation_rows(), 0, relevance=0.9)},
        {"topics": "\n".join([*TOPICS, "one more"])},
    ],
    ids=["samples", "annotations", "topics"],
)
def test_the_fingerprint_changes_with_each_file(tmp_path, change):
    before = read_dataset(make(tmp_path / "a"), tmp_path / "a").fingerprint
    assert read_dataset(make(tmp_path / "b", **change), tmp_path / "b").fingerprint != before


def test_the_fingerprint_changes_with_the_topic_split(tmp_path):
    config = make(tmp_path)
    before = read_dataset(config, tmp_path).fingerprint
    split = config.model_copy(update={"unseen": UnseenConfig(topics=("red circle",))})
    assert read_dataset(split, tmp_path).fingerprint != before
