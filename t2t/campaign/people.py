"""What is said of a campaign in which people only measure: no label of theirs is trained on, teachers teach alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from t2t.campaign.config import TEACHER2TASK, CampaignConfig
from t2t.core.errors import T2TError
from t2t.data.labels import HUMAN
from t2t.tuning.needs import tuning_of

ONLY_MEASURE = (
    "People only measure: no label of theirs is trained on. Asked as `human`, a student answers as the mean of the "
    "identities that it learned from; each round is measured as whoever of `human` and these is best on validation."
)


def only_measure(rows: Mapping[str, int], weights: Mapping[str, float]) -> bool:
    """Whether nothing that people said is learned.

    Args:
        rows: of each identity that is trained on. weights: `training.task_weight`.
    """
    return bool(rows) and not (rows.get(HUMAN) and weights.get(HUMAN, 1.0))


def people_note(config: CampaignConfig, rows: Mapping[str, int]) -> str | None:
    """What people should know who begin such a campaign; None for others.

    Args:
        rows: of each identity that is trained on, before a method makes its own of them.
    """
    if config.method != TEACHER2TASK or not only_measure(rows, config.training.task_weight):
        return None
    note = ONLY_MEASURE
    if config.common_scale:
        note += " Each teacher's scale comes from its own distribution."
    without_effect = ["training.human_share"] if config.training.human_share is not None else []
    without_effect += ["training.task_weight.human"] if config.training.task_weight.get(HUMAN) else []
    if without_effect:
        note += f" Without effect: {', '.join(without_effect)}."
    return note


def plan_notes(config: CampaignConfig, rows: Mapping[str, int]) -> list[str]:
    """What people should know of how rounds will teach one another, before any is run."""
    note = people_note(config, rows)
    notes = [note] if note else []
    settings = config.self_training
    if (tune := tuning_of(config.encoder)) is not None:
        notes.append(
            f"Before the first round the frame encoder is tuned, {tune.steps:,} steps of {tune.samples:,} samples, and "
            "all samples are embedded once more: that time is not counted here."
        )
    if settings.co_teachers == "consensus" and config.rounds.max > 1:
        notes.append(
            "Two students label by consensus: each round that another one follows trains two, so that it takes about "
            f"twice as long. A pair gets a label of both where they differ by less than {settings.agree_within:g}."
        )
    if settings.co_teachers == "alternating" and config.rounds.max > 1:
        notes.append("Two lines of students take turns: a round learns from the other line's students only.")
    if settings.human_weight == "auto" and config.rounds.max > 1:
        notes.append("The weight of people's rows against students' is estimated before each self-training round.")
    return notes


def refuse_unlearned(config: CampaignConfig, asked: Mapping[str, str], learned: Collection[str]) -> None:
    """Raises T2TError where the student would be asked as somebody it did not learn from.

    Args:
        asked: by the setting's key, the identity. learned: those with rows that weigh something.
    """
    for key, identity in asked.items():
        if identity != HUMAN and identity not in learned:
            raise T2TError(
                f"Campaign {config.name!r}: {key} is {identity!r}, and no label of that identity is trained on: the "
                f"student could only guess what it says. Learned from: {', '.join(sorted(learned))}. Name one of them, "
                "or leave the key out."
            )
