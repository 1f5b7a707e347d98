"""`t2t compare CAMPAIGN --baselines`: a round's student among what could be had instead of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from t2t.campaign.campaign import Campaign
from t2t.campaign.engine import LocalEngine
from t2t.campaign.find import ledger_of
from t2t.campaign.freeze import frozen_config
from t2t.campaign.rivals import Rivalry, rivalry
from t2t.commands.groups import print_json
from t2t.commands.tables import console, table_of
from t2t.core.workspace import Workspace
from t2t.evaluation.standing import Compared
from t2t.training.baselines import METHODS
from t2t.training.baselines.measure import RivalScore

STUDENT = "the student"


def compare_rivals(workspace: Workspace, campaign: str, k: int | None, wanted: Sequence[str] | None) -> Rivalry:
    """Measures the rivals of a finished round.

    Args:
        k: the round; the champion's when None. wanted: names of rivals; all when None.
    """
    ledger = ledger_of(workspace, campaign)
    # As it began, whatever its file says now; one that was run under another name has no file.
    return rivalry(Campaign(frozen_config(ledger), workspace, LocalEngine("cpu")), k, wanted)


def rivals_json(workspace: Workspace, campaign: str, k: int | None, wanted: Sequence[str] | None) -> dict[str, Any]:
    """`--json`: {campaign, round, pairs, student, rivals, left_out, verdict}; a rival has name, detail, models, of each
    part (overall, seen, unseen) `Compared` or null, share_scored, seconds and sees_test."""
    found = compare_rivals(workspace, campaign, k, wanted)
    rivals = []
    for one in ordered(found):
        parts = {part: getattr(one, part) for part in ("overall", "seen", "unseen")}
        facts = {"name": one.name, "detail": one.detail, "models": one.models, "sees_test": one.sees_test}
        facts |= {part: compared.model_dump() if compared else None for part, compared in parts.items()}
        rivals.append(facts | {"share_scored": round(_scored(one), 4), "seconds": round(one.seconds, 2)})
    return {
        "campaign": campaign,
        "round": found.record.round,
        "pairs": found.pairs,
        "student": {part: own.model_dump() for part, own in found.student.items()},
        "rivals": rivals,
        "left_out": {one.name: one.left_out for one in found.rivals if one.left_out},
        "verdict": rivals_verdict(found),
    }


def print_rivals(
    workspace: Workspace, campaign: str, k: int | None, wanted: Sequence[str] | None, as_json: bool = False
) -> None:
    if as_json:
        print_json(rivals_json(workspace, campaign, k, wanted))
        return
    found = compare_rivals(workspace, campaign, k, wanted)
    title = f"{campaign}, round {found.record.round}, on {found.pairs:,} pairs of test; differences are the student's"
    console.print(table_of(rivals_table(found), title))
    for one in found.rivals:
        if one.left_out:
            console.print(f"Left out: {one.name}: {one.left_out}.", markup=False, soft_wrap=True)
    if any(one.sees_test for one in found.rivals):
        console.print("* chosen by test itself: a bound of choosing, which nobody can have.", markup=False)
    console.print(rivals_verdict(found), markup=False, soft_wrap=True)
    methods = [one.name for one in ordered(found) if one.name in METHODS and not one.sees_test]
    if methods:
        how = f"t2t run {campaign} --name {campaign}-{methods[0]} --set method={methods[0]} --set rounds.max=1"
        console.print(f"A student of one rival's labels is a campaign: {how}", markup=False, soft_wrap=True)


def ordered(found: Rivalry) -> list[RivalScore]:
    """The rivals that were measured, the best first."""
    measured = [one for one in found.rivals if one.overall is not None]
    return sorted(measured, key=lambda one: -one.overall.pr_auc if one.overall else 0.0)


def rivals_table(found: Rivalry) -> pd.DataFrame:
    """One row a rival, the student in the first: PR-AUC with its interval, of seen and unseen topics, the student's
    difference, models asked about a new clip, and the share of pairs that a rival scores by itself."""
    overall = found.student.get("overall")
    first: dict[str, Any] = {
        "": STUDENT,
        "PR-AUC [95 %]": f"{overall.pr_auc:.3f} [{overall.low:.3f}, {overall.high:.3f}]" if overall else "",
        "seen": _value(found.student.get("seen")),
        "unseen": _value(found.student.get("unseen")),
        "student minus it": "",
        "models asked": "0",
        "scores": "100 %",
        "seconds": "",
    }
    rows = [first]
    for one in ordered(found):
        compared = one.overall
        assert compared is not None
        rows.append(
            {
                "": one.name + " *" * one.sees_test,
                "PR-AUC [95 %]": f"{compared.pr_auc:.3f} [{compared.low:.3f}, {compared.high:.3f}]",
                "seen": _value(one.seen),
                "unseen": _value(one.unseen),
                "student minus it": str(compared),
                "models asked": str(one.models),
                "scores": f"{_scored(one):.0%}".replace("%", " %"),
                "seconds": f"{one.seconds:.1f}",
            }
        )
    frame = pd.DataFrame(rows)
    return frame if "unseen" in found.student else frame.drop(columns="unseen")


def rivals_verdict(found: Rivalry) -> str:
    """One sentence: where the student stands among its rivals on all pairs of test, and what the best of them costs."""
    rivals = [one for one in ordered(found) if not one.sees_test]
    own = found.student.get("overall")
    if own is None:
        return "No pair of test is positive: whether the student is worth having cannot be measured."
    student = f"On test the student (PR-AUC {own.pr_auc:.3f})"
    if not rivals:
        return f"{student} has no rival beside it."
    stands: dict[str, list[tuple[RivalScore, Compared]]] = {"above": [], "equal": [], "below": []}
    for one in rivals:
        if one.overall is not None:
            stands[one.overall.standing].append((one, one.overall))
    said = []
    for standing, words in (("below", "clearly below"), ("equal", "not told apart from"), ("above", "clearly above")):
        if some := stands[standing]:
            one, compared = some[0]
            named = f"{one.name} ({compared})"
            count = f"{words} {len(some)} of {len(rivals)} rivals, the best of them {named}"
            said.append(count if len(rivals) > 1 else f"{words} {named}")
    best = rivals[0]
    cost = "asks no teacher" if not best.models else f"asks {best.models} model{'s' * (best.models > 1)}"
    return f"{student} is {'; '.join(said)}. Of a new clip it asks no teacher; {best.name} {cost}."


def _value(of: Any) -> str:
    return f"{of.pr_auc:.3f}" if of is not None else ""


def _scored(one: RivalScore) -> float:
    return float((one.scores == one.scores).mean()) if len(one.scores) else 0.0
