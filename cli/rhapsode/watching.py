"""`rhapsode watch`: the worker's life as it happens, with a progress bar while it loads."""

import argparse
import os
import sys
from typing import Any, Protocol

import httpx

from rhapsode.asking import DEFAULT_URL
from rhapsode.errors import EXIT_FAILED, EXIT_INTERRUPTED, CommandError
from rhapsode.painting import Painter, words_of
from rhapsode.streaming import RelayClient, open_client, read_events
from rhapsode_contract import events

EXAMPLES = """examples:
  rhapsode watch
  rhapsode watch --url http://relay:8080 --narration story
  RHAPSODE_KEY=… rhapsode watch        where the worker has keys
  rhapsode watch --until-ready && echo go"""

_STATUS = {"ready": 0, "failed": EXIT_FAILED}
"""Exit status of a watch that waits, by the phase that ends it."""


def add_parser(commands: Any) -> None:
    """Add `watch` to the commands."""
    parser = commands.add_parser(
        "watch",
        help="watch the worker's life: fetch, load, ready, draining",
        description="Show what the worker does, with a progress bar while it loads; plain lines where standard"
        " output is no terminal. Goes on across restarts of worker and relay; end it with Ctrl-C.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--url",
        default=os.environ.get("RHAPSODE_URL", DEFAULT_URL),
        help="the relay (default: $RHAPSODE_URL or %(default)s)",
    )
    parser.add_argument(
        "--narration",
        choices=("human", "cute", "story"),
        help="which words to show (default: the manifest's)",
    )
    parser.add_argument(
        "--until-ready", action="store_true", help="exit 0 when the worker is ready, 1 when it cannot be"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    screen = _Bar() if sys.stdout.isatty() else _Lines()
    with open_client(args.url) as client:
        try:
            return Watching(client, screen, args.narration, until_ready=args.until_ready).watch()
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        finally:
            screen.close()


class Screen(Protocol):
    """Where a watch shows what it sees."""

    def narrate(self, event: events.Narration, style: Any) -> None: ...
    def load(self, event: events.Load) -> None: ...
    def enter(self, event: events.State) -> None: ...
    def note(self, text: str) -> None: ...


class Watching:
    """Follows one worker."""

    def __init__(self, client: RelayClient, screen: Screen, style: Any, *, until_ready: bool) -> None:
        self._client = client
        self._screen = screen
        self._style = style
        self._until_ready = until_ready
        self._met = False

    def watch(self) -> int:
        """Show events until told to stop, or until the worker is ready."""

        def build(last_id: str) -> httpx.Request:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            return self._client.build_request("GET", "/v1/worker/stream", headers=headers)

        for event in read_events(self._client, build, self._cut):
            phase = self._take(event)
            if self._until_ready and phase in _STATUS:
                if isinstance(event, events.Worker):
                    self._tell_last(event)
                return _STATUS[phase]
        raise CommandError("the worker's stream ended")

    def _take(self, event: events.StreamEvent) -> str:
        """Show an event; return the worker's phase if it tells one."""
        match event:
            case events.Worker():
                self._style = self._style or event.style
                self._met = True
                return event.phase
            case events.Narration():
                self._screen.narrate(event, self._style or "human")
            case events.Load():
                self._screen.load(event)
            case events.State():
                self._screen.enter(event)
                return event.phase
        return ""

    def _tell_last(self, worker: events.Worker) -> None:
        """Show what was said last: a worker that was ready before we came would be met in silence."""
        if last := worker.narration:
            told = events.Narration(seq=0, actor="", action=last.action, human=last.human, level="info", ts=last.ts)
            self._screen.narrate(told, "human")

    def _cut(self, why: str) -> None:
        if self._met:
            self._screen.note(f"{why}; connecting again")


class _Lines:
    """Plain lines, for files and pipes."""

    def __init__(self) -> None:
        self._painter = Painter("human", sys.stdout)

    def narrate(self, event: events.Narration, style: Any) -> None:
        self._painter.style = style
        self._painter.narrate(event)

    def load(self, event: events.Load) -> None:
        """The narration says the same in words."""

    def enter(self, event: events.State) -> None:
        """The narration says the same in words."""

    def note(self, text: str) -> None:
        self._painter.line(text, actor="watch", level="warn")

    def close(self) -> None:
        sys.stdout.flush()


class _Bar(_Lines):
    """A terminal: narration scrolls, and while something loads a bar stands below it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task: Any = None
        self._progress.start()

    def narrate(self, event: events.Narration, style: Any) -> None:
        if event.progress is not None and 0 < event.progress < 1:
            return  # the bar shows it
        color = {"warn": "yellow", "error": "bold red"}.get(event.level, "cyan")
        from rich.text import Text

        said = Text(f"{event.actor:<10} ", style="dim") + Text(words_of(event, style), style=color)
        self._console.print(said)

    def load(self, event: events.Load) -> None:
        state = "" if event.percent is None else f"{event.percent:.0f} %"
        if event.eta_s:
            state += f" about {event.eta_s:.0f} s left"
        if event.ready_in_s and event.ready_in_s != event.eta_s:
            state += f" (of all: {event.ready_in_s:.0f} s)"
        if self._task is None:
            self._task = self._progress.add_task(event.stage, total=None, state=state)
        total = None if event.percent is None else 100
        self._progress.update(
            self._task, description=event.stage, total=total, completed=event.percent or 0, state=state
        )

    def enter(self, event: events.State) -> None:
        if event.phase != "loading" and self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def note(self, text: str) -> None:
        self._console.print(text, style="yellow")

    def close(self) -> None:
        self._progress.stop()
