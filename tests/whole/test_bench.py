"""The bench measures what it says: a small run through the real relay loses nothing."""

from bench import peers
from bench.plans import Plan
from bench.running import run


def test_a_burst_and_single_tokens_arrive_all() -> None:
    for batch in (1, 10):
        figures = run(
            peers.relay, Plan(3, 20_000, 0, batch)
        )  # enough that the clock of CPU time, 10 ms a tick, sees it
        assert (figures.name, figures.missing) == ("rhapsode relay", 0)
        assert figures.events_s > 0
        assert figures.cpu > 0
