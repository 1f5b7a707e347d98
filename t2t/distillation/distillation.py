"""A distillation's facts: configuration, folder, notes, lake. Reads only, and knows no step."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from t2t.campaign.find import distillation_folder
from t2t.core.host import find_device
from t2t.core.locks import Exclusive
from t2t.core.workspace import Workspace
from t2t.data.embeddings.distilled import place_of
from t2t.distillation.config import DistillationConfig
from t2t.distillation.record import Notes
from t2t.lake import Lake, open_lake


class Distillation:
    """One distillation.

    Attributes:
        folder: its own in the work folder. notes: what is done. place: the folder of the encoder that comes of it.
        lock: held by the process that works on it.
    """

    def __init__(self, config: DistillationConfig, workspace: Workspace, device: str | None = None):
        self.config, self.workspace = config, workspace
        self.folder = distillation_folder(workspace, config.name)
        self.notes = Notes(self.folder)
        self.place: Path = place_of(workspace.work, config.name)
        self.lock = Exclusive(self.folder / "run.lock", f"Distillation {config.name!r}")
        self._device = device

    @property
    def name(self) -> str:
        return self.config.name

    @cached_property
    def device(self) -> str:
        """The torch device that it is trained on."""
        return self._device or find_device()

    @cached_property
    def lake(self) -> Lake:
        return open_lake(self.config.lake, self.workspace.work)
