"""Pages of other origins: which may ask and read answers. Called by `app` and `admin`.

quart-cors writes the headers that let a browser show our answers to such a page. A page that is not allowed sees
nothing, but a browser sends some of what it asks all the same, and where there are no keys that would begin work. So
what a browser says comes from another site is refused unless that site is allowed.

A page can also have its own name lead to this machine, and is of our origin then, for its browser. So a relay that
only this machine reaches, and that asks for no key, answers to no name that a stranger can own.
"""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from quart import Quart, request
from quart_cors import cors

from rhapsode_contract import names
from rhapsode_relay.errors import ApiError

EXPOSED = (
    "X-Job-Id", "X-Correlation-Id", "X-Request-Id", "X-Replay", "X-Should-Retry", "Link", "Location", "Retry-After",
    "Retry-After-Ms", "Idempotent-Replayed",
)  # fmt: skip
"""Headers of answers that a page may read."""
METHODS = ("GET", "HEAD", "POST", "DELETE")
REMEMBERED_S = 600
"""How long a browser need not ask again whether it may ask."""
_READING = ("GET", "HEAD", "OPTIONS")
_ACTING = ("/ws", "/prestop")
"""What does more than to answer, although it is a GET."""
_LOCAL = (".localhost", ".local", ".internal")
"""Nobody can own a name under these."""


class Asked(NamedTuple):
    """What a request says of where it comes from. Browsers say it; others may say nothing."""

    method: str
    path: str
    host: str = ""
    """What we are called."""
    origin: str = ""
    site: str = ""
    """A browser's own judgement, which it tells neither WebSockets nor, over plain HTTP, other machines."""

    def is_foreign(self) -> bool:
        """Return whether another site's page asks for more than it could read anyway. Pure."""
        if self.method in _READING and not self.path.endswith(_ACTING):
            return False
        if self.site or not self.origin:
            return self.site == "cross-site"
        return _name_in(self.origin) != _name_in(f"//{self.host}")


def is_own_name(host: str, origins: Sequence[str]) -> bool:
    """Return whether a relay of this machine may be called so: no stranger's name can lead here then. Pure."""
    name = _name_in(f"//{host}")
    if "." not in name or name.endswith(_LOCAL) or names.is_address(name):
        return True
    return "*" in origins or name in map(_name_in, origins)


def allow_origins(app: Quart, origins: Sequence[str]) -> None:
    """Let the pages of these origins read answers, and those of no others."""
    if origins:
        cors(
            app,
            allow_origin=list(origins),
            allow_headers=["*"],
            allow_methods=list(METHODS),
            expose_headers=list(EXPOSED),
            max_age=REMEMBERED_S,
        )


def refuse_foreign(app: Quart, listens_on: str, origins: Sequence[str] = (), *, has_keys: bool = False) -> None:
    """Refuse what pages make a browser send that are of none of these origins.

    Where a key is wanted, no page has it unasked, and only what is surely another site's is refused: proxies may have
    changed what we are called.
    """
    is_local = names.is_loopback(listens_on) and not has_keys

    @app.before_request
    async def check_site() -> None:
        asked = _asked(has_keys=has_keys)
        if is_local and not is_own_name(asked.host, origins):
            raise _not_called(asked.host)
        if asked.is_foreign() and asked.origin not in origins and "*" not in origins:
            message = "pages of this origin may not ask here; spec.relay.cors.allowedOrigins says which may"
            raise ApiError(403, "origin_not_allowed", message)


def _asked(*, has_keys: bool) -> Asked:
    said = request.headers
    site, origin = said.get("Sec-Fetch-Site", ""), said.get("Origin", "")
    judges = not has_keys and names.HOP_HEADER not in said  # a header that no page sends unasked
    return Asked(request.method, request.path, said.get("Host", ""), origin if site or judges else "", site)


def _not_called(host: str) -> ApiError:
    message = (
        f"this relay is for its own machine and not called {host[:100]!r}: say localhost or its address, or name "
        "an origin with this host in spec.relay.cors.allowedOrigins"
    )
    return ApiError(403, "host_not_allowed", message)


def _name_in(url: str) -> str:
    """Return the host of an origin, in one spelling; nothing for what has none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
