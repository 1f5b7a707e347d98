"""The GPU's benchmark runs as it is, on a tiny student on the CPU: bfloat16, towers computed twice, tagging."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.checkpoint import checkpoint

from benchmarks.gpu import Setting, measure
from t2t.students import student as student_module


def test_the_gpus_benchmark_works_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    twice: list[object] = []

    def counted(encode: Any, *args: Any, **named: Any) -> Any:
        twice.append(encode)
        return checkpoint(encode, *args, **named)

    monkeypatch.setattr(student_module, "checkpoint", counted)
    tiny = (("tiny", (16, 1, 2, 16)),)
    found = measure(Setting("cpu", batch=128, sizes=tiny, steps=1, tagged=9, topics=40, recompute=True))
    # Both towers, in three steps before and one that is timed.
    assert len(twice) == 8
    assert found.measured[0].rate > 0
    assert found.ratios["tiny: model FLOP utilisation"] > 0
    assert "180 labels written" in found.figures["tiny, tagging"]
    # bfloat16 is near, but it is not float32.
    assert 1 < found.ratios["tiny: scores in bfloat16 within 0.02"] < 1000
    assert found.ratios["tiny: PR-AUC in bfloat16 within 0.005"] > 1
