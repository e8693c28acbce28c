"""The bench measures what it says: a small run through the real relay loses nothing."""

from bench import peers
from bench.plans import Plan
from bench.running import run


def test_a_burst_and_single_tokens_arrive_all() -> None:
    tokens = 20_000  # enough for the clock of CPU time, which ticks every 10 ms
    for batch in (1, 10):
        figures = run(peers.relay, Plan(3, tokens, 0, batch))
        assert (figures.name, figures.missing) == ("rhapsode relay", 0)
        assert figures.events_s > 0
        assert figures.cpu > 0
