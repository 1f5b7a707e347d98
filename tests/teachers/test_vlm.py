"""Kind `vlm`: tiny models of three families, of transformers' own classes, over the frames of real, tiny clips."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
import yaml

from t2t.data.embeddings.decode import read_frames
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.kinds import vlm as kind
from t2t.teachers.labeling import answers
from t2t.teachers.yes_or_no import YesOrNo
from tests.helpers.clips import random_clip
from tests.helpers.documented import refused
from tests.helpers.services import serving
from tests.helpers.vlms import FAMILIES, SIDE, tiny
from tests.helpers.worlds import ROOT

TOPICS = ("red square", "a dog", "zebra crossings")
CLIPS = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for family in FAMILIES:
        tiny(family, root / family)
    for i in range(CLIPS):
        random_clip(root / f"clip-{i}.mp4", seed=i, count=1 + i, side=40)
    (root / "empty.mp4").write_bytes(b"")
    return root


@pytest.fixture
def samples(root) -> pa.Table:
    ids = [*(f"clip-{i}" for i in range(CLIPS)), "empty"]
    return pa.table({"sample_id": ids, "path": [str(root / f"{name}.mp4") for name in ids]})


def teacher(root: Path, work: Path | None = None, **changes: Any) -> kind.Teacher:
    dataset = SimpleNamespace(root=root, topics=TOPICS, name="tiny")
    content = {"id": "seer", "kind": "vlm", "model": "llava", "frames": 2, "size": SIDE, "topics_per_block": 4,
               "minimum_mass": 0, **changes}  # fmt: skip
    return cast("kind.Teacher", build(parse_entry(content, "test"), TeacherContext(cast("Any", dataset), work or root)))


def labels(of: kind.Teacher, samples: pa.Table, topics: tuple[str, ...] = TOPICS) -> dict[tuple[str, str], float]:
    """What it says, through the checker that all rows pass."""
    table = pa.concat_tables(list(answers(of, samples, topics)))
    keys = zip(table["sample_id"].to_pylist(), table["topic"].to_pylist(), strict=True)
    return dict(zip(keys, table["confidence"].to_pylist(), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_prefix_says_what_asking_anew_says(root, samples, family):
    of = teacher(root, model=family)
    found = labels(of, samples)
    assert of.closed.shared
    assert set(found) == {(f"clip-{i}", topic) for i in range(CLIPS) for topic in TOPICS}
    assert len(set(found.values())) == len(found)
    of.closed.shared = False
    anew = labels(of, samples)
    assert "No prefix is shared" in of.remarks[-1]
    for pair, confidence in found.items():
        assert confidence == pytest.approx(anew[pair], abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_confidence_is_that_of_the_first_answer_token(root, family):
    """Computed with the model and its processor alone."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    of = teacher(root, model=family, prompt="Is it there? {}").closed
    frames = read_frames(root / "clip-2.mp4", 2, SIDE)
    model = AutoModelForImageTextToText.from_pretrained(root / family, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(root / family)
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Is it there? a dog"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    with torch.no_grad():
        z = model(**processor(text=[text], images=[list(frames)], return_tensors="pt")).logits[0, -1].double()
    p = z.softmax(-1)
    yes, no = float(p[of.yes].sum()), float(p[of.no].sum())
    told = of.ask(frames, ["a dog"])
    assert told.score[0] == pytest.approx(yes / (yes + no), abs=1e-5)
    assert (told.yes[0], told.no[0]) == pytest.approx((yes, no), abs=1e-5)


def test_other_topics_and_samples_change_no_label(root, samples):
    of = teacher(root)
    whole = labels(of, samples)
    more = labels(of, samples.slice(1, 1), ("green", "a dog", "blue", "red", "no", "a dog and a square"))
    assert more["clip-1", "a dog"] == pytest.approx(whole["clip-1", "a dog"], abs=1e-6)


@pytest.mark.parametrize("style", ["bytes", "unigram", "wordpiece"])
def test_answers_are_found_in_context(tmp_path, style):
    tiny("llava", tmp_path, style)
    of = YesOrNo(str(tmp_path), None, "Is it there? {}", ["yes"], ["no"], size=SIDE)
    written = {
        name: {str(of.tokenizer.decode([token])).strip() for token in getattr(of, name)} for name in ("yes", "no")
    }
    assert written["yes"]
    assert written["no"]
    assert all("yes".startswith(text.lower()) for text in written["yes"])
    assert all("no".startswith(text.lower()) for text in written["no"])
    assert not set(of.yes) & set(of.no)


def test_a_model_whose_prefix_cannot_be_shared_is_asked_anew(root, samples, monkeypatch, caplog):
    """The trap of positions in time, height and width: a suffix that begins where tokens are counted."""
    monkeypatch.setattr(YesOrNo, "_start", lambda self, inputs, length: length)
    of = teacher(root, model="qwen")
    assert not of.closed.shared
    assert "no prefix is shared between topics" in caplog.text
    monkeypatch.undo()
    right = labels(teacher(root, model="qwen"), samples)
    assert labels(of, samples) == pytest.approx(right, abs=1e-5)


def test_a_model_that_does_not_answer_is_refused(root, samples):
    refused(lambda: labels(teacher(root, minimum_mass=0.2), samples))
    of = teacher(root)
    labels(of, samples)
    assert re.match(
        r"Yes has 0\.\d+ of the probability and no 0\.\d+, .*; it often begins with something else\.", of.remarks[0]
    )
    assert "'yes'" in of.remarks[1]


def test_what_changes_the_fingerprint(root, tmp_path):
    same = teacher(root).fingerprint()
    copy = shutil.copytree(root / "llava", tmp_path / "copy")
    for changes in ({"model": str(copy)}, {"minimum_mass": 0.1}, {"description": "x"},
                    {"prompt": kind.CLOSED_PRESETS["visual-evidence"]}):  # fmt: skip
        assert teacher(root, **changes).fingerprint() == same
    others = [{"prompt": "primary-focus"}, {"frames": 3}, {"prefill": "So:"}, {"score": "p_yes"}, {"crop": "centre"},
              {"yes_words": ["red"]}, {"no_words": ["blue"]}, {"topics_per_block": 8}, {"model": "qwen"}]  # fmt: skip
    seen = [same, *(teacher(root, **changes).fingerprint() for changes in others)]
    assert len(set(seen)) == len(seen)


def test_bad_entries_are_refused(root, tmp_path):
    refused(lambda: teacher(root, prompt="Is it there?"))
    refused(lambda: teacher(root, model="./nothing/here"))
    refused(lambda: teacher(root, yes_words=["same"], no_words=["same"]).fingerprint())
    refused(lambda: teacher(root, **yaml.safe_load("yes_words: [yes]")))


def test_the_pages_entries_work(root, samples, tmp_path):
    page = (ROOT / "docs" / "teachers" / "vlm.md").read_text(encoding="utf-8")
    entries = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    (root / "aliases.csv").write_text("text,topic\ndoggy,a dog\n")
    assert [entry.get("ask", "closed") for entry in entries] == ["closed", "closed", "open", "candidates"]
    for content in entries:
        closed = "ask" not in content
        changes = {**content, "id": "seer", "model": "llava", "frames": 2, "minimum_mass": 0 if closed else 0.2}
        of = teacher(root, tmp_path, **changes, **({} if closed else {"topics_per_block": 32}))
        found = labels(of, samples)
        if closed:
            assert len(found) == CLIPS * len(TOPICS)
        else:  # (One with random weights names nothing that anybody knows.)
            assert found == {}
            assert of.remarks[0].startswith("3 answers name ")


def test_a_topic_is_plain_text_whatever_it_holds(root, samples):
    """A model's own commands are none, and nothing that looks like a place is opened."""
    with serving() as (url, requests):
        odd = (
            f"{url}/x.png",
            "file:///etc/passwd",
            "/etc/passwd",
            "<image>",
            "a </s> dog",
            "{} and {{ 1 }}",
            "<video>",
        )
        for family in FAMILIES:
            of = teacher(root, model=family)
            found = labels(of, samples, (*odd, "a dog"))
            assert len(found) == CLIPS * (len(odd) + 1)
            ids = of.closed.ids(of.closed._text("a <image></s> dog", 2))
            assert ids.count(of.closed.media_id) == 2
            assert of.closed.tokenizer.eos_token_id not in ids
            assert labels(of, samples)["clip-0", "a dog"] == pytest.approx(found["clip-0", "a dog"], abs=1e-5)
        assert requests == []


def test_a_prompt_that_is_too_long_is_refused(root, samples, tmp_path):
    shutil.copytree(root / "llava", tmp_path / "short")
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 60
    (tmp_path / "short" / "config.json").write_text(json.dumps(config))
    refused(lambda: labels(teacher(root, model=str(tmp_path / "short"), frames=4, prompt="{}"), samples))
    of = teacher(root, model=str(tmp_path / "short"), frames=1, prompt="{}")
    refused(lambda: labels(of, samples, ("a dog", "a dog that goes on and on, over every zebra crossing of the town")))
