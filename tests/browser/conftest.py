"""A browser for each file, and a screen for each test that must end without a fault.

The browser ends with its file: Playwright's event loop must not be there when tests of asyncio run.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from support.browsers import browsing
from support.fake_worker import FakeWorker
from support.processes import Relay
from support.screens import Screen

OpenScreen = Callable[..., Screen]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as running:
        yield running


@pytest.fixture
def worker(relay: Relay) -> Iterator[FakeWorker]:
    """A ready worker, played by the test. A browser may be slow, and a silent worker is taken for lost."""
    with FakeWorker(relay.socket) as fake, fake.breathing():
        yield fake


@pytest.fixture
def open_screen(browser: Browser) -> Iterator[OpenScreen]:
    """Return what opens the page of a URL; all are closed, and looked at for faults, after the test."""
    opened: list[Screen] = []

    def open_one(url: str, **wishes: Any) -> Screen:
        opened.append(Screen(browser, url, **wishes))
        return opened[-1]

    yield open_one
    for screen in opened:
        screen.close()
