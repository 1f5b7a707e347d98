"""Distilled encoders in the lake: their entries with lineage, and marks that retract one, or one it learned from.

Like a teacher's, a mark can be taken back, and nothing is ever deleted. What learned from a retracted encoder is out at
any distance, and so is every round of a campaign that looks through it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from t2t.campaign.config import CampaignConfig
from t2t.core.config import Config, parse
from t2t.core.errors import T2TError, nearest
from t2t.core.terminal import cleaned
from t2t.core.workspace import Workspace
from t2t.data.embeddings.config import DistilledConfig
from t2t.data.embeddings.distilled import EncoderCard, TeacherEncoder, find_encoder, located
from t2t.lake import Lake, UnknownRef
from t2t.lake.layout import ENCODERS, MARK, EncoderLayout, encoder_of
from t2t.lake.tables import json_at, latest_commit, read_json


class EncoderMark(Config):
    """That an encoder is retracted, or counts again, by its fingerprint. teacher: what it is called among those that
    another one learned from; empty for the distilled encoder itself."""

    teacher: str
    fingerprint: str
    retracted: bool
    reason: str
    time: str


class EncoderMarks(Config):
    """`retracted.json`: the latest mark of each encoder that was marked there."""

    marks: tuple[EncoderMark, ...] = ()


class Out(NamedTuple):
    """Why an encoder is out. why: the end of a sentence about it. marked: the encoder beside which the mark stands, and
    teacher: which of its teachers it is about, empty for itself. said: what the person who did it said."""

    why: str
    marked: str
    teacher: str
    said: str = ""

    @property
    def undo(self) -> str:
        """What takes it back."""
        return " ".join(filter(None, ("t2t distill retract", self.marked, self.teacher, "--undo")))


def with_encoder(config: CampaignConfig, workspace: Workspace) -> CampaignConfig:
    """A campaign as it is on this machine: a distilled encoder with its folder and its fingerprint."""
    encoder = located(config.encoder, workspace.work)
    return config if encoder is config.encoder else config.model_copy(update={"encoder": encoder})


def entries(lake: Lake, ref: str = "main") -> dict[str, EncoderCard]:
    """The distilled encoders of a lake, by name."""
    return {name: _card(lake, ref, path) for name, path in _files(lake, ref).items()}


def register(lake: Lake, card: EncoderCard) -> str:
    """Commits an encoder's entry to `main`; the same again changes nothing. Returns the commit's id."""
    layout = EncoderLayout(card.name)
    latest = latest_commit(lake, "main", layout.keys)
    if latest is not None and latest.metadata.get("fingerprint") == card.fingerprint:
        return latest.id
    content = {**card.model_dump(mode="json"), "fingerprint": card.fingerprint}
    teachers = {f"teacher {teacher.name}": teacher.fingerprint for teacher in card.teachers}
    return lake.commit(
        "main",
        {layout.entry: json.dumps(content, indent=2, ensure_ascii=False).encode()},
        key=layout.key(card.fingerprint, latest.id if latest else None),
        message=f"Encoder: {card.name}, distilled of {', '.join(teacher.name for teacher in card.teachers)}",
        metadata={"encoder": card.name, "fingerprint": card.fingerprint, "frames": card.frames, **teachers},
    )


def out(lake: Lake, ref: str = "main") -> dict[str, Out]:
    """The encoders that are out, by name."""
    marks = _marks(lake, ref)
    return _descended(entries(lake, ref), marks)[0] if marks else {}


def retracted(lake: Lake, ref: str = "main") -> list[str]:
    """The fingerprints of the encoders that are retracted by name."""
    return [mark.fingerprint for marks in _marks(lake, ref).values() for mark in marks if mark.retracted]


def out_of_campaign(lake: Lake, ref: str, frozen: Mapping[str, Any] | None) -> str | None:
    """Why the encoder that a campaign is frozen to is out, as the end of a sentence about it; None where it is not."""
    encoder = (frozen or {}).get("encoder")
    if not isinstance(encoder, Mapping) or encoder.get("kind") != "distilled":
        return None
    name = str(encoder.get("name"))
    why = out(lake, ref).get(name)
    same = why is not None and entries(lake, ref)[name].fingerprint == encoder.get("fingerprint")
    return f"the encoder {name}, {why.why}" if same and why else None


def retract(lake: Lake, name: str, teacher: str | None, reason: str = "", undo: bool = False) -> bool:
    """Marks a distilled encoder, or one that it learned from, as retracted by a commit on `main`; or takes that back.

    Returns: False when it was so already, and nothing was written.

    Raises T2TError for an encoder that the lake does not know, or one that it did not learn from.
    """
    known = entries(lake)
    if name not in known:
        raise T2TError(f"The lake has no encoder {name!r}.{nearest(name, known)}")
    card, layout = known[name], EncoderLayout(name)
    fingerprints: dict[str | None, str] = {None: card.fingerprint}
    fingerprints |= {one.name: one.fingerprint for one in card.teachers}
    if teacher not in fingerprints:
        names = [one.name for one in card.teachers]
        raise T2TError(f"Encoder {name!r} did not learn from {teacher!r}.{nearest(str(teacher), names)}")
    fingerprint, marks = fingerprints[teacher], _marks(lake, "main").get(name, ())
    if any(mark.fingerprint == fingerprint and mark.retracted for mark in marks) is not undo:
        return False
    now = datetime.now(UTC).isoformat(timespec="seconds")
    mark = EncoderMark(
        teacher=teacher or "", fingerprint=fingerprint, retracted=not undo, reason=cleaned(reason), time=now
    )
    kept = EncoderMarks(marks=(*(other for other in marks if other.fingerprint != fingerprint), mark))
    what = f"its teacher {teacher}" if teacher else "it"
    latest = latest_commit(lake, "main", layout.mark_keys)
    lake.commit(
        "main",
        {layout.retracted: json.dumps(kept.model_dump(mode="json"), indent=2, ensure_ascii=False).encode()},
        key=layout.mark_key(latest.id if latest else None),
        message=f"Encoder {name}: {what} {'counts again' if undo else 'is retracted'}"
        + (f", {mark.reason}" if mark.reason else ""),
        metadata={"encoder": name, "teacher": teacher or "", "retracted": str(not undo).lower()},
    )
    return True


def refuse_encoder(workspace: Workspace, config: CampaignConfig, lakes: list[Lake]) -> None:
    """Raises T2TError, naming what to do, where a campaign's encoder was distilled and is not here, is another one than
    the campaign says, or is retracted in one of some lakes."""
    if not isinstance(config.encoder, DistilledConfig):
        return
    _, card = find_encoder(located(config.encoder, workspace.work))
    for lake in lakes:
        why = out(lake).get(card.name)
        if why is not None and entries(lake)[card.name].fingerprint == card.fingerprint:
            raise T2TError(
                f"Campaign {config.name!r} looks through the encoder {card.name}, {why.why}. Distill one without it "
                f"(t2t distill {card.name} --name NEW --set 'teachers=[…]') and run the campaign on that (t2t run "
                f"{config.name} --name OTHER --set encoder.name=NEW); or take it back: {why.undo}"
            )


def refuse_teachers(lake: Lake, name: str, teachers: Sequence[TeacherEncoder]) -> None:
    """Raises T2TError, naming what to do, where one of an encoder's teachers is retracted in a lake, or descends from
    an encoder that is: what learns from it would be out at once."""
    marks = _marks(lake, "main")
    gone = _descended(entries(lake), marks)[1] if marks else {}
    for teacher in teachers:
        cause = next((gone[one] for one in (teacher.fingerprint, teacher.weights) if one in gone), None)
        if cause is not None:
            raise T2TError(
                f"Distillation {name!r}: the teacher {teacher.name} is retracted{cause.said}, so what learns from it "
                f"would be out at once. Take it out of `teachers`; or take that back: {cause.undo}"
            )


def _files(lake: Lake, ref: str, file: str = "entry.json") -> dict[str, str]:
    """The paths of some file of all encoders, by name."""
    try:
        found = lake.list(ref, ENCODERS)
    except UnknownRef:
        return {}
    return {name: entry.path for entry in found if (name := encoder_of(entry.path, file)) is not None}


def _card(lake: Lake, ref: str, path: str) -> EncoderCard:
    content = json_at(lake, ref, path)
    content.pop("fingerprint", None)
    return parse(EncoderCard, content, lake.uri(ref, path))


def _marks(lake: Lake, ref: str) -> dict[str, tuple[EncoderMark, ...]]:
    return {
        name: parse(EncoderMarks, read_json(lake, ref, path) or {}, lake.uri(ref, path)).marks
        for name, path in _files(lake, ref, MARK).items()
    }


def _descended(
    known: Mapping[str, EncoderCard], marks: Mapping[str, Sequence[EncoderMark]]
) -> tuple[dict[str, Out], dict[str, Out]]:
    """Of encoders those that are out, by name: marked themselves, or learned from one that is, at any distance. And all
    that is out, teachers too, by fingerprint and by the SHA-256 of weights."""
    gone = {
        mark.fingerprint: Out("", name, mark.teacher, f" ({mark.reason})" if mark.reason else "")
        for name, own in marks.items()
        for mark in own
        if mark.retracted
    }
    found: dict[str, Out] = {}
    grew = True
    while grew:
        grew = False
        for name, card in known.items():
            if name in found:
                continue
            own = next((gone[one] for one in (card.fingerprint, card.weights) if one in gone), None)
            if own is not None:
                found[name] = own._replace(why=f"which was retracted{own.said}")
            for teacher in card.teachers:
                cause = next((gone[one] for one in (teacher.fingerprint, teacher.weights) if one in gone), None)
                if name not in found and cause is not None:
                    found[name] = cause._replace(why=f"whose teacher {teacher.name} was retracted{cause.said}")
            if name in found:
                grew = True
                gone |= {one: gone.get(one, found[name]) for one in (card.fingerprint, card.weights)}
    return found, gone
