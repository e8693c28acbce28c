"""Tell the process that holds memory what to do, and wait for it in bounded time only. Used by `measuring`."""

import contextlib
import queue
import subprocess
import sys
import threading

import msgspec

from bench.hardware.children import how_it_ended
from bench.hardware.patience import Patience
from bench.hardware.talk import Answer


class HolderFailed(Exception):
    """CUDA refused, hangs, or took the process with it. `dead`: there is nobody to ask any more."""

    def __init__(self, words: str, *, dead: bool = False) -> None:
        super().__init__(words)
        self.dead = dead


class Holder:
    """One process that holds memory of one GPU. To be made in the main thread, with which it dies."""

    def __init__(self, uuid: str, limit_s: float) -> None:
        self._limit_s = limit_s
        command = [sys.executable, "-m", "bench.hardware.holding", uuid]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="holder", daemon=True).start()

    def ask(self, command: str) -> Answer:
        """Return the answer to a command. Raises HolderFailed."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answers tell that it died
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
        call = "its start"
        while (answer := self._next(call)).calling:
            call = answer.calling
        if answer.error:
            raise HolderFailed(f"{command}: {answer.error}")
        return answer

    def end(self) -> None:
        """Let it give the context back and end by itself."""
        self.ask("end")
        self._wait()

    def kill(self) -> None:
        """End it as the kernel would."""
        self._process.kill()
        self._wait()

    def close(self) -> None:
        """Leave nothing behind, if that is possible."""
        self._process.kill()
        with contextlib.suppress(HolderFailed):
            self._wait()

    def _next(self, call: str) -> Answer:
        patience = Patience(self._limit_s)
        while left := patience.slice():
            with contextlib.suppress(queue.Empty):
                answer = self._answers.get(timeout=left)
                break
        else:
            raise HolderFailed(f"{call} has not returned within {self._limit_s:g} s", dead=True)
        if answer is None:
            self._wait()
            raise HolderFailed(f"{call}: {how_it_ended(self._process.returncode)}", dead=True)
        return answer

    def _wait(self) -> None:
        patience = Patience(self._limit_s)
        while left := patience.slice():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(left)
                return
        words = f"the process that holds the memory has not ended within {self._limit_s:g} s"
        raise HolderFailed(words, dead=True)

    def _read(self) -> None:
        """Pass its lines on, in a thread; the last is None."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(msgspec.MsgspecError):
                self._answers.put(msgspec.json.decode(line, type=Answer))
        self._answers.put(None)
