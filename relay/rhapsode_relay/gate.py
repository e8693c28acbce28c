"""Who may come in on the client port: asked before every request. Called by `app`.

Everyone may fetch what holds nobody's data: the page, which asks for a key itself, the description of the API, and
what a browser asks before it asks. All else needs a key, where there are keys, or a ticket for what that is for.
"""

import time
from typing import NamedTuple

from quart import Quart, g, request

from rhapsode_relay import tickets
from rhapsode_relay.errors import Unauthorized
from rhapsode_relay.keys import KeyFolder

_PUBLIC_PATHS = ("/", "/openapi.json")
_PUBLIC_FOLDER = "/page/"


class Knock(NamedTuple):
    """What is seen of a request before it is let in."""

    method: str
    path: str
    is_cross_origin: bool = False
    """Whether a browser says for which method it asks, and from which page."""


def is_public(knock: Knock) -> bool:
    """Return whether no key is needed. Pure."""
    if knock.method == "OPTIONS":
        return knock.is_cross_origin
    if knock.method not in ("GET", "HEAD"):
        return False
    return knock.path in _PUBLIC_PATHS or knock.path.startswith(_PUBLIC_FOLDER)


def guard(app: Quart, keys: KeyFolder | None) -> None:
    """Let in who may come; `g.key_name` is the name of the key that opened, and empty where everyone may come."""

    @app.before_request
    async def check_key() -> None:
        g.key_name = ""
        if keys is not None and not is_public(_knock()):
            g.key_name = _name_of_key(keys)


def _name_of_key(keys: KeyFolder) -> str:
    """Return which key opens, or with which one the ticket was made that does. Raises ApiError."""
    name = keys.find(request.headers.get("Authorization", ""), request.headers.get("X-Api-Key", ""))
    if name is not None:
        return name
    ticket = request.args.get("ticket")
    if ticket is None:
        raise Unauthorized
    claim = tickets.check(ticket, keys, time.time())
    tickets.check_scope(claim, request.method, request.path)
    return claim.key_name


def _knock() -> Knock:
    asked = {"Origin", "Access-Control-Request-Method"}
    return Knock(request.method, request.path, all(name in request.headers for name in asked))
