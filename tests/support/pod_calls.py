"""A client that calls the relay of a pod at the pod's own address, and keeps all that it hears."""

import hashlib
from typing import Self

from rhapsode_contract.names import DEFAULT_PORT
from support.streams import Event, Stream, actions_of, text_of


class PodCall:
    """One request and its stream."""

    def __init__(self, address: str, tokens: int = 5, prompt: str = "hello") -> None:
        body, headers = {"prompt": prompt, "max_tokens": tokens}, {"Accept": "text/event-stream"}
        self._stream = Stream(
            DEFAULT_PORT, "/v1/inference", host=address, method="POST", body=body, headers=headers, timeout=60
        )
        self.events: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def wait(self, name: str = "token") -> Event:
        """Read up to the next event of a name."""
        self.events += self._stream.until(name)
        return self.events[-1]

    def wait_told(self, action: str) -> Event:
        """Read up to a narration."""
        while self.wait("narration").data["action"] != action:
            pass
        return self.events[-1]

    def finish(self) -> list[str]:
        """Read to the end, which must be proper, and the text whole, byte for byte; return what was narrated."""
        self.events += self._stream.rest()
        assert self.events[-1].name == "done", self.events[-3:]
        end = next(event for event in self.events if event.name == "end")
        assert hashlib.sha256(text_of(self.events).encode()).hexdigest() == end.data["text_sha256"]
        return actions_of(self.events)
