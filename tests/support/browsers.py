"""A real browser, headless: Debian's Chromium, or the one that `RHAPSODE_CHROMIUM` names. Used by tests of pages."""

import contextlib
import os
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, expect, sync_playwright

ENV_CHROMIUM = "RHAPSODE_CHROMIUM"
"""The browser's executable, where it is not on the path."""
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


def chromium() -> str:
    """Return the executable. A machine without one fails: what a browser does is not shown by leaving it out."""
    named = os.environ.get(ENV_CHROMIUM, "chromium")
    found = shutil.which(named)
    if found is None:
        raise AssertionError(
            f"there is no browser {named!r}: install Chromium (apt-get install --no-install-recommends chromium), "
            f"or name an executable in {ENV_CHROMIUM}"
        )
    return found


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """Run a browser. Playwright's loop runs in this thread meanwhile: leave before any test of asyncio begins."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), timeout=2 * PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()
