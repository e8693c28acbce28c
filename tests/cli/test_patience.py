"""How long the command line tries again, and what its threads do while the screen is slow."""

import socket
import threading
import time

import httpx
import pytest

from rhapsode import streaming
from rhapsode.errors import CommandError
from rhapsode.kubectl.gathering import MAX_WAITING, Gathering
from rhapsode.streaming import RelayClient, read_events
from support.processes import wait_until

IDLE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_MORE = b"HTTP/1.1 204 No Content\r\n\r\n"


def serve(server: socket.socket, answers: list[bytes], seconds: float) -> None:
    """Answer one connection after the other, and cut each after so long."""
    for answer in answers:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
            time.sleep(seconds if answer == IDLE else 0)


def test_a_stream_that_was_silent_for_long_is_still_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STEADY_S", 0.2)
    cuts: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server, [IDLE, NO_MORE], 1.0))
        thread.start()
        with RelayClient("there", base_url=f"http://127.0.0.1:{server.getsockname()[1]}") as client:
            assert list(read_events(client, lambda _: httpx.Request("GET", client.base_url), cuts.append, 0.5)) == []
        thread.join()
    assert cuts == ["the connection broke"]


def test_while_the_screen_is_slow_threads_wait() -> None:
    gathering, shown, put = Gathering(), [], []

    def hear() -> None:
        for number in range(2 * MAX_WAITING):
            gathering.put(lambda number=number: shown.append(number))  # type: ignore[misc]
            put.append(number)

    gathering.start(hear, "ears")
    wait_until(lambda: len(put) == MAX_WAITING, "the line is full")
    for _ in gathering.shown(20, "not all is shown"):
        if len(shown) == 2 * MAX_WAITING:
            break
    assert shown == put


@pytest.mark.parametrize("exc", [CommandError("no"), KeyError("odd")])
def test_a_thread_that_cannot_go_on_ends_everything_with_a_line(exc: Exception) -> None:
    gathering = Gathering()

    def fail() -> None:
        raise exc

    gathering.start(fail, "ears")
    with pytest.raises(CommandError, match=r"no|ears: KeyError: 'odd'"):
        list(gathering.shown(20, "nobody failed"))
