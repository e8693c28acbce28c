"""The part of an API server that a test's one cannot play: its proxy to Services and pods.

The real one refuses loopback addresses, and the stand-in's pods have no others. Used by tests of `kubectl rhapsode`:
kubectl speaks to this, which forwards to the pods what goes to their proxies and the rest to the API server. Rights
are the real ones (a SelfSubjectAccessReview of the caller), refusals have the real one's words. `e2e` has the rest.
"""

import json
import random
import re
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import yarl
from aiohttp import web

from support.api_faults import ApiFaults
from support.api_server import ApiServer
from support.processes import DEADLINE_S

JSON = dict[str, Any]
_PROXY = re.compile(r"/api/v1/namespaces/([^/]+)/(services|pods)/([^/:]+):([^/]+)/proxy(/.*)")
_VERBS = {"GET": "get", "POST": "create", "DELETE": "delete"}
_KEPT = ("Accept", "Content-Type", "Last-Event-ID", "Idempotency-Key", "X-Api-Key")
_REASONS = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 503: "ServiceUnavailable"}


class Refused(Exception):
    """What the API server answers in place of a pod."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ServiceProxy(ApiFaults):
    """`with ServiceProxy(server) as proxy: kubectl(proxy.kubeconfig(token, namespace))`."""

    def __init__(self, server: ApiServer, seed: int = 7) -> None:
        super().__init__(server, seed=seed)
        # kubectl sends no credentials without TLS
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(server.certificate, server.folder / "tls.key")
        self._admin = {"Authorization": f"Bearer {server.token}"}
        self.forwarded: list[tuple[str, str]] = []
        """Method and pod of each request that reached one."""
        self._streams: set[Any] = set()

    def config(self, namespace: str, token: str = "") -> Path:
        """Return a kubeconfig through us, the administrator's by default, whose context has this namespace."""
        path = self._server.kubeconfig(token or None, namespace)
        config = json.loads(path.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self._port}"
        path.write_text(json.dumps(config))
        return path

    @property
    def streams(self) -> int:
        """How many connections to pods are read, and were not cut."""
        return len(self._streams)

    def cut_streams(self) -> None:
        """Cut every connection to a pod that a client reads."""
        self._loop.call_soon_threadsafe(self._abort_streams)

    def _abort_streams(self) -> None:
        while self._streams:
            self._streams.pop().abort()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        found = _PROXY.fullmatch(request.path)
        if found is None:
            return await super()._answer(request)
        try:
            await self._check_right(request, found)
            pod, address = await self._find(found)
            return await self._forward(request, pod, f"http://{address}{found[5]}")
        except Refused as exc:
            said = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(exc)}
            return web.json_response(said | {"reason": _REASONS[exc.code], "code": exc.code}, status=exc.code)

    async def _check_right(self, request: web.Request, found: re.Match[str]) -> None:
        """Ask the API server whether this user may."""
        verb = _VERBS[request.method]
        wanted = {"namespace": found[1], "verb": verb, "resource": found[2], "subresource": "proxy", "name": found[3]}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        url = f"{self._server.url}/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        headers = {"Authorization": request.headers.get("Authorization", "")}
        body = review | {"spec": {"resourceAttributes": wanted}}
        async with self._session.post(url, json=body, headers=headers) as answer:
            told = await answer.json()
        if not told["status"]["allowed"]:
            thing = f'cannot {verb} resource "{found[2]}/proxy" in API group "" in the namespace "{found[1]}"'
            raise Refused(403, f'{found[2]} "{found[3]}:{found[4]}" is forbidden: User "tests" {thing}')

    async def _find(self, found: re.Match[str]) -> tuple[str, str]:
        """Return a pod and its address, as the endpoints of a Service that publishes pods that are not ready."""
        namespace, kind, name = found[1], found[2], found[3]
        there = await self._get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")
        if there.get("kind") == "Status":
            raise Refused(404, f'{kind} "{name}" not found')
        pods = [there]
        if kind == "services":
            selector = ",".join(f"{key}={value}" for key, value in there["spec"]["selector"].items())
            listed = await self._get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")
            pods = [pod for pod in listed["items"] if pod["status"].get("podIP")]
            if not pods:
                raise Refused(503, f'no endpoints available for service "{name}"')
        pod = random.choice(pods)
        if not pod["status"].get("podIP"):
            raise Refused(400, "address not allowed")
        return pod["metadata"]["name"], f"{pod['status']['podIP']}:{8080 if kind == 'services' else found[4]}"

    async def _get(self, path: str) -> JSON:
        async with self._session.get(f"{self._server.url}{path}", headers=self._admin) as answer:
            found: JSON = await answer.json()
            return found

    async def _forward(self, request: web.Request, pod: str, url: str) -> web.StreamResponse:
        headers = {key: request.headers[key] for key in _KEPT if key in request.headers}
        asked = yarl.URL(f"{url}?{request.query_string}" if request.query_string else url, encoded=True)
        body = await request.read() or None
        try:
            async with self._session.request(
                request.method,
                asked,
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(None, sock_connect=DEADLINE_S),
            ) as answer:
                self.forwarded.append((request.method, pod))
                return await self._pass_on(request, answer)
        except aiohttp.ClientConnectorError as exc:
            raise Refused(503, f"error trying to reach service: dial tcp {exc.host}:{exc.port}: refused") from exc

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        kind = answer.headers.get("Content-Type", "application/json")
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": kind})
        await response.prepare(request)
        transport = request.transport
        self._streams.add(transport)
        try:
            async for data in answer.content.iter_any():
                await response.write(data)
        except (aiohttp.ClientError, OSError):
            if transport is not None:
                transport.abort()
        finally:
            self._streams.discard(transport)
        return response
