"""What holds of every plan, whatever happens: a little cluster is disturbed at random, and then left alone."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhapsode_operator.planning import Plan, Wanted, plan
from support.little_cluster import LittleCluster

WANTED = st.builds(
    Wanted,
    replicas=st.integers(1, 3),
    pod_hash=st.just("a"),
    surge=st.integers(0, 1),
    wait_for_idle=st.sampled_from([True, True, False]),
    timeout_s=st.sampled_from([0.0, 60.0, 300.0]),
)
SMALL = st.integers(0, 4)
HAPPENING = st.one_of(
    st.tuples(st.just("go well"), st.integers(1, 6)),
    st.tuples(st.just("step"), SMALL),
    st.tuples(st.just("stale step"), SMALL),
    st.tuples(st.sampled_from(["advance", "fail", "delete"]), SMALL),
    st.tuples(st.just("spec"), st.integers(0, 1)),
    st.tuples(st.just("scale"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.sampled_from([5, 30, 400])),
    st.tuples(st.sampled_from(["restart", "deaf"]), st.integers(0, 1)),
)
HAPPENINGS = st.lists(HAPPENING, min_size=10, max_size=40)
Happenings = list[tuple[str, int]]


def happen(cluster: LittleCluster, what: str, how: int) -> None:
    """Let one thing happen; numbers choose a pod, or how far a plan gets."""
    match what:
        case "spec":
            cluster.wanted = cluster.wanted._replace(pod_hash="ab"[how])
        case "scale":
            cluster.wanted = cluster.wanted._replace(replicas=how)
        case "wait":
            cluster.now += how
        case "restart":
            cluster.restart()
        case "deaf":
            cluster.deaf = bool(how)
        case "go well":
            cluster.settle(how)
        case "step":
            before, bound = cluster.holding, cluster.wanted.replicas + cluster.wanted.surge
            cluster.step(steps=how)
            assert cluster.holding <= max(before, bound), "more pods hold a GPU than may"
        case "stale step":
            seen = cluster.look()
            cluster.step(steps=how)
            cluster.step(seen)
        case _ if cluster.pods:
            disturb(cluster, what, sorted(cluster.pods)[how % len(cluster.pods)])


def disturb(cluster: LittleCluster, what: str, name: str) -> None:
    {"advance": cluster.advance, "fail": cluster.fail, "delete": cluster.delete}[what](name)


@settings(max_examples=300, deadline=None)
@given(wanted=WANTED, happenings=HAPPENINGS)
def test_whatever_happens_all_wanted_pods_serve_in_the_end(wanted: Wanted, happenings: Happenings) -> None:
    cluster = LittleCluster(wanted)
    for what, how in happenings:
        happen(cluster, what, how)
    assert cluster.undrained == []
    cluster.settle()
    wanted = cluster.wanted
    assert cluster.names == [f"w-{ordinal} {wanted.pod_hash} serving" for ordinal in range(wanted.replicas)]
    assert cluster.step() == Plan()


@settings(max_examples=200, deadline=None)
@given(wanted=WANTED, happenings=HAPPENINGS)
def test_planning_the_same_twice_gives_the_same(wanted: Wanted, happenings: Happenings) -> None:
    cluster = LittleCluster(wanted)
    for what, how in happenings:
        happen(cluster, what, how)
    pods = cluster.look()
    memory = cluster.case.look(pods, cluster.now)
    assert plan(cluster.wanted, pods, memory) == plan(cluster.wanted, pods, memory)
    assert plan(cluster.wanted, pods, memory) == plan(cluster.wanted, pods[:], memory)


@settings(max_examples=100, deadline=None)
@given(
    chance=st.randoms(use_true_random=False), replicas=st.integers(1, 4), surge=st.integers(0, 2), wait=st.booleans()
)
def test_a_rollout_takes_one_pod_at_a_time_also_when_the_spec_changes_on_the_way(
    chance: Random, replicas: int, surge: int, *, wait: bool
) -> None:
    cluster = LittleCluster(Wanted(replicas, "a", surge, wait))
    cluster.settle(10)
    for pod_hash in "bcb":
        cluster.wanted = cluster.wanted._replace(pod_hash=pod_hash)
        for _ in range(chance.choice([5, 15, 60])):
            cluster.step()
            for name in chance.sample(sorted(cluster.pods), chance.randint(0, len(cluster.pods))):
                cluster.advance(name)
            if chance.random() < 0.05:
                cluster.restart()
            cluster.now += 5
            assert cluster.serving >= (replicas if surge else replicas - 1)
            assert cluster.holding <= replicas + surge
    assert cluster.undrained == []


@pytest.mark.parametrize("replicas", [2, 3, 4])
@pytest.mark.parametrize("surge", [0, 1])
def test_a_spec_that_fails_stops_its_rollout_after_one_pod(replicas: int, surge: int) -> None:
    cluster = LittleCluster(Wanted(replicas, "a", surge), broken={"b"})
    cluster.settle(20)
    cluster.wanted = cluster.wanted._replace(pod_hash="b")
    cluster.settle(300)
    assert cluster.serving == (replicas if surge else replicas - 1)
    assert {name for _, name in cluster.made[replicas:]} == {f"w-{replicas if surge else replicas - 1}"}
    cluster.wanted = cluster.wanted._replace(pod_hash="a")
    cluster.settle(10)
    assert cluster.names == [f"w-{ordinal} a serving" for ordinal in range(replicas)]


@pytest.mark.parametrize("restart_every_s", [10_000, 600, 45], ids=lambda seconds: f"restarted-every-{seconds}-s")
def test_an_hour_of_failures_makes_few_pods(restart_every_s: int) -> None:
    cluster = LittleCluster(Wanted(3, "a"))
    for second in range(3600):
        cluster.step()
        for name in list(cluster.pods):
            cluster.fail(name)
        if second % restart_every_s == restart_every_s - 1:
            cluster.restart(cluster.case.failures)
        cluster.now += 1
    made = Counter(name for _, name in cluster.made)
    assert set(made) == {"w-0", "w-1", "w-2"}
    assert max(made.values()) <= 20
    assert restart_every_s < 600 or min(made.values()) >= 10, "and it is tried again"
