"""Model and sinks that answer at once: `python -m bench.turns.answering SOCKET PORT [narrative|intents|sinks]`.

Plays the worker to a relay, and the journal that its turns ask and write to. It keeps the milliseconds that each turn
spent at either, from a question's last byte to its answer's first, and tells them on GET /spent. A third argument
names what is never answered, so that turns stay there. One thread, no event loop.
"""

import json
import selectors
import socket
import sys
import time
from collections import defaultdict

import msgspec

from bench.plans import say
from bench.turns.games import INTENTS, NARRATIVE
from rhapsode_contract import frames
from rhapsode_contract.frames import encode_frame

SPARKS = b'[{"name":"Mossy Door","description":"Green."},{"name":"The Bell","description":"It rings."}]'
WRITTEN = json.dumps(INTENTS)
PIECES = [WRITTEN[at : at + 4] for at in range(0, len(WRITTEN), 4)]
"""The intents' tokens."""


Spent = dict[str, dict[str, float]]
"""Correlation id of a turn → "model" or "sinks" → milliseconds."""


class Model:
    """The worker of a relay."""

    def __init__(self, path: str, spent: Spent, hold: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self._spent = spent
        self._hold = hold
        self._decoder = msgspec.json.Decoder(frames.RelayFrame)
        self._rest = b""
        caps = frames.Caps(slots=4096, context_tokens=1_000_000, json_schema=True)
        hello = frames.Hello(proto=1, boot_id="bench", engine="Bench", model="smollm2", caps=caps)
        self.sock.sendall(encode_frame(hello) + encode_frame(frames.State(phase="ready", caps=caps)))

    def take(self) -> bool:
        """Answer what was asked; return whether the relay is still there."""
        data = self.sock.recv(1 << 18)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            began = time.perf_counter()
            command = self._decoder.decode(line)
            if isinstance(command, frames.Generate):
                answer = self._answer(command)
                self._spent[command.correlation_id]["model"] += (time.perf_counter() - began) * 1000
                self.sock.sendall(answer)
        return bool(data)

    def _answer(self, command: frames.Generate) -> bytes:
        part = "narrative" if command.json_schema is None else "intents"
        texts = NARRATIVE if part == "narrative" else PIECES
        job_id = command.job_id
        answer = [encode_frame(frames.Prefill(job_id=job_id, prompt_tokens=200))]
        answer += [encode_frame(frames.Token(job_id=job_id, i=i, t=text)) for i, text in enumerate(texts)]
        if part != self._hold:
            finish = frames.Finish(job_id=job_id, stop_reason="stop", tokens_out=len(texts), prompt_tokens=200)
            answer.append(encode_frame(finish))
        return b"".join(answer)


class Journal:
    """One connection to what turns ask and write to."""

    def __init__(self, sock: socket.socket, spent: Spent, hold: str) -> None:
        self.sock = sock
        self._spent = spent
        self._hold = hold
        self._data = b""

    def take(self) -> bool:
        """Answer what was asked, once it is all there; return whether more is to come."""
        data = self.sock.recv(1 << 18)
        began = time.perf_counter()
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if data and (not found or len(body) < int(fields.get(b"content-length", 0))):
            return True
        if data and not (self._hold == "sinks" and head.startswith(b"POST")):
            answer = self._answer(head)
            if (turn := fields.get(b"x-correlation-id")) is not None:
                self._spent[turn.decode()]["sinks"] += (time.perf_counter() - began) * 1000
            self.sock.sendall(answer)
            return False
        return bool(data)

    def _answer(self, head: bytes) -> bytes:
        if head.startswith(b"GET /spent"):
            said = json.dumps(self._spent).encode()
            self._spent.clear()
            return _http(b"200 OK", said)
        return _http(b"200 OK", SPARKS) if head.startswith(b"GET") else _http(b"201 Created", b'{"id":"1"}')


def _http(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    return head % (status, len(body), body)


def serve(path: str, port: int, hold: str) -> None:
    """Answer until the relay ends."""
    spent: Spent = defaultdict(lambda: {"model": 0.0, "sinks": 0.0})
    server = socket.create_server(("127.0.0.1", port), backlog=4096)
    model = Model(path, spent, hold)
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    selector.register(model.sock, selectors.EVENT_READ, model)
    say("ready")
    while True:
        for key, _ in selector.select():
            if key.fileobj is server:
                connection, _ = server.accept()
                selector.register(connection, selectors.EVENT_READ, Journal(connection, spent, hold))
            elif not key.data.take():
                if key.data is model:
                    return
                selector.unregister(key.fileobj)
                key.data.sock.close()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), "".join(sys.argv[3:]))
