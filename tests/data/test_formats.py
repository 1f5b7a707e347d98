"""Small exports as the programs write them, each read as it says: who said what of which file, and what nobody said."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2t.data.formats.model import Content, Options, Sample
from t2t.data.formats.table import FORMATS
from tests.helpers.documented import refused
from tests.helpers.exchange import picture

pytestmark = pytest.mark.unit


def read(form: str, path: Path, content: Any = None, **options: Any) -> Content:
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return FORMATS[form].read(path, Options(**options))


def said(content: Content) -> set[tuple[str, str, str, float]]:
    return {tuple(row) for row in content.answers}  # type: ignore[misc]


def predicted(content: Content) -> set[tuple[str, str, str, float]]:
    return {tuple(row) for row in content.predictions}  # type: ignore[misc]


# -- Label Studio ----------------------------------------------------------------------------------------------------


def result(kind: str, value: Any, control: str = "k", **more: Any) -> dict[str, Any]:
    return {"id": "x", "from_name": control, "to_name": "v", "type": kind, "value": {kind: value}, **more}


STUDIO = [
    {
        "id": 11,
        "data": {"video": "/data/upload/1/abcdef01-a.mp4", "title": "A title", "id": 3},
        "annotations": [
            {"completed_by": 3, "was_cancelled": False, "ground_truth": True, "updated_at": "2026-01-02T00:00:00Z",
             "result": [result("choices", ["cat", "dog"]), result("rating", 4, "quality"),
                        result("number", 0.5, "share"), result("taxonomy", [["animals", "bird"], ["things"]]),
                        result("choices", ["No"], "outdoors"),
                        result("videorectangle", [], "box") | {"value": {"labels": ["car"], "sequence": []}}]},
            {"completed_by": 3, "updated_at": "2026-01-01T00:00:00Z", "result": [result("choices", ["old"])]},
            {"completed_by": {"id": 5, "email": "bo@example.org", "first_name": "Bo"}, "result": []},
            {"completed_by": 9, "was_cancelled": True, "result": [result("choices", ["never"])]},
            17,
        ],
        "predictions": [
            {"model_version": "v1", "score": 0.25, "result": [result("choices", ["cat"])]},
            {"model_version": "v2", "score": None, "result": [result("choices", ["cat"], score=0.75)]},
            {"model_version": "", "result": [result("choices", ["dog"]), result("number", 0.125, "share")]},
            4,
        ],
    },
    {"id": 12, "data": {"image": "s3://bucket/b.png"}, "annotations": [], "predictions": []},
    {
        "id": 13,
        "data": {"video": "c.mp4"},
        "annotations": [{"completed_by": 3, "result": [
            result("timelinelabels", ["runs"]) | {"value": {"timelinelabels": ["runs"], "framesCount": 100,
                   "ranges": [{"start": 1, "end": 20}, {"start": 11, "end": 30}]}}]}],
    },
]  # fmt: skip
STUDIO[0]["data"] |= {"modality": "MRI", "topics": ["news"]}
A, C = "/data/upload/1/abcdef01-a.mp4", "c.mp4"


def test_label_studio_keeps_annotators_and_versions_apart(tmp_path: Path) -> None:
    content = read("label-studio", tmp_path / "x.json", STUDIO)
    assert said(content) == {
        (A, "cat", "3", 1.0), (A, "dog", "3", 1.0), (A, "quality", "3", 0.8), (A, "share", "3", 0.5),
        (A, "bird", "3", 1.0), (A, "things", "3", 1.0), (A, "outdoors", "3", 0.0), (A, "car", "3", 1.0),
        (C, "runs", "3", 1.0),
    }  # fmt: skip
    assert predicted(content) == {
        (A, "cat", "v1", 0.25), (A, "cat", "v2", 0.75), (A, "dog", "unnamed", 1.0), (A, "share", "unnamed", 0.125),
    }  # fmt: skip
    # Bo looked at it and gave nothing; whoever cancelled did not.
    assert set(content.reviewed) == {(A, "3"), (A, "bo@example.org"), (C, "3")}
    assert content.samples[A].further == {"title": "A title", "id": "3"}
    assert {name: sample.modality for name, sample in content.samples.items()} == {
        A: "video", "s3://bucket/b.png": "image", C: "video",
    }  # fmt: skip
    assert dict(content.counts) == {
        "older annotations of a task by the same annotator": 1,
        "annotations that were cancelled": 1,
        "annotations that the file has by number only": 1,
        "predictions without a score, taken for 1": 1,
    }
    assert content.remarks == ["Controls that ask yes or no are topics: outdoors."]


def test_label_studio_by_other_options(tmp_path: Path) -> None:
    content = read("label-studio", tmp_path / "x.json", STUDIO, spans="share", taxonomy="path", rating_max=10)
    assert {(C, "runs", "3", 0.3), (A, "animals / bird", "3", 1.0), (A, "quality", "3", 0.4)} <= said(content)


def test_label_studios_configuration_says_what_excludes_what(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(
        '<View><Video name="v" value="$video"/><Choices name="k" toName="v"><Choice value="cat"/><Choice value="dog"/>'
        '</Choices><Choices name="m" toName="v" choice="multiple"><Choice value="silent"/></Choices></View>'
    )
    annotations = [{"completed_by": 1, "result": [result("choices", ["dog"])]}]
    content = read("label-studio", tmp_path / "x.json", [{"data": {"video": "a.mp4"}, "annotations": annotations}])
    assert said(content) == {("a.mp4", "dog", "1", 1.0), ("a.mp4", "cat", "1", 0.0)}
    assert list(content.topics) == ["cat", "dog", "silent"]


def test_json_min_is_read_with_what_it_has(tmp_path: Path) -> None:
    flat = {"video": "a.mp4", "title": "Cat", "id": 4, "k": {"choices": ["cat", "dog"]}, "one": "bird", "n": 0.5,
            "t": [{"timelinelabels": ["runs"], "ranges": [{"start": 1, "end": 2}]}], "tree": [["x", "leaf"]],
            "annotator": 2, "annotation_id": 9, "created_at": "", "updated_at": "", "lead_time": 1.5}  # fmt: skip
    content = read("label-studio", tmp_path / "x.json", [flat])
    assert said(content) == {("a.mp4", topic, "2", 1.0) for topic in ("cat", "dog", "bird", "runs", "leaf")} | {
        ("a.mp4", "n", "2", 0.5)
    }
    assert content.samples["a.mp4"].further == {"title": "Cat"}


def test_what_a_task_asks_for_is_written_and_comes_back(tmp_path: Path) -> None:
    content = Content(topics={"cat": None, "dog": None, "bird": None})
    content.samples = {"1": Sample("1", "a.mp4", modality="video"), "2": Sample("2", "b.png", modality="image")}
    content.asked = {"1": ("dog", "cat"), "2": ("bird",)}
    json_file, config = FORMATS["label-studio"].write(content, tmp_path / "ask.json", Options())
    assert 'choice="multiple" value="$topics"' in config.read_text()
    assert json.loads(json_file.read_text())[0]["data"]["topics"] == [{"value": "dog"}, {"value": "cat"}]
    back = read("label-studio", json_file)
    assert back.asked == content.asked
    assert list(back.topics) == ["cat", "dog", "bird"]
    assert not back.answers


def test_a_control_that_is_named_as_a_key_of_the_data_is_a_topic_and_not_that_keys_text(tmp_path: Path) -> None:
    tasks = [
        {"data": {"video": f"{n}.mp4", "title": f"clip {n}", "topic1": "cat"}, "annotations": [{"completed_by": 1,
         "result": [result("choices", [word], "title"), result("choices", [word], "topic1")]}]}
        for n, word in enumerate(("yes", "no"))
    ]  # fmt: skip
    content = read("label-studio", tmp_path / "x.json", tasks)
    assert said(content) == {(f"{n}.mp4", topic, "1", 1.0 - n) for n in (0, 1) for topic in ("title", "cat")}


def test_a_long_file_is_read_record_by_record(tmp_path: Path) -> None:
    many = [{"id": n, "data": {"video": f"{n}.mp4", "title": "x" * 2000}, "annotations": []} for n in range(2000)]
    assert len(read("label-studio", tmp_path / "x.json", many).samples) == 2000
    lines = "\n".join(json.dumps(task) for task in many)
    assert len(read("label-studio", tmp_path / "lines.json", lines).samples) == 2000


@pytest.mark.parametrize(
    "content",
    [
        "", "[1, 2", "nonsense", '[{"data": {"video": "a.mp4"}}] more', "[" * 100_000, [3], [{"data": 3}],
        [{"data": {"text": "no media"}}],
        [{"data": {"video": "a.mp4"}, "annotations": 3}],
        [{"data": {"video": "a.mp4"}, "annotations": [{"result": 3}]}],
        [{"data": {"video": "a.mp4"}, "annotations": [{"result": [result("choices", [""])]}]}],
        [{"data": {"video": "a.mp4"}, "annotations": [{"result": [result("number", 7)]}]}],
        '[{"data": {"video": "a.mp4"}, "annotations": [{"result": [{"from_name": "k", "type": "number", '
        '"value": {"number": NaN}}]}]}]',
        [{"data": {"video": "a.mp4"}, "predictions": [{"score": 1.5, "result": [result("choices", ["x"])]}]}],
        [{"data": {"video": "a.mp4"}, "annotations": [{"result": [result("taxonomy", [["a", "x"], ["b", "x"]])]}]}],
        [{"data": {"sample_id": "a\nb", "video": "a.mp4"}}],
        [{"data": {"sample_id": "1", "video": "a.mp4"}}, {"data": {"sample_id": "1", "video": "b.mp4"}}],
    ],
)  # fmt: skip
def test_a_bad_file_of_label_studio_is_refused_by_task(content: Any, tmp_path: Path) -> None:
    if content == "":
        assert not read("label-studio", tmp_path / "x.json", content).samples
    else:
        refused(lambda: read("label-studio", tmp_path / "x.json", content))


def test_a_share_needs_the_clips_length(tmp_path: Path) -> None:
    task = json.loads(json.dumps(STUDIO[2]))
    del task["annotations"][0]["result"][0]["value"]["framesCount"]
    refused(lambda: read("label-studio", tmp_path / "x.json", [task], spans="share"))


# -- CVAT ------------------------------------------------------------------------------------------------------------

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><id>5</id><name>t</name><labels><label><name>cat</name><type>tag</type></label>
<label><name>silent</name></label></labels>
<owner><username>boss</username><email>b@example.org</email></owner>
<assignee><username>anna</username></assignee></task></meta>
<image id="0" name="a.png" subset="Train"><tag label="cat" source="manual"><attribute name="tame">true</attribute>
<attribute name="colour">black</attribute></tag><box label="d&#246;g" xtl="1" ytl="1" xbr="2" ybr="2"></box></image>
<image id="1" name="b.png"><tag label="cat" source="auto"></tag></image>
<image id="2" name="c.png"></image>
</annotations>"""


def test_cvat_says_what_is_there_and_of_nothing_else(tmp_path: Path) -> None:
    content = read("cvat", tmp_path / "x.xml", CVAT)
    assert said(content) == {("a.png", "cat", "anna", 1.0), ("a.png", "dög", "anna", 1.0)}
    assert predicted(content) == {("b.png", "cat", "auto", 1.0)}
    assert list(content.topics) == ["cat", "silent", "dög"]
    assert set(content.reviewed) == {(name, "anna") for name in ("a.png", "b.png", "c.png")}
    assert content.samples["a.png"].split == "Train"
    assert content.counts["attributes, which are read where --labels names them"] == 2
    content = read("cvat", tmp_path / "x.xml", CVAT, labels=("tame", "colour"))
    assert {("a.png", "tame", "anna", 1.0), ("a.png", "black", "anna", 1.0)} <= said(content)


def test_cvats_tracks_are_of_their_video(tmp_path: Path) -> None:
    box = '<box frame="0" outside="{}" occluded="0" keyframe="1"></box>'
    content = read("cvat", tmp_path / "x.xml", (
        "<annotations><version>1.1</version><meta><task><id>1</id><owner><username>boss</username></owner></task>"
        f'<source>clip.mp4</source></meta><track id="0" label="car">{box.format(0)}</track>'
        f'<track id="1" label="ghost">{box.format(1)}</track></annotations>'
    ))  # fmt: skip
    assert said(content) == {("clip.mp4", "car", "boss", 1.0)}
    assert content.counts["tracks that are never inside of their video"] == 1


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
)


@pytest.mark.parametrize(
    "content",
    [
        BOMB + "]><annotations>&j;</annotations>",
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>&a;</annotations>',
        '<!DOCTYPE annotations SYSTEM "http://127.0.0.1:9/x.dtd"><annotations/>',
        "<annotations>", "{}", "", "<html></html>", '<?xml version="1.0" encoding="nonsense"?><annotations/>',
        "<a>" * 5000, '<annotations><image id="1"/></annotations>',
        '<annotations><track id="1" label="x"/></annotations>',
        '<annotations><image id="1" name="a.png"><tag label=" "/></image></annotations>',
    ],
)  # fmt: skip
def test_a_bad_xml_is_refused_before_it_grows(content: str, tmp_path: Path) -> None:
    refused(lambda: read("cvat", tmp_path / "x.xml", content))


# -- COCO ------------------------------------------------------------------------------------------------------------

COCO: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 3, "height": 3, "neg_category_ids": [8]},
        {"id": 2, "file_name": "v/1.png", "video_id": 5},
    ],
    "videos": [{"id": 5, "name": "v"}, {"id": 6, "file_name": "w.mp4"}],
    "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 1]},
        {"id": 2, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2]},
        {"id": 3, "image_id": 2, "category_id": 8, "score": 0.25},
        {"id": 4, "image_id": 2, "category_id": 8, "score": 0.75},
        {"id": 5, "video_id": 6, "category_id": 8},
    ],
}


def test_coco_has_presence_scores_and_lviss_negatives(tmp_path: Path) -> None:
    content = read("coco", tmp_path / "model.json", COCO, annotator="anna")
    assert said(content) == {
        ("a.png", "cat", "anna", 1.0), ("a.png", "dog", "anna", 0.0), ("w.mp4", "dog", "anna", 1.0),
    }  # fmt: skip
    assert predicted(content) == {("v/1.png", "dog", "model", 0.75)}
    assert content.samples["v/1.png"].group == "v"
    assert ("v/1.png", "anna") in content.reviewed


@pytest.mark.parametrize(
    "change",
    [
        {"categories": None}, {"images": 3}, {"annotations": [{"id": 1, "image_id": 9, "category_id": 7}]},
        {"annotations": [{"id": 1, "image_id": 1, "category_id": 9}]}, {"images": [{"id": 1}]},
        {"annotations": [{"id": 1, "image_id": 1, "category_id": 7, "score": 3}]},
        {"categories": [{"id": 7, "name": None}]},
        {"images": [{"id": 1, "file_name": "a.png", "neg_category_ids": [99]}], "annotations": []},
    ],
)  # fmt: skip
def test_a_bad_coco_file_is_refused_by_record(change: dict[str, Any], tmp_path: Path) -> None:
    refused(lambda: read("coco", tmp_path / "x.json", COCO | change))


# -- FiftyOne --------------------------------------------------------------------------------------------------------


def label(name: str, **more: Any) -> dict[str, Any]:
    return {"_cls": "Classification", "label": name, **more}


def packed(values: list[float]) -> dict[str, Any]:
    file = io.BytesIO()
    np.save(file, np.array(values, np.float32))
    return {"$binary": {"base64": base64.b64encode(zlib.compress(file.getvalue())).decode(), "subType": "00"}}


def fiftyone() -> dict[str, Any]:
    many = {"_cls": "Classifications", "classifications": [label("cat", confidence=0.5), label("dog", confidence=0.75)]}
    boxes = [{"_cls": "Detection", "label": "cat", "confidence": value} for value in (0.25, 0.5)]
    first = {
        "filepath": "/home/x/data/a.png", "tags": ["val", "odd"], "_media_type": "image",
        "metadata": {"_cls": "ImageMetadata"}, "ground_truth": label("cat"), "clip": many,
        "boxes": {"_cls": "Detections", "detections": boxes}, "net": label("cat", logits=packed([0.0, 0.0])),
        "listed": label("dog", logits=[-1e9, 0.0]), "second_look": label("dog"), "weather": "rain",
    }  # fmt: skip
    info = {"classes": {"net": ["cat", "dog"], "listed": ["cat", "dog"]}}
    return {"info": info, "samples": [first, {"filepath": "b.mp4", "bare": label("dog", logits=[1.0], confidence=0.5)}]}


def test_fiftyones_fields_are_people_and_models(tmp_path: Path) -> None:
    content = read("fiftyone", tmp_path / "samples.json", fiftyone(), human=("ground_truth", "second_look"))
    name = "/home/x/data/a.png"
    assert said(content) == {(name, "cat", "ground_truth", 1.0), (name, "dog", "second_look", 1.0)}
    assert predicted(content) == {
        (name, "cat", "clip", 0.5), (name, "dog", "clip", 0.75), (name, "cat", "boxes", 0.5),
        (name, "cat", "net", 0.5), (name, "dog", "net", 0.5), (name, "cat", "listed", 0.0),
        (name, "dog", "listed", 1.0),
        ("b.mp4", "dog", "bare", 0.5),
    }  # fmt: skip
    assert content.samples[name].split == "val"
    assert content.samples[name].further == {"weather": "rain"}
    assert content.counts["logits whose classes nobody names"] == 1
    # The folder of an export is as good as its file.
    assert predicted(read("fiftyone", tmp_path, human=("nobody",))) > predicted(content)


@pytest.mark.parametrize(
    "content",
    [
        {}, [], {"samples": [{}]}, {"samples": [{"filepath": "a.png", "m": label("x", confidence=2)}]},
        {"default_classes": ["a", "b"], "samples": [{"filepath": "a.png", "m": label("a", logits=[1.0])}]},
        {"default_classes": ["a"], "samples": [{"filepath": "a.png", "m": label("a", logits={"$binary": "AAAA"})}]},
        {"samples": [{"filepath": "a.png", "ground_truth": label("")}]},
    ],
)  # fmt: skip
def test_a_bad_file_of_fiftyone_is_refused_by_sample(content: Any, tmp_path: Path) -> None:
    refused(lambda: read("fiftyone", tmp_path / "samples.json", content))


# -- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_a_class_and_folders_of_splits_are_splits(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/cat/deep/2.png", "val/dog/1.png", "train/3.png"):
        picture(tmp_path / "in" / name, len(name))
    (tmp_path / "in" / "train" / "notes.txt").write_text("x")
    content = read("folders", tmp_path / "in", annotator="anna")
    assert said(content) == {
        ("train/cat/1.png", "cat", "anna", 1.0), ("train/cat/deep/2.png", "cat", "anna", 1.0),
        ("val/dog/1.png", "dog", "anna", 1.0),
    }  # fmt: skip
    assert {sample.id: sample.split for sample in content.samples.values()}["val/dog/1.png"] == "val"
    assert content.counts["files that are neither video nor picture by their ending"] == 1
    picture(tmp_path / "in" / "extra" / "1.png", 9)
    # One folder that is no split, and all of them are classes.
    assert {"train", "val", "extra"} == set(read("folders", tmp_path / "in").topics)
    refused(lambda: read("folders", tmp_path / "in" / "extra" / "1.png"))
