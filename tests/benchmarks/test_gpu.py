"""The GPU's benchmark runs as it is, on a tiny student on the CPU: bfloat16, towers computed twice, tagging."""

from __future__ import annotations

import re

from benchmarks.gpu import Setting, measure


def test_the_gpus_benchmark_works_without_a_gpu() -> None:
    found = measure(Setting("cpu", batch=128, sizes=(("tiny", (16, 1, 2, 16)),), steps=1, tagged=9, topics=40))
    assert found.measured[0].rate > 0
    assert found.ratios["tiny: model FLOP utilisation"] > 0
    assert "180 labels written" in found.figures["tiny, tagging"]
    agreement = found.figures["tiny, bfloat16 against float32"]
    told = re.fullmatch(r".* score ([\d.]+), PR-AUC ([\d.]+) and ([\d.]+)", agreement)
    assert told
    difference, exact, rough = map(float, told.groups())
    assert difference < 2e-2
    assert abs(exact - rough) < 0.005
