"""What of the client port is open to everyone, where there are keys: what holds nobody's data."""

import pytest

from rhapsode_relay.gate import Knock, is_public


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/page/app.js", "/page/fonts/a.woff2"])
def test_the_page_and_the_description_are_for_everyone_to_read(path: str) -> None:
    assert is_public(Knock("GET", path))
    assert is_public(Knock("HEAD", path))
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", ""):
        assert not is_public(Knock(method, path))


@pytest.mark.parametrize(
    "path",
    ["", "/page", "/pages/x", "/PAGE/x", "//", "//page/x", "/openapi.json/", "/openapi.jsonx", "/v1/worker", "/v1/models",
     "/v1/inference/sim-1/stream", "/v1/page/x", "/nowhere"],
)  # fmt: skip
def test_nothing_else_is(path: str) -> None:
    assert not is_public(Knock("GET", path))


def test_a_browser_may_ask_whether_it_may_ask() -> None:
    assert is_public(Knock("OPTIONS", "/v1/inference", is_cross_origin=True))
    assert not is_public(Knock("OPTIONS", "/v1/inference"))
    assert not is_public(Knock("GET", "/v1/inference", is_cross_origin=True))
