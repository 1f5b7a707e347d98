"""The component table's rows are what they say, one part more each."""

from __future__ import annotations

import numpy as np

from benchmarks.distillation import LAST, NONE, before, config_of, names
from benchmarks.distillation_worlds import Lookup, Plain


def test_each_row_is_the_one_above_it_and_one_part_more():
    def parts(row):
        config = config_of(row, 0)
        return (
            config.standardise.by,
            config.projectors.dedicated,
            config.projectors.ladder,
            config.drop.rate,
            len(config.teachers),
        )

    assert {row: parts(row) for row in names()} == {
        "basic": ("none", False, False, 0.0, 2),
        "+ standardisation": ("ema", False, False, 0.0, 2),
        "+ dedicated": ("ema", True, False, 0.0, 2),
        "+ ladder": ("ema", True, True, 0.0, 2),
        "+ dropping": ("ema", True, True, 0.5, 2),
        "PHI-S, all parts": ("phi-s", True, True, 0.5, 2),
        "PHI-S alone": ("phi-s", False, False, 0.0, 2),
        "mobilenet alone": ("ema", True, True, 0.5, 1),
        "lite0 alone": ("ema", True, True, 0.5, 1),
    }
    assert config_of("basic", 2, ["training.steps=7"]).training.seed == 2
    assert config_of("basic", 2, ["training.steps=7"]).training.steps == 7


def test_rows_are_held_against_the_row_above_or_the_one_they_vary():
    assert [before(row) for row in names()] == [
        *(NONE, "basic", "+ standardisation", "+ dedicated", "+ ladder"),
        *(LAST, "+ standardisation", LAST, LAST),
    ]
    assert before("pixels") == before(NONE) == ""


def test_what_is_kept_is_found_by_number():
    kept = Lookup(np.arange(12.0).reshape(4, 3), np.arange(24.0).reshape(4, 2, 3))

    found = kept(np.array([2, 0]))

    assert found.cls.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert found.patches.shape == (2, 2, 3)
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    assert Plain()(frames, 3, 5) is frames is Plain().plain(frames)
