"""A training as JSON: all that a worker needs, and no campaign, no frame encoder and no lake.

Every process that takes part reads the same files: the label matrix, the shards of the embedding store, the validation
pairs, and the student as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t2t.core.config import Config
from t2t.core.errors import T2TError
from t2t.core.files import atomic_folder
from t2t.core.sums import damaged, write_sums
from t2t.data.embeddings.store import Embeddings, EmbeddingStore
from t2t.data.pairs import Pairs
from t2t.training.config import TrainingConfig
from t2t.training.files import TrainFiles
from t2t.training.group import ALONE, Group
from t2t.training.loop import Trained, train
from t2t.training.matrix import LabelMatrix

Report = Callable[[int, dict[str, float]], None]


class TrainJob(Config):
    """One training. All paths are absolute; every worker sees them.

    folder: the round's own, for what the training leaves while it is under way. matrix: a saved `LabelMatrix`.
    store: the folder of the embedding stores. encoder: the fingerprint of the one that is used. frames: the most that
    a sample of the campaign has; validation is padded to it, as the evaluation is, since float sums go by the shape.
    identity: whom the student is asked as on validation. seed: of batches, dropout and noise.
    """

    title: str
    folder: Path
    matrix: Path
    store: Path
    encoder: str
    frames: int
    recipe: TrainingConfig
    seed: int
    identity: str

    @property
    def files(self) -> TrainFiles:
        return TrainFiles(self.folder)

    def write(self, keys: Sequence[str], pairs: Pairs, pair_keys: Sequence[str]) -> None:
        """Writes `files.job`: the store's keys of the matrix's and the validation pairs' samples, and these pairs.

        Args:
            keys: the store's keys of the matrix's samples, in its order.
            pairs: the validation pairs, not scored yet. pair_keys: the store's keys of their samples.
        """
        with atomic_folder(self.files.job) as folder:
            np.save(folder / "keys.npy", np.array(keys, "S64"), allow_pickle=False)
            np.save(folder / "pair_keys.npy", np.array(pair_keys, "S64"), allow_pickle=False)
            pairs.save(folder / "pairs")
            write_sums(folder)


def run(job: TrainJob, student: Any, report: Report = lambda step, metrics: None, group: Group = ALONE) -> Trained:
    """Trains `student` in place, as one of a group's workers (`t2t.training.loop.train`).

    Raises T2TError where the matrix or what lies beside it is missing or damaged, or the loss diverges.
    """
    if (problem := damaged(job.files.job)) is not None:
        raise T2TError(f"{job.files.job}: damaged ({problem}). Start the same command again: it is written anew.")
    store = EmbeddingStore(job.store, job.encoder, clean=False)

    def view(name: str) -> Embeddings:
        return store.view(np.load(job.files.job / f"{name}.npy", allow_pickle=False).astype(str).tolist())

    def validate(student: Any) -> float:
        return average_precision(student.predict_pairs(seen, np.arange(len(pairs.sample_ids)), pairs, job.identity))

    if group.leads:
        # It alone validates; the others need not wait for scikit-learn, which takes a second.
        from t2t.evaluation.metrics import average_precision

        pairs, seen = Pairs.load(job.files.job / "pairs"), view("pair_keys")
        seen.frames = job.frames
    matrix = LabelMatrix.load(job.matrix)
    return train(
        student, matrix, view("keys"), job.recipe, job.seed, validate, job.title, report, job.files.snapshot, group
    )
