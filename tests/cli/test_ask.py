"""`rhapsode ask` against a real relay; the test plays the worker, and cuts connections."""

import contextlib
import signal
import socket
import threading
import time

import pytest

from rhapsode_contract import frames
from support.commands import Command
from support.fake_worker import FakeWorker
from support.processes import DEADLINE_S, Relay, free_port, manifest, running_relay


def ask(relay: Relay, *args: str, stdin: str | None = None) -> Command:
    return Command("ask", "--url", relay.url, *args, stdin=stdin)


def test_tokens_go_to_stdout_and_narration_to_stderr(relay: Relay, worker: FakeWorker) -> None:
    command = ask(relay, "Why?")
    worker.serve("Be", "cause", " 🌅\n")
    status, out, err = command.done()
    assert (status, out) == (0, "Because 🌅\n")
    assert "· Accepted: 4 characters, up to 256 tokens\n" in err
    assert "Because" not in err


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("cute", "Your question is in good hands ✉️"),
        ("story", "A question of 4 characters arrived."),
        ("human", "Accepted: 4 characters"),
    ],
)
def test_the_reader_chooses_the_words(relay: Relay, worker: FakeWorker, style: str, words: str) -> None:
    command = ask(relay, "--narration", style, "Why?")
    worker.serve("a")
    assert words in command.done()[2]


def test_off_is_silent(relay: Relay, worker: FakeWorker) -> None:
    command = ask(relay, "--narration", "off", "Why?")
    worker.serve("a")
    assert command.done() == (0, "a", "")


def test_the_manifests_words_come_first() -> None:
    with running_relay(manifest(narration="story")) as relay, FakeWorker(relay.socket) as worker:
        command = ask(relay, "Why?")
        worker.serve("a")
        assert "A question of 4 characters arrived." in command.done()[2]


def test_wishes_reach_the_worker(relay: Relay, worker: FakeWorker) -> None:
    command = ask(
        relay, "--max-tokens", "5", "--temperature", "0.5", "--seed", "7", "--stop", "END", "--system", "Be brief", "-",
        stdin="from a pipe",
    )  # fmt: skip
    job = worker.serve("a")
    assert command.done()[0] == 0
    assert job.messages == [
        frames.Message(role="system", content="Be brief"), frames.Message(role="user", content="from a pipe"),
    ]  # fmt: skip
    assert (job.max_tokens, job.temperature, job.seed, job.stop) == (5, 0.5, 7, ["END"])


def test_an_error_is_one_line(relay: Relay, worker: FakeWorker) -> None:
    command = ask(relay, "--narration", "off", "Why?")
    job = worker.begin()
    worker.send(
        frames.Error(
            job_id=job.job_id, code="context_length_exceeded", message="Too long. Shorten it.", param="prompt"
        )
    )
    assert command.done() == (1, "", "rhapsode: context_length_exceeded: Too long. Shorten it.\n")


def test_a_retryable_error_has_its_own_status(relay: Relay, worker: FakeWorker) -> None:
    command = ask(relay, "--narration", "off", "Why?")
    worker.begin()
    worker.close()
    status, _, err = command.done()
    assert (status, err) == (75, "rhapsode: worker_lost: the worker is gone\n")


def test_nothing_there_is_one_line() -> None:
    port = free_port()
    status, _, err = Command("ask", "--url", f"http://127.0.0.1:{port}", "x").done()
    assert status == 75
    assert (
        err
        == f"rhapsode: http://127.0.0.1:{port}: nothing answers there; is a worker playing (rhapsode play FILE)?\n"
    )


def test_an_address_without_a_scheme_is_one_line() -> None:
    status, _, err = Command("ask", "--url", "localhost:8080", "x").done()
    assert (status, err) == (1, "rhapsode: localhost:8080: write the relay's address as http://HOST:PORT\n")


def test_a_full_line_says_when_to_come_back() -> None:
    with running_relay(manifest(queueLimit=0)) as relay:
        status, _, err = ask(relay, "x").done()
        assert status == 75
        assert err == "rhapsode: queue_full: 0 requests are waiting, which is the limit (try again in 5 s)\n"


def test_ctrl_c_cancels_the_request(relay: Relay, worker: FakeWorker) -> None:
    command = ask(relay, "Why?")
    job = worker.begin()
    worker.speak(job, "a")
    command.says("a")
    command.process.send_signal(signal.SIGINT)
    assert worker.receive(frames.Cancel).job_id == job.job_id
    assert command.done()[0] == 130


def test_a_reader_that_has_enough_cancels_the_request(relay: Relay, worker: FakeWorker) -> None:
    """`rhapsode ask … | head -c 3`"""
    command = ask(relay, "Why?")
    job = worker.begin()
    worker.speak(job, "abc")
    assert command.process.stdout is not None
    assert command.process.stdout.read(3) == "abc"
    command.process.stdout.close()
    for i in range(1, 20):
        worker.speak(job, "more", start=i)
        time.sleep(0.02)
    assert worker.receive(frames.Cancel).job_id == job.job_id
    assert command.process.wait(DEADLINE_S) == 141, "as for whomever SIGPIPE ends"
    assert command.process.stderr is not None
    assert "Pipe" not in command.process.stderr.read()
    command.process.stderr.close()


class Cutter:
    """A TCP proxy that cuts the connection after so many bytes, again and again."""

    def __init__(self, port: int, sizes: list[int]) -> None:
        self._target = port
        self._sizes = sizes
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.cuts = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        """Pass an answer on. Who asked leaves at its `end`, be there more to come or not."""
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            left = None
            while data := server.recv(512):
                if left is None and b"text/event-stream" in data:
                    left = self._sizes.pop(0) if self._sizes else 1 << 40
                if left is not None and len(data) > left:
                    client.sendall(data[:left])
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
                left = None if left is None else left - len(data)

    def close(self) -> None:
        self._server.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        return


def test_a_connection_that_is_cut_again_and_again_loses_nothing(relay: Relay, worker: FakeWorker) -> None:
    cutter = Cutter(relay.port, [40, 700, 1500, 301, 2222])
    command = Command("ask", "--url", f"http://127.0.0.1:{cutter.port}", "Why?")
    job = worker.begin()
    for i in range(60):
        worker.speak(job, f"{i} 🌅 ", start=i)
        time.sleep(0.03)
    worker.finish(job, 60)
    status, out, err = command.done()
    cutter.close()
    assert (status, out) == (0, "".join(f"{i} 🌅 " for i in range(60)))
    assert cutter.cuts == 5
    assert "connecting again" in err
    assert relay.metric("rhapsode_requests_accepted_total") == 1, "the question was asked once"


def test_text_that_is_not_what_was_sent_is_noticed() -> None:
    """A relay that lies about its text: the sums do not match, and the exit status says so."""
    body = (
        b'id: a-e-1\nevent: token\ndata: {"type":"token","seq":1,"i":0,"t":"tampered","job_id":"a","correlation_id":"c"}\n\n'
        b'id: a-e-2\nevent: end\ndata: {"type":"end","seq":2,"job_id":"a","correlation_id":"c","ts":"t","tokens_out":1,'
        b'"decode_time_ms":1.0,"stop_reason":"stop","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2},'
        b'"timing":{"queue_ms":0.0,"decode_ms":1.0,"total_ms":1.0},"text_len":8,"text_sha256":"00"}\n\n'
    )
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )

    thread = threading.Thread(target=serve)
    thread.start()
    status, out, err = Command(
        "ask", "--narration", "off", "--url", f"http://127.0.0.1:{server.getsockname()[1]}", "x"
    ).done()
    thread.join()
    server.close()
    assert (status, out) == (3, "tampered")
    assert err == "rhapsode: the text is not what was sent: 8 characters of 8\n"
