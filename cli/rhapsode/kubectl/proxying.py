"""`kubectl proxy` as a child of ours: the user's kubeconfig, whatever it asks for, behind a socket only we can open.

Called by `reaching`. A shell keeps it: when its standard input ends, because we ended in whatever way (a kill -9
too), it ends kubectl and removes the folder with the socket.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rhapsode.errors import EXIT_TRY_LATER, CommandError
from rhapsode_contract.wording import clean

START_S, END_S = 20.0, 5.0
_SERVES = "Starting to serve"
_KEEPER = """
folder=$1; shift
"$@" & child=$!
exec >/dev/null 2>&1
read -r _
kill "$child"
wait "$child"
rm -rf "$folder"
"""


class KubectlProxy:
    """`with KubectlProxy(flags) as proxy: ...`, and speak to `proxy.socket`. Raises CommandError."""

    def __init__(self, flags: list[str]) -> None:
        """`flags`: those of the user for kubectl, such as `--context=staging`."""
        self.flags = flags
        self.kubectl = find_kubectl()
        self._lock = threading.Lock()
        self._keeper: _Keeper | None = None
        self._closed = False
        self.socket = Path()

    def __enter__(self) -> Self:
        # mkdtemp makes it 0700: whoever opens the socket is the user
        self.socket = Path(tempfile.mkdtemp(prefix="rhapsode-kubectl-")) / "s"
        self.keep_up()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        with self._lock:
            self._closed = True
        if self._keeper is not None:
            self._keeper.end()
        shutil.rmtree(self.socket.parent, ignore_errors=True)

    def keep_up(self) -> None:
        """Start it if it does not run: first, and after somebody killed it."""
        with self._lock:
            if self._closed:  # some thread asks on while we end
                raise CommandError("kubectl proxy has ended")
            if self._keeper is not None and not self._keeper.over.is_set():
                return
            if self._keeper is not None:
                self._keeper.end()
                self.socket.parent.mkdir(mode=0o700, exist_ok=True)
                self.socket.unlink(missing_ok=True)
            self._keeper = _Keeper(
                str(self.socket.parent), [self.kubectl, *self.flags, "proxy", f"--unix-socket={self.socket}"]
            )
            self._keeper.wait_serving()

    def default_namespace(self) -> str:
        """Return the namespace of the kubeconfig's context."""
        command = [self.kubectl, *self.flags, "config", "view", "--minify", "-o", "jsonpath={..namespace}"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
            if done.returncode == 0 and done.stdout.strip():
                return done.stdout.split()[0]
        return "default"


def find_kubectl() -> str:
    """Return where kubectl is."""
    found = shutil.which("kubectl")
    if found is None:
        raise CommandError("kubectl is not on PATH; see https://kubernetes.io/docs/tasks/tools")
    return found


class _Keeper:
    """One run of kubectl proxy."""

    def __init__(self, folder: str, command: list[str]) -> None:
        # a session of its own: Ctrl-C must leave it there, since we have something to tell the worker then
        self._process = subprocess.Popen(
            ["sh", "-c", _KEEPER, "sh", folder, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        self._said: deque[str] = deque(maxlen=20)
        self._serving = threading.Event()
        self.over = threading.Event()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def wait_serving(self) -> None:
        """Return when the socket is there. Raises CommandError with kubectl's own words."""
        if not self._serving.wait(START_S):
            raise CommandError(f"kubectl proxy did not start within {START_S:.0f} s", EXIT_TRY_LATER)
        if self.over.is_set():
            self._reader.join(END_S)
            words = next((line for line in reversed(self._said) if line), "it ended and said nothing")
            raise CommandError(f"kubectl proxy: {clean(words.removeprefix('error: '))}")

    def end(self) -> None:
        """End it; by force what does not end, or whose keeper was killed."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)

    def _read(self, stream: IO[str]) -> None:
        """Take all that kubectl says, so that it never waits for us; its end is the end of this."""
        with stream:
            for line in stream:
                if line.startswith(_SERVES):
                    self._serving.set()
                else:
                    self._said.append(line.strip())
        self.over.set()
        self._serving.set()
