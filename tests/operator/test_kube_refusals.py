"""What the client makes of refusals, of an old token and of silence: a small HTTP server plays the API server."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from rhapsode_operator.errors import CannotRun, ForbiddenError, GoneError, OperatorError, RefusedError, RetryableError
from rhapsode_operator.kube import Kube, connect
from rhapsode_operator.verdicts import error_of
from support.kube import Calls, connected

POD = {"kind": "Pod", "metadata": {"namespace": "ns", "name": "p"}}
MANAGER = "rhapsode-operator"


class Playing:
    """An HTTP server that plays an API server: it answers with `answers` one after another, the last one for ever."""

    def __init__(self, folder: Path) -> None:
        self.answers: list[web.Response | None] = []
        self.tokens: list[str] = []
        self.accepts = ""
        """The only token that is good, in place of answers in their order."""
        self.config = folder / "config"
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        await request.read()
        self.tokens.append(request.headers.get("authorization", ""))
        if self.accepts:
            known = self.tokens[-1] == f"Bearer {self.accepts}"
            return web.Response(text=FOUND.text) if known else status(401, "Unauthorized")
        chosen = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if chosen is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.Response(status=chosen.status, headers=chosen.headers, body=chosen.body)

    def write_config(self, token: str) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": self.url}}],
            "users": [{"name": "x", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        }
        self.config.write_text(json.dumps(config))


@pytest.fixture
async def playing(tmp_path: Path) -> AsyncIterator[Playing]:
    playing = Playing(tmp_path)
    runner = web.ServerRunner(web.Server(playing.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    playing.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    playing.write_config("first")
    yield playing
    await runner.cleanup()


def status(code: int, message: str, reason: str = "", **headers: str) -> web.Response:
    body = {"kind": "Status", "message": message, "reason": reason}
    return web.Response(status=code, text=json.dumps(body), headers=headers)


FOUND = web.Response(text='{"kind": "Pod"}')


@contextlib.asynccontextmanager
async def told(playing: Playing, *answers: web.Response | None) -> AsyncIterator[Kube]:
    playing.answers = list(answers)
    async with connected(playing.config) as kube:
        yield kube


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (400, "the body is wrong", RefusedError),
        (403, "you may not", ForbiddenError),
        (404, "not found", GoneError),
        (409, "the object has been modified", RetryableError),
        (410, "too old", GoneError),
        (413, "too large", RefusedError),
        (415, "no such type", RefusedError),
        (422, "invalid", RefusedError),
        (429, "slow down", RetryableError),
        (500, "etcdserver: request timed out", RetryableError),
        (500, "failed to create typed patch object (ns/p; /v1, Kind=Pod): .sped: not declared", RefusedError),
        (502, "bad gateway", RetryableError),
        (503, "no leader", RetryableError),
        (504, "timeout", RetryableError),
    ],
)
async def test_a_status_says_whether_to_come_again(
    playing: Playing, code: int, message: str, kind: type[OperatorError]
) -> None:
    async with told(playing, status(code, message, "Why")) as kube:
        with pytest.raises(OperatorError, match=rf"\({code}\)") as caught:
            await kube.apply(POD, manager=MANAGER)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason) == (code, "Why")


@pytest.mark.parametrize(
    ("header", "wait"),
    [({"Retry-After": "7"}, 7), ({}, None), ({"Retry-After": "Sat, 21 Nov 2026 00:00:00 GMT"}, None)],
)
async def test_the_servers_wish_when_to_come_again_is_kept(
    playing: Playing, header: dict[str, str], wait: float | None
) -> None:
    async with told(playing, status(429, "slow down", **header)) as kube:
        with pytest.raises(RetryableError) as caught:
            await kube.read("Pod", "ns", "p")
    assert caught.value.retry_after_s == wait


async def test_a_token_that_was_replaced_is_read_again_and_the_request_repeated(playing: Playing) -> None:
    async with told(playing, status(401, "Unauthorized"), FOUND) as kube:
        playing.write_config("second")
        assert await kube.read("Pod", "ns", "p") == {"kind": "Pod"}
    assert playing.tokens == ["Bearer first", "Bearer second"]


async def test_many_requests_with_an_old_token_read_the_new_one_once_each_is_answered(playing: Playing) -> None:
    async with told(playing) as kube:
        playing.accepts = "second"
        playing.write_config("second")
        await asyncio.gather(*(kube.read("Pod", "ns", "p") for _ in range(8)))
    assert playing.tokens.count("Bearer second") == 8


async def test_a_token_that_is_never_accepted_is_retried_later(playing: Playing) -> None:
    async with told(playing, status(401, "Unauthorized", "Unauthorized")) as kube:
        with pytest.raises(RetryableError, match="Unauthorized"):
            await kube.read("Pod", "ns", "p")
    assert len(playing.tokens) == 2


async def test_a_kubeconfig_that_vanished_is_no_crash(playing: Playing) -> None:
    async with told(playing, status(401, "Unauthorized")) as kube:
        playing.config.unlink()
        with pytest.raises(RetryableError, match="credentials"):
            await kube.read("Pod", "ns", "p")


async def test_a_cut_connection_is_retried(playing: Playing) -> None:
    async with told(playing, None) as kube:
        with pytest.raises(RetryableError, match="cannot be reached"):
            await kube.read("Pod", "ns", "p")


async def test_an_answer_that_is_no_json_is_retried(playing: Playing) -> None:
    async with told(playing, web.Response(text="<html>a proxy</html>")) as kube:
        with pytest.raises(RetryableError, match="no JSON"):
            await kube.read("Pod", "ns", "p")


def test_an_error_without_a_status_body_is_told_in_its_own_words() -> None:
    error = error_of(502, {}, b"<html>bad gateway \xff</html>")
    assert "bad gateway" in error.message
    assert error.reason == "Http502"


@pytest.mark.parametrize(
    "text", [None, "words", "a: [b", "{}"], ids=["no file", "no mapping", "no YAML", "no context"]
)
async def test_without_credentials_one_line_says_where_and_what_to_do(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CannotRun, match=f"in {path}: .*set KUBECONFIG") as caught:
        async with connect(Calls(), environ={"KUBECONFIG": str(path)}):
            pass
    assert "\n" not in caught.value.message
    assert ("no such file" in caught.value.message) == (text is None)
