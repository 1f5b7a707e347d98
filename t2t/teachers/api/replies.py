"""What a server sent back, whether another try may mend it, and what it says that it counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from t2t.core.errors import T2TError, one_line
from t2t.teachers.api.money import Tokens
from t2t.teachers.api.pace import asked_wait
from t2t.teachers.api.reading import REFUSED

# Seconds that a server may ask to wait; one that asks for more is left for another run.
PATIENCE = 600.0
# Codes of errors by which servers refuse to answer a question, for what it is about.
FILTERS = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "moderation_blocked")


@dataclass(frozen=True)
class Reply:
    """What came back. body: JSON of a chat completion, or as it came; empty where nothing that can be used did.

    sent: whether the request may have reached the server, which then may charge for it. problem: why there is no
    answer, where the status does not say it. hopeless: what to do, where no further try mends the problem.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent: bool = True
    problem: str = ""
    hopeless: str = ""

    @property
    def done(self) -> bool:
        return self.status == 200 and not self.problem

    @property
    def refused(self) -> bool:
        """Whether the question itself was refused, for what it is about."""
        text = self.body.decode(errors="replace")
        return self.status in (400, 403) and any(f'"{code}"' in text for code in FILTERS)

    @property
    def costs_nothing(self) -> bool:
        """Whether the server surely charges nothing: it refused to begin, or never heard of it."""
        return not self.sent or (300 <= self.status < 500 and self.status != 408)

    @property
    def told(self) -> str:
        """In words."""
        return self.problem or f"{self.status} {message_of(self.body)}"


def refuse(reply: Reply) -> None:
    """Raises T2TError for what no further try mends."""
    message = message_of(reply.body)
    if reply.hopeless:
        raise T2TError(f"its server {reply.problem}: {reply.hopeless}.")
    if 300 <= reply.status < 400:
        to = one_line(reply.headers.get("location", "another address"), 200)
        raise T2TError(f"its server sends us on to {to} ({reply.status}): write the address that it means as base_url.")
    if reply.status >= 400 and "response_format" in reply.body.decode(errors="replace"):
        raise T2TError(
            f"its server does not take a JSON schema ({reply.status}: {message}): set `structured: false` in the entry."
        )
    if reply.status in (401, 403):
        raise T2TError(f"its server does not let us in ({reply.status}: {message}); look at the key.")
    if reply.status == 429 and "insufficient_quota" in reply.body.decode(errors="replace"):
        raise T2TError(f"its account has no money left ({message}).")
    if 400 <= reply.status < 500 and reply.status not in (408, 409, 429):
        raise T2TError(f"its server refuses the request ({reply.status}: {message}).")
    asked = asked_wait(reply.headers)
    if asked is not None and asked > PATIENCE:
        raise T2TError(f"its server asks to come back in {asked:,.0f} s ({reply.status}: {message}).")


def message_of(body: bytes) -> str:
    """An error's own words, for people."""
    try:
        content = json.loads(body)
        error = content.get("error", content) if isinstance(content, dict) else content
        text = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, RecursionError):
        text = body.decode(errors="replace")
    return one_line(text, 200).rstrip(".") or "no message"


def cut(body: bytes) -> str:
    """Why a body is no chat completion; empty where it is one."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return "an answer that is no JSON, or half of it"
    whole = isinstance(content, dict) and REFUSED not in content
    choices = content.get("choices") if whole else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "an answer without choices"
    return "" if isinstance(choices[0].get("message"), dict) else "an answer without a message"


def used_tokens(body: bytes, least_input: int) -> Tokens | None:
    """What a server says it counted; None where it says nothing, or nothing that can be true.

    least_input: tokens of the question below which a count is not believed.
    """
    try:
        usage = json.loads(body)["usage"]
        tokens = Tokens(usage["prompt_tokens"], usage["completion_tokens"])
        whole = all(type(count) is int for count in (tokens.input, tokens.output))
        total = usage.get("total_tokens", tokens.input + tokens.output)
        believed = (
            whole and tokens.input >= least_input and tokens.output >= 1 and total == tokens.input + tokens.output
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return tokens if believed and max(tokens.input, tokens.output) < 10**9 else None


def counts_more(used: Tokens, most: Tokens) -> T2TError:
    """Of a server that counts more than was set aside."""
    return T2TError(
        f"its server counts {used.input:,} + {used.output:,} tokens for a request that was taken for at most "
        f"{most.input:,} + {most.output:,}: raise `image_tokens`, or look what the server "
        "adds. Nothing more was sent, so that the budget holds; the answer is kept."
    )
