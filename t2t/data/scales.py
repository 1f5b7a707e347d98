"""The common scale: a map of each identity's own from its raw confidences to how often people agree. It rises, or
falls for an identity that says the opposite.

Labels stay raw in the lake, and asking an identity gives back *its* confidences; what is trained on, and what a student
scores before it answers as somebody, lies on the common scale. How the maps are found: `t2t.evaluation.scales`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from t2t.core.config import Grown, Later, parse
from t2t.core.files import read_noted, write_noted

# Confidences are kept this far from 0 and 1 where their logit is taken.
EDGE = 1e-6
# Numbers whose order matters are kept to so many significant digits.
DIGITS = 7
# Rows that are put in order at once, to be brought to the scale.
ROWS = 1 << 24

How = Literal["people", "own"]


class ScaleFacts(Grown):
    """What an identity's map rests on, and what it says of its teacher.

    how: `people`, fitted on the pairs it shares with them, or `own`, by its own distribution, where it shares none.
    pairs, positives: those it shares with people. worth: share of the uncertainty about these (entropy) that its
    mapped confidences take away, cross-fitted; 1 is a perfect teacher, 0 one that tells nothing, None unknown.
    slope: of its logits in a logistic regression: 1 is calibrated, far above is timid, far below loud; None unknown.
    gain: how many times further from the usual a student is taught its confidences than people believe them: 1 where
    teachers say enough by themselves (`t2t.evaluation.scales.gain_of`).
    """

    how: How = "people"
    pairs: int = Field(0, ge=0)
    positives: float = Field(0.0, ge=0)
    worth: float | None = None
    slope: float | None = None
    gain: Annotated[float, Later()] = Field(1.0, ge=1)


class Scale(ScaleFacts):
    """One identity's map, piecewise linear between `raw` and `common`.

    raw: confidences of that identity, 0..1, rising. common: where they lie on the common scale, 0..1, rising; falling
    where people say that the identity's confidences are turned around. usual: the logit that `gain` moves away from,
    people's usual share of yes.
    """

    raw: tuple[float, ...] = Field(min_length=1)
    common: tuple[float, ...] = Field(min_length=1)
    usual: Annotated[float, Later()] = 0.0

    @model_validator(mode="after")
    def _rising(self) -> Scale:
        if len(self.raw) != len(self.common):
            raise ValueError("raw and common have different lengths")
        for name, knots in (("raw", self.raw), ("common", self.common[::-1] if self.turned else self.common)):
            if not all(0 <= knot <= 1 for knot in knots) or not all(low < high for low, high in pairwise(knots)):
                raise ValueError(f"{name} must rise within 0..1" + (", or fall" if name == "common" else ""))
        return self

    @property
    def turned(self) -> bool:
        """Whether a high confidence of this identity means no."""
        return self.common[0] > self.common[-1]

    @property
    def facts(self) -> ScaleFacts:
        """The scale without its knots."""
        return ScaleFacts(**self.model_dump(include=set(ScaleFacts.model_fields)))

    def apply(self, confidence: np.ndarray) -> np.ndarray:
        """Raw confidences on the common scale, float32, any shape. Those beyond the knots get the last one's value."""
        return np.interp(confidence, self.raw, self.common).astype(np.float32)

    def taught(self, confidence: np.ndarray) -> np.ndarray:
        """What a student is taught for raw confidences: on the common scale, `gain` times as far from the usual in
        logits. float32, any shape."""
        common = self.apply(confidence)
        return common if self.gain == 1 else self._moved(common, self.gain)

    def invert(self, taught: np.ndarray) -> np.ndarray:
        """The raw confidences that are taught so, float32, any shape, within what it ever said."""
        common = taught if self.gain == 1 else self._moved(taught, 1 / self.gain)
        step = -1 if self.turned else 1
        return np.interp(common, self.common[::step], self.raw[::step]).astype(np.float32)

    def _moved(self, common: np.ndarray, times: float) -> np.ndarray:
        from scipy.special import expit, logit  # type: ignore[import-untyped]

        away = logit(np.clip(common, EDGE, 1 - EDGE, dtype=np.float64)) - self.usual
        return np.asarray(expit(self.usual + times * away), np.float32)

    def turn(self) -> Scale:
        """The map of the identity that says 1 less what this one says."""
        raw = tuple(float(f"{1 - knot:.{2 * DIGITS}g}") for knot in self.raw[::-1])
        slope = None if self.slope is None else -self.slope
        return self.model_copy(update={"raw": raw, "common": self.common[::-1], "slope": slope})


def scale_of(raw: np.ndarray, common: np.ndarray, **facts: Any) -> Scale:
    """The scale through points, float64 [K], both rising; of those that are equal once rounded the first stays."""
    points = np.stack([_rounded(raw), _rounded(common)])
    kept = [0]
    for i in range(1, points.shape[1]):
        if (points[:, i] > points[:, kept[-1]]).all():
            kept.append(i)
    return Scale(raw=tuple(points[0, kept]), common=tuple(points[1, kept]), **facts)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.array([float(f"{value:.{DIGITS}g}") for value in values])


def write_scales(path: Path, scales: Mapping[str, Scale]) -> None:
    """Writes identities' scales as JSON, atomically."""
    write_noted(path, json.dumps({name: scale.model_dump(mode="json") for name, scale in scales.items()}, indent=1))


def read_scales(path: Path) -> dict[str, Scale]:
    """What `write_scales` wrote; nothing where no such file is."""
    if not path.is_file():
        return {}
    remedy = f"Delete {path.parent / 'labels'} and it: the round's rows are made again."
    return {name: parse(Scale, scale, path) for name, scale in read_noted(path, remedy).items()}


def apply_scales(
    confidence: np.ndarray, teacher: np.ndarray, scales: Mapping[int, Scale], taught: bool = False
) -> np.ndarray:
    """Rows' confidences on the common scale, float32 [rows]; identities without a scale stay as they are.

    Args:
        confidence: float32 [rows]. teacher: int [rows], the identity of each. taught: as students are taught them.
    """
    out = np.array(confidence, np.float32)
    for start in range(0, len(out), ROWS):
        values, some = out[start : start + ROWS], teacher[start : start + ROWS]
        # Looking for each identity's rows in all of them takes minutes where there are a thousand.
        order = np.argsort(some, kind="stable")
        ends = np.searchsorted(some, np.arange(max(scales, default=-1) + 2), sorter=order)
        for identity, scale in scales.items():
            if len(rows := order[ends[identity] : ends[identity + 1]]):
                values[rows] = scale.taught(values[rows]) if taught else scale.apply(values[rows])
    return out
