"""What `holding` answers to `asking_holder`: one line of JSON each."""

import msgspec


class Answer(msgspec.Struct, omit_defaults=True, frozen=True):
    """A call that is about to be made, or what came of a command. `done_at` is of the machine's monotonic clock."""

    calling: str = ""
    done_at: float = 0.0
    took_ms: float = 0.0
    free_bytes: int | None = None
    version: str = ""
    error: str = ""
    name: str = ""
