"""Requests as friends and strangers send them to a server with a door."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from t2t.integrations.door import basic

LOGIN = "t2t:0123456789abcdef0123456789abcdef"
EVIL = "evil.example"


def ask(url: str, login: str | None = None, content: Any = None, **headers: str) -> tuple[int, bytes]:
    """Status and body; with `content` by POST, as JSON. In names of headers `_` stands for `-`."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if login is not None:
        sent["Authorization"] = basic(login)
    body = None
    if content is not None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        sent.setdefault("Content-Type", "application/json")
    try:
        with build_opener(ProxyHandler({})).open(Request(url, body, sent), timeout=60) as response:
            return response.status, response.read()
    except HTTPError as error:
        return error.code, error.read()


def strangers(url: str, login: str, content: Any = None) -> dict[str, int]:
    """The status that each kind of stranger gets for what a friend, who is `friend`, may ask."""
    own = url.split("/")[2]
    port = own.rpartition(":")[2]
    found = {
        "friend": ask(url, login, content)[0],
        "own page": ask(url, login, content, Origin=f"http://{own}", Sec_Fetch_Site="same-origin")[0],
        "no login": ask(url, None, content)[0],
        "wrong login": ask(url, f"{login}x", content)[0],
        "foreign host": ask(url, login, content, Host=f"{EVIL}:{port}")[0],
        "foreign origin": ask(url, login, content, Origin=f"http://{EVIL}")[0],
        "other port's page": ask(url, login, content, Origin="http://127.0.0.1:1")[0],
        "sandboxed page": ask(url, login, content, Origin="null")[0],
        "picture in a foreign page": ask(url, login, content, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0],
    }
    rebound = {"Host": f"{EVIL}:{port}", "Origin": f"http://{EVIL}:{port}"}
    return found | {"rebound name": ask(url, login, content, **rebound)[0]}


REFUSED = {
    "no login": 401,
    "wrong login": 401,
    "foreign host": 403,
    "foreign origin": 403,
    "other port's page": 403,
    "sandboxed page": 403,
    "picture in a foreign page": 403,
    "rebound name": 403,
}
