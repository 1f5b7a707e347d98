"""What `t2t annotate` is asked for, checked before anything is imported that takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t2t.core.errors import T2TError, listed, nearest
from t2t.core.workspace import Workspace
from t2t.data.dataset import SPLITS, Dataset

PAIRS = "pairs.csv"
DRAWN_FROM = ("train", "unlabeled")
# Share of the pairs that is drawn, so that what people say of these holds for all.
RANDOM_SHARE = 0.15


@dataclass(frozen=True)
class Wanted:
    """What is asked for. pairs: how many. topics: of which; None for all that may be trained on. reason: why people's
    time goes into validation, where that is what `split` names. random: share that is drawn, 0..1."""

    pairs: int = 200
    split: str | None = None
    topics: tuple[str, ...] | None = None
    reason: str = ""
    seed: int = 0
    random: float = RANDOM_SHARE

    @property
    def measures(self) -> bool:
        return self.split is not None and self.split not in DRAWN_FROM

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are drawn from."""
        return DRAWN_FROM if self.split is None else (self.split,)

    def checked(self) -> Wanted:
        """Itself. Raises T2TError for a split of which nothing is asked."""
        if self.split is not None and self.split not in SPLITS:
            raise T2TError(f"Unknown split {self.split!r}.{nearest(self.split, SPLITS)}")
        if self.split == "test":
            raise T2TError(
                "No pair is asked of split 'test': a student would be measured on pairs that were chosen by what "
                "students say. Leave --split out."
            )
        if self.measures and not self.reason.strip():
            raise T2TError(
                "Answers of split 'validation' teach nobody: they measure. If that is what you want, say why "
                "(--reason '...'); its pairs are then all drawn at random."
            )
        return self

    def of(self, dataset: Dataset) -> tuple[str, ...]:
        """The topics that are asked about. Raises T2TError for one whose answers would be of no use."""
        known = dataset.topics if self.measures else dataset.seen
        if self.topics is None:
            return known
        for topic in self.topics:
            if topic not in dataset.topics:
                raise T2TError(f"Unknown topic {topic!r}.{nearest(topic, dataset.topics)}")
        if unseen := [topic for topic in self.topics if topic not in known]:
            raise T2TError(
                f"People's labels of unseen topics are kept out of training, so answers would teach nobody: "
                f"{listed(unseen)}. Leave them out, or take them out of the dataset's `unseen`."
            )
        return tuple(dict.fromkeys(self.topics))


def check_folder(workspace: Workspace, campaign: str, out: Path | None) -> Path:
    """The folder to write: a new one. Raises T2TError for one that is there, in which somebody may have answered."""
    if out is None:
        parent = workspace.work / "annotate"
        number = 1
        while (parent / f"{campaign}-{number:03}").exists():
            number += 1
        return parent / f"{campaign}-{number:03}"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise T2TError(
            f"{out} is there already, perhaps with somebody's answers. Read them back (t2t annotate {campaign} --read "
            f"{out / PAIRS}), or name another folder."
        )
    if not out.absolute().parent.is_dir():
        raise T2TError(f"{out.absolute().parent}: no such folder. Make it first.")
    return out
