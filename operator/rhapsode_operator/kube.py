"""The way to the API server: dicts in, dicts out. The only file that imports `kubernetes`.

`kubernetes.aio` gives credentials and connections, we give the bytes: less than half of its DynamicClient's work.
Nothing is retried here except a 401, because a mounted token is replaced while we run: the queue retries.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import config as credentials
from kubernetes.aio.client import ApiClient, Configuration

from rhapsode_contract.names import API_VERSION, KIND
from rhapsode_operator.errors import CannotRun, GoneError, OperatorError, RetryableError
from rhapsode_operator.verdicts import error_of

Body = dict[str, Any]
KINDS = {
    KIND: (f"/apis/{API_VERSION}", "inferenceworkers"),
    "Pod": ("/api/v1", "pods"),
    "Service": ("/api/v1", "services"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "Event": ("/apis/events.k8s.io/v1", "events"),
}
"""Where the kinds are that we speak of."""

JSON = "application/json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml; charset=utf-8"
"""JSON is YAML. With the parameter the client takes our bytes as they are instead of encoding once more."""
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
ANSWER_S = 30.0
LEASE_ANSWER_S = 5.0


class ApiMeter(Protocol):
    """Counts requests."""

    def called(self, verb: str, code: str, seconds: float) -> None: ...


class Kube:
    """The API server, for one operator."""

    def __init__(self, client: ApiClient, reload: Callable[[], Any], meter: ApiMeter) -> None:
        self._client = client
        self._config = client.configuration
        self._reload = reload
        self._meter = meter
        self._reloading = asyncio.Lock()
        self.on_written: Callable[[Body], None] = lambda _: None
        """Called with what the API server has after each apply: the watch must see it soon."""

    # Writing

    async def apply(self, body: Body, *, manager: str, force: bool = True) -> Body:
        """Make an object what `body` says, by server-side apply; `force` takes fields from other managers."""
        return await self._apply(path_of(body), body, manager, force=force)

    async def create(self, body: Body, *, manager: str) -> Body:
        """Make a new object; RetryableError with status 409 if somebody has its name."""
        metadata, query = body["metadata"], {"fieldManager": manager, "fieldValidation": "Strict"}
        created = await self._send("POST", path_to(body["kind"], metadata["namespace"]), body, query=query)
        self.on_written(created)
        return created

    async def apply_status(self, body: Body, *, manager: str) -> Body:
        """Make an object's status what `body` says."""
        return await self._apply(f"{path_of(body)}/status", body, manager)

    async def annotate(self, namespace: str, pod: str, annotations: Mapping[str, str | None]) -> Body:
        """Set annotations of a pod; None removes one."""
        patch = {"metadata": {"annotations": dict(annotations)}}
        return await self._send("PATCH", path_to("Pod", namespace, pod), patch, MERGE)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> bool:
        """Delete this very object; return False if it is gone, or if another has its name now."""
        options: Body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._send("DELETE", path_to(kind, namespace, name), options)
        except GoneError:
            return False
        except RetryableError as exc:
            if exc.status == 409 and "UID" in exc.message:
                return False
            raise
        return True

    async def create_event(self, body: Body) -> Body:
        """Post an Event (events.k8s.io/v1)."""
        return await self._send("POST", path_to("Event", body["metadata"]["namespace"]), body)

    # Reading

    async def read(self, kind: str, namespace: str, name: str) -> Body | None:
        """Return an object, None if it is not there."""
        try:
            return await self._send("GET", path_to(kind, namespace, name))
        except GoneError:
            return None

    async def get(self, path: str) -> Body:
        """Return what is at a path, such as what discovery tells."""
        return await self._send("GET", path)

    async def exists(self, kind: str, namespace: str, name: str) -> bool:
        """Return whether there is such an object."""
        return await self.read(kind, namespace, name) is not None

    async def list_names(
        self, kind: str, namespace: str, limit: int, *, selector: str = "", go_on: str = ""
    ) -> tuple[list[tuple[str, str, str]], str]:
        """Return namespace, name and version of some objects, and the word that goes on after them; '' at the end."""
        query = {"limit": str(limit), "labelSelector": selector, "continue": go_on}
        given = {key: value for key, value in query.items() if value}
        answer = await self._send("GET", path_to(kind, namespace), query=given, accept=METADATA)
        found = [item["metadata"] for item in answer["items"] or ()]  # none is null
        listed = [(each["namespace"], each["name"], each["resourceVersion"]) for each in found]
        return listed, answer["metadata"].get("continue", "")

    async def may(self, verb: str, group: str, resource: str, namespace: str) -> bool:
        """Return whether we may do this; `resource` is as in a Role, an empty namespace means all."""
        plural, _, subresource = resource.partition("/")
        what = {"verb": verb, "group": group, "resource": plural, "subresource": subresource, "namespace": namespace}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        asked = review | {"spec": {"resourceAttributes": what}}
        answer = await self._send("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", asked)
        return bool(answer["status"]["allowed"])

    # The Lease

    async def read_lease(self, namespace: str, name: str) -> Body | None:
        """Return the Lease, None if there is none."""
        try:
            return await self._send("GET", path_to("Lease", namespace, name), seconds=LEASE_ANSWER_S)
        except GoneError:
            return None

    async def create_lease(self, body: Body) -> Body | None:
        """Create the Lease; None if somebody was faster. CannotRun if its namespace is not there."""
        namespace = body["metadata"]["namespace"]
        try:
            return await self._write_lease("POST", path_to("Lease", namespace), body)
        except GoneError as exc:
            raise CannotRun(f"The namespace {namespace} does not exist: set RHAPSODE_NAMESPACE") from exc

    async def replace_lease(self, body: Body) -> Body | None:
        """Replace the version of the Lease that `body` names; None if it has changed since."""
        try:
            return await self._write_lease("PUT", path_of(body), body)
        except GoneError:
            return None

    async def _write_lease(self, verb: str, path: str, body: Body) -> Body | None:
        try:
            return await self._send(verb, path, body, seconds=LEASE_ANSWER_S)
        except RetryableError as exc:
            if exc.status == 409:
                return None
            raise

    # One request

    async def _apply(self, path: str, body: Body, manager: str, *, force: bool = True) -> Body:
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        written = await self._send("PATCH", path, msgspec.json.encode(body), APPLY, query)
        self.on_written(written)
        return written

    async def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        query: Mapping[str, str] | None = None,
        *,
        accept: str = JSON,
        seconds: float = ANSWER_S,
    ) -> Body:
        """Send a request and return the answer; an OperatorError says why not."""
        url = f"{self._config.host}{path}?{urlencode(query)}" if query else f"{self._config.host}{path}"
        headers = {"Accept": accept, "Content-Type": content_type}
        began, code = time.perf_counter(), "none"
        try:
            status, answer_headers, data = await self._exchange(method, url, headers, body, seconds)
            code = str(status)
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            text = str(exc) or "no answer in time"
            raise RetryableError(f"The API server cannot be reached: {text}", reason="NoNetwork") from exc
        finally:
            self._meter.called("APPLY" if content_type == APPLY else method, code, time.perf_counter() - began)
        if status >= 400:
            raise error_of(status, answer_headers, data)
        return _decode(data)

    async def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: Any, seconds: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        token = await self._token()
        answer = await self._once(method, url, headers, body, seconds, token)
        if answer[0] != 401:
            return answer
        async with self._reloading:
            if await self._token() == token:
                await self._reload()
        return await self._once(method, url, headers, body, seconds, await self._token())

    async def _once(
        self, method: str, url: str, headers: dict[str, str], body: Any, seconds: float, token: str | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        sent = headers | {"authorization": token} if token else dict(headers)
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=5)
        request: Any = self._client.rest_client.request  # the package has types, these functions have none
        answer = await request(method, url, headers=sent, body=body, _request_timeout=timeout)
        return answer.status, answer.headers, await answer.read()

    async def _token(self) -> str | None:
        token: str | None = await self._config.get_api_key_with_prefix("BearerToken", alias="authorization")
        return token


def path_to(kind: str, namespace: str = "", name: str = "") -> str:
    """Return the path of an object, or of a collection; without a namespace of the whole cluster."""
    prefix, plural = KINDS[kind]
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{prefix}{inside}/{plural}/{name}" if name else f"{prefix}{inside}/{plural}"


def path_of(body: Body) -> str:
    """Return the path of the object that `body` speaks of."""
    metadata = body["metadata"]
    return path_to(body["kind"], metadata["namespace"], metadata["name"])


def _decode(data: bytes) -> Body:
    try:
        answer: Body = msgspec.json.decode(data)
    except msgspec.DecodeError as exc:
        raise RetryableError(f"The API server's answer is no JSON: {exc}", reason="BadAnswer") from exc
    return answer


@asynccontextmanager
async def connect(
    meter: ApiMeter, *, connections: int = 32, environ: Mapping[str, str] = os.environ
) -> AsyncIterator[Kube]:
    """Open the way to the API server of this pod, or of a kubeconfig. CannotRun says what is missing."""
    config = Configuration()
    config.connection_pool_maxsize = connections
    # Without this each request looks for a .netrc in a thread; a proxy is the Configuration's affair.
    config.client_session_kwargs = {"trust_env": False}
    await _load(config, environ)

    async def reload() -> None:
        try:
            await _load(config, environ)
        except OperatorError as exc:
            raise RetryableError(exc.message, reason="NoCredentials", status=401) from exc

    client: Any = ApiClient(config)
    try:
        yield Kube(client, reload, meter)
    finally:
        await client.close()
        await asyncio.sleep(0)  # its connections close at the loop's next turn


async def _load(config: Configuration, environ: Mapping[str, str]) -> None:
    source: Any = credentials
    in_pod = environ.get("KUBERNETES_SERVICE_HOST") and not environ.get("KUBECONFIG")
    paths = environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
    try:
        if in_pod:
            source.load_incluster_config(client_configuration=config)
        else:
            _find(paths)
            await source.load_kube_config(config_file=paths, client_configuration=config)
    except Exception as exc:  # a file that is no kubeconfig ends in errors of all kinds
        where, why = "this pod" if in_pod else paths, " ".join(str(exc).split()).rstrip(".")
        raise CannotRun(
            f"There are no credentials for an API server in {where}: {why}. "
            "Run in a pod with a service account, or set KUBECONFIG"
        ) from exc


def _find(paths: str) -> None:
    """Raise if none of these files is there: the client would speak of what it lacks instead."""
    if not any(Path(path).expanduser().exists() for path in paths.split(os.pathsep)):
        raise FileNotFoundError("there is no such file")
