"""The process that tries guides: a guide in, a line out. Run by the engines' own compilers, fed by `guide_checks`.

A guide that takes too long or too much ends this process, and by that only itself.
"""

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from rhapsode_contract.guides import Guide

CPU_S = 2.0
"""Processor time that a guide may take. The engine takes as long again, and nobody else gets a token meanwhile."""
WALL_S = 25.0
MEMORY_BYTES = 512 * 2**20
"""What a guide may take on top of what is in use."""

Compile = Callable[[Guide], str]
"""Return why a guide cannot be used, "" if it can."""


def serve(open_compiler: Callable[[str], Compile]) -> None:
    """Try guides until nobody sends any more. Whatever libraries print is no answer."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0) as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        compile_guide = open_compiler(sys.argv[1])
        _bound_memory()
        _answer(answers, "")
        for line in sys.stdin.buffer:
            guide = msgspec.json.decode(line, type=Guide)
            with _bounded_time():
                why = compile_guide(guide)
            _answer(answers, why)


def _answer(answers: BinaryIO, why: str) -> None:
    answers.write(msgspec.json.encode(why[:1000]) + b"\n")


@contextlib.contextmanager
def _bounded_time() -> Iterator[None]:
    """End this process, by the signals' defaults, if what it does takes too long."""
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    signal.setitimer(signal.ITIMER_REAL, WALL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _bound_memory() -> None:
    """Let this process grow no further than by what a guide may take, where it can be told how large it is."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
