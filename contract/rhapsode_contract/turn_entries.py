"""What the relay narrates of two-phase turns: a part of the catalogue's table, under its rules."""

from rhapsode_contract.entries import tell_of_request as _request

TURN_ENTRIES = (
    _request(
        "context_missing", "relay", "Context {source} is missing: {why:word}. Going on without it",
        level="warn", target="source",
    ),
    _request(
        "sink_failed", "relay", "Sink {sink} got nothing: {why:word}. Look at its log", level="warn", target="sink",
    ),
    _request("turn_failed", "relay", "The turn ended as {code}: {why:word}", level="error", target="code"),
)  # fmt: skip
