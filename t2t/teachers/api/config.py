"""The entry of a teacher of kind `openai`: what is asked, how it is answered, and what that may cost."""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from t2t.core.config import Config
from t2t.core.errors import T2TError
from t2t.teachers.api.keys import key_of, refuse_secret
from t2t.teachers.api.money import MOST, Price, cap_of
from t2t.teachers.api.reading import Score
from t2t.teachers.base import TeacherEntry

# Keys of a request that the entry's other keys stand for.
OURS = {
    "model", "messages", "temperature", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "n", "seed",
    "response_format", "stream",
}  # fmt: skip
# What changes where, how fast or for how much is asked, and no label.
NO_IDENTITY = (
    "base_url", "api_key_env", "price", "budget", "image_tokens", "concurrency", "requests_per_minute",
    "tokens_per_minute", "timeout", "retries", "batch",
)  # fmt: skip
Word = Annotated[str, Field(min_length=1, max_length=40)]
Column = Annotated[str, Field(min_length=1, max_length=200)]


class AnswerWords(Config):
    """The words that an answer may begin with, in any case."""

    yes: tuple[Word, ...] = Field(("yes",), min_length=1, max_length=20, description="For a yes.")
    no: tuple[Word, ...] = Field(("no",), min_length=1, max_length=20, description="For a no.")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := {word.casefold() for word in self.yes} & {word.casefold() for word in self.no}:
            raise ValueError(f"{sorted(both)[0]!r} stands for yes and for no")
        return self


class BatchFiles(Config):
    """Requests are sent as files, which the server answers within a day, for less."""

    price: float = Field(0.5, ge=0, le=1, description="What a request costs so, as a share of `price`.")
    window: str = Field(
        "24h", pattern=r"^[1-9][0-9]{0,2}[hd]$", description="The time in which the server is to answer a file."
    )
    requests: int = Field(10_000, ge=1, le=50_000, description="Requests of one file at most.")
    megabytes: int = Field(100, ge=1, le=200, description="Millions of bytes of one file at most.")
    poll: float = Field(60, ge=0.05, le=3600, description="Seconds between two looks at what is done.")
    least: int = Field(
        50, ge=1, le=1_000_000, description="Samples with something to ask, below which each question is asked at once."
    )


class Entry(TeacherEntry):
    """A model behind an OpenAI-compatible server (a vendor, vLLM, llama.cpp), asked one prompt about each pair.

    Its answers are kept in the work folder by what was asked, so that nothing is paid twice. The key comes from the
    environment and is written nowhere.
    """

    kind: Literal["openai"] = Field("openai", description="A model behind an OpenAI-compatible server.")
    model: str = Field(min_length=1, max_length=300, description="Its name at the server; a dated one, if it has one.")
    base_url: str | None = Field(
        None, max_length=2000, description="The server, such as http://127.0.0.1:8000/v1; null: the package's own."
    )
    api_key_env: str | None = Field(
        "OPENAI_API_KEY", description="The environment variable that holds the key; null where the server needs none."
    )
    score: Score = Field(
        "logprobs",
        description="logprobs: P(yes) of the first token; number: a whole number from 0 to 100 that the model writes; "
        "sampled: the share of yes in `draws` answers; hard: yes or no.",
    )
    draws: int = Field(5, ge=2, le=100, description="Answers of each question, with `score: sampled`.")
    prompt: str | None = Field(
        None, max_length=20_000, description="With {topic}, or {topics} for several a request; null: a plain one."
    )
    system: str | None = Field(None, max_length=20_000, description="A message to the model before all others.")
    answers: AnswerWords = Field(AnswerWords(), description="The words of yes and no; those of other languages.")
    topics_per_request: int = Field(
        1, ge=1, le=200, description="Topics of one request; several need another score than logprobs."
    )
    frames: int = Field(4, ge=0, le=64, description="Pictures of each clip, evenly spaced; 0: texts only.")
    size: int = Field(384, ge=32, le=2048, description="Side of the square that frames are scaled to.")
    quality: int = Field(85, ge=10, le=100, description="Of their JPEG.")
    detail: Literal["low", "high", "auto"] | None = Field(
        None, description="How closely the server looks; null: its own."
    )
    columns: tuple[Column, ...] = Field(
        (), max_length=20, description="Columns of the samples file whose text is shown: [title, description]."
    )
    column_chars: int = Field(4000, ge=1, le=200_000, description="Characters of each that are shown at most.")
    top_logprobs: int = Field(20, ge=2, le=100, description="Tokens that the server lists, with `score: logprobs`.")
    temperature: float | None = Field(None, ge=0, le=2, description="null: 0, and 1 with `score: sampled`.")
    max_tokens: int | None = Field(
        None, ge=1, le=32_768, description="Of an answer; null: what the score needs. Models that think need more."
    )
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What the server calls that limit."
    )
    structured: bool = Field(True, description="Whether a JSON schema is sent along, where JSON is asked for.")
    extra_body: dict[str, Any] = Field({}, max_length=50, description="Further keys of each request; no secrets.")
    price: Price | None = Field(None, description="What tokens cost; null: nothing, as on a server of your own.")
    budget: float | None = Field(
        None, ge=0, le=MOST, description="What this teacher may spend in this work folder; `t2t run --budget` goes on."
    )
    image_tokens: int | None = Field(
        None, ge=1, le=100_000, description="Tokens that one frame counts as at most; needed where frames cost money."
    )
    batch: BatchFiles | None = Field(
        None, description="Send files that are answered within a day, for half the money; {}: as is usual."
    )
    concurrency: int = Field(8, ge=1, le=256, description="Requests at once, at most; fewer where the server says so.")
    requests_per_minute: float | None = Field(None, gt=0, le=1e7, description="Requests a minute; null: no limit.")
    tokens_per_minute: float | None = Field(None, gt=0, le=1e10, description="Tokens a minute; null: no limit.")
    timeout: float = Field(60, gt=0, le=3600, description="Seconds that the server may be silent.")
    retries: int = Field(6, ge=0, le=50, description="Tries behind the first one, of a request that fails.")

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        # (What was written is not repeated: it may be the key.)
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", value):
            raise ValueError(
                "write the name of an environment variable, such as OPENAI_API_KEY, and not the key itself"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _is_a_server(cls, value: str | None) -> str | None:
        try:
            parts = urlsplit(value or "http://x")
            good, secret = parts.scheme in ("http", "https") and bool(parts.hostname), parts.username or parts.query
        except ValueError:
            good, secret = False, None
        if secret:
            raise ValueError("no user, password or query in it: keys belong into the environment (api_key_env)")
        if not good:
            raise ValueError("write a server's address, such as http://127.0.0.1:8000/v1")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        many = self.topics_per_request > 1
        if many and self.score == "logprobs":
            raise ValueError("topics_per_request: the first token's P(yes) is about one topic; set another score, or 1")
        place = "{topics}" if many or self.score == "number" else "{topic}"
        if self.prompt is not None and self.prompt.count(place) != 1:
            raise ValueError(f"prompt: it must have {place} in it, once")
        if not self.frames and not self.columns:
            raise ValueError("nothing to ask about: set frames, or columns of the samples file")
        if taken := sorted(OURS & set(self.extra_body)):
            raise ValueError(f"extra_body: {taken[0]!r} has a key of its own, or is the engine's")
        if self.budget is not None and self.price is None:
            raise ValueError("budget: without `price` nobody can tell what is spent")
        if self.price is not None and self.price.input and self.frames and self.image_tokens is None:
            raise ValueError("image_tokens: say how many tokens a frame counts as at most, so that the budget holds")
        return self

    def ready(self) -> None:
        refuse_secret(self.id, self.api_key_env, self.model_dump_json())
        if self.price is not None and cap_of(self.id, self.budget) is None:
            raise T2TError(
                f"Teacher {self.id!r} costs money and has no budget: set `budget` in its entry, or run with "
                "--budget. `t2t plan` says what a campaign will cost."
            )
        key_of(self.id, self.api_key_env)
        with suppress(ValueError):  # what Python says of a package without a name of its own
            if find_spec("openai") is not None:
                return
        raise T2TError(f"Teacher {self.id!r} needs the package openai: pip install 'teacher2task[openai]'.")
