"""The way to an OpenAI-compatible server: the `openai` package, without its own retries."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import Any

from t2t.core.errors import T2TError, one_line
from t2t.teachers.api.config import Entry
from t2t.teachers.api.question import Question
from t2t.teachers.api.reading import REFUSED
from t2t.teachers.api.sending import Reply, redacted

# Servers that need no key are sent this one: the package wants some.
NO_KEY = "none"


class Chat:
    """Chat completions of one server. The key is read from the environment when it is needed, and kept nowhere else."""

    def __init__(self, teacher: str, base_url: str | None, key_variable: str | None, timeout: float):
        self.teacher, self.base_url, self.key_variable, self.timeout = teacher, base_url, key_variable, timeout

    @property
    def key(self) -> str:
        """Raises T2TError where the variable is empty."""
        if self.key_variable is None:
            return NO_KEY
        # A header with a newline in it, which editors put at a file's end, is none.
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise T2TError(
                f"Teacher {self.teacher!r}: the environment variable {self.key_variable} is empty; it must hold the "
                "server's key. (`api_key_env: null` for a server that asks for none.)"
            )
        if not key.isascii() or not key.isprintable():
            raise T2TError(
                f"Teacher {self.teacher!r}: the environment variable {self.key_variable} holds no key: there are signs "
                "in it that no header can have."
            )
        return key

    @cached_property
    def client(self) -> Any:
        key = self.key
        try:
            import openai
        except ImportError:
            raise T2TError(
                f"Teacher {self.teacher!r} needs the package openai: pip install 'teacher2task[openai]'."
            ) from None
        return openai.OpenAI(api_key=key, base_url=self.base_url, timeout=self.timeout, max_retries=0)

    def ready(self) -> None:
        """Raises T2TError where no request could be sent: no key, no package."""
        _ = self.client

    def ask(self, question: Question) -> Reply:
        messages = question.messages()
        import openai

        try:
            response = self.client.chat.completions.with_raw_response.create(
                model=question.model, messages=messages, extra_body=question.parameters
            )
            body = response.http_response.content
            return Reply(200, response.headers, body, problem=_cut(body))
        except openai.APIStatusError as error:
            text = redacted(error.response.text, self.key)
            return Reply(error.status_code, error.response.headers, text.encode())
        except openai.APIError as error:
            # A time limit, a connection that broke or was never made, a body that is no JSON.
            cause = error.__cause__ or error
            sent = type(cause).__name__ not in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol")
            problem = redacted(one_line(f"{type(cause).__name__}: {cause}", 200).rstrip(".: "), self.key)
            return Reply(0, {}, b"", sent, problem)
        except ValueError as error:
            return Reply(0, {}, b"", True, f"an answer that cannot be read: {one_line(error, 100).rstrip('.')}")

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()
            del self.client


def refuse_secret(entry: Entry) -> None:
    """Raises T2TError where an entry holds its key, for instance by `${NAME}`: entries are written into the lake."""
    key = os.environ.get(entry.api_key_env or "", "").strip()
    if len(key) >= 8 and key in entry.model_dump_json():
        raise T2TError(
            f"Teacher {entry.id!r}: its entry holds the key of {entry.api_key_env}, and entries are written into the "
            "lake: take it out. `api_key_env` is all that is needed."
        )


def _cut(body: bytes) -> str:
    """Why a body is no chat completion; empty where it is one."""
    try:
        content = json.loads(body)
    except ValueError:
        return "an answer that is no JSON, or half of it"
    whole = isinstance(content, dict) and REFUSED not in content
    choices = content.get("choices") if whole else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "an answer without choices"
    return "" if isinstance(choices[0].get("message"), dict) else "an answer without a message"
