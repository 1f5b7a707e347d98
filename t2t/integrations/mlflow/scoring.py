"""MLflow's scoring server with a door before it, and with limits on what a request may hold.

`mlflow models serve` starts an application of MLflow's own, which reads whatever is sent, of any size and depth, from
whoever sends it. The only code of ours in its process is the model's loader, which runs before the application is put
together: `install` has it put together behind a `Door`, with `invocations` of this module in place of MLflow's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import fastapi

from t2t.core.errors import T2TError, one_line
from t2t.integrations.door import App, Door, NoLogin, Receive, Scope, Send, hosts_of, login_from, refuse

MOST_BYTES = 16 * 1024 * 1024  # of a request: two clips of 1,024 frames with 512 numbers each, written out
MOST_DEPTH = 16  # of lists and objects in one another; a request needs six
MOST_PARTS = 100_000  # lists and objects in one request
MOST_DIGITS = 19  # of an integer: what 64 bits hold

# Whether the request that is being answered came through the door.
came_in: ContextVar[bool] = ContextVar("came_in", default=False)


def install() -> bool:
    """Puts the door before the application that this process is about to make; whether it makes one.

    Raises SystemExit, with one line, where the environment has no login.
    """
    module = sys.modules.get("mlflow.pyfunc.scoring_server.app")
    if module is None or hasattr(module, "app"):
        return False  # a model that is loaded in Python
    try:
        login = login_from()
    except NoLogin as error:
        raise SystemExit(f"Error: {error}") from None
    from mlflow.pyfunc import scoring_server

    plain = fastapi.FastAPI

    class Guarded(plain):  # type: ignore[misc, valid-type]
        """MLflow's application; the next one that is made is an ordinary one again."""

        def __init__(self, **settings: Any):
            fastapi.FastAPI = plain  # type: ignore[misc]
            # Its page of documentation shows nothing that a client needs.
            super().__init__(**settings | {"docs_url": None, "redoc_url": None, "openapi_url": None})
            self.add_middleware(ServingDoor, login=login)

    fastapi.FastAPI = Guarded  # type: ignore[misc]
    scoring_server.invocations = answering(scoring_server.invocations)
    return True


class ServingDoor(Door):
    """The door of a served model: besides, a request is JSON and not too large, as long as it is being received."""

    def __init__(self, app: App, login: str):
        super().__init__(app, hosts_of(), login, free=["/ping", "/health"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        came_in.set(True)
        receive = Bounded(receive)
        try:
            await super().__call__(scope, receive, send)
        except TooLarge:
            await receive.drain()  # a client that is still sending would not see the answer
            await refuse(send, 400, f"A request has {MOST_BYTES:,} bytes at most: ask about fewer rows at once.")


class TooLarge(Exception):
    """A request of more than MOST_BYTES."""


class Bounded:
    """A request's body, as far as it may go."""

    def __init__(self, receive: Receive):
        self.receive, self.bytes = receive, 0

    async def __call__(self) -> Any:
        message = await self.receive()
        self.bytes += len(message.get("body", b""))
        if self.bytes > MOST_BYTES:
            raise TooLarge
        return message

    async def drain(self) -> None:
        """Throws away what still comes, within reason."""
        more = True
        while more and self.bytes < 16 * MOST_BYTES:
            message = await self.receive()
            self.bytes += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)


def answering(invocations: Callable[..., Any]) -> Callable[..., Any]:
    """MLflow's `invocations`, for requests within the limits; all that is wrong with one is a 400 with one line."""

    def checked(data: bytes, content_type: str | None, model: Any, input_schema: Any) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            check_request(data, content_type)
            return invocations(data, content_type, model, input_schema)
        except T2TError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        except MlflowException as error:
            error.json_kwargs.pop("stack_trace", None)  # of this machine's files
            error.message = one_line(error.message.rpartition("\nError: ")[2], 1000)
            raise
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
            raise MlflowException.invalid_parameter_value(
                f"The rows cannot be read as a table: {one_line(error, 200)}"
            ) from None

    return checked


def check_request(data: bytes, content_type: str | None) -> None:
    """Raises T2TError, which names the limit, where a request is not JSON of a kind that can be answered."""
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise T2TError("A request is JSON: send it with Content-Type: application/json.")
    if len(data) > MOST_BYTES:
        raise T2TError(f"A request has {MOST_BYTES:,} bytes at most: ask about fewer rows at once.")
    if data.count(b"[") + data.count(b"{") > MOST_PARTS:
        raise T2TError(f"A request has {MOST_PARTS:,} lists and objects at most: ask about fewer rows at once.")
    try:
        content = json.loads(data, parse_int=_integer)
    except RecursionError:
        raise T2TError(f"A request's lists and objects lie {MOST_DEPTH} deep in one another at most.") from None
    except ValueError as error:  # no JSON, no UTF-8
        raise T2TError(f"The request is no JSON: {one_line(error, 200)}") from None
    layer = [content]
    for _ in range(MOST_DEPTH):
        inner = [part.values() if isinstance(part, dict) else part for part in layer if isinstance(part, dict | list)]
        layer = [item for part in inner for item in part if isinstance(item, dict | list)]
        if not layer:
            return
    raise T2TError(f"A request's lists and objects lie {MOST_DEPTH} deep in one another at most.")


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise T2TError(f"An integer has {MOST_DIGITS} digits at most; one here has {len(text.lstrip('-')):,}.")
    return int(text)
