"""A client that calls before there is anything to answer is held, told what happens, and then answered."""

from e2e.clients import Client
from e2e.clusters import Cluster, until
from e2e.conftest import Apply
from e2e.workers import Applied, worker


def test_a_client_hears_pull_and_load_and_gets_its_tokens_on_one_connection(
    apply: Apply, client: Client, cluster: Cluster
) -> None:
    late = apply(worker("late", image={"worker": "rhapsode-worker-cpu:late"}))
    late.reason("ImagePull")
    with client.asking("late", late.namespace, "--tokens", "12", "--silence", "120") as asking:
        asking.heard("rhapsode-worker-cpu:late")
        cluster.give_image(f"rhapsode-worker-cpu:{cluster.tag}", "rhapsode-worker-cpu:late")
        try:
            asking.heard("Loading", 150)
            result = asking.result()
        finally:
            cluster.take_image("rhapsode-worker-cpu:late")
    assert (result["how"], result["whole"], result["tokens"], result["cuts"]) == ("end", True, 12, 0)


def test_progress_and_events_are_seen_while_it_loads(apply: Apply, cluster: Cluster) -> None:
    # an image has no gates: each stage lasts longer than a machine stands still, and so is in a line of the watch
    stages = [{"stage": "importing", "seconds": 10}, {"stage": "loading weights", "seconds": 10}]
    slow = apply(worker("slow", options={"load": stages}))
    with cluster.watching("get", "iw", "slow", "-n", slow.namespace, "-w") as lines:
        slow.ready()
        cluster.heard(lines, "loaded")
    told = "\n".join(lines)
    assert "Starting" in told
    assert "importing" in told
    assert "loading weights" in told
    assert "%" in told
    reasons = until(lambda: _told_to_the_end(slow), "the Events tell to the end")
    assert ("LoadStage", "slow-0: importing") in reasons
    assert ("LoadStage", "slow-0: loading weights") in reasons
    assert len(reasons) == len(set(reasons))


def _told_to_the_end(slow: Applied) -> list[tuple[str, str]]:
    """Return reason and note of each Event, once the last is that all is ready: Events come after the status."""
    reasons = [(one["reason"], one["note"]) for one in slow.events()]
    return reasons if reasons and reasons[-1][0] == "AllReplicasReady" else []
