"""With keys in a Secret, a worker answers who shows one, and nobody else: each as much as it may."""

import re

from e2e.calls import call, calling
from e2e.clients import Client
from e2e.clusters import Cluster, until
from e2e.conftest import Apply
from e2e.workers import Applied, worker

KEYS = {"secretRef": {"name": "keys"}}
ALICE = {"X-Api-Key": "open-sesame"}
PAGE = "https://app.example.com"


def _make_keys(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "secret", "generic", "keys", "-n", namespace, "--from-literal=alice=open-sesame")


def test_keys_come_and_go_without_a_restart(apply: Apply, client: Client, cluster: Cluster, namespace: str) -> None:
    _make_keys(cluster, namespace)
    locked = apply(worker("locked", auth=KEYS))
    locked.ready()
    for options in ([], ["--key", "open-barley"]):
        refused = client.ask("locked", namespace, *options)
        assert (refused["how"], refused["status"]) == ("refused", 401)
    assert client.ask("locked", namespace, "--key", "open-sesame")["whole"]
    cluster.kubectl("patch", "secret", "keys", "-n", namespace, "-p", '{"stringData": {"bob": "second-key"}}')
    _notice(cluster, locked)
    until(lambda: client.ask("locked", namespace, "--key", "second-key")["how"] == "end", "the new key opens", 150)
    assert client.ask("locked", namespace, "--key", "open-sesame")["whole"]
    cluster.kubectl("patch", "secret", "keys", "-n", namespace, "-p", '{"data": {"alice": null}}')
    _notice(cluster, locked)
    until(lambda: call(locked.url("/v1/models"), "GET", None, ALICE).status == 401, "the old key is of no use", 150)
    assert client.ask("locked", namespace, "--key", "second-key")["whole"]
    assert cluster.get("pod", "locked-0", namespace)["status"]["containerStatuses"][0]["restartCount"] == 0


def _notice(cluster: Cluster, locked: Applied) -> None:
    """Let the kubelet look at the Secret now rather than within a minute, as it does when a pod changes."""
    when = cluster.get("secret", "keys", locked.namespace)["metadata"]["resourceVersion"]
    cluster.kubectl("annotate", "pod", "locked-0", "-n", locked.namespace, "--overwrite", f"e2e/keys={when}")


def test_the_page_and_the_description_are_open_and_nothing_else_is(
    apply: Apply, client: Client, cluster: Cluster, namespace: str
) -> None:
    _make_keys(cluster, namespace)
    locked = apply(worker("locked", auth=KEYS))
    locked.ready()
    page = call(locked.url("/"))
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    files = set(re.findall(r"page/[a-z_]+\.[a-z]+", page.body))
    assert "page/page.js" in files
    for file in files:
        assert call(locked.url(f"/{file}")).status == 200, file
    described = call(locked.url("/openapi.json")).whole()["paths"]
    assert len(described) > 10
    for path, operations in described.items():
        for method, operation in operations.items():
            is_open = operation.get("security") == []
            answer = call(locked.url(re.sub(r"{\w+}", "some", path)), method.upper())
            assert (answer.status == 401) is not is_open, f"{method} {path}: {answer.status}"


def test_a_ticket_opens_one_stream_at_every_replica(
    apply: Apply, client: Client, cluster: Cluster, namespace: str
) -> None:
    _make_keys(cluster, namespace)
    pair = apply(worker("pair", replicas=2, auth=KEYS))
    pair.ready(replicas=2)
    screen = call(pair.url("/v1/tickets", "pair-0"), "POST", {"correlation_id": "screen-1"}, ALICE).json()
    with calling(pair.url(screen["url"], "pair-1"), until='"type":"end"') as listening:
        listening.begun()
        headers = ALICE | {"X-Correlation-Id": "screen-1"}
        asked = call(pair.url("/v1/inference", "pair-0"), "POST", {"prompt": "Sing", "max_tokens": 20}, headers)
        job = asked.headers["x-job-id"]
        heard = [told for _, told in listening.answer().events()]
    assert {told["job_id"] for told in heard if "job_id" in told} == {job}
    told_of_job = call(pair.url("/v1/tickets", "pair-0"), "POST", {"job_id": job}, ALICE).json()
    streams = [call(pair.url(told_of_job["url"], pod)).events() for pod in ("pair-0", "pair-1")]
    assert streams[0] == streams[1]
    assert [name for name, _ in streams[0]][-2:] == ["end", "done"]
    elsewhere = pair.url(told_of_job["url"].replace(f"inference/{job}", "correlations/screen-1"), "pair-1")
    assert call(elsewhere).code() == (403, "ticket_not_for_this")


def test_limits_and_origins_of_a_changed_spec_reach_the_pods(
    apply: Apply, client: Client, cluster: Cluster, namespace: str
) -> None:
    _make_keys(cluster, namespace)
    locked = apply(worker("locked", auth=KEYS))
    locked.ready()
    (before,) = (pod["metadata"]["uid"] for pod in locked.pods())
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    assert "access-control-allow-origin" not in call(locked.url("/v1/inference"), "OPTIONS", None, asked).headers
    limits = {"readersPerJob": 1}
    locked.patch({
        "relay": {"limits": limits, "cors": {"allowedOrigins": [PAGE]}},
        "auth": {"limits": {"requestsPerMinute": 1}},
    })  # fmt: skip
    until(lambda: before not in [pod["metadata"]["uid"] for pod in locked.pods()], "the pod is replaced", 90)
    locked.ready()
    preflight = call(locked.url("/v1/inference"), "OPTIONS", None, asked)
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, PAGE)
    stream = locked.url("/v1/correlations/some/stream")
    with calling(stream, "GET", None, ALICE, until="never said") as reading:
        reading.begun()
        assert call(stream, "GET", None, ALICE).code() == (503, "too_many_readers")
    _check_one_a_minute(locked)


def _check_one_a_minute(locked: Applied) -> None:
    chat = {"messages": [{"role": "user", "content": "Sing"}], "max_tokens": 2}
    url = locked.url("/v1/chat/completions")
    call(url, "POST", chat, ALICE | {"Origin": PAGE}).whole()
    refused = call(url, "POST", chat, ALICE | {"Origin": PAGE})
    assert refused.code() == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "Retry-After" in refused.headers["access-control-expose-headers"]
