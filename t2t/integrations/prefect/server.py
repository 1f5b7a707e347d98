"""Prefect's server behind a door: `python -m uvicorn --factory t2t.integrations.prefect.server:app`.

Prefect asks for the login on all of its API by itself, be it by HTTP or a web socket, where it knows one; its pages ask
a person for it. Left to itself it answers to any `Host` and to pages of every origin, and so the door stands before it.
"""

from __future__ import annotations

import os

from t2t.integrations.door import Door, hosts_of, login_from


def app() -> Door:
    """Prefect's application. Raises NoLogin where the environment has none."""
    os.environ["PREFECT_SERVER_API_AUTH_STRING"] = os.environ["PREFECT_API_AUTH_STRING"] = login_from()
    # No origin but the server's own comes past the door, so nobody else's page is to be told that it may.
    own = os.environ.get("PREFECT_UI_API_URL", "").removesuffix("/api")
    os.environ.setdefault("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", own)
    from prefect.server.api.server import create_app

    return Door(create_app(final=True), hosts_of(), free=["/api/health", "/api/ready"])
