"""`GET /openapi.json`: what this port can do, for programs that make clients. Called by `app`."""

import asyncio
import functools

import msgspec
from quart import Blueprint, Response


def openapi_routes() -> Blueprint:
    """Return the route of the description."""
    routes = Blueprint("openapi", __name__)

    @routes.get("/openapi.json")
    async def describe() -> Response:
        body = await asyncio.to_thread(_encoded)  # streams go on while it is made
        return Response(body, content_type="application/json")

    return routes


@functools.cache
def _encoded() -> bytes:
    """Return the description, made and kept when somebody asks for it; most relays are never asked."""
    from rhapsode_relay.openapi.documenting import document

    return msgspec.json.encode(document())
