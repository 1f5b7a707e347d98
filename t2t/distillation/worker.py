"""A helper of a distillation by several workers: `python -m t2t.distillation.worker` (`t2t.training.processes`)."""

from __future__ import annotations

from pathlib import Path

from t2t.core.workspace import Workspace
from t2t.data.embeddings.frames import FrameSource
from t2t.distillation.cache import open_features
from t2t.distillation.config import DistillationConfig
from t2t.distillation.distillation import Distillation
from t2t.training.group import member
from t2t.training.processes import READY
from t2t.training.worker import read_order


def main() -> None:
    order = read_order()
    config = DistillationConfig.model_validate(order["config"])
    place = Workspace(**{key: Path(value) for key, value in order["place"].items()})
    distillation = Distillation(config, place, order["device"])
    # What the leader has decoded and looked at is opened, and made by nobody else.
    work, teachers = place.work, distillation.teachers
    distillation.source = FrameSource.open(work, distillation.taken, order["keys"], config.frames.most)
    plain = config.augment == "none"
    distillation.kept = open_features(teachers, distillation.source, work, config.loss.patches) if plain else {}
    print(READY, flush=True)
    with member(order["meeting"], order["rank"], order["size"], order["device"]) as group:
        distillation.distilled(group=group)


if __name__ == "__main__":
    main()
