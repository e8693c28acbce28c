"""The page's files as they are served: few, known beforehand, to everyone, and with nothing that runs inline."""

import re
import tomllib
from pathlib import Path

import httpx
import pytest
from hatchling.builders.wheel import WheelBuilder

from rhapsode_contract import names
from rhapsode_relay.page_routes import FILES, FOLDER, HEADERS
from support.documents import ROOT
from support.processes import Relay, running_relay
from support.requests import assert_error

SCRIPTS = sorted(FOLDER.glob("*.js"))
LONGEST = 300


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in FILES if name != "index.html")])
def test_a_file_comes_with_its_type_and_a_strict_policy(shared: Relay, path: str) -> None:
    answer = shared.get(path)
    assert answer.status_code == 200
    kinds = {"": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].split(";")[0] == kinds[path.rpartition(".")[2] if "." in path else ""]
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert (answer.headers["x-content-type-options"], answer.headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_a_file_that_a_browser_has_is_not_sent_again(shared: Relay) -> None:
    first = shared.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = httpx.get(shared.url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert again.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    assert httpx.get(shared.url, headers={"If-None-Match": '"other"'}).status_code == 200
    assert httpx.head(shared.url).content == b""


@pytest.mark.parametrize(
    "path",
    [
        "nothing.js",
        "index.html",
        "../app.py",
        "%2e%2e/app.py",
        "..%2fapp.py",
        "page.css/",
        "PAGE.CSS",
        "page.css%00",
        "",
    ],
)
def test_nothing_else_is_served(shared: Relay, path: str) -> None:
    assert_error(shared.get(f"/page/{path}"), 404, "path_not_found")


def test_the_page_needs_no_key_and_shows_none(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("open-sesame")
    with running_relay(environ={names.ENV_KEYS: str(tmp_path)}) as relay:
        for path in ("/", "/page/page.js"):
            answer = relay.get(path)
            assert answer.status_code == 200
            assert "open-sesame" not in answer.text
        assert_error(relay.get("/v1/worker"), 401, "invalid_api_key")


def test_the_admin_port_has_no_page(shared: Relay) -> None:
    assert httpx.get(f"{shared.admin_url}/").status_code == 404


def test_every_file_is_used_and_every_used_file_is_there() -> None:
    texts = [path.read_text() for path in FOLDER.iterdir()]
    used = {name for text in texts for name in re.findall(r"(?:\./|page/)([a-z_]+\.(?:js|css|svg))", text)}
    assert used | {"index.html"} == set(FILES) == {path.name for path in FOLDER.iterdir()}


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_a_file_is_short_names_no_other_host_and_writes_text_only(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text.replace("http://www.w3.org/2000/svg", "")) == []
    for unsafe in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
    ):
        assert unsafe not in text
    assert not re.search(r"<[^>]+\s(on[a-z]+|style)=", text)


def test_the_wheel_and_the_image_hold_every_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "relay/rhapsode_relay" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    packed = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"rhapsode_relay/page/{name}" for name in FILES} <= packed
    assert "COPY relay/rhapsode_relay /out/app/rhapsode_relay" in (ROOT / "relay/Dockerfile").read_text()
    assert "!relay/rhapsode_relay" in (ROOT / ".dockerignore").read_text().splitlines()
