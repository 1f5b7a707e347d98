"""The rivals by name. Nothing is imported before it is asked for."""

from __future__ import annotations

import importlib.util
from typing import Any

from t2t.core import plugins
from t2t.core.errors import T2TError

GROUP = "t2t.rivals"
HERE = "t2t.training.baselines"
RIVALS = {
    "average-raw": f"{HERE}.average:AverageRaw",
    "average-calibrated": f"{HERE}.average:AverageCalibrated",
    "tuned-average-raw": f"{HERE}.tuned:TunedAverageRaw",
    "tuned-average": f"{HERE}.tuned:TunedAverage",
    "instance-weighted": f"{HERE}.instance:InstanceWeighted",
    "best-teacher": f"{HERE}.best:BestTeacher",
    "best-teacher-by-topic": f"{HERE}.best:BestTeacherByTopic",
    "oracle": f"{HERE}.best:Oracle",
    "random-selection": f"{HERE}.selection:RandomSelection",
    "reinforced-selection": f"{HERE}.reinforced:ReinforcedSelection",
    "dawid-skene": f"{HERE}.dawid_skene:DawidSkene",
    "mace": f"{HERE}.mace:Mace",
    "flyingsquid": f"{HERE}.flyingsquid:FlyingSquid",
    "snorkel": f"{HERE}.snorkel:Snorkel",
    "hyper-label-model": f"{HERE}.hyper:HyperLabelModel",
    "stacking": f"{HERE}.stacking:Stacking",
    "mtard": f"{HERE}.balanced:BalancedAverage",
    "human-rows": f"{HERE}.human_rows:HumanRows",
}
# Those whose labels a conventional student can learn from: the oracle looks at test, and human rows are no teacher's.
METHODS = tuple(name for name in RIVALS if name not in ("oracle", "human-rows"))


# Of ours, what has to be installed: the module, its package, the extra that brings it.
NEEDS = {
    "mace": ("crowdkit", "crowd-kit", "people"),
    "snorkel": ("snorkel", "snorkel", "label-models"),
    "hyper-label-model": ("hyperlm", "hyperlm", "label-models"),
}
# Fewest outside teachers; two where nothing is said.
LEAST = {"best-teacher": 1, "best-teacher-by-topic": 1, "stacking": 1, "flyingsquid": 3, "snorkel": 3} | {
    "hyper-label-model": 3
}


def missing(name: str) -> str | None:
    """What a rival needs and is not installed, and how to get it; imports nothing."""
    if name not in NEEDS or importlib.util.find_spec(NEEDS[name][0]) is not None:
        return None
    _, package, extra = NEEDS[name]
    return f"it needs {package}, which is not installed: pip install 'teacher2task[{extra}]'"


def refuse_method(method: str, teachers: int) -> None:
    """Raises T2TError where a rival cannot be a campaign's method: too few teachers, or a package that is missing."""
    if method not in METHODS:
        return
    if (least := LEAST.get(method, 2)) > teachers:
        there = f"there {'is' if teachers == 1 else 'are'} {teachers or 'none'}"
        raise T2TError(
            f"method: {method!r} needs {least} outside teacher{'s' * (least > 1)}, and {there}: name more under "
            "`teachers`, or take another method."
        )
    if (reason := missing(method)) is not None:
        raise T2TError(f"method: {method!r}: {reason}, or take another method.")


def make_rival(name: str, where: object = "--names") -> Any:
    """A new rival by its name. Raises T2TError, with the nearest name, where there is none of that name."""
    return plugins.make(GROUP, RIVALS, name, [], where, "rival", ["fit", "predict", "words", "detail", "models"])


def rival_names() -> list[str]:
    """Ours in the order of the table, then those of plug-ins."""
    return [*RIVALS, *(name for name in plugins.names(GROUP, RIVALS) if name not in RIVALS)]
