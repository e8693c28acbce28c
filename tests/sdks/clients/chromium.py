"""EventSource in headless Chromium on the native stream. Runs in our own environment, which has Playwright."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from sdks.clients.driving import MANY_TOKENS, TOKENS, Situation, drive
from support.browsers import PATIENCE_MS, chromium

FOLLOW = (Path(__file__).parent / "following.mjs").read_text().replace("export ", "")


def asking(browser: Browser, tokens: int) -> Situation:
    """Return a situation in a page of its own, which comes from the same origin."""

    def ask(url: str, heard: list[str]) -> Iterator[str]:
        page = browser.new_page()
        page.goto(f"{url}/v1/worker", timeout=PATIENCE_MS)
        told: dict[str, Any] = page.evaluate(f"{FOLLOW}; follow({url!r}, {tokens}, EventSource)")
        page.close()
        heard += told["heard"]
        yield told["text"]
        if told["error"]:
            raise RuntimeError(told["error"])

    return ask


if __name__ == "__main__":
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), timeout=2 * PATIENCE_MS)
        short = asking(browser, TOKENS)
        row = dict.fromkeys(("plain", "narration", "slow", "error"), short) | {"resume": asking(browser, MANY_TOKENS)}
        drive("Debian's", {"EventSource (Chromium), native": row})
        browser.close()
