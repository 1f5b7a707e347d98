"""The rivals by name. Nothing is imported before it is asked for."""

from __future__ import annotations

from typing import Any

from t2t.core import plugins

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


def make_rival(name: str, where: object = "--names") -> Any:
    """A new rival by its name. Raises T2TError, with the nearest name, where there is none of that name."""
    return plugins.make(GROUP, RIVALS, name, [], where, "rival", ["fit", "predict", "words", "detail", "models"])


def rival_names() -> list[str]:
    """Ours in the order of the table, then those of plug-ins."""
    return [*RIVALS, *(name for name in plugins.names(GROUP, RIVALS) if name not in RIVALS)]
