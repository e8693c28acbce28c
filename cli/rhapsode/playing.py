"""`rhapsode play`: run a manifest on this machine. A worker and a relay, as in a pod, without the pod.

Each is a process of its own and started again when it dies. What cannot work ends the play with one line.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from rhapsode.asking import Asking, add_wishes, body_of
from rhapsode.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TRY_LATER, CommandError
from rhapsode.log_view import LogView
from rhapsode.manifest_files import read_manifest
from rhapsode.painting import Painter
from rhapsode.processes import CannotWork, Process, stop_all
from rhapsode.streaming import open_client
from rhapsode_contract import names
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.manifests import save_manifest
from rhapsode_contract.records import RecordFormatter, log_narration
from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.validating import ManifestError

EXAMPLES = """examples:
  rhapsode play examples/smollm.yaml
  rhapsode play examples/smollm.yaml --port 9000 --admin-port 9001
  rhapsode play examples/smollm.yaml --ask "Why is the sky blue?"
  rhapsode play examples/guarded.yaml --keys keys/    only who shows a key of that folder may ask
  rhapsode play examples/simulator.yaml | jq .message"""


def add_parser(commands: Any) -> None:
    """Add `play` to the commands."""
    parser = commands.add_parser(
        "play",
        help="run a manifest on this machine: a worker and its relay",
        description="Run an InferenceWorker manifest with no cluster. A terminal gets narration, anything else JSON"
        " log lines. SIGTERM lets running requests finish; Ctrl-C ends everything.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="an InferenceWorker manifest, YAML or JSON")
    parser.add_argument("--host", default="127.0.0.1", help="address of both ports (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=names.DEFAULT_PORT,
        help="client port; 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--admin-port",
        type=int,
        default=names.DEFAULT_ADMIN_PORT,
        help="health and metrics; 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--secrets",
        metavar="FOLDER",
        type=_folder,
        help="secrets of the manifest's outcomes: FOLDER/NAME/KEY is what a cluster has in key KEY of Secret NAME",
    )
    parser.add_argument(
        "--keys",
        metavar="FOLDER",
        type=_folder,
        help=f"let in who shows a key of this folder, one in each file (default: ${names.ENV_KEYS}, else everyone)",
    )
    parser.add_argument("--open", action="store_true", help="let everyone in who reaches --host, without keys")
    parser.add_argument("--ask", metavar="TEXT", help="ask this, write the answer to standard output, and stop")
    add_wishes(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    try:
        manifest = read_manifest(args.file)
    except ManifestError as exc:
        raise CommandError(f"{args.file}: {'; '.join(map(str, exc.problems))}") from exc
    _check_keys(manifest, args)
    args.port, args.admin_port = _take_port(args.host, args.port), _take_port(args.host, args.admin_port)
    style = args.narration or manifest.spec.relay.narration
    asks = args.ask is not None
    painter = Painter(style, sys.stderr if asks else sys.stdout)
    view = LogView(painter if asks or sys.stdout.isatty() else None, lifecycle_only=asks)
    with tempfile.TemporaryDirectory(prefix="rhapsode-") as folder:
        given = Path(folder) / "manifest.json"
        save_manifest(manifest, given)
        return asyncio.run(Play(args, manifest, given, view, painter).run())


def _folder(text: str) -> Path:
    path = Path(text).absolute()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return path


def _check_keys(manifest: InferenceWorker, args: argparse.Namespace) -> None:
    """Do not serve others without keys, unless that is said; never where the manifest asks for keys."""
    if args.keys or os.environ.get(names.ENV_KEYS) or names.is_loopback(args.host):
        return
    asks = manifest.spec.auth is not None
    if asks or not args.open:
        why = f"spec.auth asks for API keys and {args.host}" if asks else f"{args.host}"
        remedy = "leave --host out, or name a folder with a file for each key: --keys FOLDER"
        raise CommandError(f"{why} is open to others: {remedy}" + ("" if asks else "; --open lets everyone in"))


class Play:
    """One run of one manifest."""

    def __init__(
        self,
        args: argparse.Namespace,
        manifest: InferenceWorker,
        given: Path,
        view: LogView,
        painter: Painter,
    ) -> None:
        self._given = given
        self._args = args
        self._manifest = manifest
        self._view = view
        self._url = f"http://{args.host}:{args.port}"
        self._logger = _logger_into(view, manifest.metadata.name)
        self._stop: asyncio.Future[signal.Signals] | None = None
        self._painter = painter
        environ = self._environ()
        self._processes = [
            Process("relay", "rhapsode_relay", environ, view.line),
            Process("worker", "rhapsode_worker", environ, view.line),
        ]

    async def run(self) -> int:
        """Play until a signal, the answer, or the discovery that it cannot work; return the exit status."""
        if self._args.ask is None:
            return await self._play()
        with open_client(self._url) as client:
            return await self._play(Asking(client, self._painter, lifecycle=False))

    async def _play(self, asking: Asking | None = None) -> int:
        loop = asyncio.get_running_loop()
        self._stop = loop.create_future()
        for sent in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sent, self._on_signal, sent)
        self._announce()
        kept = [asyncio.create_task(process.keep(self._on_death)) for process in self._processes]
        asked = [asyncio.create_task(self._ask(asking))] if asking else []
        waited: list[asyncio.Future[Any]] = [self._stop, *kept, *asked]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        interrupted = self._stop.done() and self._stop.result() == signal.SIGINT
        sent = signal.SIGTERM if self._stop.done() and not interrupted else signal.SIGINT
        if asking:
            asking.give_up()
        await stop_all(self._processes, sent, self._manifest.spec.relay.drain_seconds)
        await asyncio.gather(*kept, *asked, return_exceptions=True)
        return self._status(kept, asked, interrupted=interrupted)

    def _status(self, kept: list[asyncio.Task[None]], asked: list[asyncio.Task[int]], *, interrupted: bool) -> int:
        """Return the exit status. Raises CommandError for what cannot work, or for a question that failed."""
        for task in kept:
            exc = task.exception()
            if isinstance(exc, CannotWork):
                raise CommandError(self._view.last_error or str(exc) or "a process cannot work", EXIT_FAILED)
            if exc is not None:
                raise exc
        if interrupted:
            return EXIT_INTERRUPTED
        return asked[0].result() if asked else 0

    def _on_signal(self, sent: signal.Signals) -> None:
        assert self._stop is not None
        if not self._stop.done():
            self._stop.set_result(sent)
            return
        for process in self._processes:  # a second signal: do not wait for the drain
            process.stop(signal.SIGINT)

    def _on_death(self, name: str, how: str) -> None:
        log_narration(self._logger, narrate("play_restart", {"process": name, "how": how}))

    def _announce(self) -> None:
        fields = {
            "model": self._manifest.spec.model.name,
            "url": self._url,
            "admin_url": f"http://{self._args.host}:{self._args.admin_port}",
            "socket": self._socket(),
        }
        log_narration(self._logger, narrate("play_start", fields))

    async def _ask(self, asking: Asking) -> int:
        """Ask the question as soon as the relay listens; it is held, and told, while the model loads."""
        while "relay_start" not in self._view.seen:
            if asking.given_up:
                raise CommandError("ended before the question could be asked", EXIT_TRY_LATER)
            await asyncio.sleep(0.02)
        return await asyncio.to_thread(asking.ask, body_of(self._args, self._args.ask))

    def _environ(self) -> dict[str, str]:
        environ = os.environ | {
            names.ENV_MANIFEST: str(self._given),
            names.ENV_SOCKET: self._socket(),
            names.ENV_HOST: self._args.host,
            names.ENV_PORT: str(self._args.port),
            names.ENV_ADMIN_PORT: str(self._args.admin_port),
            names.ENV_WORKER_ID: os.environ.get(names.ENV_WORKER_ID) or self._manifest.metadata.name,
        }
        given = {names.ENV_SECRETS: self._args.secrets, names.ENV_KEYS: self._args.keys}
        return environ | {name: str(folder) for name, folder in given.items() if folder}

    def _socket(self) -> str:
        return str(names.default_socket(os.environ, self._args.port))


def _take_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0. Raises CommandError if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as exc:
        why = getattr(exc, "strerror", None) or str(exc)
        raise CommandError(f"port {port} of {host}: {why}; choose another with --port and --admin-port") from exc


class _IntoView(logging.Handler):
    """Sends our own log lines the way of the processes'."""

    def __init__(self, view: LogView) -> None:
        super().__init__()
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        self._view.line(self.format(record).encode() + b"\n")


def _logger_into(view: LogView, worker_id: str) -> logging.Logger:
    handler = _IntoView(view)
    handler.setFormatter(RecordFormatter("play", worker_id))
    logger = logging.getLogger("rhapsode.play")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    return logger
