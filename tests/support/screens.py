"""The page at `/` as a person has it on a screen: what they press, what they read, and what went wrong unseen."""

from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Browser, Locator, expect

from support.browsers import PATIENCE_MS

_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
_NETWORK = ("Failed to load resource", "net::ERR")
"""What a browser writes on its console when an answer is an error, or nobody answers; tests provoke both."""


class Screen:
    """One tab of its own, with nothing remembered."""

    def __init__(self, browser: Browser, url: str, **wishes: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 860}} | wishes))
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.add_init_script(_WATCH)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        """What the page's scripts did wrong, alerts included."""
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda said: self._hear(said.type, said.text))
        self.page.on("dialog", self._dismiss)
        self.page.goto(url)

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(word in text for word in _NETWORK):
            self.faults.append(text)

    def _dismiss(self, dialog: Any) -> None:
        self.faults.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_role("textbox", name="Your question")

    @property
    def told(self) -> Locator:
        """The sentences of what it does."""
        return self.page.get_by_role("log", name="Narration").get_by_role("listitem")

    @property
    def answer(self) -> Locator:
        return self.page.locator("#text")

    @property
    def state(self) -> Locator:
        return self.page.locator("#job-state")

    @property
    def phase(self) -> Locator:
        return self.page.locator("#phase")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def gauge(self, label: str) -> Locator:
        return self.page.locator("#gauges > li", has=self.page.get_by_text(label, exact=True))

    def choose(self, voice: str) -> None:
        self.page.get_by_role("radio", name=voice).check()

    def ask(self, prompt: str, most: int | None = None) -> None:
        self.prompt.fill(prompt)
        if most is not None:
            self.page.get_by_label("At most").fill(str(most))
        self.button("Send").click()

    def await_state(self, state: str) -> None:
        expect(self.state).to_have_text(state)

    def await_answer(self, text: str) -> None:
        """Wait until the answer is this, to the byte: a locator's own comparison is blind to spaces."""
        self.page.wait_for_function("(text) => document.getElementById('text').textContent === text", arg=text)

    def evaluate(self, script: str, arg: Any = None) -> Any:
        return self.page.evaluate(script, arg)

    def kept(self, storage: str) -> Mapping[str, str]:
        """Return what the page keeps in a storage of the browser."""
        kept: dict[str, str] = self.evaluate(f"Object.fromEntries(Object.entries({storage}))")
        return kept

    def close(self) -> None:
        """Leave; fail if anything went wrong that a person would not have seen."""
        violations = self.evaluate("window.violations")
        self.context.close()
        assert (violations, self.faults) == ([], [])
