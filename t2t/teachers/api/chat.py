"""The way to an OpenAI-compatible server: the `openai` package, without its own retries."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from t2t.core.errors import T2TError, one_line
from t2t.teachers.api.keys import cleaned, key_of
from t2t.teachers.api.question import Question
from t2t.teachers.api.replies import Reply, cut

# An answer is no larger, and is whole within so many times the longest silence.
MOST_BYTES, WHOLE = 50_000_000, 10
# What no further try mends: how a connection failed, or of what kind an answer is, and what to do.
UNREACHABLE = {
    "CERTIFICATE_VERIFY_FAILED": "if an authority of your own signed its certificate, name its file in SSL_CERT_FILE",
    "WRONG_VERSION_NUMBER": "it may speak http:// and not https://, look at base_url",
    "Name or service not known": "look at the host's name in base_url, and at HTTP_PROXY and HTTPS_PROXY",
}
NO_API = {
    "text/html": ("answers with a web page", "look at base_url, which ends in /v1 mostly"),
    "text/event-stream": ("streams its answer, which was not asked for", "turn that off at the server"),
}


class Chat:
    """Chat completions of one server. The key is read from the environment when it is needed, and kept nowhere else."""

    def __init__(self, teacher: str, base_url: str | None, key_variable: str | None, timeout: float):
        self.teacher, self.base_url, self.key_variable, self.timeout = teacher, base_url, key_variable, timeout

    @property
    def key(self) -> str:
        """Raises T2TError where the variable is empty."""
        return key_of(self.teacher, self.key_variable)

    @cached_property
    def client(self) -> Any:
        key = self.key
        import openai

        try:
            # What is asked, and the key, go to no other address than the entry's.
            web = openai.DefaultHttpxClient(follow_redirects=False, timeout=self.timeout)
        except (ImportError, OSError, ValueError) as error:
            # A proxy's address may have a password in it.
            reason = type(error).__name__ if "@" in str(error) else one_line(error, 200).rstrip(".")
            raise T2TError(
                f"Teacher {self.teacher!r}: no connection can be made ({reason}): look at "
                "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE in the environment."
            ) from None
        return openai.OpenAI(api_key=key, base_url=self.base_url, timeout=self.timeout, max_retries=0, http_client=web)

    def clean(self, body: bytes) -> bytes:
        """Without the key, whoever repeated it."""
        return cleaned(body, self.teacher, self.key_variable)

    def ask(self, question: Question) -> Reply:
        messages = question.messages()

        def send() -> tuple[Any, bytes]:
            create = self.client.chat.completions.with_streaming_response.create
            with create(model=question.model, messages=messages, extra_body=question.parameters) as response:
                return response, self._bounded(response)

        return self.call(send, lambda found: self._reply(200, found[0].headers, found[1], completion=True))

    def _bounded(self, response: Any) -> bytes:
        """The whole of a body; a server that sends without end is left."""
        body, until = bytearray(), time.monotonic() + WHOLE * self.timeout
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES:,} bytes")
            if time.monotonic() > until:
                raise ValueError(f"not whole after {WHOLE * self.timeout:,.0f} s")
        return bytes(body)

    def call(self, send: Callable[[], Any], reads: Callable[[Any], Reply]) -> Reply:
        """What `send` of the package brings, as a Reply; it raises nothing for what a server or a network does."""
        import openai

        try:
            return reads(send())
        except openai.APIStatusError as error:
            return self._reply(error.status_code, error.response.headers, error.response.content)
        except ValueError as error:
            return Reply(0, {}, b"", True, f"an answer that cannot be read: {self._told(error)}")
        except Exception as error:
            # A time limit, a connection that broke or was never made, a body that is no JSON; in the midst of a body
            # the errors of the package's own client come through.
            if not isinstance(error, openai.APIError) and not type(error).__module__.startswith(("httpx", "httpcore")):
                raise
            cause = error.__cause__ if isinstance(error, openai.APIError) and error.__cause__ else error
            sent = type(cause).__name__ not in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol", "ProxyError")
            problem = self._told(f"{type(cause).__name__}: {cause}").rstrip(": ")
            if type(cause).__name__ == "ConnectError":
                for sign, remedy in UNREACHABLE.items():
                    if sign in str(cause):
                        return Reply(0, {}, b"", False, f"cannot be reached ({problem})", remedy)
            return Reply(0, {}, b"", sent, problem)

    def _reply(self, status: int, came: Mapping[str, str], content: bytes, completion: bool = False) -> Reply:
        body = self.clean(content)
        headers = {name.lower(): self.clean(value.encode()).decode() for name, value in came.items()}
        if not completion:
            return Reply(status, headers, body)
        for kind, (problem, remedy) in NO_API.items():
            if headers.get("content-type", "").startswith(kind):
                return Reply(status, headers, body, True, problem, remedy)
        return Reply(status, headers, body, problem=cut(body))

    def _told(self, error: object) -> str:
        return self.clean(one_line(error, 200).rstrip(".").encode()).decode()

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()
            del self.client
