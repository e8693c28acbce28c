"""Run a server on a port: uvicorn, which leaves signals to us. Called by `__main__`."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import uvicorn

from rhapsode_relay.serving import BoundedProtocol


class Server(uvicorn.Server):
    """A uvicorn that leaves signals to us, and wakes once a second rather than ten times."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopped = asyncio.Event()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), 1)

    def stop(self) -> None:
        """Take no new connections, close the idle ones, and end."""
        self.should_exit = True
        self._stopped.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def make_server(app: Any, max_connections: int, refused: Callable[[str], None] = lambda _: None) -> Server:
    """Return a server for an application; it is given its socket when it serves."""
    config = uvicorn.Config(
        app,
        http=partial(BoundedProtocol, refused, max_connections),  # type: ignore[arg-type]
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    return Server(config)


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket, where who comes before we serve waits. OSError names what is wrong with the address."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.setblocking(False)
        bound.listen(2048)
    except OSError:
        bound.close()
        raise
    return bound
