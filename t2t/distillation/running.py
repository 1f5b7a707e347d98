"""Runs a distillation: prepare, train, evaluate, publish. Each step is done once, and a note says that it is.

`t2t distill`, the Prefect flow, `t2t.run_distillation` in Python and the tests all run this one. A process may die
anywhere: the next one goes on at the first step without a note, in the training at its last snapshot, and comes to the
same bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2t.campaign import encoders
from t2t.core.errors import T2TError
from t2t.core.files import remove_leftovers, sha256_file
from t2t.core.progress import clock
from t2t.data.embeddings.distilled import CARD, EncoderCard, check_weights, read_card, write_encoder
from t2t.distillation.distillation import Distillation
from t2t.distillation.entries import check_distillation, remember, settled
from t2t.distillation.evaluation.table import EvaluationTable
from t2t.distillation.measuring import measured
from t2t.distillation.record import Evaluated, Prepared, Published, TrainedEncoder
from t2t.distillation.watcher import Watcher

log = logging.getLogger("t2t")

Step = Callable[..., Any]


@dataclass(frozen=True)
class DistilledResult:
    """What a distillation came to. folder: the encoder's. table: None where nothing was named to measure on.
    seconds: of work, over all processes that had a part in it."""

    name: str
    folder: Path
    card: EncoderCard
    table: EvaluationTable | None
    seconds: float


def call(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a step here and now. Prefect has a `step` of its own, which makes a task of it."""
    return function(*arguments)


def run(distillation: Distillation, watcher: Watcher | None = None, step: Step = call) -> DistilledResult:
    """Runs what is still to be done of a distillation. One process at a time works on it.

    Args:
        watcher: told how it goes on. step: runs each step, given its name, a function and its arguments.

    Raises T2TError, before anything expensive, for what a person can mend; Busy where another process works on it.
    """
    watcher = watcher or Watcher()
    with distillation.lock:
        check_distillation(distillation.workspace, distillation.config)
        if not is_done(distillation):
            for path in remove_leftovers(distillation.folder):
                log.info("Removed %s, which a killed run left.", path)
            watcher.ready(distillation)
            try:
                step("prepare", prepare, distillation, watcher)
                step("train", train, distillation, watcher)
                step("evaluate", evaluate, distillation)
                step("publish", publish, distillation, watcher)
            except BaseException:
                with suppress(Exception):  # that error is the one to see
                    watcher.failed(distillation)
                raise
        else:
            log.info("Distillation %s is done: %s", distillation.name, distillation.place)
        return result(distillation)


def is_done(distillation: Distillation) -> bool:
    """Whether the encoder is published and in its place; a damaged one is not, and is written again. Raises T2TError
    where another one is."""
    published = distillation.notes.read(Published)
    if published is None or not (distillation.place / CARD).is_file():
        return False
    try:
        card = read_card(distillation.place)
        check_weights(distillation.place, card)
    except T2TError as error:
        log.warning("%s It is written again.", error)
        return False
    if card.fingerprint != published.fingerprint:
        raise T2TError(
            f"{distillation.place}: another encoder than the one that was distilled here. Put that one back, or delete "
            "the folder: it is written again."
        )
    return True


def result(distillation: Distillation) -> DistilledResult:
    """What a distillation that is done came to. Raises T2TError for one that is not."""
    notes = distillation.notes
    published, evaluated = notes.need(Published), notes.need(Evaluated)
    seconds = notes.need(Prepared).seconds + notes.need(TrainedEncoder).seconds + evaluated.seconds
    return DistilledResult(distillation.name, distillation.place, published.card, evaluated.table, seconds)


def check(distillation: Distillation) -> None:
    """Opens student and teachers, as far as they are still needed, and reads the notes, before a server starts.

    Raises T2TError for a model that cannot be made, a teacher that is retracted, one that is not as it was when the
    distillation began (what it learned of the one would go on with, or be measured beside, the other), labels that are
    not enough to measure on, and damaged notes.
    """
    notes, config = distillation.notes, distillation.config
    prepared, evaluated = notes.read(Prepared), notes.read(Evaluated)
    notes.read(TrainedEncoder), notes.read(Published)
    if prepared is None:
        distillation.check_models()
    records = prepared.teachers if prepared and evaluated else distillation.teacher_records
    encoders.refuse_teachers(distillation.lake, config.name, records)
    then = {teacher.name: teacher.fingerprint for teacher in prepared.teachers} if prepared else {}
    now = {teacher.name: teacher.fingerprint for teacher in records}
    if changed := [f"the teacher {name}" for name in then if now.get(name) != then[name]]:
        raise _changed(distillation, ", ".join(changed))


def _changed(distillation: Distillation, what: str) -> T2TError:
    return T2TError(
        f"Distillation {distillation.name!r}: {what} changed since it began. Put them back as they were, or run it "
        "under another name (--name)."
    )


def prepare(distillation: Distillation, watcher: Watcher) -> Prepared:
    """Opens teachers, student and what is measured on, so that what is wrong with one is found at once, and decodes the
    frames."""
    notes, config, began = distillation.notes, distillation.config, time.monotonic()
    check(distillation)
    prepared = notes.read(Prepared)
    if prepared is None:
        teachers = distillation.teacher_records
        _ = distillation.measured_on  # what cannot be measured is found now, and not after the training
        remember(distillation.workspace, config)
        source = distillation.source
        prepared = Prepared(
            frames=source.key,
            frame_count=len(source),
            samples=len(source.keys),
            unreadable=len(source.quarantine),
            datasets={dataset.name: dataset.fingerprint for dataset in distillation.datasets},
            teachers=teachers,
            seconds=time.monotonic() - began,
        )
        notes.write(prepared)
        log.info(
            "Distillation %s: %d frames of %d samples, %d teachers.",
            *(config.name, prepared.frame_count, prepared.samples, len(teachers)),
        )
    watcher.opened(distillation, prepared)
    return prepared


def train(distillation: Distillation, watcher: Watcher) -> TrainedEncoder:
    """Trains the student; leaves its weights as timm names them."""
    notes, prepared = distillation.notes, distillation.notes.need(Prepared)
    trained = notes.read(TrainedEncoder)
    if trained is not None and notes.weights.is_file() and sha256_file(notes.weights) == trained.network.weights:
        watcher.curve(distillation, trained.curve)
        return trained
    if distillation.source.key != prepared.frames:
        raise _changed(distillation, "the frames of its datasets")

    def report(step: int, numbers: dict[str, float]) -> None:
        watcher.curve(distillation, [(step, numbers)])

    trained = distillation.train(report)
    notes.write(trained)
    notes.snapshot.unlink(missing_ok=True)
    log.info(
        "Distillation %s: trained, %d steps in %s, %.0f frames/s.",
        *(distillation.name, trained.steps, clock(trained.seconds), trained.frames_per_second),
    )
    return trained


def evaluate(distillation: Distillation) -> Evaluated:
    """Measures the student beside every teacher, where datasets are named to measure on."""
    notes, began = distillation.notes, time.monotonic()
    evaluated = notes.read(Evaluated)
    if evaluated is None:
        table = measured(distillation) if distillation.config.evaluation.datasets else None
        evaluated = Evaluated(table=table, seconds=time.monotonic() - began)
        notes.write(evaluated)
    return evaluated


def publish(distillation: Distillation, watcher: Watcher) -> Published:
    """Puts the encoder into its place and notes it in the lake, with whom it learned from; the note comes last."""
    notes, config = distillation.notes, distillation.config
    prepared, trained = notes.need(Prepared), notes.need(TrainedEncoder)
    card = EncoderCard(
        name=config.name,
        **trained.network.model_dump(),
        teachers=prepared.teachers,
        datasets=prepared.datasets,
        frames=prepared.frames,
        frame_count=prepared.frame_count,
        settings=settled(config),
    )
    write_encoder(distillation.workspace.work, card, notes.weights)
    commit = encoders.register(distillation.lake, card)
    published = Published(card=card, fingerprint=card.fingerprint, commit=commit)
    watcher.published(distillation, trained, notes.need(Evaluated), published)
    notes.write(published)
    log.info("Encoder %s: %s, fingerprint %s", config.name, distillation.place, card.fingerprint[:12])
    return published
