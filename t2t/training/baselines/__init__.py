"""What the student is compared with: rivals that score pairs by what teachers say, and labels that a conventional
student learns from instead of every teacher's own.

A name of `RIVALS`, or of the entry-point group `t2t.rivals`, stands for a class of `t2t.training.baselines.base.Rival`:
one file each, with `fit` and `predict`. Each of ours that learns from teachers can be a campaign's `method` too.
"""

from __future__ import annotations

from t2t.training.baselines.conventional import conventional_average
from t2t.training.baselines.table import METHODS, RIVALS, make_rival, rival_names

__all__ = ["METHODS", "RIVALS", "conventional_average", "make_rival", "rival_names"]
