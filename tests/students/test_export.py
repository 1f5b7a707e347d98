"""A student as ONNX says what it says in torch: of every kind, for every identity, for any number of rows."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from t2t.core.errors import T2TError
from t2t.data.scales import Scale
from t2t.students import export
from t2t.students.export import export_towers, facts_of
from tests.helpers.students import DIM, TOPICS, pretrained_folder, random_clips, tiny_config, tiny_student

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES), reason="the extra `onnx` is not installed"
)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ({"identity": "token"}, {}),
        ({"identity": "gate", "layers": 0}, {"members": 3, "frontend": {"variation": True}}),
        ({"identity": "gate", "pretrained": "bert", "freeze": True}, {"members": 2}),
    ],
    ids=["token", "ensemble", "pretrained"],
)
def test_the_graphs_say_what_the_student_says(text: dict, changes: dict, tmp_path: Path) -> None:
    if "pretrained" in text:
        text = {**text, "pretrained": str(pretrained_folder(tmp_path / "bert", text["pretrained"]))}
    student = tiny_student(tiny_config({"identity_std": 0.5, **text}, **changes))
    folder = tmp_path / "export"
    folder.mkdir()
    checked = export_towers(student, folder, list(TOPICS))
    assert checked["runtime"]
    assert checked["compared"] > 100
    assert checked["difference"] < 1e-5
    assert {"sample.onnx", "text.onnx", "student.json", "tokenizer"} <= {path.name for path in folder.iterdir()}


@needs_onnx
@pytest.mark.slow
def test_a_graph_that_says_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = tiny_student(tiny_config({"layers": 0}, sample={"layers": 0, "d_model": 16, "heads": 2, "d_ff": 16}))
    monkeypatch.setattr(export, "TOLERANCE", 1e-12)
    with pytest.raises(T2TError, match=r"(sample|text)\.onnx says something else than the student"):
        export_towers(student, tmp_path, list(TOPICS))


def test_a_confidence_is_a_sigmoid_of_the_facts() -> None:
    student = tiny_student(tiny_config({"identity": "gate"}, members=3))
    student.scales = {"colour": Scale(raw=(0.0, 1.0), common=(0.1, 0.9))}
    facts = json.loads(json.dumps(facts_of(student)))
    clips = random_clips([3, 2])
    product = student.embed(clips, np.arange(2)) @ student.encode_topics(TOPICS).T
    scores = 1 / (1 + np.exp(-(facts["scale"] * product.numpy() + facts["bias"])))
    np.testing.assert_allclose(scores, student.predict(clips, np.arange(2), TOPICS), atol=1e-6)
    assert (facts["input_dim"], facts["members"], facts["width"]) == (DIM, 3, student.width)
    assert facts["scales"] == {"colour": {"raw": [0.0, 1.0], "common": [0.1, 0.9]}}
    assert facts["start_token"] is None


def test_without_the_packages_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(T2TError, match=r"needs onnx and onnxscript: pip install 'teacher2task\[onnx\]'"):
        export_towers(tiny_student(), tmp_path, list(TOPICS))
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("onnx") is None or find_spec("onnxscript") is None, reason="the extra `onnx` is missing")
def test_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(T2TError, match="knows students of kind dual-encoder only"):
        export_towers(object(), tmp_path, list(TOPICS))
