"""Every family of dual encoders that kind `zero-shot` takes: tiny models of their own classes, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from t2t.data.embeddings.decode import read_frames
from t2t.data.embeddings.families import REFUSED
from t2t.data.embeddings.image_text import MODEL_TYPES
from t2t.data.embeddings.video_text import VIDEO_TYPES
from t2t.teachers import TeacherContext
from t2t.teachers.contract import CLAIMS, Case, small_dataset
from tests.helpers.clips import random_clip
from tests.helpers.documented import refused
from tests.helpers.image_text import SIDE, open_clip_folder, tiny
from tests.helpers.teacher_contract import TOPICS as CONTRACT_TOPICS
from tests.helpers.worlds import ROOT
from tests.teachers.test_zero_shot import TOPICS, labels, teacher

NEEDS_OPEN_CLIP = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None,
    reason="needs the package open_clip_torch: pip install 'teacher2task[open-clip]'",
)
PHOTO = "This is a photo of {}."
# What VideoPrism has to be told.
MORE: dict[str, dict[str, Any]] = {"videoprism": {"scale": 20.0}, "pe_video": {"frames": 2}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for i in range(3):
        random_clip(root / f"clip-{i}.mp4", seed=i, count=2 + 3 * i, side=40)
    (root / "empty.mp4").write_bytes(b"")
    return root


@pytest.fixture
def samples(root: Path) -> pa.Table:
    ids = ["clip-0", "clip-1", "clip-2", "empty"]
    return pa.table({"sample_id": ids, "path": [str(root / f"{name}.mp4") for name in ids], "split": ["unlabeled"] * 4})


@pytest.mark.parametrize("family", ["align", "blip", "tipsv2", "videoprism", "pe_video", "xclip"])
def test_a_family_labels(root: Path, samples: pa.Table, tmp_path: Path, family: str) -> None:
    """On loading, a model's own logits are compared with scale times cosine. (clip, siglip, siglip2, altclip,
    chinese_clip, clipseg and metaclip_2 are tried in test_zero_shot.py.)"""
    tiny(family, tmp_path / family)
    made = teacher(root, tmp_path, samples, model=str(tmp_path / family), **MORE.get(family, {}))
    found = labels(made, samples)
    assert set(found) == {(f"clip-{i}", topic) for i in range(3) for topic in TOPICS}
    assert len(set(found.values())) == len(found)
    backwards = samples.take(pa.array([3, 2, 1, 0]))
    again = teacher(root, tmp_path / "again", samples, model=str(tmp_path / family), **MORE.get(family, {}))
    assert labels(again, backwards, TOPICS[::-1]) == found


def test_the_pages_table_is_what_is_taken_and_refused() -> None:
    page = (ROOT / "docs" / "teachers" / "zero-shot.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (taken|refused)", page, re.MULTILINE)
    assert {name for name, what in rows if what == "taken"} == {*MODEL_TYPES, *VIDEO_TYPES, "open_clip", "xclip"}
    assert {name for name, what in rows if what == "refused"} == set(REFUSED)


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_has_no_one_embedding_is_refused(root: Path, samples: pa.Table, tmp_path: Path, kind: str) -> None:
    folder = tiny("clip", tmp_path / "clip")
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    assert REFUSED[kind] in refused(lambda: teacher(root, tmp_path, samples, model=str(folder)))


# -- clips -----------------------------------------------------------------------------------------------------------


def test_videoprism_says_what_its_own_model_says(root: Path, samples: pa.Table, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, VideoPrismClipModel

    folder = tiny("videoprism", tmp_path / "videoprism")
    made = teacher(root, tmp_path, samples, model=str(folder), scale=20.0, confidence="softmax")
    found = labels(made, samples)
    model, tokenizer = VideoPrismClipModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = [PHOTO.replace("{}", topic) for topic in TOPICS]
    tokens = tokenizer(texts, padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    # The shortest clip has two frames, each of which stands twice among the four that the model takes.
    for name, index in (("clip-0", [0, 0, 1, 1]), ("clip-2", [0, 1, 2, 3])):
        frames = read_frames(root / f"{name}.mp4", 4, SIDE, "squash", "bicubic")[index]
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()[None] / 255
        with torch.no_grad():
            out = model(pixel_values_videos=pixels, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        p = (20.0 * out.video_embeds @ out.text_embeds.T).softmax(-1)[0]
        np.testing.assert_allclose([found[name, topic] for topic in TOPICS], p.numpy(), atol=5e-3)
    # A clip is decoded once, and one embedding kept of it.
    again = teacher(root, tmp_path, samples, model=str(folder), scale=20.0, templates=["{}"])
    again.model.encode_clip = lambda frames: pytest.fail("encoded again")  # type: ignore[attr-defined]
    assert len(labels(again, samples.slice(0, 3))) == 12
    assert again.store.view([again.store.hash_file(root / "clip-2.mp4")]).counts.tolist() == [1]


def test_pe_video_says_what_its_own_model_says(root: Path, samples: pa.Table, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer, AutoVideoProcessor

    folder = tiny("pe_video", tmp_path / "pe")
    found = labels(teacher(root, tmp_path, samples, model=str(folder), frames=2), samples)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    clip = torch.from_numpy(read_frames(root / "clip-1.mp4", 2, 384, "squash", "bilinear")).permute(0, 3, 1, 2)
    pixels = AutoVideoProcessor.from_pretrained(folder)(
        videos=[clip], do_resize=False, do_sample_frames=False, return_tensors="pt"
    )
    tokens = tokenizer([PHOTO.replace("{}", topic) for topic in TOPICS], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**pixels, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).logits_video_text
    ours = [found["clip-1", topic] for topic in TOPICS]
    np.testing.assert_allclose(ours, logits.sigmoid()[0].numpy(), atol=5e-3)


def test_xclip_says_what_its_own_model_says(root: Path, samples: pa.Table, tmp_path: Path) -> None:
    """Each text's embedding depends on the clip; what of both sides does not is kept."""
    from transformers import AutoTokenizer, XCLIPModel

    folder = tiny("xclip", tmp_path / "xclip")
    made = teacher(root, tmp_path, samples, model=str(folder), confidence="softmax")
    found = labels(made, samples)
    assert "xclip is pairwise: every topic meets every sample anew" in made.remarks[0]
    model, tokenizer = XCLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer([PHOTO.replace("{}", topic) for topic in TOPICS], padding=True, return_tensors="pt")
    frames = read_frames(root / "clip-2.mp4", 4, SIDE, "centre")
    pixels = made.model._pixels(frames)  # type: ignore[attr-defined]
    with torch.no_grad():
        logits = model(
            pixel_values=pixels, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).logits_per_video
    ours = [found["clip-2", topic] for topic in TOPICS]
    np.testing.assert_allclose(ours, logits.softmax(-1)[0].numpy(), atol=1e-2)
    again = teacher(root, tmp_path, samples, model=str(folder), pool="mean")
    again.model.encode_clip = again.model.texts = lambda _: pytest.fail("encoded again")  # type: ignore
    again.entry = made.entry
    assert labels(again, samples.slice(0, 3)) == found


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_xclip_keeps_the_contract(tmp_path_factory: pytest.TempPathFactory, claim: Any) -> None:
    folder = tmp_path_factory.mktemp("xclip")
    context = TeacherContext(small_dataset(folder, CONTRACT_TOPICS), folder / "work")
    tiny("xclip", context.data / "xclip")
    entry = {"id": "seer", "kind": "zero-shot", "model": "xclip", "templates": ["a photo of {}.", "a video of {}"]}
    claim(Case(entry, context, other={"templates": {"templates": ["{}"]}}, unreadable=["broken"]))


def test_keys_that_do_not_fit_a_model_of_clips_are_refused(root: Path, samples: pa.Table, tmp_path: Path) -> None:
    prism, clip, xclip = (str(tiny(name, tmp_path / name)) for name in ("videoprism", "clip", "xclip"))
    for changes, words in (
        ({"model": prism}, "has no scale of its own: set `scale`"),
        ({"model": prism, "scale": 20, "frames": 8}, "was made for 4 frames a clip, and `frames` says 8"),
        ({"model": prism, "scale": 20, "pool": "max"}, "one embedding a clip"),
        ({"model": prism, "scale": 20, "confidence": "sigmoid"}, "has no bias"),
        ({"model": clip, "scale": 20}, "has a scale of its own"),
        ({"model": xclip, "frames": 3}, "was made for 4 frames a clip, and `frames` says 3"),
    ):
        message = refused(
            lambda changes=changes: teacher(root, tmp_path, samples, **{"frames": None, **changes}).fingerprint()
        )
        assert words in message


# -- open_clip -------------------------------------------------------------------------------------------------------


@NEEDS_OPEN_CLIP
def test_open_clip_says_what_its_own_model_says(root: Path, samples: pa.Table, tmp_path: Path) -> None:
    import open_clip

    folder = open_clip_folder(tmp_path / "open")
    settings = {"model": str(folder), "library": "open_clip", "confidence": "softmax", "frames": 1}
    found = labels(teacher(root, tmp_path, samples, **settings), samples)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")([PHOTO.replace("{}", topic) for topic in TOPICS])
    picture = Image.fromarray(read_frames(root / "clip-1.mp4", 1, SIDE)[0])
    with torch.no_grad():
        logits = model.eval().get_logits(preprocess(picture)[None], tokens)[0]
    ours = [found["clip-1", topic] for topic in TOPICS]
    np.testing.assert_allclose(ours, logits.softmax(-1)[0].numpy(), atol=5e-3)
    assert np.ptp(ours) > 0.05


@NEEDS_OPEN_CLIP
def test_open_clip_leaves_no_handler_behind(tmp_path: Path) -> None:
    """Its own lines go to the root of all logs, which gets a handler by that, and ours would come twice."""
    code = f"""
import logging
from pathlib import Path
from t2t.data.embeddings.open_clip_model import OpenClipModel
OpenClipModel(Path({str(open_clip_folder(tmp_path / "open"))!r})).texts(["a dog"])
assert logging.getLogger().handlers == [], logging.getLogger().handlers
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "No pretrained weights" not in done.stderr


@pytest.fixture(scope="module")
def open_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("open")
    context = TeacherContext(small_dataset(folder, CONTRACT_TOPICS), folder / "work")
    open_clip_folder(context.data / "open")
    open_clip_folder(folder / "copy")
    open_clip_folder(context.data / "seed-1", seed=1)
    gelu = open_clip_folder(context.data / "gelu") / "open_clip_config.json"
    content = json.loads(gelu.read_text())
    content["model_cfg"]["quick_gelu"] = True
    gelu.write_text(json.dumps(content))
    return Case(
        {"id": "seer", "kind": "zero-shot", "library": "open_clip", "model": "open"},
        context,
        same={"a copy": {"model": str(folder / "copy")}},
        other={"weights": {"model": "seed-1"}, "how they are used": {"model": "gelu"}, "the frames": {"frames": 2}},
        unreadable=["broken"],
    )


@NEEDS_OPEN_CLIP
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_open_clip_keeps_the_contract(open_case: Case, claim: Any) -> None:
    claim(open_case)


@NEEDS_OPEN_CLIP
@pytest.mark.parametrize(
    "how", ["no-config", "no-json", "pickled", "hub-text", "hub-picture", "remote-code", "cut", "part"]
)
def test_a_bad_checkpoint_of_open_clip_is_refused(root: Path, samples: pa.Table, tmp_path: Path, how: str) -> None:
    folder = open_clip_folder(tmp_path / "open")
    file, weights = folder / "open_clip_config.json", folder / "open_clip_model.safetensors"
    content = json.loads(file.read_text())
    model = content["model_cfg"]
    if how == "no-config":
        file.unlink()
    elif how == "no-json":
        content = {"model_cfg": []}
    elif how == "pickled":
        torch.save(load_file(weights), folder / "open_clip_pytorch_model.bin")
        weights.unlink()
    elif how == "hub-text":
        model["text_cfg"]["hf_model_name"] = "roberta-base"
    elif how == "hub-picture":
        model["vision_cfg"]["timm_model_name"] = "hf-hub:somebody/tower"
    elif how == "remote-code":
        model["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    elif how == "cut":
        weights.write_bytes(weights.read_bytes()[:3000])
    else:
        save_file({k: v for k, v in load_file(weights).items() if "text_projection" not in k}, weights)
    if how != "no-config":
        file.write_text(json.dumps(content))
    refused(lambda: teacher(root, tmp_path, samples, model=str(folder), library="open_clip").fingerprint())


def test_what_belongs_to_another_library_or_is_missing_is_said(
    root: Path, samples: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text("{}")
    assert "write `library: open_clip`" in refused(lambda: teacher(root, tmp_path, samples, model=str(folder)))
    monkeypatch.setattr("t2t.data.embeddings.open_clip_model.find_spec", lambda name: None)
    assert "teacher2task[open-clip]" in refused(
        lambda: teacher(root, tmp_path, samples, model=str(folder), library="open_clip")
    )


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [("text_config", "hidden_act", "relu"), ("vision_config", "layer_norm_eps", 0.1)])
def test_how_weights_are_used_is_in_the_fingerprint(
    root: Path, samples: pa.Table, tmp_path: Path, changes: tuple[str, str, Any]
) -> None:
    """The same tensors under another configuration give other labels."""
    part, key, value = changes
    one, two = (tiny("clip", tmp_path / name) for name in ("one", "two"))
    file = two / "config.json"
    content = json.loads(file.read_text())
    content[part][key] = value
    # What changes no number is no content.
    content["transformers_version"] = "5.0.0"
    content["architectures"] = None
    file.write_text(json.dumps(content))
    prints = [teacher(root, tmp_path, samples, model=str(folder)).fingerprint() for folder in (one, two)]
    assert prints[0] != prints[1]
    content[part][key] = json.loads((one / "config.json").read_text())[part][key]
    file.write_text(json.dumps(content))
    assert teacher(root, tmp_path, samples, model=str(two)).fingerprint() == prints[0]
