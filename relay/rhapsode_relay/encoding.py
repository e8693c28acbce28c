"""Encode events as SSE. Called by `journal`. Pure: no clock, no I/O.

Tokens take a short cut, since they are nearly all of the traffic: a run of n tokens becomes n SSE events with
a handful of C calls and no loop in Python. The parts of an event that do not depend on the job are taken from
tables; the rest is one `bytes.join`. `docs/performance.md` has the figures.
"""

from rhapsode_contract.events import StreamEvent
from rhapsode_contract.frames import TOKEN_SEPARATOR
from rhapsode_relay.quoting import quote

_SEPARATOR = TOKEN_SEPARATOR.encode()
_TABLE_STEP = 4096
_TABLE_LIMIT = 131_072

_after_id: list[bytes] = []
"""For each seq: what follows `id: <job>-<epoch>-` of a token event, up to and including `"i":`."""
_after_i: list[bytes] = []
"""For each i: the number and what follows, up to the text's opening quote."""


_AFTER_ID = b'\nevent: token\ndata: {"type":"token","seq":'
_AFTER_I = b',"t":"'


def _seq_part(seq: int) -> bytes:
    return b'%d%b%d,"i":' % (seq, _AFTER_ID, seq)


def _i_part(i: int) -> bytes:
    return b"%d%b" % (i, _AFTER_I)


def _template(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


def _grow(size: int) -> None:
    for number in range(len(_after_id), min(size + _TABLE_STEP, _TABLE_LIMIT)):
        _after_id.append(_seq_part(number))
        _after_i.append(_i_part(number))


class StreamEncoder:
    """Encodes the events of one stream, whose ids are `<stream>-<epoch>-<seq>`."""

    __slots__ = ("_between", "_head", "_one", "_tail")

    def __init__(self, stream: str, epoch: str, correlation_id: str = "") -> None:
        self._head = f"id: {stream}-{epoch}-".encode()
        self._tail = b'","job_id":%s,"correlation_id":%s}\n\n' % (quote(stream), quote(correlation_id))
        self._between = self._tail + self._head
        self._one = b"%b%%d%b%%d%b%%d%b%%b%b" % (
            _template(self._head),
            _template(_AFTER_ID),
            b',"i":',
            _AFTER_I,
            _template(self._tail),
        )

    def event(self, event: StreamEvent) -> bytes:
        """Return any event as SSE; its `seq` is its id's."""
        name = event.__struct_config__.tag
        return b"%b%d\nevent: %b\ndata: %b\n\n" % (self._head, event.seq, str(name).encode(), quote(event))

    def token(self, text: str, seq: int, i: int, count: int = 1, logprobs: tuple[float, ...] = ()) -> bytes:
        """Return the event of one text, which stands for `count` tokens from `i` on."""
        event = self._one % (seq, seq, i, quote(text)[1:-1])
        if count == 1 and not logprobs:
            return event
        more = b',"count":%d' % count if count != 1 else b""
        if logprobs:
            more += b',"logprobs":%b' % quote(logprobs)
        return b'%b"%b,%b' % (event.removesuffix(self._tail), more, self._tail[2:])

    def tokens(self, texts: str, n: int, seq: int, i: int) -> bytes:
        """Return `n` token events, of the last `n` of the separated `texts`, numbered from `seq` and `i`."""
        pieces = quote(texts)[1:-1].split(_SEPARATOR)
        if len(pieces) > n:
            pieces = pieces[-n:]
        last = max(seq, i) + n
        if last > len(_after_id):
            if last > _TABLE_LIMIT:
                return self._tokens_beyond_tables(pieces, seq, i)
            _grow(last)
        parts = [self._between] * (4 * n)
        parts[1::4] = _after_id[seq : seq + n]
        parts[2::4] = _after_i[i : i + n]
        parts[3::4] = pieces
        parts[0] = self._head
        parts.append(self._tail)
        return b"".join(parts)

    def _tokens_beyond_tables(self, pieces: list[bytes], seq: int, i: int) -> bytes:
        return b"".join(
            b"%b%b%b%b%b" % (self._head, _seq_part(seq + k), _i_part(i + k), piece, self._tail)
            for k, piece in enumerate(pieces)
        )
