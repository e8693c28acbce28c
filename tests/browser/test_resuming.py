"""What the page does when the network, the page itself or the relay goes away in the middle: the text is whole, once."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from rhapsode_contract import frames
from rhapsode_worker.engines.simulating import simulated_text
from support.fake_worker import FakeWorker
from support.plays import speechless
from support.processes import Play, Relay, manifest, playing, wait_until
from support.screens import Screen
from support.wires import Wire

OpenScreen = Callable[..., Screen]
WORDS = [f" w{number}" for number in range(12)]


@pytest.fixture
def wire(relay: Relay) -> Iterator[Wire]:
    with Wire(relay.port) as between:
        yield between


def change_what_is_kept(screen: Screen, url: str, **changes: Any) -> None:
    """Leave the page, change each job that it kept, and come back."""
    screen.page.goto(f"{url}/page/icon.svg")
    screen.evaluate(
        """(changes) => { for (const name of Object.keys(sessionStorage).filter((one) => one.includes("job.")))
            sessionStorage[name] = JSON.stringify({ ...JSON.parse(sessionStorage[name]), ...changes }); }""",
        changes,
    )
    screen.page.goto(url)


def told_once(screen: Screen, sentence: str) -> None:
    expect(screen.told.filter(has_text=sentence)).to_have_count(1)


def test_after_the_network_is_cut_the_text_goes_on_where_it_was(
    wire: Wire, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(wire.url)
    screen.ask("Sing")
    job = worker.begin()
    for cut in range(3):
        at = cut * 4
        worker.speak(job, *WORDS[at : at + 2], start=at)
        screen.await_answer("".join(WORDS[: at + 2]))
        wire.cut()
        expect(screen.page.get_by_text("The relay is out of reach")).to_be_visible()
        worker.speak(job, *WORDS[at + 2 : at + 4], start=at + 2)
        screen.button("Try now").click()  # in vain, while there is nothing to hide it
        wire.mend()
        screen.page.locator("#link button").dispatch_event("click")  # be it hidden again, as the page tries by itself
        screen.await_answer("".join(WORDS[: at + 4]))
    worker.finish(job, len(WORDS))
    screen.await_state("Complete")
    expect(screen.page.locator("#proof")).to_contain_text("Nothing was lost")
    told_once(screen, "Accepted")
    expect(screen.page.locator("#link")).to_be_hidden()


def test_a_browser_that_was_offline_comes_back_by_itself(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(relay.url)
    screen.ask("Sing")
    job = worker.begin()
    worker.speak(job, *WORDS[:6])
    screen.await_answer("".join(WORDS[:6]))
    screen.context.set_offline(True)
    worker.speak(job, *WORDS[6:], start=6)
    screen.context.set_offline(False)
    worker.finish(job, len(WORDS))
    screen.await_state("Complete")
    screen.await_answer("".join(WORDS))


def test_a_question_that_is_sent_into_a_cut_network_arrives(
    wire: Wire, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(wire.url)
    expect(screen.phase).to_have_text("Ready")
    wire.cut()
    screen.ask("Sing")
    screen.await_state("Sending")
    wire.mend()
    worker.serve(*WORDS)
    screen.await_answer("".join(WORDS))


def test_a_question_whose_receipt_was_lost_is_asked_once(
    relay: Relay, wire: Wire, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    """The relay took it, the page cannot know: it sends it again, also after a reload, and gets the same job."""
    screen = open_screen(wire.url)
    expect(screen.phase).to_have_text("Ready")
    wire.mute = True
    screen.ask("Sing")
    job = worker.begin()
    wire.cut()
    wire.mute = False
    wire.mend()
    screen.page.reload()
    worker.speak(job, *WORDS)
    screen.await_answer("".join(WORDS))
    worker.finish(job, len(WORDS))
    screen.await_state("Complete")
    assert relay.metric("rhapsode_jobs_kept") == 1


def test_a_page_that_is_loaded_again_in_the_middle_goes_on(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(relay.url)
    screen.ask("Sing")
    job = worker.begin()
    for at in range(0, len(WORDS), 4):
        worker.speak(job, *WORDS[at : at + 4], start=at)
        screen.await_answer("".join(WORDS[: at + 4]))
        screen.page.reload()
        screen.await_answer("".join(WORDS[: at + 4]))
    worker.finish(job, len(WORDS))
    screen.await_state("Complete")
    screen.await_answer("".join(WORDS))
    expect(screen.page.locator("#proof")).to_contain_text("Nothing was lost")
    told_once(screen, "Accepted")


def test_a_page_that_kept_nothing_of_the_text_gets_all_of_it_again(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    """What a full storage of the browser leaves: the job's id."""
    screen = open_screen(relay.url)
    screen.ask("Sing")
    job = worker.begin()
    worker.speak(job, *WORDS[:6])
    screen.await_answer("".join(WORDS[:6]))
    change_what_is_kept(screen, relay.url, text="", tokens=0, lastId="", told=[])
    screen.await_answer("".join(WORDS[:6]))
    worker.speak(job, *WORDS[6:], start=6)
    worker.finish(job, len(WORDS))
    screen.await_state("Complete")
    screen.await_answer("".join(WORDS))


def test_a_text_that_misses_a_token_is_fetched_again(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    """A kept text that does not fit its place in the stream: no state of the page may show a hole."""
    screen = open_screen(relay.url)
    screen.ask("Sing")
    job = worker.begin()
    worker.speak(job, *WORDS[:6])
    screen.await_answer("".join(WORDS[:6]))
    change_what_is_kept(screen, relay.url, text="wrong", tokens=2)
    worker.speak(job, *WORDS[6:], start=6)
    screen.await_answer("".join(WORDS))
    worker.finish(job, len(WORDS))
    screen.await_state("Complete")


def test_a_relay_that_is_killed_costs_nothing(open_screen: OpenScreen) -> None:
    """The next relay knows no events of the last one: the page gets a snapshot, and goes on after it."""
    with playing(manifest(engine={"options": {"tokensPerSecond": 60}})) as play:
        play.wait_ready()
        screen = open_screen(play.url)
        screen.ask("Sing", most=300)
        wait_until(lambda: len(screen.answer.text_content() or "") > 100, "it speaks")
        with speechless(play):
            kill_relay(play)
        screen.await_state("Complete")
        screen.await_answer(simulated_text(0, "user: Sing", 300))
        expect(screen.page.locator("#proof")).to_contain_text("Nothing was lost")


def kill_relay(play: Play) -> None:
    play.kill("rhapsode_relay")
    play.wait_record("relay_start", count=2)


def test_a_question_whose_worker_was_killed_can_be_asked_again(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(relay.url)
    screen.ask("Sing")
    worker.speak(worker.begin(), "Of arms")
    screen.await_answer("Of arms")
    worker.close()
    screen.await_state("Failed")
    screen.await_answer("Of arms")
    with FakeWorker(relay.socket) as another:
        screen.button("Ask again").click()
        job = another.receive(frames.Generate)
        assert job.messages is not None
        assert job.messages[0].content == "Sing"


def test_an_answer_that_the_relay_forgot_is_said_to_be_gone(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(relay.url)
    screen.ask("Sing")
    worker.speak(worker.begin(), "Of arms")
    screen.await_answer("Of arms")
    change_what_is_kept(screen, relay.url, id="sim-0000000000000000")
    screen.await_state("Failed")
    expect(screen.page.locator("#trouble")).to_contain_text("no longer has this answer")
    screen.await_answer("Of arms")
