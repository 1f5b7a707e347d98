"""When has a self-training teacher collapsed, and when does a student come nearer to its teachers and farther from the
truth? Judged by the numbers of the watch (`watch`)."""

from __future__ import annotations

from collections.abc import Mapping

from t2t.evaluation.config import WatchConfig

# What the numbers are called where people read them.
MEASURES = {
    "self_share": "self-training labels in all training rows, share",
    "human_weight": "people's rows against these, of what both weigh in the loss",
    "labels": "labels of the new self-training teacher",
    "distinct": "distinct confidences",
    "agreement": "agreement with the outside teachers (rank correlation)",
    "outside_pairs": "pairs that outside teachers labeled too",
    "agreement_previous": "agreement with the previous self-training teacher",
    "pairs": "pairs that the previous one labeled too",
    "flips": "labels that changed sides of 0.5, share of these",
    "change": "mean absolute change of these",
    "psi": "drift from the previous one (PSI)",
    "psi_first": "drift from the first one (PSI)",
    "class_share": "largest share of a topic in the positives",
    "class_entropy": "entropy of the topics' shares, 0..1",
    "confidence_entropy": "entropy of the confidences, 0..1",
    "teacher_loss": "loss on the teachers' tasks, on validation",
    "teacher_loss_change": "that against the best round before",
    "people_change": "PR-AUC on validation against it",
    "people_change_high": "upper end of its interval",
    "hacking": "teacher hacking: 1 where the loss fell and PR-AUC fell beyond its interval",
    "late_loss_change": "loss at the training's end against its best step",
    "late_people_change": "PR-AUC on validation there",
    "late_hacking": "teacher hacking within the training, 0 or 1",
}
# By chance, fewer pairs than that can have any rank correlation.
MIN_JUDGED = 1000


def collapse(measures: Mapping[str, float], bounds: WatchConfig, teacher: str, topic: str | None = None) -> str | None:
    """Why a self-training teacher must not teach, or None while it is within the bounds.

    Args:
        measures: what `watch` returned for it; empty for a round that made no teacher.
        topic: the topic with the largest share, named in the reason.
    """
    low, entropy, most = bounds.min_agreement, bounds.min_entropy, bounds.max_psi
    # A constant has no ranks, so it cannot disagree; it knows nothing of the teachers that it learned from.
    if low is not None and measures.get("distinct") == 1:
        return f"collapse: all {measures['labels']:,.0f} confidences of {teacher} are the same: it agrees with nobody"
    judged = measures.get("outside_pairs", 0) >= MIN_JUDGED
    if low is not None and judged and (value := measures.get("agreement", low)) < low:
        return (
            f"collapse: rank correlation of {teacher} with the outside teachers is {value:.3f} on average, "
            f"below watch.min_agreement {low:g}"
        )
    if entropy is not None and (value := measures.get("class_entropy", entropy)) < entropy:
        share = f"{measures['class_share']:.1%}" + (f" on {topic!r}" if topic else "")
        return (
            f"collapse: the topics' shares of the positives of {teacher} have a normalised entropy of {value:.3f} "
            f"(the largest share is {share}), below watch.min_entropy {entropy:g}"
        )
    for name, other in (("psi", "the previous"), ("psi_first", "the first")):
        if most is not None and (value := measures.get(name, 0.0)) > most:
            return (
                f"collapse: the confidences of {teacher} have drifted from {other} self-training teacher's by a "
                f"population stability index of {value:.2f}, above watch.max_psi {most:g}"
            )
    return None


def after_collapse(teacher: str) -> str:
    """What a person can do about a collapse."""
    return (
        f"Leave its labels out and go on: t2t teachers retract {teacher}. Or change the bound under `watch:` in the "
        "campaign; null turns it off."
    )


def hacking_lines(measures: Mapping[str, float]) -> list[str]:
    """What a round's numbers say of teacher hacking, a sentence each; mostly nothing."""
    lines = []
    if measures.get("hacking"):
        lines.append(
            f"Teacher hacking: the loss on its teachers' tasks changed by {measures['teacher_loss_change']:+.4f} from "
            f"the best round, and PR-AUC on people's validation pairs by {measures['people_change']:+.3f}, beyond its "
            "interval: it comes nearer to its teachers and farther from the truth. Labels of other clips or teachers "
            "help; more rounds do not."
        )
    if measures.get("late_hacking"):
        lines.append(
            f"Teacher hacking within the training: after its best step the loss changed by "
            f"{measures['late_loss_change']:+.4f}, and PR-AUC on people's validation pairs by "
            f"{measures['late_people_change']:+.3f}, beyond its interval. The best step's student is kept; fewer steps "
            "(training.patience) would have been enough."
        )
    return lines
