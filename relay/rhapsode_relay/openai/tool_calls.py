"""Find the calls of tools in what a model says. Called by what answers OpenAI's clients. Pure.

A model says a call as `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, or as that JSON alone where it must
call. What looks like a call and is none is text, and nothing of it is lost.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from rhapsode_contract.tools import CLOSING, OPENING, ToolName

_EMPTY = msgspec.Raw(b"{}")
_PIECE_CHARS = 4096
"""What is looked at together: each tag cuts off what follows it, which would be all of a long text."""


@dataclass(frozen=True)
class Calling:
    """How a request's calls come: not at all, in tags, or as the whole answer; `parallel`: perhaps several."""

    way: Literal["never", "tags", "whole"] = "never"
    parallel: bool = True

    @property
    def reader(self) -> "CallReader":
        """A reader for one answer."""
        return _Whole() if self.way == "whole" else _Tagged(parallel=self.parallel)


NEVER = Calling()


class Call(NamedTuple):
    """One call; `arguments` is JSON as the model wrote it."""

    name: str
    arguments: str


Part = str | Call


class CallReader(Protocol):
    """Reads one answer, in any pieces."""

    def push(self, text: str) -> list[Part]:
        """Take more text; return what it is by now certain to be."""

    def end(self) -> list[Part]:
        """Return what is left."""


def read_parts(calling: Calling, text: str, *, over: bool) -> list[Part]:
    """Return what a text is, that which may still become something else only if the answer is over."""
    reader = calling.reader
    return reader.push(text) + (reader.end() if over else [])


def read_whole(calling: Calling, text: str) -> tuple[str | None, list[Call]]:
    """Return the content and the calls of a whole answer; one that only calls has no content."""
    if calling.way == "never":
        return text, []
    parts = read_parts(calling, text, over=True)
    calls = [part for part in parts if isinstance(part, Call)]
    content = "".join(part for part in parts if isinstance(part, str))
    return (content or None) if calls else content, calls


class _Whole:
    """The answer is one call."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def push(self, text: str) -> list[Part]:
        self._texts.append(text)
        return []

    def end(self) -> list[Part]:
        text = "".join(self._texts)
        return [_read_call(text) or text] if text else []


class _Tagged:
    """Text with calls in tags. Blanks beside a call are its own; what may begin a tag waits until it is known."""

    def __init__(self, *, parallel: bool) -> None:
        self._parallel = parallel
        self._called = False
        self._spoken = False
        """Whether something else than blanks was said since the last call."""
        self._blanks: list[str] = []
        self._held = ""
        """The beginning of what may be a tag."""
        self._inside: list[str] | None = None
        self._tail = ""

    def push(self, text: str) -> list[Part]:
        parts: list[Part] = []
        for at in range(0, len(text), _PIECE_CHARS):
            self._take(text[at : at + _PIECE_CHARS], parts)
        return parts

    def end(self) -> list[Part]:
        parts: list[Part] = []
        if self._inside is not None:
            self._say(OPENING + "".join(self._inside), parts)
        self._say(self._held, parts)
        if self._blanks and not self._called:
            parts.append("".join(self._blanks))
        self._held, self._inside, self._blanks = "", None, []
        return parts

    def _take(self, text: str, parts: list[Part]) -> None:
        while text:
            if self._inside is None:
                text = self._take_outside(text, parts)
            else:
                text = self._take_inside(text, self._inside, parts)

    def _take_outside(self, text: str, parts: list[Part]) -> str:
        text = self._held + text
        before, tag, rest = text.partition(OPENING)
        if tag:
            self._held, self._inside, self._tail = "", [], ""
        else:
            cut = len(text) - _may_begin(text)
            before, self._held = text[:cut], text[cut:]
        self._say(before, parts)
        return rest

    def _take_inside(self, text: str, inside: list[str], parts: list[Part]) -> str:
        """Look for the end of a call; it may lie across pieces."""
        scanned = self._tail + text
        at = scanned.find(CLOSING)
        if at < 0:
            inside.append(text)
            self._tail = scanned[1 - len(CLOSING) :]
            return ""
        cut = at + len(CLOSING) - len(self._tail)
        inside.append(text[:cut])
        self._inside = None
        self._close("".join(inside), parts)
        return text[cut:]

    def _close(self, said: str, parts: list[Part]) -> None:
        call = _read_call(said.removesuffix(CLOSING))
        if call is None:
            self._say(OPENING + said, parts)
            return
        if self._parallel or not self._called:
            parts.append(call)
        self._called, self._spoken, self._blanks = True, False, []

    def _say(self, text: str, parts: list[Part]) -> None:
        if not self._spoken and not text.strip():
            if text:
                self._blanks.append(text)
        elif text:
            parts.append("".join((*self._blanks, text)))
            self._spoken, self._blanks = True, []


class _Said(Struct):
    """A call as a model says it."""

    name: ToolName
    arguments: msgspec.Raw = _EMPTY


_said = msgspec.json.Decoder(_Said)
_string = msgspec.json.Decoder(str)


def _read_call(text: str) -> Call | None:
    """Return the call that a text is; arguments that come as a string of JSON are taken out of it."""
    try:
        said = _said.decode(text)
        raw = bytes(said.arguments)
        arguments = _string.decode(raw) if raw.startswith(b'"') else raw.decode()
        return Call(said.name, arguments) if _is_object(arguments) else None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _is_object(arguments: str) -> bool:
    return isinstance(msgspec.json.decode(arguments), dict)


def _may_begin(text: str) -> int:
    """Return how much of a text's end may be the beginning of a tag."""
    at = text.rfind(OPENING[0], 1 - len(OPENING))
    return len(text) - at if at >= 0 and OPENING.startswith(text[at:]) else 0
