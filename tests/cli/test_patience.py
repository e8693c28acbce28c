"""How long the command line tries again, and what its threads do while the screen is slow."""

from collections.abc import Iterator

import httpx
import pytest

from rhapsode import streaming
from rhapsode.errors import CommandError
from rhapsode.kubectl.gathering import MAX_WAITING, Gathering
from rhapsode.streaming import PATIENCE_S, STEADY_S, RelayClient, read_events
from support.processes import DEADLINE_S, wait_until

SILENT_S = PATIENCE_S + STEADY_S


class Clock:
    """What stands in for the time of `streaming`: it goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Silence(httpx.SyncByteStream):
    """A stream that says nothing for so long, and breaks."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def __iter__(self) -> Iterator[bytes]:
        self._clock.sleep(self._seconds)
        raise httpx.ReadError("cut")
        yield b""


def read(clock: Clock, *silences: float) -> list[str]:
    """Read a stream that is silent and breaks, so often; return why it was cut each time."""
    streams = [Silence(clock, seconds) for seconds in silences]
    cuts: list[str] = []

    def answer(_: httpx.Request) -> httpx.Response:
        head = {"Content-Type": "text/event-stream"}
        return httpx.Response(200, headers=head, stream=streams.pop(0)) if streams else httpx.Response(204)

    with RelayClient("there", base_url="http://there", transport=httpx.MockTransport(answer)) as client:
        assert list(read_events(client, lambda _: httpx.Request("GET", client.base_url), cuts.append)) == []
    return cuts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of `streaming`."""
    clock = Clock()
    monkeypatch.setattr(streaming, "time", clock)
    return clock


def test_a_stream_that_was_silent_for_long_is_still_resumed(clock: Clock) -> None:
    assert read(clock, SILENT_S, SILENT_S) == ["the connection broke"] * 2


def test_a_stream_that_breaks_at_once_again_and_again_is_given_up(clock: Clock) -> None:
    with pytest.raises(CommandError, match="there: the connection broke"):
        read(clock, *[0.0] * 100)
    assert clock.now - 1000 <= PATIENCE_S


def test_while_the_screen_is_slow_threads_wait() -> None:
    gathering, shown, put = Gathering(), [], []

    def hear() -> None:
        for number in range(2 * MAX_WAITING):
            gathering.put(lambda number=number: shown.append(number))  # type: ignore[misc]
            put.append(number)

    gathering.start(hear, "ears")
    wait_until(lambda: len(put) == MAX_WAITING, "the line is full")
    for _ in gathering.shown(DEADLINE_S, "not all is shown"):
        if len(shown) == 2 * MAX_WAITING:
            break
    assert shown == list(range(2 * MAX_WAITING))


@pytest.mark.parametrize("exc", [CommandError("no"), KeyError("odd")])
def test_a_thread_that_cannot_go_on_ends_everything_with_a_line(exc: Exception) -> None:
    gathering = Gathering()

    def fail() -> None:
        raise exc

    gathering.start(fail, "ears")
    with pytest.raises(CommandError, match=r"no|ears: KeyError: 'odd'"):
        list(gathering.shown(DEADLINE_S, "nobody failed"))
