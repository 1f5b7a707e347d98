"""A campaign in a process of its own, which can be killed: `python -m tests.integrations.ray.driver JSON`.

{"registry", "data", "work", "campaign": {...}, "last": "round 0: publish", "shard": 1}: up to and with that step.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.core.config import parse
from t2t.core.workspace import Workspace
from t2t.teachers.kinds.student import Teacher
from tests.helpers.campaigns import run_until


def main(order: dict) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Teacher.shard_samples = order["shard"]
    place = Workspace(Path(order["registry"]), Path(order["data"]), Path(order["work"]))
    run_until(Campaign(parse(CampaignConfig, order["campaign"], "test"), place), order["last"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
