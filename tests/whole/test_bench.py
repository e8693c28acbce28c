"""The bench measures what it says: a small run through the real relay loses nothing."""

from bench import peers
from bench.plans import Plan
from bench.running import run
from bench.turns import costing


def test_a_burst_and_single_tokens_arrive_all() -> None:
    tokens = 20_000  # enough for the clock of CPU time, which ticks every 10 ms
    for batch in (1, 10):
        figures = run(peers.relay, Plan(3, tokens, 0, batch))
        assert (figures.name, figures.missing) == ("rhapsode relay", 0)
        assert figures.events_s > 0
        assert figures.cpu > 0


def test_turns_come_to_their_end_and_what_the_model_and_the_sinks_took_is_left_out() -> None:
    with costing.playing() as table:
        for at_once in (1, 4):
            cost = costing.play(table, 20, at_once)
            assert cost.unfinished == 0
            assert 0 < cost.own_p50 < cost.p50 <= cost.p99
            assert cost.turns_s > 0


def test_turns_are_held_where_their_memory_is_measured() -> None:
    for hold in ("narrative", "intents", "sinks"):
        for read in (True, False):
            assert costing.memory_of_running(hold, 20, read=read, warm_up=2, settle_s=0.1) < 1024
