"""`t2t export`: what it leaves can be used as its model card says, without t2t."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import t2t
from t2t.campaign.best import Best
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.embeddings.store import Embeddings
from t2t.evaluation.thresholds import Thresholds
from t2t.students.checkpoint import load
from tests.helpers.cli import invoke

HAS_ONNX = all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))


@pytest.mark.slow
@pytest.mark.skipif(not HAS_ONNX, reason="the extra `onnx` is not installed")
def test_the_model_cards_program_says_what_the_student_says(finished: Workspace, tmp_path: Path) -> None:
    done = t2t.export("tiny", tmp_path / "exported", precision=0.3, workspace=finished)
    assert done.runtime is not None
    assert done.difference is not None
    assert done.difference < 1e-5
    best = Best.of(finished, "tiny")
    assert done.round == best.record.round
    kept = Thresholds.model_validate_json((done.folder / "thresholds.json").read_text())
    assert kept == best.thresholds(0.3)
    card = (done.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"{best.record.test['pr_auc']:.3f}" in card
    assert best.record.weights_sha256 in card
    [program] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code = f"{program}\nprint(json.dumps(confidence.ravel().tolist()))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=done.folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    student = load(best.checkpoint)
    clip = Embeddings.of([np.zeros((8, student.input_dim), np.float16)])
    wanted = student.predict(clip, np.array([0]), ["red star"], best.record.identity)[0]
    np.testing.assert_allclose(json.loads(ran.stdout), wanted, atol=1e-5)
    # An earlier export would be replaced, anything else is not.
    with pytest.raises(T2TError, match="is there, and is no export"):
        t2t.export("tiny", tmp_path, workspace=finished)


@pytest.mark.skipif(HAS_ONNX, reason="the extra `onnx` is installed")
def test_without_its_packages_it_says_what_to_install_before_anything_else(tmp_path: Path) -> None:
    result = invoke("--work", tmp_path, "export", "nobody", "--out", tmp_path / "exported")
    assert isinstance(result.exception, T2TError)
    assert "pip install 'teacher2task[onnx]'" in str(result.exception)
    assert not (tmp_path / "exported").exists()
