"""A proxy that cuts each stream of a job in its middle, unless its client has come back to it. Used by `tests/sdks`."""

import contextlib
import http.server
import threading
from collections.abc import Iterator

import httpx

CUT_AFTER = 8000
"""Bytes of a stream: in the middle of its tokens."""
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server", "host"}


class _Passing(http.server.BaseHTTPRequestHandler):
    """One request, passed on."""

    protocol_version = "HTTP/1.1"
    target = ""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        self.close_connection = True
        with (
            contextlib.suppress(ConnectionError),
            httpx.stream(self.command, self.target + self.path, content=body, headers=headers, timeout=90) as answer,
        ):
            self._begin(answer)
            self._pass_on(answer)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _begin(self, answer: httpx.Response) -> None:
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        if answer.status_code != 204:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _pass_on(self, answer: httpx.Response) -> None:
        left = CUT_AFTER if self.path.startswith("/v1/inference") and "Last-Event-ID" not in self.headers else None
        for data in answer.iter_raw():
            chunk = data[:left]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            left = None if left is None else left - len(chunk)
            if left == 0:
                return
        if answer.status_code != 204:
            self.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def cutting(url: str) -> Iterator[str]:
    """Yield the address of a proxy before `url`."""
    handler = type("_Handler", (_Passing,), {"target": url})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)
