"""A helper of a training on one machine: `python -m t2t.training.worker`, started by `t2t.training.processes` only.

Reads one line of JSON from its standard input, and ends when that closes.
"""

from __future__ import annotations

import json
import os
import sys
from threading import Thread
from typing import Any

import torch

from t2t.students.checkpoint import load
from t2t.training.group import member
from t2t.training.job import TrainJob, run
from t2t.training.processes import READY


def main() -> None:
    order = read_order()
    job = TrainJob.model_validate(order["job"])
    student = load(job.files.start, order["device"])
    print(READY, flush=True)
    with member(order["meeting"], order["rank"], order["size"], order["device"]) as group:
        run(job, student, group=group)


def read_order() -> dict[str, Any]:
    """What the leader asks of this process, which ends with it from now on, on a GPU of its own where there are any."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    Thread(target=_end_with_the_leader, daemon=True).start()
    if order["device"].startswith("cuda"):
        torch.cuda.set_device(order["rank"])
    return order


def _end_with_the_leader() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    main()
