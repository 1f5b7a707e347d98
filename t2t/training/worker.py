"""A helper of a training on one machine: `python -m t2t.training.worker`, started by `t2t.training.processes` only.

Reads one line of JSON from its standard input, and ends when that closes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from t2t.students.checkpoint import load
from t2t.training.group import Group
from t2t.training.job import TrainJob, run
from t2t.training.processes import join


def take_up(content: dict[str, Any], device: str) -> Callable[[Group], object]:
    job = TrainJob.model_validate(content)
    student = load(job.files.start, device)
    return lambda group: run(job, student, group=group)


if __name__ == "__main__":
    join(take_up)
