"""PR-AUC by topic: what moved most between two rounds, and all topics in a table that sorts."""

from __future__ import annotations

from typing import Any

from t2t.commands.page.material import Material
from t2t.evaluation.metrics import topic_table

# Of the largest gains and losses; of the table of all topics, so that the page stays small.
MOVED, ALL = 10, 2_000


def by_topic(material: Material) -> dict[str, Any]:
    """The topics' PR-AUC on test in the first round and in the one that the report is about (or the last one, where
    that is the first).

    Returns: `first`, `record` (None where there is one round only); `gains` and `losses`, the rows that moved most;
        `better`, `worse`, `same`, `unmeasured`, how many topics did what; `largest`, the largest change; `rows`, at
        most ALL of them, those with the most positives first, and `of`, how many there are. A row has topic, unseen,
        pairs, positives, chance (the share of positives), pr_auc_before, pr_auc_after and change.
    """
    first, record = material.shown[0] if material.shown else material.measured, material.measured
    if record.round == first.round:
        record = material.shown[-1]
    before, after = (topic_table(material.pairs(shown.round, "test"), material.unseen) for shown in (first, record))
    table = before.merge(after[["topic", "pr_auc"]], on="topic", suffixes=("_before", "_after"))
    table["change"] = table["pr_auc_after"] - table["pr_auc_before"]
    table["chance"] = table["positives"] / table["pairs"]
    measured = table.dropna(subset="change").sort_values("change", ascending=False, kind="stable")
    gains, losses = measured[measured["change"] > 0], measured[measured["change"] < 0]
    rows = table.sort_values(["positives", "topic"], ascending=[False, True], kind="stable")
    return {
        "first": first,
        "record": None if record.round == first.round else record,
        "gains": gains.head(MOVED).to_dict("records"),
        "losses": losses[::-1].head(MOVED).to_dict("records"),
        "better": len(gains),
        "worse": len(losses),
        "same": len(measured) - len(gains) - len(losses),
        "unmeasured": len(table) - len(measured),
        "largest": float(measured["change"].abs().max()) if len(measured) else 1.0,
        "rows": rows.head(ALL).to_dict("records"),
        "of": len(rows),
    }
