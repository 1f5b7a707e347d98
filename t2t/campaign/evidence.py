"""What rivals learn from in a campaign: what people and outside teachers say, and the samples' embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from t2t.campaign.campaign import Campaign
from t2t.data.coding import strings
from t2t.data.pairs import Pairs, teacher_scores
from t2t.data.scales import Scale
from t2t.teachers.store import named_labels
from t2t.training.baselines.base import Heard, Known
from t2t.training.baselines.labels import unlabeled
from t2t.training.matrix import LabelMatrix
from t2t.training.yardsticks import of_samples

# Samples whose frames are held at once, where these are averaged.
BLOCK = 256
Spoken = Mapping[str, np.ndarray]


def people_pairs(campaign: Campaign) -> Pairs:
    """People's rows that may be trained on, of as many samples as yardsticks and rivals learn from."""
    return of_samples(campaign.human_pairs("train").of_topics(frozenset(campaign.dataset.seen)))


def spoken(
    campaign: Campaign, commit: str, teachers: Sequence[str], pairs: Mapping[str, Pairs]
) -> dict[str, dict[str, np.ndarray]]:
    """By split, what each outside teacher says of its pairs at a commit; a teacher's labels are read once."""
    found: dict[str, dict[str, np.ndarray]] = {split: {} for split in pairs}
    for name in campaign.config.outside(teachers):
        labels = named_labels(campaign.lake, commit, campaign.dataset.name, name)
        for split, asked in pairs.items():
            found[split][name] = teacher_scores(asked, labels)
    return found


def heard(campaign: Campaign, pairs: Pairs, said: Spoken) -> Heard:
    """Pairs with what teachers say of them."""
    return Heard(pairs, said, mean_frames(campaign, pairs.sample_ids))


def mean_frames(campaign: Campaign, sample_ids: Sequence[str]) -> np.ndarray:
    """The mean of each sample's frame embeddings, float32 [samples, dim]."""
    embeddings, where = campaign.embedded.embeddings, campaign.positions(sample_ids)
    means = np.zeros((len(where), embeddings.dim), np.float32)
    for at in range(0, len(where), BLOCK):
        frames, mask = embeddings.gather(where[at : at + BLOCK])  # zero where a sample has no frame
        means[at : at + BLOCK] = frames.sum(axis=1, dtype=np.float32) / np.maximum(mask.sum(axis=1), 1)[:, None]
    return means


class Frames:
    """Mean frame embeddings of a matrix's samples by their positions in it."""

    def __init__(self, campaign: Campaign, matrix: LabelMatrix):
        self.campaign, self.ids = campaign, strings(matrix.sample_ids)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        return mean_frames(self.campaign, [self.ids[int(i)].as_py() for i in samples])


def known_of(
    campaign: Campaign,
    commit: str,
    teachers: Sequence[str],
    scales: Mapping[str, Scale],
    matrix: LabelMatrix,
    pairs: Mapping[str, Pairs] | None = None,
) -> tuple[Known, dict[str, Heard]]:
    """What a round's rivals may learn from, and further splits with what teachers say of them.

    Args:
        commit: where labels are read. teachers: the round's. scales: their maps to the common scale.
        matrix: the round's rows, raw. pairs: of splits besides `train` and `validation`, by name.
    """
    asked = {"train": people_pairs(campaign), "validation": campaign.human_pairs("validation"), **(pairs or {})}
    said = spoken(campaign, commit, teachers, asked)
    found = {split: heard(campaign, those, said[split]) for split, those in asked.items()}
    names = tuple(said["validation"])
    rest = unlabeled(matrix, names, campaign.dataset.topics, Frames(campaign, matrix))
    return Known(found["train"], found["validation"], scales, rest), found
