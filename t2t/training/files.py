"""What a training leaves in its folder while it is under way: one property a file."""

from __future__ import annotations

from pathlib import Path

from t2t.core.files import remove_folder


class TrainFiles:
    """The files of a training's folder. None of them outlives it."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def job(self) -> Path:
        """What workers read beside matrix and embeddings (`TrainJob.write`), a folder."""
        return self.folder / "job"

    @property
    def start(self) -> Path:
        """The checkpoint of the student as it comes, for workers in processes of their own."""
        return self.folder / "start"

    @property
    def ray(self) -> Path:
        """What a training on a cluster leaves, a folder."""
        return self.folder / "ray"

    @property
    def snapshot(self) -> Path:
        """What a training that was killed goes on from."""
        return self.folder / "training.safetensors"

    def remove(self) -> None:
        """Once the student is saved."""
        self.snapshot.unlink(missing_ok=True)
        for folder in (self.job, self.start, self.ray):
            remove_folder(folder)
