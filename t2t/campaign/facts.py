"""What the steps of a round hand to one another: typed facts, and the round's files in the work folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from t2t.campaign.record import ControlScores, Record
from t2t.core.config import Config, parse
from t2t.core.files import read_noted, write_noted
from t2t.core.sums import SUMS
from t2t.evaluation.gate import Verdict
from t2t.training.config import TrainingConfig
from t2t.training.files import TrainFiles


class RoundFiles:
    """A round's folder, `work/campaigns/<name>/round-<k>/`: one property a file. The existence of one means "done".

    training: what is there while the round is trained, and no longer.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.training = TrainFiles(folder)

    @property
    def begun(self) -> Path:
        """What the round began with: `RoundStart`."""
        return self.folder / "begun.json"

    @property
    def health(self) -> Path:
        """A table of the teachers' labels, measured before the training."""
        return self.folder / "health.csv"

    @property
    def scales(self) -> Path:
        """Each identity's map to the common scale; not there where confidences are trained on as they are."""
        return self.folder / "scales.json"

    @property
    def labels(self) -> Path:
        """The label matrix, a folder."""
        return self.folder / "labels"

    @property
    def student(self) -> Path:
        """The checkpoint, a folder."""
        return self.folder / "student"

    @property
    def weights(self) -> Path:
        return self.student / "model.safetensors"

    @property
    def evaluation(self) -> Path:
        """What the student was measured to be worth, a folder."""
        return self.folder / "evaluation"

    @property
    def metrics(self) -> Path:
        """`RoundScores`."""
        return self.evaluation / "metrics.json"

    def pairs(self, split: str) -> Path:
        """The scored pairs of a split, a table."""
        return self.evaluation / f"{split}.parquet"

    def sizes(self, split: str) -> Path:
        """Those pairs as smaller sizes of a student's vectors score them; there where it was trained for some."""
        return self.evaluation / f"{split}_sizes.parquet"

    def topics(self, split: str) -> Path:
        """PR-AUC by topic."""
        return self.evaluation / f"{split}_topics.csv"

    def teachers(self, split: str) -> Path:
        """PR-AUC beside each teacher's own."""
        return self.evaluation / f"{split}_teachers.csv"

    @property
    def yardsticks(self) -> Path:
        """`Yardsticks`; not there where the campaign gives its whole recipe itself, or is older."""
        return self.evaluation / "yardsticks.json"

    @property
    def decisions(self) -> Path:
        """`t2t.evaluation.decisions.Decisions`: thresholds, and what they come to; where `yardsticks` is."""
        return self.evaluation / "decisions.json"

    @property
    def verdict(self) -> Path:
        """The gate's `Verdict`, once it is said."""
        return self.folder / "verdict.json"

    @property
    def control(self) -> Path:
        """`ControlFacts`; its training lies in a folder of the same name, with the files of a round."""
        return self.folder / "control.json"

    @property
    def class_share(self) -> Path:
        """The topics' shares of the labels of the round's student, a table."""
        return self.folder / "class_share.csv"

    def kept(self) -> list[Path]:
        """What the round leaves in the lake."""
        further = [path for path in (self.health, self.scales, self.control, self.verdict) if path.is_file()]
        measured = (path for path in self.evaluation.iterdir() if path.name != SUMS)
        return [*sorted(measured), *further]


class RoundStart(Config):
    """What a round begins with, noted before anything else of it.

    commit: where its labels are read: `main` when it began.
    started_from: the round whose weights its student starts from; None from scratch.
    """

    round: int
    commit: str
    teachers: tuple[str, ...]
    started_from: int | None = None

    @classmethod
    def read(cls, files: RoundFiles, k: int) -> RoundStart:
        content = read_noted(files.begun, f"Delete the folder {files.folder}: the round begins again.")
        return parse(cls, {"round": k, **content}, files.begun)

    def write(self, files: RoundFiles) -> None:
        write_noted(files.begun, self.model_dump_json(indent=2, exclude={"round"}))


class TrainFacts(BaseModel):
    """What a training came to: facts in the config.json of the round's checkpoint, which has others beside them.

    seconds: of work, that of killed attempts included as far as it was kept. recipe: every number of the training;
    None in checkpoints from before there were recipes. stand_in: as the record has it.
    human_weight: of people's rows against students' (`self_training.human_weight`); None where nothing was said.
    """

    rows_by_teacher: dict[str, int]
    recipe: TrainingConfig | None = None
    best_step: int
    curve: list[tuple[int, dict[str, float]]]
    seconds: float
    stand_in: tuple[str, ...] = ()
    human_weight: float | None = None

    @property
    def rows(self) -> int:
        return sum(self.rows_by_teacher.values())

    @property
    def threads(self) -> int | None:
        """Of what the student says on the CPU (`TrainingConfig.threads`)."""
        return self.recipe.threads if self.recipe is not None else None

    @classmethod
    def read(cls, files: RoundFiles) -> TrainFacts:
        path = files.student / "config.json"
        return parse(cls, read_noted(path, f"Delete the folder {files.student}: the student is trained again."), path)


class RoundScores(Config):
    """What a round's student is worth: flat metrics of both splits (`t2t.evaluation.metrics.Evaluation.metrics`).

    identity: whom it was asked as. resampled: what the intervals' bootstrap drew.
    """

    identity: str
    resampled: Literal["samples", "groups"] = "samples"
    validation: dict[str, float]
    test: dict[str, float]
    seconds: float

    @classmethod
    def read(cls, files: RoundFiles) -> RoundScores:
        """Raises T2TError where the file is damaged."""
        remedy = f"Delete the folder {files.evaluation}: the round is measured again."
        return parse(cls, read_noted(files.metrics, remedy), files.metrics)


class ControlFacts(ControlScores):
    """`ControlScores` with the seconds that they took."""

    seconds: float

    @classmethod
    def read(cls, files: RoundFiles) -> ControlFacts:
        return parse(cls, read_noted(files.control, "Delete it: the control is measured again."), files.control)


class Settled(Config):
    """A round after its gate, on its branch: its record as far as it is known, and the best standing round before."""

    record: Record
    best: Record | None

    @property
    def waits(self) -> bool:
        """For a person (`gate: manual`). Not a failure, and not in the ledger."""
        return self.record.status == "waiting"

    @property
    def teaches(self) -> bool:
        """Whether its student becomes a teacher: it passed, and another round follows."""
        return self.record.status == "passed" and self.record.stop is None


def read_control(files: RoundFiles) -> ControlScores | None:
    """What the round's control came to, where it has one."""
    if not files.control.is_file():
        return None
    facts = ControlFacts.read(files)
    return ControlScores(**{name: getattr(facts, name) for name in ControlScores.model_fields})


def read_verdict(files: RoundFiles) -> Verdict | None:
    """The gate's verdict where it was said."""
    path = files.verdict
    if not path.is_file():
        return None
    return parse(Verdict, read_noted(path, "Delete it: the gate judges again."), path)
