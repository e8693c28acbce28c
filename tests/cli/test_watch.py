"""`rhapsode watch` against a real relay: what it tells of a load, and how it outlives the relay."""

import signal
from pathlib import Path

from rhapsode_contract import frames
from support.commands import Command
from support.fake_worker import FakeWorker
from support.processes import Relay, free_port, manifest, wait_until


def test_watch_tells_a_load_in_plain_lines_and_ends_when_it_is_ready(relay: Relay) -> None:
    command = Command("watch", "--url", relay.url, "--until-ready")
    wait_until(lambda: relay.metric("rhapsode_relay_readers") == 1, "watch is there")
    with FakeWorker(relay.socket, ready=False) as worker:
        worker.send(frames.State(phase="loading"))
        for progress in (0.1, 0.5, 1.0):
            worker.send(
                frames.Narration(human=f"Loading weights: {progress:.0%}", action="weights_load", progress=progress)
            )
        worker.send(frames.Narration(human="Mind the gap", level="warn"), frames.State(phase="ready"))
        status, out, err = command.done()
    assert (status, err) == (0, "")
    for line in ("· Loading weights: 10%\n", "· Loading weights: 100%\n", "! Mind the gap\n"):
        assert line in out


def test_watch_says_when_it_will_never_be_ready(relay: Relay) -> None:
    command = Command("watch", "--url", relay.url, "--until-ready")
    wait_until(lambda: relay.metric("rhapsode_relay_readers") == 1, "watch is there")
    with FakeWorker(relay.socket, ready=False) as worker:
        worker.send(
            frames.Narration(human="Could not load: no file. Fix it.", level="error"), frames.State(phase="failed")
        )
        status, out, _ = command.done()
    assert status == 1
    assert "! Could not load: no file. Fix it.\n" in out


def test_watch_goes_on_across_a_restart_of_the_relay(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    first = Relay(manifest(), tmp_path, *ports)
    command = Command("watch", "--url", first.url)
    with FakeWorker(first.socket) as worker:
        worker.send(frames.Narration(human="Here"))
        command.says("· Here\n")
    first.send(signal.SIGKILL)
    first.close()
    second = Relay(manifest(), tmp_path, *ports)
    try:
        with FakeWorker(second.socket) as worker:
            worker.send(frames.Narration(human="Here again"))
            said = command.says("· Here again\n")
        command.process.send_signal(signal.SIGINT)
        status, _, _ = command.done()
    finally:
        second.close()
    assert status == 130
    assert "connecting again" in said
