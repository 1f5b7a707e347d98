"""Observers: who is told how a campaign goes on, and decides nothing. MLflow's run history is one, Prefect's board too.

Everything can be told again, from the ledger and the rounds' files: what an observer has is a convenience.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import RoundStart
from t2t.campaign.record import Record
from t2t.campaign.tuned import TunedEncoder
from t2t.core import plugins
from t2t.core.errors import T2TError
from t2t.core.host import OBSERVERS_VARIABLE as VARIABLE
from t2t.core.host import observer_names

GROUP = "t2t.observers"
OBSERVERS = {"mlflow": "t2t.integrations.mlflow.observer:MLflowObserver"}

# How a process is done with a campaign: it has ended; it goes on later, or once a person has decided on a round; or an
# error ended the process's work.
End = Literal["ended", "pausing", "waiting", "failed"]


@dataclass(frozen=True)
class Place:
    """Where people look at what an observer has: a page, or what to type.

    name: what it is called. url: the page; None where no server runs. command: what brings one up.
    """

    name: str
    url: str | None
    command: str


class Observer:
    """One that does nothing: others override what they want to hear of. Every call may be repeated."""

    @classmethod
    def of(cls, campaign: Campaign) -> Observer:
        """The observer of a campaign, for one that is found by name (`open_observers`)."""
        return cls()

    def ready(self, campaign: Campaign) -> None:
        """Nothing expensive has been done yet. Raises T2TError where the observer could not be told later on."""

    def opened(self, campaign: Campaign) -> None:
        """Data and teachers are ready; what killed runs left out can be put right from the ledger."""

    def tuned(self, campaign: Campaign, encoder: TunedEncoder) -> None:
        """The campaign's frame encoder was tuned before the rounds (`encoder.tune`); its entry in the lake has the
        curve. A process that is killed before this never says it."""

    def round_started(self, campaign: Campaign, start: RoundStart) -> str | None:
        """A round begins, or goes on. Returns the name under which the observer has it, where it keeps rounds."""
        return None

    def curve(self, campaign: Campaign, k: int, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Points of round k's training: (step, metrics); after going on from a snapshot the earlier ones again."""

    def round_settled(self, campaign: Campaign, record: Record, earlier: Sequence[Record]) -> None:
        """What a round came to; its record is written next, or it waits for a person (status `waiting`)."""

    def recorded(self, campaign: Campaign, record: Record) -> None:
        """A round's record is in the ledger. A process that is killed before this never says it; `round_settled` is
        said again."""

    def promoted(self, campaign: Campaign, record: Record) -> None:
        """The student of a finished round became a teacher after all, since the campaign goes on beyond its end; the
        record has what the watch found. One that teaches at once is in `round_settled`'s record (`self_teacher`)."""

    def discarded(self, campaign: Campaign, k: int) -> None:
        """Round k begins again: what was told of it no longer counts."""

    def finished(self, campaign: Campaign, how: End) -> None:
        """This process is done with the campaign."""

    def place(self, k: int | None = None) -> Place | None:
        """Where people look at round k, or at the campaign; None for an observer that shows nothing."""
        return None


class Observers(Observer):
    """Several observers, told one after the other. An error of one ends the step, as an error of the step does."""

    def __init__(self, *observers: Observer):
        self.observers = observers

    def ready(self, campaign: Campaign) -> None:
        for observer in self.observers:
            observer.ready(campaign)

    def opened(self, campaign: Campaign) -> None:
        for observer in self.observers:
            observer.opened(campaign)

    def tuned(self, campaign: Campaign, encoder: TunedEncoder) -> None:
        for observer in self.observers:
            observer.tuned(campaign, encoder)

    def round_started(self, campaign: Campaign, start: RoundStart) -> str | None:
        names = [observer.round_started(campaign, start) for observer in self.observers]
        return next((name for name in names if name is not None), None)

    def curve(self, campaign: Campaign, k: int, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for observer in self.observers:
            observer.curve(campaign, k, points)

    def round_settled(self, campaign: Campaign, record: Record, earlier: Sequence[Record]) -> None:
        for observer in self.observers:
            observer.round_settled(campaign, record, earlier)

    def recorded(self, campaign: Campaign, record: Record) -> None:
        for observer in self.observers:
            observer.recorded(campaign, record)

    def promoted(self, campaign: Campaign, record: Record) -> None:
        for observer in self.observers:
            observer.promoted(campaign, record)

    def discarded(self, campaign: Campaign, k: int) -> None:
        for observer in self.observers:
            observer.discarded(campaign, k)

    def finished(self, campaign: Campaign, how: End) -> None:
        for observer in self.observers:
            if how == "failed":
                # The error that ended the work is the one to see.
                with suppress(Exception):
                    observer.finished(campaign, how)
            else:
                observer.finished(campaign, how)

    def place(self, k: int | None = None) -> Place | None:
        return next((place for observer in self.observers if (place := observer.place(k)) is not None), None)


def open_observers(campaign: Campaign) -> Observer:
    """The observers that this process's environment asks for: T2T_OBSERVERS, names with commas between them; `mlflow`
    where it is not set, nobody where it is empty.

    A name is one of ours or a plug-in's (entry-point group `t2t.observers`): a subclass of `Observer`.

    Raises T2TError for a name that nobody has, and for what is no observer.
    """
    observers = []
    for name in observer_names():
        part = plugins.find(GROUP, OBSERVERS, name, VARIABLE, "observer")
        if not (isinstance(part, type) and issubclass(part, Observer)):
            raise T2TError(f"{VARIABLE}: the observer {name!r} is no subclass of t2t.campaign.observer.Observer.")
        observers.append(part.of(campaign))
    return observers[0] if len(observers) == 1 else Observers(*observers)
