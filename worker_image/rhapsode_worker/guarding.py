"""See to it that no process of an engine outlives the supervisor. Called by `engine_process`, and by a selfcheck's
import of TensorRT-LLM.

A supervisor that is killed closes its end of every pipe, but an engine that imports for minutes, or is inside C code
that holds the interpreter, does not look. So somebody else does: a shell that only waits. It ends the engine's group.
What left the group is on its own: Open MPI's daemon watches a pipe of the process that it serves, and ends with it.
"""

import asyncio
import signal
from asyncio.subprocess import DEVNULL, PIPE

from rhapsode_contract.lifelines import send_signal

_WAIT_AND_END = 'read -r _; kill -s KILL -- "-$0"'


class Guard:
    """A process that ends a group of processes when we are gone, whatever ended us."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def over(cls, group: int) -> "Guard":
        """Start one. It holds the other end of a pipe of ours."""
        command = ("/bin/sh", "-c", _WAIT_AND_END, str(group))
        return cls(
            await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
            )
        )

    async def dismiss(self) -> None:
        """End it: the group is gone, and its number may become another's."""
        send_signal(self._process, signal.SIGKILL)
        await self._process.wait()
