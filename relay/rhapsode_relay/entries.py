"""What a journal holds: events that are ready to send, and runs of tokens kept as text. Called by `journal`. Pure."""

from rhapsode_contract.frames import TOKEN_SEPARATOR

PART_COST = 64
"""What a Python string costs beside its characters, in bytes."""
PROBABILITY_COST = 256
"""What a probability costs, and a run of its own with it."""


class Event:
    """An event that is ready to send. A superseded one has no data."""

    __slots__ = ("channel", "data", "seq")
    n = 1
    parts = ()

    def __init__(self, seq: int, channel: int, data: bytes) -> None:
        self.seq = seq
        self.channel = channel
        self.data = data

    def cost(self) -> int:
        return len(self.data) + PART_COST


class Run:
    """Consecutive tokens. Each part is one or more separated texts; a `literal` run is one text of `count` tokens."""

    __slots__ = ("count", "i", "literal", "logprobs", "n", "parts", "seq", "size")

    def __init__(self, seq: int, i: int) -> None:
        self.seq = seq
        self.i = i
        self.n = 0
        self.parts: list[str] = []
        self.size = 0
        self.count = 1
        self.literal = False
        self.logprobs: tuple[float, ...] = ()

    def text(self) -> str:
        return self.parts[0] if self.literal else "".join(self.parts).replace(TOKEN_SEPARATOR, "")

    def cost(self) -> int:
        return self.size + PART_COST * len(self.parts) + PROBABILITY_COST * len(self.logprobs)


def count_texts(texts: str) -> int:
    """Return how many separated texts there are; 0 if one of them is empty."""
    separator = TOKEN_SEPARATOR
    if texts[0] == separator or texts[-1] == separator or separator * 2 in texts:
        return 0
    return texts.count(separator) + 1
