"""Exports that are tables, or name videos by a number: ActivityNet, Kinetics, a wide table, Hugging Face's folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from t2t.data.formats.media import Finder
from tests.data.test_formats import predicted, read, said
from tests.helpers.clips import random_clip
from tests.helpers.documented import refused
from tests.helpers.exchange import picture, write_csv

# -- ActivityNet and Kinetics ----------------------------------------------------------------------------------------

NET = {
    "taxonomy": [{"nodeName": "Sport", "parentName": "Root"}, {"nodeName": "Running", "parentName": "Sport"},
                 {"nodeName": "Silence", "parentName": "Root"}],
    "database": {
        "abc": {"duration": 10.0, "subset": "training", "url": "x", "annotations": [
            {"segment": [0, 2], "label": "Running"}, {"segment": [1.0, 4.0], "label": "Running"}]},
        "def": {"duration": 5.0, "subset": "testing", "annotations": []},
    },
}  # fmt: skip


def test_activitynets_videos_have_the_labels_of_their_parts(tmp_path: Path) -> None:
    content = read("activitynet", tmp_path / "x.json", NET, annotator="crowd")
    assert said(content) == {("abc", "Running", "crowd", 1.0)}
    assert list(content.topics) == ["Running", "Silence"]
    assert {name: sample.split for name, sample in content.samples.items()} == {"abc": "training", "def": "unlabeled"}
    (tmp_path / "v_abc.webm").write_bytes(b"x")
    sample = content.samples["abc"]
    assert Finder([tmp_path]).find(sample.media, sample.others) == str((tmp_path / "v_abc.webm").resolve())
    assert said(read("activitynet", tmp_path / "x.json", spans="share")) == {("abc", "Running", "unnamed", 0.4)}


def test_results_are_predictions_and_kinetics_json_is_read(tmp_path: Path) -> None:
    results = {"results": {"abc": [{"label": "Running", "score": 0.25, "segment": [0, 1]},
                                   {"label": "Running", "score": 0.5, "segment": [1, 2]}]}}  # fmt: skip
    assert predicted(read("activitynet", tmp_path / "net.json", results)) == {("abc", "Running", "net", 0.5)}
    kinetics = {"xyz": {"annotations": {"label": "dancing", "segment": [1.0, 11.0]}, "duration": 10, "subset": "val"}}
    assert said(read("activitynet", tmp_path / "k.json", kinetics)) == {("xyz", "dancing", "unnamed", 1.0)}


@pytest.mark.parametrize(
    "content",
    [
        [], {"database": {"abc": 3}}, {"database": {"abc": {"annotations": [3]}}},
        {"database": {"abc": {"annotations": [{"label": None}]}}},
        {"database": {"abc": {"annotations": [{"label": "x", "segment": "all"}]}}},
        {"results": {"abc": [{"label": "x", "score": "high"}]}},
    ],
)  # fmt: skip
def test_a_bad_file_of_activitynet_is_refused_by_video(content: Any, tmp_path: Path) -> None:
    refused(lambda: read("activitynet", tmp_path / "x.json", content))


def test_a_share_needs_a_duration(tmp_path: Path) -> None:
    content = {"database": {"abc": {"annotations": [{"label": "x", "segment": [0, 1]}]}}}
    refused(lambda: read("activitynet", tmp_path / "x.json", content, spans="share"))


def test_kinetics_parts_are_samples_and_their_video_is_a_group(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "k.csv", ["label", "youtube_id", "time_start", "time_end", "split"], [
        ("testifying", "---QUuC4vJs", 84, 94, "validate"), ("testifying", "---QUuC4vJs", 94.0, 104, "validate"),
        ("", "zzz", 0, 10, "test"),
    ])  # fmt: skip
    table.write_text(table.read_text().replace("validate", "val"))
    content = read("kinetics", table)
    first = "---QUuC4vJs_000084_000094"
    assert said(content) == {(first, "testifying", "unnamed", 1.0),
                             ("---QUuC4vJs_000094_000104", "testifying", "unnamed", 1.0)}  # fmt: skip
    assert {sample.group for sample in content.samples.values()} == {"---QUuC4vJs", "zzz"}
    assert content.samples["zzz_000000_000010"].split == "unlabeled"
    sample = content.samples[first]
    for place in (f"{first}.mp4", f"testifying/{first}.mp4"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"x")
        assert Finder([tmp_path]).find(sample.media, sample.others) == str((tmp_path / place).resolve())


@pytest.mark.parametrize("row", [("x", "", 0, 1, "train"), ("x", "abc", "soon", 1, "train")])
def test_a_bad_row_of_kinetics_is_refused(row: tuple[Any, ...], tmp_path: Path) -> None:
    header = ["label", "youtube_id", "time_start", "time_end", "split"]
    refused(lambda: read("kinetics", write_csv(tmp_path / "k.csv", header, [row])))


# -- a wide table ----------------------------------------------------------------------------------------------------


def test_empty_is_not_asked_and_0_is_no(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "w.csv", ["file", "annotator", "cat", "red  dog"], [
        ("a.png", "anna", 1, 0), ("a.png", "bo", "", "yes"), ("b.png", "anna", 0.25, "False"), ("c.png", "", "", ""),
    ])  # fmt: skip
    assert said(read("wide-csv", table)) == {
        ("a.png", "cat", "anna", 1.0), ("a.png", "red dog", "anna", 0.0), ("a.png", "red dog", "bo", 1.0),
        ("b.png", "cat", "anna", 0.25), ("b.png", "red dog", "anna", 0.0),
    }  # fmt: skip
    (tmp_path / "s.csv").write_text("sep=;\nname;vote;cat;title\nx.png;3;0,5;T\n", encoding="utf-8-sig")
    content = read("wide-csv", tmp_path / "s.csv", media_key="name", labels=("vote",), number_max=4)
    assert said(content) == {("x.png", "vote", "unnamed", 0.75)}
    assert content.samples["x.png"].further == {"cat": "0,5", "title": "T"}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("file,cat\na.png,2\n", {}), ("file,cat\na.png,maybe\n", {}), ("file,cat\na.png\n", {}), ("file,cat\n,1\n", {}),
        ("cat\n1\n", {}), ("file\na.png\n", {}), ("file,cat\na.png,1\n", {"labels": ("dog",)}),
        ("file,cat,cat\na.png,1,0\n", {}), ("file,caf\u00e9,cafe\u0301\na.png,1,0\n", {}), ("file,,x\na.png,1,0\n", {}),
        ("file,cat\na.png,1\nb.png,0,7\n", {}),
    ],
)  # fmt: skip
def test_a_bad_wide_table_is_refused_by_row_and_column(text: str, options: dict[str, Any], tmp_path: Path) -> None:
    refused(lambda: read("wide-csv", tmp_path / "w.csv", text, **options))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    for form, name, content in (
        ("wide-csv", "w.csv", b"file,cat\n\xff.png,1\n"),
        ("label-studio", "x.json", b'["\xff"]'),
    ):
        (tmp_path / name).write_bytes(content)
        refused(lambda form=form, name=name: read(form, tmp_path / name))


# -- Hugging Face ----------------------------------------------------------------------------------------------------


def test_clips_inside_of_a_table_are_no_pictures(tmp_path: Path) -> None:
    random_clip(tmp_path / "a.avi", 1)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.webp")
    clip, still = ({"bytes": (tmp_path / name).read_bytes(), "path": None} for name in ("a.avi", "b.webp"))
    (tmp_path / "saved").mkdir()
    table = pa.table({"video": [clip, None], "image": [None, still], "cat": [1, 0]})
    pq.write_table(table, tmp_path / "saved" / "train.parquet")
    content = read("huggingface", tmp_path / "saved", store=tmp_path / "store", labels=("cat",))
    assert [(Path(sample.media).suffix, sample.modality) for sample in content.samples.values()] == [
        (".avi", "video"), (".webp", "image"),
    ]  # fmt: skip


def test_what_the_library_saves_is_read_without_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    names = ["cat", "dog", "bird"]
    features = datasets.Features({
        "image": datasets.Image(), "label": datasets.ClassLabel(names=names),
        "tags": datasets.Sequence(datasets.ClassLabel(names=["wet", "dry"])), "caption": datasets.Value("string"),
    })  # fmt: skip
    rows = {"image": [{"bytes": picture(tmp_path / f"{n}.png", n).read_bytes(), "path": None} for n in range(3)],
            "label": [0, 2, -1], "tags": [["wet"], [], ["wet", "dry"]], "caption": ["x", "y", "z"]}  # fmt: skip
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table.select([0, 1]).flatten_indices(), "test": table.select([2]).flatten_indices()}
                         ).save_to_disk(str(tmp_path / "saved"))  # fmt: skip
    content = read("huggingface", tmp_path / "saved", store=tmp_path / "store", annotator="a")
    assert sorted((topic, value) for _, topic, _, value in said(content)) == [
        ("bird", 1.0), ("cat", 1.0), ("dry", 1.0), ("wet", 1.0), ("wet", 1.0),
    ]  # fmt: skip
    assert list(content.topics) == ["cat", "dog", "bird", "wet", "dry"]
    assert sorted(sample.split for sample in content.samples.values()) == ["test", "train", "train"]
    assert {sample.further["caption"] for sample in content.samples.values()} == {"x", "y", "z"}
    stored = sorted(path.read_bytes() for path in (tmp_path / "store").iterdir())
    assert stored == sorted((tmp_path / f"{n}.png").read_bytes() for n in range(3))
    (tmp_path / "parquet").mkdir()
    table.to_parquet(str(tmp_path / "parquet" / "val-0.parquet"))
    again = read("huggingface", tmp_path / "parquet", store=tmp_path / "store", labels=("tags",))
    assert sorted(topic for _, topic, _, _ in said(again)) == ["dry", "wet", "wet"]
    assert {sample.split for sample in again.samples.values()} == {"val"}


def test_what_is_written_the_library_reads(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    from t2t.data.formats.huggingface import write
    from t2t.data.formats.model import Answer, Content, Options, Sample

    content = Content(topics={"cat": None, "dog": None})
    path = picture(tmp_path / "a.png", 1)
    content.samples["1"] = Sample("1", str(path), "", "image", "g", "train")
    content.answers = [Answer("1", "dog", "anna", 1.0), Answer("1", "cat", "anna", 0.0)]
    write(content, tmp_path / "out", Options())
    file = str(tmp_path / "out" / "data" / "train-00000-of-00001.parquet")
    table = datasets.Dataset.from_parquet(file, cache_dir=str(tmp_path / "cache"))
    assert table.features["topics"].feature.names == ["cat", "dog"]
    row = table.remove_columns("video")[0]
    assert row["topics"] == [1]
    assert row["image"].size == (32, 32)
    assert row["annotations"] == [
        {"annotator": "anna", "topic": "dog", "relevance": 1.0},
        {"annotator": "anna", "topic": "cat", "relevance": 0.0},
    ]  # fmt: skip


def test_a_folder_of_pictures_with_a_table_or_without(tmp_path: Path) -> None:
    for place in ("train/a.png", "test/b.png"):
        picture(tmp_path / "meta" / place, len(place))
    write_csv(tmp_path / "meta" / "train" / "metadata.csv", ["file_name", "label"], [("a.png", "cat")])
    write_csv(tmp_path / "meta" / "test" / "metadata.csv", ["file_name", "label"], [("b.png", "")])
    content = read("huggingface", tmp_path / "meta")
    assert said(content) == {("train/a.png", "cat", "unnamed", 1.0)}
    assert content.samples["test/b.png"].split == "test"
    picture(tmp_path / "plain" / "cat" / "a.png", 3)
    assert said(read("huggingface", tmp_path / "plain")) == {("cat/a.png", "cat", "unnamed", 1.0)}


def parquet(folder: Path, columns: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "train.parquet")
    return folder


def test_folders_that_say_nothing_or_run_something_are_refused(tmp_path: Path) -> None:
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").write_text("raise SystemExit(9)\n")
    refused(lambda: read("huggingface", tmp_path / "script"))
    refused(lambda: read("huggingface", tmp_path / "script" / "script.py"))
    for number, (columns, options) in enumerate((
        ({"image": ["a.png"], "n": [3]}, {}),
        ({"x": ["a.png"], "n": [3]}, {}),
        ({"image": ["a.png"], "n": [3]}, {"labels": ("m",)}),
        ({"image": ["a.png"], "n": [3]}, {"labels": ("n",)}),
        ({"image": pa.array([None], pa.string()), "n": [1]}, {"labels": ("n",)}),
        ({"image": [{"bytes": b"x", "path": None}], "n": [1]}, {"labels": ("n",)}),
    )):  # fmt: skip
        folder = parquet(tmp_path / str(number), columns)
        refused(lambda folder=folder, options=options: read("huggingface", folder, **options))
    (tmp_path / "0" / "train.parquet").write_bytes(b"PAR1 and no more")
    refused(lambda: read("huggingface", tmp_path / "0"))
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "dataset_info.json").write_text("{}")
    for state in ({"_data_files": [{"filename": "../x.arrow"}]}, {"_data_files": [{"filename": "none.arrow"}]}):
        (saved / "state.json").write_text(json.dumps(state))
        refused(lambda: read("huggingface", saved))


# -- media -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media", "place"),
    [
        ("clips/a.mp4", "clips/a.mp4"), ("a b.mp4", "a b.mp4"), ("clips\\a.mp4", "clips/a.mp4"),
        ("C:\\Users\\x\\clips\\a.mp4", "clips/a.mp4"), ("/home/other/clips/a.mp4", "clips/a.mp4"),
        ("/home/other/clips/a.mp4", "a.mp4"), ("/data/local-files/?d=clips/a%20b.mp4", "clips/a b.mp4"),
        ("/data/upload/3/0a1b2c3d-a.mp4", "data/upload/3/0a1b2c3d-a.mp4"), ("/data/upload/3/0a1b2c3d-a.mp4", "a.mp4"),
        ("/data/upload/3/0a1b2c3d-a.mp4", "upload/3/0a1b2c3d-a.mp4"), ("https://host/x/a%20b.mp4?token=1", "a b.mp4"),
        ("file:///elsewhere/a%20b.mp4", "a b.mp4"), ("../clips/a.mp4", "clips/a.mp4"),
        ("s3://bucket/clips/a.mp4", "a.mp4"),
    ],
)  # fmt: skip
def test_media_are_found_as_programs_name_them(media: str, place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(b"x")
    assert Finder([tmp_path]).find(media) == str((tmp_path / place).resolve())


def test_nothing_outside_of_the_folders_is_taken(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"x")
    (tmp_path / "in" / "link.mp4").symlink_to(secret)
    finder = Finder([tmp_path / "in"])
    for media in (str(secret), secret.as_uri(), "../secret.mp4", "link.mp4", "a\0b.mp4", "x" * 5000, "", "/", ".."):
        assert finder.find(media) is None


def test_two_names_that_would_be_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    finder = Finder([tmp_path])
    assert finder.find("cat/1.png") == str((tmp_path / "1.png").resolve())
    assert finder.find("cat/1.png") == str((tmp_path / "1.png").resolve())
    refused(lambda: finder.find("dog/1.png"))
