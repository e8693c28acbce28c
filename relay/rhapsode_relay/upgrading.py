"""Turn a request's connection into a WebSocket. Called by `socket_routes` and `reframing`.

wsproto judges the handshake and all that the client sends. What we send goes straight to the connection, as SSE
does. No extension is agreed on, so no client can make us inflate or keep anything: it may say one short thing.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import ProtocolError

from rhapsode_relay.errors import ApiError
from rhapsode_relay.framing import Framer
from rhapsode_relay.serving import Client

DONE, GOING_AWAY, REFUSED, TOO_LONG, FAILED, COME_BACK = 1000, 1001, 1008, 1009, 1011, 1013
LINGER_S = 2.0
"""How long a client may take nothing of what is left for it, and then may take to agree to the end.

Where the relay itself ends, uvicorn cuts it off after a second."""
_LOOK_S = 0.1
"""How often that is looked at. Where this whole process stands still, one look is late and the others are not."""
_LOOKS = round(LINGER_S / _LOOK_S)
MAX_WORDS = 1024
"""Bytes that a client may say."""
_HANDSHAKE = {b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version"}


def parting(error: ApiError) -> tuple[int, str]:
    """Return the close code and reason of an error: a browser shows no other answer to a handshake."""
    code = {404: 4404, 410: 4410, 503: COME_BACK}.get(error.status, REFUSED if error.status < 500 else FAILED)
    return code, f"{error.code}: {error.message}"


class _Words(msgspec.Struct, forbid_unknown_fields=True):
    """All that a client can say."""

    last_event_id: str


_words = msgspec.json.Decoder(_Words)


def shake_hands(scope: Any) -> WSConnection:
    """Return a handshake that can be accepted. Raises ApiError."""
    if scope["method"] != "GET" or scope["http_version"] != "1.1":
        raise ApiError(426, "upgrade_required", "this is a WebSocket: GET it with HTTP/1.1")
    handshake = WSConnection(ConnectionType.SERVER)
    headers = [(name, value) for name, value in scope["headers"] if name in _HANDSHAKE]
    try:
        handshake.initiate_upgrade_connection([(b"host", b"relay"), *headers], "/")
    except (ProtocolError, ValueError) as exc:
        raise ApiError(426, "upgrade_required", f"this is a WebSocket: {exc}") from exc
    list(handshake.events())  # the request, which we know
    return handshake


class Socket:
    """A client's WebSocket: an outlet for a reader's chunks, and an ear for the little that it may say."""

    def __init__(self, client: Client, handshake: WSConnection) -> None:
        self.client = client
        self.on_place: Callable[[str], None] = lambda _: None
        """Called with the id that the client says it has."""
        self.framer = Framer()
        self._wire = handshake
        self._closed = False
        self._heard: list[bytes] | None = []
        """What the client has said of its one message; None once it has said it."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        return self._closed or self.client.full

    def accept(self, headers: dict[str, str]) -> None:
        """Answer the handshake; from now on this is a WebSocket."""
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.client.upgrade(self._hear)
        self.client.send(self._wire.send(AcceptConnection(extra_headers=extra)))

    def write(self, chunk: bytes) -> None:
        if not self._closed:
            self.client.send(self.framer.frames(chunk))

    async def drain(self) -> None:
        """Wait until the client has taken so much that more may be written."""
        assert self.client.cycle is not None
        await self.client.cycle.flow.drain()

    def close(self, code: int = GOING_AWAY, reason: str = "come back with your last id") -> None:
        """Say that this is the end. The connection closes when the client agrees, or did nothing for `LINGER_S`."""
        if not self._closed:
            self._closed = True
            self._answer(CloseConnection(code, reason))
            self._linger(self.client.unsent, _LOOKS)

    def _linger(self, unsent: int, looks: int) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look, unsent, looks - 1)

    def _look(self, unsent: int, looks: int) -> None:
        if (left := self.client.unsent) < unsent:  # slow is not stuck: cutting it off now would lose the rest
            self._linger(left, _LOOKS)
        elif looks:
            self._linger(unsent, looks)
        else:
            self.client.abort()

    def stall(self) -> None:
        """Tell a client that takes nothing to come back: it will read that after all else, if at all."""
        self.close(COME_BACK, "you read too slowly; come back with your last id")

    def abort(self) -> None:
        self.client.abort()

    def forget(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()

    # What the client says

    def _hear(self, data: bytes) -> None:
        try:
            self._wire.receive_data(data)
            for event in self._wire.events():
                self._take(event)
        except ProtocolError as exc:  # it goes on after its end
            self.close(REFUSED, str(exc))

    def _take(self, event: Event) -> None:
        match event:
            case Ping() if not self.full:  # one that takes no answers is not heaped with them
                self._answer(event.response())
            case CloseConnection():  # also what wsproto makes of bytes that are no WebSocket's
                self.close(event.code, event.reason or "")
                self.client.close()
            case TextMessage() | BytesMessage() if not self._closed:
                self._listen(event)

    def _listen(self, event: TextMessage | BytesMessage) -> None:
        if self._heard is None:
            self.close(REFUSED, "nothing more can be said here")
            return
        self._heard.append(event.data.encode() if isinstance(event, TextMessage) else bytes(event.data))
        if sum(map(len, self._heard)) > MAX_WORDS or len(self._heard) > MAX_WORDS:
            self.close(TOO_LONG, f"at most {MAX_WORDS} bytes")
        elif event.message_finished:
            said, self._heard = b"".join(self._heard), None
            self._obey(said)

    def _obey(self, said: bytes) -> None:
        try:
            words = _words.decode(said)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.close(REFUSED, 'all that can be said is {"last_event_id": "ID"}')
            return
        self.on_place(words.last_event_id)

    def _answer(self, event: Event) -> None:
        if self._wire.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            self.client.send(self._wire.send(event))
