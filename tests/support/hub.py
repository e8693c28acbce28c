"""A hub of our own, speaking the HTTP API of huggingface.co as its client uses it, with faults on demand.

Used through the unmodified client by `tests/worker/test_hub*.py`, `tests/operator` and `tests/whole`. Large files come
from a store under another name (`localhost`), as they do from the real one; what they are asked for is written down.
"""

import contextlib
import hashlib
import http.server
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit


class Asked(NamedTuple):
    """One request. `began` is the first byte that it wants of a file."""

    method: str
    path: str
    began: int
    token: str


@dataclass
class Faults:
    """What goes wrong, changed by tests while the hub runs."""

    pause_s: float = 0.0
    """Between two blocks."""
    cut_after: int | None = None
    """Bytes after which the connection is cut."""
    cuts: int = 10**9
    status: int = 0
    """Answered to every question, with these headers."""
    headers: dict[str, str] = field(default_factory=dict)
    store_only: bool = False
    """Answer that status only where the bytes are."""
    excess: int = 0
    """Bytes that come after the end of a file, and of the list of files."""
    block: int = 1 << 16
    """Bytes that come at once."""
    hold_after: int | None = None
    """Bytes of an answer after which no more come, until the test says otherwise: it is never over too soon."""
    corrupt: bool = False
    no_ranges: bool = False
    no_digests: bool = False
    """List no sizes and digests, as some mirrors do."""


@dataclass
class Repository:
    """Files of one commit. `token`: only who has it may read; `gated`: only who was also let in."""

    files: dict[str, bytes]
    large: tuple[str, ...] = (".gguf", ".bin", ".safetensors")
    token: str = ""
    gated: bool = False
    branches: tuple[str, ...] = ("main", "refs/pr/1")

    @property
    def commit(self) -> str:
        names = "".join(name + hashlib.sha256(data).hexdigest() for name, data in sorted(self.files.items()))
        return hashlib.sha1(names.encode()).hexdigest()

    def etag(self, name: str) -> str:
        data = self.files[name]
        if name.endswith(self.large):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def sibling(self, name: str, *, digests: bool) -> dict[str, Any]:
        """Return an entry of the list of files."""
        if not digests:
            return {"rfilename": name}
        size, etag = len(self.files[name]), self.etag(name)
        known: dict[str, Any] = {"rfilename": name, "size": size, "blobId": "b" * 40}
        if name.endswith(self.large):
            return known | {"lfs": {"sha256": etag, "size": size, "pointerSize": 134}}
        return known | {"blobId": etag}


@dataclass
class Hub:
    """`with Hub({"org/model": Repository(...)}) as hub: ...` with HF_ENDPOINT set to `hub.url`."""

    repositories: dict[str, Repository]
    faults: Faults = field(default_factory=Faults)
    asked: list[Asked] = field(default_factory=list)
    address: tuple[str, int] = ("127.0.0.1", 0)
    store: str = "localhost"
    """Host by which the store of large files is told."""

    def __enter__(self) -> Self:
        self._server = http.server.ThreadingHTTPServer(self.address, _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.faults.hold_after = None  # who is held ends
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fetched(self, name: str = "") -> list[Asked]:
        """Return the requests for a large file's bytes, where redirects led to."""
        wanted = f"/bytes/{name}"
        return [one for one in list(self.asked) if one.method == "GET" and wanted in one.path]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who fetched was killed
            super().handle()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        began = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.asked.append(Asked(self.command, path, began, token))
        faults = self.hub.faults
        if faults.status and (path.startswith("/store/") or not faults.store_only):
            self._answer(faults.status, headers=faults.headers)
        elif path.startswith("/store/"):
            self._give(path, began)
        elif path.startswith("/api/models/"):
            self._list(path.removeprefix("/api/models/"), token)
        else:
            self._resolve(path.removeprefix("/"), token)

    def _list(self, path: str, token: str) -> None:
        name, _, revision = path.partition("/revision/")
        if found := self._allowed(name, revision, token, listing=True):
            digests = not self.hub.faults.no_digests
            siblings = [found.sibling(one, digests=digests) for one in found.files]
            self._answer(
                200,
                json.dumps({"id": name, "sha": found.commit, "siblings": siblings}).encode()
                + b" " * self.hub.faults.excess,
            )

    def _resolve(self, path: str, token: str) -> None:
        name, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        found = self._allowed(name, revision, token, listing=False)
        if found is None:
            return
        if file not in found.files:
            self._answer(404, code="EntryNotFound")
            return
        etag, size = found.etag(file), len(found.files[file])
        known = {"X-Repo-Commit": found.commit, "ETag": f'"{etag}"'}
        if file.endswith(found.large):
            place = f"http://{self.hub.store}:{self.hub.port}/store/{name}/bytes/{file}?signature=s3cret"
            linked = {"Location": place, "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size)}
            self._answer(302, headers=known | linked)
        else:
            self._answer(200, found.files[file], headers=known)

    def _allowed(self, name: str, revision: str, token: str, *, listing: bool) -> Repository | None:
        found = self.hub.repositories.get(name)
        if found is None or (found.token and not found.gated and token != found.token):
            self._answer(404 if token else 401, code="RepoNotFound")
        elif found.gated and token != found.token and not listing:
            self._answer(403 if token else 401, code="GatedRepo")
        elif revision not in (*found.branches, found.commit):
            self._answer(404, code="RevisionNotFound")
        else:
            return found
        return None

    def _give(self, path: str, began: int) -> None:
        """Send a file's bytes, from where it was asked, with what is to go wrong."""
        name, _, file = path.removeprefix("/store/").partition("/bytes/")
        faults, whole = self.hub.faults, self.hub.repositories[name].files[file]
        began = 0 if faults.no_ranges else began
        data = whole[began:] + bytes(faults.excess)
        if faults.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        ranged = {"Content-Range": f"bytes {began}-{len(whole) - 1}/{len(whole)}"} if began else {}
        self._head(206 if began else 200, len(data), ranged)
        block = faults.block
        for at in range(0, len(data), block):
            while faults.hold_after is not None and at >= faults.hold_after:
                time.sleep(0.01)
            if faults.cut_after is not None and at >= faults.cut_after and faults.cuts > 0:
                faults.cuts -= 1
                self.close_connection = True
                return
            self.wfile.write(data[at : at + block])
            time.sleep(faults.pause_s)

    def _answer(
        self, status: int, body: bytes = b"", *, code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        self._head(status, len(body), (headers or {}) | ({"X-Error-Code": code} if code else {}))
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""
