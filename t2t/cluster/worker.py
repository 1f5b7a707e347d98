"""A helper of a training on one machine: `python -m t2t.cluster.worker`, started by `t2t.cluster.workers` only.

Reads one line of JSON from its standard input, and ends when that closes.
"""

from __future__ import annotations

import json
import os
import sys
from threading import Thread

from t2t.cluster.workers import READY, Job


def main() -> None:
    order = json.loads(sys.stdin.readline())
    Thread(target=_end_with_the_leader, daemon=True).start()
    from t2t.cluster.group import member

    if order["device"].startswith("cuda"):
        import torch

        torch.cuda.set_device(order["rank"])
    job = Job.model_validate(order["job"])
    rounds, student = job.open(order["device"])
    print(READY, flush=True)
    with member(order["meeting"], order["rank"], order["size"], order["device"]) as group:
        rounds.fit(job.round, student, group=group)


def _end_with_the_leader() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    main()
