"""Kind `openai`: a model behind any OpenAI-compatible server, asked one prompt about pictures or texts of a sample."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import pyarrow as pa

from t2t.core import interrupts
from t2t.core.errors import T2TError, nearest, one_line
from t2t.core.progress import progress
from t2t.data.embeddings.decode import Decoder, Unreadable
from t2t.data.embeddings.limits import limits_of
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.remote import is_remote, known, sha256_of
from t2t.teachers.api.batch_server import BatchServer
from t2t.teachers.api.batches import Batches
from t2t.teachers.api.chat import Chat
from t2t.teachers.api.config import NO_IDENTITY, Entry
from t2t.teachers.api.kept import Kept, NoMoney
from t2t.teachers.api.keys import refuse_secret
from t2t.teachers.api.money import UNITS, Cap, Price, cap_of, written
from t2t.teachers.api.pace import Pace
from t2t.teachers.api.question import Pictures, Question, numbered
from t2t.teachers.api.reading import Reading, read
from t2t.teachers.api.sending import Sender, Stopped, Workers
from t2t.teachers.api.tally import Tally
from t2t.teachers.api.underway import Underway
from t2t.teachers.base import Cost, TeacherContext, entry_fingerprint

__all__ = ["Entry", "Teacher"]
log = logging.getLogger("t2t")

ONE = "Is this shown in the picture or video, or said in the text? Answer with {yes} or {no} only. Topic: {topic}"
MANY = {
    "number": "For each numbered topic: how likely is it that the picture or video shows it, or the text is about it? "
    "Answer with a JSON object that gives each number a whole number from 0 (surely not) to 100 (surely).\n{topics}",
    "words": "For each numbered topic: is it shown in the picture or video, or said in the text? Answer with a JSON "
    'object that gives each number "{yes}" or "{no}".\n{topics}',
}
# Samples that are under way at once hold their pictures in memory.
AHEAD = 32
# Answers of a question that are tried to be read; and what asking again does not mend.
TRIES, FINAL = 3, ("", "refused", "no logprobs")
# Seconds that answers under way are waited for, when the work ends early.
GRACE = 5.0


@dataclass(frozen=True)
class _Asked:
    """A sample on its way: for each question what was answered before, or what will be."""

    sample_id: str
    questions: list[tuple[Question, list[bytes], Future[bytes] | None]]


class Teacher:
    def __init__(self, entry: Entry, context: TeacherContext):
        # (Not `context`: parts are not handed to a cluster, since rates and money are one account's.)
        self.entry, self._context = entry, context
        columns = context.dataset.samples.column_names
        for column in entry.columns:
            if column not in columns:
                raise T2TError(
                    f"Teacher {entry.id!r}: the samples of dataset {context.dataset.name!r} have no column {column!r}."
                    + nearest(column, columns)
                )
        refuse_secret(entry.id, entry.api_key_env, entry.model_dump_json())
        self.kept = Kept(context.work)
        self.chat = Chat(entry.id, entry.base_url, entry.api_key_env, entry.timeout)
        self.tally = Tally()
        # Of files that were read for their key: with batches they are asked about several times.
        self._contents: dict[str, str] = {}

    def fingerprint(self) -> str:
        """Covers the entry; not where the server is, how fast it is asked, and what it costs."""
        return entry_fingerprint(self.entry, "version 1", exclude=NO_IDENTITY)

    @property
    def remarks(self) -> list[str]:
        return self.tally.remarks()

    def ready(self) -> None:
        """Raises T2TError where nothing can be asked: no key, no package, a price without a budget."""
        self.entry.ready()
        cap_of(self.entry.id, self.entry.budget)

    def _cap(self) -> Cap | None:
        return cap_of(self.entry.id, self.entry.budget)

    # -- labels --------------------------------------------------------------------------------------------------

    def label(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """Yields a label table for each sample. No row where the model refuses, or answers nothing that can be read.

        Raises T2TError where the server cannot be asked, the budget is spent, or the model does not answer the
        question; what was answered is kept.
        """
        if not len(samples) or not topics:
            return
        self.ready()
        try:
            if (batches := self._batches()) is not None:
                batches.ask(partial(self._missing, samples, topics))
            else:
                self._tell_of_batches()
            yield from self._at_once(samples, topics)
            self.tally.judge(self.entry.id)
        except NoMoney as error:
            raise self._spent(error) from None
        except T2TError as error:
            named = repr(self.entry.id) in str(error)
            raise (error if named else T2TError(f"Teacher {self.entry.id!r}: {error}")) from None
        finally:
            self.chat.close()
            self.kept.close()

    def _at_once(self, samples: pa.Table, topics: Sequence[str]) -> Iterator[pa.Table]:
        """A table for each sample, of kept answers and of those that are asked for now, many at once."""
        entry = self.entry
        pace = Pace(entry.concurrency, entry.requests_per_minute, entry.tokens_per_minute)
        sender = Sender(
            entry.id, self.chat, self.kept, pace, entry.price, self._cap(), entry.retries, self.tally.counts
        )
        workers = Workers(sender, entry.concurrency)
        patience = GRACE
        try:
            with progress(f"Labeling as {entry.id}", len(samples), "samples", part=True) as advance:
                waiting: deque[_Asked] = deque()
                under_way: dict[str, Future[bytes]] = {}
                for row in _rows(samples, entry.columns):
                    waiting.append(self._ask(row, samples, topics, workers, under_way))
                    if len(waiting) > AHEAD or sender.stopped.is_set():
                        yield self._table(waiting.popleft(), workers)
                        advance()
                while waiting:
                    yield self._table(waiting.popleft(), workers)
                    advance()
            patience = 0.0
        except (NoMoney, Stopped, T2TError) as error:
            # Whoever was told to stop says nothing of why.
            patience = entry.timeout
            raise (workers.failure or error) from None
        finally:
            workers.end(patience)

    # -- batches -------------------------------------------------------------------------------------------------

    @property
    def shard_samples(self) -> int:
        """Samples of a part. What a kill costs is not the answers, which are kept one by one, but reading them again;
        and parts are made one behind the other, which batches that take a day should not be."""
        return 256 if self.entry.batch is None else 1_000_000

    def _batches(self) -> Batches | None:
        entry, options = self.entry, self.entry.batch
        if options is None:
            return None
        price = entry.price and Price(
            input=entry.price.input * options.price, output=entry.price.output * options.price
        )
        server = BatchServer(self.chat, entry.retries)
        where = entry.base_url or "the package's own server"
        return Batches(entry.id, server, where, self.kept, options, price, self._cap(), self.tally.counts)

    def _missing(self, samples: pa.Table, topics: Sequence[str], fetch: bool = True) -> Iterator[tuple[str, Question]]:
        """Sample and question of what has no answer. fetch: whether files of other machines are; else those that were
        not fetched yet count as never asked about."""
        for row in _rows(samples, self.entry.columns):
            for question in self._questions(row, samples, topics, fetch):
                if self._is_missing(self.kept.answers(question.key), question):
                    yield row["sample_id"], question

    def _tell_of_batches(self) -> None:
        if left := Underway(self.kept).batches(self.entry.id):
            log.warning(
                "Teacher %s: %d batches that it sent are under way, and what they ask is asked again: with `batch` in "
                "its entry they are taken in.", self.entry.id, len(left),
            )  # fmt: skip

    def _spent(self, error: NoMoney) -> T2TError:
        whose = f"Teacher {self.entry.id!r} has" if error.cap.whose else "The teachers of this work folder have"
        return T2TError(
            f"{whose} spent {written(error.spent)} of a budget of {written(error.cap.most)}, and the next request of "
            f"{self.entry.id!r} might pass it. All answers are kept. Go on with more: t2t run CAMPAIGN --budget AMOUNT."
        )

    def _ask(
        self,
        row: Mapping[str, Any],
        samples: pa.Table,
        topics: Sequence[str],
        workers: Workers,
        under_way: dict[str, Future[bytes]],
    ) -> _Asked:
        """Sends what is not answered yet of a sample. Equal questions of a run, of copies of a clip, are asked once."""
        asked = []
        self.tally.cut_texts += sum(len(text) > self.entry.column_chars for text in self._columns(row).values())
        for question in self._questions(row, samples, topics):
            key = question.key
            before = self.kept.answers(key)
            future = None
            if self._is_missing(before, question):
                future = under_way.get(key) or workers.submit(question)
                under_way[key] = future
                future.add_done_callback(partial(_forget, under_way, key))
            else:
                self.tally.counts.add("kept")
            asked.append((question, before, future))
        self.tally.without_text += not asked
        return _Asked(row["sample_id"], asked)

    def _is_missing(self, before: Sequence[bytes], question: Question) -> bool:
        """Whether to ask: never, or nothing that can be read came yet and there are tries left."""
        faults = [self._read(body, question).fault for body in before]
        if "no logprobs" in faults[-1:]:
            return True  # the server may have been told to give them since
        return all(faults) and "refused" not in faults and len(before) < TRIES

    def _read(self, body: bytes, question: Question) -> Reading:
        words = self.entry.answers
        return read(body, self.entry.score, len(question.topics), words.yes, words.no)

    def _table(self, asked: _Asked, workers: Workers) -> pa.Table:
        """A sample's labels, of all its answers."""
        values: dict[str, list[float]] = {}
        for question, before, future in asked.questions:
            readings = [self._read(body, question) for body in before]
            try:
                while future is not None:
                    readings.append(self._read(_result(future), question))
                    again = readings[-1].fault not in FINAL and len(readings) < TRIES
                    future = workers.submit(question) if again else None
            except Unreadable:
                self.tally.unreadable_files += 1
                break
            # The first that can be read; of none the one that says most.
            best = next((reading for reading in readings if reading.fault in ("", "refused")), readings[-1])
            if best.fault == "no logprobs":
                raise T2TError(
                    f"its server gives no logprobs for model {self.entry.model!r}: set `score` to number, sampled or "
                    "hard, under a new id."
                )
            self.tally.note(best)
            for topic, value in zip(question.topics, best.values, strict=True):
                if value is not None:
                    values.setdefault(topic, []).append(value)
        # With `sampled` most of the draws must be readable, or their share says little.
        needed = self.entry.draws // 2 + 1 if self.entry.score == "sampled" else 1
        rows = [(topic, sum(found) / len(found)) for topic, found in values.items() if len(found) >= needed]
        names = ([asked.sample_id] * len(rows), [topic for topic, _ in rows], [self.entry.id] * len(rows))
        return pa.table([*names, pa.array([value for _, value in rows], pa.float32())], schema=LABEL_SCHEMA)

    # -- questions -----------------------------------------------------------------------------------------------

    def _questions(
        self, row: Mapping[str, Any], samples: pa.Table, topics: Sequence[str], fetch: bool = True
    ) -> Iterator[Question]:
        """All about one sample: blocks of topics in their order, times draws. None where there is nothing to show."""
        entry, texts = self.entry, self._texts(row)
        pictures = self._pictures(row["path"], samples, fetch) if entry.frames else None
        if pictures is None and not texts:
            return
        for start in range(0, len(topics), entry.topics_per_request):
            block = tuple(topics[start : start + entry.topics_per_request])
            text = "\n\n".join([*texts, self._prompt(block)])
            for draw in range(entry.draws if entry.score == "sampled" else 1):
                yield Question(
                    entry.model, entry.system, text, pictures, entry.detail, block, self._parameters(len(block), draw),
                    draw, entry.image_tokens or 0, self._most_output(len(block)),
                )  # fmt: skip

    def _columns(self, row: Mapping[str, Any]) -> dict[str, str]:
        texts = {column: "" if row[column] is None else str(row[column]).strip() for column in self.entry.columns}
        return {column: text for column, text in texts.items() if text}

    def _texts(self, row: Mapping[str, Any]) -> list[str]:
        return [f"{column}: {text[: self.entry.column_chars]}" for column, text in self._columns(row).items()]

    def _pictures(self, path: str, samples: pa.Table, fetch: bool) -> Pictures:
        entry = self.entry
        if path not in self._contents:
            try:
                if not fetch and is_remote(path) and known(path) is None:
                    raise OSError("not fetched yet")
                self._contents[path] = sha256_of(path)
            except OSError as error:
                # It has no content that an answer could be kept by, and no request of it leaves.
                fails = partial(_raise, Unreadable(one_line(error)))
                return Pictures(f"unreadable {path}", entry.frames, fails, entry.quality)
        content = f"{self._contents[path]} {entry.frames} {entry.size} {entry.quality}"
        decode = partial(Decoder(limits_of(samples)).read, path, entry.frames, entry.size)
        return Pictures(content, entry.frames, decode, entry.quality)

    def _prompt(self, block: Sequence[str]) -> str:
        """(Topics are put in last: one that has braces in it is plain text.)"""
        entry = self.entry
        plain = ONE if self._is_plain else MANY["number" if entry.score == "number" else "words"]
        if entry.prompt is None:
            plain = plain.replace("{yes}", entry.answers.yes[0].capitalize())
            plain = plain.replace("{no}", entry.answers.no[0].capitalize())
        before, place, after = (entry.prompt or plain).partition("{topic}" if self._is_plain else "{topics}")
        return before + (block[0] if place == "{topic}" else numbered(block)) + after

    @property
    def _is_plain(self) -> bool:
        """Whether a question is about one topic and its answer a word, not JSON."""
        return self.entry.topics_per_request == 1 and self.entry.score != "number"

    def _most_output(self, topics: int) -> int:
        if self.entry.max_tokens is not None:
            return self.entry.max_tokens
        return (1 if self.entry.score == "logprobs" else 4) if self._is_plain else 16 + 12 * topics

    def _parameters(self, topics: int, draw: int) -> dict[str, Any]:
        entry = self.entry
        sampled = entry.score == "sampled"
        found: dict[str, Any] = {
            "temperature": float(sampled) if entry.temperature is None else entry.temperature,
            entry.max_tokens_key: self._most_output(topics),
        }
        if entry.score == "logprobs":
            found |= {"logprobs": True, "top_logprobs": entry.top_logprobs}
        if sampled:
            found["seed"] = draw
        if not self._is_plain and entry.structured:
            found["response_format"] = _schema(entry, topics)
        return found | entry.extra_body

    # -- plans ---------------------------------------------------------------------------------------------------

    def cost(self, samples: pa.Table, topics: Sequence[str]) -> Cost:
        """What the answers cost that are not kept yet. Sends nothing, and decodes nothing."""
        entry, requests, most, about = self.entry, 0, 0, 0
        batches = self._batches()
        in_files = batches is not None and batches.pays(self._missing(samples, topics, fetch=False))
        price = (batches.price if batches and in_files else entry.price) or Price(input=0, output=0)
        for _, question in self._missing(samples, topics, fetch=False):
            # What is under way is paid, or set aside.
            if batches is None or not batches.underway.has(question.key):
                requests += 1
                most += price.of(question.most)
                about += price.of(question.about)
        cap = cap_of(entry.id, entry.budget)
        spent = self.kept.spent(cap.whose if cap else entry.id)
        self.kept.close()
        budget = cap.most / UNITS if cap else None
        return Cost(requests, about / UNITS, most / UNITS, spent / UNITS, budget, entry.price is not None, in_files)


def _schema(entry: Entry, topics: int) -> dict[str, Any]:
    """A JSON schema of one key for each topic's number. Limits of a number are left out: not all servers know them."""
    words = [entry.answers.yes[0].capitalize(), entry.answers.no[0].capitalize()]
    cell = {"type": "integer"} if entry.score == "number" else {"type": "string", "enum": words}
    names = [str(number) for number in range(1, topics + 1)]
    schema = {
        "type": "object",
        "properties": dict.fromkeys(names, cell),
        "required": names,
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "topics", "strict": True, "schema": schema}}


def _rows(samples: pa.Table, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for batch in samples.select(list(dict.fromkeys(["sample_id", "path", *columns]))).to_batches(1024):
        yield from batch.to_pylist()


def _forget(under_way: dict[str, Future[bytes]], key: str, _: Future[bytes]) -> None:
    under_way.pop(key, None)


def _raise(error: Exception) -> NoReturn:
    raise error


def _result(future: Future[bytes]) -> bytes:
    """Waits, and hears Ctrl-C."""
    while True:
        interrupts.check()
        try:
            return future.result(0.5)
        except TimeoutError:
            if future.done():
                raise
