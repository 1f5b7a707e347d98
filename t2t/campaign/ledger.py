"""The ledger: the lake's own record of each round, and the only truth about what is done (DESIGN, section 6)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from t2t.campaign.encoders import out, out_of_campaign
from t2t.campaign.record import Record, standing
from t2t.core.config import parse
from t2t.lake import Lake, UnknownRef
from t2t.lake.base import gone
from t2t.lake.layout import CampaignLayout
from t2t.lake.tables import json_at, read_json
from t2t.teachers.retraction import retracted


class Ledger:
    """A campaign's records, kept on `main` under `<dataset>/campaigns/<campaign>/ledger/`."""

    def __init__(self, lake: Lake, dataset: str, campaign: str):
        self.lake = lake
        self.layout = CampaignLayout(dataset, campaign)
        # A commit's content never changes: what was read at the last one, and each file's record by its digest.
        self._written: tuple[str, list[Record]] = ("", [])
        self._retracted: tuple[str, dict[str, str]] = ("", {})
        self._encoder: tuple[str, str | None] = ("", None)
        self._parsed: dict[tuple[str, str], Record] = {}

    def records(self) -> list[Record]:
        """The finished rounds as they count now, oldest first: retracted ones have that status (`standing`)."""
        try:
            head = self.lake.resolve("main")
        except UnknownRef:
            return []
        return standing(self.written(head), self.retracted(head), self.encoder_out(head))

    def retracted(self, ref: str = "main") -> dict[str, str]:
        """The dataset's teachers that are out, each with the retracted one it descends from."""
        head = self.lake.resolve(ref)
        if self._retracted[0] != head:
            self._retracted = head, retracted(self.lake, self.layout.dataset, head)
        return dict(self._retracted[1])

    def encoder_out(self, ref: str = "main") -> str | None:
        """Why the encoder that the campaign looks through is out, as the end of a sentence; None where it is not."""
        head = self.lake.resolve(ref)
        if self._encoder[0] != head:
            # Where no encoder is out, as in most lakes, the campaign need not be read.
            frozen = read_json(self.lake, head, self.layout.config) if out(self.lake, head) else None
            self._encoder = head, out_of_campaign(self.lake, head, frozen)
        return self._encoder[1]

    def written(self, ref: str = "main") -> list[Record]:
        """The finished rounds as they were written, oldest first, whatever was retracted since.

        Raises Damaged where a record that was written is not there any more.
        """
        head = self.lake.resolve(ref)
        if self._written[0] != head:
            records = []
            for entry in self.lake.list(head, self.layout.ledger):
                version = (entry.path, entry.digest)
                if version not in self._parsed:
                    content = json_at(self.lake, head, entry.path)
                    self._parsed[version] = parse(Record, content, self.lake.uri(head, entry.path))
                records.append(self._parsed[version])
            self._check_whole(head, [record.round for record in records])
            self._written = head, sorted(records, key=lambda record: record.round)
        return list(self._written[1])

    def _check_whole(self, head: str, rounds: Sequence[int]) -> None:
        """Raises Damaged where a round's record was written and is gone: who took that round for one that is still to
        be done would find it done at every step, and never come to its end."""
        for k in sorted({*range(max(rounds, default=-1) + 2)} - {*rounds}):
            done = self.lake.find(head, self.layout.record_key(k))
            if done is not None:
                raise gone(self.lake, "main", done, [self.layout.record(k)])

    def has_round_under_way(self) -> bool:
        """Whether the next round has been trained and is on its branch."""
        k = len(self.records())
        try:
            return self.lake.find(self.layout.branch(k), self.layout.round_key(k)) is not None
        except UnknownRef:
            return False

    def append(self, record: Record) -> str:
        """Writes a round's record, the last step of the round. Writing it again changes nothing."""
        return self._write(record, None, record.status)

    def amend(self, record: Record) -> str:
        """Writes a round's record again: its student became a teacher after all, since its campaign was prolonged."""
        return self._write(record, record.self_teacher, f"became a teacher, {record.self_teacher}")

    def _write(self, record: Record, teacher: str | None, what: str) -> str:
        return self.lake.commit(
            "main",
            {self.layout.record(record.round): json.dumps(record.model_dump(mode="json"), indent=2).encode()},
            key=self.layout.record_key(record.round, teacher),
            message=f"Ledger: {record.campaign} round {record.round} {what}",
            metadata={"campaign": record.campaign, "round": str(record.round), "status": record.status},
        )
