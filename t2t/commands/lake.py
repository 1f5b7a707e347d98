"""`t2t lake log` and `t2t lake diff`: what is in the lake's history, on every backend alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rich.markup import escape
from rich.table import Table

from t2t.campaign.find import PATIENTLY, lakes, ledger_of
from t2t.campaign.freeze import read_frozen
from t2t.campaign.ledger import Ledger
from t2t.commands.tables import console
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.data.labels import HUMAN, is_people
from t2t.lake import Change, Commit, Lake, UnknownRef, open_lake

SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
# What a row of the log shows of a commit's metadata, if it has it; hashes by their beginning.
FACTS = ("round", "status", "teacher", "rows", "pr_auc", "fingerprint", "weights")


def commits_of(ledger: Ledger, campaign: str) -> Iterator[Commit]:
    """The commits of `main` that a campaign stands on, newest first: its own, its data's and its teachers'."""
    dataset = ledger.layout.dataset
    teachers = set(read_frozen(ledger).get("teachers", ()))
    teachers |= {teacher.id for record in ledger.records() for teacher in record.teachers}
    for commit in ledger.lake.log("main"):
        facts = commit.metadata
        if "campaign" in facts:
            if facts["campaign"] == campaign:
                yield commit
            continue
        teacher = facts.get("teacher", HUMAN)
        if facts.get("dataset") == dataset and (teacher in teachers or is_people(teacher)):
            yield commit


def log_json(workspace: Workspace, campaign: str, limit: int | None = None) -> list[dict[str, Any]]:
    """`t2t lake log --json`: a list of {commit, time, message, key, metadata, version, parents}."""
    return [
        {
            "commit": commit.id,
            "time": commit.time.isoformat(),
            "message": commit.message,
            "key": commit.key,
            "metadata": commit.metadata,
            "version": commit.version,
            "parents": list(commit.parents),
        }
        for commit in islice(commits_of(ledger_of(workspace, campaign), campaign), limit)
    ]


def print_log(workspace: Workspace, campaign: str, limit: int | None = None) -> None:
    ledger = ledger_of(workspace, campaign)
    table = Table(title=f"Commits behind {campaign}, newest first (UTC)", title_justify="left", header_style="bold")
    for name in ("commit", "time", "facts", "message"):
        table.add_column(name, no_wrap=name in ("commit", "time"), overflow="fold")
    for commit in islice(commits_of(ledger, campaign), limit):
        message = commit.message.partition("\n")[0]
        table.add_row(commit.id[:12], f"{commit.time:%Y-%m-%d %H:%M:%S}", escape(_facts(commit)), escape(message))
    console.print(table)


def _facts(commit: Commit) -> str:
    facts = {name: commit.metadata[name] for name in FACTS if commit.metadata.get(name)}
    for name in ("fingerprint", "weights"):
        if name in facts:
            facts[name] = facts[name][:12]
    if "pr_auc" in facts:
        facts["pr_auc"] = f"{float(facts['pr_auc']):.3f}"
    if facts.get("rows", "").isdigit():
        facts["rows"] = f"{int(facts['rows']):,}"
    return ", ".join(value if name == "status" else f"{name} {value}" for name, value in facts.items())


def changes(
    workspace: Workspace, left: str, right: str, campaign: str | None = None, uri: str | None = None
) -> list[Change]:
    """What differs between two references of a lake: the campaign's, that at `uri`, or the one that has them both.

    Raises T2TError for references that no lake here has.
    """
    if uri is not None:
        return open_lake(uri, workspace.work, create=False, wait=PATIENTLY).diff(left, right)
    places: list[Lake] = [ledger_of(workspace, campaign).lake] if campaign else lakes(workspace)
    problem = T2TError(f"There is no lake in {workspace.work} yet. Start a campaign: t2t run CAMPAIGN")
    for lake in places:
        try:
            return lake.diff(left, right)
        except UnknownRef as error:
            problem = error
    raise problem


def diff_json(differences: list[Change]) -> list[dict[str, str]]:
    """`t2t lake diff --json`: a list of {path, change}; change is added, removed or changed."""
    return [{"path": change.path, "change": change.kind} for change in differences]


def print_diff(differences: list[Change]) -> None:
    for change in differences:
        sign, colour = SIGNS[change.kind]
        console.print(f"[{colour}]{sign}[/{colour}] {escape(change.path)}", soft_wrap=True)
    counts = [f"{n} {kind}" for kind in SIGNS if (n := sum(change.kind == kind for change in differences))]
    console.print(", ".join(counts) or "No difference.")
