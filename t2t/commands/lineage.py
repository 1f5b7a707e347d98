"""`t2t lineage`: where a checkpoint, a round or a teacher comes from, read from the lake alone.

checkpoint <- round <- teachers with fingerprints (self-training ones by their own checkpoints) <- label commits <- data
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from t2t.campaign import encoders
from t2t.campaign.best import no_champion
from t2t.campaign.find import campaigns, lakes, teacher_places
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import RETRACTED, Record, champion
from t2t.commands.tables import console
from t2t.core.errors import T2TError, nearest
from t2t.core.files import sha256_file
from t2t.core.workspace import Workspace
from t2t.data.embeddings.distilled import EncoderCard
from t2t.data.labels import is_people
from t2t.lake import Commit, Lake
from t2t.lake.layout import DatasetLayout
from t2t.lake.tables import latest_commit, read_json
from t2t.teachers.retraction import retracted
from t2t.teachers.store import registered

# Children of one node that a person reads.
MOST = 30
Node = dict[str, Any]
"""`kind` (checkpoint, round, encoder, teacher, labels, data), `id`, `facts`, `retracted` (the reason, or None), `from`
(what it descends from) and `repeated` (its own `from` stands where it was named first)."""


class Ancestry:
    """The family of one dataset's teachers and rounds in one lake."""

    def __init__(self, lake: Lake, dataset: str):
        self.lake, self.dataset, self.layout = lake, dataset, DatasetLayout(dataset)
        self.head = lake.resolve("main")
        self.out = retracted(lake, dataset, self.head)
        self._records: dict[str, list[Record]] = {}
        self._seen: set[tuple[str, str]] = set()

    def records(self, campaign: str) -> list[Record]:
        if campaign not in self._records:
            self._records[campaign] = Ledger(self.lake, self.dataset, campaign).records()
        return self._records[campaign]

    def checkpoint(self, record: Record) -> Node:
        facts = {"sha256": record.weights_sha256, "folder": record.checkpoint}
        reason = record.reason if record.status == RETRACTED else None
        return self._node("checkpoint", record.weights_sha256, facts, reason, lambda: [self.round(record)])

    def _second(self, record: Record, entry: Mapping[str, Any]) -> Node:
        """The checkpoint of a round's second student, by its entry as a teacher."""
        facts = {"sha256": entry["weights_sha256"], "folder": entry["checkpoint"]}
        reason = record.reason if record.status == RETRACTED else None
        return self._node("checkpoint", facts["sha256"], facts, reason, lambda: [self.round(record)])

    def round(self, record: Record) -> Node:
        facts = {"status": record.status, "reason": record.reason, "pr_auc": record.test["pr_auc"]}
        facts |= {"validation_pr_auc": record.score, "rows": record.rows, "branch": record.branch}
        facts |= {"commit": record.commit, "data_commit": record.data_commit}
        facts |= {"tuned_encoder": record.encoder} if record.encoder else {}

        def sources() -> list[Node]:
            teachers = [self.teacher(teacher.id, teacher.fingerprint, record) for teacher in record.teachers]
            return [*self._encoder_of(record), *teachers]

        reason = record.reason if record.status == RETRACTED else None
        return self._node("round", f"{record.campaign}/{record.round}", facts, reason, sources)

    def _encoder_of(self, record: Record) -> list[Node]:
        """The encoder that a round looks through, where it was distilled."""
        config = Ledger(self.lake, self.dataset, record.campaign).layout.config
        frozen = (read_json(self.lake, self.head, config) or {}).get("encoder")
        if not isinstance(frozen, Mapping) or frozen.get("kind") != "distilled":
            return []
        card = encoders.entries(self.lake, self.head).get(str(frozen.get("name")))
        return [self.encoder(card)] if card is not None and card.fingerprint == frozen.get("fingerprint") else []

    def encoder(self, card: EncoderCard) -> Node:
        """A distilled encoder, and those it learned from."""
        facts: dict[str, Any] = {"fingerprint": card.fingerprint, "model": card.model, "sha256": card.weights}
        facts |= {"datasets": card.datasets, "frames": card.frames, "frame_count": card.frame_count}

        def sources() -> list[Node]:
            nodes = []
            for teacher in card.teachers:
                own = {"fingerprint": teacher.fingerprint, "model": f"{teacher.kind} {teacher.model}"}
                gone = "retracted" if {teacher.fingerprint, teacher.weights} & self.gone else None
                nodes.append(self._node("encoder", teacher.name, own, gone, list))
            return nodes

        cause = encoders.out(self.lake, self.head).get(card.name)
        return self._node("encoder", card.name, facts, cause.why if cause else None, sources)

    @cached_property
    def gone(self) -> set[str | None]:
        """The fingerprints of encoders that are retracted by name."""
        return {*encoders.retracted(self.lake, self.head)}

    def teacher(self, teacher: str, fingerprint: str | None = None, record: Record | None = None) -> Node:
        """A teacher as a round read it, or as it is on `main`."""
        # Rounds of an older version did not note where they read: their own commit comes soon after.
        at = (record.label_commits.get(teacher) or record.data_commit or record.commit) if record else self.head
        registration = registered(self.lake, self.dataset, teacher, at)
        facts = {
            "kind": registration.kind if registration else "?",
            "fingerprint": fingerprint or (registration.fingerprint if registration else ""),
        }
        if registration is not None and registration.description:
            facts["description"] = registration.description
        reason = None
        if teacher in self.out:
            cause = self.out[teacher]
            reason = "retracted" if cause == teacher else f"descends from {cause}, which was retracted"

        def sources() -> list[Node]:
            nodes = [self._labels(commit) for commit in self._label_commits(teacher, at, facts["fingerprint"])]
            if registration is not None and registration.student_of is not None and registration.parents:
                campaign, k = registration.student_of
                made = [other for other in self.records(campaign) if other.round == k]
                weights = registration.entry["weights_sha256"]
                nodes += [self.checkpoint(other) for other in made if other.weights_sha256 == weights]
                nodes += [self._second(other, registration.entry) for other in made if other.second_teacher == teacher]
            return nodes

        return self._node("teacher", teacher, facts, reason, sources)

    def _label_commits(self, teacher: str, at: str, fingerprint: str) -> list[Commit]:
        """The commits whose labels are still there at `at`, newest first: those of this fingerprint, up to another."""
        commits: list[Commit] = []
        layout = self.layout.teacher(teacher)
        for commit in self.lake.log(at):
            if commit.key.startswith(layout.label_keys):
                if commit.metadata.get("fingerprint") != fingerprint:
                    break
                commits.append(commit)
                # The first commit of a teacher's has the bare fingerprint in its key.
                if layout.is_first(commit.key, fingerprint):
                    break
        # People's labels are replaced, not added to, when they change.
        return commits[:1] if is_people(teacher) else commits

    def _labels(self, commit: Commit) -> Node:
        facts = {"rows": int(commit.metadata.get("rows", 0)), "commit": commit.id, "time": commit.time.isoformat()}
        return self._node("labels", commit.id, facts, None, lambda: self._data(commit.id))

    def _data(self, at: str) -> list[Node]:
        commit = latest_commit(self.lake, at, self.layout.data_keys)
        if commit is None:
            return []
        facts = {"dataset": self.dataset, "commit": commit.id, "fingerprint": commit.metadata.get("fingerprint", "")}
        return [self._node("data", commit.id, facts, None, list)]

    def _node(
        self, kind: str, name: str, facts: dict[str, Any], reason: str | None, sources: Callable[[], list[Node]]
    ) -> Node:
        # Every later round has the earlier students among its teachers: a family is told once, not 2^k times.
        repeated = (kind, name) in self._seen
        self._seen.add((kind, name))
        node: Node = {"kind": kind, "id": name, "facts": facts, "retracted": reason, "repeated": repeated}
        return node | {"from": [] if repeated else sources()}


def lineage(workspace: Workspace, target: str) -> Node:
    """The tree of a teacher's id, `CAMPAIGN/ROUND`, a campaign (its champion), an encoder or a checkpoint folder.

    Raises T2TError, with the nearest name that is known, when there is none of that name.
    """
    places = [(lake, layout.dataset, layout.name) for lake, layout in campaigns(workspace)]
    name, _, number = target.rpartition("/")
    for lake, dataset, campaign in places:
        family = Ancestry(lake, dataset)
        if campaign == name and re.fullmatch(r"\d+", number):
            records = family.records(campaign)
            if int(number) >= len(records):
                raise T2TError(f"Campaign {campaign!r} has no finished round {number}; it has {len(records)} rounds.")
            return family.checkpoint(records[int(number)])
        if campaign == target:
            best = champion(family.records(campaign))
            if best is None:
                raise no_champion(Ledger(lake, dataset, campaign))
            return family.checkpoint(best)
    for lake, dataset in teacher_places(workspace).get(target, []):
        return Ancestry(lake, dataset).teacher(target)
    for lake in lakes(workspace):
        if (card := encoders.entries(lake).get(target)) is not None:
            return Ancestry(lake, "").encoder(card)
    folder = Path(target)
    weights = folder / "model.safetensors"
    if folder.is_dir():
        if not weights.is_file():
            raise T2TError(f"{folder}: not a checkpoint folder, it has no model.safetensors.")
        digest = sha256_file(weights)
        for lake, dataset, campaign in places:
            family = Ancestry(lake, dataset)
            for record in family.records(campaign):
                if record.weights_sha256 == digest:
                    return family.checkpoint(record)
        raise T2TError(f"{folder}: no round of the lakes here left these weights (SHA-256 {digest[:12]}).")
    names = [*teacher_places(workspace), *(campaign for _, _, campaign in places)]
    names += [name for lake in lakes(workspace) for name in encoders.entries(lake)]
    raise T2TError(
        f"{target!r} is no teacher, CAMPAIGN/ROUND, campaign, encoder or checkpoint folder here."
        + nearest(target, names)
    )


def print_lineage(node: Node) -> None:
    tree = Tree(_line(node), guide_style="dim")
    _grow(tree, node)
    console.print(tree)


def told(node: Node) -> tuple[list[Node], int]:
    """What a node descends from as far as a person reads it, and how many more there are: of very many teachers the
    first ones, those that are retracted and those that are students."""
    children = node["from"]
    if len(children) <= MOST:
        return children, 0
    shown = [c for i, c in enumerate(children) if i < MOST or c["retracted"] or c["facts"].get("kind") == "student"]
    return shown, len(children) - len(shown)


def _grow(tree: Tree, node: Node) -> None:
    children, more = told(node)
    for child in children:
        _grow(tree.add(_line(child)), child)
    if more:
        tree.add(f"[dim]and {more:,} more teachers (--json has all)[/dim]")


def _line(node: Node) -> str:
    facts = node["facts"]
    if node["kind"] == "checkpoint":
        text = f"[bold]checkpoint[/bold] {facts['sha256'][:12]}  {escape(facts['folder'])}"
    elif node["kind"] == "round":
        text = f"[bold]round[/bold] {escape(node['id'])}  {facts['status']}, PR-AUC {facts['pr_auc']:.3f} on test"
        text += f" ({facts['validation_pr_auc']:.3f} on validation), {facts['rows']:,} rows"
        text += f", commit {facts['commit'][:12]}"
    elif node["kind"] == "encoder":
        text = f"[bold]encoder[/bold] {escape(node['id'])}  {escape(facts['model'])}"
        text += f", fingerprint {facts['fingerprint'][:12]}"
    elif node["kind"] == "teacher":
        text = f"[bold]teacher[/bold] {escape(node['id'])}  {escape(facts['kind'])}"
        text += f", fingerprint {facts['fingerprint'][:12]}"
    elif node["kind"] == "labels":
        text = f"[bold]labels[/bold] commit {facts['commit'][:12]}, {facts['rows']:,} rows, {facts['time'][:16]}"
    else:
        text = f"[bold]data[/bold] {escape(facts['dataset'])}, commit {facts['commit'][:12]}"
    if node["retracted"]:
        # What the round was before stands in `t2t rounds`.
        why = node["retracted"].split(";")[0].removesuffix(", which was retracted")
        why = escape(why if why.endswith("was retracted") else why.removesuffix("retracted"))
        text += f"  [red]RETRACTED{': ' * bool(why)}{why}[/red]"
    return text + ("  [dim](see above)[/dim]" if node["repeated"] and node["kind"] != "data" else "")
