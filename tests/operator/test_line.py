"""What waits, runs and is due: decided without an event loop."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rhapsode_operator.queueing import Key, Line

A, B = ("ns", "a"), ("ns", "b")


def test_a_key_waits_once_however_often_it_is_added() -> None:
    line = Line()
    assert [line.add(A, 1), line.add(A, 2), line.add(B, 3)] == [True, False, True]
    assert [line.take(5), line.take(5), line.take(5)] == [(A, 4), (B, 2), None]


def test_a_key_in_flight_is_given_to_no_second_worker_and_runs_again_afterwards() -> None:
    line = Line()
    line.add(A, 0)
    line.take(0)
    assert line.add(A, 1)
    assert line.take(1) is None
    assert line.done(A) == (True, True)
    assert line.take(3) == (A, 2)


def test_the_earliest_of_several_moments_counts_and_rings_once() -> None:
    line = Line()
    for due in (50, 10, 30):
        line.add_at(A, due)
    assert line.next_ring() == 10
    assert (line.ring(9), line.ring(10), line.ring(100)) == (0, 1, 0)
    assert line.next_ring() is None


def test_a_run_drops_the_moment_that_was_set_before_it() -> None:
    line = Line()
    line.add_at(A, 50)
    line.add(A, 1)
    line.take(1)
    line.done(A)
    assert line.ring(100) == 0


def test_a_forgotten_key_is_gone_even_when_it_is_in_flight() -> None:
    line = Line()
    line.add(A, 0)
    line.add_at(B, 5)
    line.take(0)
    line.add(A, 1)
    line.forget(A)
    line.forget(B)
    assert line.done(A) == (False, False)
    assert (line.take(9), line.ring(9), len(line)) == (None, 0, 0)


def test_a_key_that_is_added_after_it_was_forgotten_is_new() -> None:
    line = Line()
    line.add(A, 0)
    line.take(0)
    line.forget(A)
    line.add(A, 1)
    assert line.done(A) == (True, True)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "at", "take", "done", "ring", "forget"]), st.integers(0, 3))))
def test_no_key_is_ever_lost_or_in_two_hands(steps: list[tuple[str, int]]) -> None:
    line, owed, flying = Line(), set[Key](), set[Key]()
    for now, (step, number) in enumerate(steps):
        key = ("ns", str(number))
        if step == "add":
            line.add(key, now)
            owed.add(key)
        elif step == "at":
            line.add_at(key, now + number)
        elif step == "ring":
            due = [one for one, at in line._due.items() if at <= now]
            line.ring(now)
            owed.update(due)
        elif step == "forget":
            line.forget(key)
            owed.discard(key)
        elif step == "take" and (taken := line.take(now)):
            assert taken[0] not in flying
            flying.add(taken[0])
            owed.discard(taken[0])
        elif step == "done" and key in flying:
            line.done(key)
            flying.discard(key)
    for key in flying:
        line.done(key)
    left = set()
    while taken := line.take(10_000):
        left.add(taken[0])
    assert left == owed
