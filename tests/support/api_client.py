"""Speak to a Kubernetes API server in plain HTTP. Used by `api_server` and by tests."""

import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from support.processes import wait_until

JSON = dict[str, Any]
PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class ApiClient:
    """One user's way to the API server."""

    def __init__(self, url: str, token: str, certificate: Path) -> None:
        self.url, self.token, self.certificate = url, token, certificate
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=ssl.create_default_context(cafile=str(certificate)),
            timeout=30,
            trust_env=False,
        )

    def get(self, path: str, **query: str) -> JSON:
        return self._send("GET", path, None, query)

    def post(self, path: str, body: JSON, **query: str) -> JSON:
        return self._send("POST", path, body, query)

    def put(self, path: str, body: JSON, **query: str) -> JSON:
        return self._send("PUT", path, body, query)

    def patch(self, path: str, body: Any, kind: str = "merge", **query: str) -> JSON:
        """Send a patch: merge, json, strategic or apply (which needs `fieldManager`)."""
        return self._send("PATCH", path, body, query, PATCHES[kind])

    def delete(self, path: str, body: JSON | None = None, **query: str) -> JSON:
        return self._send("DELETE", path, body, query)

    def items(self, path: str, **query: str) -> list[JSON]:
        """Return the objects of a list."""
        found: list[JSON] = self.get(path, **query)["items"]
        return found

    def find(self, path: str) -> JSON | None:
        """Return an object, None if it is not there."""
        try:
            return self.get(path)
        except ApiError as exc:
            if exc.status == 404:
                return None
            raise

    def apply(self, path: str, body: JSON, manager: str = "tests") -> JSON:
        """Make an object what `body` says, by server-side apply."""
        return self.patch(path, body, "apply", fieldManager=manager, force="true")

    def wait_gone(self, path: str, seconds: float = 20) -> None:
        wait_until(lambda: self.find(path) is None, f"{path} is gone", seconds)

    def answers(self, path: str) -> bool:
        """Return whether a path answers with 200."""
        try:
            return self._http.get(path).status_code == 200
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException):
            return False

    @contextlib.contextmanager
    def watch(self, path: str, **query: str) -> Iterator[Iterator[JSON]]:
        """Stream the events of a collection."""
        with self._http.stream("GET", path, params={"watch": "true", **query}, timeout=None) as response:
            yield (json.loads(line) for line in response.iter_lines() if line)

    def close(self) -> None:
        self._http.close()

    def _send(
        self, method: str, path: str, body: Any, query: dict[str, str], content_type: str = "application/json"
    ) -> JSON:
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type} if content is not None else {}
        response = self._http.request(method, path, params=query, content=content, headers=headers)
        if response.status_code >= 400:
            raise ApiError(response.status_code, _message_in(response))
        answer: JSON = response.json()
        return answer


def _message_in(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:500]
