"""What a distillation leaves in its folder of the work folder, `distillations/<name>/`: a note of each step.

A note is written when its step is over, with a checksum; a step whose note is there is not done again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from t2t.core.config import Config, parse
from t2t.core.errors import T2TError
from t2t.core.files import read_noted, write_noted
from t2t.data.embeddings.distilled import EncoderCard, Network, TeacherEncoder
from t2t.distillation.evaluation.table import EvaluationTable

N = TypeVar("N", bound=Config)


class Prepared(Config):
    """Frames are decoded and teachers open. frames: the key of their content. samples, unreadable: files.
    datasets: of each its fingerprint. seconds: of work."""

    frames: str
    frame_count: int
    samples: int
    unreadable: int
    datasets: dict[str, str]
    teachers: tuple[TeacherEncoder, ...]
    seconds: float


class TrainedEncoder(Config):
    """The student is trained. network: what `student.safetensors` is. curve: (step, numbers)."""

    network: Network
    steps: int
    curve: tuple[tuple[int, dict[str, float]], ...]
    frames_per_second: float
    seconds: float


class Evaluated(Config):
    """It is measured; table: None where no dataset is named to measure on."""

    table: EvaluationTable | None
    seconds: float


class Published(Config):
    """The encoder is in its place and in the lake. commit: of its entry."""

    card: EncoderCard
    fingerprint: str
    commit: str


class Notes:
    """The notes of one distillation."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def weights(self) -> Path:
        """The trained student's, as timm names them."""
        return self.folder / "student.safetensors"

    @property
    def snapshot(self) -> Path:
        return self.folder / "snapshot.safetensors"

    def read(self, model: type[N]) -> N | None:
        """The note of a step; None where it is not done. Raises T2TError where it is damaged."""
        path = self._path(model)
        if not path.is_file():
            return None
        remedy = f"Delete {self.folder} to distill anew: it gives the same weights, or put it back from a copy."
        return parse(model, read_noted(path, remedy), path)

    def need(self, model: type[N]) -> N:
        note = self.read(model)
        if note is None:
            raise T2TError(f"{self._path(model)}: no such file. Start `t2t distill` again.")
        return note

    def write(self, note: Config) -> None:
        write_noted(self._path(type(note)), json.dumps(note.model_dump(mode="json"), indent=1, ensure_ascii=False))

    def _path(self, model: type[Config]) -> Path:
        names = {Prepared: "prepared", TrainedEncoder: "trained", Evaluated: "evaluated", Published: "published"}
        return self.folder / f"{names[model]}.json"
