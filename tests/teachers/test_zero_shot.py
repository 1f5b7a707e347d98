"""Kind `zero-shot`: tiny models of transformers' own classes over the frames of real, tiny clips."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from t2t.data.embeddings import hub
from t2t.data.embeddings.decode import read_frames
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.kinds import zero_shot as kind
from t2t.teachers.labeling import answers
from tests.helpers.clips import random_clip
from tests.helpers.documented import refused
from tests.helpers.image_text import open_clip_folder, tiny
from tests.helpers.worlds import ROOT

FAMILIES = ("clip", "siglip", "siglip2")
TOPICS = ("dog", "red square", "blue circle", "two people")
PHOTO = "This is a photo of {}."
CLIPS = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for family in FAMILIES:
        tiny(family, root / family)
    for i in range(CLIPS):
        random_clip(root / f"clip-{i}.mp4", seed=i, count=1 + 2 * i, side=40)
    (root / "empty.mp4").write_bytes(b"")
    return root


@pytest.fixture
def samples(root) -> pa.Table:
    ids = [*(f"clip-{i}" for i in range(CLIPS)), "empty"]
    paths = [str(root / f"{name}.mp4") for name in ids]
    return pa.table({"sample_id": ids, "path": paths, "split": ["train", *["unlabeled"] * CLIPS]})


def teacher(root: Path, work: Path, samples: pa.Table, known: tuple[str, ...] = TOPICS, **changes: Any) -> kind.Teacher:
    dataset = SimpleNamespace(root=root, topics=known, name="tiny", samples=samples)
    content = {"id": "seer", "kind": "zero-shot", "model": "clip", "frames": 4} | changes
    return cast("kind.Teacher", build(parse_entry(content, "test"), TeacherContext(cast("Any", dataset), work)))


def labels(of: kind.Teacher, samples: pa.Table, topics: tuple[str, ...] = TOPICS) -> dict[tuple[str, str], float]:
    """What it says, through the checker that all rows pass."""
    table = pa.concat_tables(list(answers(of, samples, topics)))
    keys = zip(table["sample_id"].to_pylist(), table["topic"].to_pylist(), strict=True)
    return dict(zip(keys, table["confidence"].to_pylist(), strict=True))


def own_scores(root: Path, family: str, clip: str, topics: tuple[str, ...]) -> list[float]:
    """What transformers' pipeline says of a clip's first frame."""
    from transformers import AutoImageProcessor, AutoModelForZeroShotImageClassification, AutoTokenizer, pipeline

    folder = root / family
    crop = "centre" if family == "clip" else "squash"
    way = "bilinear" if family == "siglip2" else "bicubic"
    frame = read_frames(root / f"{clip}.mp4", 1, 32, cast("Any", crop), cast("Any", way))[0]
    ask = pipeline(
        "zero-shot-image-classification",
        model=AutoModelForZeroShotImageClassification.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        image_processor=AutoImageProcessor.from_pretrained(folder),
    )
    scores = ask(Image.fromarray(frame), candidate_labels=list(topics), hypothesis_template=PHOTO)
    found = {score["label"]: score["score"] for score in scores}
    return [found[topic] for topic in topics]


@pytest.mark.parametrize(("family", "confidence"), [("clip", "softmax"), ("siglip", "auto"), ("siglip2", "sigmoid")])
def test_scores_are_those_of_the_pipeline(root, samples, tmp_path, family, confidence):
    found = labels(teacher(root, tmp_path, samples, model=family, confidence=confidence, frames=1), samples)
    assert set(found) == {(f"clip-{i}", topic) for i in range(CLIPS) for topic in TOPICS}
    for i in range(CLIPS):
        ours = [found[f"clip-{i}", topic] for topic in TOPICS]
        # Embeddings are kept in float16.
        np.testing.assert_allclose(ours, own_scores(root, family, f"clip-{i}", TOPICS), atol=2e-3)
    assert np.ptp(list(found.values())) > 0.1


@pytest.mark.parametrize("family", ["altclip", "chinese_clip", "clipseg", "metaclip_2"])
def test_kin_of_clip_are_loaded(samples, tmp_path, root, family):
    """On loading, a model's own logits are compared with scale times cosine."""
    tiny(family, tmp_path / family)
    found = labels(teacher(root, tmp_path, samples, model=str(tmp_path / family)), samples)
    assert len(found) == CLIPS * len(TOPICS)
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_topic_and_other_samples_change_no_label(root, samples, tmp_path, family, pool):
    entry = {"model": family, "pool": pool}
    whole = labels(teacher(root, tmp_path / "a", samples, **entry), samples)
    more = teacher(root, tmp_path / "b", samples, ("ball", *TOPICS, "cat"), **entry)
    together = labels(more, samples, ("ball", *TOPICS, "cat"))
    assert {pair: together[pair] for pair in whole} == whole
    alone = labels(more, samples.slice(2, 1), ("red square",))
    assert alone == {("clip-2", "red square"): whole["clip-2", "red square"]}
    assert more.fingerprint() == teacher(root, tmp_path / "a", samples, **entry).fingerprint()


def test_background_is_the_topics_share(root, samples, tmp_path):
    of = teacher(root, tmp_path, samples, background=["something", "a cat", "Dog"], frames=1)
    found = labels(of, samples)
    texts = np.stack([of.model.texts([PHOTO.format(t)])[0] for t in (*TOPICS, "something", "a cat", "Dog")])
    for i in range(CLIPS):
        odds = np.exp(of.model.scale * texts @ of.model.encode(read_frames(root / f"clip-{i}.mp4", 1, 32, "centre"))[0])
        assert found[f"clip-{i}", "red square"] == pytest.approx(odds[1] / (odds[1] + odds[4:].sum()), abs=2e-3)
        # It does not compete with itself.
        assert found[f"clip-{i}", "dog"] == pytest.approx(odds[0] / (odds[0] + odds[4:6].sum()), abs=2e-3)


def test_templates_are_averaged_as_embeddings(root, samples, tmp_path):
    templates = [PHOTO, "a video of a {}"]
    of = teacher(root, tmp_path, samples, model="siglip", templates=templates, frames=1)
    found = labels(of, samples)
    mean = of.model.texts([text.replace("{}", "dog") for text in templates]).mean(axis=0)
    mean /= np.linalg.norm(mean)
    image = of.model.encode(read_frames(root / "clip-1.mp4", 1, 32))[0].astype(np.float32)
    logit = of.model.scale * image @ mean + of.model.bias
    assert found["clip-1", "dog"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=2e-3)


def test_max_is_that_of_the_best_frame(root, samples, tmp_path):
    of = teacher(root, tmp_path, samples, model="siglip", pool="max")
    found = labels(of, samples)
    frames = of.model.encode(read_frames(root / "clip-3.mp4", 4, 32)).astype(np.float32)
    logits = of.model.scale * frames @ of.model.texts([PHOTO.format("dog").lower()])[0] + of.model.bias
    assert found["clip-3", "dog"] == pytest.approx(1 / (1 + np.exp(-logits.max())), abs=2e-3)
    mean = labels(teacher(root, tmp_path, samples, model="siglip"), samples)
    assert mean["clip-3", "dog"] != found["clip-3", "dog"]


def test_prior_is_the_mean_confidence(root, samples, tmp_path):
    of = teacher(root, tmp_path, samples, confidence="prior", prior=0.2)
    found = labels(of, samples)
    mean = np.mean([value for (name, _), value in found.items() if name != "clip-0"])  # clip-0 is not unlabeled
    assert mean == pytest.approx(0.2, abs=1e-4)


def test_softmax_is_over_all_topics_whichever_are_asked(root, samples, tmp_path):
    found = labels(teacher(root, tmp_path, samples, confidence="softmax"), samples)
    assert sum(found["clip-1", topic] for topic in TOPICS) == pytest.approx(1, abs=1e-5)
    some = labels(teacher(root, tmp_path, samples, confidence="softmax"), samples, ("dog",))
    assert some["clip-1", "dog"] == found["clip-1", "dog"]


def test_frames_are_encoded_once(root, samples, tmp_path, monkeypatch):
    labels(teacher(root, tmp_path, samples), samples)
    again = teacher(root, tmp_path, samples, templates=["{}"], pool="max")
    monkeypatch.setattr(again.model, "encode", lambda frames: pytest.fail("encoded again"))
    assert len(labels(again, samples.slice(0, CLIPS), ("ball",))) == CLIPS


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_has_the_numbers_that_it_has_alone(root, samples, tmp_path, family):
    """Bit for bit, whichever texts of whichever lengths are asked with it, in whichever place of a block."""
    model = teacher(root, tmp_path, samples, model=family).model
    texts = [" ".join(["dog", "red", "cat", "a", "two"][i % 5] for i in range(n, n + 1 + n % 23)) for n in range(70)]
    whole = model.texts(texts)
    assert whole.shape == (70, model.dim)
    # (Of Gemma's rules, which transformers takes for siglip2, our word list leaves some words out.)
    assert len({row.tobytes() for row in whole}) >= 20
    for order in (texts[::-1], texts[30:] + texts[:30]):
        for text, row in zip(order, model.texts(order), strict=True):
            assert row.tobytes() == whole[texts.index(text)].tobytes()
    for number in (0, 1, 22, 45, 69):
        assert model.texts(texts[number : number + 1]).tobytes() == whole[number].tobytes()
    assert model.texts([]).shape == (0, model.dim)
    # Blocks were taken, not one text after the other: this machine's products of matrices allow it.
    assert set(model.__dict__["_steps"].values()) == {16}


def test_texts_go_one_by_one_where_a_block_would_change_their_numbers(root, samples, tmp_path, monkeypatch):
    model = teacher(root, tmp_path, samples).model
    plain, calls = model._text_features, []

    def uneven(texts, width):
        calls.append(len(texts))
        return plain(texts, width) + 1e-6 * np.arange(len(texts))[:, None]

    monkeypatch.setattr(model, "_text_features", uneven)
    whole = model.texts(["dog", "cat", "bird"])
    assert calls == [16, 16, 1, 1, 1]
    assert model.texts(["bird"]).tobytes() == whole[2].tobytes()


def test_a_text_is_encoded_once_for_all_processes_and_entries(root, samples, tmp_path, monkeypatch):
    found = labels(teacher(root, tmp_path, samples), samples)
    again = teacher(root, tmp_path, samples)
    monkeypatch.setattr(again.model, "texts", lambda texts: pytest.fail("encoded again"))
    assert labels(again, samples) == found
    # Whatever becomes of the frames: the texts are the same.
    fewer = teacher(root, tmp_path, samples, frames=2, pool="max")
    monkeypatch.setattr(fewer.model, "texts", lambda texts: pytest.fail("encoded again"))
    assert len(labels(fewer, samples)) == len(found)
    # Of a new topic the new sentence only; another model's are kept apart.
    more, asked = teacher(root, tmp_path, samples), []
    plain = more.model.texts
    monkeypatch.setattr(more.model, "texts", lambda texts: asked.append(list(texts)) or plain(texts))
    labels(more, samples, (*TOPICS, "ball"))
    assert asked == [["This is a photo of ball."]]
    assert len(labels(teacher(root, tmp_path, samples, model="siglip"), samples)) == len(found)
    # What is damaged on disk is made anew, and is the same.
    shards = sorted((tmp_path / "embeddings" / "texts").rglob("*.safetensors"))
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[:-4] + b"\xff\xff\xff\xff")
    assert labels(teacher(root, tmp_path, samples), samples) == found


def test_what_changes_the_fingerprint(root, samples, tmp_path):
    def fingerprint(known: tuple[str, ...] = TOPICS, table: pa.Table = samples, **changes: Any) -> str:
        return teacher(root, tmp_path, table, known, **changes).fingerprint()

    same = fingerprint()
    copy = shutil.copytree(root / "clip", tmp_path / "copy")
    for changes in ({"model": str(copy)}, {"crop": "centre"}, {"confidence": "background"}, {"batch_size": 3},
                    {"description": "a sentence"}, {"known": (*TOPICS, "cat")}):  # fmt: skip
        assert fingerprint(**changes) == same, changes
    softmax, prior = {"confidence": "softmax"}, {"confidence": "prior", "prior": 0.1}
    others = [{"templates": ["{}"]}, {"pool": "max"}, {"frames": 3}, {"crop": "squash"}, {"lowercase": True}, softmax,
              {"background": ["a cat"]}, prior, {**prior, "prior": 0.2}, {"model": "siglip"}]  # fmt: skip
    others += [{**softmax, "known": (*TOPICS, "cat")}, {**prior, "known": (*TOPICS, "cat")}]
    others += [{**prior, "table": samples.slice(0, 3)}]
    weights = load_file(copy / "model.safetensors")
    weights["logit_scale"] += 0.01
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    others.append({"model": str(copy)})
    for step in ("do_normalize", "do_rescale", "image_mean"):
        other = shutil.copytree(root / "clip", tmp_path / step)
        settings = json.loads((other / "preprocessor_config.json").read_text())
        settings[step] = [0.25, 0.5, 0.5] if step == "image_mean" else False
        (other / "preprocessor_config.json").write_text(json.dumps(settings))
        others.append({"model": str(other)})
    seen = [same, *(fingerprint(**changes) for changes in others)]
    assert len(set(seen)) == len(seen)


def test_no_sample_can_be_read(root, samples, tmp_path):
    assert list(teacher(root, tmp_path, samples).label(samples.slice(CLIPS), TOPICS)) == []


def test_what_the_text_side_cannot_tell_is_told(root, samples, tmp_path):
    of = teacher(root, tmp_path, samples)
    labels(of, samples, ("dog", "xylophone", "dog " * 30 + "cat"))
    assert len(of.remarks) == 2
    assert re.match(
        r"1 of 3 topics are longer, with their templates, than the 32 tokens that clip reads", of.remarks[0]
    )
    assert of.remarks[1] == "Of 1 topics the tokenizer knows not a word: xylophone."


@pytest.mark.parametrize(
    "changes",
    [
        {"templates": ["a photo"]},
        {"templates": ["{} and {}"]},
        {"templates": ["a {}", "a {}"]},
        {"confidence": "prior"},
        {"prior": 0.1},
        {"templates": []},
    ],
)
def test_an_entry_that_does_not_fit_is_refused(root, samples, tmp_path, changes):
    refused(lambda: teacher(root, tmp_path, samples, **changes))


def spoilt(root: Path, tmp_path: Path, how: str) -> Path:
    """A copy of the CLIP checkpoint with something wrong."""
    folder = shutil.copytree(root / "clip", tmp_path / how)
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    if how == "no-config":
        (folder / "config.json").unlink()
    elif how == "no-json":
        (folder / "config.json").write_text("[")
    elif how == "pickled":
        weights.rename(folder / "pytorch_model.bin")
    elif how == "pairwise":
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "blip-2"}))
    elif how == "other-type":
        (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    elif how == "cut":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif how == "part":
        save_file({k: v for k, v in load_file(weights).items() if "projection" not in k}, weights, {"format": "pt"})
    elif how == "no-tokenizer":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()
    elif how == "no-processor":
        (folder / "preprocessor_config.json").unlink(missing_ok=True)
        (folder / "processor_config.json").unlink(missing_ok=True)
    elif how == "vocabulary":
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        content["model"]["vocab"]["dog"] = 400
        file.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("how", ["no-config", "no-json", "pickled", "pairwise"])
def test_a_bad_folder_is_refused_before_anything_is_loaded(root, samples, tmp_path, how):
    refused(lambda: teacher(root, tmp_path, samples, model=str(spoilt(root, tmp_path, how))))


@pytest.mark.parametrize("how", ["other-type", "cut", "part", "no-tokenizer", "no-processor", "vocabulary"])
def test_a_bad_checkpoint_is_refused(root, samples, tmp_path, how):
    of = teacher(root, tmp_path, samples, model=str(spoilt(root, tmp_path, how)))
    refused(lambda: list(of.label(samples, TOPICS)))


def test_a_folder_that_is_not_there_and_a_sigmoid_without_a_bias_are_refused(root, samples, tmp_path):
    refused(lambda: teacher(root, tmp_path, samples, model="./nothing/here"))
    refused(lambda: teacher(root, tmp_path, samples, confidence="sigmoid").fingerprint())


def test_a_name_without_a_hub_is_refused_at_once(root, samples, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(hub, "getproxies", dict)
    hub._unreachable.cache_clear()
    try:
        before = time.monotonic()
        refused(lambda: teacher(root, tmp_path, samples, model="nobody/no-such-model-here").fingerprint())
        assert time.monotonic() - before < 5
    finally:
        hub._unreachable.cache_clear()


def test_the_pages_entries_work(root, samples, tmp_path):
    """Each with a tiny model in place of its own."""
    page = (ROOT / "docs" / "teachers" / "zero-shot.md").read_text(encoding="utf-8")
    entries = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert len(entries) >= 4
    models = {"scale": lambda: tiny("videoprism", tmp_path / "prism"), "plain": lambda: root / "clip"}
    for content in entries:
        if content.get("library") == "open_clip":
            pytest.importorskip("open_clip", reason="needs the package open_clip_torch")
            model = open_clip_folder(tmp_path / "open")
        else:
            model = models["scale" if "scale" in content else "plain"]()
        found = labels(teacher(root, tmp_path, samples, frames=None, **content_of(content, model)), samples)
        assert len(found) == CLIPS * len(TOPICS)


def content_of(content: dict[str, Any], model: Path) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "frames"} | {"id": "seer", "model": str(model)}
