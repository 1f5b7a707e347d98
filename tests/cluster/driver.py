"""A campaign's steps in a process of its own, which can be killed: `python -m tests.cluster.driver JSON`.

{"registry", "data", "work", "campaign": {...}, "steps": ["prepare", "train", "evaluate", "publish"], "shard": 1}
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from t2t.campaign import CampaignConfig
from t2t.config import parse
from t2t.registry import Workspace
from t2t.rounds import Rounds
from t2t.teachers.student import Teacher


def main(order: dict) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Teacher.shard_samples = order["shard"]
    place = Workspace(Path(order["registry"]), Path(order["data"]), Path(order["work"]))
    rounds = Rounds(parse(CampaignConfig, order["campaign"], "test"), place)
    for step in order["steps"]:
        if step == "prepare":
            rounds.prepare()
        else:
            getattr(rounds, step)(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
