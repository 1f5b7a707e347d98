"""What each teacher's labels are worth, said in words before a student learns from them.

`t2t.evaluation.health` finds the broken exports; here it is what people's own labels say of a teacher: that its
confidences are too small or too large, that it knows nothing, that it says the opposite, or that nobody can tell.
Nothing is decided here: the maps to the common scale (`t2t.evaluation.scales`) already take account of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from t2t.data.coding import Coded
from t2t.data.labels import POSITIVE, is_people
from t2t.data.scales import Scale
from t2t.evaluation.health import People
from t2t.evaluation.scales import contradicts

Kind = Literal["timid", "loud", "one-sided", "contradicts", "worthless", "unshared"]

# Platt slopes of raw logits beyond which a teacher is called so; 1 is calibrated.
TIMID, LOUD = 2.0, 0.5
# Share of a teacher's rows that are positive above which it is one-sided. Few positives are no sign: topics are rare.
ONE_SIDED = 0.95
# Shared positive pairs from which people's labels say something of a teacher.
ENOUGH = 10
# Share of the uncertainty taken away below which a teacher is worth nothing.
WORTHLESS = 0.01
# Of its highest confidences so many are looked at, at most: half as many as there are positives.
HIGHEST = 100
# Of several teachers.
OF_MANY: dict[Kind, str] = {
    "timid": "are timid",
    "loud": "are loud",
    "one-sided": "are one-sided",
    "contradicts": "contradict people",
    "worthless": "are worth nothing",
    "unshared": "share no labeled pairs with people that tell their scale",
}
RAW = "nothing is done: scale: raw"


@dataclass(frozen=True)
class Remark:
    """One thing to know of a teacher.

    text: begins with a verb ("is timid: ..."), has the number that says so and what is done about it, no full stop.
    """

    teacher: str
    kind: Kind
    text: str

    @property
    def mended(self) -> bool:
        """Whether the common scale puts it right, so that nobody needs to do anything."""
        return self.kind in ("timid", "loud")

    @property
    def said_of_many(self) -> str:
        """The remark's kind in words, of several teachers."""
        return OF_MANY[self.kind]

    def __str__(self) -> str:
        return f"Teacher {self.teacher} {self.text}."


@dataclass(frozen=True)
class _Look:
    """A teacher's rows, and those that people labeled too.

    values: float32 [rows], all its confidences, never empty. said: float32 [P] and positive: bool [P], those of the
    pairs it shares with people. scale: its map. common: whether the map is used.
    """

    name: str
    values: np.ndarray
    said: np.ndarray
    positive: np.ndarray
    scale: Scale
    common: bool

    def done(self, what: str) -> str:
        """What is done about it: `what` on the common scale, nothing on raw ones."""
        return what if self.common else RAW


def remarks(coded: Coded, scales: Mapping[str, Scale], common: bool = True, but: Collection[str] = ()) -> list[Remark]:
    """What is to be known of the teachers of a round's labels, in their order.

    Args:
        coded: the labels, people's among them where there are any.
        scales: each identity's map, as `t2t.evaluation.scales.scales_of` finds them; identities without one, such as
            people, are passed over.
        common: whether the maps are used; the words for what is done differ.
        but: identities to pass over: a campaign's own students, whose maps are those of another one.
    """
    people = People(coded)
    found: list[Remark] = []
    for name in coded.teachers:
        if is_people(name) or name in but or name not in scales:
            continue
        rows = coded.of(coded.teachers.index(name))
        if len(values := coded.confidence[rows]):
            both, truth = people.labeled_too(rows)
            look = _Look(name, values, coded.confidence[both], truth >= POSITIVE, scales[name], common)
            found += [Remark(name, kind, text) for kind, text in _remarks(look)]
    return found


def _remarks(look: _Look) -> Iterator[tuple[Kind, str]]:
    scale = look.scale
    if look.values.min() == look.values.max():
        yield "one-sided", _equal(look)
        return  # whatever else could be said follows from that
    if (share := float((look.values >= POSITIVE).mean())) > ONE_SIDED:
        yield "one-sided", _only_high(look, share)
    if scale.how == "own":
        yield "unshared", _unshared(look)
    if scale.how == "own" or scale.positives < ENOUGH:
        return
    if opposite := _contradicts(look):
        yield "contradicts", opposite
    elif scale.worth is not None and scale.worth < WORTHLESS:
        yield "worthless", _worthless(look, scale.worth)
    elif scale.slope is not None and scale.slope > TIMID:
        yield "timid", _timid(look, scale.slope)
    elif scale.slope is not None and scale.slope < LOUD:
        yield "loud", _loud(look, scale.slope)


def _equal(look: _Look) -> str:
    value, n = look.values[0], len(look.values)
    flat = f"its map is one number ({_number(look.scale.apply(np.array(value)))}), so that it can do little harm"
    return f"is one-sided: all of its {n:,} confidences are {_number(value)}; {look.done(flat)}; {_out(look)}"


def _only_high(look: _Look, share: float) -> str:
    whom = ""
    if len(look.positive):
        whom = f", while people call {_percent(look.positive.mean())} of the pairs that they share positive"
    middle = float(np.median(look.values))
    where = f"its median {_number(middle)} becomes {_number(look.scale.apply(np.array(middle)))} before training"
    return (
        f"is one-sided: {_percent(share)} of its {len(look.values):,} confidences are {POSITIVE} or more{whom}; "
        f"{look.done(where)}; have it label what is not to be seen as well"
    )


def _unshared(look: _Look) -> str:
    own = "its scale comes from its own distribution"
    if not len(look.positive):
        return f"shares no labeled pair with people: {look.done(own)}; label a few of its videos"
    answer = "positive" if look.positive.any() else "negative"
    return (
        f"shares {_counted(len(look.positive))} with people, who call all of them {answer}: {look.done(own)}; label "
        "more of its videos"
    )


def _contradicts(look: _Look) -> str:
    """Empty where it does not."""
    if not contradicts(look.said, look.positive):
        return ""
    area = float(roc_auc_score(look.positive, look.said))
    precision, base = float(average_precision_score(look.positive, look.said)), float(look.positive.mean())
    mended = look.scale.turned and look.common
    what = "they are turned around before training" if mended else look.done(_flat(look))
    return (
        f"contradicts people: of a positive and a negative pair of theirs it ranks the positive one lower in "
        f"{_percent(1 - area)} of all cases (ROC-AUC {area:.2f}, PR-AUC {precision:.3f} where chance has {base:.3f}); "
        f"{what}; look whether its confidences are turned around; {_out(look)}"
    )


def _worthless(look: _Look, worth: float) -> str:
    base = float(look.positive.mean())
    precision = float(average_precision_score(look.positive, look.said)) if look.positive.any() else base
    return (
        f"is worth nothing: it explains {100 * worth:.1f} % of what people say on {_counted(len(look.said))} (PR-AUC "
        f"{precision:.3f} where chance has {base:.3f}); {look.done(_flat(look))}; {_out(look)}"
    )


def _timid(look: _Look, slope: float) -> str:
    low, high = _number(look.values.min()), _number(look.values.max())
    best, n = _best(look)
    brought = "they are brought to people's scale before training"
    return (
        f"is timid (slope {_slope(slope)}): its confidences lie between {low} and {high}, while people agree with "
        f"{int(look.positive[best].sum())} of its {n} highest ones; {look.done(brought)}"
    )


def _loud(look: _Look, slope: float) -> str:
    best, n = _best(look)
    brought = "its confidences are brought to people's scale before training"
    return (
        f"is loud (slope {_slope(slope)}): its {n} highest confidences are {_number(look.said[best].mean())} on "
        f"average, while people agree with {int(look.positive[best].sum())} of them; {look.done(brought)}"
    )


def _best(look: _Look) -> tuple[np.ndarray, int]:
    """Where its highest confidences stand among the shared pairs, int64 [n], and n."""
    n = int(np.clip(look.positive.sum() // 2, 1, HIGHEST))
    return np.argsort(-look.said, kind="stable")[:n], n


def _flat(look: _Look) -> str:
    low, high = np.quantile(look.scale.apply(look.values), (0.05, 0.95))
    return (
        f"its map is nearly flat (9 in 10 of its labels lie between {_number(low)} and {_number(high)} there), so that "
        "it can do little harm"
    )


def _out(look: _Look) -> str:
    return f"`t2t teachers retract {look.name}` takes it out"


def _counted(pairs: int) -> str:
    return f"{pairs:,} pair{'s' * (pairs != 1)}"


def _number(value: float | np.ndarray) -> str:
    """Two digits that say something, from both ends: 0.0042, 0.5, 0.9996."""
    value = float(value)
    if value in (0.0, 1.0):
        return f"{value:.0f}"
    digits = 1 - int(np.floor(np.log10(min(value, 1 - value))))
    if digits > 7:
        return f"{value:.0e}" if value < POSITIVE else "nearly 1"
    return f"{value:.{digits}f}".rstrip("0")


def _percent(share: float) -> str:
    """Whole per cent; never all or none where it is not."""
    text = f"{100 * share:.0f}"
    if text in ("0", "100") and 0 < share < 1:
        return "less than 1 %" if text == "0" else "more than 99 %"
    return f"{text} %"


def _slope(slope: float) -> str:
    return f"{slope:.1f}" if slope >= 1 else f"{slope:.2f}"
