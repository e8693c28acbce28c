"""The page on a phone, in the dark, by keyboard alone, and as a screen reader has it."""

from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from playwright.sync_api import expect

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, running_relay
from support.screens import Screen

OpenScreen = Callable[..., Screen]
LONG = "Averylongwordwithoutanyspace" * 12
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((one) => (one /= 255) <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = read(getComputedStyle(element).backgroundColor);
      if (colour[3] === 255) return colour;
    }
  };
  const seen = [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() && !one.closest(".unseen, svg, .skip")
    && !one.matches(":disabled") && [...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  return seen.map((one) => {
    const [a, b] = [light(read(getComputedStyle(one).color)), light(ground(one))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.id || one.className || one.tagName, one.textContent.trim().slice(0, 40)];
  });
}"""

OUTSIDE = """(width) => [...document.querySelectorAll("main *, aside *, header *")]
  .filter((one) => one.checkVisibility() && !one.closest(".unseen") && one.getBoundingClientRect().right > width)
  .map((one) => one.outerHTML.slice(0, 80))"""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Relay, FakeWorker]]:
    """A relay and a ready worker that the tests of this file share."""
    with running_relay() as relay, FakeWorker(relay.socket) as worker, worker.breathing():
        yield relay, worker


def play_all(screen: Screen, worker: FakeWorker) -> None:
    """Bring everything onto the page that it can show: warnings, progress, long words, several questions."""
    for question in ("First?", LONG):
        screen.ask(question)
        job = worker.begin()
        worker.send(
            frames.Narration(job_id=job.job_id, human=LONG, level="warn", actor="engine", action="odd"),
            frames.Narration(job_id=job.job_id, human="Fetching", progress=0.4, actor="script", action="fetch"),
            frames.Narration(
                job_id=job.job_id, human="It broke", level="error", actor="engine", action="broke", dropped=3
            ),
            frames.Vram(
                source="nvml", gpus=[frames.Gpu(uuid="a", name="H200", total_bytes=4 << 30, used_bytes=1 << 30)]
            ),
        )
        worker.speak(job, LONG, " and some words. " * 20)
        worker.finish(job, 2)
        screen.await_state("Complete")
    expect(screen.page.locator("#proof")).not_to_be_empty()


def test_nothing_is_wider_than_the_screen(stage: tuple[Relay, FakeWorker], open_screen: OpenScreen) -> None:
    relay, worker = stage
    screen = open_screen(relay.url, viewport={"width": 360, "height": 740})
    play_all(screen, worker)
    for width in (360, 320, 700, 900, 1280):
        screen.page.set_viewport_size({"width": width, "height": 740})
        assert screen.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]") == [width, width]
        assert screen.evaluate(OUTSIDE, width) == []


def test_all_text_can_be_read_in_the_light_and_in_the_dark(
    stage: tuple[Relay, FakeWorker], open_screen: OpenScreen
) -> None:
    relay, worker = stage
    screen = open_screen(relay.url)
    play_all(screen, worker)
    grounds = set()
    for scheme in SCHEMES:
        screen.page.emulate_media(color_scheme=scheme)
        grounds.add(screen.evaluate("getComputedStyle(document.body).backgroundColor"))
        found = screen.evaluate(CONTRAST)
        assert len(found) > 20
        assert [one for one in found if one[0] < 4.5] == []
    assert len(grounds) == 2


def test_the_chosen_colours_win_over_the_systems_and_are_remembered(
    stage: tuple[Relay, FakeWorker], open_screen: OpenScreen
) -> None:
    screen = open_screen(stage[0].url, color_scheme="light")

    def ground() -> str:
        return str(screen.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    screen.button("Switch between light and dark").click()
    dark = ground()
    assert light != dark
    screen.page.reload()
    assert ground() == dark
    screen.button("Switch between light and dark").click()
    assert ground() == light


def test_everything_can_be_done_with_the_keyboard(stage: tuple[Relay, FakeWorker], open_screen: OpenScreen) -> None:
    relay, worker = stage
    screen = open_screen(relay.url)
    keys = screen.page.keyboard
    expect(screen.phase).to_have_text("Ready")
    keys.press("Tab")
    expect(screen.page.get_by_role("link", name="Skip to the question")).to_be_focused()
    keys.press("Enter")
    expect(screen.prompt).to_be_focused()
    keys.type("Sing")
    keys.press("Control+Enter")
    worker.speak(worker.begin(), "Of arms")
    screen.await_answer("Of arms")
    expect(screen.prompt).to_be_focused()
    keys.press("Escape")
    worker.receive(frames.Cancel)
    screen.await_state("Cancelled")
    stops = tab_through(screen)
    for stop in ("prompt", "most", "send", "style", "story", "scroller", "again", "clear", "history", "theme"):
        assert stop in stops, f"no way to {stop} among {stops}"
    screen.page.get_by_role("radio", name="Human").focus()
    keys.press("ArrowRight")
    expect(screen.page.get_by_role("radio", name="Cute")).to_be_checked()


def tab_through(screen: Screen) -> list[str]:
    """Press Tab until the focus is at the beginning again; return where it was, and see that it can be seen."""
    names: list[str] = []
    where = "(one => one.id || one.name || one.closest('[id]')?.id)(document.activeElement)"
    outline = "getComputedStyle(document.activeElement.matches('[type=radio]') ? document.activeElement.nextElementSibling : document.activeElement)"
    for _ in range(60):
        screen.page.keyboard.press("Tab")
        name = screen.evaluate(where)
        if name is None:  # the browser's own bar
            continue
        if name in names and name == names[0]:
            return names
        names.append(str(name))
        style = screen.evaluate(f"[{outline}.outlineStyle, parseFloat({outline}.outlineWidth)]")
        assert style[0] == "solid", f"the focus cannot be seen at {name}"
        assert style[1] >= 2
    raise AssertionError(f"the focus is caught: {names}")


def test_a_screen_reader_finds_its_way(stage: tuple[Relay, FakeWorker], open_screen: OpenScreen) -> None:
    relay, worker = stage
    screen = open_screen(relay.url)
    play_all(screen, worker)
    for role, name in (
        ("main", None), ("banner", None), ("complementary", "Worker and history"), ("form", "Ask"),
        ("region", "What it does"), ("region", "What it says"), ("region", "The worker"), ("region", "This session"),
        ("log", "Narration"), ("region", "Answer"), ("group", "How it is told"), ("group", "Whose story"), ("meter", "VRAM"),
    ):  # fmt: skip
        expect(screen.page.get_by_role(role, name=name, exact=True).first).to_be_visible()  # type: ignore[arg-type]
    nameless = screen.evaluate(
        "[...document.querySelectorAll('button, input, textarea, select, [role]')].filter((one) => one.checkVisibility()"
        " && !(one.ariaLabel || one.labels?.length || one.textContent.trim() || one.getAttribute('aria-labelledby')"
        " || one.role === 'status')).map((one) => one.outerHTML)"
    )
    assert nameless == []
    ids = screen.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert screen.evaluate("document.documentElement.lang") == "en"
    expect(screen.page.get_by_role("heading", level=1)).to_have_text("Rhapsode")


def test_a_screen_reader_hears_the_story_and_the_end_but_not_each_token(
    stage: tuple[Relay, FakeWorker], open_screen: OpenScreen
) -> None:
    relay, worker = stage
    screen = open_screen(relay.url)
    screen.evaluate(
        "() => { window.heard = []; new MutationObserver(() => window.heard.push(document.getElementById('announcer').textContent))"
        ".observe(document.getElementById('announcer'), { childList: true }); }"
    )
    screen.ask("Sing")
    job = worker.begin()
    for at in range(50):
        worker.speak(job, f" word{at}", start=at)
    worker.finish(job, 50)
    screen.page.wait_for_function("() => window.heard.some((one) => one.startsWith('Complete. 50 tokens'))")
    heard = screen.evaluate("window.heard")
    told = screen.told.count()
    assert len(heard) <= told + 2, "a sentence of the story each, the end, and that the worker is ready"
    assert told < 10, "tokens are not told of one by one"
    assert not [one for one in heard if "word" in one]
    live = screen.evaluate(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=alert], [role=log]')]"
        ".filter((one) => one.ariaLive !== 'off').map((one) => one.id)"
    )
    assert sorted(live) == ["announcer", "key-banner", "key-why", "link"]


def test_who_wants_no_motion_gets_none(stage: tuple[Relay, FakeWorker], open_screen: OpenScreen) -> None:
    relay, worker = stage
    screen = open_screen(relay.url, reduced_motion="reduce")
    screen.ask("Sing")
    job = worker.begin()
    worker.speak(job, "Of arms")
    screen.await_answer("Of arms")
    assert screen.evaluate("document.getAnimations().length") == 0
    worker.finish(job, 1)
    screen.await_state("Complete")
