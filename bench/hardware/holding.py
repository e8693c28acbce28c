"""Hold GPU memory, as told: `python -m bench.hardware.holding UUID`. Started by `asking_holder`.

A process of its own, so that what becomes of its memory when it ends, or is killed, is seen too. It reads a command
a line (`open`, `take BYTES`, `give`, `end`) and answers with lines of JSON: each call of CUDA before it is made, and
then the moment it was done, or its error. It ends when nobody asks any more.
"""

import os
import sys
import time
from typing import TextIO

import msgspec

from bench.hardware.children import die_with_parent
from bench.hardware.cuda import Cuda, CudaError
from bench.hardware.talk import Answer

_FIRST = 2 * 2**20
"""Taken once when the context opens: what the first write brings into memory is the context's."""


class Holding:
    """The memory held, and where answers go."""

    def __init__(self, wanted: str, out: TextIO) -> None:
        self._wanted, self._out = wanted, out
        self._cuda: Cuda | None = None
        self._held: list[int] = []

    def obey(self, command: str) -> Answer:
        """Do as told; return what to answer."""
        began = time.monotonic()
        try:
            free, version = self._do(*command.split())
        except CudaError as exc:
            return Answer(error=str(exc), name=exc.name)
        now = time.monotonic()
        return Answer(done_at=now, took_ms=(now - began) * 1000, free_bytes=free, version=version)

    def say(self, answer: Answer) -> None:
        self._out.write(msgspec.json.encode(answer).decode() + "\n")
        self._out.flush()

    def _do(self, verb: str, size: str = "0") -> tuple[int | None, str]:
        if self._cuda is None:
            self._cuda = Cuda(self._wanted, lambda call: self.say(Answer(calling=call)))
        cuda = self._cuda
        if verb == "open":
            cuda.open()
            cuda.give(cuda.take(_FIRST))
        elif verb == "take":
            self._held.append(cuda.take(int(size)))
        elif verb == "give":
            cuda.give(self._held.pop())
        else:
            cuda.close()
            return None, ""
        return cuda.free(), cuda.version()


def main() -> None:
    die_with_parent()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    holding = Holding(sys.argv[1], out)
    for line in sys.stdin:
        holding.say(holding.obey(line))
        if line.strip() == "end":
            break


if __name__ == "__main__":
    main()
