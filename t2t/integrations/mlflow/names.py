"""What numbers are called in MLflow: words that a person reads, in MLflow's own letters (no commas, no brackets).

What stands before a slash is a section of charts; MLflow sorts sections with capitals first, and puts names without a
slash last.
"""

from __future__ import annotations

import re

from t2t.core.files import sha256
from t2t.data.labels import ANNOTATOR, HUMAN

# A campaign's lines by round, and the columns of its table of rounds.
PR_AUC, SEEN, UNSEEN = "PR-AUC/test", "PR-AUC/test seen topics", "PR-AUC/test unseen topics"
VALIDATION, CONTROL, CHANCE = "PR-AUC/validation", "PR-AUC/test control", "PR-AUC/test by chance"

NAMES = {
    "pr_auc": PR_AUC,
    "pr_auc_low": "PR-AUC interval/test low",
    "pr_auc_high": "PR-AUC interval/test high",
    "pr_auc_seen": SEEN,
    "pr_auc_unseen": UNSEEN,
    "validation_pr_auc": VALIDATION,
    "validation_pr_auc_low": "PR-AUC interval/validation low",
    "validation_pr_auc_high": "PR-AUC interval/validation high",
    "validation_pr_auc_seen": "PR-AUC/validation seen topics",
    "validation_pr_auc_unseen": "PR-AUC/validation unseen topics",
    "control_pr_auc": CONTROL,
    "chance": CHANCE,
    "gain_over_control": "gain over control/test",
    "gain_over_control_low": "gain over control/test low",
    "gain_over_control_high": "gain over control/test high",
    "rows": "training/rows",
    "seconds": "training/seconds",
    "best_step": "training/best step",
    "loss": "training/loss",
    "learning_rate": "training/learning rate",
    "step_validation_pr_auc": "training/PR-AUC validation by step",
}
# Of each teacher: `<prefix>/<teacher>`.
BY_TEACHER = {
    "pr_auc_teacher": "PR-AUC of teachers on test",
    "pr_auc_beside": "student on the pairs of",
    "pr_auc_size": "PR-AUC on test by size",
    "scale_worth": "worth of teachers",
    "scale_slope": "slope of teachers",
    "rows": "rows of teachers",
}
# What runs from before 2026-11-29 have instead.
BEFORE = {name: old for old, name in NAMES.items()}
LETTERS = re.compile(r"[^\w\-. :/]")


def teacher(identity: str) -> str:
    """An identity as the last part of a metric's name, where `human/anna` would be a section of its own, and a name may
    have signs that MLflow refuses: `human anna`, and with a hash behind it where something had to be changed."""
    if not identity.startswith(ANNOTATOR):
        return identity
    name = identity.removeprefix(ANNOTATOR)
    plain = LETTERS.sub("-", name).replace("/", "-")
    return f"{HUMAN} {plain}" if plain == name else f"{HUMAN} {plain} {sha256(name)[:6]}"


def readable(name: str) -> str:
    """What a metric is called: `pr_auc_seen` is `PR-AUC test seen topics`. One that has no words here keeps its name,
    with blanks."""
    prefix, slash, rest = name.partition("/")
    if slash and prefix in BY_TEACHER:
        return f"{BY_TEACHER[prefix]}/{teacher(rest)}"
    if not slash:
        return NAMES.get(name) or LETTERS.sub(" ", name.replace("_", " "))
    # What comes after a second slash is a name of somebody's own.
    measure, second, of = rest.partition("/")
    return LETTERS.sub(" ", f"{prefix}/{measure.replace('_', ' ')}{second}{of}")
