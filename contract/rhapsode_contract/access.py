"""The part of an InferenceWorker's spec that says who may ask, and how much: other origins, keys, slow clients."""

from typing import Annotated

from msgspec import Meta, Struct

Origin = Annotated[
    str,
    Meta(
        pattern=r"^(\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?)$",
        max_length=256,
        extra={"rule": "'*' or an origin as a browser sends it, such as https://app.example.com, without a path"},
    ),
]


class CorsSpec(Struct, kw_only=True, rename="camel", frozen=True):
    """Pages of other origins."""

    allowed_origins: Annotated[
        list[Origin],
        Meta(
            max_length=32,
            description="Origins whose pages may ask and read answers; '*' is every origin. None, if empty.",
        ),
    ] = []


class RelayLimits(Struct, kw_only=True, rename="camel", frozen=True):
    """What clients may take up, and how long a request may take. Turns have times of their own."""

    readers_per_job: Annotated[
        int, Meta(ge=1, le=1024, description="Readers of one job or correlation id at once; the next one gets 503.")
    ] = 32
    connections: Annotated[
        int, Meta(ge=16, le=65_536, description="Connections of clients at once; the next one gets 503.")
    ] = 4096
    first_token_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=86_400,
            description="How long the engine may take to the first token, in seconds; waiting for it does not count.",
        ),
    ] = 600
    idle_seconds: Annotated[
        int, Meta(ge=1, le=86_400, description="How long the engine may be silent between tokens, in seconds.")
    ] = 120
    total_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=604_800,
            description="How long a request may run, in seconds; waiting for the engine does not count.",
        ),
    ] = 3600


class KeyLimits(Struct, kw_only=True, rename="camel", frozen=True):
    """What the clients of one key may take up together. Each replica counts for itself."""

    streams: Annotated[
        Annotated[int, Meta(ge=1, le=65_536)] | None,
        Meta(description="Streams of each key that are open at once; the next one gets 429. No limit, if absent."),
    ] = None
    requests_per_minute: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(
            description="Requests of each key that begin work, a minute; the next one gets 429. No limit, if absent."
        ),
    ] = None
