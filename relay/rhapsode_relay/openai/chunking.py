"""Say a job's events as OpenAI's chunks, of chats and of texts. Made by `routes`. Pure.

What a chunk of text begins and ends with is made once for each stream: a token costs one encoded string and one join.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rhapsode_contract import events
from rhapsode_contract.openai import Narrated, NarrationStyle, PlainError, StatusData, StatusEvent, StreamError
from rhapsode_relay.openai.narrating import Pace
from rhapsode_relay.openai.refusing import in_openai_names
from rhapsode_relay.openai.tool_calls import NEVER, Calling
from rhapsode_relay.quoting import quote

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keepalive\n\n"
CUT = "the stream ended before the answer did: this relay ends, or it was read too slowly; send the request again"


@dataclass(frozen=True)
class Shape:
    """How one endpoint's chunks differ from the other's: the inside of their one choice."""

    prefix: str
    """What ids begin with."""
    name: str
    """The value of `object`."""
    before: bytes
    after: bytes
    between: bytes
    """What stands in the place of `after` before logprobs, if there are any."""
    empty: bytes
    """A choice without text, up to its finish reason."""
    role: bytes = b""
    """The first choice of all, if there is one."""


CHAT = Shape(
    prefix="chatcmpl-",
    name="chat.completion.chunk",
    before=b'"delta":{"content":',
    after=b'},"finish_reason":',
    between=b'},"logprobs":',
    empty=b'"delta":{},"finish_reason":',
    role=b'"delta":{"role":"assistant","content":""},"finish_reason":null',
)
TEXT = Shape(
    prefix="cmpl-",
    name="text_completion",
    before=b'"text":',
    after=b',"logprobs":null,"finish_reason":',
    between=b',"logprobs":',
    empty=b'"text":"","logprobs":null,"finish_reason":',
)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How a client wants its answer, and what in its stream beside the text."""

    stream: bool = True
    style: NarrationStyle = "off"
    usage: bool = False
    logprobs: bool = False
    calling: Calling = NEVER


class Chunks:
    """One stream; see `dialects.Dialect`."""

    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, shape: Shape, job_id: str, created: int, model: str, wishes: Wishes) -> None:
        self._shape = shape
        self._wishes = wishes
        self._head = b'data: {"id":%b,"object":%b,"created":%d,"model":%b,"choices":[' % (
            quote(shape.prefix + job_id),
            quote(shape.name),
            created,
            quote(model),
        )
        self._tail = b',"usage":null}\n\n' if wishes.usage else b"}\n\n"
        self._before = self._head + b'{"index":0,' + shape.before
        self._after = shape.after + b"null}]" + self._tail
        self._pace = Pace()
        self._begun = not shape.role
        self._flowing = False
        self._described = ""

    def tell(self, event: events.StreamEvent) -> bytes:
        if type(event) is events.Token:
            return self._speak(event.t)
        if self._wishes.style != "off":
            self._pace.tick(event.ts)
            if isinstance(event, events.Narration):
                self._pace.hear(event)
        if isinstance(event, events.End):
            return self._end(event)
        if isinstance(event, events.Error):
            return self._fail(event.error)
        if isinstance(event, events.Snapshot) and event.text:
            return self._speak(event.text)
        return self._narrate()

    def beat(self) -> bytes:
        return self._narrate(last=True) or KEEPALIVE

    def part(self) -> bytes:
        return self._fail(events.ErrorBody(message=CUT, type="server_error", code="server_shutdown"))

    # What is said

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._chunk(self._shape.role)

    def _speak(self, text: str) -> bytes:
        if self._flowing and self._pace.waiting is None:  # nearly always
            return self._before + quote(text) + self._after
        return self._flow(text)

    def _flow(self, text: str, logprobs: bytes = b"") -> bytes:
        """Say the first text, or one that a narration rides on, or that has something else beside it."""
        begin, self._flowing = self._begin(), True
        rides = self._wishes.style in ("chunk", "openwebui")
        told = self._pace.take() if rides else None
        after = b'%b%b,"finish_reason":' % (self._shape.between, logprobs) if logprobs else self._shape.after
        choice = self._shape.before + quote(text) + after + b"null"
        return begin + self._chunk(choice, self._beside(told) if told else b"")

    def _narrate(self, *, last: bool = False) -> bytes:
        """Say what waits, alone. While text flows it rides on that, or is not for the stream any more."""
        style = self._wishes.style
        if self._pace.waiting is None:
            return b""
        if self._flowing and style == "reasoning":
            self._pace.waiting = None
        rides = self._flowing and style != "comment" and not last
        told = None if rides else self._pace.take(last=last)
        return self._alone(told) if told else b""

    def _alone(self, told: Narrated) -> bytes:
        style = self._wishes.style
        if style == "comment":
            return b": narration %b\n\n" % quote(told)
        if style == "reasoning":
            line = quote(told.human + "\n")
            return self._begin() + self._chunk(b'"delta":{"reasoning_content":%b},"finish_reason":null' % line)
        return self._begin() + self._chunk(self._shape.empty + b"null", self._beside(told))

    def _beside(self, told: Narrated) -> bytes:
        """Return a narration as it stands beside a chunk's choices."""
        beside = b',"narration":' + quote(told)
        if self._wishes.style == "openwebui":
            self._described = told.human
            beside += self._status(done=False)
        return beside

    def _status(self, *, done: bool) -> bytes:
        status = StatusEvent(data=StatusData(description=self._described, done=done))
        return b',"event":' + quote(status)

    def _end(self, end: events.End) -> bytes:
        rest = self._narrate(last=True) + self._begin()
        status = self._status(done=True) if self._described else b""
        finish = self._chunk(self._shape.empty + b'"%b"' % self._finish(end).encode(), status)
        usage = b""
        if self._wishes.usage:
            usage = b'%b],"usage":%b}\n\n' % (self._head, quote(end.usage))
        return b"".join((rest, finish, usage, DONE))

    def _finish(self, end: events.End) -> str:
        """Return why the answer is over."""
        return end.stop_reason

    def _fail(self, error: events.ErrorBody) -> bytes:
        rest = self._narrate(last=True)
        if self._described:
            rest += self._chunk(self._shape.empty + b"null", self._status(done=True))
        return b"%bdata: %b\n\n%b" % (rest, quote(error_of(error)), DONE)

    def _chunk(self, choice: bytes, beside: bytes = b"") -> bytes:
        return b'%b{"index":0,%b}]%b%b' % (self._head, choice, beside, self._tail)


def error_of(error: events.ErrorBody) -> StreamError:
    """Return the error of a job as a stream tells it."""
    param = in_openai_names(error.param)
    return StreamError(error=PlainError(message=error.message, type=error.type, code=error.code, param=param))
