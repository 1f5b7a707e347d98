"""Families of vision-language models that are unlike the others, and checkpoints that bring code of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2t.core.errors import T2TError
from t2t.teachers.vision_language import VisionLanguageModel
from t2t.teachers.yes_or_no import YesOrNo
from tests.helpers.documented import documented, refused
from tests.helpers.vlms import FAMILIES, SIDE, TEMPLATE, tiny

PROMPT = "Is it there? {}"
TOPICS = ("a dog", "zebra crossings", "red square")


def clip(frames: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, SIDE, SIDE, 3), np.uint8)


def closed(folder: Path, **more: Any) -> YesOrNo:
    return YesOrNo(str(folder), None, PROMPT, ["yes"], ["no"], size=SIDE, **more)


def test_one_whose_prompt_sees_itself_both_ways_is_asked_anew(tmp_path, caplog):
    """PaliGemma: what its prefix is depends on the topic behind it. Its answers are those of the model alone."""
    import torch

    model, processor = tiny("paligemma", tmp_path)
    of = closed(tmp_path)
    assert not of.shared
    assert "no prefix is shared between topics" in caplog.text
    frames = clip()
    told = of.ask(frames, TOPICS)
    for number, topic in enumerate(TOPICS):
        text = f"<image><image>\n{PROMPT.replace('{}', topic)}\n"
        with torch.no_grad():
            z = model(**processor(text=[text], images=[list(frames)], return_tensors="pt")).logits[0, -1].double()
        p = z.softmax(-1)
        assert told.yes[number] == pytest.approx(float(p[of.yes].sum()), abs=1e-6)
        assert told.no[number] == pytest.approx(float(p[of.no].sum()), abs=1e-6)


@pytest.mark.parametrize("media", ["", "{% if loop.first %}<image>{% endif %}"])
def test_a_template_that_shows_too_few_pictures_is_refused(tmp_path, media):
    """A model that answers without having seen them says something all the same."""
    _, processor = tiny("llava", None)
    tiny("llava", tmp_path)
    processor.chat_template = TEMPLATE.replace("IMAGE", media)
    processor.save_pretrained(tmp_path)
    refused(lambda: VisionLanguageModel(str(tmp_path)))


def test_a_model_that_does_not_see_is_refused(tmp_path):
    """Gemma 3's projector before any training: zeros."""
    import torch

    model, _ = tiny("gemma", tmp_path)
    torch.nn.init.zeros_(model.model.multi_modal_projector.mm_input_projection_weight)
    model.save_pretrained(tmp_path)
    refused(lambda: closed(tmp_path))


def test_an_encoder_decoder_is_refused(tmp_path):
    tiny("blip2", tmp_path)
    refused(lambda: VisionLanguageModel(str(tmp_path)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_is_shared_by_clips_of_any_length(tmp_path, family):
    """Positions in time, height and width depend on how many pictures there are."""
    tiny(family, tmp_path)
    of = closed(tmp_path, frames=1)
    for frames in (1, 2, 5):
        shared = of.ask(clip(frames), TOPICS)
        of.shared = False
        anew = of.ask(clip(frames), TOPICS)
        of.shared = True
        for name in ("score", "yes", "no"):
            assert getattr(shared, name) == pytest.approx(getattr(anew, name), abs=1e-5)
        assert len(set(shared.score)) == len(TOPICS)


@pytest.mark.parametrize("family", [*FAMILIES, "paligemma"])
def test_free_text_is_the_likeliest_token_after_the_other(tmp_path, family):
    """Computed without a cache, and whatever the checkpoint says of sampling and repetition."""
    import torch

    model, _ = tiny(family, tmp_path)
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    settings |= {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "no_repeat_ngram_size": 1}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    of = VisionLanguageModel(str(tmp_path))
    said = of.say(clip(), "what", 4)
    assert of.say(clip(), "what", 4) == said
    inputs = of.inputs(of.text("what", 2), clip(), 4)
    tokens, logprobs = [], []
    with torch.no_grad():
        for _ in range(4):
            z = model(**inputs).logits[0, -1].double().log_softmax(-1)
            token = int(z.argmax())
            tokens.append(token)
            logprobs.append(float(z[token]))
            if token in of.ending():
                break
            more = {"input_ids": token, "attention_mask": 1}
            for key in ("token_type_ids", "mm_token_type_ids"):
                if key in inputs:
                    # (What PaliGemma writes is seen from behind only; the type says so.)
                    more[key] = int(family == "paligemma")
            inputs = inputs | {
                key: torch.cat([inputs[key], torch.full((1, 1), value)], dim=1) for key, value in more.items()
            }
    ended = tokens[-1] in of.ending()
    assert said.ended == ended
    assert said.text == of.tokenizer.decode(tokens[: len(tokens) - ended], skip_special_tokens=True)
    assert said.logprobs == pytest.approx(logprobs[: len(logprobs) - ended], abs=1e-4)
    assert len(said.ends) == len(said.logprobs)


EVIL = """
open({marker!r}, "w").write("code ran")
class Evil: pass
"""


def test_no_code_of_a_checkpoint_runs(tmp_path):
    """Named for configuration, model, processor, tokenizer and image processor alike."""
    tiny("llava", tmp_path / "plain")
    marker = tmp_path / "marker"
    for unknown in (False, True):
        folder = Path(shutil.copytree(tmp_path / "plain", tmp_path / f"evil-{unknown}"))
        (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
        for file in folder.glob("*.json"):
            content = json.loads(file.read_text())
            if file.name in ("tokenizer.json", "generation_config.json"):
                continue
            names = ("AutoConfig", "AutoModelForImageTextToText", "AutoModel", "AutoProcessor", "AutoImageProcessor")
            content["auto_map"] = dict.fromkeys(names, "evil.Evil")
            content["auto_map"]["AutoTokenizer"] = ["evil.Evil", "evil.Evil"]
            if unknown and "model_type" in content:
                content["model_type"] = "evil"
            file.write_text(json.dumps(content))
        if unknown:
            with pytest.raises(T2TError) as caught:
                VisionLanguageModel(str(folder))
            documented(str(caught.value))
        else:
            plain = closed(tmp_path / "plain").ask(clip(), TOPICS)
            assert closed(folder).ask(clip(), TOPICS) == plain
        assert not marker.exists()
