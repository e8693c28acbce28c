"""The example on one machine: a journal, `rhapsode play worker.yaml`, and three turns. Called by `make demo-dungeon`.

Everything runs at free ports and ends with this process; the journal's file goes with it.
"""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
STOP_S = 10


class Failed(Exception):
    """Something that the turns need did not start; the message says what, and what it said last."""


def main(args: list[str]) -> int:
    """Play the turns with arguments for `play_turns.py`; return its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="rhapsode-") as folder, contextlib.ExitStack() as running:
            journal = running.enter_context(start_journal(Path(folder)))
            relay = running.enter_context(start_worker(Path(folder), journal))
            command = [sys.executable, str(HERE / "play_turns.py"), "--relay", relay, "--journal", journal, *args]
            return subprocess.run(command, check=False).returncode
    except Failed as exc:
        sys.stderr.write(f"demo: {exc}\n")
        return 1
    except KeyboardInterrupt:
        return 130


@contextlib.contextmanager
def start_journal(folder: Path) -> Iterator[str]:
    """Run a journal and yield its address."""
    command = [sys.executable, "-m", "journal", "--port", "0", "--database", str(folder / "journal.db")]
    with _running(command, HERE) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise Failed("the journal did not start")
        sys.stderr.write(f"· {said}")
        yield said.split()[-1]


@contextlib.contextmanager
def start_worker(folder: Path, journal: str) -> Iterator[str]:
    """Play the manifest with its sinks at a journal, tell how it loads, and yield the ready relay's address."""
    manifest = folder / "worker.yaml"
    manifest.write_text((HERE / "worker.yaml").read_text().replace("http://journal/", f"{journal}/"))
    command = [sys.executable, "-m", "rhapsode", "play", str(manifest), "--port", "0", "--admin-port", "0"]
    with _running(command) as process:
        yield _until_ready(process)


def _until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    url, last = "", "nothing"
    for line in process.stdout:
        record = json.loads(line)
        last = record["message"]
        sys.stderr.write(f"· {last}\n")
        if record["event"] == "play_start":
            url = record["fields"]["url"]
        if record["event"] == "ready":
            threading.Thread(target=deque, args=(process.stdout, 0), daemon=True).start()  # or the pipe fills
            return url
    raise Failed(f"the worker did not start; the last that it said: {last}")


@contextlib.contextmanager
def _running(command: list[str], folder: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
