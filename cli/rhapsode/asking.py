"""`rhapsode ask`: tokens to standard output, narration to standard error; whole, or it says so."""

import argparse
import contextlib
import hashlib
import os
import sys
import uuid
from typing import Any

import httpx

from rhapsode.errors import EXIT_FAILED, EXIT_MISMATCH, EXIT_TRY_LATER, CommandError
from rhapsode.painting import Painter
from rhapsode.streaming import PATIENCE_S, RelayClient, describe, open_client, read_events
from rhapsode_contract import events
from rhapsode_contract.catalogue import CATALOGUE

DEFAULT_URL = "http://127.0.0.1:8080"
TEXT_HELP = "the question; - reads it from standard input"
EXAMPLES = """examples:
  rhapsode ask "Why is the sky blue?"
  rhapsode ask --narration cute "Tell me a story" > story.txt
  rhapsode ask --url http://relay:8080 --max-tokens 50 "Count to ten" | my-agent
  RHAPSODE_KEY=… rhapsode ask "Hello?"                where the worker has keys
  git diff | rhapsode ask --system "Summarise this diff" -"""


def add_parser(commands: Any) -> None:
    """Add `ask` to the commands."""
    parser = commands.add_parser(
        "ask",
        help="ask a question: tokens to stdout, narration to stderr",
        description="Ask a worker. Tokens go to standard output and narration to standard error, so a pipe gets"
        " the answer and you see what happens. A connection that breaks is resumed; the text's sha256 is checked.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", metavar="TEXT", help=TEXT_HELP)
    parser.add_argument(
        "--url",
        default=os.environ.get("RHAPSODE_URL", DEFAULT_URL),
        help="the relay (default: $RHAPSODE_URL or %(default)s)",
    )
    add_wishes(parser)
    parser.set_defaults(run=run)


def add_wishes(parser: argparse.ArgumentParser) -> None:
    """Add the options of a question."""
    parser.add_argument(
        "--narration",
        choices=("human", "cute", "story", "off"),
        help="which words to show (default: the manifest's)",
    )
    parser.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="longest answer (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="0 is exact, 1 is lively (default: the model's)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same answer")
    parser.add_argument(
        "--stop", action="append", metavar="TEXT", help="stop before this text; may be given up to 4 times"
    )
    parser.add_argument("--system", metavar="TEXT", help="the system message")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    body = body_of(args, text_of(args))
    with open_client(args.url) as client:
        return Asking(client, Painter(args.narration or style_of(client))).ask(body)


def text_of(args: argparse.Namespace) -> str:
    """Return the question."""
    return sys.stdin.read() if args.text == "-" else str(args.text)


def body_of(args: argparse.Namespace, text: str) -> dict[str, Any]:
    """Return the request for a question and its options."""
    messages = [{"role": "user", "content": text}]
    if args.system:
        messages.insert(0, {"role": "system", "content": args.system})
    wishes = {"temperature": args.temperature, "seed": args.seed, "stop": args.stop}
    return {"messages": messages, "max_tokens": args.max_tokens} | {
        name: value for name, value in wishes.items() if value is not None
    }


class Asking:
    """One question on its way to its answer."""

    def __init__(
        self,
        client: RelayClient,
        painter: Painter,
        *,
        lifecycle: bool = True,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._client = client
        self._painter = painter
        self._lifecycle = lifecycle
        self._patience_s = patience_s
        self._job_id = ""
        self._text = ""
        self._next = 0
        self._line_open = False
        self.given_up = False
        self._on_terminal = sys.stdout.isatty()
        self._shared_screen = self._on_terminal and sys.stderr.isatty()

    def ask(self, body: dict[str, Any]) -> int:
        """Ask, write the answer as it comes, and return the exit status. Raises CommandError."""
        headers = {"Accept": "text/event-stream", "Idempotency-Key": uuid.uuid4().hex}

        def build(last_id: str) -> httpx.Request:
            cursor = events.EventId.parse(last_id)
            if cursor is None:
                return self._client.build_request("POST", "/v1/inference", json=body, headers=headers)
            self._job_id = cursor.stream
            return self._client.build_request(
                "GET", f"/v1/inference/{cursor.stream}/stream", headers={"Last-Event-ID": last_id}
            )

        try:
            for event in read_events(self._client, build, self._cut, self._patience_s):
                self._job_id = event.job_id or self._job_id
                status = self._take(event)
                if status is not None:
                    return status
        except (KeyboardInterrupt, OSError):  # nobody waits, or what comes cannot be written
            self._cancel()
            raise
        raise CommandError("the answer ended without an end", EXIT_TRY_LATER)

    def give_up(self) -> None:
        """Do not connect again: nobody will answer. For other threads."""
        self.given_up = True

    def _take(self, event: events.StreamEvent) -> int | None:
        match event:
            case events.Token():
                self._hear(event)
            case events.Narration():
                self._tell(event)
            case events.Snapshot():
                self._catch_up(event)
            case events.End():
                self._check(event)
                return 0
            case events.Error():
                raise CommandError(
                    f"{event.error.code}: {event.error.message}",
                    EXIT_TRY_LATER if event.retryable else EXIT_FAILED,
                )
        return None

    def _hear(self, event: events.Token) -> None:
        if event.i < self._next:
            return
        if event.i > self._next:
            raise CommandError(f"tokens {self._next} to {event.i - 1} are missing", EXIT_MISMATCH)
        self._next = event.i + event.count
        self._write(event.t)

    def _catch_up(self, snapshot: events.Snapshot) -> None:
        """Go on from a snapshot: what was written stays, what is new is added."""
        if not snapshot.text.startswith(self._text):
            raise CommandError("the text changed while the connection was away", EXIT_MISMATCH)
        self._write(snapshot.text[len(self._text) :])
        self._next = snapshot.tokens

    def _write(self, text: str) -> None:
        self._text += text
        self._line_open = not text.endswith("\n") if text else self._line_open
        sys.stdout.write(text)
        sys.stdout.flush()

    def _tell(self, event: events.Narration) -> None:
        entry = CATALOGUE.get(event.action)
        if not self._lifecycle and entry is not None and entry.audience == "lifecycle":
            return
        if self._shared_screen and self._text:
            if event.action == "tokens":
                return  # it would stand in the middle of the answer
            self._end_line()
        self._painter.narrate(event)

    def _check(self, end: events.End) -> None:
        self._end_line()
        if hashlib.sha256(self._text.encode()).hexdigest() != end.text_sha256:
            raise CommandError(
                f"the text is not what was sent: {len(self._text)} characters of {end.text_len}",
                EXIT_MISMATCH,
            )

    def _end_line(self) -> None:
        """On a terminal, leave the answer's last line before anything else is written."""
        if self._on_terminal and self._line_open:
            self._line_open = False
            sys.stdout.write("\n")
            sys.stdout.flush()

    def _cut(self, why: str) -> None:
        if self.given_up:
            raise CommandError(why, EXIT_TRY_LATER)
        if self._painter.style != "off":
            self._painter.line(f"{why}; connecting again", actor="ask", level="warn")

    def _cancel(self) -> None:
        """Tell the worker that nobody waits any more."""
        if self._job_id:
            with contextlib.suppress(httpx.TransportError, CommandError):
                self._client.delete(f"/v1/inference/{self._job_id}", timeout=2.0)


def style_of(client: RelayClient) -> Any:
    """Return the manifest's words. Raises CommandError when nothing answers."""
    try:
        return client.get("/v1/worker").json().get("style", "human")
    except httpx.TransportError as exc:
        raise CommandError(f"{client.place}: {describe(exc)}", EXIT_TRY_LATER) from exc
    except (ValueError, AttributeError):
        return "human"
