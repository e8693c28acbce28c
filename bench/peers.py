"""What is measured: our relay and the proxies that people use, each pinned to one core with one worker."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bench.manifests import write_manifest
from rhapsode_contract.requests import OnDisconnect
from rhapsode_contract.resources import EngineSpec, RelaySpec
from support.processes import free_port

PROXY_CORE, LOAD_CORE = 0, 1


def pinned(core: int, *command: str) -> list[str]:
    return ["taskset", "-c", str(core), *command]


class Peer:
    """A running proxy: where to read, which kind of source feeds it, and what it costs."""

    def __init__(
        self, name: str, address: str, kind: str, source: str, process: subprocess.Popen[bytes] | None
    ) -> None:
        self.name = name
        self.address = address
        self.kind = kind
        self.source = source
        self._process = process

    @property
    def pid(self) -> int:
        """The process to look at; 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    def cpu_s(self) -> float:
        """CPU seconds so far, of all its processes."""
        return sum(sum(one.cpu_times()[:2]) for one in self._all())

    def rss_mib(self) -> float:
        return sum(one.memory_info().rss for one in self._all()) / 2**20

    def _all(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]


@contextlib.contextmanager
def _running(
    command: list[str], folder: Path, environ: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | (environ or {}))
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_port(port: int) -> None:
    for _ in range(1200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {port}")


@contextlib.contextmanager
def relay(on_disconnect: OnDisconnect = "grace") -> Iterator[Peer]:
    """Our relay, as a pod runs it."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        relay_spec = RelaySpec(queue_limit=10_000, drain_seconds=0, on_disconnect=on_disconnect)
        manifest = write_manifest(folder, "sim", EngineSpec(name="Simulator"), relay_spec)
        with running_relay(folder, manifest) as peer:
            yield peer


@contextlib.contextmanager
def running_relay(folder: Path, manifest: Path) -> Iterator[Peer]:
    """Our relay, with a manifest and a folder for its socket and log."""
    port = free_port()
    environ = {
        "RHAPSODE_MANIFEST": str(manifest),
        "RHAPSODE_SOCKET": str(folder / "w.sock"),
        "RHAPSODE_PORT": str(port),
        "RHAPSODE_ADMIN_PORT": str(free_port()),
    }
    command = pinned(PROXY_CORE, sys.executable, "-m", "rhapsode_relay")
    with _running(command, folder, environ) as process:
        _await_port(port)
        yield Peer("rhapsode relay", str(port), "relay", str(folder / "w.sock"), process)


@contextlib.contextmanager
def direct() -> Iterator[Peer]:
    """No proxy at all."""
    with tempfile.TemporaryDirectory() as text:
        path = str(Path(text) / "up.sock")
        yield Peer("direct", path, "http", path, None)


@contextlib.contextmanager
def nginx() -> Iterator[Peer]:
    """nginx with `proxy_buffering off`."""
    with tempfile.TemporaryDirectory() as text:
        folder, port = Path(text), free_port()
        folder.chmod(0o755)
        (folder / "conf").write_text(
            f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log crit;
            events {{ worker_connections 8192; }}
            http {{ access_log off;
              upstream origin {{ server unix:{folder}/up.sock; }}
              server {{ listen 127.0.0.1:{port} backlog=4096;
                location / {{ proxy_pass http://origin; proxy_buffering off; proxy_http_version 1.1;
                  proxy_set_header Connection ""; proxy_read_timeout 600s; }} }} }}"""
        )
        command = pinned(PROXY_CORE, "nginx", "-p", text, "-e", f"{folder}/error.log", "-c", str(folder / "conf"))
        with _running(command, folder) as process:
            _await_port(port)
            yield Peer("nginx", str(port), "http", str(folder / "up.sock"), process)


@contextlib.contextmanager
def haproxy() -> Iterator[Peer]:
    """HAProxy with one thread."""
    with tempfile.TemporaryDirectory() as text:
        folder, port = Path(text), free_port()
        folder.chmod(0o755)
        (folder / "conf").write_text(
            f"""global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  option http-server-close
  server s unix@{folder}/up.sock
"""
        )
        with _running(pinned(PROXY_CORE, "haproxy", "-f", str(folder / "conf")), folder) as process:
            _await_port(port)
            yield Peer("HAProxy", str(port), "http", str(folder / "up.sock"), process)


def installed() -> list[Callable[[], contextlib.AbstractContextManager[Peer]]]:
    """Return ours and the proxies that this machine has."""
    return [relay, *(peer for name, peer in (("nginx", nginx), ("haproxy", haproxy)) if shutil.which(name))]
